//! What a node would find: verdicts, deferrals, the matrix and answers, all from the truth.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nameward_coordinator::reporter::Input;
use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{Observation, Outcome, OutcomeKind, ProbeAnswer, ProbeRequest, QuestionKind};
use nameward_messages::report::{MatrixDigest, MatrixRow};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::verdict::{
    Cause, Confidence, Deferral, DiagnosisTells, Evidence, Scope, Subject, SubjectKind, Verdict, VerdictKey,
};
use nameward_messages::{Mono, Now, PodUid};
use nameward_remedy::node::Input as NodeInput;

use super::{AgentEvent, Lie, tenant};
use crate::truth::Pod;
use crate::world::{Event, World};

/// A kill for want of memory is named for this long.
const KILLED: Duration = Duration::from_secs(120);

impl World {
    /// What is wrong has changed: every node will find out, each in its own time.
    pub(crate) fn truth_changed(&mut self) {
        self.note_truth();
        for n in 0..self.agents.len() {
            let at = self.now + Duration::from_millis(self.rng.u64(4_000..15_000));
            self.look_at(n, at);
        }
    }

    /// Diagnosis will conclude at `at`; a conclusion that is due soon anyway, and not at once, is the same.
    pub(crate) fn look_at(&mut self, n: usize, at: Mono) {
        let agent = &mut self.agents[n];
        let soon = self.now + Duration::from_secs(3);
        if agent.look.is_some_and(|due| due >= soon && due <= at) {
            return;
        }
        agent.look = Some(at);
        let life = agent.life;
        self.queue.push(at, Event::Agent { n, life, what: AgentEvent::Look });
    }

    /// Whether a query of a node gets its answer.
    fn answers(&self, n: usize, pod: &Pod, transport: Transport) -> bool {
        if let Some(says) = self.agents[n].lie.about(&pod.uid) {
            return says;
        }
        let (udp_deaf, tcp_deaf) = pod.deaf();
        let deaf = if transport == Transport::Udp { udp_deaf } else { tcp_deaf };
        let there = &self.nodes[pod.node];
        !deaf && self.nodes[n].works() && !there.down && (pod.node == n || there.sick.is_none())
    }

    pub(crate) fn look(&mut self, n: usize) {
        if self.nodes[n].down {
            return;
        }
        let local = self.agents[n].clock.now(self.now);
        let found = self.found(n, local);
        let mut tells = Vec::new();
        let agent = &mut self.agents[n];
        for (key, verdict) in &found.verdicts {
            let since = agent.standing.get(key).map_or(verdict.since, |known| known.since);
            let verdict = Verdict { since, ..verdict.clone() };
            if !agent.standing.contains_key(key) {
                tells.push(DiagnosisTells::Stands(verdict.clone()));
            }
            agent.standing.insert(key.clone(), verdict);
        }
        let ended: Vec<VerdictKey> =
            agent.standing.keys().filter(|key| !found.verdicts.contains_key(*key)).cloned().collect();
        for key in ended {
            agent.standing.remove(&key);
            tells.push(DiagnosisTells::Ended { key, at: local, recovered: true });
        }
        if agent.deferred != found.deferred {
            agent.deferred.clone_from(&found.deferred);
            tells.push(DiagnosisTells::Deferred(found.deferred));
        }
        if agent.examined != found.examined {
            agent.examined.clone_from(&found.examined);
            tells.push(DiagnosisTells::Examined(found.examined));
        }
        if agent.matrix.as_ref() != Some(&found.matrix) {
            agent.matrix = Some(found.matrix.clone());
            tells.push(DiagnosisTells::Matrix(found.matrix));
        }
        for tell in tells {
            if matches!(tell, DiagnosisTells::Stands(_) | DiagnosisTells::Ended { .. }) {
                self.trace.line(self.now, &self.nodes[n].name, || match &tell {
                    DiagnosisTells::Stands(verdict) => format!("names {} of {}", verdict.cause, verdict.subject),
                    DiagnosisTells::Ended { key, .. } => format!("no longer {} of {}", key.cause, key.subject),
                    _ => String::new(),
                });
            }
            self.tell_node(n, NodeInput::Diagnosis(tell.clone()));
            self.tell_reporter(n, Input::Diagnosis(tell));
        }
    }

    fn found(&self, n: usize, local: Now) -> Found {
        let mut found = Found::default();
        let (node, agent) = (&self.nodes[n], &self.agents[n]);
        if let Some((cause, _)) = node.sick {
            let subject = if cause.about().scope == Scope::Pod {
                let (uid, key) = tenant(n, 0);
                Subject::pod(&key, &uid)
            } else {
                Subject::node(&node.name)
            };
            found.says(cause, subject, local);
        }
        if self.weather.upstream_dead && node.works() {
            let subject =
                Subject { kind: SubjectKind::Upstream, namespace: None, name: "192.0.2.53".to_owned(), uid: None };
            found.says(Cause::UpstreamDead, subject, local);
        }
        for pod in self.api.active() {
            let subject = Subject::pod(&pod.key, &pod.uid);
            let own = pod.node == n;
            let accused = agent.lie.about(&pod.uid);
            let good = (self.answers(n, pod, Transport::Udp), self.answers(n, pod, Transport::Tcp));
            let glitch = agent.glitch.as_ref().is_some_and(|(uid, until)| *uid == pod.uid && self.now < *until);
            found.row(pod, Transport::Udp, good.0 && !glitch, agent.namespaces);
            found.row(pod, Transport::Tcp, good.1, agent.namespaces);
            if own {
                let killed = pod.oom_at.is_some_and(|at| self.now.since(at) < KILLED);
                match (accused, pod.sick) {
                    (Some(false), _) => found.says(Cause::CorednsUdpDead, subject.clone(), local),
                    (None, Some((cause, _))) => found.says(cause, subject.clone(), local),
                    (None, None) if killed => found.says(Cause::CorednsOomKilled, subject.clone(), local),
                    _ => {}
                }
            }
            let settled = pod.ready || pod.sick.is_some() || accused.is_some();
            if !own && settled && node.works() && (!good.0 || !good.1 || glitch) {
                let to_node = self.nodes[pod.node].name.clone();
                found.deferred.push(Deferral { subject, to_node, because: "udp times out".to_owned() });
            }
        }
        found.deferred.sort();
        for complaint in &self.api.agents[n].orders.complaints {
            let explained = found.verdicts.keys().any(|key| key.subject.uid.as_ref() == Some(&complaint.pod))
                || node.sick.is_some();
            if !explained {
                found.examined.push(complaint.pod.clone());
            }
        }
        found.matrix.rows.sort();
        found
    }

