//! The whole room against the kernel: namespaces, cache entries and resolver files made here, in namespaces of this
//! test's own (it runs itself again below `unshare`; where that is not possible it fails).
#![cfg(feature = "actor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nameward_config::{Config, Period};
use nameward_kernel::enter::EnterPool;
use nameward_messages::health::{ActorName, Stage};
use nameward_messages::namespaces::{Namespace, NamespaceChanged, NamespaceSource};
use nameward_messages::pods::{DnsPolicy, LocalPod, PodChanged};
use nameward_messages::{ObjectKey, PodUid};
use nameward_netns::{NetnsActor, NetnsMessage, Wiring};
use nameward_supervision::{Listener, RestartBudget, Supervisor, inbox};
use tokio::sync::mpsc;

const INSIDE: &str = "NAMEWARD_TEST_INSIDE";
const PATIENCE: Duration = Duration::from_secs(20);

/// Of the recording `kubenet-4205…-eth0`.
const CLIENT_UID: &str = "435f460d-11a3-4c44-bf46-b2849c968f06";
const CLIENT_ID: &str = "4205d401ef7c7b2cbf9445515e1fd5e28397fc64edb56c6b18407e65cc26d4b3";
const CLIENT_NS: &str = "cni-106b2de4-cab9-5fb2-ead1-e8174f2dd74e";
/// Of the recording `kubenet-ed8e…-eth0`.
const COREDNS_UID: &str = "0d22caa6-c8c2-40c9-a86a-2c4b0a0b70e5";
const COREDNS_ID: &str = "ed8e837e207e315d563806a6b5e16df16713fa44715e4306f0e57a1000363ad1";
const COREDNS_NS: &str = "cni-9d5ed118-4d66-aee1-55da-e2da2a3dfc39";
/// A pod of the other node, in the same cache.
const OTHER_NS: &str = "cni-ce86f737-14ae-42ff-af27-c7acd5821d84";

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures")
}

