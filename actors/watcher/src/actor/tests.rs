#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Mutex;

use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::health::ActorName;
use nameward_messages::pods::PodChanged;
use nameward_supervision::{RestartBudget, Supervisor, inbox};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, broadcast};

use super::*;

#[derive(Clone, Debug)]
enum Push {
    /// An event on the watches whose path contains this.
    Event(&'static str, Value),
    /// Every watch is cut.
    Cut,
}

/// An API server of recorded lists whose watches do as the test says.
struct Api {
    push: broadcast::Sender<Push>,
    asked: Mutex<Vec<String>>,
    changed: Notify,
}

fn recorded(path: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures").join(path);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn answer(path: &str) -> Option<Value> {
    let list = |items: Value| json!({"kind": "List", "metadata": {"resourceVersion": "100"}, "items": items});
    let service = recorded("iptables/api.kube-dns-service.json");
    let slices = recorded("iptables/api.kube-dns-endpointslices.json");
    Some(match path.split('?').next().unwrap() {
        "/api/v1/namespaces/kube-system/services/kube-dns" => service,
        "/api/v1/namespaces/kube-system/services" => list(json!([service])),
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices" => list(slices["items"].clone()),
        "/api/v1/pods" => list(recorded("iptables/api.pods-on-node1.json")["items"].clone()),
        "/api/v1/namespaces/nameward/configmaps" => list(json!([])),
        "/apis/nameward.dev/v1alpha1/nodeagents" => list(json!([])),
        "/api/v1/namespaces/default/services/kubernetes" => {
            json!({"metadata": {"name": "kubernetes"}, "spec": {"clusterIPs": ["10.96.0.1"]}})
        }
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes" => {
            json!({"metadata": {"name": "kubernetes"},
            "addressType": "IPv4", "endpoints": [{"addresses": ["172.30.0.254"]}], "ports": [{"name": "https", "port": 6443}]})
        }
        _ => return None,
    })
}

impl Api {
    async fn start() -> (Arc<Self>, std::net::SocketAddr) {
        let api = Arc::new(Self { push: broadcast::channel(16).0, asked: Mutex::default(), changed: Notify::new() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, serving) = (listener.local_addr().unwrap(), api.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (api, address)
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut first = String::new();
            if stream.read_line(&mut first).await.unwrap_or(0) == 0 {
                return;
            }
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                line.clear();
            }
            let path = first.split_whitespace().nth(1).unwrap().to_owned();
            let watch = path.contains("watch=true");
            let mut pushed = self.push.subscribe();
            self.asked.lock().unwrap().push(path.clone());
            self.changed.notify_waiters();
            if !watch {
                let (status, body) = answer(&path).map_or_else(
                    || (404, json!({"kind": "Status", "code": 404, "message": path, "reason": "NotFound"})),
                    |body| (200, body),
                );
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                continue;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            loop {
                match pushed.recv().await.unwrap() {
                    Push::Event(on, event) if path.contains(on) => {
                        let text = format!("{event}\n");
                        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
                        stream.write_all(chunk.as_bytes()).await.unwrap();
                    }
                    Push::Event(..) => {}
                    Push::Cut => return,
                }
            }
        }
    }

    fn watches(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.contains("watch=true")).count()
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if condition() {
                    return;
                }
                // What is told wakes nobody here, so it is looked at from time to time too.
                let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes to pass in time");
    }
}

#[test]
fn an_agent_syncs_by_five_watches_and_survives_their_loss() {
    nameward_supervision::run(|| async {
        let (api, address) = Api::start().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeconfig");
        std::fs::write(
            &file,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: \"http://{address}\"}}}}]\n\
                 users: [{{name: a, user: {{token: node1}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n"
            ),
        )
        .unwrap();
        let mut config = Config::default();
        config.kubernetes.kubeconfig = file.display().to_string();
        let connection = nameward_cluster::connect::connect(&config.kubernetes).await.unwrap();
        let told: Arc<Mutex<Vec<Tell>>> = Arc::default();
        let hears = told.clone();
        let wiring = Wiring {
            connection: connection.clone(),
            role: Role::Agent,
            node: NodeName::from("node1"),
            seen: SeenKills::new(nameward_supervision::clock::now().wall),
            listeners: vec![Arc::new(move |tell| hears.lock().unwrap().push(tell))],
        };
        let mut supervisor = Supervisor::new(RestartBudget { max: 3, within: Duration::from_secs(60) });
        let (_outlet, inbox) = inbox::<WatcherMessage>(ActorName::Watcher, INBOX);
        supervisor.start(inbox, move || WatcherActor::new(&config, wiring.clone()));
        let has = |wanted: &dyn Fn(&Tell) -> bool| told.lock().unwrap().iter().any(wanted);
        api.until(|| has(&|tell| *tell == Tell::Stage(Stage::Ready)) && api.watches() == 5).await;
        api.until(|| !connection.endpoints.remembered().is_empty()).await;
        assert!(has(&|tell| matches!(tell, Tell::Targets(targets) if targets.pods.len() == 2)));
        assert!(has(&|tell| *tell == Tell::Pod(PodChanged::Synced)));
        assert!(has(&|tell| *tell == Tell::KillSwitch(KillSwitch::Off)));
        api.until(|| has(&|tell| matches!(tell, Tell::Targets(targets) if !targets.api_endpoints.is_empty()))).await;
        let asked = api.asked.lock().unwrap().join("\n");
        for part in ["fieldSelector=spec.nodeName%3Dnode1", "fieldSelector=metadata.name%3Dkube-dns", "kubernetes.io%2Fservice-name%3Dkube-dns"] {
            assert!(asked.contains(part), "{part} in {asked}");
        }
        // Cut: they come back from where they were, nothing is listed and nothing is told again.
        let lists = || api.asked.lock().unwrap().iter().filter(|p| !p.contains("watch=true") && p.contains("limit=")).count();
        let (listed, before) = (lists(), told.lock().unwrap().len());
        api.push.send(Push::Cut).unwrap();
        api.until(|| api.watches() == 10).await;
        assert_eq!((lists(), told.lock().unwrap().len()), (listed, before));
        // And go on.
        let mut pod = recorded("iptables/api.pods-on-node1.json")["items"][0].clone();
        pod["metadata"]["resourceVersion"] = json!("101");
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:00Z");
        api.push.send(Push::Event("/api/v1/pods", json!({"type": "MODIFIED", "object": pod}))).unwrap();
        api.until(|| has(&|tell| matches!(tell, Tell::Pod(PodChanged::Applied(pod)) if pod.terminating))).await;
        // 410: our place is forgotten; a new list, and again nothing is told twice.
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}});
        let before = told.lock().unwrap().len();
        api.push.send(Push::Event("/configmaps", gone)).unwrap();
        api.until(|| lists() == listed + 1 && api.watches() == 11).await;
        assert_eq!(told.lock().unwrap().len(), before);
        supervisor.drain(Duration::from_secs(2)).await;
    })
    .unwrap();
}
