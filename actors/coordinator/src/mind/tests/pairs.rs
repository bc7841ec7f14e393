//! A broken pair has two ends, whose reports arrive when they do: over time one of them is named, and not the other besides.

use std::collections::BTreeSet;

use nameward_messages::plan::IncidentPhase;
use proptest::prelude::*;

use super::locality::{cluster, rows};
use super::*;

/// When each of the two ends says that it cannot reach the other, and when each has looked into the complaint, in seconds.
#[derive(Clone, Debug)]
struct Times {
    defers: [u64; 2],
    examined: [u64; 2],
    /// node3 loses node2's CoreDNS pod from this second on, for a moment.
    lost: (u64, u64),
}

fn times() -> impl Strategy<Value = Times> {
    let pair = |most: u64| [0..most, 0..most];
    (pair(15), pair(20), (0u64..60, 0u64..25)).prop_map(|(defers, examined, lost)| Times { defers, examined, lost })
}

/// Every node that was named within a minute and a half.
fn named(times: &Times) -> BTreeSet<String> {
    let mut rig = cluster();
    let mut named = BTreeSet::new();
    for second in 0..90 {
        if second == times.defers[0] {
            rig.defers(1, "b", "node2");
        }
        if second == times.defers[1] {
            rig.defers(2, "a", "node1");
        }
        for (n, (node, pod)) in [(1, "a"), (2, "b")].into_iter().enumerate() {
            // It is told of the other's complaint first.
            if second == times.defers[1 - n] + 4 + times.examined[n] {
                rig.report(node, |r| r.examined = vec![pod.into()]);
            }
        }
        let (from, long) = times.lost;
        if second == from && long > 0 {
            rig.defers(3, "b", "node2");
        }
        if second == from + long {
            rig.report(3, |r| {
                r.deferred.clear();
                r.matrix.rows = ["a", "b"].iter().flat_map(|pod| rows(pod, true)).collect();
            });
        }
        rig.pass(1);
        for incident in rig.view.incidents.iter().filter(|i| i.spec.cause == Cause::NodePairBlocked) {
            assert_ne!(incident.status.phase, IncidentPhase::Resolved, "{times:?}");
            named.insert(incident.spec.subject.name.clone());
        }
    }
    named
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_end_of_a_broken_pair_is_named_whoever_reports_first(times in times()) {
        prop_assert_eq!(named(&times).len(), 1);
    }
}
