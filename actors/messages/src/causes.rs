//! The causes, each with what is known of it, in one table that a person can read: the id that stays stable, the fault
//! of the catalogue, how far it reaches, the layer that must be repaired, what a person runs and what makes it worse.

use serde::{Deserialize, Serialize};

use crate::remedy::RemedyKind;
use crate::verdict::Scope;

mod command;

/// The layer in which a cause lies: it decides which breaker looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// A CoreDNS process, its pod or its workload.
    Coredns,
    /// The DNS Service and other objects of the API.
    Service,
    /// One node: links, routes, packet filters, sysctls, conntrack, kube-proxy's rules.
    Node,
    /// The network between nodes.
    Underlay,
    /// One workload pod's own network or resolver configuration.
    Pod,
    /// What CoreDNS forwards to.
    Upstream,
    /// Not known.
    Unknown,
}

/// What is known of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The stable id, kebab-case.
    pub id: &'static str,
    /// The variant's name: reason of Events.
    pub reason: &'static str,
    /// The fault of the catalogue it stands for, `-` for none.
    pub fault: &'static str,
    /// How far it reaches unless the verdict says otherwise.
    pub scope: Scope,
    /// Where it lies.
    pub layer: Layer,
    /// What the subject does or has, to be read after its name: `does not listen on UDP`.
    pub says: &'static str,
    /// Nameward's own remedy, if it has one.
    pub remedy: Option<RemedyKind>,
    /// What a person would run. NAMESPACE and NAME are the subject's, NODE is the subject or the node that saw it; other words
    /// in capitals cannot be known here.
    pub command: &'static str,
    /// What makes it worse, or hides it.
    pub never: &'static [&'static str],
}

macro_rules! causes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $id:literal ($fault:literal) $layer:ident $scope:ident {
        says: $says:literal, remedy: $remedy:expr, command: $command:literal, never: $never:expr $(,)?
    } )+) => {
        /// A cause: stable, kebab-case in every output.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum Cause {
            $( $(#[doc = $doc])+ #[serde(rename = $id)] $variant, )+
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// What is known of it.
            #[must_use]
            pub const fn about(self) -> About {
                match self {
                    $( Self::$variant => About {
                        id: $id,
                        reason: stringify!($variant),
                        fault: $fault,
                        scope: Scope::$scope,
                        layer: Layer::$layer,
                        says: $says,
                        remedy: $remedy,
                        command: $command,
                        never: $never,
                    }, )+
                }
            }
        }
    };
}

const EVICT: Option<RemedyKind> = Some(RemedyKind::EvictPod);
const NOT_COREDNS: &[&str] = &["restarting CoreDNS: it is well"];
const NOT_PROXY: &[&str] = &["editing KUBE-* chains by hand", "restarting CoreDNS", "iptables -F or nft flush ruleset"];
const NOT_ALL: &[&str] =
    &["restarting all replicas at once", "deleting the pod by force", "a liveness probe on /health: it stays green"];
const NOT_FILTERS: &[&str] = &["changing packet filters", "restarting CoreDNS"];

