//! The lab's network.

use std::net::SocketAddr;
use std::time::Instant;

use nameward_simulations::dns::{DnsControl, Options};
use nameward_simulations::lab::{CONTROL, Lab, LabSpec, PodSpec, Private, cni_results, netns_folder, strays};
use nameward_simulations::proxy::{Mode, ServiceState};
use serde_json::Value;

use crate::dns_server::{Asked, KUBERNETES, PATIENCE, ask_tcp, ask_udp};
use crate::harness::recordings;

/// The DNS Service.
pub fn service() -> SocketAddr {
    "10.96.0.10:53".parse().unwrap()
}

/// Port 53 of a pod.
pub fn dns_of(lab: &Lab, pod: &str) -> SocketAddr {
    (lab.pod(pod).unwrap().address, 53).into()
}

pub fn two_nodes_six_pods(private: Private) -> Lab {
    let mut lab = Lab::build(private, LabSpec::default()).expect("the lab comes up");
    lab.add_pods([
        PodSpec::coredns("node1", "coredns-a", "uid-coredns-a"),
        PodSpec::client("node1", "default", "client-a", "uid-client-a"),
        PodSpec::client("node1", "default", "client-b", "uid-client-b"),
        PodSpec::coredns("node2", "coredns-b", "uid-coredns-b"),
        PodSpec::client("node2", "default", "client-c", "uid-client-c"),
        PodSpec::client("node2", "default", "client-d", "uid-client-d"),
    ])
    .expect("pods come up");
    lab
}

pub fn a_thread_that_strays_is_found(private: Private) {
    let mut lab = Lab::build(private, LabSpec::default()).expect("the lab comes up");
    lab.add_pods([PodSpec::client("node1", "default", "client-a", "uid-client-a")]).expect("pods come up");
    let node = lab.node("node1").unwrap().netns.clone();
    let look = || strays(std::process::id(), &node).unwrap();
    // Every thread of this process is elsewhere; one more in a pod is one stray more, and one on the node is none.
    let elsewhere = look();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|stray| stray.namespace == "net"), "{elsewhere:?}");
    let pod = lab.pod("default/client-a").unwrap().netns.clone();
    assert_eq!(pod.enter(look).unwrap().len(), elsewhere.len() + 1);
    assert_eq!(node.enter(look).unwrap().len(), elsewhere.len());
}

/// A lab in which everything answers: CoreDNS in two pods, the upstream server, kube-proxy on both nodes.
pub struct Healthy {
    /// Kept alive with it.
    pub _servers: Vec<DnsControl>,
    pub lab: Lab,
}

impl Healthy {
    pub fn build(private: Private, mode: Mode) -> Self {
        let mut lab = two_nodes_six_pods(private);
        let mut servers = vec![DnsControl::start(lab.control(), &Options::upstream()).unwrap()];
        for pod in ["kube-system/coredns-a", "kube-system/coredns-b"] {
            servers.push(DnsControl::start(&lab.pod(pod).unwrap().netns, &Options::coredns()).unwrap());
        }
        for node in [1, 2] {
            let state = Self::services(&lab, node);
            lab.install_proxy(&format!("node{node}"), mode, state).unwrap();
        }
        Self { _servers: servers, lab }
    }

    pub fn services(lab: &Lab, node: u8) -> ServiceState {
        let coredns: Vec<_> =
            ["kube-system/coredns-a", "kube-system/coredns-b"].map(|p| lab.pod(p).unwrap().address).into();
        ServiceState::cluster(node, &coredns)
    }
}

pub fn lab_comes_up_in_time(private: Private) {
    let before = Instant::now();
    let lab = two_nodes_six_pods(private);
    let took = before.elapsed();
    println!("  2 nodes, 6 pods in {took:?}");
    assert!(took.as_secs_f64() < 2.0, "took {took:?}");
    drop(lab);
    assert_eq!(std::fs::read_dir("/run/netns").unwrap().count(), 0, "taking it down leaves no namespace");
    assert_eq!(std::fs::read_dir("/run/sim").unwrap().count(), 0, "and no files");
}

