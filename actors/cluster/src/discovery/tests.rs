#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;
use crate::testing::{file, recorded};

fn service(namespace: &str, name: &str, labels: Value, ports: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"clusterIP": "10.0.0.10", "clusterIPs": ["10.0.0.10"], "ports": ports}
    }))
    .unwrap()
}

fn usual_ports() -> Value {
    json!([
        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
        {"name": "metrics", "protocol": "TCP", "port": 9153, "targetPort": 9153}
    ])
}

/// What each distribution has in the way of Services, and which one is cluster DNS.
fn distributions() -> Vec<(&'static str, Vec<Service>, &'static str)> {
    let kube_dns = |more: Value| {
        let mut labels = json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true"});
        labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service("kube-system", "kube-dns", labels, usual_ports())
    };
    let metrics = service("kube-system", "metrics-server", json!({}), json!([{"port": 443, "protocol": "TCP"}]));
    let upstream = service("kube-system", NOT_IT, json!({"k8s-app": "kube-dns"}), usual_ports());
    let named_ports = json!([
        {"name": "udp-53", "protocol": "UDP", "port": 53, "targetPort": "udp-53"},
        {"name": "tcp-53", "protocol": "TCP", "port": 53, "targetPort": "tcp-53"}
    ]);
    let rke2 = service(
        "kube-system",
        "rke2-coredns-rke2-coredns",
        json!({"k8s-app": "kube-dns", "app.kubernetes.io/name": "rke2-coredns"}),
        named_ports,
    );
    let openshift = service(
        "openshift-dns",
        "dns-default",
        json!({"dns.operator.openshift.io/owning-dns": "default"}),
        json!([
            {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": "dns"},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": "dns-tcp"},
            {"name": "metrics", "protocol": "TCP", "port": 9154, "targetPort": "metrics"}
        ]),
    );
    vec![
        ("kubeadm", vec![metrics.clone(), kube_dns(json!({"kubernetes.io/name": "CoreDNS"}))], "kube-system/kube-dns"),
        ("kind", vec![kube_dns(json!({}))], "kube-system/kube-dns"),
        ("k3s", vec![metrics.clone(), kube_dns(json!({"objectset.rio.cattle.io/hash": "b"}))], "kube-system/kube-dns"),
        ("RKE2", vec![metrics.clone(), rke2], "kube-system/rke2-coredns-rke2-coredns"),
        ("EKS", vec![kube_dns(json!({"eks.amazonaws.com/component": "kube-dns"}))], "kube-system/kube-dns"),
        ("GKE", vec![upstream.clone(), kube_dns(json!({"kubernetes.io/name": "KubeDNS"}))], "kube-system/kube-dns"),
        ("AKS", vec![kube_dns(json!({"addonmanager.kubernetes.io/mode": "Reconcile"}))], "kube-system/kube-dns"),
        ("OpenShift", vec![openshift], "openshift-dns/dns-default"),
        (
            "a chart under a name of its own",
            vec![upstream, service("dns", "my-coredns", json!({"k8s-app": "kube-dns"}), usual_ports())],
            "dns/my-coredns",
        ),
    ]
}

#[test]
fn every_distribution_is_found_without_settings() {
    for (distribution, services, wanted) in distributions() {
        let chosen = choose(&services, None).unwrap_or_else(|error| panic!("{distribution}: {error}"));
        assert_eq!(chosen.to_string(), wanted, "{distribution}");
        let found = services.iter().find(|s| s.metadata.key() == chosen).unwrap();
        let dns = dns_service(found);
        assert_eq!(dns.udp_port.as_ref().unwrap().port, 53, "{distribution}");
        assert_eq!(dns.tcp_port.as_ref().unwrap().port, 53, "{distribution}");
    }
}

#[test]
fn settings_override_and_errors_say_what_to_do() {
    let mine = service("dns", "mine", json!({}), usual_ports());
    let usual = service("kube-system", "kube-dns", json!({}), usual_ports());
    let key = configured("dns/mine").unwrap();
    assert_eq!(choose(&[usual.clone(), mine.clone()], key.as_ref()).unwrap().to_string(), "dns/mine");
    let error = choose(&[usual], key.as_ref()).unwrap_err().to_string();
    assert!(error.contains("dns/mine") && error.contains("discovery.service"), "{error}");
    let error = choose(&[mine], None).unwrap_err().to_string();
    assert!(error.contains("openshift-dns/dns-default") && error.contains("saw dns/mine"), "{error}");
    assert!(choose(&[], None).unwrap_err().to_string().contains("no Service at all"));
    assert!(matches!(configured("nonsense"), Err(DiscoveryError::Malformed(_))));
    assert!(matches!(configured("a/b/c"), Err(DiscoveryError::Malformed(_))));
    assert_eq!(configured("").unwrap(), None);
    let two = ["a", "b"].map(|name| service("dns", name, json!({"k8s-app": "kube-dns"}), usual_ports()));
    assert!(matches!(choose(&two, None), Err(DiscoveryError::Ambiguous(_))));
}

