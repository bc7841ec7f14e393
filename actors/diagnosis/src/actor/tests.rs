#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;
use std::time::Duration;

use nameward_messages::health::ActorName;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Outcome, PathKey, ProbeAnswer, Purpose, QuestionKind, Suspicion};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::Cause;
use nameward_supervision::{Outlet, RestartBudget, Supervisor, clock, inbox};

use super::*;
use crate::testing::{DNS_A, dns, ip, namespace, observation, targets};

/// UDP is refused by the pod, TCP answers.
fn answer(request: &ProbeRequest) -> ProbeAnswer {
    let at = clock::now();
    let ms = u64::try_from(at.mono.0.as_millis()).unwrap();
    let outcome = |transport| match transport {
        Transport::Udp => Outcome::Refused { by: Some(ip("10.244.1.51")) },
        Transport::Tcp => Outcome::Answered,
    };
    let items = request.items.iter();
    let observations =
        items.map(|i| observation(i.path.clone(), outcome(i.path.transport), ms + 1, i.purpose.clone())).collect();
    ProbeAnswer { id: request.id.clone(), at, observations }
}

/// A prober that answers at once.
fn prober(outlet: Outlet<DiagnosisMessage>) -> Listener<ProbeRequest> {
    Arc::new(move |request: ProbeRequest| {
        outlet.tell(DiagnosisMessage::Prober(ProberTells::Answer(Arc::new(answer(&request)))));
    })
}

#[test]
fn a_suspicion_becomes_a_verdict_with_real_collectors() {
    let told: Arc<Mutex<Vec<DiagnosisTells>>> = Arc::default();
    let heard = Arc::clone(&told);
    nameward_supervision::run(|| async move {
        let (outlet, inbox) = inbox(ActorName::Diagnosis, 64);
        let (verdict, mut named) = tokio::sync::mpsc::unbounded_channel();
        let listener: Listener<DiagnosisTells> = Arc::new(move |tell: DiagnosisTells| {
            if matches!(tell, DiagnosisTells::Stands(_)) {
                let _ = verdict.send(());
            }
            heard.lock().unwrap().push(tell);
        });
        let wiring = Wiring {
            node: "node1".into(),
            pool: Some(EnterPool::new(2, 32).unwrap()),
            listeners: vec![listener],
            prober: prober(outlet.clone()),
        };
        let mut supervisor = Supervisor::new(RestartBudget::default());
        supervisor.start(inbox, move || DiagnosisActor::new(&Config::default(), wiring.clone()));
        outlet.tell(DiagnosisMessage::Targets(Arc::new(targets())));
        // The test's own namespace stands for the pod's: nothing listens on port 53533 there.
        let mut pod = namespace(DNS_A, "kube-system", "coredns", "10.244.1.51", "veth0", &[]);
        pod.path = "/proc/thread-self/ns/net".into();
        outlet.tell(DiagnosisMessage::Namespace(NamespaceChanged::Found(pod)));
        let at = clock::now();
        let path = PathKey {
            vantage: Vantage::Host,
            target: dns(DNS_A),
            transport: Transport::Udp,
            question: QuestionKind::Internal,
        };
        let refused = Outcome::Refused { by: Some(ip("10.244.1.51")) };
        let mut failed = observation(path.clone(), refused, 0, Purpose::Confirm);
        failed.port = 53533;
        let suspicion = Suspicion { at, path, observations: vec![failed] };
        outlet.tell(DiagnosisMessage::Prober(ProberTells::Suspected(Arc::new(suspicion))));
        tokio::time::timeout(Duration::from_secs(20), named.recv()).await.expect("a verdict in time");
        supervisor.drain(Duration::from_secs(5)).await;
    })
    .unwrap();
    let told = told.lock().unwrap();
    let verdict = told.iter().find_map(|t| if let DiagnosisTells::Stands(v) = t { Some(v) } else { None }).unwrap();
    assert_eq!(verdict.cause, Cause::CorednsUdpDead, "{verdict:#?}");
}

#[test]
fn a_command_examines_once_and_gets_a_verdict() {
    let (record, judgement) = nameward_supervision::run(|| async {
        let pool = EnterPool::new(2, 32).unwrap();
        let mut pod = namespace(DNS_A, "kube-system", "coredns", "10.244.1.51", "veth0", &[]);
        pod.path = "/proc/thread-self/ns/net".into();
        let path = PathKey {
            vantage: Vantage::Host,
            target: dns(DNS_A),
            transport: Transport::Udp,
            question: QuestionKind::Internal,
        };
        let mut failed = observation(path, Outcome::Timeout, 0, Purpose::Round);
        failed.outcome = Outcome::Refused { by: Some(ip("10.244.1.51")) };
        failed.at = clock::now().mono;
        failed.port = 53533;
        let mut matrix = crate::matrix::Matrix::default();
        matrix.observe(&failed);
        let settings = Settings::from(&Config::default());
        let mind = DiagnosisMind::examine("node1".into(), settings, Arc::new(targets()), vec![pod], matrix);
        collect::examine(Some(&pool), mind, limits(&Config::default()), |request| async move { Some(answer(&request)) })
            .await
    })
    .unwrap();
    assert_eq!(record.samples, 2);
    assert_eq!(judgement.findings[0].cause, Cause::CorednsUdpDead, "{judgement:#?}");
}
