//! What a person is told: the sentence of an incident and the exact command.

use nameward_config::Bytes;
use nameward_config::settings::Remedy;
use nameward_messages::NodeName;
use nameward_messages::cluster_view::{ClusterView, WorkloadKind};
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::verdict::{Cause, Scope, Subject};

/// Whether a person is called as soon as the cause is named: Nameward does not touch it.
#[must_use]
pub fn persons_alone(settings: &Remedy, cause: Cause) -> bool {
    // Restarting kube-proxy is off unless it is asked for by name.
    let touches = |kind: &RemedyKind| *kind != RemedyKind::RestartKubeProxy || settings.mode_of(*kind) != Mode::Off;
    !settings.ladder(cause).iter().any(touches) && !nobodys_worry(cause)
}

/// Whether nobody is called for it at all: no client is concerned (a CoreDNS pod does not reach itself by the Service).
#[must_use]
pub fn nobodys_worry(cause: Cause) -> bool {
    matches!(cause, Cause::HairpinOff)
}

/// One line for `kubectl get dnsincidents`.
#[must_use]
pub fn summary(cause: Cause, subject: &Subject) -> String {
    let what = cause.about().says;
    format!("{subject} {what}")
}

/// The command with which a person begins, with every name and figure that the cluster's objects tell. What only a node knows (a
/// network namespace, a link) stays in capitals: the agent's own word has it.
#[must_use]
pub fn command(cause: Cause, subject: &Subject, nodes: &[NodeName], settings: &Remedy, view: &ClusterView) -> String {
    // A CoreDNS pod is looked into on its own node, whoever complains of it.
    let own = view.pods.iter().find(|pod| subject.uid.as_ref() == Some(&pod.uid)).and_then(|pod| pod.node.as_ref());
    let node = own.or(nodes.first());
    let mut known: Vec<(&str, String)> = Vec::new();
    known.extend(own.map(|node| ("DEAD_NODE", node.to_string())));
    known.extend(address(subject, node, view).map(|ip| ("POD_IP", ip)));
    if let Some(workload) = &view.workload {
        known.push(("WORKLOAD", workload.key.name.clone()));
        known.push(("REPLICAS", workload.replicas.saturating_add(1).to_string()));
        known.extend(workload.container.clone().map(|name| ("CONTAINER", name)));
        known.extend(workload.memory_limit.map(|limit| ("LIMIT", Bytes(more(settings, limit)).to_string())));
    }
    // The DNS Service's namespace is CoreDNS's.
    if let Some(service) = &view.targets.service {
        known.push(("NAMESPACE", service.key.namespace.clone()));
        known.push(("SERVICE", service.key.name.clone()));
        known.extend(service.cluster_ips.first().map(|ip| ("SERVICE_IP", ip.to_string())));
    } else if let Some(workload) = &view.workload {
        known.push(("NAMESPACE", workload.key.namespace.clone()));
    }
    let words: Vec<(&str, &str)> = known.iter().map(|(place, name)| (*place, name.as_str())).collect();
    let command = cause.command_with(subject, node.map(NodeName::as_str), &words);
    match &view.workload {
        Some(w) if w.kind == WorkloadKind::DaemonSet => {
            command.replace(&format!("deployment/{}", w.key.name), &format!("daemonset/{}", w.key.name))
        }
        _ => command,
    }
}

/// The address of the CoreDNS pod that it is about; else of one on another node, which is where packets get lost.
fn address(subject: &Subject, node: Option<&NodeName>, view: &ClusterView) -> Option<String> {
    let pods = || view.targets.pods.iter();
    let own = pods().find(|pod| subject.uid.as_ref() == Some(&pod.uid));
    let far = || pods().find(|pod| pod.ready && pod.node.as_ref() != node).or_else(|| pods().next());
    own.or_else(far)?.ips.first().map(ToString::to_string)
}

/// The next memory limit: where Nameward would go, and beyond its cap where that is reached, since there a person decides.
fn more(settings: &Remedy, limit: u64) -> u64 {
    let factor = if settings.memory_factor > 1.0 { settings.memory_factor } else { 2.0 };
    let next = crate::mind::memory::next_limit(limit, factor);
    if settings.memory_cap.0 > limit { next.min(settings.memory_cap.0) } else { next }
}

/// How far an incident without a verdict's own scope reaches.
#[must_use]
pub fn scope_of(cause: Cause) -> Scope {
    match cause {
        Cause::Unexplained => Scope::CorednsPod,
        named => named.about().scope,
    }
}

#[cfg(test)]
#[path = "advice/tests.rs"]
mod tests;
