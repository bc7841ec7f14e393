//! A cluster to begin with, as the recorded one was.

use serde_json::{Value, json};

use crate::apiserver::{ApiFault, Handle};

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Name.
    pub name: String,
    /// Address of the host.
    pub address: String,
    /// Addresses of its pods.
    pub pod_cidr: String,
}

impl NodePlan {
    /// The node with number `n`: `node1`, 172.30.0.11, 10.244.1.0/24.
    #[must_use]
    pub fn numbered(n: u8) -> Self {
        Self {
            name: format!("node{n}"),
            address: format!("172.30.0.{}", u16::from(n) + 10),
            pod_cidr: format!("10.244.{n}.0/24"),
        }
    }
}

/// What there is at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// The nodes.
    pub nodes: Vec<NodePlan>,
    /// CoreDNS replicas.
    pub replicas: u32,
    /// Memory limit of CoreDNS.
    pub memory: String,
    /// Address of the DNS Service.
    pub dns_service: String,
    /// Address and port of the API server behind the Service 10.96.0.1:443.
    pub api_server: (String, u16),
    /// DaemonSets of client pods: namespace and name. Each puts one pod on each node.
    pub clients: Vec<(String, String)>,
    /// Whether CoreDNS has a disruption budget (`maxUnavailable: 1`).
    pub budget: bool,
    /// Text of the Corefile.
    pub corefile: String,
    /// CoreDNS is a DaemonSet instead of a Deployment; then it has no budget.
    pub daemon_set: bool,
    /// kube-proxy is a DaemonSet, as kubeadm makes it.
    pub kube_proxy: bool,
}

/// The recorded Corefile.
const COREFILE: &str = ".:53 {\n    errors\n    health { \n      lameduck 5s \n    }\n    ready\n    kubernetes \
cluster.local in-addr.arpa ip6.arpa {\n      pods insecure\n      fallthrough in-addr.arpa ip6.arpa\n      ttl 30\n    }\n    \
prometheus :9153\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    cache 30\n    loop\n    reload\n    \
loadbalance\n}\n";

impl Default for ClusterPlan {
    fn default() -> Self {
        Self {
            nodes: vec![NodePlan::numbered(1), NodePlan::numbered(2)],
            replicas: 2,
            memory: "170Mi".into(),
            dns_service: "10.96.0.10".into(),
            api_server: ("172.30.0.254".into(), 6443),
            clients: vec![("default".into(), "client".into()), ("shop".into(), "cart".into())],
            budget: true,
            corefile: COREFILE.into(),
            daemon_set: false,
            kube_proxy: false,
        }
    }
}

/// Creates nodes, the Services `kubernetes` and `kube-dns`, CoreDNS with its Corefile and budget, and client pods' sets.
/// Pods come from the machinery.
///
/// # Errors
/// One of the objects is refused: it exists already, or the plan holds an impossible value.
pub fn seed_cluster(handle: &Handle, plan: &ClusterPlan) -> Result<(), ApiFault> {
    for node in &plan.nodes {
        handle.create(self::node(handle, node))?;
    }
    handle.create(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
                     "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": plan.api_server.1}],
                 "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]},
    }))?;
    handle.create(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [plan.api_server.0], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "protocol": "TCP", "port": plan.api_server.1}],
    }))?;
    handle.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "coredns", "namespace": "kube-system"}, "data": {"Corefile": plan.corefile},
    }))?;
    handle.create(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system",
                     "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
                     "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"}},
        "spec": {"ports": [{"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                           {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
                           {"name": "metrics", "protocol": "TCP", "port": 9153, "targetPort": 9153}],
                 "selector": {"k8s-app": "kube-dns"}, "clusterIP": plan.dns_service, "clusterIPs": [plan.dns_service]},
    }))?;
    if plan.budget && !plan.daemon_set {
        handle.create(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"k8s-app": "kube-dns"}}},
        }))?;
    }
    handle.create(coredns(plan))?;
    if plan.kube_proxy {
        handle.create(kube_proxy())?;
    }
    for (namespace, name) in &plan.clients {
        if handle.get("Namespace", "", namespace).is_none() {
            handle.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
                                 "status": {"phase": "Active"}}))?;
        }
        handle.create(clients(namespace, name))?;
    }
    Ok(())
}

fn node(handle: &Handle, node: &NodePlan) -> Value {
    let stamp = crate::apiserver::stamp(handle.now());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "lastHeartbeatTime": stamp, "lastTransitionTime": stamp,
               "reason": reason, "message": message})
    };
    let size = json!({"cpu": "2", "memory": "24684084Ki", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.name, "labels": {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
                                                   "kubernetes.io/hostname": node.name}},
        "spec": {"podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr]},
        "status": {
            "capacity": size, "allocatable": size,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "addresses": [{"type": "InternalIP", "address": node.address}, {"type": "Hostname", "address": node.name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {"machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "6.18.44",
                         "osImage": "Debian GNU/Linux 12 (bookworm)", "containerRuntimeVersion": "containerd://2.3.4",
                         "kubeletVersion": "v1.36.2", "kubeProxyVersion": "", "operatingSystem": "linux",
                         "architecture": "amd64"},
        },
    })
}

fn coredns(plan: &ClusterPlan) -> Value {
    let probe = |path: &str, port: u16, timeout: u8, failures: u8| {
        json!({"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "timeoutSeconds": timeout, "periodSeconds": 10,
               "successThreshold": 1, "failureThreshold": failures})
    };
    let mut workload = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": "kube-system",
                     "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
        "spec": {
            "replicas": plan.replicas,
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "volumes": [{"name": "config-volume", "configMap": {"name": "coredns", "defaultMode": 420,
                                 "items": [{"key": "Corefile", "path": "Corefile"}]}}],
                    "containers": [{
                        "name": "coredns", "image": "registry.k8s.io/coredns/coredns:v1.13.1",
                        "args": ["-conf", "/etc/coredns/Corefile"],
                        "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"},
                                  {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
                                  {"name": "metrics", "containerPort": 9153, "protocol": "TCP"}],
                        "resources": {"limits": {"memory": plan.memory}, "requests": {"cpu": "100m", "memory": "70Mi"}},
                        "volumeMounts": [{"name": "config-volume", "readOnly": true, "mountPath": "/etc/coredns"}],
                        "livenessProbe": probe("/health", 8080, 5, 5),
                        "readinessProbe": probe("/ready", 8181, 1, 3),
                        "securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
                                            "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false},
                    }],
                    "dnsPolicy": "Default",
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "serviceAccountName": "coredns", "serviceAccount": "coredns",
                    "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
                    "priorityClassName": "system-cluster-critical",
                },
            },
        },
    });
    if plan.daemon_set {
        workload["kind"] = "DaemonSet".into();
        if let Some(spec) = workload["spec"].as_object_mut() {
            spec.remove("replicas");
            spec.remove("strategy");
        }
    }
    workload
}

fn kube_proxy() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": {"k8s-app": "kube-proxy"}},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-proxy"}},
                "spec": {
                    "containers": [{"name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.36.2",
                                    "securityContext": {"privileged": true}}],
                    "hostNetwork": true,
                    "priorityClassName": "system-node-critical",
                    "serviceAccountName": "kube-proxy",
                    "tolerations": [{"operator": "Exists"}],
                },
            },
        },
    })
}

fn clients(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [{"name": "c", "image": "docker.io/library/busybox:1.35",
                                    "command": ["/bin/sh", "-c", "while true; do sleep 3600; done"]}],
                    "terminationGracePeriodSeconds": 1,
                    "serviceAccountName": "default",
                },
            },
        },
    })
}
