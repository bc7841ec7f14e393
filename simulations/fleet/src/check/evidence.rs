//! What nodes have said, as it stood in the API server: witnesses (I1), good pods (I3), the quorum (I5), vouching (I6).

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::QuestionKind;
use nameward_messages::report::{MatrixRow, NodeReport, RequestAnswer};
use nameward_messages::targets::Transport;
use nameward_messages::{Mono, PodUid};

use super::{Act, Asked, Invariant, Said};
use crate::world::World;

/// Answers may be this old when the act is sent.
const FRESH: Duration = Duration::from_secs(30);
/// For the way of a report, and of a view.
const WAY: Duration = Duration::from_secs(6);
/// Words of a liar about one question that are remembered.
const WORDS: usize = 4;
/// Questions older than this are forgotten.
const FORGET: Duration = Duration::from_secs(180);

impl World {
    /// A report reaches the API server.
    pub(crate) fn check_report(&mut self, n: usize, report: &NodeReport) {
        let now = self.now;
        for answer in &report.answers {
            let Some(asked) = self.check.asked.get_mut(&answer.id) else { continue };
            // Where the guard is away the report does not tell.
            let unwell = self.agents[n].unwell && self.sabotage == crate::sabotage::Sabotage::AllVouch;
            // Whether it vouches counts when it says it first; a liar may say something else later, and that is its word then.
            let vouches = report.self_check && !unwell;
            let said = asked.answers.entry(n).or_insert_with(|| Said { vouches, words: Vec::new() });
            if said.words.last().is_none_or(|(_, word)| word != answer) {
                said.words.push((now, answer.clone()));
                self.trace.line(now, &self.nodes[n].name, || heard(answer));
                let over = said.words.len().saturating_sub(WORDS);
                said.words.drain(..over);
            }
        }
        self.note_alike(n, report);
    }

    /// A question reaches the API server.
    pub(super) fn note_question(&mut self, n: usize, id: &nameward_messages::RequestId) {
        let now = self.now;
        if !self.check.asked.contains_key(id) {
            self.check.asked.retain(|_, asked| now.since(asked.at) < FORGET);
        }
        let asked = self.check.asked.entry(id.clone()).or_insert_with(|| Asked { at: now, ..Asked::default() });
        asked.nodes.insert(n);
    }

    /// I1, I3, I5, I6 for the eviction of a pod.
    pub(super) fn check_evidence(&mut self, p: usize, act: &Act, pod: &PodUid) {
        let span = self.true_span(p, FRESH) + WAY;
        let expected = self.expected();
        let need = expected.min(expected.div_ceil(20).clamp(3, 12));
        let own = self.api.pods.iter().find(|known| known.uid == *pod).map(|known| known.node);
        let mut best = (false, (0, 0, false, 0));
        let mut unvouched = 0;
        for asked in self.check.asked.values() {
            if act.sent.since(asked.at) > span || asked.at > act.sent {
                continue;
            }
            // A liar may have said something else when the act was decided: what stood a moment ago counts as well.
            let words = asked.answers.values().flat_map(|said| said.words.iter().map(|(at, _)| *at));
            let moments = words.filter(|at| *at <= act.sent && act.sent.since(*at) <= WAY + WAY);
            for moment in moments.chain([act.sent]) {
                let counted = count(asked, moment, pod, own, |vouches| vouches);
                let (fail, good, by_own, namespaces) = counted;
                // Any question whose answers carry the act will do; of those that do not, the one that comes nearest is told of.
                let carries = fail >= need && by_own && namespaces >= 2 && good > 0;
                if (carries, counted) > best {
                    best = (carries, counted);
                    unvouched = count(asked, moment, pod, own, |_| true).0 - fail;
                }
            }
        }
        let (_, (fail, good, by_own, namespaces)) = best;
        if fail < need || !by_own || namespaces < 2 {
            let invariant = if fail + unvouched >= need && unvouched > 0 { Invariant::I6 } else { Invariant::I1 };
            self.violate(
                invariant,
                format!(
                    "{pod} is evicted on the word of {fail} nodes ({unvouched} more do not vouch) of {need} needed, its own \
                     {by_own}, {namespaces} namespaces"
                ),
            );
        } else if good == 0 {
            self.violate(Invariant::I3, format!("{pod} is evicted and no other ready pod was good for the majority"));
        }
        self.check_truth(act, pod);
        self.check_quorum(p, act, expected);
    }

    /// The pod was bad in truth, a moment ago at least, and another one good.
    fn check_truth(&mut self, act: &Act, uid: &PodUid) {
        let Some(pod) = self.api.pod(uid) else { return };
        let lately = |until: Option<Mono>| until.is_some_and(|until| act.sent.since(until) <= Duration::from_secs(75));
        let node = &self.nodes[pod.node];
        let bad = pod.sick.is_some() || !pod.ready || lately(pod.bad_until) || !node.works() || lately(node.bad_until);
        if !bad {
            self.violate(Invariant::I1, format!("{uid} is evicted and was well in truth"));
        }
        // A pod that was good a moment ago may have failed since.
        let other = self.api.pods.iter().any(|other| {
            let failed = other.sick.is_some_and(|(_, since)| act.sent.since(since) > Duration::from_secs(45));
            other.uid != *uid && !failed && self.now.since(other.created) > Duration::from_secs(5)
        });
        if !other {
            self.violate(Invariant::I3, format!("{uid} is evicted and no other pod was well in truth"));
        }
    }

