//! What the answers of the asked nodes say about CoreDNS pods.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nameward_messages::cluster_view::ClusterView;
use nameward_messages::guarding::RefusalReason;
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::QuestionKind;
use nameward_messages::remedy::RemedyKind;
use nameward_messages::report::RequestAnswer;
use nameward_messages::targets::Transport;
use nameward_messages::{NodeName, PodUid, RequestId};

use super::quorum::{vouched, witnesses};

/// The answers to one request, of agents that vouch for themselves.
#[must_use]
pub fn gather(
    view: &ClusterView,
    request: &RequestId,
    asked: &BTreeSet<NodeName>,
) -> BTreeMap<NodeName, RequestAnswer> {
    let answer = |agent: &&nameward_messages::cluster_view::NodeAgentView| {
        let report = agent.report.as_ref()?;
        report.answers.iter().find(|answer| answer.id == *request).cloned()
    };
    view.agents
        .iter()
        .filter(|agent| asked.contains(&agent.name) && vouched(agent))
        .filter_map(|agent| answer(&agent).map(|answer| (agent.name.clone(), answer)))
        .collect()
}

/// What one node says of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    udp_good: u32,
    udp_bad: u32,
    tcp_good: u32,
    tcp_bad: u32,
    host_udp_good: bool,
    host_udp_bad: bool,
    namespaces_bad: u32,
}

impl Seen {
    /// From the rows of an answer; internal names only.
    #[must_use]
    pub fn of(answer: &RequestAnswer, pod: &PodUid) -> Self {
        let mut seen = Self::default();
        let about = |row: &&nameward_messages::report::MatrixRow| {
            row.pod.as_ref() == Some(pod) && row.question == QuestionKind::Internal
        };
        for row in answer.rows.iter().filter(about) {
            match row.transport {
                Transport::Udp => {
                    seen.udp_good = seen.udp_good.saturating_add(row.good);
                    seen.udp_bad = seen.udp_bad.saturating_add(row.bad);
                    match row.from {
                        VantageKind::Host => {
                            seen.host_udp_good |= row.good > 0;
                            seen.host_udp_bad |= row.bad > 0;
                        }
                        VantageKind::Pod => seen.namespaces_bad = seen.namespaces_bad.saturating_add(row.bad),
                    }
                }
                Transport::Tcp => {
                    seen.tcp_good = seen.tcp_good.saturating_add(row.good);
                    seen.tcp_bad = seen.tcp_bad.saturating_add(row.bad);
                }
            }
        }
        seen
    }

    /// UDP fails from everywhere on the node.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.udp_bad > 0 && self.udp_good == 0
    }

    /// It answers over both transports; a single vantage may fail for reasons of its own.
    #[must_use]
    pub fn good(&self) -> bool {
        !self.host_udp_bad && self.udp_good > self.udp_bad && self.tcp_good > self.tcp_bad
    }

    /// The node's own host finds it deaf.
    #[must_use]
    pub fn host_fails(&self) -> bool {
        self.host_udp_bad && !self.host_udp_good
    }
}

/// Why the answers do not corroborate an eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of each is its documentation")]
pub enum Doubt {
    NoAnswers,
    OwnNodeSilent(NodeName),
    OwnNodeSeesItGood(NodeName),
    OwnNodeLosesMost(NodeName),
    TooFewNodes { fail: u32, need: u32 },
    MostSeeItGood { good: u32, fail: u32 },
    TooFewNamespaces { fail: u32 },
    AllBad,
    NoGoodPod { asked: u32 },
    QuorumMissing { fresh: u32, expected: u32 },
    PodNotListed,
    PodTerminating,
    Calm { left_s: u64 },
    BreakerOpen { left_s: u64 },
    OomNotConfirmed,
    NoLimit,
    OwnedBy(String),
    AtCap(u64),
    OffLadder(RemedyKind),
    NodeDrained(NodeName),
    PodsMoving(String),
    ReplicasOwned(String),
    NotScalable,
    ReplicaStands(String),
    AddedInVain,
    PodUnexplained(String),
    RestNotFine(String),
    OtherNodesToo(u32),
    NoKubeProxy(NodeName),
}

impl Doubt {
    /// The same doubt whatever its figures: to tell it once.
    #[must_use]
    pub fn kind(&self) -> std::mem::Discriminant<Self> {
        std::mem::discriminant(self)
    }

    /// Asking again cannot change it: a person is called.
    #[must_use]
    pub fn final_word(&self) -> bool {
        matches!(
            self,
            Self::AllBad
                | Self::NoGoodPod { .. }
                | Self::OwnedBy(_)
                | Self::AtCap(_)
                | Self::NoLimit
                | Self::ReplicasOwned(_)
                | Self::NotScalable
                | Self::AddedInVain
                | Self::OffLadder(_)
        )
    }

