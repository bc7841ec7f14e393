#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::plan::{IncidentStatus, Intent};
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_messages::{NodeName, ObjectKey, PodUid};
use serde_json::{Value, json};

use super::*;
use crate::failure::Class;
use crate::lease::{Call, CallResult, Record};
use crate::testing::{Reply, Seen, kubeconfig, pair, server};

type Log = std::sync::Arc<std::sync::Mutex<Vec<Seen>>>;

async fn cluster(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Cluster, Log) {
    let (address, log) = server(reply).await;
    let (_folder, settings) = kubeconfig(&format!("http://{address}"));
    (crate::connect::connect(&settings).await.unwrap().cluster, log)
}

/// A cluster that answers everything as one recorded pair.
async fn recorded_answer(name: &str) -> (Cluster, Log) {
    let response = pair(name)["response"].clone();
    let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
    cluster(move |_| Reply::Answer(status, response["body"].clone())).await
}

fn pod() -> (ObjectKey, PodUid) {
    (ObjectKey::new("kube-system", "coredns-x"), PodUid::from("0d22caa6"))
}

fn coredns() -> ObjectKey {
    ObjectKey::new("kube-system", "coredns")
}

fn only(log: &Log) -> Seen {
    let seen = log.lock().unwrap();
    let [one] = seen.as_slice() else { panic!("one request, never repeated: {seen:?}") };
    one.clone()
}

#[tokio::test]
async fn an_eviction_carries_its_preconditions_where_the_api_reads_them() {
    let (cluster, log) = recorded_answer("evict-dry-run-201").await;
    let (key, uid) = pod();
    cluster.evict(&key, &uid, "812", Run::Dry).await.unwrap();
    let seen = only(&log);
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.path, "/api/v1/namespaces/kube-system/pods/coredns-x/eviction?fieldManager=nameward&dryRun=All");
    let recorded = pair("evict-resourceversion-precondition-stale");
    let theirs = &recorded["request"]["body"]["deleteOptions"]["preconditions"];
    assert!(theirs["resourceVersion"].is_string(), "the recording shows the spelling");
    let ours = &seen.body["deleteOptions"]["preconditions"];
    assert_eq!(*ours, json!({"uid": "0d22caa6", "resourceVersion": "812"}));
}

#[tokio::test]
async fn refusals_are_classified_and_never_repeated() {
    let budget = Class::TooMany { retry_after: None, budget: true };
    for (name, class) in [
        ("evict-blocked-by-pdb-429", budget),
        ("evict-two-pdbs", Class::TwoBudgets),
        ("evict-uid-precondition-mismatch", Class::Conflict),
        ("evict-missing-pod-404", Class::NotFound),
        ("agent-evicts-forbidden", Class::Forbidden),
    ] {
        let (cluster, log) = recorded_answer(name).await;
        let (key, uid) = pod();
        let error = cluster.evict(&key, &uid, "1", Run::Real).await.unwrap_err();
        assert_eq!(error.class, class, "{name}");
        assert!(error.explain().starts_with("could not evict pod kube-system/coredns-x: "), "{}", error.explain());
        only(&log);
    }
}

#[tokio::test]
async fn a_lost_reply_is_an_unknown_outcome_for_a_write_and_none_for_a_read() {
    let (cluster, log) = cluster(|_| Reply::HangUp).await;
    let (key, uid) = pod();
    assert_eq!(cluster.evict(&key, &uid, "1", Run::Real).await.unwrap_err().class, Class::OutcomeUnknown);
    only(&log);
    assert_eq!(cluster.get_pod(&key).await.unwrap_err().class, Class::Unreachable);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let (cluster, _log) = cluster(|_| Reply::Silence).await;
    let cluster = cluster.with_timeout(Duration::from_millis(50));
    let (key, uid) = pod();
    let error = cluster.evict(&key, &uid, "1", Run::Real).await.unwrap_err();
    assert_eq!(error.class, Class::OutcomeUnknown);
    assert!(error.explain().contains("no answer within 50ms"), "{}", error.explain());
}

