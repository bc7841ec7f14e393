//! What to do about a cause: the remedy of ours, if there is one, the exact command for a person, and what would
//! make it worse.

use nameward_messages::remedy::RemedyKind;
use nameward_messages::verdict::{Cause, Subject};

/// Advice on one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The remedy that Nameward has for it.
    pub remedy: Option<RemedyKind>,
    /// What a person would run, with placeholders in capitals where [`advice`] cannot know a name.
    pub command: &'static str,
    /// What makes it worse, or hides it.
    pub never: &'static [&'static str],
}

/// The advice on a cause.
#[must_use]
pub fn advice(cause: Cause) -> Advice {
    let (remedy, command, never): (_, _, &'static [&'static str]) = match cause {
        Cause::CorednsUdpDead | Cause::CorednsUdpStuck | Cause::CorednsHung => (
            Some(RemedyKind::EvictPod),
            "kubectl -n NAMESPACE delete pod POD --wait=false (this one pod, and only once another CoreDNS pod is known to answer)",
            &[
                "restarting all replicas at once",
                "deleting the pod by force",
                "a liveness probe on /health: it stays green",
            ],
        ),
        Cause::CorednsOomKilled => (
            Some(RemedyKind::RaiseMemory),
            "kubectl -n NAMESPACE set resources deployment/WORKLOAD --limits=memory=LIMIT",
            &["deleting pods: the load concentrates on those that are left", "removing the limit"],
        ),
        Cause::ServiceRulesMissing | Cause::ServiceRulesStale => (
            Some(RemedyKind::RestartKubeProxy),
            "kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName=NODE",
            &["editing KUBE-* chains by hand", "restarting CoreDNS", "iptables -F or nft flush ruleset"],
        ),
        Cause::ServiceWithoutEndpoints => (
            None,
            "kubectl -n NAMESPACE get service,endpointslices,pods -l k8s-app=kube-dns -o wide (compare the Service's selector with the pods' labels)",
            &["restarting kube-proxy", "writing an EndpointSlice by hand"],
        ),
        Cause::PodRouteMissing => (
            Some(RemedyKind::RestoreRoute),
            "nsenter --net=NETNS ip route add default via GATEWAY (the gateway of a sibling pod on the same bridge), else delete the pod",
            &["restarting CoreDNS"],
        ),
        Cause::VethOffBridge => (
            Some(RemedyKind::AttachVeth),
            "ip link set VETH master BRIDGE (the bridge of the sibling pods); port state: bridge link set dev VETH state 3",
            &["restarting CoreDNS", "giving the veth an address"],
        ),
        Cause::ForwardPolicyDrop => (
            None,
            "find who set it (docker, ufw, firewalld), then accept the pods alone: iptables -I FORWARD -s PODCIDR -j ACCEPT && iptables -I FORWARD -d PODCIDR -j ACCEPT",
            &["iptables -P FORWARD ACCEPT on a hardened node", "restarting CoreDNS or kube-proxy"],
        ),
        Cause::WrongNameserver => (
            None,
            "compare the kubelet's clusterDNS (kubectl get --raw /api/v1/nodes/NODE/proxy/configz) with the Service's address, correct it, then recreate the pod",
            &["changing packet filters", "moving the Service to the wrong address"],
        ),
        Cause::UpstreamDead => (
            None,
            "repair the upstream, or name another one in the Corefile's forward: kubectl -n NAMESPACE edit configmap coredns",
            &["restarting CoreDNS: its cache is what still answers"],
        ),
        Cause::Unexplained => (
            None,
            "nameward diagnose --host on the node, and the evidence of the verdict",
            &["restarting CoreDNS in the hope that it helps"],
        ),
    };
    Advice { remedy, command, never }
}

impl Advice {
    /// The command with what the subject tells filled in.
    #[must_use]
    pub fn command_for(&self, subject: &Subject) -> String {
        let mut command = self.command.to_owned();
        if let Some(namespace) = &subject.namespace {
            command = command.replace("NAMESPACE", namespace);
        }
        let place = match subject.kind {
            nameward_messages::verdict::SubjectKind::Pod => "POD",
            nameward_messages::verdict::SubjectKind::Node => "NODE",
            nameward_messages::verdict::SubjectKind::Deployment => "WORKLOAD",
            nameward_messages::verdict::SubjectKind::Service | nameward_messages::verdict::SubjectKind::Upstream => {
                return command;
            }
        };
        let whole = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
        // Whole words only: POD must not touch PODCIDR.
        let mut out = String::with_capacity(command.len());
        let mut rest = command.as_str();
        while let Some(at) = rest.find(place) {
            let (before, after) = rest.split_at(at);
            let tail = &after[place.len()..];
            out.push_str(before);
            out.push_str(if whole(before.chars().last()) && whole(tail.chars().next()) {
                &subject.name
            } else {
                place
            });
            rest = tail;
        }
        out.push_str(rest);
        out
    }
}