/// Routes of a node and of a pod are those of the recording, with addresses of this lab.
pub fn node_looks_like_the_recording(private: Private) {
    let lab = two_nodes_six_pods(private);
    let routes = |json: &str| {
        let routes: Vec<Value> = serde_json::from_str(json).unwrap();
        let keys = ["type", "dst", "gateway", "dev", "protocol", "scope", "prefsrc"];
        let mut lines: Vec<String> = routes
            .iter()
            .map(|r| keys.map(|k| format!("{k}={} ", r.get(k).unwrap_or(&Value::Null))).concat())
            .collect();
        lines.sort();
        lines
    };
    let here = |place: &str| lab.netns(place).unwrap().tool("ip", &["-json", "-details", "route"], "").unwrap();
    let recorded = |file: &str| std::fs::read_to_string(recordings().join(file)).unwrap();
    assert_eq!(routes(&here("node1")), routes(&recorded("iptables/node1.ip-route.json")));
    let pod = lab.pod("default/client-a").unwrap();
    let expected = recorded("iptables/pod-client.ip-route.json").replace("10.244.1.52", &pod.address.to_string());
    assert_eq!(routes(&here("default/client-a")), routes(&expected));

    // The CNI cache has every field that the recorded one has, of the same kind, and nothing else.
    let ours: Value = serde_json::from_str(&std::fs::read_to_string(&pod.cni_result).unwrap()).unwrap();
    let name = "cni-results/kubenet-4205d401ef7c7b2cbf9445515e1fd5e28397fc64edb56c6b18407e65cc26d4b3-eth0";
    let theirs: Value = serde_json::from_str(&recorded(name)).unwrap();
    same_shape("", &ours, &theirs);
    assert_eq!(std::fs::read_dir(cni_results("node1")).unwrap().count(), 6, "two entries for each pod of this node");
    assert_eq!(std::fs::read_dir(netns_folder("node1")).unwrap().count(), 3);

    // The sandbox's file, and the same in the pod's own mount namespace.
    let expected = recorded("iptables/pod-client.resolv.conf");
    assert_eq!(std::fs::read_to_string(&pod.resolv_conf).unwrap(), expected);
    let root = format!("/proc/{}/root/etc/resolv.conf", pod.holder());
    assert_eq!(std::fs::read_to_string(root).unwrap(), expected);
    let coredns = lab.pod("kube-system/coredns-a").unwrap();
    assert_eq!(std::fs::read_to_string(&coredns.resolv_conf).unwrap(), recorded("iptables/pod-coredns.resolv.conf"));
}

fn same_shape(at: &str, ours: &Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            // When the kubelet saw the pod's manifest is of no use to anybody here.
            let keys = |o: &serde_json::Map<String, Value>| {
                let mut keys: Vec<_> = o.keys().filter(|k| *k != "kubernetes.io/config.seen").cloned().collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(a), keys(b), "at {at}");
            keys(a).iter().for_each(|k| same_shape(&format!("{at}/{k}"), &a[k], &b[k]));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "at {at}");
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| same_shape(&format!("{at}/{i}"), a, b));
        }
        _ => assert_eq!(std::mem::discriminant(ours), std::mem::discriminant(theirs), "at {at}"),
    }
}

pub fn pods_and_services_answer_iptables_nft(private: Private) {
    pods_and_services_answer(private, Mode::IptablesNft);
}

pub fn pods_and_services_answer_iptables_legacy(private: Private) {
    pods_and_services_answer(private, Mode::IptablesLegacy);
}

pub fn pods_and_services_answer_nftables(private: Private) {
    pods_and_services_answer(private, Mode::Nftables);
}

/// From pods and hosts of both nodes, to both servers and the Service, by UDP and TCP; often enough to meet both endpoints.
fn pods_and_services_answer(private: Private, mode: Mode) {
    let healthy = Healthy::build(private, mode);
    let lab = &healthy.lab;
    let mut targets = vec![dns_of(lab, "kube-system/coredns-a"), dns_of(lab, "kube-system/coredns-b")];
    targets.extend([service(); 6]);
    let good = Asked::ip("10.96.0.1");
    for from in ["default/client-a", "default/client-c", "kube-system/coredns-a", "node1", "node2"] {
        let netns = lab.netns(from).unwrap();
        for target in &targets {
            assert_eq!(ask_udp(netns, *target, KUBERNETES, PATIENCE), good, "{mode:?}: {from} to {target} by UDP");
            assert_eq!(ask_tcp(netns, *target, KUBERNETES, PATIENCE), good, "{mode:?}: {from} to {target} by TCP");
        }
    }
    let upstream = SocketAddr::from((CONTROL, 53));
    let pod = lab.netns("default/client-a").unwrap();
    assert_eq!(ask_udp(pod, upstream, "example.org.", PATIENCE), Asked::ip("192.0.2.1"));
}

pub fn pods_come_and_go(private: Private) {
    let mut lab = two_nodes_six_pods(private);
    let before = lab.netns("node1").unwrap().snapshot().unwrap();
    let host = lab.netns("node1").unwrap().clone();
    for round in 0..3 {
        let pod = lab.add_pod(PodSpec::client("node1", "default", "late", &format!("uid-late-{round}"))).unwrap();
        assert_eq!(pod.address.to_string(), format!("10.244.1.{}", 5 + round), "addresses are not used again at once");
        assert_eq!(std::fs::read_dir(cni_results("node1")).unwrap().count(), 8);
        lab.remove_pod("default/late").unwrap();
        assert_eq!(std::fs::read_dir(cni_results("node1")).unwrap().count(), 6);
        assert_eq!(std::fs::read_dir(netns_folder("node1")).unwrap().count(), 3);
    }
    assert_eq!(nameward_simulations::lab::diff(&before, &host.snapshot().unwrap()), Vec::<String>::new());
}