#[tokio::test]
async fn memory_is_raised_by_a_guarded_strategic_patch() {
    let (cluster, log) = recorded_answer("patch-memory-strategic").await;
    let raised = cluster.raise_memory(&coredns(), "820", "coredns", 340 << 20, Run::Real).await.unwrap();
    assert_eq!(crate::discovery::dns_container(&raised.0).unwrap().resources.limits.memory, Some(340 << 20));
    let seen = only(&log);
    assert_eq!(seen.header("content-type"), "application/strategic-merge-patch+json");
    assert_eq!(seen.path, "/apis/apps/v1/namespaces/kube-system/deployments/coredns?fieldManager=nameward");
    let mut theirs = pair("patch-memory-strategic")["request"]["body"].clone();
    theirs["metadata"] = json!({"resourceVersion": "820"});
    assert_eq!(seen.body, theirs);
    let (cluster, _log) = recorded_answer("patch-memory-stale-rv-409").await;
    let error = cluster.raise_memory(&coredns(), "1", "coredns", 340 << 20, Run::Real).await.unwrap_err();
    assert_eq!(error.class, Class::Conflict);
}

#[tokio::test]
async fn pods_are_resized_and_deployments_scaled_as_recorded() {
    let (cluster, log) = recorded_answer("pod-resize-memory").await;
    let (key, uid) = pod();
    cluster.resize_pod(&key, &uid, "coredns", 200 << 20, Run::Real).await.unwrap();
    let mut theirs = pair("pod-resize-memory")["request"]["body"].clone();
    theirs["metadata"] = json!({"uid": uid.as_str()});
    assert_eq!(only(&log).body, theirs);
    let (cluster, log) = recorded_answer("scale-patch-dry-run").await;
    cluster.scale(&coredns(), "820", 3, Run::Dry).await.unwrap();
    let seen = only(&log);
    assert!(seen.path.ends_with("/deployments/coredns/scale?fieldManager=nameward&dryRun=All"));
    assert_eq!(seen.body["spec"], json!({"replicas": 3}));
}

#[tokio::test]
async fn the_lease_is_created_read_and_refused_as_recorded() {
    let key = ObjectKey::new("kube-system", "agent");
    let record = Record { holder: "a".into(), duration_s: 15, ..Record::default() };
    let (cluster, log) = recorded_answer("lease-create").await;
    let CallResult::Record(created) = cluster.lease(&key, Call::Create(record.clone())).await else { panic!() };
    assert_eq!((created.holder.as_str(), created.duration_s, created.resource_version.as_str()), ("a", 15, "947"));
    let body = only(&log).body;
    assert_eq!(body["spec"]["holderIdentity"], "a");
    assert!(body["metadata"].get("resourceVersion").is_none());
    let (cluster, log) = recorded_answer("lease-update-stale-409").await;
    let renewed_at = Some("2026-11-22T00:00:00Z".parse().unwrap());
    let stale = Record { resource_version: "1".into(), renewed_at, ..record };
    assert_eq!(cluster.lease(&key, Call::Replace(stale)).await, CallResult::Conflict);
    let body = only(&log).body;
    assert_eq!(body["spec"]["renewTime"], "2026-11-22T00:00:00.000000Z");
    let (cluster, _log) = recorded_answer("get-pod-404").await;
    assert_eq!(cluster.lease(&key, Call::Get).await, CallResult::Absent);
}

#[tokio::test]
async fn an_event_has_the_recorded_form() {
    let (cluster, log) = recorded_answer("event-create").await;
    let about = Regarding {
        kind: "Pod".into(),
        namespace: Some("kube-system".into()),
        name: "coredns-x".into(),
        uid: Some("u".into()),
    };
    let note = Note {
        about,
        kind: NoteKind::Warning,
        reason: "DnsUnhealthy".into(),
        action: "Evict".into(),
        note: "ä".repeat(1000),
        instance: "node1".into(),
        at: "2026-11-22T00:00:00Z".parse().unwrap(),
    };
    cluster.write_event(&note).await.unwrap();
    let seen = only(&log);
    let recorded = pair("event-create")["request"]["body"].clone();
    for member in recorded.as_object().unwrap().keys() {
        assert!(seen.body.get(member).is_some(), "{member}");
    }
    assert!(seen.body["note"].as_str().unwrap().len() <= 1024);
    assert_eq!(seen.body["eventTime"], recorded["eventTime"]);
}