    /// The prober asks what the coordinator wants to know.
    pub(crate) fn probe(&mut self, n: usize, request: ProbeRequest) {
        if self.nodes[n].down {
            return;
        }
        let takes = Duration::from_millis(self.rng.u64(300..2_500));
        let local = self.agents[n].clock.now(self.now + takes);
        let loss = self.weather.loss;
        let mut observations = Vec::with_capacity(request.items.len());
        for item in request.items {
            let lost = loss > 0 && item.path.transport == Transport::Udp && self.rng.u32(0..1000) < 2 * loss;
            let good = match &item.path.target.kind {
                TargetKind::Pod { uid, .. } => self
                    .api
                    .pod(uid)
                    .is_some_and(|pod| pod.terminating.is_none() && self.answers(n, pod, item.path.transport)),
                _ => self.nodes[n].works() && self.api.active().any(|pod| self.answers(n, pod, item.path.transport)),
            };
            observations.push(Observation {
                at: local.mono,
                port: item.port,
                outcome: if good && !lost { Outcome::Answered } else { Outcome::Timeout },
                latency: Duration::from_millis(1),
                connect: None,
                purpose: item.purpose,
                path: item.path,
            });
        }
        let answer = Arc::new(ProbeAnswer { id: request.id, at: local, observations });
        self.push_agent(n, takes, AgentEvent::Probed(answer));
    }

    /// Lost datagrams in a row make a path fail for a round now and then: about twice a day and node at a loss of 1 %.
    pub(crate) fn next_glitch(&mut self, n: usize) {
        let per_day = 2 * u64::from(self.weather.loss.max(1)).pow(2) / 100 + 1;
        let mean = 86_400_000 / per_day;
        let after = Duration::from_millis(self.rng.u64(1..2 * mean));
        self.queue.push(self.now + after, Event::Glitch(n));
    }

    pub(crate) fn glitch(&mut self, n: usize) {
        let pods = self.api.pods.len();
        if pods > 0 && self.agents[n].alive {
            let uid = self.api.pods[self.rng.usize(0..pods)].uid.clone();
            // One round, and now and then two.
            let long = if self.rng.u32(0..20) == 0 { 20 } else { 10 };
            let until = self.now + Duration::from_secs(long);
            self.agents[n].glitch = Some((uid, until));
            let again = until + Duration::from_millis(10);
            self.push_agent(n, Duration::from_millis(700), AgentEvent::Look);
            self.push_agent(n, again.since(self.now), AgentEvent::Look);
        }
        self.next_glitch(n);
    }
}

/// What a look found.
#[derive(Debug, Default)]
struct Found {
    verdicts: BTreeMap<VerdictKey, Verdict>,
    deferred: Vec<Deferral>,
    examined: Vec<PodUid>,
    matrix: MatrixDigest,
}

impl Found {
    fn says(&mut self, cause: Cause, subject: Subject, local: Now) {
        let key = VerdictKey { cause, subject: subject.clone() };
        let verdict = Verdict {
            cause,
            scope: cause.about().scope,
            subject,
            confidence: Confidence::Certain,
            evidence: vec![Evidence::new("simulated", "it is so")],
            ruled_out: Vec::new(),
            since: local,
            at: local,
        };
        self.verdicts.insert(key, verdict);
    }

    fn row(&mut self, pod: &Pod, transport: Transport, good: bool, namespaces: u32) {
        for (from, count) in [(VantageKind::Host, 1), (VantageKind::Pod, namespaces)] {
            self.matrix.rows.push(MatrixRow {
                target: "pod".to_owned(),
                pod: Some(pod.uid.clone()),
                ip: pod.ip,
                transport,
                question: QuestionKind::Internal,
                from,
                good: if good { count } else { 0 },
                bad: if good { 0 } else { count },
                outcome: (!good).then_some(OutcomeKind::Timeout),
                latency_us: None,
            });
        }
    }
}

/// A lie about a pod, as the path of a query would show it.
impl Lie {
    fn about(&self, pod: &PodUid) -> Option<bool> {
        match self {
            Self::Accuses(uid) if uid == pod => Some(false),
            Self::AccusesAll | Self::Forges => Some(false),
            Self::Praises => Some(true),
            Self::Honest | Self::Accuses(_) => None,
        }
    }
}
