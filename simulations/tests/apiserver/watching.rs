//! Watches of the real client.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::{self, Event};
use nameward_simulations::apiserver::Stale;
use serde_json::json;

use crate::bench::{Bench, PATIENCE};

fn map(name: &str, value: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"v": value}}})
}

async fn next(stream: &mut (impl futures::Stream<Item = watcher::Result<Event<ConfigMap>>> + Unpin)) -> Option<String> {
    let event = tokio::time::timeout(PATIENCE, stream.next()).await.expect("an event comes").unwrap();
    Some(match event {
        Ok(Event::Init) => "init".into(),
        Ok(Event::InitApply(map)) => format!("listed {}", map.metadata.name.unwrap()),
        Ok(Event::InitDone) => "listed all".into(),
        Ok(Event::Apply(map)) => format!("applied {}", map.metadata.name.unwrap()),
        Ok(Event::Delete(map)) => format!("deleted {}", map.metadata.name.unwrap()),
        Err(error) => format!("error {}", if format!("{error:?}").contains("410") { "410" } else { "other" }),
    })
}

#[tokio::test]
async fn a_watcher_sees_all_and_comes_back_after_410() {
    for streaming in [false, true] {
        let bench = Bench::bare().await;
        bench.handle.create(map("a", "1")).unwrap();
        let api: Api<ConfigMap> = Api::default_namespaced(bench.client("admin").await);
        let config = watcher::Config::default().labels("v");
        let config = if streaming { config.streaming_lists() } else { config };
        let mut stream = Box::pin(watcher::watcher(api, config));
        for wanted in ["init", "listed a", "listed all"] {
            assert_eq!(next(&mut stream).await.unwrap(), wanted, "streaming {streaming}");
        }
        bench.handle.create(map("b", "1")).unwrap();
        assert_eq!(next(&mut stream).await.unwrap(), "applied b");
        bench.handle.patch("ConfigMap", "default", "a", json!({"metadata": {"labels": {"v": null}}})).unwrap();
        assert_eq!(next(&mut stream).await.unwrap(), "deleted a", "it left the selection");
        bench.handle.delete("ConfigMap", "default", "b").unwrap();
        assert_eq!(next(&mut stream).await.unwrap(), "deleted b");
        // Cut, while what comes next is forgotten: the watcher must list again.
        bench.handle.cut_watches();
        bench.handle.create(map("c", "1")).unwrap();
        bench.handle.compact();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "listed all") {
            seen.push(next(&mut stream).await.unwrap());
        }
        assert!(seen.contains(&"listed c".to_owned()), "{seen:?}");
    }
}

#[tokio::test]
async fn pages_are_of_one_moment() {
    let bench = Bench::bare().await;
    for name in ["a", "b", "c", "d", "e"] {
        bench.handle.create(map(name, "1")).unwrap();
    }
    let api: Api<ConfigMap> = Api::default_namespaced(bench.client("admin").await);
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    bench.handle.delete("ConfigMap", "default", "c").unwrap();
    bench.handle.create(map("f", "1")).unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = api.list(&ListParams::default().limit(9).continue_token(&token)).await.unwrap();
    let names: Vec<&str> = rest.items.iter().map(|map| map.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["c", "d", "e"]);
    bench.handle.compact();
    let gone = api.list(&ListParams::default().limit(9).continue_token(&token)).await.unwrap_err();
    assert!(matches!(gone, kube::Error::Api(status) if status.code == 410));
}

#[tokio::test]
async fn a_stale_cache_answers_what_was() {
    let bench = Bench::bare().await;
    bench.handle.create(map("a", "1")).unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(bench.client("admin").await);
    bench.handle.stale(Stale::Cache);
    bench.handle.create(map("b", "1")).unwrap();
    let cached = api.list(&ListParams::default().match_any()).await.unwrap();
    assert_eq!(cached.items.len(), 1);
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 2, "a quorum read sees it");
    bench.handle.stale(Stale::None);
    assert_eq!(api.list(&ListParams::default().match_any()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn metadata_only_and_typed_reads() {
    let bench = Bench::cluster().await;
    let client = bench.client("admin").await;
    let pods: Api<Pod> = Api::all(client.clone());
    let on_node = pods.list(&ListParams::default().fields("spec.nodeName=node1")).await.unwrap();
    assert_eq!(on_node.items.len(), 3);
    let metadata = pods.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(metadata.items.len(), 6);
    let pods: Api<kube::core::PartialObjectMeta<Pod>> = Api::all(client.clone());
    let stream = watcher::watcher(pods, watcher::Config::default());
    let first: Vec<_> = stream.take(3).try_collect().await.unwrap();
    assert!(matches!(&first[1], Event::InitApply(pod) if pod.metadata.uid.is_some()));
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 2);
    let version = client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let made = maps.create(&PostParams::default(), &serde_json::from_value(map("x", "1")).unwrap()).await.unwrap();
    let mut stale = made.clone();
    stale.metadata.resource_version = Some("1".into());
    let refused = maps.replace("x", &PostParams::default(), &stale).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"));
}
