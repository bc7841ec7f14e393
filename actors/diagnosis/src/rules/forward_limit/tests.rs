#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::Reading;
use nameward_messages::probe::{Outcome, QuestionKind};
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Cause, Confidence};

use crate::judge::judge;
use crate::record::Sample;
use crate::rules::scenarios::to;
use crate::testing::process::{metrics, process};
use crate::testing::*;

const AT: &[u64] = &[95_500, 97_000];

/// CoreDNS A refuses external names; its upstream answers it as `upstream` says.
fn refuses(upstream: &Outcome) -> World {
    World::healthy()
        .paths(|p| (to(p, DNS_A) && p.question == QuestionKind::External).then_some(Outcome::Rcode { rcode: 5 }))
        .asked(pod_vantage(DNS_A), server(TargetKind::Upstream, UPSTREAM), upstream, AT)
}

pub(crate) fn limited() -> World {
    refuses(&Outcome::Answered).both(rejects(10)).newest(rejects(14))
}

fn rejects(n: u64) -> impl Fn(&mut Sample) {
    move |sample| metrics(sample).forward_rejects = Some(n)
}

fn found(world: World) -> Vec<(Cause, Confidence)> {
    judge(&world.record()).findings.into_iter().map(|f| (f.cause, f.confidence)).collect()
}

#[test]
fn the_counter_decides() {
    let world = refuses(&Outcome::Answered).both(rejects(10)).newest(rejects(14));
    assert_eq!(found(world), [(Cause::ForwardLimitReached, Confidence::Certain)]);
    assert_eq!(found(refuses(&Outcome::Answered).both(rejects(10))), [], "it stands still: somebody else refuses");
    let unread = |sample: &mut Sample| process(sample).metrics = Reading::NotPresent("nobody listens".to_owned());
    assert_eq!(
        found(refuses(&Outcome::Answered).both(unread)),
        [],
        "symptoms alone are those of an upstream, or of a Corefile"
    );
}

#[test]
fn a_silent_upstream_is_the_cause_and_not_the_limit() {
    let silent = refuses(&Outcome::Timeout)
        .asked(
            nameward_messages::namespaces::Vantage::Host,
            server(TargetKind::Upstream, UPSTREAM),
            &Outcome::Timeout,
            AT,
        )
        .both(rejects(10))
        .newest(rejects(14));
    let found = found(silent);
    assert_eq!(found, [(Cause::UpstreamDead, Confidence::Certain)]);
}

#[test]
fn names_of_the_cluster_must_resolve() {
    let all = World::healthy().paths(|p| to(p, DNS_A).then_some(Outcome::Rcode { rcode: 5 }));
    let world = all.both(rejects(10)).newest(rejects(14));
    assert!(found(world).iter().all(|f| f.0 != Cause::ForwardLimitReached));
}
