//! What a person is told: the sentence of an incident and the exact command.

use nameward_messages::NodeName;
use nameward_messages::cluster_view::ClusterView;
use nameward_messages::remedy::RemedyKind;
use nameward_messages::verdict::{Cause, Scope, Subject, SubjectKind};

/// The shared remedy of a cause, if it has one. The executor judges by its own table again.
#[must_use]
pub fn shared_remedy(cause: Cause) -> Option<RemedyKind> {
    match cause {
        Cause::CorednsUdpDead | Cause::CorednsUdpStuck | Cause::CorednsHung => Some(RemedyKind::EvictPod),
        Cause::CorednsOomKilled => Some(RemedyKind::RaiseMemory),
        Cause::ServiceRulesMissing
        | Cause::ServiceRulesStale
        | Cause::ServiceWithoutEndpoints
        | Cause::PodRouteMissing
        | Cause::VethOffBridge
        | Cause::ForwardPolicyDrop
        | Cause::WrongNameserver
        | Cause::UpstreamDead
        | Cause::Unexplained => None,
    }
}

/// Whether a person is called as soon as the cause is named: Nameward does not touch it.
#[must_use]
pub fn persons_alone(cause: Cause) -> bool {
    match cause {
        Cause::ServiceRulesMissing
        | Cause::ServiceRulesStale
        | Cause::ServiceWithoutEndpoints
        | Cause::ForwardPolicyDrop
        | Cause::WrongNameserver
        | Cause::UpstreamDead
        | Cause::Unexplained => true,
        Cause::CorednsUdpDead
        | Cause::CorednsUdpStuck
        | Cause::CorednsHung
        | Cause::CorednsOomKilled
        | Cause::PodRouteMissing
        | Cause::VethOffBridge => false,
    }
}

/// One line for `kubectl get dnsincidents`.
#[must_use]
pub fn summary(cause: Cause, subject: &Subject) -> String {
    let what = match cause {
        Cause::CorednsUdpDead => "does not listen on UDP while TCP answers",
        Cause::CorednsUdpStuck => "does not read its UDP socket while TCP answers",
        Cause::CorednsHung => "hangs: TCP connects and nothing answers",
        Cause::CorednsOomKilled => "is killed for want of memory",
        Cause::ServiceRulesMissing => "has no kube-proxy rules for the DNS Service",
        Cause::ServiceRulesStale => "has kube-proxy rules that send DNS to the wrong endpoints",
        Cause::ServiceWithoutEndpoints => "has no endpoints",
        Cause::PodRouteMissing => "has no default route",
        Cause::VethOffBridge => "has its veth off the bridge",
        Cause::ForwardPolicyDrop => "drops forwarded packets of pods",
        Cause::WrongNameserver => "names a nameserver that does not answer",
        Cause::UpstreamDead => "does not answer CoreDNS",
        Cause::Unexplained => "fails and no rule explains it",
    };
    format!("{subject} {what}")
}

/// The command with which a person begins.
#[must_use]
pub fn command(cause: Cause, subject: &Subject, nodes: &[NodeName], view: &ClusterView) -> String {
    let namespace = subject.namespace.as_deref().unwrap_or("kube-system");
    let name = &subject.name;
    let node = if subject.kind == SubjectKind::Node {
        name.clone()
    } else {
        nodes.first().map_or_else(|| "<node>".to_owned(), |n| n.0.clone())
    };
    let service = view.targets.service.as_ref().map_or_else(
        || ("kube-system".to_owned(), "kube-dns".to_owned()),
        |s| (s.key.namespace.clone(), s.key.name.clone()),
    );
    match cause {
        Cause::CorednsUdpDead | Cause::CorednsUdpStuck | Cause::CorednsHung => {
            format!("kubectl -n {namespace} delete pod {name}")
        }
        Cause::CorednsOomKilled => {
            format!("kubectl -n {namespace} set resources deployment {name} --limits=memory=<more than now>")
        }
        Cause::ServiceRulesMissing | Cause::ServiceRulesStale => {
            format!("kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName={node}")
        }
        Cause::ServiceWithoutEndpoints => {
            format!("kubectl -n {0} get endpointslices,pods -l k8s-app={1} -o wide", service.0, service.1)
        }
        Cause::PodRouteMissing | Cause::VethOffBridge => format!("kubectl -n {namespace} delete pod {name}"),
        Cause::ForwardPolicyDrop => format!(
            "on {node}: iptables -S FORWARD; then let the CNI accept pod traffic again (restart its pod on {node}), or iptables -P FORWARD ACCEPT"
        ),
        Cause::WrongNameserver => format!(
            "kubectl -n {namespace} get pod {name} -o jsonpath='{{.spec.dnsPolicy}} {{.spec.dnsConfig}}'; on {node} compare clusterDNS of the \
             kubelet with kubectl -n {} get service {}",
            service.0, service.1
        ),
        Cause::UpstreamDead => format!(
            "dig @{name} . NS from a node; then correct `forward` with kubectl -n {} edit configmap coredns. Restarting CoreDNS does not help",
            service.0
        ),
        Cause::Unexplained => {
            let path =
                if subject.kind == SubjectKind::Pod { format!("{namespace}/{name}") } else { "--host".to_owned() };
            format!("on {node}: nameward diagnose {path}")
        }
    }
}

/// How far an incident without a verdict's own scope reaches.
#[must_use]
pub fn scope_of(cause: Cause) -> Scope {
    match cause {
        Cause::CorednsOomKilled | Cause::UpstreamDead | Cause::ServiceWithoutEndpoints => Scope::Cluster,
        Cause::CorednsUdpDead | Cause::CorednsUdpStuck | Cause::CorednsHung | Cause::Unexplained => Scope::CorednsPod,
        Cause::ServiceRulesMissing | Cause::ServiceRulesStale | Cause::ForwardPolicyDrop => Scope::Node,
        Cause::PodRouteMissing | Cause::VethOffBridge | Cause::WrongNameserver => Scope::Pod,
    }
}
