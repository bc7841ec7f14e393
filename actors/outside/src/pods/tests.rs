#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_config::Config;
use nameward_messages::probe::OutcomeKind;
use nameward_messages::targets::ServicePort;

use super::*;
use crate::asking::questions;

fn run() -> Run {
    Run { namespace: "nameward".into(), image: IMAGE.into(), origin: origin("machine", "me"), id: "0badcafe".into() }
}

fn node(name: &str, ready: &str, cordoned: bool) -> NodeWithAddresses {
    serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"unschedulable": cordoned},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }))
    .unwrap()
}

fn dns(name: &str, node: &str, ip: &str) -> DnsPod {
    DnsPod {
        uid: name.into(),
        key: ObjectKey::new("kube-system", name),
        node: Some(node.into()),
        ips: vec![ip.parse().unwrap()],
        udp_port: Some(53),
        tcp_port: Some(53),
        ready: true,
        terminating: false,
    }
}

fn service() -> DnsService {
    let port = |name: &str| Some(ServicePort { name: name.into(), port: 53 });
    DnsService {
        key: ObjectKey::new("kube-system", "kube-dns"),
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        udp_port: port("dns"),
        tcp_port: port("dns-tcp"),
        internal_traffic_local: false,
    }
}

#[test]
fn a_table_of_choices() {
    let nodes = [
        node("d", "True", false),
        node("a", "True", false),
        node("b", "False", false),
        node("c", "True", true),
        node("e", "True", false),
        node("f", "True", false),
    ];
    let pods = [dns("x", "d", "10.0.0.1"), dns("y", "e", "10.0.0.2")];
    let names = |named: &[&str]| {
        let named: Vec<String> = named.iter().map(|n| (*n).to_owned()).collect();
        choose(&nodes, &pods, &named).map(|all| all.into_iter().map(|n| n.0).collect::<Vec<_>>())
    };
    assert_eq!(
        names(&[]).unwrap(),
        ["d", "a", "f"],
        "one beside CoreDNS, the others away from it; none cordoned or sick"
    );
    assert_eq!(names(&["c", "a", "c"]).unwrap(), ["c", "a"], "a cordoned one may be named; each once");
    assert_eq!(names(&["b"]), Err(ChooseError::NotReady("b".into())));
    assert!(matches!(names(&["z"]), Err(ChooseError::Unknown { .. })));
    assert_eq!(choose(&[], &pods, &[]), Err(ChooseError::None));
    assert_eq!(choose(&nodes, &pods, &vec!["a".to_owned(); 17]), Err(ChooseError::TooMany(17)));
}

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>, the profile Restricted, field by field.
#[test]
fn a_probe_pod_is_restricted_bounded_and_powerless() {
    let mut plan = Plan::new(&Config::default(), questions(&Config::default(), "cluster.local", &[]));
    let aims = aims(&mut plan, &service(), &[dns("x", "d", "10.0.0.1")]);
    assert_eq!(aims.len(), 4);
    let job = run().job(0, &"node1".into(), &plan);
    let (spec, pod) = (&job["spec"], &job["spec"]["template"]["spec"]);
    for absent in ["hostNetwork", "hostPID", "hostIPC", "volumes", "serviceAccountName", "initContainers"] {
        assert!(pod[absent].is_null(), "{absent}");
    }
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["privileged"], false);
    assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    for bound in ["cpu", "memory", "ephemeral-storage"] {
        assert!(container["resources"]["limits"][bound].is_string(), "{bound}");
    }
    assert_eq!((&pod["restartPolicy"], &spec["backoffLimit"]), (&json!("Never"), &json!(0)));
    assert_eq!(pod["activeDeadlineSeconds"], DEADLINE_S);
    assert_eq!(spec["activeDeadlineSeconds"], DEADLINE_S);
    assert_eq!(spec["ttlSecondsAfterFinished"], TIME_TO_LIVE_S);
    assert_eq!(pod["nodeName"], "node1");
    assert_eq!(Plan::parse(container["args"][1].as_str().unwrap()).unwrap(), plan);
    let alone = run().pod(0, &"node1".into(), &plan);
    assert_eq!(&alone["spec"], pod, "what is tried is what would run");
    let text = job.to_string();
    assert!(!text.contains("\"me\"") && !text.contains("machine"), "the origin tells neither machine nor user: {text}");
    for value in job["metadata"]["labels"].as_object().unwrap().values() {
        assert!(value.as_str().unwrap().len() <= 63);
    }
}

