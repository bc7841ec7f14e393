//! `api-transcript.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{ADMIN, Bench, Pair, assert_same, plain, recorded, transcript};

/// Asked here in another way, or compared in part only, and why.
const OTHERWISE: [(&str, &str); 6] = [
    ("watch-from-rv-1-before-compaction", "its own test: the recorded events are first made to happen again"),
    ("watch-evict-and-replace", "the machinery's doing: compared in tests/apiserver, events in their order"),
    ("get-terminating-pod", "its evicted pod lingers here too; asked after the eviction, same comparison"),
    ("api-groups", "a real server has groups that nothing here needs: ours must be among the recorded ones"),
    ("core-v1-resources", "the same for core resources; storageVersionHash and shortNames are left out"),
    ("list-continue-expired", "needs forgotten history: asked after the store is compacted"),
];

fn pairs() -> BTreeMap<String, Pair> {
    transcript("api-transcript.json").into_iter().map(|pair| (pair.name.clone(), pair)).collect()
}

/// The cluster as it was when the transcript begins.
async fn bench(pairs: &BTreeMap<String, Pair>) -> Bench {
    let bench = Bench::start().await;
    for page in ["list-pods-page-1", "list-pods-page-2"] {
        for pod in pairs[page].response["body"]["items"].as_array().unwrap() {
            bench.seed("Pod", "v1", pod);
        }
    }
    bench.handle.create(deployment_for_seed(&pairs["get-deployment"].response["body"])).unwrap();
    let slice = &pairs["endpointslices-after"].response["body"]["items"][0];
    bench.seed("EndpointSlice", "discovery.k8s.io/v1", slice);
    let mut node = pairs["node-status-patch-condition"].response["body"].clone();
    node["status"]["conditions"].as_array_mut().unwrap().remove(0);
    bench.seed("Node", "v1", &node);
    bench
}