    /// I5: fresh reports, generously counted: what was fresh a moment ago counts.
    pub(super) fn check_quorum(&mut self, p: usize, act: &Act, expected: usize) {
        let coordinator = &self.spec.config.coordinator;
        let span = self.true_span(p, coordinator.stale_after.0) + Duration::from_secs(60);
        let fresh = self
            .api
            .agents
            .iter()
            .filter(|agent| agent.vouched.is_some_and(|at| act.sent.since(at) <= span))
            .filter(|agent| {
                // That it does not vouch any more takes its time to be seen.
                agent.doubts.is_none_or(|since| act.sent.since(since) <= Duration::from_secs(60))
            })
            .count();
        let enough =
            fresh * 100 >= expected * coordinator.quorum_percent as usize && fresh * 100 >= self.nodes.len() * 60;
        if !enough {
            let invariant = Invariant::I5;
            self.violate(invariant, format!("an act with {fresh} fresh reports of {expected} expected"));
        }
    }

    /// Nodes whose agents are expected to speak, at least: what may be known of them allows no fewer.
    pub(super) fn expected(&self) -> usize {
        let drained = |n: usize| {
            let node = &self.nodes[n];
            // No view shows at once that it takes pods again.
            let lately = node.drained_until.is_some_and(|until| self.now.since(until) < Duration::from_secs(60));
            (node.cordoned || lately) && !self.api.pods.iter().any(|pod| pod.node == n)
        };
        let lately = |at: Option<Mono>| at.is_some_and(|at| self.now.since(at) < Duration::from_secs(200));
        (0..self.nodes.len())
            .filter(|n| self.nodes[*n].ready && !lately(self.nodes[*n].bad_until) && !drained(*n))
            .count()
            .max(1)
    }
}

/// Nodes that saw the pod fail by what they had said then, other pods that were good for the majority, whether its own node is
/// among them, namespaces.
fn count(
    asked: &Asked,
    then: Mono,
    pod: &PodUid,
    own: Option<usize>,
    counts: impl Fn(bool) -> bool,
) -> (usize, usize, bool, u32) {
    let mut fail = 0;
    let mut namespaces = 0;
    let mut by_own = false;
    let mut good: BTreeMap<&PodUid, usize> = BTreeMap::new();
    for (n, said) in asked.answers.iter().filter(|(n, said)| asked.nodes.contains(*n) && counts(said.vouches)) {
        let Some((_, answer)) = said.words.iter().rev().find(|(at, _)| *at <= then) else { continue };
        let (udp_good, udp_bad, host_bad, spaces, _) = seen(answer, pod);
        if udp_bad > 0 && udp_good == 0 {
            fail += 1;
            namespaces += spaces;
            by_own |= own == Some(*n) && host_bad;
        }
        let mut others: Vec<&PodUid> = answer.rows.iter().filter_map(|row| row.pod.as_ref()).collect();
        others.sort();
        others.dedup();
        for other in others.into_iter().filter(|other| *other != pod) {
            let (udp_good, udp_bad, host_bad, _, tcp) = seen(answer, other);
            if !host_bad && udp_good > udp_bad && tcp {
                *good.entry(other).or_default() += 1;
            }
        }
    }
    let majority = good.values().filter(|nodes| **nodes * 2 > asked.nodes.len()).count();
    (fail, majority, by_own, namespaces)
}

/// An answer for people: what each pod's rows say.
fn heard(answer: &RequestAnswer) -> String {
    let row = |row: &MatrixRow| {
        let pod = row.pod.as_ref().map_or("", PodUid::as_str);
        format!(" {pod}/{}/{:?} {}:{}", row.transport, row.from, row.good, row.bad)
    };
    format!("answers {}:{}", answer.id, answer.rows.iter().map(row).collect::<String>())
}

fn seen(answer: &RequestAnswer, pod: &PodUid) -> (u32, u32, bool, u32, bool) {
    let (mut udp_good, mut udp_bad, mut host_bad, mut spaces) = (0, 0, false, 0);
    let (mut tcp_good, mut tcp_bad) = (0, 0);
    for row in answer.rows.iter().filter(|r| r.pod.as_ref() == Some(pod) && r.question == QuestionKind::Internal) {
        if row.transport == Transport::Tcp {
            tcp_good += row.good;
            tcp_bad += row.bad;
            continue;
        }
        udp_good += row.good;
        udp_bad += row.bad;
        match row.from {
            VantageKind::Host => host_bad |= row.bad > 0,
            VantageKind::Pod => spaces += row.bad,
        }
    }
    (udp_good, udp_bad, host_bad, spaces, tcp_good > tcp_bad)
}