#[test]
fn a_table_of_pods_and_what_they_left() {
    let good = r#"{"answers":[["answered",812,false]]}"#;
    let pod = |status: Value| {
        serde_json::from_value::<ProbePod>(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    };
    let ended = |message: &str, code: i32| json!({"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed", "exitCode": code, "message": message}}}]});
    let waiting =
        |reason: &str| json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason}}}]});
    let answer = Answer { outcome: OutcomeKind::Answered, latency_us: 812, failed: false };
    for (what, status, wanted) in [
        ("it answered", ended(good, 0), Probe::Answered(vec![answer])),
        (
            "its log is no answer",
            ended("exec format error\n", 1),
            Probe::Failed("Completed (exit 1) exec format error".into()),
        ),
        (
            "answers to another plan",
            ended(r#"{"answers":[]}"#, 0),
            Probe::Failed("Completed (exit 0) {\"answers\":[]}".into()),
        ),
        ("nothing is known yet", json!({}), Probe::Waits(String::new())),
        ("it is being made", waiting("ContainerCreating"), Probe::Waits("ContainerCreating".into())),
        ("its image cannot be had", waiting("ErrImagePull"), Probe::Failed("ErrImagePull".into())),
        (
            "its time is over",
            json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"}),
            Probe::Failed("DeadlineExceeded too long".into()),
        ),
        ("it was killed", json!({"phase": "Failed"}), Probe::Failed("it ended without a word".into())),
    ] {
        assert_eq!(read(&pod(status), 1), wanted, "{what}");
    }
}

#[test]
fn only_ended_jobs_of_the_same_origin_are_left_over() {
    let job = |name: &str, origin: &str, run: &str, ended: bool, labelled: &str| {
        let conditions = if ended { json!([{"type": "Failed", "status": "True"}]) } else { Value::Null };
        serde_json::from_value::<Job>(json!({
            "metadata": {"name": name, "namespace": "nameward", "uid": name,
                         "labels": {"app.kubernetes.io/name": labelled, ORIGIN: origin, RUN: run}},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    };
    let mine = run();
    let jobs = [
        job("ended", &mine.origin, "1", true, NAME),
        job("running", &mine.origin, "2", false, NAME),
        job("this", &mine.origin, &mine.id, true, NAME),
        job("theirs", &origin("machine", "you"), "3", true, NAME),
        job("other", &mine.origin, "4", true, "backup"),
    ];
    let found: Vec<String> = leftovers(&jobs, &mine).into_iter().map(|(key, _)| key.name).collect();
    assert_eq!(found, ["ended"]);
    assert_ne!(origin("machine", "me"), origin("machine2", "me"));
}

/// What is created, to be read as a whole, and to be validated against Kubernetes' schemas by `.ci/manifests`. Written anew with
/// `NAMEWARD_WRITE_DOCS=1`.
#[test]
fn the_job_is_the_one_that_is_shown() {
    let mut plan =
        Plan::new(&Config::default(), questions(&Config::default(), "cluster.local", &["10.96.0.1".parse().unwrap()]));
    let _ = aims(&mut plan, &service(), &[dns("coredns-1", "node2", "10.244.2.3")]);
    let run = Run { image: "ghcr.io/nameward/nameward:VERSION".into(), ..run() };
    let text = format!("{}\n", serde_json::to_string_pretty(&run.job(0, &"node1".into(), &plan)).unwrap());
    let shown = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pods/job.json");
    if std::env::var_os("NAMEWARD_WRITE_DOCS").is_some() {
        std::fs::write(shown, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(shown).unwrap(), text, "write it anew with NAMEWARD_WRITE_DOCS=1");
}
