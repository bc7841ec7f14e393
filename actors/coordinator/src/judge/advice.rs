//! What a person is told: the sentence of an incident and the exact command.

use nameward_config::settings::Remedy;
use nameward_messages::NodeName;
use nameward_messages::cluster_view::ClusterView;
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

/// The command with which a person begins.
#[must_use]
pub fn command(cause: Cause, subject: &Subject, nodes: &[NodeName], view: &ClusterView) -> String {
    // A CoreDNS pod is looked into on its own node, whoever complains of it.
    let own = view.pods.iter().find(|pod| subject.uid.as_ref() == Some(&pod.uid)).and_then(|pod| pod.node.as_ref());
    let command = cause.command_for(subject, own.or(nodes.first()).map(NodeName::as_str));
    // What the subject does not tell, the cluster may: the DNS Service's namespace is CoreDNS's.
    match view.targets.service.as_ref() {
        Some(service) => command.replace("NAMESPACE", &service.key.namespace),
        None => command,
    }
}

/// How far an incident without a verdict's own scope reaches.
#[must_use]
pub fn scope_of(cause: Cause) -> Scope {
    match cause {
        Cause::Unexplained => Scope::CorednsPod,
        named => named.about().scope,
    }
}
