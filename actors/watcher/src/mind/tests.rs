#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use nameward_cluster::wire::{ConfigMap, Deployment, EndpointSlice, Object, Service};
use nameward_messages::PodUid;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::store::{Store, key};

fn recordings() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures")
}

fn file(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(recordings().join(path)).unwrap()).unwrap()
}

fn snapshot<T: Object + DeserializeOwned>(list: &Value) -> Snapshot<T> {
    let items = if list["items"].is_array() { list["items"].clone() } else { json!([list]) };
    let items: Vec<T> = serde_json::from_value(items).unwrap();
    Arc::new(items.into_iter().map(|item| (key(&item), Arc::new(item))).collect())
}

fn at(seconds: u64) -> Now {
    Now::at(Duration::from_secs(seconds))
}

fn mind(role: Role) -> WatcherMind {
    WatcherMind::new(role, Settings::default(), SeenKills::new("2026-11-22T09:56:00Z".parse().unwrap()))
}

fn step(mind: &mut WatcherMind, seconds: u64, input: Input) -> Vec<Tell> {
    let mut out = Vec::new();
    mind.step(at(seconds), input, &mut out);
    out
}

fn agent_inputs() -> Vec<Input> {
    vec![
        Input::LocalPods(snapshot(&file("iptables/api.pods-on-node1.json"))),
        Input::Service(snapshot(&file("iptables/api.kube-dns-service.json"))),
        Input::Slices(snapshot(&file("iptables/api.kube-dns-endpointslices.json"))),
        Input::OwnAgent(Arc::default()),
        Input::Policy(Arc::default()),
    ]
}

fn ready(role: Role) -> (WatcherMind, Vec<Tell>) {
    let mut mind = mind(role);
    let mut told = step(&mut mind, 0, Input::Tick);
    for input in agent_inputs() {
        told.extend(step(&mut mind, 1, input));
    }
    (mind, told)
}

#[test]
fn the_recorded_cluster_is_told_once() {
    let (mut mind, told) = ready(Role::Agent);
    assert!(matches!(
        &told[..],
        [Tell::KillSwitch(KillSwitch::UnreadableSince(_)), Tell::Stage(Stage::Starting(_)), ..]
    ));
    let targets: Vec<_> = told.iter().filter_map(|t| if let Tell::Targets(t) = t { Some(t) } else { None }).collect();
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].pods.len(), 2);
    assert_eq!(targets[0].cluster_domain, "cluster.local");
    let pods = told.iter().filter(|tell| matches!(tell, Tell::Pod(PodChanged::Applied(_)))).count();
    assert_eq!(pods, 3);
    assert_eq!(told.iter().filter(|tell| matches!(tell, Tell::Pod(PodChanged::Synced))).count(), 1);
    assert!(told.contains(&Tell::Orders(NodeOrders::default())));
    assert!(told.contains(&Tell::KillSwitch(KillSwitch::Off)));
    assert_eq!(told.last(), Some(&Tell::Stage(Stage::Ready)));
    // The same again, as after a reconnect: nothing to tell.
    for input in agent_inputs() {
        assert_eq!(step(&mut mind, 2, input), []);
    }
}

#[test]
fn a_lost_api_changes_nothing_but_the_stage_and_the_kill_switch() {
    let (mut mind, _) = ready(Role::Agent);
    for watch in Role::Agent.watches() {
        let told = step(&mut mind, 100, Input::Link(watch, Link::Lost("connection refused".into())));
        assert!(told.iter().all(|tell| matches!(tell, Tell::KillSwitch(KillSwitch::UnreadableSince(_)))), "{told:?}");
    }
    assert_eq!(mind.deadline(), Some(at(110).mono));
    let told = step(&mut mind, 110, Input::Tick);
    let [Tell::Stage(Stage::Degraded(why))] = told.as_slice() else { panic!("{told:?}") };
    assert!(why.contains("connection refused") && why.contains("pods of this node"), "{why}");
    assert_eq!(mind.deadline(), None);
    // A second try that fails does not start the patience anew.
    assert_eq!(step(&mut mind, 115, Input::Link(Watch::Service, Link::Lost("connection refused".into()))), []);
    let mut told = Vec::new();
    for watch in Role::Agent.watches() {
        told.extend(step(&mut mind, 120, Input::Link(watch, Link::Good)));
    }
    assert!(told.contains(&Tell::KillSwitch(KillSwitch::Off)));
    assert_eq!(told.last(), Some(&Tell::Stage(Stage::Ready)));
    for input in agent_inputs() {
        assert_eq!(step(&mut mind, 121, input), []);
    }
    // A complete empty list, on the other hand, is a change.
    let told = step(&mut mind, 122, Input::Slices(Arc::default()));
    assert!(matches!(&told[..], [Tell::Targets(targets)] if targets.pods.is_empty() && targets.service.is_some()));
}