#[test]
fn the_recorded_service_and_slices_become_targets() {
    let found: Service = recorded("get-service");
    let dns = dns_service(&found);
    assert_eq!(dns.cluster_ips, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        (dns.udp_port.clone().unwrap().name.as_str(), dns.tcp_port.clone().unwrap().name.as_str()),
        ("dns", "dns-tcp")
    );
    let list: Value = file("iptables/api.kube-dns-endpointslices.json");
    let slices: Vec<EndpointSlice> = serde_json::from_value(list["items"].clone()).unwrap();
    let pods = dns_pods(&slices, &dns, 0, 0);
    assert_eq!(pods.len(), 2);
    assert!(
        pods.iter().all(|pod| pod.ready && !pod.terminating && pod.udp_port == Some(53) && pod.tcp_port == Some(53))
    );
    assert!(pods.iter().all(|pod| pod.node.is_some() && pod.ips.len() == 1 && pod.key.namespace == "kube-system"));
    let pods = dns_pods(&slices, &dns, 5353, 0);
    assert!(pods.iter().all(|pod| pod.udp_port == Some(5353) && pod.tcp_port == Some(53)));
    let api: Value = recorded("kubernetes-endpointslice");
    let slices: Vec<EndpointSlice> = serde_json::from_value(api["items"].clone()).unwrap();
    assert_eq!(api_endpoints(&slices), ["172.30.0.254:6443".parse::<SocketAddr>().unwrap()]);
}

#[test]
fn families_merge_by_pod_and_named_ports_are_resolved() {
    let slice = |family: &str, addresses: Value, conditions: Value| -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": family}, "addressType": family,
            "endpoints": [{"addresses": addresses, "conditions": conditions, "nodeName": "n1",
                "targetRef": {"kind": "Pod", "namespace": "openshift-dns", "name": "dns-default-x", "uid": "u1"}}],
            "ports": [{"name": "dns", "port": 5353, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 5353, "protocol": "TCP"},
                {"name": "metrics", "port": 9154, "protocol": "TCP"}]
        }))
        .unwrap()
    };
    let (_, services, _) = distributions().into_iter().find(|(name, ..)| *name == "OpenShift").unwrap();
    let dns = dns_service(&services[0]);
    let v4 = slice("IPv4", json!(["10.1.0.5"]), json!({"ready": true}));
    let v6 = slice("IPv6", json!(["fd00::5"]), json!({"ready": true, "terminating": false}));
    let empty: EndpointSlice = serde_json::from_value(
        json!({"metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": null, "ports": null}),
    )
    .unwrap();
    let pods = dns_pods([&v4, &v6, &empty, &v4], &dns, 0, 0);
    let [pod] = pods.as_slice() else { panic!("one pod: {pods:?}") };
    assert_eq!(pod.ips, ["10.1.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
    assert_eq!((pod.udp_port, pod.tcp_port), (Some(5353), Some(5353)));
    let unsaid = slice("IPv4", json!(["10.1.0.5"]), json!(null));
    assert!(dns_pods([&unsaid], &dns, 0, 0)[0].ready, "absent conditions mean ready");
    let terminating = slice("IPv4", json!(["10.1.0.5"]), json!({"ready": false, "terminating": true}));
    let pods = dns_pods([&terminating], &dns, 0, 0);
    assert!(!pods[0].ready && pods[0].terminating);
}

#[test]
fn the_workload_is_known_by_its_pods() {
    let list: Value = recorded("list-coredns-pods");
    let pods: Vec<Pod> = serde_json::from_value(list["items"].clone()).unwrap();
    for pod in &pods {
        assert_eq!(workload_of(pod), Some((WorkloadKind::Deployment, ObjectKey::new("kube-system", "coredns"))));
    }
    let daemon: Pod =
        serde_json::from_value(json!({"metadata": {"namespace": "openshift-dns", "name": "dns-default-x",
        "ownerReferences": [{"kind": "DaemonSet", "name": "dns-default", "controller": true}]}}))
        .unwrap();
    assert_eq!(workload_of(&daemon), Some((WorkloadKind::DaemonSet, ObjectKey::new("openshift-dns", "dns-default"))));
    let deployment: crate::wire::Deployment = recorded("get-deployment");
    assert_eq!(dns_container(&deployment.0).unwrap().name, "coredns");
}
