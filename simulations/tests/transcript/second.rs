//! `api-transcript-2.json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{ADMIN, Bench, Pair, transcript};

fn pairs() -> BTreeMap<String, Pair> {
    transcript("api-transcript-2.json").into_iter().map(|pair| (pair.name.clone(), pair)).collect()
}

/// The evicted pod was not recorded itself: one that only its uid and its labels are known of.
fn pod() -> Value {
    json!({
        "metadata": {"name": "coredns-6f6df4dc97-lwvhs", "namespace": "kube-system",
                     "uid": "0d22caa6-c8c2-40c9-a86a-2c4b0a0b70e5", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"nodeName": "node1", "containers": [{"name": "coredns", "image": "registry.k8s.io/coredns/coredns:v1.13.1"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A budget's status as recorded, or with a disruption that is still counted.
fn budget(pairs: &BTreeMap<String, Pair>, from: &str) -> Value {
    let body = &pairs[from].response["body"];
    if body["kind"] == "PodDisruptionBudgetList" { body["items"][0].clone() } else { body.clone() }
}

fn put_budget(bench: &Bench, budget: &Value) {
    if let Some(live) = bench.handle.get("PodDisruptionBudget", "kube-system", "kube-dns") {
        let mut next = live;
        next["status"] = budget["status"].clone();
        bench.handle.put(next).unwrap();
    } else {
        bench.seed("PodDisruptionBudget", "policy/v1", budget);
    }
}

#[tokio::test]
async fn every_pair_in_order() {
    let pairs = pairs();
    let mut bench = Bench::start().await;
    bench.seed("Pod", "v1", &pod());
    put_budget(&bench, &budget(&pairs, "pdb-status-before"));
    for node in pairs["list-nodes"].response["body"]["items"].as_array().unwrap() {
        bench.seed("Node", "v1", node);
    }
    bench.seed("Service", "v1", &pairs["get-service"].response["body"]);
    bench.seed("EndpointSlice", "discovery.k8s.io/v1", &pairs["kubernetes-endpointslice"].response["body"]["items"][0]);
    bench.seed("Deployment", "apps/v1", &pairs["get-deployment-with-managed-fields"].response["body"]);
    let all = transcript("api-transcript-2.json");
    for pair in &all {
        let token = if pair.name.starts_with("agent-") { "agent-token" } else { ADMIN };
        match pair.name.as_str() {
            "evict-dry-run-201" | "pdb-status-before" => {
                // Two minutes later the budget had been given back.
                put_budget(&bench, &budget(&pairs, "pdb-status-before"));
            }
            "pdb-status-after-failed-precondition" => {
                // The server took the budget; the rest of the status is the controller's.
                let live = bench.handle.get("PodDisruptionBudget", "kube-system", "kube-dns").unwrap();
                assert_eq!(live["status"]["disruptionsAllowed"], 0);
                assert!(live["status"]["disruptedPods"]["coredns-6f6df4dc97-lwvhs"].is_string());
                put_budget(&bench, &budget(&pairs, "pdb-status-after-failed-precondition"));
            }
            "list-pdbs" => put_budget(&bench, &budget(&pairs, "list-pdbs")),
            _ => {}
        }
        let answer = bench.replay(pair, token).await;
        if pair.name == "cr-status-apply" {
            assert_owners(&pair.response["body"], &answer.body());
        }
    }
    assert_eq!(all.len(), 34);
}

/// Who owns which field after an apply, as recorded.
fn assert_owners(theirs: &Value, ours: &Value) {
    let owners = |body: &Value| -> BTreeMap<String, Value> {
        body["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
                (
                    format!("{} {} {}", word("manager"), word("operation"), word("subresource")),
                    entry["fieldsV1"].clone(),
                )
            })
            .collect()
    };
    assert_eq!(owners(theirs), owners(ours));
}

#[tokio::test]
async fn a_failed_precondition_spends_the_budget_and_a_dry_run_does_not() {
    let pairs = pairs();
    let bench = Bench::start().await;
    bench.seed("Pod", "v1", &pod());
    put_budget(&bench, &budget(&pairs, "pdb-status-before"));
    let allowed = || {
        bench.handle.get("PodDisruptionBudget", "kube-system", "kube-dns").unwrap()["status"]["disruptionsAllowed"]
            .clone()
    };
    bench.ask(&pairs["evict-dry-run-201"], ADMIN).await;
    assert_eq!(allowed(), 1);
    assert!(
        bench.handle.get("Pod", "kube-system", "coredns-6f6df4dc97-lwvhs").unwrap()["metadata"]["deletionTimestamp"]
            .is_null()
    );
    bench.ask(&pairs["evict-uid-precondition-mismatch"], ADMIN).await;
    assert_eq!(allowed(), 0);
}