#[test]
fn a_short_loss_is_not_worth_a_word() {
    let (mut mind, _) = ready(Role::Agent);
    assert_eq!(step(&mut mind, 100, Input::Link(Watch::Slices, Link::Lost("cut".into()))), []);
    assert_eq!(step(&mut mind, 105, Input::Link(Watch::Slices, Link::Good)), []);
    assert_eq!(step(&mut mind, 200, Input::Tick), []);
}

#[test]
fn the_kill_switch_is_never_switched_off_by_a_loss() {
    let policy = |value: &str| {
        Input::Policy(snapshot::<ConfigMap>(
            &json!({"metadata": {"name": "nameward-policy", "namespace": "nameward"}, "data": {"paused": value}}),
        ))
    };
    let (mut mind, _) = ready(Role::Agent);
    assert_eq!(step(&mut mind, 2, policy("true")), [Tell::KillSwitch(KillSwitch::On)]);
    assert_eq!(step(&mut mind, 3, Input::Link(Watch::Policy, Link::Lost("403".into()))), []);
    assert_eq!(step(&mut mind, 4, Input::Link(Watch::Policy, Link::Good)), []);
    assert_eq!(step(&mut mind, 5, policy("false")), [Tell::KillSwitch(KillSwitch::Off)]);
    assert_eq!(step(&mut mind, 6, policy("maybe")), [Tell::KillSwitch(KillSwitch::On)], "not plainly no is yes");
    assert_eq!(step(&mut mind, 7, Input::Policy(Arc::default())), [Tell::KillSwitch(KillSwitch::Off)]);
    let told = step(&mut mind, 8, Input::Link(Watch::Policy, Link::Lost("403".into())));
    assert_eq!(told, [Tell::KillSwitch(KillSwitch::UnreadableSince(at(8).mono))]);
    let fresh = mind_switch_before_anything_is_read();
    assert!(!fresh.allows(at(3600).mono), "nothing is allowed before it was read");
}

fn mind_switch_before_anything_is_read() -> KillSwitch {
    let told = step(&mut mind(Role::Agent), 3600, Input::Tick);
    told.iter().find_map(|tell| if let Tell::KillSwitch(state) = tell { Some(*state) } else { None }).unwrap()
}

fn kills(told: &[Tell]) -> Vec<&ContainerOomKilled> {
    told.iter().filter_map(|tell| if let Tell::OomKilled(kill) = tell { Some(kill) } else { None }).collect()
}

#[test]
fn each_recorded_kill_is_told_once() {
    let list = file("faults/coredns-oomkilled.pods.json");
    let seen = SeenKills::new("2026-11-22T09:56:00Z".parse().unwrap());
    let mut mind = WatcherMind::new(Role::Agent, Settings::default(), seen.clone());
    // Before the Service is known nobody can say that these are CoreDNS pods.
    assert!(kills(&step(&mut mind, 1, Input::LocalPods(snapshot(&list)))).is_empty());
    let told = step(&mut mind, 2, Input::Service(snapshot(&file("iptables/api.kube-dns-service.json"))));
    let found = kills(&told);
    assert_eq!(found.len(), 3, "two of the pod that shows state and lastState, one of the other: {found:?}");
    assert!(found.iter().all(|kill| kill.container == "coredns" && kill.memory_limit == Some(7 << 20)));
    assert!(found.iter().any(|kill| kill.restarts == 3 && kill.node.as_ref().unwrap().as_str() == "node2"));
    assert!(kills(&step(&mut mind, 3, Input::LocalPods(snapshot(&list)))).is_empty());
    // What was `state` becomes `lastState` on the next restart: the same kill.
    let mut later = list.clone();
    let status = &mut later["items"][1]["status"]["containerStatuses"][0];
    status["lastState"] = status["state"].clone();
    status["state"] = json!({"running": {"startedAt": "2026-11-22T09:58:40Z"}});
    assert!(kills(&step(&mut mind, 4, Input::LocalPods(snapshot(&later)))).is_empty());
    // A rebuilt actor gets the same memory.
    let mut rebuilt = WatcherMind::new(Role::All, Settings::default(), seen);
    assert!(kills(&step(&mut rebuilt, 5, Input::DnsPods(snapshot(&list)))).is_empty());
    // A process that starts half an hour later takes them for history.
    let mut late =
        WatcherMind::new(Role::All, Settings::default(), SeenKills::new("2026-11-22T10:30:00Z".parse().unwrap()));
    assert!(kills(&step(&mut late, 5, Input::DnsPods(snapshot(&list)))).is_empty());
}

