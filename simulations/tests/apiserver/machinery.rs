//! Controllers and kubelets.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{EvictParams, Patch, PatchParams};
use nameward_simulations::apiserver::Handle;
use nameward_simulations::machinery::{ExitReason, PodEvent, Settings};
use serde_json::{Value, json};

use crate::bench::{Bench, name, quick, ready, uid};

fn settled(handle: &Handle) -> bool {
    let pods = handle.list("Pod", "kube-system", "k8s-app=kube-dns");
    pods.len() == 2
        && pods.iter().all(ready)
        && handle.get("PodDisruptionBudget", "kube-system", "kube-dns").unwrap()["status"]["disruptionsAllowed"] == 1
}

#[tokio::test]
async fn the_cluster_comes_up_as_recorded() {
    let bench = Bench::cluster().await;
    let pods = bench.coredns();
    let nodes: Vec<&str> = pods.iter().map(|pod| pod["spec"]["nodeName"].as_str().unwrap()).collect();
    assert_ne!(nodes[0], nodes[1], "replicas are spread");
    bench
        .until("the slice lists both", |handle| {
            handle.list("EndpointSlice", "kube-system", "kubernetes.io/service-name=kube-dns").first().is_some_and(
                |slice| {
                    slice["endpoints"]
                        .as_array()
                        .is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["conditions"]["ready"] == true))
                },
            )
        })
        .await;
    let slice = &bench.handle.list("EndpointSlice", "kube-system", "")[0];
    assert_eq!(slice["ports"].as_array().unwrap().len(), 3);
    assert_eq!(slice["endpoints"][0]["targetRef"]["kind"], "Pod");
    bench
        .until("the Deployment says so", |handle| {
            let status = handle.get("Deployment", "kube-system", "coredns").unwrap()["status"].clone();
            status["readyReplicas"] == 2 && status["observedGeneration"] == 1
        })
        .await;
    let typed: k8s_openapi::api::apps::v1::Deployment =
        serde_json::from_value(bench.handle.get("Deployment", "kube-system", "coredns").unwrap()).unwrap();
    assert_eq!(typed.status.unwrap().available_replicas, Some(2));
    let typed: Pod = serde_json::from_value(pods[0].clone()).unwrap();
    assert_eq!(typed.status.unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test]
