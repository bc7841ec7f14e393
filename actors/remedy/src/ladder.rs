//! The ladder of each cause: what is tried, in order, until DNS answers. Data, so that it can be read as a table.

use nameward_messages::remedy::RemedyKind;
use nameward_messages::verdict::Cause;

/// One step of a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// An act on an object that all nodes share; the shared executor's.
    Shared(RemedyKind),
    /// A repair on the node itself; the node's agent's, under permit.
    Node(RemedyKind),
    /// A person is called. The last rung of every ladder.
    Person,
}

/// Every cause with rungs below a person; every other cause has that one rung. A cause without a shared rung never leads to
/// a shared act.
///
/// Adding a replica is for the day on which no CoreDNS pod is known good, and is recorded only in this release.
/// Restarting kube-proxy is off unless it is named in the configuration.
pub const LADDERS: &[(Cause, &[Rung])] = &[
    (Cause::CorednsUdpDead, EVICT),
    (Cause::CorednsUdpStuck, EVICT),
    (Cause::CorednsHung, EVICT),
    (Cause::CorednsOomKilled, &[Rung::Shared(RemedyKind::RaiseMemory), Rung::Person]),
    (Cause::ServiceRulesMissing, &[Rung::Node(RemedyKind::RestartKubeProxy), Rung::Person]),
    (Cause::ServiceRulesStale, &[Rung::Node(RemedyKind::RestartKubeProxy), Rung::Person]),
    (Cause::StaleConntrack, &[Rung::Node(RemedyKind::DropConntrack), Rung::Person]),
    (Cause::ConntrackFull, &[Rung::Node(RemedyKind::WriteSysctl), Rung::Person]),
    (Cause::BridgeFilterOff, &[Rung::Node(RemedyKind::WriteSysctl), Rung::Person]),
    (Cause::IpForwardOff, &[Rung::Node(RemedyKind::WriteSysctl), Rung::Person]),
    (Cause::ReversePathFilter, &[Rung::Node(RemedyKind::WriteSysctl), Rung::Person]),
    (Cause::NeighbourTableFull, &[Rung::Node(RemedyKind::WriteSysctl), Rung::Person]),
    (Cause::BridgeDown, &[Rung::Node(RemedyKind::RestoreBridgeAddress), Rung::Person]),
    (Cause::PodRouteMissing, &[Rung::Node(RemedyKind::RestoreRoute), Rung::Person]),
    (Cause::WrongGateway, &[Rung::Node(RemedyKind::RestoreRoute), Rung::Person]),
    (Cause::WrongNeighbour, &[Rung::Node(RemedyKind::FixNeighbour), Rung::Person]),
    (Cause::VethDown, &[Rung::Node(RemedyKind::SetLinkUp), Rung::Person]),
    (Cause::VethOffBridge, &[Rung::Node(RemedyKind::AttachVeth), Rung::Person]),
];

const EVICT: &[Rung] = &[Rung::Shared(RemedyKind::EvictPod), Rung::Shared(RemedyKind::AddReplica), Rung::Person];

/// The rungs of a cause.
#[must_use]
pub fn rungs(cause: Cause) -> &'static [Rung] {
    LADDERS.iter().find(|(of, _)| *of == cause).map_or(&[Rung::Person], |(_, rungs)| rungs)
}

/// Whether a shared remedy stands on the ladder of a cause.
#[must_use]
pub fn allows(cause: Cause, kind: RemedyKind) -> bool {
    rungs(cause).contains(&Rung::Shared(kind))
}

/// The node remedy of a cause, if it has one.
#[must_use]
pub fn node_remedy(cause: Cause) -> Option<RemedyKind> {
    rungs(cause).iter().find_map(|rung| match rung {
        Rung::Node(kind) => Some(*kind),
        Rung::Shared(_) | Rung::Person => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_ladder_that_ends_with_a_person() {
        for cause in Cause::ALL {
            assert_eq!(rungs(*cause).last(), Some(&Rung::Person), "{cause}");
        }
    }

    #[test]
    fn shared_rungs_are_shared_remedies_and_node_rungs_are_not() {
        for (cause, rungs) in LADDERS {
            for rung in *rungs {
                match rung {
                    Rung::Shared(kind) => assert!(kind.shared(), "{cause}: {kind}"),
                    Rung::Node(kind) => assert!(!kind.shared(), "{cause}: {kind}"),
                    Rung::Person => {}
                }
            }
        }
    }

    #[test]
    fn the_first_rung_is_the_remedy_that_the_table_of_causes_promises() {
        for cause in Cause::ALL {
            let first = rungs(*cause).iter().find_map(|rung| match rung {
                Rung::Shared(kind) | Rung::Node(kind) => Some(*kind),
                Rung::Person => None,
            });
            assert_eq!(first, cause.about().remedy, "{cause}");
        }
    }

    #[test]
    fn a_dead_upstream_never_leads_to_a_shared_act() {
        for kind in RemedyKind::ALL {
            assert!(!allows(Cause::UpstreamDead, kind), "{kind}");
        }
    }
}