#[test]
fn a_pod_that_is_no_dns_pod_is_not_told_of() {
    let mut list = file("faults/coredns-oomkilled.pods.json");
    for pod in list["items"].as_array_mut().unwrap() {
        pod["metadata"]["labels"] = json!({"app": "other"});
    }
    let mut mind = mind(Role::Agent);
    step(&mut mind, 1, Input::Service(snapshot(&file("iptables/api.kube-dns-service.json"))));
    assert!(kills(&step(&mut mind, 2, Input::LocalPods(snapshot(&list)))).is_empty());
}

#[test]
fn the_recorded_watch_moves_the_snapshot() {
    let transcript = file("api-transcript.json");
    let pair = transcript.as_array().unwrap().iter().find(|pair| pair["name"] == "watch-evict-and-replace").unwrap();
    let events = pair["response"]["events"].as_array().unwrap();
    assert_eq!(events.len(), 14);
    let mut store: Store<Pod> = Store::default();
    let mut mind = mind(Role::Agent);
    let (mut came, mut gone, mut terminating) = (Vec::new(), Vec::new(), Vec::new());
    for event in events {
        let kind = event["type"].as_str().unwrap();
        if kind == "BOOKMARK" {
            continue;
        }
        let pod: Pod = serde_json::from_value(event["object"].clone()).unwrap();
        let held = if kind == "DELETED" { store.delete(&key(&pod)) } else { store.apply(key(&pod), pod) };
        for tell in step(&mut mind, 1, Input::LocalPods(held)) {
            match tell {
                Tell::Pod(PodChanged::Applied(pod)) if pod.terminating => terminating.push(pod.uid),
                Tell::Pod(PodChanged::Applied(pod)) => came.push((pod.uid, pod.ips, pod.running)),
                Tell::Pod(PodChanged::Gone(uid)) => gone.push(uid),
                _ => {}
            }
        }
    }
    let evicted = PodUid::from("c8657e03-3c27-447f-8bf3-c773c77e2db9");
    assert_eq!(gone.as_slice(), std::slice::from_ref(&evicted));
    assert!(terminating.contains(&evicted));
    let replacement = came.iter().find(|(uid, _, running)| *uid != evicted && *running).expect("a replacement runs");
    assert_eq!(replacement.1.len(), 1);
}

fn coordinator() -> (WatcherMind, Vec<Tell>) {
    let (mut mind, mut told) = ready(Role::All);
    let pods = file("iptables/api.coredns-pods.json");
    let deployment = file("iptables/api.coredns-deployment.json");
    let agents = json!({"items": [
        {"metadata": {"name": "node1", "uid": "a1", "resourceVersion": "7"}, "spec": {},
         "status": {"sequence": 3, "version": "0.1.0", "selfCheck": true, "namespaces": 1, "matrix": {"rows": []}, "verdicts": []}},
        {"metadata": {"name": "node2", "uid": "a2", "resourceVersion": "8"}, "spec": {"requests": 5}, "status": {"verdicts": [{"cause": "from-the-future"}]}},
    ]});
    let budgets = json!({"items": [{"metadata": {"name": "kube-dns", "namespace": "kube-system", "generation": 1},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"k8s-app": "kube-dns"}}},
        "status": {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "observedGeneration": 1}}]});
    let nodes =
        json!({"items": [{"metadata": {"name": "node1", "uid": "n1"}}, {"metadata": {"name": "node2", "uid": "n2"}}]});
    for input in [
        Input::DnsPods(snapshot(&pods)),
        Input::Deployments(snapshot::<Deployment>(&deployment)),
        Input::Budgets(snapshot(&budgets)),
        Input::Nodes(snapshot(&nodes)),
        Input::Namespaces(Arc::default()),
        Input::Agents(snapshot(&agents)),
        Input::Incidents(Arc::default()),
    ] {
        told.extend(step(&mut mind, 2, input));
    }
    (mind, told)
}

