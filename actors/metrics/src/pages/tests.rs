#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_config::Config;
use nameward_supervision::{RestartBudget, Supervisor, inbox, run};

use super::*;
use crate::{MetricsActor, MetricsInput};

fn from(peer: &str) -> Asker<'static> {
    Asker { peer: peer.parse().unwrap(), host: Some("localhost:9890"), token: None }
}

fn pages() -> Pages {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let board = Supervisor::new(RestartBudget::default()).board();
    Pages::new(About { version: "1".into(), node: "n".into(), role: "agent".into() }, board).unwrap()
}

#[test]
fn the_state_is_for_loopback_alone() {
    let pages = pages();
    for own in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(pages.entry(from(own)), Entry::Own, "{own}");
    }
    for stranger in ["10.244.1.7", "172.30.0.11", "::ffff:10.0.0.1", "fe80::1"] {
        let Entry::Shut(page) = pages.entry(from(stranger)) else { panic!("{stranger} comes in") };
        assert_eq!(page.status, 403);
        assert!(page.body.contains("loopback") && page.body.contains("metrics.open_state"), "{}", page.body);
    }
    pages.open_state(true);
    assert_eq!(pages.entry(from("10.244.1.7")), Entry::Gate);
    assert_eq!(pages.entry(from("127.0.0.1")), Entry::Own);
    let rebound = Asker { host: Some("evil.example"), ..from("127.0.0.1") };
    assert_eq!(pages.entry(rebound), Entry::Gate);
    pages.open_state(false);
    assert!(matches!(pages.entry(rebound), Entry::Shut(_)));
    assert!(matches!(pages.entry(from("10.244.1.7")), Entry::Shut(_)));
}

#[test]
fn nothing_started_is_live_but_not_ready() {
    let pages = pages();
    assert_eq!(pages.healthz().status, 200);
    assert_eq!(pages.readyz().status, 503);
}

#[test]
fn a_reload_opens_and_closes_the_state() {
    run(|| async {
        let mut supervisor = Supervisor::new(RestartBudget::default());
        let about = About { version: "1".into(), node: "n".into(), role: "agent".into() };
        let pages = Pages::new(about, supervisor.board()).unwrap();
        let shown = pages.clone();
        let (outlet, inbox) = inbox(ActorName::Metrics, 4);
        supervisor.start(inbox, move || MetricsActor::new(&Config::default(), pages.clone()));
        for open in [true, false] {
            let mut config = Config::default();
            config.metrics.open_state = open;
            outlet.tell(MetricsInput::Reconfigure(Arc::new(config)));
            let becomes = async {
                while (shown.entry(from("10.244.1.7")) == Entry::Gate) != open {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(20), becomes).await.unwrap();
        }
    })
    .unwrap();
}

#[test]
fn the_file_that_stops_changes_is_looked_for_whenever_somebody_reads() {
    let pages = pages();
    let folder = std::env::temp_dir().join(format!("nameward-pages-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("paused");
    let says = |on: u8| pages.metrics().body.contains(&format!("nameward_kill_switch{{source=\"file\"}} {on}\n"));
    assert!(!says(0) && !says(1), "nobody looks");
    pages.watch_pause_file(file.clone());
    assert!(says(0));
    std::fs::write(&file, "").unwrap();
    assert!(says(1));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(says(0));
}
