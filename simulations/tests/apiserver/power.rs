//! What the shipped roles allow, and what they do not.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{EvictParams, ListParams};
use kube::{Api, Client};
use nameward_simulations::apiserver::User;
use serde_json::{Value, json};

use crate::bench::{Bench, name};

fn agent() -> User {
    User::service_account("nameward", "nameward-agent", Some("node1"))
}

fn coordinator() -> User {
    User::service_account("nameward", "nameward-coordinator", None)
}

/// verb, group, resource, namespace, name.
type Power = (&'static str, &'static str, &'static str, &'static str, &'static str);

fn may(bench: &Bench, user: &User, power: Power) -> bool {
    let (verb, group, resource, namespace, name) = power;
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {
        "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace, "name": name}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, answer) = bench.handle.request(user, "POST", path, "application/json", &body);
    assert_eq!(code, 201);
    answer["status"]["allowed"].as_bool().unwrap()
}

#[tokio::test]
async fn each_role_has_what_it_needs_and_no_more() {
    let bench = Bench::bare().await;
    let dns = "kube-system";
    let yes_agent: &[Power] = &[
        ("watch", "", "pods", "", ""),
        ("list", "", "pods", "", ""),
        ("get", "", "nodes", "", "node1"),
        ("watch", "nameward.dev", "nodeagents", "", "node1"),
        ("create", "nameward.dev", "nodeagents", "", ""),
        ("patch", "nameward.dev", "nodeagents/status", "", "node1"),
        ("watch", "", "services", dns, "kube-dns"),
        ("watch", "discovery.k8s.io", "endpointslices", dns, ""),
        ("get", "", "services", "default", "kubernetes"),
        ("get", "discovery.k8s.io", "endpointslices", "default", "kubernetes"),
        ("watch", "", "configmaps", "nameward", "nameward-policy"),
    ];
    let no_agent: &[Power] = &[
        ("create", "", "pods/eviction", dns, "x"),
        ("delete", "", "pods", dns, "x"),
        ("patch", "", "pods", dns, "x"),
        ("patch", "nameward.dev", "nodeagents", "", "node1"),
        ("update", "nameward.dev", "nodeagents/status", "", "node1"),
        ("delete", "nameward.dev", "nodeagents", "", "node1"),
        ("patch", "", "nodes/status", "", "node1"),
        ("list", "", "nodes", "", ""),
        ("get", "", "pods", dns, "x"),
        ("get", "", "secrets", dns, "x"),
        ("patch", "apps", "deployments", dns, "coredns"),
        ("get", "", "configmaps", "nameward", "other"),
        ("patch", "", "configmaps", "nameward", "nameward-policy"),
        ("create", "", "pods/exec", dns, "x"),
        ("get", "", "nodes/proxy", "", "node1"),
        ("update", "coordination.k8s.io", "leases", "nameward", "nameward-coordinator"),
        ("create", "nameward.dev", "dnsincidents", "", ""),
        ("create", "events.k8s.io", "events", "shop", ""),
        ("list", "", "namespaces", "", ""),
    ];
    let yes_coordinator: &[Power] = &[
        ("watch", "", "pods", dns, ""),
        ("create", "", "pods/eviction", dns, "x"),
        ("patch", "", "pods/resize", dns, "x"),
        ("patch", "apps", "deployments", dns, "coredns"),
        ("patch", "apps", "deployments/scale", dns, "coredns"),
        ("watch", "apps", "daemonsets", dns, ""),
        ("watch", "policy", "poddisruptionbudgets", dns, ""),
        ("watch", "", "nodes", "", ""),
        ("patch", "nameward.dev", "nodeagents", "", "node1"),
        ("create", "nameward.dev", "dnsincidents", "", ""),
        ("patch", "nameward.dev", "dnsincidents/status", "", "x"),
        ("create", "coordination.k8s.io", "leases", "nameward", ""),
        ("update", "coordination.k8s.io", "leases", "nameward", "nameward-coordinator"),
        ("create", "events.k8s.io", "events", "default", ""),
        ("create", "events.k8s.io", "events", "shop", ""),
        ("watch", "", "namespaces", "", ""),
    ];
    let no_coordinator: &[Power] = &[
        ("delete", "", "pods", dns, "x"),
        ("create", "", "pods/eviction", "default", "x"),
        ("list", "", "pods", "", ""),
        ("patch", "apps", "deployments", dns, "other"),
        ("patch", "apps", "deployments", "default", "coredns"),
        ("patch", "", "nodes", "", "node1"),
        ("patch", "", "nodes/status", "", "node1"),
        ("patch", "nameward.dev", "nodeagents/status", "", "node1"),
        ("patch", "policy", "poddisruptionbudgets", dns, "kube-dns"),
        ("patch", "", "namespaces", "", "shop"),
        ("update", "coordination.k8s.io", "leases", "nameward", "other"),
        ("update", "coordination.k8s.io", "leases", dns, "nameward-coordinator"),
        ("patch", "", "configmaps", dns, "coredns"),
        ("get", "", "configmaps", dns, "coredns"),
        ("get", "policy", "poddisruptionbudgets", dns, "kube-dns"),
        ("get", "", "secrets", dns, "x"),
        ("create", "", "pods", dns, ""),
    ];
    for (user, powers, wanted) in [
        (agent(), yes_agent, true),
        (agent(), no_agent, false),
        (coordinator(), yes_coordinator, true),
        (coordinator(), no_coordinator, false),
    ] {
        for power in powers {
            assert_eq!(may(&bench, &user, *power), wanted, "{} {power:?}", user.name);
        }
    }
}

fn code<T>(result: kube::Result<T>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn denied_over_http() {
    let bench = Bench::cluster().await;
    let victim = name(&bench.coredns()[0]);
    let pods = |client: Client| Api::<Pod>::namespaced(client, "kube-system");
    let agent = bench.client("node1").await;
    assert_eq!(code(pods(agent.clone()).evict(&victim, &EvictParams::default()).await), 403);
    assert_eq!(code(pods(agent.clone()).list(&ListParams::default()).await), 200);
    let own = Api::<ConfigMap>::namespaced(agent, "nameward");
    assert_eq!(code(own.list(&ListParams::default()).await), 403);
    let one = ListParams::default().fields("metadata.name=nameward-policy");
    assert_eq!(code(own.list(&one).await), 200, "a list of one name is a read by name");
    assert_eq!(code(pods(bench.client("nobody").await).list(&ListParams::default()).await), 401);
    assert_eq!(code(pods(bench.client("guest").await).list(&ListParams::default()).await), 403);
    // The log has what was asked for, and what became of it.
    let log = bench.handle.log();
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].subresource.as_str(), log[0].code, log[0].name.as_str()), ("eviction", 403, victim.as_str()));
    assert!(!log[0].changed());
}

#[tokio::test]
async fn the_shipped_definitions_take_reports_and_refuse_nonsense() {
    let bench = Bench::bare().await;
    let agents = "/apis/nameward.dev/v1alpha1/nodeagents";
    let create =
        json!({"apiVersion": "nameward.dev/v1alpha1", "kind": "NodeAgent", "metadata": {"name": "node1"}, "spec": {}});
    let (status, _) = bench.handle.request(&agent(), "POST", agents, "application/json", &create);
    assert_eq!(status, 201);
    let merge = "application/merge-patch+json";
    let patch = |body: Value| bench.handle.request(&agent(), "PATCH", &format!("{agents}/node1/status"), merge, &body);
    let (status, body) = patch(json!({"status": {"sequence": 3, "selfCheck": true, "version": "0.1.0"}}));
    assert_eq!((status, &body["status"]["sequence"]), (200, &json!(3)));
    assert_eq!(body["metadata"]["generation"], 1, "a report is no change of the orders");
    let (status, body) = patch(json!({"status": {"sequence": "three"}}));
    assert_eq!((status, body["reason"].as_str()), (422, Some("Invalid")));
}