fn views(told: &[Tell]) -> Vec<Arc<ClusterView>> {
    told.iter().filter_map(|tell| if let Tell::View(view) = tell { Some(view.clone()) } else { None }).collect()
}

#[test]
fn the_coordinator_sees_the_whole_cluster() {
    let (mut mind, told) = coordinator();
    let [view] = &views(&told)[..] else { panic!("one view when everything is known") };
    assert!(view.complete);
    assert_eq!(view.fresh_as_of, at(2).mono);
    assert_eq!(view.pods.len(), 2);
    assert!(view.pods.iter().all(|pod| pod.ready && pod.containers[0].memory_limit == Some(170 << 20)));
    let workload = view.workload.as_ref().unwrap();
    assert_eq!((workload.key.name.as_str(), workload.container.as_deref()), ("coredns", Some("coredns")));
    assert_eq!((workload.replicas, workload.memory_limit, workload.paused), (2, Some(170 << 20), false));
    assert!(!view.rollout.in_progress);
    assert_eq!(view.budgets[0].matches.len(), 2);
    assert_eq!(view.agents.len(), 2);
    assert_eq!(view.agents[0].report.as_ref().unwrap().sequence, 3);
    assert!(view.agents[1].report.is_none(), "a report that cannot be read is none, and breaks nothing");
    assert_eq!(view.agents[0].changed_at, at(2).mono);
    assert!(told.contains(&Tell::Rollout(RolloutObserved::default())));
    // Nothing changes: the view is told again after a while, to say that it is fresh.
    assert_eq!(mind.deadline(), Some(at(7).mono));
    let told = step(&mut mind, 7, Input::Tick);
    assert_eq!(views(&told)[0].fresh_as_of, at(7).mono);
    // Lost: its age grows.
    step(&mut mind, 8, Input::Link(Watch::Nodes, Link::Lost("cut".into())));
    let told = step(&mut mind, 20, Input::Tick);
    assert_eq!(views(&told)[0].fresh_as_of, at(8).mono);
}

