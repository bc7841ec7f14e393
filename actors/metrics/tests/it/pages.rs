//! The endpoint with the real actor.

use std::net::SocketAddr;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::health::{ActorName, Stage};
use nameward_metrics::{About, BindError, MetricsActor, MetricsInput, Pages, bind};
use nameward_supervision::{Actor, Context, Message, Outlet, RestartBudget, Supervisor, WhenFull, inbox, run};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::*;
use crate::exposition::validate;

/// Anything that never comes true fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    supervisor: Supervisor,
    outlet: Outlet<MetricsInput>,
    address: SocketAddr,
}

fn scene(test: impl AsyncFnOnce(Scene)) {
    run(|| async {
        let endpoint = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.address();
        let mut supervisor = Supervisor::new(RestartBudget { max: 2, within: Duration::from_secs(60) });
        let about = About { version: "1.2.3".into(), node: "node1".into(), role: "agent".into() };
        let pages = Pages::new(about, supervisor.board()).unwrap();
        let serving = endpoint.serve(pages.clone());
        let (outlet, inbox) = inbox(ActorName::Metrics, 64);
        let config = Config::default();
        supervisor.start(inbox, move || MetricsActor::new(&config, pages.clone()));
        tokio::time::timeout(PATIENCE, test(Scene { supervisor, outlet, address })).await.expect("hangs");
        serving.abort();
    })
    .unwrap();
}

impl Scene {
    fn tell(&self, inputs: impl IntoIterator<Item = MetricsInput>) {
        for input in inputs {
            assert!(self.outlet.tell(input).accepted());
        }
    }

    async fn get(&self, page: &str) -> (u16, String) {
        ask(self.address, &format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    /// Asks until the page is as wanted.
    async fn until(&self, page: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        loop {
            let (status, body) = self.get(page).await;
            if wanted(status, &body) {
                return body;
            }
        }
    }

    async fn state_with(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let body = self.until("/state", |_, body| wanted(&serde_json::from_str(body).unwrap())).await;
        serde_json::from_str(&body).unwrap()
    }
}

pub(crate) async fn head(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply.split_once("\r\n\r\n").unwrap().0.to_ascii_lowercase()
}

pub(crate) async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    assert!(!chunked, "bodies have a length");
    (status, body.to_owned())
}

#[test]
fn the_text_is_valid_and_says_what_was_told() {
    scene(async |scene: Scene| {
        scene.tell(a_bad_day());
        scene.state_with(|state| state["config"]["last_error"].is_string()).await;
        let (status, text) = scene.get("/metrics").await;
        assert_eq!(status, 200);
        let samples = validate(&text).unwrap();
        for (series, value) in [
            ("oom_count", 1.0),
            ("restart_count", 1.0),
            ("total_failures", 3.0),
            ("dns_query_count", 4.0),
            ("dns_query_response_time_count", 2.0),
            ("nameward_build_info{version=\"1.2.3\"}", 1.0),
            ("nameward_coredns_up{coredns_node=\"node1\",coredns_pod=\"coredns-a\",transport=\"udp\"}", 0.0),
            ("nameward_verdicts{cause=\"coredns-udp-dead\",scope=\"coredns-pod\"}", 1.0),
            ("nameward_actor_alive{actor=\"metrics\"}", 1.0),
            ("nameward_suspected_paths", 2.0),
            ("nameward_leader", 1.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}\n{text}");
        }
        // The pod is replaced: nothing speaks of it any more.
        scene.tell([targets(&[("coredns-c", 4)])]);
        let text = scene.until("/metrics", |_, body| !body.contains("coredns-a")).await;
        validate(&text).unwrap();
        assert!(!text.contains("nameward_coredns_up{"));
    });
}

#[test]
fn the_prototypes_names_are_there_from_the_start() {
    scene(async |scene: Scene| {
        let samples = validate(&scene.get("/metrics").await.1).unwrap();
        for name in ["oom_count", "restart_count", "total_failures", "dns_query_count"] {
            assert_eq!(samples.get(name), Some(&0.0));
        }
        assert!(samples.contains_key("dns_query_response_time_bucket{le=\"0.005\"}"));
    });
}

#[test]
fn the_state_has_its_shape() {
    scene(async |scene: Scene| {
        scene.tell(a_bad_day());
        let state = scene.state_with(|state| state["config"]["last_error"].is_string()).await;
        let keys: Vec<_> = state.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "actors",
            "api_reachable",
            "awaited",
            "config",
            "deferred",
            "incidents",
            "leader",
            "losses",
            "matrix",
            "matrix_left_out",
            "namespaces",
            "node",
            "orders",
            "published_at",
            "ready",
            "recovered",
            "remedies",
            "report",
            "role",
            "round",
            "stages",
            "suspected",
            "targets",
            "troubles",
            "uptime_s",
            "verdicts",
            "version",
        ];
        assert_eq!(keys, expected);
        assert_eq!(state["matrix"].as_array().unwrap().len(), 4);
        assert_eq!(state["matrix"][0]["from"], "host");
        assert_eq!(state["matrix"][0]["outcome"], "refused");
        assert_eq!(state["matrix"][0]["detail"], "refused by 10.244.1.2");
        assert_eq!(state["verdicts"][0]["cause"], "coredns-udp-dead");
        assert_eq!(state["incidents"][0]["phase"], "Verifying");
        assert_eq!(state["remedies"][1]["outcome"], "verified");
        assert_eq!(state["stages"]["metrics"]["stage"], "ready");
        assert_eq!(state["actors"]["metrics"]["health"]["alive"], true);
        assert_eq!(state["suspected"][0]["path"], "host -> coredns-a (10.244.1.2) over udp");
    });
}

