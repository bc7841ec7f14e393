//! The ladders: what is tried for each cause, in which order, until DNS answers. All of it stands in this file, as data:
//! [`LADDERS`] says which rungs a cause has, [`RUNGS`] says of each rung when it is taken, what it does, how it is
//! verified, how it is undone and when the ladder stops there. `docs/ladders.md` is made from it.
//!
//! `[remedy.ladders]` of the configuration may leave rungs out or put them in another order. It can never add one: a
//! remedy that does not stand on a cause's ladder here is refused when the file is read, and once more by the guard.

mod page;

use std::borrow::Cow;

pub use page::page;

use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::verdict::Cause;

use crate::settings::Remedy;

/// Every cause with a remedy. Every other cause has the one rung `call-person`, and so ends every ladder here.
pub const LADDERS: &[(Cause, &[RemedyKind])] = &[
    // One CoreDNS process is sick: replace it, with another one good beside it, or with one more made good first.
    (Cause::CorednsUdpDead, REPLACE),
    (Cause::CorednsUdpStuck, REPLACE),
    (Cause::CorednsHung, REPLACE),
    // All replicas may be dying: the one act that needs no good replica beside it.
    (Cause::CorednsOomKilled, &[RemedyKind::RaiseMemory]),
    // kube-proxy of one node has stopped writing rules. Off unless it is switched on by name.
    (Cause::ServiceRulesMissing, &[RemedyKind::RestartKubeProxy]),
    (Cause::ServiceRulesStale, &[RemedyKind::RestartKubeProxy]),
    // One node or one pod: repaired there, by the node's own agent, under permit.
    (Cause::StaleConntrack, &[RemedyKind::DropConntrack]),
    (Cause::ConntrackFull, &[RemedyKind::WriteSysctl]),
    (Cause::BridgeFilterOff, &[RemedyKind::WriteSysctl]),
    (Cause::IpForwardOff, &[RemedyKind::WriteSysctl]),
    (Cause::ReversePathFilter, &[RemedyKind::WriteSysctl]),
    (Cause::NeighbourTableFull, &[RemedyKind::WriteSysctl]),
    (Cause::BridgeDown, &[RemedyKind::RestoreBridgeAddress]),
    (Cause::PodRouteMissing, &[RemedyKind::RestoreRoute]),
    (Cause::WrongGateway, &[RemedyKind::RestoreRoute]),
    (Cause::WrongNeighbour, &[RemedyKind::FixNeighbour]),
    (Cause::VethDown, &[RemedyKind::SetLinkUp]),
    (Cause::VethOffBridge, &[RemedyKind::AttachVeth]),
];

const REPLACE: &[RemedyKind] = &[RemedyKind::EvictPod, RemedyKind::AddReplica];

/// One rung, wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Which remedy.
    pub remedy: RemedyKind,
    /// Whose act it is.
    pub by: By,
    /// When it is taken: all of these must hold. If one does not, the next rung is looked at.
    pub when: &'static [When],
    /// What is done.
    pub act: &'static str,
    /// How its success is told.
    pub verified: &'static str,
    /// How it is taken back.
    pub undo: &'static str,
    /// When nothing more is tried and a person is called.
    pub stop: &'static str,
}

/// Whose act a remedy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The coordinator that holds the Lease.
    Coordinator,
    /// The agent of the node concerned, under permit.
    Agent,
    /// A person.
    Person,
}

/// What must hold before a rung is taken. Beside these, every rung waits for what [`COMMON`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The node's own agent is certain, and has been for `remedy.wait`.
    Ripe,
    /// Enough nodes answered a fresh question, the pod's own among them, from at least two pod namespaces.
    Corroborated,
    /// Another ready CoreDNS pod is good for the majority of the asked nodes.
    AnotherPodGood,
    /// No CoreDNS pod is good, and each is known to have a fault of its own process.
    NoPodGood,
    /// No node names configuration, API or upstream as the cause.
    RestProvenFine,
    /// At least half of the wanted pods (rounded up, never less than one) stay ready.
    Floor,
    /// Exactly one disruption budget, or none, covers the pod, and it can ever allow an eviction.
    BudgetUsable,
    /// The pod's node is not being drained, and no CoreDNS pod is terminating.
    NoDrain,
    /// No CoreDNS pod waits for a place.
    NonePending,
    /// The node is not being drained.
    NodeInUse,
    /// No autoscaler or other continuous reconciler owns the field.
    FieldOurs,
    /// The API's own container status says OOMKilled, at the limit in force.
    OomConfirmed,
    /// The new limit is above the old one and not above `remedy.memory_cap`.
    WithinCap,
    /// No other node shows the same cause.
    OneNodeOnly,
    /// The node's permit has not run out, and its last repair is 10 minutes old.
    Permit,
}

