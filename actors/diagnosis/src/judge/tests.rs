#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, LazyLock};

use nameward_kernel::facts::Reading;
use nameward_messages::probe::Outcome;
use nameward_messages::verdict::{Cause, Confidence};
use proptest::prelude::*;

use super::judge;
use crate::record::{EvidenceRecord, Sample};
use crate::rules::scenarios::scenarios;
use crate::testing::World;

/// The records of all scenarios, made once.
static RECORDS: LazyLock<Vec<(Cause, EvidenceRecord)>> =
    LazyLock::new(|| scenarios().into_iter().map(|s| (s.cause, s.world.record())).collect());

/// Takes readings away, as many as the mask has bits.
fn thin(sample: &mut Sample, mask: u32) {
    let mut bits = (0..32).map(|n| mask & (1 << n) != 0);
    let mut gone = || bits.next().unwrap_or(false);
    let host = &mut sample.host;
    if gone() {
        host.topology = Reading::NotPermitted("CAP_NET_ADMIN".to_owned());
    }
    if gone() {
        host.netfilter.iptables_nft = Reading::NotRead;
    }
    if gone() {
        host.netfilter.iptables_legacy = Reading::Failed("too slow".to_owned());
    }
    if gone() {
        host.netfilter.kube_proxy_nft = Reading::NotRead;
    }
    if gone() {
        host.netfilter.other_base_chains = Reading::NotRead;
    }
    if gone() {
        host.sysctls = Reading::NotRead;
    }
    if gone() {
        host.nameservers = Reading::NotRead;
    }
    for readings in sample.pods.values_mut() {
        if gone() {
            readings.topology = Reading::NotRead;
        }
        if gone() {
            readings.sockets = Reading::NotRead;
        }
        if gone() {
            readings.counters = Reading::NotRead;
        }
        if gone() {
            readings.health = Reading::NotRead;
        }
    }
    if gone() {
        sample.pods.clear();
    }
}

fn thinned(mut record: EvidenceRecord, masks: (u32, u32), drop: u8) -> EvidenceRecord {
    for (slot, mask) in [(&mut record.previous, masks.0), (&mut record.current, masks.1)] {
        if let Some(sample) = slot {
            thin(Arc::make_mut(sample), mask);
        }
    }
    if drop & 1 != 0 {
        record.previous = None;
    }
    if drop & 2 != 0 {
        record.current = None;
    }
    if drop & 4 != 0 {
        record.probes.clear();
    }
    if drop & 8 != 0 {
        record.namespaces.clear();
    }
    if drop & 16 != 0 {
        record.targets = Arc::default();
    }
    record
}

fn outcome() -> impl Strategy<Value = Option<Outcome>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(Outcome::Timeout)),
        1 => Just(Some(Outcome::Refused { by: None })),
        1 => Just(Some(Outcome::ConnectedOnly)),
        1 => Just(Some(Outcome::NetworkUnreachable)),
        1 => Just(Some(Outcome::Rcode { rcode: 2 })),
        1 => Just(Some(Outcome::NotPermitted)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn judging_is_deterministic_and_survives_whatever_is_missing(
        which in 0usize..1000, masks in any::<(u32, u32)>(), drop in any::<u8>(),
    ) {
        let (cause, record) = RECORDS[which % RECORDS.len()].clone();
        let record = thinned(record, masks, drop);
        let first = judge(&record);
        prop_assert_eq!(&first, &judge(&record.clone()));
        // What is missing makes a verdict weaker or silent, but never another one for the processes of CoreDNS.
        for finding in &first.findings {
            let evicts = matches!(finding.cause.id(), "coredns-udp-dead" | "coredns-udp-stuck" | "coredns-hung");
            prop_assert!(
                !evicts || finding.cause == cause || cause.id() == "coredns-oom-killed" || finding.confidence < Confidence::Certain,
                "{:?} instead of {:?}", finding, cause
            );
        }
    }

    #[test]
    fn a_good_matrix_has_no_verdict_whatever_was_read(which in 0usize..1000, masks in any::<(u32, u32)>(), drop in any::<u8>()) {
        let (_, record) = RECORDS[which % RECORDS.len()].clone();
        let mut record = thinned(record, masks, drop);
        record.matrix = World::healthy().record().matrix;
        record.oom_kills.clear();
        record.complaints.clear();
        record.misfits = std::sync::Arc::default();
        record.coredns = std::sync::Arc::default();
        let judgement = judge(&record);
        prop_assert!(judgement.findings.is_empty() && judgement.deferred.is_empty() && judgement.open.is_empty(), "{judgement:?}");
    }

    #[test]
    fn any_matrix_is_judged_without_a_panic(outcomes in proptest::collection::vec(outcome(), 48), masks in any::<(u32, u32)>()) {
        let at = std::cell::Cell::new(0usize);
        let world = World::healthy().paths(|_| {
            at.set(at.get() + 1);
            outcomes.get((at.get() - 1) % outcomes.len()).cloned().flatten()
        });
        let record = thinned(world.record(), masks, 0);
        let judgement = judge(&record);
        prop_assert_eq!(&judgement, &judge(&record));
        // Healthy readings convict no process of CoreDNS.
        for finding in &judgement.findings {
            let evicts = matches!(finding.cause.id(), "coredns-udp-dead" | "coredns-udp-stuck" | "coredns-hung");
            prop_assert!(!evicts || finding.confidence < Confidence::Certain);
        }
    }
}