fn sh(line: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new("sh").arg("-ec").arg(line).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn inside(test: &str, body: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        sh("mount -t tmpfs none /run && ip link set lo up");
        nameward_supervision::run(async || body().await).unwrap();
        return;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--", "unshare"])
        .args(["--net", "--mount", "--fork", "--pid", "--mount-proc", "--kill-child", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .expect("util-linux' unshare is needed: apt-get install util-linux");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{test} inside its own namespaces:\n{text}");
}

fn pod(uid: &str, name: &str, ip: &str) -> LocalPod {
    LocalPod {
        uid: uid.into(),
        key: ObjectKey::new("default", name),
        ips: vec![ip.parse().unwrap()],
        host_network: false,
        dns_policy: DnsPolicy::ClusterFirst,
        dns_nameservers: Vec::new(),
        running: true,
        terminating: false,
        ignored: false,
    }
}

async fn found(tells: &mut mpsc::UnboundedReceiver<NamespaceChanged>) -> Namespace {
    match tokio::time::timeout(PATIENCE, tells.recv()).await.expect("nothing was told").unwrap() {
        NamespaceChanged::Found(namespace) => namespace,
        gone => panic!("{gone:?}"),
    }
}

async fn gone(tells: &mut mpsc::UnboundedReceiver<NamespaceChanged>) -> PodUid {
    match tokio::time::timeout(PATIENCE, tells.recv()).await.expect("nothing was told").unwrap() {
        NamespaceChanged::Gone { pod, .. } => pod,
        found => panic!("{found:?}"),
    }
}

fn lay_out() -> Config {
    sh(&format!(
        "mkdir -p /run/netns /run/cni /run/sandboxes/{CLIENT_ID} /run/sandboxes/{COREDNS_ID}
         for n in {CLIENT_NS} {COREDNS_NS} {OTHER_NS} bare; do ip netns add $n; ip -n $n link set lo up; done
         ip link add v0 type veth peer name eth0 netns bare && ip -n bare addr add 10.244.1.77/24 dev eth0
         cp {cache}/*kubenet* {cache}/*loopback* /run/cni && chmod u+w /run/cni/*
         echo garbage > /run/cni/half-written-eth0
         printf 'search x\\nnameserver 10.96.0.99\\n' > /run/sandboxes/{CLIENT_ID}/resolv.conf
         mkfifo /run/sandboxes/{COREDNS_ID}/resolv.conf",
        cache = recordings().join("cni-results").display(),
    ));
    let mut config = Config::default();
    config.netns.cni_results = "/run/cni".into();
    config.netns.folders = vec!["/run/netns".into()];
    config.netns.sandboxes = vec!["/run/sandboxes".into()];
    config.netns.rescan = Period(Duration::from_secs(600));
    config
}

#[test]
fn namespaces_come_and_go() {
    inside("namespaces_come_and_go", async || {
        let config = lay_out();
        assert_eq!(nameward_netns::pods_in_cache(&config.netns).await.len(), 4);
        let (tell, mut tells) = mpsc::unbounded_channel();
        let listener: Listener<NamespaceChanged> = Arc::new(move |change| drop(tell.send(change)));
        let wiring = Wiring::new(EnterPool::new(2, 64).unwrap(), vec![listener]);
        let (outlet, messages) = inbox::<NetnsMessage>(ActorName::Netns, 64);
        let mut supervisor = Supervisor::new(RestartBudget::default());
        // The fifth message, the result of the first scan, is lost to a panic: the actor is rebuilt and told everything again.
        supervisor.rehearse_panics(vec![(ActorName::Netns, 5)]);
        let config_for_factory = config.clone();
        supervisor.start(messages, move || NetnsActor::new(&config_for_factory, wiring.clone()));
        let board = supervisor.board();

        let applied = |pod: LocalPod| outlet.tell(NetnsMessage::Pod(PodChanged::Applied(pod)));
        applied(pod(CLIENT_UID, "client", "10.244.1.60"));
        applied(pod(COREDNS_UID, "coredns", "10.244.1.63"));
        applied(pod("by-address", "bare", "10.244.1.77"));
        outlet.tell(NetnsMessage::Pod(PodChanged::Synced));

        let mut all = [found(&mut tells).await, found(&mut tells).await, found(&mut tells).await];
        all.sort_by_key(|n| n.key.name.clone());
        let [bare, client, coredns] = all;
        assert_eq!((bare.source, bare.path.as_path()), (NamespaceSource::Folder, Path::new("/run/netns/bare")));
        assert_eq!(client.path, Path::new("/run/netns").join(CLIENT_NS));
        assert_eq!((client.source, client.host_veth.as_deref()), (NamespaceSource::CniCache, Some("vethf8f4717e")));
        assert_eq!(client.resolv.nameservers, ["10.96.0.99".parse::<IpAddr>().unwrap()]);
        assert!(client.resolv.read_from.unwrap().contains(CLIENT_ID));
        assert_eq!(coredns.resolv.nameservers, ["172.30.0.254".parse::<IpAddr>().unwrap()]);
        assert!(coredns.resolv.trouble.unwrap().contains("a FIFO"));
        assert!(bare.cookie != client.cookie && client.cookie != coredns.cookie);

        // The file goes: noticed by the folder's change, long before the next rescan.
        sh(&format!("ip netns del {CLIENT_NS}"));
        assert_eq!(gone(&mut tells).await.as_str(), CLIENT_UID);
        // A sandbox that is made again, under the same name.
        sh(&format!("ip netns add {CLIENT_NS}"));
        let again = found(&mut tells).await;
        assert!(again.pod.as_str() == CLIENT_UID && again.cookie != client.cookie);
        // The API says so: at once.
        outlet.tell(NetnsMessage::Pod(PodChanged::Gone(COREDNS_UID.into())));
        assert_eq!(gone(&mut tells).await.as_str(), COREDNS_UID);

        let report = board.reports().remove(&ActorName::Netns).unwrap();
        assert!(matches!(report.stage, Stage::Ready), "{report:?}");
        assert_eq!(report.health.restarts, 1, "{report:?}");
        assert!(tells.try_recv().is_err());
        supervisor.drain(Duration::from_secs(5)).await;
    });
}