async fn an_eviction_and_its_replacement_tell_what_was_recorded() {
    // Slow enough for a second eviction before the replacement is ready.
    let bench = Bench::cluster_with(Settings { start_delay: Duration::from_secs(20), ..quick() }).await;
    let client = bench.client("admin").await;
    let pods: Api<Pod> = Api::namespaced(client, "kube-system");
    let [victim, second] = [0, 1].map(|at| name(&bench.coredns()[at]));
    let mut watch = bench.handle.watch("Pod", "kube-system", "k8s-app=kube-dns").unwrap();
    for _ in 0..2 {
        assert_eq!(watch.next().await.unwrap().kind, "ADDED");
    }
    pods.evict(&victim, &EvictParams::default()).await.unwrap();
    let refused = pods.evict(&second, &EvictParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));
    let mut ours = Vec::new();
    let mut replacement = None;
    while !ours.iter().any(|(_, kind, _): &(bool, &str, Value)| *kind == "DELETED")
        || replacement.as_ref().is_none_or(|pod: &Value| !ready(pod))
    {
        let event = tokio::time::timeout(crate::bench::PATIENCE, watch.next()).await.unwrap().unwrap();
        let of_victim = name(&event.object) == victim;
        if !of_victim && name(&event.object) != second {
            replacement = Some(event.object.clone());
        }
        ours.push((of_victim, event.kind, event.object));
    }
    let of = |victim: bool| {
        ours.iter().filter(move |(which, _, _)| *which == victim).map(|(_, kind, object)| (*kind, object))
    };
    // Condition, deletion mark, observed generation, end, grace 0, gone: as recorded.
    let kinds: Vec<&str> = of(true).map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["MODIFIED", "MODIFIED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]);
    let steps: Vec<&Value> = of(true).map(|(_, object)| object).collect();
    assert_eq!(steps[0]["status"]["conditions"].as_array().unwrap().last().unwrap()["type"], "DisruptionTarget");
    assert!(steps[0]["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(steps[1]["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(steps[3]["status"]["phase"], "Succeeded");
    assert_eq!(steps[4]["metadata"]["deletionGracePeriodSeconds"], 0);
    let fresh: Vec<&Value> = of(false).filter(|(_, object)| name(object) != second).map(|(_, object)| object).collect();
    assert_eq!(fresh[0]["status"], json!({"phase": "Pending", "qosClass": "Burstable"}));
    assert_eq!(fresh[1]["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(fresh[2]["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(fresh.last().unwrap()["status"]["phase"], "Running");
    bench.until("all is well again", settled).await;
}

#[tokio::test]
async fn oom_kills_show_as_recorded_and_back_off() {
    let bench = Bench::cluster().await;
    let events = bench.machinery.as_ref().unwrap().events();
    let victim = bench.coredns()[0].clone();
    let (pod, id) = (name(&victim), uid(&victim));
    let status =
        |handle: &Handle| handle.get("Pod", "kube-system", &pod).unwrap()["status"]["containerStatuses"][0].clone();
    for kill in 0..3 {
        bench
            .until("it runs", |handle| {
                status(handle)["state"]["running"].is_object() && status(handle)["restartCount"] == kill
            })
            .await;
        let kill = PodEvent::Exited { uid: id.clone(), reason: ExitReason::OomKilled, exit_code: 137 };
        events.send(kill).await.unwrap();
        bench.until("it was killed", |handle| status(handle)["state"]["terminated"]["reason"] == "OOMKilled").await;
        assert_eq!(status(&bench.handle)["state"]["terminated"]["exitCode"], 137);
    }
    bench.until("it waits", |handle| status(handle)["state"]["waiting"]["reason"] == "CrashLoopBackOff").await;
    let now = status(&bench.handle);
    assert_eq!(now["lastState"]["terminated"]["reason"], "OOMKilled");
    assert!(
        now["state"]["waiting"]["message"]
            .as_str()
            .unwrap()
            .starts_with("back-off 20s restarting failed container=coredns pod=")
    );
    assert_eq!(now["ready"], false);
    bench
        .until("the slice says that it is not ready", |handle| {
            handle.list("EndpointSlice", "kube-system", "")[0]["endpoints"].as_array().is_some_and(|all| {
                all.iter().any(|one| one["targetRef"]["uid"] == id.as_str() && one["conditions"]["ready"] == false)
            })
        })
        .await;
    bench.until("it runs again", |handle| status(handle)["restartCount"] == 3 && status(handle)["ready"] == true).await;
    assert!(bench.runtime.done().contains(&format!("start {pod} 3")));
}

#[tokio::test]
async fn memory_is_raised_by_resize_and_by_template() {
    let bench = Bench::cluster().await;
    let client = bench.client("coordinator").await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let before = bench.coredns();
    let (pod, id) = (name(&before[0]), uid(&before[0]));
    let limit = json!({"spec": {"containers": [{"name": "coredns", "resources": {"limits": {"memory": "200Mi"}}}]}});
    let path = format!("/api/v1/namespaces/kube-system/pods/{pod}/resize");
    let request = http::Request::patch(path).header("content-type", "application/strategic-merge-patch+json");
    client.request::<Pod>(request.body(limit.to_string().into_bytes()).unwrap()).await.unwrap();
    bench
        .until("the kubelet has done it", |handle| {
            let pod = handle.get("Pod", "kube-system", &pod).unwrap();
            pod["status"]["containerStatuses"][0]["resources"]["limits"]["memory"] == "200Mi"
                && pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
        })
        .await;
    assert!(bench.runtime.done().contains(&format!("resize {id} {}", 200 << 20)));
    let refused = pods.patch(&pod, &PatchParams::default(), &Patch::Strategic(&limit)).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 403), "only the subresource may be written");
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(client, "kube-system");
    let raise = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "coredns", "resources": {"limits": {"memory": "340Mi"}}}]}}}});
    deployments.patch("coredns", &PatchParams::default(), &Patch::Strategic(&raise)).await.unwrap();
    let never_both_away = |handle: &Handle| {
        let pods = handle.list("Pod", "kube-system", "k8s-app=kube-dns");
        assert!(pods.iter().any(ready), "one answers all the time");
        pods.len() == 2
            && pods
                .iter()
                .all(|pod| ready(pod) && pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "340Mi")
    };
    bench.until("both pods have it", never_both_away).await;
}

