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
    /// `Role NAMESPACE/NAME`, `ClusterRole NAME`, `ValidatingAdmissionPolicy NAME`, or the user's name if it was refused.
    pub by: String,
    /// As `get`; of a policy `judge`.
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
    /// Notes an answer: by which roles, or by none. Nobody's roles but service accounts' matter.
    pub(crate) fn note(&self, user: &User, ask: &Ask<'_>, roles: &[String]) {
        if !user.name.starts_with("system:serviceaccount:") {
            return;
        }
        let right = |granted, by: &String| Right {
            granted,
            by: by.clone(),
            verb: ask.verb.to_owned(),
            group: ask.group.to_owned(),
            resource: ask.resource(),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(roles.iter().map(|role| right(true, role)));
        if roles.is_empty() {
            all.insert(right(false, &user.name));
        }
    }

    /// Notes that a role lets somebody do something with a path that is no resource.
    pub(crate) fn url(&self, role: &str, verb: &str, path: &str) {
        let (by, verb) = (role.to_owned(), verb.to_owned());
        let right = Right { granted: true, by, verb, group: String::new(), resource: path.to_owned() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(right);
    }

    /// Notes that a policy judged a write.
    pub(crate) fn judged(&self, policy: &str, group: &str, resource: &str) {
        let by = format!("ValidatingAdmissionPolicy {policy}");
        let (group, resource) = (group.to_owned(), resource.to_owned());
        let right = Right { granted: true, by, verb: "judge".to_owned(), group, resource };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(right);
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> Vec<Right> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
