//! The coordinator's questions: each is asked once and answered once. A path that fails is asked a second time before it counts
//! as failing, as a resolver would: of lost datagrams there are enough in a cluster to make a witness of an honest node.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use nameward_messages::namespaces::{Vantage, VantageKind};
use nameward_messages::probe::{
    Observation, OutcomeKind, PathKey, ProbeAnswer, ProbeItem, ProbeRequest, Purpose, QuestionKind,
};
use nameward_messages::report::{MatrixRow, RequestAnswer, RequestOrder};
use nameward_messages::targets::{Target, TargetKind, Targets, Transport};
use nameward_messages::{Mono, Now, PodUid, RequestId};

/// Questions at once, as the orders say.
const AT_ONCE: usize = 4;
/// Pods of one question.
const PODS: usize = 8;
/// Pod namespaces that ask.
const VANTAGES: usize = 8;
/// Ids that are remembered, so that none is asked twice.
const REMEMBER: usize = 64;
/// A CoreDNS pod that the watch does not know yet (a replacement) is waited for this long.
const WAIT_FOR_POD: Duration = Duration::from_secs(2);

/// The questions of the coordinator.
#[derive(Debug, Default)]
pub(super) struct Requests {
    seen: VecDeque<RequestId>,
    open: Vec<Open>,
    answers: VecDeque<RequestAnswer>,
    /// Where the next choice of namespaces begins.
    rotation: usize,
}

#[derive(Debug)]
struct Open {
    order: RequestOrder,
    seen_at: Mono,
    deadline: Mono,
    stage: Stage,
}

/// How far a question is.
#[derive(Debug)]
enum Stage {
    /// Not asked yet.
    New,
    /// Every path is being asked.
    Asked,
    /// These were found; what failed is to be asked again.
    Doubted(Vec<Observation>),
    /// These were found; what failed is being asked again.
    AskedAgain(Vec<Observation>),
}

impl Requests {
    /// Takes the questions that stand in the orders.
    pub(super) fn ordered(&mut self, now: Now, orders: &[RequestOrder]) {
        self.answers.retain(|answer| orders.iter().any(|order| order.id == answer.id));
        self.open.retain(|open| orders.iter().any(|order| order.id == open.order.id));
        for order in orders.iter().take(AT_ONCE) {
            if self.seen.contains(&order.id) {
                continue;
            }
            self.seen.push_back(order.id.clone());
            while self.seen.len() > REMEMBER {
                self.seen.pop_front();
            }
            let deadline = now.mono + Duration::from_secs(u64::from(order.within_s));
            self.open.push(Open { order: order.clone(), seen_at: now.mono, deadline, stage: Stage::New });
        }
    }

    /// What to ask now.
    pub(super) fn ask(&mut self, now: Now, targets: &Targets, vantages: &[&Vantage]) -> Vec<ProbeRequest> {
        self.open.retain(|open| now.mono < open.deadline);
        let mut requests = Vec::new();
        for open in &mut self.open {
            if let Stage::Doubted(found) = &mut open.stage {
                let again =
                    |o: &Observation| ProbeItem { path: o.path.clone(), port: o.port, purpose: o.purpose.clone() };
                let items = found.iter().filter(|o| failed(o)).map(again).collect();
                open.stage = Stage::AskedAgain(std::mem::take(found));
                requests.push(ProbeRequest { id: open.order.id.clone(), items, deadline: open.deadline });
                continue;
            }
            if !matches!(open.stage, Stage::New) {
                continue;
            }
            let known = open.order.pods.iter().take(PODS).all(|uid| targets.pods.iter().any(|pod| pod.uid == *uid));
            if !known && now.mono.since(open.seen_at) < WAIT_FOR_POD {
                continue;
            }
            let chosen = rotate(vantages, self.rotation);
            self.rotation = self.rotation.wrapping_add(VANTAGES);
            open.stage = Stage::Asked;
            let items = items(&open.order, targets, &chosen);
            requests.push(ProbeRequest { id: open.order.id.clone(), items, deadline: open.deadline });
        }
        requests
    }

    /// Takes what the prober found.
    pub(super) fn answered(&mut self, now: Now, answer: &ProbeAnswer) {
        let Some(place) = self.open.iter().position(|open| open.order.id == answer.id) else { return };
        let mut open = self.open.remove(place);
        if now.mono > open.deadline {
            return;
        }
        let found = match open.stage {
            Stage::Asked if answer.observations.iter().any(failed) => {
                open.stage = Stage::Doubted(answer.observations.clone());
                self.open.insert(place, open);
                return;
            }
            Stage::Asked => answer.observations.clone(),
            Stage::AskedAgain(first) => second_look(first, &answer.observations),
            Stage::New | Stage::Doubted(_) => {
                self.open.insert(place, open);
                return;
            }
        };
        self.answers.push_back(RequestAnswer { id: answer.id.clone(), rows: rows(&found) });
        while self.answers.len() > AT_ONCE {
            self.answers.pop_front();
        }
    }

