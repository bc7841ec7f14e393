#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::error::Error;

use serde_json::json;

use super::*;
use crate::failure::Class;
use crate::testing::{Reply, kubeconfig, server};

async fn refused(settings: &Kubernetes) -> (ConnectError, String) {
    let Err(error) = connect(settings).await else { panic!("it should be refused") };
    let mut text = error.to_string();
    let mut at: &dyn Error = &error;
    while let Some(source) = at.source() {
        text.push_str(&format!(": {source}"));
        at = source;
    }
    (error, text)
}

#[tokio::test]
async fn a_missing_file_is_named_with_its_setting() {
    let settings = Kubernetes { kubeconfig: "/nowhere/kubeconfig".into(), ..Kubernetes::default() };
    let (error, text) = refused(&settings).await;
    assert!(matches!(error, ConnectError::Unreadable { .. }), "{text}");
    assert!(text.contains("/nowhere/kubeconfig") && text.contains("kubernetes.kubeconfig"), "{text}");
    assert!(text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn a_broken_file_is_named() {
    let (_folder, settings) = kubeconfig("http://127.0.0.1:1");
    std::fs::write(&settings.kubeconfig, "clusters: {").unwrap();
    let (error, text) = refused(&settings).await;
    assert!(matches!(error, ConnectError::Broken { .. }), "{text}");
    assert!(text.contains(&settings.kubeconfig), "{text}");
}

#[tokio::test]
async fn an_unknown_context_is_named_with_those_that_are_there() {
    let (_folder, mut settings) = kubeconfig("http://127.0.0.1:1");
    settings.context = "prod".into();
    let (error, text) = refused(&settings).await;
    assert!(matches!(error, ConnectError::UnknownContext { .. }), "{text}");
    assert!(text.contains("prod") && text.contains("lab") && text.contains("kubernetes.context"), "{text}");
}

#[tokio::test]
async fn https_can_be_set_up_without_a_call() {
    let (_folder, settings) = kubeconfig("https://127.0.0.1:1");
    let text = std::fs::read_to_string(&settings.kubeconfig).unwrap();
    let text = text.replace("cluster: {server", "cluster: {insecure-skip-tls-verify: true, server");
    std::fs::write(&settings.kubeconfig, text).unwrap();
    let connection = connect(&settings).await.unwrap();
    let error = connection.cluster.version().await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable, "{}", error.explain());
}

#[tokio::test]
async fn when_the_configured_address_is_lost_a_remembered_endpoint_serves() {
    let (address, seen) = server(|_| Reply::Answer(200, json!({"gitVersion": "v1.36.2"}))).await;
    let (_folder, settings) = kubeconfig("http://127.0.0.1:1");
    let connection = connect(&settings).await.unwrap();
    let error = connection.cluster.version().await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable);
    assert!(error.explain().contains("127.0.0.1:1 (Connection refused"), "{}", error.explain());
    connection.endpoints.remember(&[address]);
    assert_eq!(connection.cluster.version().await.unwrap(), "v1.36.2");
    assert_eq!(connection.endpoints.instead(), Some(address));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].header("host"), "127.0.0.1:1", "name and certificate are those of the configured address");
    assert_eq!(seen[0].header("user-agent"), crate::names::USER_AGENT);
    assert_eq!(seen[0].header("authorization"), "Bearer node1");
}

#[tokio::test]
async fn several_files_are_merged_as_kubectl_merges_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    // One file with the context that is current, another with its cluster and user.
    let contexts = write(
        "contexts",
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\ncontexts: [{name: lab, context: {cluster: far, user: me}}]\n",
    );
    let rest = write(
        "rest",
        "apiVersion: v1\nkind: Config\ncurrent-context: other\nclusters: [{name: far, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
         users: [{name: me, user: {token: x}}]\n",
    );
    let found = source::from_files(&[contexts.clone(), rest], "", "KUBECONFIG").await.unwrap();
    assert_eq!(found.config.cluster_url.to_string(), "http://127.0.0.1:1/");
    assert!(found.path.contains("contexts:"), "{}", found.path);
    let broken = write("broken", "clusters: {");
    let error = source::from_files(&[contexts, broken], "", "KUBECONFIG").await.map(|found| found.path).unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
}
