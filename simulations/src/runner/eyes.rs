//! How often the runner looks for itself, and at what.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::witness::{kept, look};
use super::world::{CLUSTER_DNS, World};

/// Between two looks while what is seen changes.
pub(super) const GLANCE: Duration = Duration::from_millis(500);

/// The runner's own eyes. What they see for the third time, they see at `pace`; with `keep` they ask from a port that is kept, too.
pub(super) async fn watch_dns(
    world: Arc<World>,
    sender: mpsc::Sender<Vec<String>>,
    changed: Arc<Notify>,
    pace: Duration,
    keep: bool,
) {
    let (mut last, mut same) = (Vec::new(), 0_u32);
    loop {
        let world = Arc::clone(&world);
        let seen = tokio::task::spawn_blocking(move || {
            let mut asks = world.asks(true);
            let more = if keep { kept(&asks, CLUSTER_DNS.into()) } else { Vec::new() };
            asks.extend(more);
            look(&asks)
        });
        let Ok(failing) = seen.await else { return };
        same = if failing == last { same.saturating_add(1) } else { 0 };
        last.clone_from(&failing);
        if sender.send(failing).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(if same < 2 { GLANCE } else { pace }) => {}
            () = changed.notified() => same = 0,
        }
    }
}
