//! Which rights of the roles were used, and what was refused: a right that no scenario needs is one too many.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::rbac::Ask;
use super::request::User;

/// One verb on one resource, by one role or refused to one user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Whether it was granted.
    pub granted: bool,
    /// `Role NAMESPACE/NAME`, `ClusterRole NAME`, or the user's name if it was refused.
    pub by: String,
    /// As `get`.
    pub verb: String,
    /// The API group; empty for the core.
    pub group: String,
    /// As `pods/eviction`.
    pub resource: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.granted { "used" } else { "refused" };
        write!(f, "{how}\t{}\t{}\t{}\t{}", self.by, self.verb, self.group, self.resource)
    }
}

/// Those that came up so far.
#[derive(Debug, Default)]
pub(crate) struct Rights(Mutex<BTreeSet<Right>>);

impl Rights {
    /// Notes an answer: by which role, or `None` if no role allows it. Nobody's roles but service accounts' matter.
    pub(crate) fn note(&self, user: &User, ask: &Ask<'_>, role: Option<&str>) {
        if !user.name.starts_with("system:serviceaccount:") {
            return;
        }
        let right = Right {
            granted: role.is_some(),
            by: role.unwrap_or(&user.name).to_owned(),
            verb: ask.verb.to_owned(),
            group: ask.group.to_owned(),
            resource: ask.resource(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(right);
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> Vec<Right> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
