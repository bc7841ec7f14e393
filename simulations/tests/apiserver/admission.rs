//! What the shipped admission policies refuse to tokens that were stolen from a node.

use std::path::Path;

use nameward_simulations::apiserver::{User, manifests};
use serde_json::{Value, json};

use crate::bench::{Bench, name};

const AGENTS: &str = "/apis/nameward.dev/v1alpha1/nodeagents";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn agent(node: Option<&str>) -> User {
    User::service_account("nameward", "nameward-agent", node)
}

fn coordinator() -> User {
    User::service_account("nameward", "nameward-coordinator", None)
}

fn deployed(file: &str) -> Vec<Value> {
    manifests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)).unwrap()
}

/// The answer must be a refusal by a policy whose message holds these words.
#[track_caller]
fn refused((code, body): (u16, Value), words: &str) {
    let message = body["message"].as_str().unwrap_or_default();
    assert_eq!(code, 422, "{body}");
    assert!(message.contains("ValidatingAdmissionPolicy") && message.contains(words), "{message}");
}

fn object(node: &str, spec: Value) -> Value {
    json!({"apiVersion": "nameward.dev/v1alpha1", "kind": "NodeAgent", "metadata": {"name": node}, "spec": spec})
}

#[tokio::test]
async fn an_agent_writes_its_own_node_and_no_orders() {
    let bench = Bench::bare().await;
    let create = |user: &User, node: &str, spec| {
        bench.handle.request(user, "POST", AGENTS, "application/json", &object(node, spec))
    };
    let status = |user: &User, node: &str| {
        let body = json!({"status": {"sequence": 1, "selfCheck": true}});
        bench.handle.request(user, "PATCH", &format!("{AGENTS}/{node}/status"), MERGE, &body)
    };
    let (one, two) = (agent(Some("node1")), agent(Some("node2")));
    refused(create(&one, "node2", json!({})), "its own node alone");
    refused(create(&agent(None), "node1", json!({})), "names no node");
    refused(create(&one, "node1", json!({"shareMilliQps": 5})), "gives itself no orders (shareMilliQps)");
    assert_eq!(create(&one, "node1", json!({})).0, 201);
    assert_eq!(create(&two, "node2", json!({})).0, 201);
    assert_eq!(status(&one, "node1").0, 200);
    refused(status(&one, "node2"), "its own node alone");
    refused(status(&agent(None), "node1"), "names no node");
    // Nobody but agents is bound by it.
    let orders = json!({"spec": {"shareMilliQps": 5}});
    let (code, _) = bench.handle.request(&coordinator(), "PATCH", &format!("{AGENTS}/node2"), MERGE, &orders);
    assert_eq!(code, 200);
}

/// An order that is added to the resource must be added to the policy.
#[test]
fn every_order_is_named_by_the_policy() {
    let definition = deployed("crds/nodeagents.nameward.dev.yaml").remove(0);
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let orders = schema["properties"]["spec"]["properties"].as_object().unwrap();
    let policy = deployed("admission/agent.yaml").remove(0);
    let expressions = policy["spec"]["validations"].to_string();
    for order in orders.keys() {
        assert!(expressions.contains(&format!("!has(object.spec.{order})")), "{order} can be given by an agent");
    }
}

#[tokio::test]
async fn the_coordinator_evicts_pods_of_cluster_dns_alone() {
    let bench = Bench::cluster().await;
    let evict = |pod: &str| {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "kube-system"}});
        let path = format!("/api/v1/namespaces/kube-system/pods/{pod}/eviction");
        bench.handle.request(&coordinator(), "POST", &path, "application/json", &body)
    };
    let other = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kube-proxy-a", "namespace": "kube-system"},
        "spec": {"nodeName": "node1", "containers": [{"name": "a", "image": "a"}]}});
    bench.handle.create(other).unwrap();
    refused(evict("kube-proxy-a"), "the pods of cluster DNS alone");
    let spared = bench.handle.get("Pod", "kube-system", "kube-proxy-a").unwrap();
    assert!(spared["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(evict(&name(&bench.coredns()[0])).0, 201);
}

#[tokio::test]
async fn the_coordinator_changes_memory_and_replicas_and_nothing_that_gives_power() {
    let bench = Bench::cluster().await;
    let path = "/apis/apps/v1/namespaces/kube-system/deployments/coredns?dryRun=All";
    let patch = |spec: Value| {
        let body = json!({"spec": {"template": {"spec": spec}}});
        bench.handle.request(&coordinator(), "PATCH", path, STRATEGIC, &body)
    };
    let container = |member: &str, value: Value| patch(json!({"containers": [{"name": "coredns", member: value}]}));
    let (code, body) = container("resources", json!({"limits": {"memory": "340Mi"}}));
    assert_eq!(code, 200, "{body}");
    let scale = json!({"spec": {"replicas": 3}});
    let scaled = bench.handle.request(&coordinator(), "PATCH", &path.replace('?', "/scale?"), MERGE, &scale);
    assert_eq!(scaled.0, 200);

    refused(container("image", json!("evil:1")), "image of a container");
    refused(container("command", json!(["sh"])), "command of a container");
    refused(container("env", json!([{"name": "A", "value": "b"}])), "env of a container");
    refused(container("securityContext", json!({"privileged": true})), "securityContext of a container");
    refused(patch(json!({"containers": [{"name": "more", "image": "evil:1"}]})), "adds and removes no container");
    refused(patch(json!({"initContainers": [{"name": "more", "image": "evil:1"}]})), "initContainers");
    refused(patch(json!({"serviceAccountName": "admin"})), "serviceAccountName");
    refused(patch(json!({"hostPID": true})), "hostPID");
    refused(patch(json!({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]})), "volumes");
    refused(patch(json!({"readinessGates": [{"conditionType": "never.example.org/true"}]})), "readinessGates");
    refused(patch(json!({"schedulingGates": [{"name": "example.org/never"}]})), "schedulingGates");
    refused(patch(json!({"terminationGracePeriodSeconds": 0})), "terminationGracePeriodSeconds");
}