causes! {
    /// The UDP listener of a CoreDNS pod is gone while TCP answers.
    CorednsUdpDead = "coredns-udp-dead" ("F01a") Coredns CorednsPod {
        says: "does not listen on UDP while TCP answers",
        remedy: EVICT,
        command: "kubectl -n NAMESPACE delete pod NAME --wait=false (this one pod, and only once another CoreDNS pod is known to answer)",
        never: NOT_ALL,
    }
    /// The UDP socket of a CoreDNS pod is there but nobody reads it, while TCP answers.
    CorednsUdpStuck = "coredns-udp-stuck" ("F01b") Coredns CorednsPod {
        says: "does not read its UDP socket while TCP answers",
        remedy: EVICT,
        command: "kubectl -n NAMESPACE delete pod NAME --wait=false (this one pod, and only once another CoreDNS pod is known to answer)",
        never: NOT_ALL,
    }
    /// The whole process hangs: TCP connects, nothing answers.
    CorednsHung = "coredns-hung" ("F01c") Coredns CorednsPod {
        says: "hangs: TCP connects and nothing answers",
        remedy: EVICT,
        command: "kubectl -n NAMESPACE delete pod NAME --wait=false (this one pod, and only once another CoreDNS pod is known to answer)",
        never: NOT_ALL,
    }
    /// A packet filter inside the CoreDNS pod's own namespace drops its queries; the process is well.
    CorednsUdpFiltered = "coredns-udp-filtered" ("F01d") Coredns CorednsPod {
        says: "has a packet filter in its own namespace that drops DNS",
        remedy: None,
        command: "nsenter --net=NETNS iptables-save -c (find the rule whose counter moves and the container that made it: a sidecar or an init container)",
        never: &["evicting the pod: the next one is made with the same rule"],
    }
    /// CoreDNS is killed for want of memory.
    CorednsOomKilled = "coredns-oom-killed" ("F05") Coredns Cluster {
        says: "is killed for want of memory",
        remedy: Some(RemedyKind::RaiseMemory),
        command: "kubectl -n NAMESPACE set resources deployment/WORKLOAD -c CONTAINER --limits=memory=LIMIT",
        never: &["deleting pods: the load concentrates on those that are left", "removing the limit"],
    }
    /// The process gets less CPU than it needs: its cgroup is throttled.
    CorednsThrottled = "coredns-throttled" ("F18") Coredns CorednsPod {
        says: "is throttled: it needs more CPU than its limit",
        remedy: None,
        command: "kubectl -n NAMESPACE set resources deployment/WORKLOAD -c CONTAINER --limits=cpu=0 (or a higher limit), or add a replica",
        never: &["restarting it: a cold cache makes more work", "a liveness probe with a short time-out"],
    }
    /// Queries come faster than the process reads them: the receive buffer of its UDP socket overflows.
    CorednsReceiveOverflow = "coredns-receive-overflow" ("F19") Coredns CorednsPod {
        says: "loses queries: the receive buffer of its UDP socket overflows",
        remedy: None,
        command: "kubectl -n NAMESPACE scale deployment/WORKLOAD --replicas=REPLICAS; on NODE: sysctl -w net.core.rmem_default=BYTES, then recreate the pod",
        never: &["raising net.core.rmem_max alone: the socket is made with rmem_default"],
    }
    /// CoreDNS has no (or no fresh) view of the API: cluster names fail while external ones resolve.
    CorednsApiLost = "coredns-api-lost" ("F20") Coredns CorednsPod {
        says: "has lost the API server: cluster names fail while external ones resolve",
        remedy: None,
        command: "kubectl -n NAMESPACE logs NAME | grep -i 'failed to watch' (then the path from the pod to the kubernetes Service, then its rights)",
        never: &["restarting replicas during an API outage: they come back without any cluster names"],
    }
    /// CoreDNS ends itself because it forwards to itself (plugin loop).
    CorednsLoop = "coredns-loop" ("F16") Coredns Cluster {
        says: "forwards to itself and is ended by its plugin loop",
        remedy: None,
        command: "kubelet --resolv-conf=/run/systemd/resolve/resolv.conf on the node, or an upstream by address in the Corefile's forward; then recreate the pod",
        never: &["taking `loop` out of the Corefile: a crash becomes an out-of-memory kill"],
    }
    /// CoreDNS cannot start with its configuration: it ends at once, again and again.
    CorefileBroken = "corefile-broken" ("F46") Coredns Cluster {
        says: "cannot start: its configuration is refused or its port cannot be bound",
        remedy: None,
        command: "kubectl -n NAMESPACE logs -l k8s-app=kube-dns --previous (it names the line or the port); then put the old Corefile back: kubectl -n NAMESPACE edit configmap coredns",
        never: &["restarting pods that still run the old, good configuration: a latent fault becomes an outage"],
    }
    /// CoreDNS pods cannot be started: no address, no place, no image.
    CorednsPending = "coredns-pending" ("F50") Coredns Cluster {
        says: "has pods that cannot start",
        remedy: None,
        command: "kubectl -n NAMESPACE describe pods -l k8s-app=kube-dns (its Events name what is missing: an address, a place, an image)",
        never: &["deleting files of running pods from /var/lib/cni/networks"],
    }
    /// The node of a CoreDNS pod is gone and the pod is an endpoint still.
    EndpointOnDeadNode = "endpoint-on-dead-node" ("F21") Coredns CorednsPod {
        says: "is an endpoint still, but its node is gone",
        remedy: None,
        command: "kubectl get nodes (the evidence names the dead one); when it is known to be off: kubectl taint node DEAD_NODE node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
        never: &["restarting the healthy replicas", "editing the rules of other nodes"],
    }
    /// Every CoreDNS replica is on one node, and that node fails.
    ReplicasOnOneNode = "replicas-on-one-node" ("F58") Coredns Cluster {
        says: "has every replica on one node, and that node fails",
        remedy: None,
        command: "add a topologySpreadConstraint or podAntiAffinity on kubernetes.io/hostname to deployment/NAME in NAMESPACE",
        never: &["more replicas without a spread: they land beside the others"],
    }
    /// A CoreDNS pod answers otherwise than the API says, or otherwise than its siblings.
    WrongAnswer = "wrong-answer" ("F48") Coredns CorednsPod {
        says: "answers otherwise than the API says",
        remedy: None,
        command: "compare: dig @POD_IP kubernetes.default.svc.cluster.local. with kubectl get service kubernetes; delete the one divergent replica only if the others agree with the API",
        never: &["restarting all replicas: the truth may be lost with them"],
    }
    /// CoreDNS serves another cluster domain than the kubelets tell the pods.
    ZoneMismatch = "zone-mismatch" ("F47") Coredns Cluster {
        says: "does not serve the cluster domain that pods search",
        remedy: None,
        command: "compare the zone behind `kubernetes` in the Corefile (kubectl -n NAMESPACE get configmap coredns -o yaml) with clusterDomain of the kubelets",
        never: &["restarting CoreDNS", "changing the search list of single pods"],
    }
    /// A answers and AAAA does not: musl fails the whole lookup, glibc waits.
    AaaaBroken = "aaaa-broken" ("F49") Coredns Cluster {
        says: "answers A, but not AAAA, for the same name",
        remedy: None,
        command: "dig @POD_IP AAAA kubernetes.default.svc.cluster.local. must be NOERROR; a packet filter or a plugin (template, rewrite) stands in the way",
        never: &["disabling IPv6 in every image"],
    }
    /// The upstream that CoreDNS forwards to does not answer. Never a reason to restart CoreDNS.
    UpstreamDead = "upstream-dead" ("F06") Upstream Cluster {
        says: "does not answer CoreDNS",
        remedy: None,
        command: "repair the upstream, or name another one in the Corefile's forward: kubectl -n kube-system edit configmap coredns",
        never: &["restarting CoreDNS: its cache is what still answers"],
    }
    /// The upstream answers some queries and drops others, more when it is asked more.
    UpstreamThrottled = "upstream-throttled" ("F07") Upstream Cluster {
        says: "drops part of the queries that CoreDNS forwards",
        remedy: None,
        command: "spread CoreDNS over nodes (cloud resolvers limit packets per node interface: ethtool -S DEV | grep allowance_exceeded), a longer cache, NodeLocal DNSCache",
        never: &["more replicas on the same node", "restarting CoreDNS: its cache is what still answers"],
    }
    /// CoreDNS refuses external names because its forward plugin has too many queries under way.
    ForwardLimitReached = "forward-limit-reached" ("F56") Upstream CorednsPod {
        says: "refuses external names: max_concurrent of its forward plugin is reached",
        remedy: None,
        command: "raise max_concurrent of forward in the Corefile (kubectl -n NAMESPACE edit configmap coredns), and find out why the upstream is slow",
        never: &["taking max_concurrent out: memory is the next limit"],
    }
    /// Packets of pods leave the node with their own address: what they ask outside cannot answer.
    MasqueradeMissing = "masquerade-missing" ("F43") Node Node {
        says: "sends packets of pods out without masquerading them",
        remedy: None,
        command: "restart the CNI's pod on NODE; look for the MASQUERADE rule of the pod range in nat POSTROUTING: iptables-save -t nat",
        never: &["restarting CoreDNS", "masquerading everything"],
    }
    /// Search lists and ndots make many queries of each lookup: most answers are NXDOMAIN.
    SearchAmplification = "search-amplification" ("F04") Coredns Cluster {
        says: "is asked many names that do not exist: search lists and ndots multiply each lookup",
        remedy: None,
        command: "names with a final dot, dnsConfig options ndots:2, plugin autopath, or NodeLocal DNSCache",
        never: &["adding replicas without end"],
    }
    /// kube-proxy's rules for the DNS Service are missing on a node.
    ServiceRulesMissing = "service-rules-missing" ("F09, F10") Node Node {
        says: "has no kube-proxy rules for the DNS Service",
        remedy: Some(RemedyKind::RestartKubeProxy),
        command: "kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName=NODE",
        never: NOT_PROXY,
    }
    /// kube-proxy's rules send to endpoints that are not there any more, or leave some out.
    ServiceRulesStale = "service-rules-stale" ("F10") Node Node {
        says: "has kube-proxy rules that send DNS to the wrong endpoints",
        remedy: Some(RemedyKind::RestartKubeProxy),
        command: "kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName=NODE",
        never: NOT_PROXY,
    }
    /// The Service has no endpoints.
    ServiceWithoutEndpoints = "service-without-endpoints" ("F11") Service Cluster {
        says: "has no endpoints",
        remedy: None,
        command: "kubectl -n NAMESPACE get service,endpointslices,pods -l k8s-app=kube-dns -o wide (compare the Service's selector with the pods' labels)",
        never: &["restarting kube-proxy", "writing an EndpointSlice by hand"],
    }
    /// The Service lacks one of its DNS ports.
    ServicePortMissing = "service-port-missing" ("F11") Service Cluster {
        says: "lacks a DNS port, UDP or TCP",
        remedy: None,
        command: "kubectl -n NAMESPACE get service NAME -o yaml (it needs port 53 by UDP and by TCP)",
        never: &["restarting kube-proxy"],
    }
    /// The DNS Service is gone while pods go on asking its address.
    ServiceMissing = "service-missing" ("F11") Service Cluster {
        says: "is gone while pods go on asking its address",
        remedy: None,
        command: "create the Service again with the clusterIP that the kubelets name in clusterDNS: kubectl -n NAMESPACE get service",
        never: &["a Service with another clusterIP: running pods keep the old one"],
    }
    /// The Service routes to endpoints of the same node only, and this node has none.
    NoLocalEndpoint = "no-local-endpoint" ("F51") Service Node {
        says: "has no CoreDNS pod while the DNS Service keeps traffic on the node (internalTrafficPolicy: Local)",
        remedy: None,
        command: "kubectl -n NAMESPACE patch service SERVICE -p '{\"spec\":{\"internalTrafficPolicy\":\"Cluster\"}}'",
        never: &["restarting kube-proxy", "a CoreDNS pod on every node without NodeLocal DNSCache"],
    }
    /// Conntrack entries send queries from a kept source port to an endpoint that is gone.
    StaleConntrack = "stale-conntrack" ("F02") Node Node {
        says: "sends queries from kept source ports to an endpoint that is gone (stale conntrack)",
        remedy: Some(RemedyKind::DropConntrack),
        command: "conntrack -D -p udp --orig-dst SERVICE_IP --orig-port-dst 53 --reply-src DEAD_IP on NODE",
        never: &["conntrack -F", "restarting CoreDNS: it makes more dead endpoints"],
    }
    /// The conntrack table is full: nothing new gets through.
    ConntrackFull = "conntrack-full" ("F15") Node Node {
        says: "has a full conntrack table",
        remedy: Some(RemedyKind::WriteSysctl),
        command: "on NODE: sysctl -w net.netfilter.nf_conntrack_max=MORE, then find the top talker: conntrack -L 2>/dev/null | grep -o 'src=[^ ]*' | sort | uniq -c | sort -n | tail",
        never: &["conntrack -F: it cuts every translated flow", "restarting CoreDNS"],
    }
    /// Entries cannot be inserted into conntrack: two packets race, or the ports for SNAT are used up.
    ConntrackInsertFailed = "conntrack-insert-failed" ("F03, F42") Node Node {
        says: "loses queries because conntrack cannot insert their entries",
        remedy: None,
        command: "conntrack -S on NODE (insert_failed); use --random-fully for MASQUERADE, spread the load over more addresses, or NodeLocal DNSCache",
        never: &["raising nf_conntrack_max: the table is not full", "more CoreDNS endpoints"],
    }
    /// Rules of kube-proxy stand in both iptables backends; what one does the other undoes.
    TwoIptablesBackends = "two-iptables-backends" ("F44") Node Node {
        says: "has rules of kube-proxy in both iptables backends",
        remedy: None,
        command: "compare iptables-legacy-save and iptables-nft-save on NODE; drain and reboot it, or remove the KUBE-* chains of the backend that kube-proxy does not use",
        never: &["restarting CoreDNS", "flushing the backend in use"],
    }
    /// Some program holds the xtables lock: kube-proxy cannot write its rules.
    XtablesLockHeld = "xtables-lock-held" ("F45") Node Node {
        says: "has a program that holds the xtables lock: kube-proxy cannot write its rules",
        remedy: None,
        command: "on NODE: fuser -v /run/xtables.lock, then stop that program",
        never: &["deleting the lock file", "restarting CoreDNS"],
    }
    /// A rule redirects DNS elsewhere before kube-proxy sees it.
    Port53Redirected = "port-53-redirected" ("F52") Node Node {
        says: "has a rule that redirects port 53 before kube-proxy sees it",
        remedy: None,
        command: "iptables-save -t nat on NODE: find the owner of the rule (a hostPort 53, a DNS proxy) and move it to another port",
        never: &["restarting CoreDNS or kube-proxy"],
    }
    /// Bridged packets bypass iptables: replies of CoreDNS pods on the same node come from the wrong source.
    BridgeFilterOff = "bridge-filter-off" ("F12") Node Node {
        says: "lets bridged packets bypass iptables: replies come from the wrong source",
        remedy: Some(RemedyKind::WriteSysctl),
        command: "on NODE: modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1, and in /etc/sysctl.d",
        never: &["restarting CoreDNS until it lands elsewhere"],
    }
    /// The node's FORWARD policy drops the pods' traffic.
    ForwardPolicyDrop = "forward-policy-drop" ("F08") Node Node {
        says: "drops forwarded packets of pods",
        remedy: None,
        command: "find who set it (docker, ufw, firewalld), then accept the pods alone: iptables -I FORWARD -s PODCIDR -j ACCEPT && iptables -I FORWARD -d PODCIDR -j ACCEPT",
        never: &["iptables -P FORWARD ACCEPT on a hardened node", "restarting CoreDNS or kube-proxy"],
    }
    /// The node does not forward packets.
    IpForwardOff = "ip-forward-off" ("F29") Node Node {
        says: "does not forward packets (net.ipv4.ip_forward, or forwarding of a device)",
        remedy: Some(RemedyKind::WriteSysctl),
        command: "on NODE: sysctl -w net.ipv4.ip_forward=1 (or of the device that the evidence names), and in /etc/sysctl.d",
        never: &["restarting CoreDNS or kube-proxy"],
    }
    /// A rule of the node's packet filter drops or rejects DNS.
    PacketFilterDrop = "packet-filter-drop" ("F09, F25, F26") Node Node {
        says: "has a packet filter rule that drops DNS",
        remedy: None,
        command: "the evidence names the rule; find its owner (firewalld, ufw, nftables.service) and allow UDP and TCP 53 for the pods",
        never: &["flushing the table", "restarting CoreDNS"],
    }
    /// A NetworkPolicy, as the CNI wrote it, drops DNS of or to this pod.
    NetworkPolicyDrop = "network-policy-drop" ("F25, F26") Pod Pod {
        says: "is kept from DNS by a NetworkPolicy",
        remedy: None,
        command: "kubectl -n NAMESPACE get networkpolicy; allow egress to kube-system on port 53 by UDP and by TCP (and ingress to CoreDNS)",
        never: &["flushing the chains of the CNI", "deleting the policy"],
    }
    /// A packet filter inside the pod's own namespace drops or diverts its queries.
    PodFilterDrop = "pod-filter-drop" ("F57") Pod Pod {
        says: "has a packet filter in its own namespace that drops DNS",
        remedy: None,
        command: "nsenter --net=NETNS iptables-save -c (the rule's owner is a sidecar or an init container of the pod)",
        never: &["restarting CoreDNS", "changing rules of the node"],
    }
    /// A strict reverse path filter drops what comes in by another way than it would leave.
    ReversePathFilter = "reverse-path-filter" ("F30") Node Node {
        says: "drops packets that come in by another way than they would leave (rp_filter)",
        remedy: Some(RemedyKind::WriteSysctl),
        command: "on NODE: sysctl -w net.ipv4.conf.DEV.rp_filter=2, and in /etc/sysctl.d",
        never: &["rp_filter=0 on every interface", "restarting CoreDNS"],
    }
    /// Packets arrive with bad checksums: offloading of an overlay or a driver is broken.
    ChecksumErrors = "checksum-errors" ("F13") Node Node {
        says: "receives DNS packets with bad checksums",
        remedy: None,
        command: "on both nodes: ethtool -K DEV tx-checksum-ip-generic off (flannel.1, vxlan.calico), and make it last",
        never: &["restarting or moving CoreDNS"],
    }
    /// DNS does not get from one node to another, though both are well.
    NodePairBlocked = "node-pair-blocked" ("F14") Underlay Node {
        says: "does not exchange DNS with other nodes, though both ends are well",
        remedy: None,
        command: "the network between the nodes: security groups, host firewalls, the overlay's port (UDP 8472, 4789); the evidence names the pairs",
        never: &["restarting CoreDNS", "any change on the nodes"],
    }
    /// Big answers get lost on the way, small ones arrive: an MTU is too big somewhere.
    FragmentsLost = "fragments-lost" ("F27") Underlay Node {
        says: "loses big DNS answers on the way while small ones arrive",
        remedy: None,
        command: "bufsize 1232 in the Corefile; then the MTU of the CNI against the underlay's (ip link), and whether ICMP 3/4 is let through",
        never: &["bufsize 512: everything is truncated, and TCP must carry it"],
    }
    /// TCP to port 53 is blocked while answers are truncated over UDP.
    Tcp53Blocked = "tcp-53-blocked" ("F28") Node Node {
        says: "lets no TCP through to port 53, though answers are truncated over UDP",
        remedy: None,
        command: "allow TCP 53 wherever UDP 53 is allowed: the evidence names the rule or the policy",
        never: &["raising bufsize beyond the path's MTU"],
    }
    /// A node has no usable route to the pods of another.
    NodeRouteMissing = "node-route-missing" ("F40") Node Node {
        says: "has no usable route to the pods of another node",
        remedy: None,
        command: "ip route get POD_IP on NODE; restart the CNI's pod on NODE, and compare the pod ranges of the nodes with the Service range",
        never: &["restarting CoreDNS", "adding routes by hand that the CNI does not know"],
    }
    /// A pod has a route of its own for the Service's range, so its queries never reach the node's rules.
    ServiceRangeOverlapped = "service-range-overlapped" ("F40") Pod Pod {
        says: "has a route of its own for the Service range",
        remedy: None,
        command: "nsenter --net=NETNS ip route; the pod range and the Service range (or a network attached to the pod) overlap",
        never: &["restarting CoreDNS or kube-proxy"],
    }
    /// The host has no route that covers the Service's address: routing comes before the rules.
    ServiceRouteMissing = "service-route-missing" ("F54") Node Node {
        says: "has no route for the Service range, so the host itself cannot ask it (pods can)",
        remedy: None,
        command: "on NODE: ip route add SERVICE_RANGE via GATEWAY, or a default route; pods are not concerned",
        never: &["restarting kube-proxy: its rules are there"],
    }
    /// The neighbour table of the kernel is full.
    NeighbourTableFull = "neighbour-table-full" ("F39") Node Node {
        says: "has a full neighbour table",
        remedy: Some(RemedyKind::WriteSysctl),
        command: "on NODE: sysctl -w net.ipv4.neigh.default.gc_thresh3=MORE (and gc_thresh2, gc_thresh1)",
        never: &["flushing the neighbour table in a loop"],
    }
    /// The pods' bridge is down, or has lost its address: pods have no gateway.
    BridgeDown = "bridge-down" ("F36") Node Node {
        says: "has a pod bridge that is down or without its address",
        remedy: Some(RemedyKind::RestoreBridgeAddress),
        command: "on NODE: ip link set BRIDGE up; ip address add GATEWAY/PREFIX dev BRIDGE; or restart the CNI",
        never: &["restarting CoreDNS"],
    }
    /// A pod has no default route.
    PodRouteMissing = "pod-route-missing" ("F31") Pod Pod {
        says: "has no default route",
        remedy: Some(RemedyKind::RestoreRoute),
        command: "nsenter --net=NETNS ip route add default via GATEWAY (the gateway of a sibling pod on the same bridge), else delete the pod",
        never: NOT_COREDNS,
    }
    /// A pod's default route leads to an address that nobody has.
    WrongGateway = "wrong-gateway" ("F32") Pod Pod {
        says: "has a default route to an address that nobody has",
        remedy: Some(RemedyKind::RestoreRoute),
        command: "nsenter --net=NETNS ip route replace default via GATEWAY (the gateway of a sibling pod), else delete the pod",
        never: NOT_COREDNS,
    }
    /// A neighbour entry names a link-layer address that its owner does not have.
    WrongNeighbour = "wrong-neighbour" ("F33") Node Pod {
        says: "is hidden behind a neighbour entry with the wrong link-layer address",
        remedy: Some(RemedyKind::FixNeighbour),
        command: "ip neigh del ENTRY dev DEV where the evidence names the entry (on the node, or in the pod by nsenter)",
        never: &["restarting CoreDNS", "ip neigh flush all"],
    }
    /// One end of a pod's veth pair is down.
    VethDown = "veth-down" ("F34") Pod Pod {
        says: "has its veth down",
        remedy: Some(RemedyKind::SetLinkUp),
        command: "ip link set VETH up (on the node; or nsenter --net=NETNS ip link set eth0 up, and its routes again), else delete the pod",
        never: NOT_COREDNS,
    }
    /// The host end of a pod's veth pair is not attached to its bridge, or the port is off.
    VethOffBridge = "veth-off-bridge" ("F35") Pod Pod {
        says: "has its veth off the bridge",
        remedy: Some(RemedyKind::AttachVeth),
        command: "ip link set VETH master BRIDGE (the bridge of the sibling pods); port state: bridge link set dev VETH state 3; bridge link set dev VETH isolated off",
        never: &["restarting CoreDNS", "giving the veth an address"],
    }
    /// Two pods of the node have the same address.
    DuplicatePodIp = "duplicate-pod-ip" ("F37") Pod Pod {
        says: "has an address that another pod has too",
        remedy: None,
        command: "kubectl get pods -A -o wide --field-selector status.podIP=ADDRESS; delete the younger of the two, and look after the CNI's address management",
        never: &["deleting CoreDNS when it is the rightful owner"],
    }
    /// Two pods of the node have the same link-layer address.
    DuplicateMac = "duplicate-mac" ("F38") Pod Pod {
        says: "has a link-layer address that another pod has too",
        remedy: None,
        command: "delete one of the two pods",
        never: &["restarting CoreDNS"],
    }
    /// A CoreDNS pod cannot reach itself by the Service: hairpin mode is off on its bridge port.
    HairpinOff = "hairpin-off" ("F41") Pod CorednsPod {
        says: "cannot reach itself by the Service (hairpin mode is off); clients are not concerned",
        remedy: None,
        command: "bridge link set dev VETH hairpin on; or hairpinMode in the CNI's configuration",
        never: &["paging anybody for it", "restarting CoreDNS"],
    }
    /// A pod's resolv.conf names a server that does not answer while the DNS Service does.
    WrongNameserver = "wrong-nameserver" ("F24") Pod Pod {
        says: "names a nameserver that does not answer",
        remedy: None,
        command: "compare the kubelet's clusterDNS (kubectl get --raw /api/v1/nodes/NODE/proxy/configz) with the Service's address, correct it, then recreate the pod",
        never: &["changing packet filters", "moving the Service to the wrong address"],
    }
    /// A pod's resolv.conf names a loopback address: the node's stub resolver, which is not in the pod.
    LoopbackNameserver = "loopback-nameserver" ("F17") Pod Pod {
        says: "names a loopback address as its nameserver: the node's stub resolver is not in the pod",
        remedy: None,
        command: "kubelet --resolv-conf=/run/systemd/resolve/resolv.conf on NODE, then recreate the pod",
        never: NOT_FILTERS,
    }
    /// A pod on the host's network has dnsPolicy ClusterFirst and so gets the node's resolver.
    HostNetworkDnsPolicy = "host-network-dns-policy" ("F53") Pod Pod {
        says: "is on the host's network with dnsPolicy ClusterFirst: it asks the node's resolver",
        remedy: None,
        command: "set dnsPolicy: ClusterFirstWithHostNet in the pod's template",
        never: NOT_FILTERS,
    }
    /// A pod's resolv.conf has more nameservers or search domains than resolvers read.
    ResolvConfLimits = "resolv-conf-limits" ("F55") Pod Pod {
        says: "has more nameservers or search domains in resolv.conf than resolvers read",
        remedy: None,
        command: "shorten the node's resolv.conf or the pod's dnsConfig: 3 nameservers; 6 search domains for old resolvers",
        never: NOT_FILTERS,
    }
    /// NodeLocal DNSCache does not answer on a node, or has left its rules behind.
    NodeLocalDnsDead = "node-local-dns-dead" ("F23") Node Node {
        says: "has a NodeLocal DNSCache that does not answer",
        remedy: None,
        command: "kubectl -n kube-system delete pod -l k8s-app=node-local-dns --field-selector spec.nodeName=NODE; if it does not come back, take its NOTRACK rules and its link away",
        never: &["restarting CoreDNS or kube-proxy"],
    }
    /// Something fails and no rule explains it; the verdict says what was read.
    Unexplained = "unexplained" ("-") Unknown Node {
        says: "fails and no rule explains it",
        remedy: None,
        command: "nameward diagnose --host on NODE, and the evidence of the verdict",
        never: &["restarting CoreDNS in the hope that it helps"],
    }
}