fn deployment_for_seed(body: &Value) -> Value {
    let mut deployment = body.clone();
    deployment["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    deployment
}

/// The budget's status as the controller wrote it before the pair that comes next.
fn settle_budget(bench: &Bench, generation: i64, allowed: i64, healthy: i64, desired: i64) {
    let status = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let patch = json!({"status": {
        "observedGeneration": generation, "disruptionsAllowed": allowed, "currentHealthy": healthy,
        "desiredHealthy": desired, "expectedPods": 2,
        "conditions": [{"type": "DisruptionAllowed", "status": status.0, "observedGeneration": generation,
                        "lastTransitionTime": "2026-11-22T09:55:02Z", "reason": status.1, "message": ""}],
    }});
    bench.handle.patch("PodDisruptionBudget", "kube-system", "kube-dns", patch).unwrap();
}

#[tokio::test]
async fn every_pair_in_order() {
    let pairs = pairs();
    let mut bench = bench(&pairs).await;
    let mut done = BTreeSet::new();
    for pair in transcript("api-transcript.json") {
        let name = pair.name.as_str();
        let token = match name {
            "unauthorized-401" => "nobody-has-this",
            "forbidden-403" => "proxy-token",
            _ => ADMIN,
        };
        match name {
            "watch-from-rv-1-before-compaction" | "watch-evict-and-replace" => continue,
            "list-pods-page-2" => {
                // The token is the server's own.
                let first = bench.ask(&pairs["list-pods-page-1"], ADMIN).await.body();
                let token = first["metadata"]["continue"].as_str().unwrap();
                let answer =
                    bench.send(ADMIN, "GET", &format!("/api/v1/pods?limit=2&continue={token}"), "", &Value::Null).await;
                assert_same(name, &plain(pair.response["body"].clone()), &plain(answer.body()));
            }
            "watch-bad-rv-500" | "watch-future-rv" | "watch-list-initial-events" => {
                bench.replay(&pair, token).await;
            }
            "evict-blocked-by-pdb-429" => {
                settle_budget(&bench, 1, 0, 2, 2);
                bench.replay(&pair, token).await;
            }
            "evict-allowed-201" => {
                settle_budget(&bench, 2, 1, 2, 1);
                bench.replay(&pair, token).await;
            }
            "pod-after-resize" => {
                // What the kubelet made of it.
                bench.handle.put(with_version(&bench, &pair.response["body"])).unwrap();
                bench.replay(&pair, token).await;
            }
            "api-groups" => {
                let ours = bench.ask(&pair, token).await.body();
                assert_eq!(
                    (&ours["kind"], &ours["apiVersion"]),
                    (&pair.response["body"]["kind"], &pair.response["body"]["apiVersion"])
                );
                for group in ours["groups"].as_array().unwrap() {
                    if group["name"].as_str().unwrap() == "nameward.dev" {
                        continue;
                    }
                    let theirs = pair.response["body"]["groups"].as_array().unwrap();
                    let same = theirs.iter().find(|other| other["name"] == group["name"]).unwrap();
                    assert_eq!(same["preferredVersion"], group["preferredVersion"]);
                }
            }
            "core-v1-resources" => {
                let ours = bench.ask(&pair, token).await.body();
                for resource in ours["resources"].as_array().unwrap() {
                    let theirs = pair.response["body"]["resources"].as_array().unwrap();
                    let same = theirs.iter().find(|other| other["name"] == resource["name"]).unwrap();
                    for member in ["singularName", "namespaced", "kind"] {
                        assert_eq!(same[member], resource[member], "{}", resource["name"]);
                    }
                }
            }
            "event-create" => {
                let mut ours = bench.ask(&pair, token).await.body();
                assert!(ours["metadata"]["name"].as_str().unwrap().starts_with("agent-"));
                ours["metadata"]["name"] = pair.response["body"]["metadata"]["name"].clone();
                assert_same(name, &plain(pair.response["body"].clone()), &plain(ours));
            }
            "list-continue-expired" => {
                bench.handle.compact();
                bench.replay(&pair, token).await;
            }
            "endpointslices-after" => {
                // The recorded generation counts what happened before.
                bench.replay(&pair, token).await;
            }
            _ => {
                bench.replay(&pair, token).await;
            }
        }
        done.insert(pair.name.clone());
    }
    let left: Vec<&String> = pairs.keys().filter(|name| !done.contains(*name)).collect();
    assert_eq!(left, ["watch-evict-and-replace", "watch-from-rv-1-before-compaction"]);
    for (name, why) in OTHERWISE {
        assert!(pairs.contains_key(name), "{name} is no recorded pair ({why})");
    }
}

fn with_version(bench: &Bench, object: &Value) -> Value {
    let mut object = object.clone();
    let meta = &object["metadata"];
    let live = bench.handle.get("Pod", meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap()).unwrap();
    object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    object["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
    object
}

#[tokio::test]
async fn a_watch_from_the_beginning_tells_everything() {
    let pair = pairs().remove("watch-from-rv-1-before-compaction").unwrap();
    let bench = Bench::start().await;
    let since = bench.handle.version();
    let events = pair.response["events"].as_array().unwrap();
    for event in events {
        let mut object = event["object"].clone();
        let (namespace, name) = (
            object["metadata"]["namespace"].as_str().unwrap().to_owned(),
            object["metadata"]["name"].as_str().unwrap().to_owned(),
        );
        if event["type"] == "DELETED" {
            bench.handle.remove("Pod", &namespace, &name).unwrap();
        } else {
            object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            bench.handle.put(object).unwrap();
        }
    }
    let path = pair.request["path"].as_str().unwrap().replace("resourceVersion=1", &format!("resourceVersion={since}"));
    let answer =
        bench.send(ADMIN, "GET", &path.replace("timeoutSeconds=2", "timeoutSeconds=1"), "", &Value::Null).await;
    let line = |event: &Value| format!("{} {}", event["type"], event["object"]["metadata"]["name"]);
    let theirs: Vec<String> = events.iter().map(line).collect();
    let ours: Vec<String> = answer.events().iter().map(line).collect();
    assert_eq!(theirs, ours);
    for (theirs, ours) in events.iter().zip(answer.events()) {
        assert_same(&line(theirs), &plain(theirs["object"].clone()), &plain(ours["object"].clone()));
    }
}

#[tokio::test]
async fn managed_fields_tell_who_wrote_what() {
    let pairs = pairs();
    let bench = bench(&pairs).await;
    let patch = &pairs["patch-memory-strategic"];
    bench.ask(patch, ADMIN).await;
    let deployment = bench.handle.get("Deployment", "kube-system", "coredns").unwrap();
    let owners = deployment["metadata"]["managedFields"].as_array().unwrap();
    let agent = owners.iter().find(|entry| entry["manager"] == "agent").unwrap();
    assert_eq!(
        agent["fieldsV1"],
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"coredns\"}": {
            "f:resources": {"f:limits": {"f:memory": {}}}}}}}}})
    );
    let first = owners.iter().find(|entry| entry["manager"] == "kubectl-client-side-apply").unwrap();
    let recorded = recorded("api-transcript-2.json");
    let theirs =
        recorded.as_array().unwrap().iter().find(|pair| pair["name"] == "get-deployment-with-managed-fields").unwrap()
            ["response"]["body"]["metadata"]["managedFields"][0]
            .clone();
    let resources = |entry: &Value| {
        entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"coredns\"}"]["f:resources"]
            .clone()
    };
    // Once another manager has taken the value, the first one keeps the member above it.
    assert_eq!(resources(first)["f:limits"], resources(&theirs)["f:limits"]);
}