#[tokio::test]
async fn scale_and_budget_follow() {
    let bench = Bench::cluster().await;
    let client = bench.client("coordinator").await;
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(client, "kube-system");
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    deployments.patch_scale("coredns", &PatchParams::default(), &three).await.unwrap();
    bench
        .until("a third pod is ready, and counted", |handle| {
            let budget = handle.get("PodDisruptionBudget", "kube-system", "kube-dns").unwrap();
            handle.list("Pod", "kube-system", "k8s-app=kube-dns").iter().filter(|pod| ready(pod)).count() == 3
                && budget["status"]["expectedPods"] == 3
                && budget["status"]["currentHealthy"] == 3
        })
        .await;
    // The coordinator may not.
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let admin = bench.client("admin").await;
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(admin, "kube-system");
    deployments.patch_scale("coredns", &PatchParams::default(), &none).await.unwrap();
    bench
        .until("the slice is empty as recorded", |handle| {
            let slice = &handle.list("EndpointSlice", "kube-system", "")[0];
            slice["endpoints"].is_null() && slice["ports"].is_null() && handle.list("Pod", "kube-system", "").is_empty()
        })
        .await;
}

#[tokio::test]
async fn readiness_is_what_the_runtime_says() {
    let bench = Bench::cluster().await;
    let machinery = bench.machinery.as_ref().unwrap();
    let mut slices = machinery.slices();
    let victim = bench.coredns()[0].clone();
    let event = PodEvent::Ready { uid: uid(&victim), ready: false };
    machinery.events().send(event).await.unwrap();
    let told = async {
        loop {
            let now = slices.borrow_and_update().clone();
            let all = now.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
            if all
                .into_iter()
                .any(|one| one["targetRef"]["uid"] == uid(&victim).as_str() && one["conditions"]["ready"] == false)
            {
                return;
            }
            slices.changed().await.unwrap();
        }
    };
    tokio::time::timeout(crate::bench::PATIENCE, told).await.unwrap();
    bench
        .until("no disruption is allowed", |handle| {
            handle.get("PodDisruptionBudget", "kube-system", "kube-dns").unwrap()["status"]["disruptionsAllowed"] == 0
        })
        .await;
}

#[tokio::test]
async fn a_spent_budget_comes_back() {
    let settings = Settings { disruption_timeout: Duration::from_secs(2), ..quick() };
    let bench = Bench::cluster_with(settings).await;
    let client = bench.client("admin").await;
    // Written by hand: kube's `Api::evict` spells the member `delete_options`, which no API server reads.
    let victim = name(&bench.coredns()[0]);
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": victim},
                      "deleteOptions": {"preconditions": {"uid": "nobody"}}});
    let path = format!("/api/v1/namespaces/kube-system/pods/{victim}/eviction");
    let request = http::Request::post(path).header("content-type", "application/json");
    let refused = client.request::<Value>(request.body(body.to_string().into_bytes()).unwrap()).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 409));
    let allowed = |handle: &Handle| {
        handle.get("PodDisruptionBudget", "kube-system", "kube-dns").unwrap()["status"]["disruptionsAllowed"].clone()
    };
    assert_eq!(allowed(&bench.handle), 0);
    bench
        .until("the controller counts the disruption", |handle| {
            handle.get("PodDisruptionBudget", "kube-system", "kube-dns").unwrap()["status"]["currentHealthy"] == 1
        })
        .await;
    bench.until("it is forgotten", |handle| allowed(handle) == 1).await;
    assert_eq!(bench.coredns().len(), 2);
}
