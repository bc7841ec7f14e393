//! The rows of the table that concern CoreDNS's process and its workload.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::verdict::{Cause, Confidence};

use super::scenarios::{Scenario, row};
use super::{api_lost, crashing, forward_limit, load};
use crate::testing::process::{BIND_WORDS, COREFILE_WORDS, LOOP_WORDS};

/// Every one of them.
pub(crate) fn rows() -> Vec<Scenario> {
    use Cause::*;
    use Confidence::{Certain, Probable};
    const A: &str = "coredns-74c7b86f9f-7tsjn";
    vec![
        row("quota runs out", CorednsThrottled, Certain, A, load::tests::throttled()),
        row("receive buffer overflows", CorednsReceiveOverflow, Certain, A, load::tests::overflowing()),
        row("never read the API", CorednsApiLost, Certain, A, api_lost::tests::unsynced()),
        row("no way to the API", CorednsApiLost, Certain, A, api_lost::tests::cut_off()),
        row("max_concurrent reached", ForwardLimitReached, Certain, A, forward_limit::tests::limited()),
        row("meets its own query", CorednsLoop, Certain, A, crashing::tests::ends(LOOP_WORDS)),
        row("meets its own query, without a word", CorednsLoop, Probable, A, crashing::tests::ends_at_a_stub()),
        row("refuses its Corefile", CorefileBroken, Certain, A, crashing::tests::ends(COREFILE_WORDS)),
        row("may not bind its port", CorefileBroken, Certain, A, crashing::tests::ends(BIND_WORDS)),
        row("search lists", SearchAmplification, Probable, "kube-dns", load::tests::searched()),
    ]
}

#[test]
fn each_row_has_its_cause_and_leaves_nothing_open() {
    for scenario in rows() {
        let judgement = crate::judge::judge(&scenario.world.record());
        let causes: Vec<Cause> = judgement.findings.iter().map(|f| f.cause).collect();
        assert_eq!(causes, [scenario.cause], "{}: {judgement:#?}", scenario.name);
        assert!(judgement.open.is_empty() && judgement.deferred.is_empty(), "{}: {judgement:#?}", scenario.name);
    }
}