impl When {
    /// In words.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Ripe => "the node's own agent is certain, and has been for `remedy.wait`",
            Self::Corroborated => {
                "enough nodes answered a fresh question and see it fail, the pod's own among them, from at least two pod namespaces"
            }
            Self::AnotherPodGood => "another ready CoreDNS pod is good for the majority of the asked nodes",
            Self::NoPodGood => {
                "no CoreDNS pod is good for the majority, and each has a certain fault of its own process"
            }
            Self::RestProvenFine => "no node names the Corefile, the API, memory or an upstream as the cause",
            Self::Floor => "at least half of the wanted pods (rounded up, never less than one) stay ready",
            Self::BudgetUsable => {
                "no two PodDisruptionBudgets cover the pod, and the one that does can ever allow an eviction"
            }
            Self::NoDrain => "the pod's node is not cordoned, and no CoreDNS pod is terminating",
            Self::NonePending => "no CoreDNS pod waits for a place",
            Self::NodeInUse => "the node is not cordoned",
            Self::FieldOurs => "no autoscaler or other continuous reconciler owns the field",
            Self::OomConfirmed => "the API's own container status says OOMKilled at the limit in force",
            Self::WithinCap => "the new limit is above the old one and not above `remedy.memory_cap`",
            Self::OneNodeOnly => "no other node shows the same cause",
            Self::Permit => {
                "the coordinator has given the node its turn for this cause, and its last repair was 10 minutes ago"
            }
        }
    }
}

/// What every rung but `call-person` waits for.
pub const COMMON: &[&str] = &[
    "its mode is `act` (with `observe` it is recorded what would have been done)",
    "no kill switch: the policy ConfigMap can be read and does not say `paused`, and the local file is not there",
    "for shared remedies: the workload is not annotated `nameward.dev/paused`, and no rollout of CoreDNS is under way",
    "for repairs of nodes: the node is not cordoned (whoever drains it works on it)",
    "reports of at least `coordinator.quorum_percent` of the expected nodes are fresh (never less than 60 %)",
    "`remedy.cool_down` has passed since the start and since the last storm, and for shared remedies since the last rollout",
    "the budgets: one shared remedy in 5 minutes, three in an hour, three tries for a target (for a node: in a day); one repair in 10 minutes for a node, and one after-care",
    "the breaker of its layer is closed: for shared remedies none made things worse in the last 10 minutes; for repairs of nodes fewer than half of the nodes have the same fault, and fewer than three or at most 20 % of them, those that were repaired in the last 10 minutes included",
    "no other shared remedy is in flight or not verified yet",
];

/// What is known of each remedy as a rung.
pub const RUNGS: &[Rung] = &[
    Rung {
        remedy: RemedyKind::EvictPod,
        by: By::Coordinator,
        when: &[When::Ripe, When::Corroborated, When::AnotherPodGood, When::Floor, When::BudgetUsable, When::NoDrain],
        act: "evict the one pod through the eviction API, with its uid and resourceVersion as preconditions, after a dry run",
        verified: "the pod is gone and every CoreDNS pod without a fault of its own answers the majority of the asked nodes over UDP and TCP, within `remedy.verify_within`",
        undo: "none: the workload has replaced the pod",
        stop: "it did not help, it left fewer pods good than before (shared remedies then rest for 10 minutes), or the API refuses it for good",
    },
    Rung {
        remedy: RemedyKind::AddReplica,
        by: By::Coordinator,
        when: &[
            When::Ripe,
            When::Corroborated,
            When::NoPodGood,
            When::RestProvenFine,
            When::NoDrain,
            When::NonePending,
            When::FieldOurs,
        ],
        act: "add one replica by the scale subresource, with the workload's resourceVersion as a precondition, after a dry run; the number before is recorded in the incident",
        verified: "the new pod answers the majority of the asked nodes over UDP and TCP, within `remedy.verify_within`: then the sick pod may be evicted",
        undo: "the recorded number is set again once every CoreDNS pod is good, or at once when the new pod did not help; not when anybody has set another number since",
        stop: "the new pod does not become good, or the API refuses it for good (a quota, no permission)",
    },
    Rung {
        remedy: RemedyKind::RaiseMemory,
        by: By::Coordinator,
        when: &[When::OomConfirmed, When::WithinCap, When::FieldOurs, When::Floor],
        act: "multiply the memory limit of the container by `remedy.memory_factor`: of running pods in place where the cluster can, and in the template; every other field stays",
        verified: "every CoreDNS pod answers the majority of the asked nodes over UDP and TCP, within `remedy.verify_within`",
        undo: "none: a limit is never lowered; the one in force before stands in the incident",
        stop: "the limit is at its cap, it did not help, or somebody else owns the field",
    },
    Rung {
        remedy: RemedyKind::RestartKubeProxy,
        by: By::Coordinator,
        when: &[When::Ripe, When::OneNodeOnly, When::NodeInUse],
        act: "evict the kube-proxy pod of the one sick node through the eviction API, with its uid and resourceVersion as preconditions, after a dry run",
        verified: "the node's agent no longer says so, within `remedy.verify_within`",
        undo: "none: the DaemonSet has replaced the pod",
        stop: "it did not help, or the API refuses it for good",
    },
    Rung {
        remedy: RemedyKind::DropConntrack,
        act: "delete the conntrack entries that lead DNS to an address without a CoreDNS pod, and no others",
        undo: "none: the kernel makes an entry anew with the next packet",
        ..REPAIR
    },
    Rung {
        remedy: RemedyKind::RestoreRoute,
        act: "set the pod's default route to the gateway of its siblings",
        ..REPAIR
    },
    Rung { remedy: RemedyKind::SetLinkUp, act: "set the pod's link up", ..REPAIR },
    Rung { remedy: RemedyKind::AttachVeth, act: "attach the pod's veth to the bridge of its siblings", ..REPAIR },
    Rung { remedy: RemedyKind::FixNeighbour, act: "delete the one wrong neighbour entry", ..REPAIR },
    Rung { remedy: RemedyKind::RestoreBridgeAddress, act: "set the bridge up, with the address it had", ..REPAIR },
    Rung {
        remedy: RemedyKind::WriteSysctl,
        act: "write the one sysctl, where the manifest mounts it writable",
        ..REPAIR
    },
    Rung {
        remedy: RemedyKind::CallPerson,
        by: By::Person,
        when: &[],
        act: "an Event and the incident name the cause, what was read and the command to begin with",
        verified: "no node names the cause any more",
        undo: "none",
        stop: "always: this is the end of every ladder",
    },
];