#[tokio::test]
async fn a_written_status_removes_what_it_does_not_have() {
    let answer = json!({"metadata": {"name": "i1"}, "spec": {}, "status": {}});
    let (cluster, log) = cluster(move |_| Reply::Answer(200, answer.clone())).await;
    let status = IncidentStatus::default();
    cluster.write_incident("i1", Some("9"), &status).await.unwrap();
    let seen = only(&log);
    assert_eq!(seen.path, "/apis/nameward.dev/v1alpha1/dnsincidents/i1/status?fieldManager=nameward");
    assert_eq!(seen.body["metadata"], json!({"resourceVersion": "9"}));
    assert_eq!(seen.body["status"].get("intent"), Some(&Value::Null), "a merge patch removes it");
    assert_eq!(seen.body["status"]["phase"], "Open");
    let _: Option<Intent> = status.intent;
    let report = whole(&NodeReport::default());
    for member in ["troubles", "deferred", "examined", "answers", "remedies", "conditions", "writtenAt"] {
        assert_eq!(report.get(member), Some(&Value::Null), "{member}");
    }
    let none =
        json!({"shareMilliQps": null, "permit": null, "requests": null, "complaints": null, "ignoredNamespaces": null});
    assert_eq!(whole(&NodeOrders::default()), none);
    // What is merged into a permit that names causes must take them back.
    let permit = Some(nameward_messages::plan::Permit { serial: 2, valid_s: 600, causes: Vec::new() });
    let standing = whole(&NodeOrders { permit, ..NodeOrders::default() });
    assert_eq!(standing["permit"], json!({"serial": 2, "validS": 600, "causes": []}));
}

#[tokio::test]
async fn an_agent_is_created_as_its_nodes_property() {
    let answer = json!({"metadata": {"name": "node1"}, "spec": {}});
    let (cluster, log) = cluster(move |_| Reply::Answer(201, answer.clone())).await;
    let agent = cluster.create_agent(&NodeName::from("node1"), Some("n1")).await.unwrap();
    assert_eq!(agent.orders, Some(NodeOrders::default()));
    let body = only(&log).body;
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "n1");
}

#[tokio::test]
async fn cluster_dns_is_found_with_one_call_where_it_usually_is() {
    let (cluster, log) = recorded_answer("get-service").await;
    assert_eq!(cluster.find_dns("").await.unwrap().to_string(), "kube-system/kube-dns");
    assert_eq!(only(&log).path, "/api/v1/namespaces/kube-system/services/kube-dns");
}

#[tokio::test]
async fn where_nothing_is_found_the_error_says_what_was_tried() {
    let missing = pair("get-pod-404")["response"]["body"].clone();
    let (cluster, log) = cluster(move |seen| {
        if seen.path.contains("labelSelector") {
            Reply::Answer(200, json!({"items": null}))
        } else {
            Reply::Answer(404, missing.clone())
        }
    })
    .await;
    let error = cluster.find_dns("").await.unwrap_err().to_string();
    assert!(error.contains("rke2-coredns-rke2-coredns") && error.contains("discovery.service"), "{error}");
    assert_eq!(log.lock().unwrap().len(), 4);
    let error = cluster.find_dns("dns/mine").await.unwrap_err().to_string();
    assert!(error.contains("dns/mine"), "{error}");
}

#[tokio::test]
async fn the_condition_of_a_node_is_written_when_it_changes_and_says_since_when() {
    let standing = |status: &str, reason: &str| json!({"type": "ClusterDNSHealthy", "status": status, "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let at: jiff::Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
    // What stands there, what is known, and since when the status is said to hold; `None`: nothing is written.
    for (found, healthy, since) in [
        (None, true, Some("2026-02-02T00:00:00Z")),
        (Some(standing("True", "ClusterDNSAnswers")), true, None),
        (Some(standing("False", "IpForwardOff")), true, Some("2026-02-02T00:00:00Z")),
        (Some(standing("False", "IpForwardOff")), false, Some("2026-01-01T00:00:00Z")),
    ] {
        let ready = json!({"type": "Ready", "status": "True"});
        let conditions: Vec<Value> = [Some(ready), found.clone()].into_iter().flatten().collect();
        let node = json!({"metadata": {"name": "n1"}, "status": {"conditions": conditions}});
        let (cluster, log) = cluster(move |_| Reply::Answer(200, node.clone())).await;
        let reason = if healthy { "ClusterDNSAnswers" } else { "CoreDNSUnreachable" };
        let written = cluster.write_node_condition(&"n1".into(), healthy, reason, "why", at).await.unwrap();
        let log = log.lock().unwrap();
        let patch = log.iter().find(|seen| seen.method == "PATCH");
        assert_eq!((written, patch.is_some()), (since.is_some(), since.is_some()), "{found:?}");
        let Some(patch) = patch else { continue };
        assert!(patch.path.starts_with("/api/v1/nodes/n1/status"), "{}", patch.path);
        let conditions = patch.body["status"]["conditions"].as_array().unwrap();
        let [one] = conditions.as_slice() else { panic!("ours alone: {conditions:?}") };
        assert_eq!(
            (one["status"].as_str(), one["lastTransitionTime"].as_str()),
            (Some(if healthy { "True" } else { "False" }), since)
        );
    }
}
