//! `check`, `run` and `status` where this machine is no node: against the simulated API server, with DNS on loopback, and with probe
//! pods that a runtime of this test really runs, as processes of the same binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nameward_simulations::DEPLOYED;
use nameward_simulations::apiserver::{ApiServer, Handle, Options, User, parse_manifests};
use nameward_simulations::machinery::{
    ClusterPlan, Machinery, PodEvent, PodRuntime, Settings, StartPod, StartedPod, seed_cluster,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Home, PATIENCE, Running, Said, awaited, ran, text};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Sender;

/// A server that knows `kubernetes.default.svc.cluster.local` alone, over UDP and TCP on one port of loopback.
struct Dns {
    port: u16,
    deaf: Arc<AtomicBool>,
}

impl Dns {
    fn start() -> Self {
        let (tcp, udp) = (0..50)
            .find_map(|_| {
                let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
                let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
                Some((tcp, udp))
            })
            .expect("a port that is free for both");
        let (port, deaf) = (tcp.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let silent = Arc::clone(&deaf);
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((len, from)) = udp.recv_from(&mut buffer) {
                if !silent.load(Ordering::Relaxed) {
                    let _ = udp.send_to(&reply(&buffer[..len]), from);
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { port, deaf }
    }
}

fn serve(mut stream: std::net::TcpStream) -> Option<()> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).ok()?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut query).ok()?;
    let reply = reply(&query);
    let framed = [&u16::try_from(reply.len()).ok()?.to_be_bytes()[..], &reply].concat();
    stream.write_all(&framed).ok()
}

/// One question without EDNS: the answer is 10.96.0.1, by a pointer to the question's name.
fn reply(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2..4].copy_from_slice(&[0x85, 0x80]);
    reply[6..8].copy_from_slice(&[0, 1]);
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 96, 0, 1]);
    reply
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs probe pods as processes of the binary; every other pod exists on paper.
#[derive(Default)]
struct Processes {
    events: OnceLock<Sender<PodEvent>>,
    /// Probe pods are started and never end.
    hang: bool,
}

