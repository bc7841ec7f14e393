//! Faults of the server.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{EvictParams, ListParams};
use nameward_simulations::apiserver::{Action, Match, Outage, Rule};
use serde_json::json;

use crate::bench::{Bench, PATIENCE, name};

#[tokio::test]
async fn a_lost_reply_leaves_the_act_done() {
    let bench = Bench::cluster().await;
    let pods: Api<Pod> = Api::namespaced(bench.client("coordinator").await, "kube-system");
    let matching = Match { acts_only: true, ..Match::on("create", "pods/eviction") };
    bench.handle.inject(Rule { matching, action: Action::LoseReply, times: Some(1) });
    let victim = name(&bench.coredns()[0]);
    let lost = pods.evict(&victim, &EvictParams::default()).await.unwrap_err();
    assert!(!matches!(lost, kube::Error::Api(_)), "{lost}");
    let entry = bench.handle.log().pop().unwrap();
    assert_eq!((entry.code, entry.reply_lost, entry.changed()), (201, true, true));
    let gone = bench.handle.get("Pod", "kube-system", &victim);
    assert!(gone.is_none_or(|pod| !pod["metadata"]["deletionTimestamp"].is_null()));
    pods.list(&ListParams::default()).await.expect("the next request is answered");
}

#[tokio::test]
async fn refusals_delays_and_outages() {
    let bench = Bench::bare().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(bench.client("admin").await);
    let all = || Match { resource: Some("configmaps".into()), ..Match::default() };
    bench.handle.inject(Rule {
        matching: all(),
        action: Action::Answer { code: 429, retry_after: Some(7) },
        times: Some(1),
    });
    let refused = maps.list(&ListParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 7));
    bench.handle.inject(Rule {
        matching: all(),
        action: Action::Answer { code: 503, retry_after: None },
        times: Some(1),
    });
    assert!(matches!(maps.list(&ListParams::default()).await, Err(kube::Error::Api(status)) if status.code == 503));
    bench.handle.inject(Rule { matching: all(), action: Action::Delay(Duration::from_millis(120)), times: Some(1) });
    let before = tokio::time::Instant::now();
    maps.list(&ListParams::default()).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(120));
    bench.handle.outage(Outage::Reset);
    assert!(!matches!(maps.list(&ListParams::default()).await, Ok(_) | Err(kube::Error::Api(_))));
    bench.handle.outage(Outage::None);
    maps.list(&ListParams::default()).await.unwrap();
    bench.handle.outage(Outage::Hang);
    let waiting = tokio::time::timeout(Duration::from_millis(150), maps.list(&ListParams::default())).await;
    assert!(waiting.is_err(), "nothing is answered");
    bench.handle.clear_faults();
    maps.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn watches_lag() {
    let bench = Bench::bare().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(bench.client("admin").await);
    bench.handle.lag_watches(Duration::from_millis(200));
    let version = bench.handle.version().to_string();
    let params = kube::api::WatchParams::default().disable_bookmarks();
    let mut stream = Box::pin(maps.watch(&params, &version).await.unwrap());
    let before = tokio::time::Instant::now();
    bench
        .handle
        .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late", "namespace": "default"}}))
        .unwrap();
    let event = tokio::time::timeout(PATIENCE, futures::StreamExt::next(&mut stream)).await.unwrap();
    assert!(matches!(event, Some(Ok(kube::api::WatchEvent::Added(_)))));
    assert!(before.elapsed() >= Duration::from_millis(200));
}
