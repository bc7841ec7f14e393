//! What is read, afresh, before a repair is thought of.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Place, RepairError, Seen, Wanted, flows, io};
use crate::collect::{self, Limits};
use crate::enter::EnterPool;
use crate::facts::Reading;
use crate::rtnl;

/// Most bytes of one reading.
const BYTES: u64 = 1 << 20;

/// Reads the host and the namespaces that are asked for. Each reading says for itself why it is missing.
pub async fn look(pool: &EnterPool, wanted: &Wanted, within: Duration) -> Seen {
    let limits = Limits { within, bytes: BYTES };
    let mut pods = BTreeMap::new();
    for place in &wanted.pods {
        let Place::Pod { pod, .. } = place else { continue };
        let read = match io::open(pool, place).await {
            Ok(namespace) => rtnl::topology(pool, &namespace, within).await,
            Err(RepairError::NotPermitted(why)) => Reading::NotPermitted(why),
            Err(error @ RepairError::Gone(_)) => Reading::NotPresent(error.to_string()),
            Err(error) => Reading::Failed(error.to_string()),
        };
        pods.insert(pod.clone(), read);
    }
    Seen {
        host: rtnl::topology(pool, pool.home(), within).await,
        pods,
        sysctls: collect::sysctls(pool, pool.home(), limits).await,
        flows: if wanted.flows_to.is_empty() {
            Reading::NotRead
        } else {
            flows::to(pool, &wanted.flows_to, within).await
        },
    }
}