#[test]
fn it_only_reads() {
    scene(async |scene: Scene| {
        for page in ["/", "/status.json", "/state", "/metrics", "/nameward.js"] {
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                let request = format!(
                    "{method} {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                );
                assert_eq!(ask(scene.address, &request).await.0, 405, "{method} {page}");
            }
        }
        assert_eq!(scene.get("/nothing").await.0, 404);
        assert_eq!(scene.get("/").await.0, 200);
        let (status, _) = ask(scene.address, "rubbish\r\n\r\n").await;
        assert_eq!(status, 400);
    });
}

#[test]
fn the_page_and_its_json_say_the_same() {
    scene(async |scene: Scene| {
        scene.tell(a_bad_day());
        scene.state_with(|state| state["config"]["last_error"].is_string()).await;
        let (status, page) = scene.get("/").await;
        assert_eq!(status, 200);
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("coredns-udp-dead"), "{page}");
        let (status, json) = scene.get("/status.json").await;
        assert_eq!(status, 200);
        let shown: nameward_messages::status::Status = serde_json::from_str(&json).unwrap();
        assert_eq!((shown.source.role.as_str(), shown.source.version.as_str()), ("agent", "1.2.3"));
        assert!(page.contains(&shown.headline), "{}", shown.headline);
        for (asset, kind) in
            [("/nameward.css", "text/css"), ("/nameward.js", "text/javascript"), ("/nameward.svg", "image/svg")]
        {
            assert!(page.contains(asset.trim_start_matches('/')));
            let head =
                head(scene.address, &format!("GET {asset} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
                    .await;
            assert!(head.contains(kind) && head.contains("nosniff"), "{head}");
        }
        let head = head(scene.address, "GET / HTTP/1.1\r\nHost: [::1]:9890\r\nConnection: close\r\n\r\n").await;
        for guard in ["default-src 'none'", "no-store", "x-frame-options: deny", "text/html"] {
            assert!(head.contains(guard), "{guard} in {head}");
        }
    });
}

#[test]
fn a_name_that_was_rebound_is_not_answered() {
    scene(async |scene: Scene| {
        scene.tell(a_bad_day());
        scene.state_with(|state| state["config"]["last_error"].is_string()).await;
        for (host, own) in [
            ("localhost", true),
            ("LOCALHOST:9890", true),
            ("127.0.0.1:8", true),
            ("[::1]:9890", true),
            ("[::1]", true),
            ("evil.example", false),
            ("evil.example:9890", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example:9890", false),
        ] {
            for page in ["/", "/status.json", "/state"] {
                let request = format!("GET {page} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                let (_, body) = ask(scene.address, &request).await;
                assert_eq!(body.contains("coredns-a"), own, "{page} as {host}: {body}");
            }
        }
    });
}

#[test]
fn an_occupied_port_names_the_address_and_the_setting() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let BindError::Listen { address, .. } = bind(taken.address()).map(|_| ()).unwrap_err();
    assert_eq!(address, taken.address());
    let text = bind(taken.address()).unwrap_err().to_string();
    assert!(text.contains(&address.to_string()) && text.contains("metrics.listen"), "{text}");
}

/// An actor that says what it is told to say.
struct Other;
enum Say {
    Stage(Stage),
    Panic,
}
impl Message for Say {
    fn when_full(&self) -> WhenFull {
        WhenFull::DropNewest
    }
}
impl Actor for Other {
    type Message = Say;
    fn started(&mut self, ctx: &Context<Self>) {
        ctx.stage(Stage::Starting("the first list of CoreDNS pods".to_owned()));
    }
    fn handle(&mut self, say: Say, ctx: &Context<Self>) {
        match say {
            Say::Stage(stage) => ctx.stage(stage),
            Say::Panic => panic!("the watcher's own fault"),
        }
    }
}

#[test]
fn readiness_names_what_is_awaited_and_liveness_who_died() {
    scene(async |mut scene: Scene| {
        let (outlet, inbox) = inbox(ActorName::Watcher, 8);
        scene.supervisor.start(inbox, || Other);
        let awaited = "awaited:\nwatcher: the first list of CoreDNS pods\n";
        scene.until("/readyz", |status, body| status == 503 && body == awaited).await;
        assert_eq!(scene.get("/healthz").await, (200, "ok\n".to_owned()), "to start is not to be dead");
        outlet.tell(Say::Stage(Stage::Degraded("no permission to list pods".to_owned())));
        let degraded = "ready\ndegraded: watcher: no permission to list pods\n";
        scene.until("/readyz", |status, body| status == 200 && body == degraded).await;
        let text = scene.get("/metrics").await.1;
        assert!(text.contains("nameward_actor_degraded{actor=\"watcher\"} 1"), "{text}");
        outlet.tell(Say::Stage(Stage::Ready));
        scene.until("/readyz", |status, body| status == 200 && body == "ready\n").await;
        // Its budget is two restarts.
        for _ in 0..3 {
            outlet.tell(Say::Panic);
        }
        let dead = "watcher is dead after 2 restarts: the watcher's own fault\n";
        scene.until("/healthz", |status, body| status == 503 && body == dead).await;
        assert_eq!(scene.get("/readyz").await.0, 503);
        let text = scene.get("/metrics").await.1;
        assert!(text.contains("nameward_actor_alive{actor=\"watcher\"} 0"), "{text}");
        assert!(text.contains("nameward_actor_lost_total{actor=\"watcher\"} 3"), "{text}");
    });
}

#[test]
fn pages_answer_while_the_metrics_actor_itself_is_rebuilt() {
    run(|| async {
        let endpoint = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.address();
        let mut supervisor = Supervisor::new(RestartBudget::default());
        supervisor.rehearse_panics(vec![(ActorName::Metrics, 3)]);
        let about = About { version: "1".into(), node: "n".into(), role: "agent".into() };
        let pages = Pages::new(about, supervisor.board()).unwrap();
        endpoint.serve(pages.clone());
        let (outlet, inbox) = inbox(ActorName::Metrics, 64);
        supervisor.start(inbox, move || MetricsActor::new(&Config::default(), pages.clone()));
        let scene = Scene { supervisor, outlet, address };
        scene.tell([oom(), targets(&[("coredns-a", 2)]), MetricsInput::Leader(true), namespace(1)]);
        let after =
            |state: &Value| state["actors"]["metrics"]["health"]["restarts"] == 1 && state["namespaces"][0].is_object();
        let state = tokio::time::timeout(PATIENCE, scene.state_with(after)).await.unwrap();
        assert_eq!(state["targets"]["pods"][0]["key"]["name"], "coredns-a", "retained");
        assert_eq!(state["leader"], false, "the one that was lost");
        assert!(scene.get("/metrics").await.1.contains("\noom_count 1\n"), "counters outlive the actor");
    })
    .unwrap();
}

#[test]
fn whoever_hoards_connections_does_not_shut_out_the_kubelet() {
    scene(async |scene: Scene| {
        let mut hoard = Vec::new();
        for _ in 0..300 {
            let mut idle = TcpStream::connect(scene.address).await.unwrap();
            idle.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
            hoard.push(idle);
        }
        assert_eq!(scene.get("/healthz").await.0, 200);
        // The oldest were closed to make room.
        let mut rest = Vec::new();
        drop(hoard.first_mut().unwrap().read_to_end(&mut rest).await);
    });
}