    /// The same in one word of few, for metrics.
    #[must_use]
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::NoAnswers
            | Self::OwnNodeSilent(_)
            | Self::OwnNodeLosesMost(_)
            | Self::TooFewNodes { .. }
            | Self::MostSeeItGood { .. }
            | Self::TooFewNamespaces { .. }
            | Self::PodUnexplained(_) => RefusalReason::NotCorroborated,
            Self::OwnNodeSeesItGood(_) => RefusalReason::VerdictEnded,
            Self::AllBad | Self::RestNotFine(_) => RefusalReason::AllBad,
            Self::NoGoodPod { .. } | Self::AddedInVain => RefusalReason::NoGoodPod,
            Self::QuorumMissing { .. } => RefusalReason::NoQuorum,
            Self::PodNotListed | Self::NoKubeProxy(_) => RefusalReason::TargetGone,
            Self::PodTerminating | Self::NodeDrained(_) | Self::PodsMoving(_) => RefusalReason::Drain,
            Self::Calm { .. } => RefusalReason::CoolDown,
            Self::BreakerOpen { .. } => RefusalReason::BreakerOpen,
            Self::OomNotConfirmed | Self::NoLimit => RefusalReason::NothingToRaise,
            Self::OwnedBy(_) | Self::ReplicasOwned(_) | Self::NotScalable => RefusalReason::FieldOwned,
            Self::AtCap(_) => RefusalReason::AtCap,
            Self::OffLadder(_) => RefusalReason::OffLadder,
            Self::ReplicaStands(_) => RefusalReason::InFlight,
            Self::OtherNodesToo(_) => RefusalReason::OtherNodesToo,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswers => f.write_str("no asked node answered in time"),
            Self::OwnNodeSilent(node) => write!(f, "the pod's own node {node} did not answer"),
            Self::OwnNodeSeesItGood(node) => write!(f, "the pod answers its own node {node}"),
            Self::OwnNodeLosesMost(node) => write!(
                f,
                "the pod's own node {node} fails to reach most of the CoreDNS pods that other nodes reach: that says something of the node"
            ),
            Self::TooFewNodes { fail, need } => write!(f, "it fails from {fail} nodes and {need} are needed"),
            Self::MostSeeItGood { good, fail } => write!(f, "{good} asked nodes reach it and {fail} do not"),
            Self::TooFewNamespaces { fail } => {
                write!(f, "it fails from {fail} pod namespaces and 2 are needed: one tenant is no witness")
            }
            Self::AllBad => f.write_str(
                "every CoreDNS pod fails for every node: that is configuration, upstream, API or network, and no eviction helps",
            ),
            Self::NoGoodPod { asked } => {
                write!(f, "no other ready CoreDNS pod is good for the majority of the {asked} asked nodes")
            }
            Self::QuorumMissing { fresh, expected } => {
                write!(f, "only {fresh} of {expected} expected nodes have a fresh report")
            }
            Self::PodNotListed => f.write_str("the pod is no CoreDNS pod any more"),
            Self::PodTerminating => f.write_str("the pod is terminating already"),
            Self::Calm { left_s } => write!(f, "cool-down after a start, a storm or a rollout, {left_s} s left"),
            Self::BreakerOpen { left_s } => {
                write!(f, "the last act made things worse: shared remedies rest, {left_s} s left")
            }
            Self::OomNotConfirmed => f.write_str("no container status confirms a kill at the limit in force"),
            Self::NoLimit => f.write_str("the container has no memory limit that could be raised"),
            Self::OwnedBy(manager) => write!(f, "{manager} owns the memory limit and would write it back; raise it there"),
            Self::AtCap(cap) => {
                write!(f, "the memory limit is at the cap of {} already", nameward_config::Bytes(*cap))
            }
            Self::OffLadder(kind) => write!(f, "{kind} was taken off the ladder of this cause by the configuration"),
            Self::NodeDrained(node) => write!(f, "{node} is cordoned: it is being drained, and its pods go anyway"),
            Self::PodsMoving(pod) => write!(f, "CoreDNS pod {pod} is terminating or waits for a place: pods are on the move"),
            Self::ReplicasOwned(owner) => write!(
                f,
                "no CoreDNS pod is known good, and no replica can be added first: {owner} owns the number of replicas; raise it there"
            ),
            Self::NotScalable => f.write_str(
                "no CoreDNS pod is known good, and no replica can be added first: cluster DNS is no Deployment",
            ),
            Self::ReplicaStands(incident) => {
                write!(f, "no CoreDNS pod is known good, though a replica was added already (incident {incident})")
            }
            Self::AddedInVain => f.write_str(
                "no CoreDNS pod is known good, and a replica that was added within the last hour did not help either",
            ),
            Self::PodUnexplained(pod) => write!(
                f,
                "no CoreDNS pod is known good, and nothing says that the process of {pod} is at fault: another replica may be as bad"
            ),
            Self::RestNotFine(what) => {
                write!(f, "no CoreDNS pod is known good, and another replica would be as bad: {what}")
            }
            Self::OtherNodesToo(nodes) => write!(f, "{nodes} other nodes show the same: it is no fault of one kube-proxy"),
            Self::NoKubeProxy(node) => write!(f, "no kube-proxy pod was found on {node}"),
        }
    }
}