    /// A question is under way, or an answer stands.
    pub(super) fn any(&self) -> bool {
        !(self.open.is_empty() && self.answers.is_empty())
    }

    /// What was measured while the agent did not vouch for itself is nobody's evidence, also once it vouches again: nothing of it is
    /// said, and the coordinator asks anew.
    pub(super) fn disown(&mut self) {
        self.open.clear();
        self.answers.clear();
    }

    /// The answers that stand in the report.
    pub(super) fn answers(&self) -> Vec<RequestAnswer> {
        self.answers.iter().cloned().collect()
    }

    /// When something is to be done without being told anything.
    pub(super) fn next(&self) -> Option<Mono> {
        let next = |open: &Open| match open.stage {
            Stage::New => (open.seen_at + WAIT_FOR_POD).min(open.deadline),
            Stage::Doubted(_) => open.seen_at,
            Stage::Asked | Stage::AskedAgain(_) => open.deadline,
        };
        self.open.iter().map(next).min()
    }
}

fn failed(observation: &Observation) -> bool {
    observation.outcome.good() == Some(false)
}

/// What was found, with the second answer in the place of a first that failed. What was not asked again, or not answered, is
/// not known.
fn second_look(first: Vec<Observation>, second: &[Observation]) -> Vec<Observation> {
    let again = |o: Observation| {
        if failed(&o) { second.iter().find(|found| found.path == o.path).cloned() } else { Some(o) }
    };
    first.into_iter().filter_map(again).collect()
}

/// At most [`VANTAGES`], beginning with another one each time.
fn rotate<'a>(vantages: &[&'a Vantage], from: usize) -> Vec<&'a Vantage> {
    let count = vantages.len();
    let start = if count == 0 { 0 } else { from % count };
    vantages.iter().cycle().skip(start).take(count.min(VANTAGES)).copied().collect()
}

fn items(order: &RequestOrder, targets: &Targets, vantages: &[&Vantage]) -> Vec<ProbeItem> {
    let mut asked: Vec<(Target, Option<u16>, Option<u16>)> = Vec::new();
    for pod in targets.pods.iter().filter(|pod| order.pods.iter().take(PODS).any(|uid| *uid == pod.uid)) {
        let kind = TargetKind::Pod { uid: pod.uid.clone(), key: pod.key.clone(), node: pod.node.clone() };
        let target = |ip: &IpAddr| (Target { kind: kind.clone(), ip: *ip }, pod.udp_port, pod.tcp_port);
        asked.extend(pod.ips.iter().take(2).map(target));
    }
    if let Some(service) = targets.service.as_ref().filter(|_| order.service) {
        let (udp, tcp) = (service.udp_port.as_ref().map(|p| p.port), service.tcp_port.as_ref().map(|p| p.port));
        let target = |ip: &IpAddr| (Target { kind: TargetKind::Service, ip: *ip }, udp, tcp);
        asked.extend(service.cluster_ips.iter().take(2).map(target));
    }
    let mut items = Vec::new();
    for (target, udp, tcp) in asked {
        for vantage in std::iter::once(&Vantage::Host).chain(vantages.iter().copied()) {
            for (transport, port) in [(Transport::Udp, udp), (Transport::Tcp, tcp)] {
                let path = PathKey {
                    vantage: vantage.clone(),
                    target: target.clone(),
                    transport,
                    question: QuestionKind::Internal,
                };
                let purpose = Purpose::Verify { request: order.id.clone() };
                items.push(ProbeItem { path, port: port.unwrap_or(53), purpose });
            }
        }
    }
    items
}

/// A row's path: target, its pod, address, transport, question, host or pod.
type RowKey = (&'static str, Option<PodUid>, IpAddr, Transport, QuestionKind, VantageKind);

/// Observations in the form of the matrix.
fn rows(observations: &[Observation]) -> Vec<MatrixRow> {
    let mut rows: BTreeMap<RowKey, (u32, u32, BTreeMap<OutcomeKind, u32>)> = BTreeMap::new();
    for observation in observations {
        let path = &observation.path;
        let pod = match &path.target.kind {
            TargetKind::Pod { uid, .. } => Some(uid.clone()),
            TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream => None,
        };
        let Some(good) = observation.outcome.good() else { continue };
        let key = (path.target.kind.label(), pod, path.target.ip, path.transport, path.question, path.vantage.kind());
        let (goods, bads, outcomes) = rows.entry(key).or_default();
        if good {
            *goods += 1;
        } else {
            *bads += 1;
            *outcomes.entry(observation.outcome.kind()).or_default() += 1;
        }
    }
    rows.into_iter()
        .map(|((target, pod, ip, transport, question, from), (good, bad, outcomes))| MatrixRow {
            target: target.to_owned(),
            pod,
            ip,
            transport,
            question,
            from,
            good,
            bad,
            outcome: outcomes.into_iter().max_by_key(|(_, count)| *count).map(|(kind, _)| kind),
            latency_us: None,
        })
        .collect()
}
