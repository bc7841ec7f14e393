#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeSet;

use super::*;

#[test]
fn every_remedy_is_described_once_and_by_whose_act_it_is() {
    for kind in RemedyKind::ALL {
        let found: Vec<&Rung> = RUNGS.iter().filter(|rung| rung.remedy == kind).collect();
        assert_eq!(found.len(), 1, "{kind}");
        let by = match kind {
            RemedyKind::CallPerson => By::Person,
            shared if shared.shared() => By::Coordinator,
            _ => By::Agent,
        };
        assert_eq!(found[0].by, by, "{kind}");
        for text in [found[0].act, found[0].verified, found[0].undo, found[0].stop] {
            assert!(!text.is_empty(), "{kind}");
        }
    }
}

#[test]
fn the_first_rung_is_the_remedy_that_the_table_of_causes_promises() {
    for cause in Cause::ALL {
        assert_eq!(built_in(*cause).first().copied(), cause.about().remedy, "{cause}");
    }
    let causes: BTreeSet<Cause> = LADDERS.iter().map(|(cause, _)| *cause).collect();
    assert_eq!(causes.len(), LADDERS.len(), "a cause has one ladder");
}

#[test]
fn no_ladder_mixes_acts_of_the_coordinator_with_those_of_a_node() {
    for (cause, rungs) in LADDERS {
        assert!(rungs.iter().all(|kind| kind.shared()) || rungs.iter().all(|kind| !kind.shared()), "{cause}");
        assert!(!rungs.contains(&RemedyKind::CallPerson), "{cause}: a person is the end of every ladder anyway");
    }
}

#[test]
fn a_dead_upstream_a_bad_corefile_and_a_lost_api_never_lead_to_an_act() {
    for cause in [Cause::UpstreamDead, Cause::CorefileBroken, Cause::CorednsApiLost, Cause::CorednsLoop] {
        assert!(built_in(cause).is_empty(), "{cause}");
    }
}

#[test]
fn a_configured_ladder_leaves_out_and_reorders_and_never_adds() {
    let mut settings = Remedy::default();
    let cause = Cause::CorednsHung;
    assert_eq!(*settings.ladder(cause), [RemedyKind::EvictPod, RemedyKind::AddReplica]);
    settings.ladders.insert(cause, vec![RemedyKind::AddReplica, RemedyKind::EvictPod, RemedyKind::CallPerson]);
    assert_eq!(*settings.ladder(cause), [RemedyKind::AddReplica, RemedyKind::EvictPod]);
    settings.ladders.insert(cause, vec![]);
    assert_eq!(settings.shared_remedy(cause), None);
    // Even if it got past the checks.
    settings.ladders.insert(Cause::UpstreamDead, vec![RemedyKind::EvictPod]);
    assert!(settings.ladder(Cause::UpstreamDead).is_empty());
    assert!(!settings.has_rung(Cause::UpstreamDead, RemedyKind::EvictPod));
}

/// `NAMEWARD_WRITE_DOCS=1` writes what is compared otherwise.
#[test]
fn the_page_is_what_the_data_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ladders.md");
    if std::env::var_os("NAMEWARD_WRITE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == page(), "docs/ladders.md is out of date: run `make ladders`");
}