impl PodRuntime for Processes {
    fn start(&self, pod: StartPod) -> BoxFuture<'static, Result<StartedPod, String>> {
        let probe = pod.labels.get("app.kubernetes.io/name").is_some_and(|name| name == "nameward-probe");
        if probe && !self.hang {
            let (events, uid) = (self.events.get().unwrap().clone(), pod.uid);
            let args: Vec<String> =
                serde_json::from_value(pod.object["spec"]["containers"][0]["args"].clone()).unwrap();
            std::thread::spawn(move || {
                let mut command = Command::new(env!("CARGO_BIN_EXE_nameward"));
                let out = command.args(args).env_clear().stdin(Stdio::null()).output().unwrap();
                let message = String::from_utf8(out.stdout).unwrap();
                let exit_code = out.status.code().unwrap_or(255);
                let _ = events.blocking_send(PodEvent::Failed { uid, exit_code, message });
            });
        }
        Box::pin(async { Ok(StartedPod { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), tells_ready: false }) })
    }

    fn stop(&self, _: String, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// A cluster whose DNS Service is on loopback at the port of `dns`, with CoreDNS pods at loopback too.
struct Cluster {
    _runtime: Runtime,
    _machinery: Machinery,
    api: Handle,
    address: SocketAddr,
}

impl Cluster {
    fn start(dns: &Dns, hang: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = dns.port;
        let (api, address, machinery) = runtime.block_on(async {
            let manifests = DEPLOYED.iter().flat_map(|(name, yaml)| parse_manifests(Path::new(name), yaml).unwrap());
            // Its clock is the real one: ages are told by it.
            let started_at = nameward_supervision::clock::now().wall;
            let mut options = Options { manifests: manifests.collect(), started_at, ..Options::default() };
            let person = User { name: "someone".into(), groups: vec!["system:masters".into()], ..User::default() };
            options.tokens.insert("someone".into(), person);
            let api = ApiServer::new(options).unwrap();
            let mut plan =
                ClusterPlan { dns_service: "127.0.0.1".into(), clients: Vec::new(), ..ClusterPlan::default() };
            plan.nodes.iter_mut().for_each(|node| node.address = "127.0.0.1".into());
            seed_cluster(&api, &plan).unwrap();
            let ports = ["UDP", "TCP"]
                .map(|p| json!({"name": format!("dns-{p}"), "protocol": p, "port": port, "targetPort": port}));
            api.patch("Service", "kube-system", "kube-dns", json!({"spec": {"ports": ports}})).unwrap();
            let processes = Arc::new(Processes { hang, ..Processes::default() });
            let settings = Settings { time_scale: if hang { 0.1 } else { 0.05 }, ..Settings::default() };
            let machinery = Machinery::start(&api, settings, processes.clone());
            processes.events.set(machinery.events()).unwrap();
            // Which way is asked first depends on where ready CoreDNS pods are: all of them are, before anybody asks.
            let settles = async {
                while !settled(&api, plan.replicas) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(PATIENCE, settles).await.expect("the cluster settles");
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = api.clone();
            tokio::spawn(async move { server.serve(listener).await });
            (api, address, machinery)
        });
        Self { _runtime: runtime, _machinery: machinery, api, address }
    }

    /// The cluster address leads nowhere from here, as it does where nobody routes it.
    fn unrouted(&self) {
        let nowhere = json!({"spec": {"clusterIP": "127.99.99.99", "clusterIPs": ["127.99.99.99"]}});
        self.api.patch("Service", "kube-system", "kube-dns", nowhere).unwrap();
    }

    fn probes(&self) -> usize {
        self.api.list("Job", "", "").len() + self.api.list("Pod", "", "app.kubernetes.io/name=nameward-probe").len()
    }

    fn until_nothing_is_left(&self) {
        awaited("no Job and no probe pod", PATIENCE, || (self.probes() == 0).then_some(()));
    }
}

/// Every node and `replicas` CoreDNS pods are ready, and the EndpointSlices say so.
fn settled(api: &Handle, replicas: u32) -> bool {
    let ready = |object: &Value| {
        let of = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
        object["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(of))
    };
    let pods = api.list("Pod", "kube-system", "k8s-app=kube-dns");
    let slices = api.list("EndpointSlice", "kube-system", "");
    let endpoints: Vec<&Value> = slices.iter().filter_map(|s| s["endpoints"].as_array()).flatten().collect();
    let endpoints = endpoints.iter().filter(|e| e["conditions"]["ready"] == true).count();
    let wanted = usize::try_from(replicas).unwrap();
    api.list("Node", "", "").iter().chain(&pods).all(ready) && [pods.len(), endpoints] == [wanted; 2]
}

fn check(home: &Home, cluster: &Cluster, more: &[&str]) -> Said {
    let kubeconfig = home.kubeconfig(cluster.address);
    ran(home.nameward(&[&["check", "--kubeconfig", text(&kubeconfig)], more].concat()))
}

#[test]
fn what_is_not_reached_is_not_called_unhealthy() {
    let (home, dns) = (Home::new(), Dns::start());
    let cluster = Cluster::start(&dns, false);
    cluster.unrouted();
    let wrong = json!({"spec": {"ports": [{"name": "dns", "protocol": "UDP", "port": 9, "targetPort": 9}]}});
    cluster.api.patch("Service", "kube-system", "kube-dns", wrong).unwrap();
    check(&home, &cluster, &[]).fails(3, &["How DNS is cannot be said", "not reachable from here", "--allow-pods"]);
    let said = check(&home, &cluster, &["--output", "json"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(
        said.json()["healthy"].is_null() && said.json()["error"]["what"].as_str().unwrap().contains("not reachable"),
        "{said:#?}"
    );
    assert_eq!(cluster.probes(), 0, "no pod was allowed");
}

#[test]
fn a_node_port_is_used_and_one_that_is_deaf_on_udp_is_unhealthy() {
    let (home, dns) = (Home::new(), Dns::start());
    let cluster = Cluster::start(&dns, false);
    cluster.unrouted();
    let ports = ["UDP", "TCP"].map(
        |p| json!({"name": format!("dns-{p}"), "protocol": p, "port": 53, "targetPort": 53, "nodePort": dns.port}),
    );
    let port = json!({"spec": {"type": "NodePort", "ports": ports}});
    cluster.api.patch("Service", "kube-system", "kube-dns", port).unwrap();
    let said =
        check(&home, &cluster, &[]).says(&["node port of kube-system/kube-dns on node1", "DNS answers: from outside"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    dns.deaf.store(true, Ordering::Relaxed);
    let said = check(&home, &cluster, &["--output", "json"]);
    assert_eq!((said.code, &said.json()["healthy"]), (Some(1), &json!(false)), "{said:#?}");
    let matrix = said.json()["matrix"].as_array().unwrap().clone();
    let of = |transport: &str| {
        matrix.iter().find(|l| l["transport"] == transport && l["way"]["kind"] == "node-port").unwrap().clone()
    };
    assert_eq!((&of("udp")["state"], &of("udp")["outcome"]), (&json!("fails"), &json!("timeout")));
    assert_eq!(of("tcp")["state"], "answers");
}

#[test]
fn probe_pods_are_started_read_and_removed() {
    let (home, dns) = (Home::new(), Dns::start());
    let cluster = Cluster::start(&dns, false);
    let said = check(&home, &cluster, &["--allow-pods", "--from-node", "node2"]);
    let said = said.says(&[
        "probe pods are started in nameward on node2",
        "FROM A POD ON node2",
        "1 of 1 probe pods answered",
    ]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    cluster.until_nothing_is_left();
    let log = cluster.api.log();
    let done: Vec<(&str, u16)> =
        log.iter().filter(|e| e.resource == "jobs").map(|e| (e.verb.as_str(), e.code)).collect();
    assert_eq!(done, [("create", 201), ("delete", 200)], "{log:#?}");

    dns.deaf.store(true, Ordering::Relaxed);
    let said = check(&home, &cluster, &["--allow-pods", "--output", "json"]);
    assert_eq!((said.code, &said.json()["healthy"]), (Some(1), &json!(false)), "{said:#?}");
    let probes = said.json()["probes"].as_array().unwrap().clone();
    assert_eq!(probes.len(), 2, "one per node: {probes:#?}");
    for probe in probes {
        let failed = |transport: &str| {
            let of: Vec<Value> =
                probe["matrix"].as_array().unwrap().iter().filter(|l| l["transport"] == transport).cloned().collect();
            assert!(!of.is_empty(), "{probe:#?}");
            of.iter().all(|line| line["failed"] == true)
        };
        assert!(failed("udp") && !failed("tcp"), "{probe:#?}");
    }
    cluster.until_nothing_is_left();
    check(&home, &cluster, &["--allow-pods", "--from-node", "nowhere"]).fails(2, &["no node nowhere", "node1, node2"]);
}

#[test]
fn an_interrupted_run_removes_its_pods_and_a_killed_ones_are_removed_by_their_deadline() {
    let (home, dns) = (Home::new(), Dns::start());
    let cluster = Cluster::start(&dns, true);
    let kubeconfig = home.kubeconfig(cluster.address);
    let start = || {
        let mut running = Running::start(home.nameward(&["check", "--kubeconfig", text(&kubeconfig), "--allow-pods"]));
        running.says("probe pods are started");
        awaited("the pods", PATIENCE, || (cluster.probes() == 4).then_some(()));
        running
    };
    let running = start();
    running.signal(Signal::SIGINT);
    let (status, lines) = running.ends(PATIENCE);
    assert_eq!(status.code(), Some(3), "{lines:#?}");
    cluster.until_nothing_is_left();

    let running = start();
    running.signal(Signal::SIGKILL);
    running.ends(PATIENCE);
    assert_eq!(cluster.probes(), 4, "nobody is there to remove them");
    cluster.until_nothing_is_left();
    let log = cluster.api.log();
    let mine = log.iter().filter(|e| e.resource == "jobs" && e.verb == "delete").count();
    assert_eq!(mine, 2, "those of the first run alone: the control plane removed the others");
}

#[test]
fn a_later_run_removes_what_an_earlier_one_of_the_same_person_left_and_nothing_else() {
    let (home, dns) = (Home::new(), Dns::start());
    let cluster = Cluster::start(&dns, true);
    let theirs = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "theirs", "namespace": "nameward", "labels": {
            "app.kubernetes.io/name": "nameward-probe", "nameward.dev/origin": "0123456789abcdef", "nameward.dev/run": "1",
        }},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
        "status": {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    cluster.api.create(theirs).unwrap();
    let kubeconfig = home.kubeconfig(cluster.address);
    let start = || home.nameward(&["check", "--kubeconfig", text(&kubeconfig), "--allow-pods", "--from-node", "node1"]);
    let killed = Running::start(start());
    awaited("the pod", PATIENCE, || (cluster.probes() == 3).then_some(()));
    killed.signal(Signal::SIGKILL);
    killed.ends(PATIENCE);
    let jobs = || cluster.api.list("Job", "nameward", "");
    let mine =
        jobs().into_iter().map(|j| j["metadata"]["name"].as_str().unwrap().to_owned()).find(|n| n != "theirs").unwrap();
    // A control plane that does not remove it by itself.
    cluster.api.patch("Job", "nameward", &mine, json!({"spec": {"ttlSecondsAfterFinished": 86_400}})).unwrap();
    awaited("its deadline", PATIENCE, || {
        jobs()
            .iter()
            .any(|j| j["metadata"]["name"] == mine.as_str() && j["status"]["conditions"][0]["type"] == "Failed")
            .then_some(())
    });
    let mut later = Running::start(start());
    later.says(&format!("an earlier run left {mine}: removed"));
    later.signal(Signal::SIGINT);
    later.ends(PATIENCE);
    awaited("theirs alone", PATIENCE, || {
        (cluster.probes() == 1 && jobs()[0]["metadata"]["name"] == "theirs").then_some(())
    });
}

#[test]
fn a_run_from_outside_takes_the_lease_and_looks() {
    let (home, dns) = (Home::new(), Dns::start());
    let cluster = Cluster::start(&dns, false);
    let kubeconfig = home.kubeconfig(cluster.address);
    let run = |more: &[&str]| {
        let args = ["run", "--kubeconfig", text(&kubeconfig)];
        let mut command = home.nameward(&[&args, more].concat());
        command.env("NAMEWARD_METRICS_LISTEN", "127.0.0.1:0");
        command
    };
    let mut first = Running::start(run(&[]));
    first.says("this machine is no node of the cluster");
    first.says("cluster DNS answers from outside");
    let holder = || {
        let lease = cluster.api.get("Lease", "nameward", "nameward-coordinator")?;
        lease["spec"]["holderIdentity"].as_str().filter(|h| !h.is_empty()).map(str::to_owned)
    };
    let leader = awaited("a holder of the Lease", PATIENCE, holder);
    // A coordinator elsewhere stands behind it, as in the cluster: one acts.
    let mut second = Running::start(run(&["--role", "coordinator"]));
    second.says("nameward starts");
    assert_eq!(holder(), Some(leader.clone()));
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ends(Duration::from_secs(15)).0.code(), Some(0));
    awaited("the second leads", Duration::from_secs(60), || holder().filter(|h| *h != leader));
    second.signal(Signal::SIGTERM);
    second.ends(Duration::from_secs(15));
    let agent = ran(run(&["--role", "agent"]));
    agent.fails(2, &["an agent needs a node", "--role coordinator or all"]);
}

fn agent(cluster: &Cluster, node: &str, healthy: &str) {
    let at = nameward_supervision::clock::now().wall.to_string();
    cluster
        .api
        .create(
            json!({"apiVersion": "nameward.dev/v1alpha1", "kind": "NodeAgent", "metadata": {"name": node}, "spec": {}}),
        )
        .unwrap();
    let status = json!({
        "sequence": 1, "writtenAt": at, "version": "0.1.0", "selfCheck": true, "namespaces": 7, "matrix": {"rows": []}, "verdicts": [],
        "conditions": [{"type": "Healthy", "status": healthy, "reason": "X", "message": "as said", "lastTransitionTime": at}],
    });
    cluster.api.patch("NodeAgent", "", node, json!({"status": status})).unwrap();
}

#[test]
fn status_says_what_the_agents_say_and_so_does_the_plugin() {
    let (home, dns) = (Home::new(), Dns::start());
    let cluster = Cluster::start(&dns, false);
    let kubeconfig = home.kubeconfig(cluster.address);
    let status = |more: &[&str]| ran(home.nameward(&[&["status", "--kubeconfig", text(&kubeconfig)], more].concat()));
    status(&[]).fails(3, &["no agent has reported"]);
    agent(&cluster, "node1", "True");
    agent(&cluster, "node2", "True");
    status(&[]).succeeds().says(&["Cluster DNS answers on all 2 nodes", "node1", "healthy", "no coordinator leads"]);
    let incident = json!({
        "apiVersion": "nameward.dev/v1alpha1", "kind": "DnsIncident", "metadata": {"name": "udp-dead-1"},
        "spec": {"cause": "coredns-udp-dead", "scope": "coredns-pod",
                 "subject": {"kind": "Pod", "namespace": "kube-system", "name": "coredns-1"}},
    });
    cluster.api.create(incident).unwrap();
    let said = status(&["--output", "json"]);
    assert_eq!((said.code, &said.json()["healthy"]), (Some(1), &json!(false)), "{said:#?}");
    assert_eq!(said.json()["incidents"][0]["cause"], "coredns-udp-dead");

    // As kubectl runs a plugin: the binary under its name, kubectl's flags before or behind.
    let plugin = home.path("kubectl-nameward");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_nameward"), &plugin).unwrap();
    let kubectl = |args: &[&str]| {
        let mut command = Command::new(&plugin);
        command.env_clear().env("KUBECONFIG", &kubeconfig).env("HOME", home.path("nowhere")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ran(command)
    };
    for args in [&[][..], &["status", "--context", "lab"], &["--context=lab", "-n", "nameward", "status"]] {
        let said = kubectl(args).says(&["1 open incident", "udp-dead-1", "coredns-udp-dead"]);
        assert_eq!(said.code, Some(1), "{args:?}: {said:#?}");
    }
    kubectl(&["--context", "prod"]).fails(2, &["no context \"prod\""]);
    kubectl(&["--help"]).succeeds().says(&["Usage: kubectl nameward"]);
}

#[test]
fn the_probe_image_is_the_one_that_the_chart_names() {
    let (values, chart) =
        (include_str!("../deploy/chart/nameward/values.yaml"), include_str!("../deploy/chart/nameward/Chart.yaml"));
    let (repository, tag) = nameward_outside::pods::IMAGE.rsplit_once(':').unwrap();
    assert!(values.contains(&format!("repository: {repository}\n")), "{repository}");
    assert!(chart.contains(&format!("appVersion: {tag}\n")), "{tag}");
}
