#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_cluster::discovery::{dns_pods, dns_service};
use serde_json::{Value, json};

use super::*;

/// The recorded shape of kubeadm's Service, laid over with what makes it reachable.
fn service(name: &str, over: Value) -> Value {
    let mut base = json!({
        "metadata": {"name": name, "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "selector": {"k8s-app": "kube-dns"},
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
                {"name": "metrics", "protocol": "TCP", "port": 9153, "targetPort": 9153, "nodePort": 30153},
            ],
        },
        "status": {"loadBalancer": {}},
    });
    for (path, value) in over.as_object().unwrap() {
        *base.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone();
    }
    base
}

fn node(name: &str, ready: &str, addresses: &[(&str, &str)]) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|(kind, ip)| json!({"type": kind, "address": ip})).collect();
    json!({"metadata": {"name": name}, "status": {
        "addresses": addresses, "conditions": [{"type": "Ready", "status": ready}],
    }})
}

fn found(services: &[Value]) -> Vec<String> {
    let slices: Vec<_> = vec![
        serde_json::from_value(json!({
            "metadata": {"name": "kube-dns-x", "namespace": "kube-system"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.1.5"], "nodeName": "b", "conditions": {"ready": true},
                           "targetRef": {"kind": "Pod", "namespace": "kube-system", "name": "coredns-1", "uid": "u1"}}],
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        }))
        .unwrap(),
    ];
    let own = dns_service(&serde_json::from_value(services[0].clone()).unwrap());
    let pods = dns_pods(&slices, &own, 0, 0);
    let nodes: Vec<NodeWithAddresses> = [
        node("a", "True", &[("InternalIP", "10.0.0.1"), ("ExternalIP", "203.0.113.1")]),
        node("b", "True", &[("InternalIP", "10.0.0.2")]),
        node("c", "Unknown", &[("InternalIP", "10.0.0.3")]),
    ]
    .into_iter()
    .map(|n| serde_json::from_value(n).unwrap())
    .collect();
    let services: Vec<ExposedService> = services.iter().map(|s| serde_json::from_value(s.clone()).unwrap()).collect();
    let objects = Objects { service: &own, services: &services, nodes: &nodes, pods: &pods };
    ways(&objects)
        .iter()
        .filter(|way| way.kind.published())
        .map(|w| format!("{w} {} udp {} tcp {}", w.host, w.udp.unwrap_or(0), w.tcp.unwrap_or(0)))
        .collect()
}

/// Ports of which each has a node port, or UDP alone.
fn with_node_ports() -> Value {
    json!([
        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53, "nodePort": 30053},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53, "nodePort": 30054},
    ])
}

#[test]
fn a_table_of_services() {
    let plain = service("kube-dns", json!({}));
    let table: Vec<(&str, Vec<Value>, Vec<&str>)> = vec![
        ("nothing is published", vec![plain.clone()], vec![]),
        (
            "external addresses; what is none is left out",
            vec![service(
                "kube-dns",
                json!({"/spec": {
                    "type": "ClusterIP", "externalIPs": ["198.51.100.7", "nonsense"], "clusterIP": "10.96.0.10",
                    "ports": [{"name": "dns", "protocol": "UDP", "port": 53}],
                }}),
            )],
            vec!["external address kube-system/kube-dns 198.51.100.7 udp 53 tcp 0"],
        ),
        (
            "a load balancer by address and by name; node ports besides, the CoreDNS node first",
            vec![
                plain.clone(),
                service(
                    "dns-public",
                    json!({
                        "/spec/type": "LoadBalancer", "/spec/ports": with_node_ports(),
                        "/status/loadBalancer": {"ingress": [{"ip": "198.51.100.9"}, {"hostname": "LB.example.net"}, {"hostname": "a b"}]},
                    }),
                ),
            ],
            vec![
                "load balancer kube-system/dns-public 198.51.100.9 udp 53 tcp 53",
                "load balancer kube-system/dns-public lb.example.net udp 53 tcp 53",
                "node port of kube-system/dns-public on b 10.0.0.2 udp 30053 tcp 30054",
                "node port of kube-system/dns-public on a 203.0.113.1 udp 30053 tcp 30054",
            ],
        ),
        (
            "with the policy Local, nodes with an endpoint alone",
            vec![service(
                "kube-dns",
                json!({"/spec": {
                    "type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"k8s-app": "kube-dns"}, "clusterIP": "10.96.0.10",
                    "ports": with_node_ports(),
                }}),
            )],
            vec!["node port of kube-system/kube-dns on b 10.0.0.2 udp 30053 tcp 30054"],
        ),
        (
            "another Service that leads elsewhere, and one that has metrics alone",
            vec![
                plain.clone(),
                service(
                    "other",
                    json!({"/spec/type": "NodePort", "/spec/ports": with_node_ports(), "/spec/selector": {"app": "x"}}),
                ),
                service(
                    "metrics",
                    json!({"/spec/type": "NodePort", "/spec/ports": [
                        {"name": "metrics", "protocol": "TCP", "port": 9153, "targetPort": 9153, "nodePort": 30153},
                    ]}),
                ),
            ],
            vec![],
        ),
        (
            "a status that is no longer a load balancer's",
            vec![service(
                "kube-dns",
                json!({
                    "/status/loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]},
                }),
            )],
            vec![],
        ),
    ];
    for (what, services, wanted) in table {
        assert_eq!(found(&services), wanted, "{what}");
    }
}
