//! What supervision must know of the inputs.

use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::probe::PathKey;
use nameward_messages::verdict::{DiagnosisTells, VerdictKey};
use nameward_supervision::{Message, Retain, WhenFull};

use crate::input::MetricsInput;

impl Message for MetricsInput {
    /// Nothing here is worth waiting for: the newest matters most, and what was dropped is counted.
    fn when_full(&self) -> WhenFull {
        WhenFull::DropOldest
    }

    /// What replaces its predecessor whole. Verdicts do not merge: each that came to stand is counted.
    fn merge_key(&self) -> Option<String> {
        match self {
            Self::Targets(_) => Some("targets".to_owned()),
            Self::Leader(_) => Some("leader".to_owned()),
            Self::Api { .. } => Some("api".to_owned()),
            Self::Orders(_) => Some("orders".to_owned()),
            Self::Report(_) => Some("report".to_owned()),
            Self::Breaker { breaker, .. } => Some(format!("breaker {}", breaker.label())),
            Self::KillSwitch(_) => Some("kill-switch".to_owned()),
            Self::View(_) => Some("view".to_owned()),
            Self::Losses(_) => Some("losses".to_owned()),
            Self::Reconfigure(_) => Some("config".to_owned()),
            Self::Suspected(suspicion) => Some(path(&suspicion.path)),
            Self::Cleared { path: cleared } => Some(path(cleared)),
            Self::Namespace(changed) => Some(namespace(changed)),
            Self::Incident { name, .. } | Self::IncidentGone { name } => Some(incident(name)),
            Self::Verdict(DiagnosisTells::Deferred(_)) => Some("deferred".to_owned()),
            Self::Verdict(DiagnosisTells::Matrix(_)) => Some("matrix".to_owned()),
            Self::Verdict(DiagnosisTells::Unmodelled(_)) => Some("unmodelled".to_owned()),
            Self::Round(_)
            | Self::Answer(_)
            | Self::Verdict(_)
            | Self::Remedy(_)
            | Self::Refused { .. }
            | Self::Oom(_)
            | Self::ConfigReload(_)
            | Self::Tick => None,
        }
    }

    fn retain(&self) -> Retain {
        match self {
            Self::Targets(_)
            | Self::Leader(_)
            | Self::Api { .. }
            | Self::Orders(_)
            | Self::Report(_)
            | Self::Breaker { .. }
            | Self::KillSwitch(_)
            | Self::Losses(_)
            | Self::Reconfigure(_)
            | Self::Suspected(_)
            | Self::Incident { .. }
            | Self::Namespace(NamespaceChanged::Found(_))
            | Self::Verdict(DiagnosisTells::Deferred(_) | DiagnosisTells::Unmodelled(_)) => {
                self.merge_key().map_or(Retain::No, Retain::Keep)
            }
            Self::Cleared { .. } | Self::IncidentGone { .. } | Self::Namespace(NamespaceChanged::Gone { .. }) => {
                self.merge_key().map_or(Retain::No, Retain::Forget)
            }
            Self::Verdict(DiagnosisTells::Stands(stands)) => Retain::Keep(verdict(&stands.key())),
            Self::Verdict(DiagnosisTells::Ended { key, .. }) => Retain::Forget(verdict(key)),
            // A view is told every few seconds.
            Self::Round(_)
            | Self::Answer(_)
            | Self::View(_)
            | Self::Verdict(
                DiagnosisTells::Matrix(_)
                | DiagnosisTells::Examined(_)
                | DiagnosisTells::Recovered(_)
                // With a verdict that stands on, its way is told again.
                | DiagnosisTells::Way { .. },
            )
            | Self::Remedy(_)
            | Self::Refused { .. }
            | Self::Oom(_)
            | Self::ConfigReload(_)
            | Self::Tick => Retain::No,
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

fn path(path: &PathKey) -> String {
    format!("path {path:?}")
}

fn namespace(changed: &NamespaceChanged) -> String {
    let (pod, cookie) = match changed {
        NamespaceChanged::Found(namespace) => (&namespace.pod, namespace.cookie),
        NamespaceChanged::Gone { pod, cookie } => (pod, *cookie),
    };
    format!("namespace {pod} {}", cookie.0)
}

fn incident(name: &str) -> String {
    format!("incident {name}")
}

fn verdict(key: &VerdictKey) -> String {
    format!("verdict {key:?}")
}
