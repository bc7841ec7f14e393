//! A served cluster, and clients of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use nameward_simulations::apiserver::{ApiServer, Handle, Options, User, manifests};
use nameward_simulations::machinery::{ClusterPlan, Machinery, PaperRuntime, Settings, seed_cluster};
use serde_json::{Value, json};

pub struct Bench {
    pub handle: Handle,
    pub runtime: Arc<PaperRuntime>,
    pub machinery: Option<Machinery>,
    pub url: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Nothing here takes longer, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Fast machinery.
pub fn quick() -> Settings {
    Settings { time_scale: 0.05, ..Settings::default() }
}

impl Bench {
    /// A server with the shipped roles and definitions, without objects and machinery.
    pub async fn bare() -> Self {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let mut all = manifests(&deploy.join("rbac")).unwrap();
        all.extend(manifests(&deploy.join("crds")).unwrap());
        all.extend(manifests(&deploy.join("admission")).unwrap());
        let tokens = BTreeMap::from([
            (
                "admin".to_owned(),
                User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() },
            ),
            ("node1".to_owned(), User::service_account("nameward", "nameward-agent", Some("node1"))),
            ("coordinator".to_owned(), User::service_account("nameward", "nameward-coordinator", None)),
            ("guest".to_owned(), User { name: "guest".into(), ..User::default() }),
        ]);
        let handle = ApiServer::new(Options { seed: 7, tokens, manifests: all, ..Options::default() }).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = handle.clone();
        let server = tokio::spawn(async move { serving.serve(listener).await });
        Self { handle, runtime: Arc::default(), machinery: None, url, server }
    }

    /// The recorded cluster, with its pods ready.
    pub async fn cluster() -> Self {
        Self::cluster_with(quick()).await
    }

    /// The same, at another pace.
    pub async fn cluster_with(settings: Settings) -> Self {
        let mut bench = Self::bare().await;
        seed_cluster(&bench.handle, &ClusterPlan::default()).unwrap();
        bench.machinery = Some(Machinery::start(&bench.handle, settings, bench.runtime.clone()));
        bench
            .until("two CoreDNS pods are ready, and the budget knows it", |handle| {
                let budget = handle.get("PodDisruptionBudget", "kube-system", "kube-dns").unwrap();
                budget["status"]["disruptionsAllowed"] == 1 && handle.list("Pod", "", "").len() == 6
            })
            .await;
        bench
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, holds: impl Fn(&Handle) -> bool) {
        let mut changes = self.handle.changes();
        let waiting = async {
            while !holds(&self.handle) {
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let pods: Vec<String> = self
                .handle
                .list("Pod", "", "")
                .iter()
                .map(|pod| format!("{} {}", pod["metadata"]["name"], pod["status"]))
                .collect();
            panic!("never: {what}\n{pods:#?}\n{:?}", self.runtime.done());
        }
    }

    /// A client from a kubeconfig, as a process of ours gets one.
    pub async fn client(&self, token: &str) -> Client {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": "default"}}],
        });
        let kubeconfig = Kubeconfig::from_yaml(&text.to_string()).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// CoreDNS pods that are not on their way out.
    pub fn coredns(&self) -> Vec<Value> {
        self.handle
            .list("Pod", "kube-system", "k8s-app=kube-dns")
            .into_iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect()
    }
}

pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

pub fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

pub fn ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}