#[tokio::test]
async fn the_coordinator_takes_no_memory_from_cluster_dns() {
    let bench = Bench::cluster().await;
    let path = "/apis/apps/v1/namespaces/kube-system/deployments/coredns?dryRun=All";
    let resources = |value: Value| {
        let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "coredns", "resources": value}]}}}});
        bench.handle.request(&coordinator(), "PATCH", path, STRATEGIC, &body)
    };
    assert_eq!(resources(json!({"limits": {"memory": "170Mi"}})).0, 200, "as it is");
    assert_eq!(resources(json!({"limits": {"memory": "1Gi"}})).0, 200);
    refused(resources(json!({"limits": {"memory": "169Mi"}})), "lowers no memory limit");
    refused(resources(json!({"limits": {"memory": "100M"}})), "lowers no memory limit");
    refused(resources(json!({"limits": {"memory": null}})), "the one of memory alone");
    refused(resources(json!({"limits": null})), "adds and removes no limits");
    refused(resources(json!({"limits": {"cpu": "2"}})), "the one of memory alone");
    refused(resources(json!({"requests": {"memory": "150Mi"}})), "requests of a container");
    refused(resources(json!({"requests": null})), "requests of a container");

    let pod = name(&bench.coredns()[0]);
    let path = format!("/api/v1/namespaces/kube-system/pods/{pod}/resize?dryRun=All");
    let resize = |value: Value| {
        let body = json!({"spec": {"containers": [{"name": "coredns", "resources": value}]}});
        bench.handle.request(&coordinator(), "PATCH", &path, STRATEGIC, &body)
    };
    let (code, body) = resize(json!({"limits": {"memory": "340Mi"}}));
    assert_eq!(code, 200, "{body}");
    refused(resize(json!({"limits": {"memory": "100Mi"}})), "lowers no memory limit");
    refused(resize(json!({"limits": {"cpu": "2"}})), "the one of memory alone");
    refused(resize(json!({"requests": {"cpu": "1m"}})), "requests of a container");
}

#[tokio::test]
async fn the_coordinator_cannot_scale_cluster_dns_away() {
    let bench = Bench::cluster().await;
    let path = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";
    let scale = |to: i64, dry: &str| {
        let body = json!({"spec": {"replicas": to}});
        bench.handle.request(&coordinator(), "PATCH", &format!("{path}/scale{dry}"), MERGE, &body)
    };
    let dry = "?dryRun=All";
    for to in [1, 2, 3] {
        assert_eq!(scale(to, dry).0, 200, "from two to {to}");
    }
    refused(scale(0, dry), "one replica at least");
    refused(scale(4, dry), "one replica at a time");
    refused(scale(50, dry), "one replica at a time");
    let null = json!({"spec": {"replicas": null}});
    refused(bench.handle.request(&coordinator(), "PATCH", &format!("{path}/scale{dry}"), MERGE, &null), "one replica");
    assert_eq!(scale(3, "").0, 200);
    refused(scale(1, dry), "one replica at a time");

    // Nor by any other way than the scale.
    let patch = |body: Value| bench.handle.request(&coordinator(), "PATCH", &format!("{path}{dry}"), STRATEGIC, &body);
    refused(patch(json!({"spec": {"replicas": 0}})), "replicas of a workload");
    refused(patch(json!({"spec": {"replicas": 4}})), "replicas of a workload");
    refused(
        patch(json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}})),
        "strategy of a workload",
    );
    refused(patch(json!({"spec": {"paused": true}})), "paused of a workload");
    refused(patch(json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}})), "of a workload's pods");
    let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "gone", "uid": "0-0"}]);
    refused(patch(json!({"metadata": {"ownerReferences": owner}})), "ownerReferences of a workload");
    refused(patch(json!({"metadata": {"annotations": {"nameward.dev/paused": "true"}}})), "annotations of a workload");
    // A person is bound by none of it.
    let admin = User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() };
    let none = json!({"spec": {"replicas": 0}});
    let scaled = bench.handle.request(&admin, "PATCH", &format!("{path}/scale{dry}"), MERGE, &none);
    assert_eq!(scaled.0, 200, "{}", scaled.1);
}

#[tokio::test]
async fn the_condition_of_nodes_can_be_granted_alone() {
    let bench = Bench::cluster().await;
    let node = name(&bench.handle.list("Node", "", "")[0]);
    let patch = |body: Value| {
        bench.handle.request(&coordinator(), "PATCH", &format!("/api/v1/nodes/{node}/status"), STRATEGIC, &body)
    };
    let condition =
        |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "False", "reason": "Test"}]}});
    assert_eq!(patch(condition("ClusterDNSHealthy")).0, 403, "not without asking for it");
    for manifest in deployed("rbac/optional/node-condition.yaml") {
        bench.handle.create(manifest).unwrap();
    }
    assert_eq!(patch(condition("ClusterDNSHealthy")).0, 200);
    refused(patch(condition("Ready")), "no condition of a node but ClusterDNSHealthy");
    refused(patch(json!({"status": {"capacity": {"pods": "0"}}})), "capacity");
    // A real API server takes labels by this way; the simulated one leaves them.
    let (_, node) = patch(json!({"metadata": {"labels": {"tenant": "none"}}}));
    assert!(node["metadata"]["labels"]["tenant"].is_null());
}