/// What all repairs of a node have in common.
const REPAIR: Rung = Rung {
    remedy: RemedyKind::CallPerson,
    by: By::Agent,
    when: &[When::Ripe, When::Permit],
    act: "",
    verified: "the failed paths are asked again from the same namespaces and answer",
    undo: "the before-image in the journal, if what stands there still is what was written",
    stop: "it did not help (it is taken back), or what stands there is not what was judged",
};

/// What is known of a remedy as a rung.
#[must_use]
pub fn rung(remedy: RemedyKind) -> Option<&'static Rung> {
    RUNGS.iter().find(|rung| rung.remedy == remedy)
}

/// Whether a node is changed for this cause. Entries of conntrack that lead nowhere are no part of how a node is set up, and one pod that
/// goes leaves them on many nodes at once.
#[must_use]
pub fn changes_nodes(cause: Cause) -> bool {
    let changes =
        |kind: &RemedyKind| *kind != RemedyKind::DropConntrack && rung(*kind).is_some_and(|rung| rung.by == By::Agent);
    built_in(cause).iter().any(changes)
}

/// The rungs of a cause below a person, as they are built in.
#[must_use]
pub fn built_in(cause: Cause) -> &'static [RemedyKind] {
    LADDERS.iter().find(|(of, _)| *of == cause).map_or(&[], |(_, rungs)| rungs)
}

impl Remedy {
    /// The rungs of a cause below a person, in the order in which they are looked at: as configured, and never one that is
    /// not built in.
    #[must_use]
    pub fn ladder(&self, cause: Cause) -> Cow<'static, [RemedyKind]> {
        let allowed = built_in(cause);
        match self.ladders.get(&cause) {
            None => Cow::Borrowed(allowed),
            Some(chosen) => {
                let mut kept: Vec<RemedyKind> = Vec::new();
                for kind in chosen {
                    if allowed.contains(kind) && !kept.contains(kind) {
                        kept.push(*kind);
                    }
                }
                Cow::Owned(kept)
            }
        }
    }

    /// The first rung of a cause that is a shared act, if it has one.
    #[must_use]
    pub fn shared_remedy(&self, cause: Cause) -> Option<RemedyKind> {
        self.ladder(cause).iter().copied().find(|kind| kind.shared())
    }

    /// Whether a remedy stands on the ladder of a cause, and is not off.
    #[must_use]
    pub fn has_rung(&self, cause: Cause, kind: RemedyKind) -> bool {
        self.mode_of(kind) != Mode::Off && self.ladder(cause).contains(&kind)
    }
}

/// What is wrong with a configured ladder, if anything.
pub(crate) fn fault(cause: Cause, chosen: &[RemedyKind]) -> Option<String> {
    let allowed = built_in(cause);
    let names = |kinds: &[RemedyKind]| kinds.iter().map(|k| k.id()).collect::<Vec<_>>().join(", ");
    for (place, kind) in chosen.iter().enumerate() {
        if *kind == RemedyKind::CallPerson {
            if place + 1 < chosen.len() {
                return Some("`call-person` is the end of every ladder: nothing can follow it".to_owned());
            }
        } else if allowed.is_empty() {
            return Some(format!("`{kind}` is no remedy for {cause}, which only a person can mend"));
        } else if !allowed.contains(kind) {
            return Some(format!("`{kind}` is no remedy for {cause}; its rungs are {}", names(allowed)));
        } else if chosen.iter().take(place).any(|before| before == kind) {
            return Some(format!("`{kind}` is named twice"));
        }
    }
    None
}

#[cfg(test)]
mod tests;
