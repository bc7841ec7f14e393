//! Agents: they report what they see, and answer what they are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::QuestionKind;
use nameward_messages::report::{MatrixRow, ReportedVerdict, RequestAnswer};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence, Deferral, Evidence, Scope, Subject};
use nameward_messages::{NodeName, ObjectKey, PodUid};

use super::{Asked, World};

impl World {
    pub fn agents_step(&mut self) {
        let now = self.now;
        let pods = self.pods.clone();
        let nodes: Vec<NodeName> = self.agents.keys().cloned().collect();
        for node in nodes {
            let agent = self.agents.get_mut(&node).unwrap();
            if agent.silent {
                continue;
            }
            let mut report = agent.report.clone();
            report.self_check = agent.vouches;
            let named = pods.iter().filter(|p| {
                agent.lies_about.as_ref() == Some(&p.uid)
                    || (p.dead && now.mono.since(p.dead_since) > Duration::from_secs(8))
            });
            report.verdicts.clear();
            report.deferred.clear();
            for pod in named {
                let subject = Subject::pod(&ObjectKey::new("kube-system", pod.name.clone()), &pod.uid);
                if pod.node == node {
                    report.verdicts.push(ReportedVerdict {
                        cause: Cause::CorednsUdpDead,
                        scope: Scope::CorednsPod,
                        subject,
                        confidence: Confidence::Certain,
                        evidence: vec![Evidence::new("/proc/net/udp", "no socket on port 53")],
                        ruled_out: vec![],
                        since: now.wall,
                    });
                } else {
                    report.deferred.push(Deferral {
                        subject,
                        to_node: pod.node.clone(),
                        because: "udp times out".into(),
                    });
                }
            }
            let requests = agent.orders.requests.clone();
            report.answers.retain(|a| requests.iter().any(|r| r.id == a.id));
            for request in requests {
                let seen = *agent.seen.entry(request.id.clone()).or_insert(now.mono);
                let late = now.mono.since(seen) >= Duration::from_secs(1);
                if !late || report.answers.iter().any(|a| a.id == request.id) {
                    continue;
                }
                let mut rows = vec![];
                let (mut bad, mut good) = (BTreeMap::new(), BTreeSet::new());
                for uid in &request.pods {
                    let Some(pod) = pods.iter().find(|p| p.uid == *uid) else { continue };
                    let fails = pod.dead || agent.lies_about.as_ref() == Some(uid);
                    rows.extend(rows_of(uid, fails || !pod.ready, !pod.ready));
                    if fails || !pod.ready {
                        bad.insert(uid.clone(), 2);
                    } else {
                        good.insert(uid.clone());
                    }
                }
                report.answers.push(RequestAnswer { id: request.id.clone(), rows });
                let asked: &mut Asked = self.asked.entry(request.id.clone()).or_default();
                asked.answers.push((node.clone(), now.mono, bad, good));
            }
            let heartbeat = now.mono.since(agent.changed_at) >= Duration::from_secs(300);
            let changed = nameward_messages::report::NodeReport { sequence: 0, ..report.clone() }
                != nameward_messages::report::NodeReport { sequence: 0, ..agent.report.clone() };
            if changed || heartbeat {
                report.sequence += 1;
                agent.changed_at = now.mono;
                agent.report = report;
            }
        }
    }
}

/// What a node says of a pod: host and two namespaces, UDP and TCP.
fn rows_of(uid: &PodUid, udp_fails: bool, tcp_fails: bool) -> Vec<MatrixRow> {
    let row = |transport, from, count: u32, fails: bool| MatrixRow {
        target: "pod".into(),
        pod: Some(uid.clone()),
        ip: [10, 244, 1, 2].into(),
        transport,
        question: QuestionKind::Internal,
        from,
        good: if fails { 0 } else { count },
        bad: if fails { count } else { 0 },
        outcome: None,
        latency_us: None,
    };
    vec![
        row(Transport::Udp, VantageKind::Host, 1, udp_fails),
        row(Transport::Udp, VantageKind::Pod, 2, udp_fails),
        row(Transport::Tcp, VantageKind::Host, 1, tcp_fails),
        row(Transport::Tcp, VantageKind::Pod, 2, tcp_fails),
    ]
}