/// Corroborated: what the answers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Nodes that see the pod fail.
    pub fail: u32,
    /// Pod namespaces that do.
    pub namespaces: u32,
    /// Other ready pods that are good for the majority.
    pub good_pods: u32,
}

/// Whether the answers corroborate the eviction of `pod`, which runs on `own`.
pub fn corroborate(
    view: &ClusterView,
    pod: &PodUid,
    own: &NodeName,
    asked: &BTreeSet<NodeName>,
    answers: &BTreeMap<NodeName, RequestAnswer>,
    expected: u32,
) -> Result<Agreement, Doubt> {
    agree(view, pod, own, (asked, answers), expected, true)
}

/// Whether the answers corroborate that `pod` is bad, whatever they say of the others.
pub fn witnessed(
    view: &ClusterView,
    pod: &PodUid,
    own: &NodeName,
    asked: &BTreeSet<NodeName>,
    answers: &BTreeMap<NodeName, RequestAnswer>,
    expected: u32,
) -> Result<Agreement, Doubt> {
    agree(view, pod, own, (asked, answers), expected, false)
}

fn agree(
    view: &ClusterView,
    pod: &PodUid,
    own: &NodeName,
    (asked, answers): (&BTreeSet<NodeName>, &BTreeMap<NodeName, RequestAnswer>),
    expected: u32,
    must_have_good: bool,
) -> Result<Agreement, Doubt> {
    if answers.is_empty() {
        return Err(Doubt::NoAnswers);
    }
    let own_seen = answers.get(own).map(|answer| Seen::of(answer, pod));
    let own_seen = own_seen.ok_or_else(|| Doubt::OwnNodeSilent(own.clone()))?;
    if !own_seen.host_fails() || !own_seen.fails() {
        return Err(Doubt::OwnNodeSeesItGood(own.clone()));
    }
    let others: Vec<&PodUid> = good_pods(view, asked, answers).into_iter().filter(|uid| *uid != pod).collect();
    // A node that loses most of what the majority reaches has a fault of its own: what it says of one pod says nothing of the pod.
    let sighted = |answer: &RequestAnswer| {
        let lost = others.iter().filter(|uid| Seen::of(answer, uid).fails()).count();
        lost * 2 <= others.len()
    };
    let seen: Vec<(bool, Seen)> = answers.values().map(|answer| (sighted(answer), Seen::of(answer, pod))).collect();
    let fails = || seen.iter().filter(|(sighted, seen)| *sighted && seen.fails());
    let fail = count(fails());
    let good = count(seen.iter().filter(|(_, seen)| seen.udp_good > 0));
    let good_pods = count(others.iter());
    if good_pods == 0 && must_have_good {
        let listed = view.pods.iter().filter(|p| !p.terminating);
        let all_bad = listed.clone().count() > 1
            && listed.clone().all(|p| answers.values().all(|answer| !Seen::of(answer, &p.uid).good()));
        return Err(if all_bad { Doubt::AllBad } else { Doubt::NoGoodPod { asked: count(asked.iter()) } });
    }
    if answers.get(own).is_some_and(|answer| !sighted(answer)) {
        return Err(Doubt::OwnNodeLosesMost(own.clone()));
    }
    if fail <= good {
        return Err(Doubt::MostSeeItGood { good, fail });
    }
    let need = witnesses(expected);
    if fail < need {
        return Err(Doubt::TooFewNodes { fail, need });
    }
    let namespaces = fails().fold(0_u32, |sum, (_, seen)| sum.saturating_add(seen.namespaces_bad));
    if namespaces < 2 {
        return Err(Doubt::TooFewNamespaces { fail: namespaces });
    }
    Ok(Agreement { fail, namespaces, good_pods })
}

/// Ready CoreDNS pods that are good for the majority of the asked nodes (of those asked, not of those that answered).
#[must_use]
pub fn good_pods<'a>(
    view: &'a ClusterView,
    asked: &BTreeSet<NodeName>,
    answers: &BTreeMap<NodeName, RequestAnswer>,
) -> Vec<&'a PodUid> {
    let good = |uid: &PodUid| answers.values().filter(|answer| Seen::of(answer, uid).good()).count();
    let ready = view.pods.iter().filter(|pod| pod.ready && !pod.terminating);
    ready.map(|pod| &pod.uid).filter(|uid| good(uid) * 2 > asked.len()).collect()
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