#[test]
fn what_an_evicted_or_finished_pod_leaves_is_no_pod() {
    for (phase, listed) in [("Running", 3), ("Pending", 3), ("Failed", 2), ("Succeeded", 2)] {
        let (mut mind, _) = coordinator();
        let mut pods = file("iptables/api.coredns-pods.json");
        let mut left = pods["items"][0].clone();
        left["metadata"]["name"] = json!("coredns-left");
        left["metadata"]["uid"] = json!("left");
        left["status"]["phase"] = json!(phase);
        left["status"]["reason"] = json!("Evicted");
        left["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
        pods["items"].as_array_mut().unwrap().push(left.clone());
        let told = step(&mut mind, 10, Input::DnsPods(snapshot(&pods)));
        let view = &views(&told).pop().unwrap_or_else(|| views(&step(&mut mind, 20, Input::Tick))[0].clone());
        assert_eq!((view.pods.len(), view.coredns.len()), (listed, listed), "{phase}");
        assert_eq!(view.budgets[0].matches.len(), listed, "{phase}");
        // Nor does the agent of its node tell of it.
        let told = step(&mut mind, 21, Input::LocalPods(snapshot(&json!({"items": [left]}))));
        let told = told.iter().any(|tell| matches!(tell, Tell::Coredns(states) if !states.is_empty()));
        assert_eq!(told, listed == 3, "{phase}");
        let killed = |n: u32| {
            let over = json!({"exitCode": 137, "reason": "OOMKilled", "finishedAt": format!("2026-11-22T10:00:0{n}Z")});
            let mut killed = left.clone();
            killed["status"]["containerStatuses"] =
                json!([{"name": "coredns", "restartCount": n, "state": {"terminated": over}}]);
            killed
        };
        let told = (1..3).any(|n| {
            pods["items"][2] = killed(n);
            let told = step(&mut mind, 21 + u64::from(n), Input::DnsPods(snapshot(&pods)));
            told.iter().any(|tell| matches!(tell, Tell::OomKilled(_)))
        });
        assert_eq!(told, listed == 3, "{phase}: of what is over the limit says nothing");
    }
}

#[test]
fn a_rollout_is_seen_and_mere_unavailability_is_none() {
    let (mut mind, _) = coordinator();
    let mut deployment = file("iptables/api.coredns-deployment.json");
    deployment["status"]["availableReplicas"] = json!(0);
    deployment["status"]["readyReplicas"] = json!(0);
    let told = step(&mut mind, 10, Input::Deployments(snapshot(&deployment)));
    assert!(!views(&told)[0].rollout.in_progress, "pods that fail are the fault, not a rollout");
    deployment["status"]["updatedReplicas"] = json!(1);
    let told = step(&mut mind, 11, Input::Deployments(snapshot(&deployment)));
    assert!(told.iter().any(|tell| matches!(tell, Tell::Rollout(rollout) if rollout.in_progress)));
    assert!(views(&told)[0].rollout.because.contains("1 of 2"));
}

#[test]
fn a_pod_that_asks_to_be_left_alone_is_marked() {
    let mut list = file("iptables/api.pods-on-node1.json");
    list["items"][0]["metadata"]["annotations"] = json!({"nameward.dev/ignore": "true"});
    let told = step(&mut mind(Role::Agent), 1, Input::LocalPods(snapshot(&list)));
    let ignored = told.iter().filter(|t| matches!(t, Tell::Pod(PodChanged::Applied(pod)) if pod.ignored)).count();
    assert_eq!(ignored, 1);
}

#[test]
fn a_namespace_that_asks_to_be_left_alone_is_known_by_the_coordinator_and_obeyed_by_the_agent() {
    let (mut mind, _) = coordinator();
    let namespace = |name: &str, annotation: serde_json::Value| json!({"metadata": {"name": name, "annotations": {"nameward.dev/ignore": annotation, "other": "x"}}});
    let list = json!({"items": [namespace("shop", json!("true")), namespace("back", json!("false")),
        {"metadata": {"name": "kube-system"}}]});
    let told = step(&mut mind, 10, Input::Namespaces(snapshot(&list)));
    assert_eq!(views(&told)[0].ignored_namespaces, ["shop"]);
    assert_eq!(views(&told)[0].selector.get("k8s-app").map(String::as_str), Some("kube-dns"));

    let (mut mind, told) = ready(Role::Agent);
    let pods = |told: &[Tell]| -> Vec<(String, bool)> {
        let pod = |tell: &Tell| match tell {
            Tell::Pod(PodChanged::Applied(pod)) => Some((pod.key.namespace.clone(), pod.ignored)),
            _ => None,
        };
        told.iter().filter_map(pod).collect()
    };
    let namespaces: std::collections::BTreeSet<String> = pods(&told).into_iter().map(|(of, _)| of).collect();
    let left_alone = namespaces.first().unwrap().clone();
    let concerned = pods(&told).iter().filter(|(of, ignored)| *of == left_alone && !ignored).count();
    assert!(concerned > 0);
    let orders = |names: &[&str]| {
        let spec = json!({"ignoredNamespaces": names});
        Input::OwnAgent(snapshot(&json!({"metadata": {"name": "node1"}, "spec": spec})))
    };
    let told = step(&mut mind, 20, orders(&[&left_alone]));
    assert_eq!(pods(&told), vec![(left_alone.clone(), true); concerned], "{told:?}");
    assert_eq!(pods(&step(&mut mind, 21, orders(&[&left_alone]))), []);
    assert_eq!(pods(&step(&mut mind, 22, orders(&[]))), vec![(left_alone, false); concerned]);
}

#[test]
fn no_service_is_told_apart_from_no_answer() {
    let mut mind = mind(Role::Agent);
    let told = step(&mut mind, 1, Input::NotFound("no DNS Service found: tried …".into()));
    assert!(matches!(told.last(), Some(Tell::Stage(Stage::Starting(why))) if why.contains("no DNS Service found")));
    let none: Snapshot<Service> = Arc::default();
    step(&mut mind, 2, Input::Service(none));
    let empty: Snapshot<EndpointSlice> = Arc::default();
    let told = step(&mut mind, 2, Input::Slices(empty));
    assert!(told.iter().any(|tell| matches!(tell, Tell::Targets(targets) if targets.service.is_none())));
}
