//! Authorisation by the roles and bindings in the store.

use std::sync::Arc;

use serde_json::Value;

use super::json::{list, text};
use super::request::User;
use super::state::State;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl Ask<'_> {
    /// `pods` or `pods/eviction`.
    pub(crate) fn resource(&self) -> String {
        if self.subresource.is_empty() { self.plural.into() } else { format!("{}/{}", self.plural, self.subresource) }
    }

    /// Why it was refused.
    pub(crate) fn refusal(&self, user: &User) -> String {
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!(
            "User {:?} cannot {} resource {:?} in API group {:?} {place}",
            user.name,
            self.verb,
            self.resource(),
            self.group
        )
    }
}

/// Whether this user may do that.
pub(crate) fn allowed(state: &State, user: &User, ask: &Ask<'_>) -> bool {
    !granted_by(state, user, ask).is_empty()
}

/// The roles that let this user do that: `Role NAMESPACE/NAME` or `ClusterRole NAME`, or what stands above roles.
pub(crate) fn granted_by(state: &State, user: &User, ask: &Ask<'_>) -> Vec<String> {
    let groups = user.all_groups();
    if groups.iter().any(|group| group == "system:masters") {
        return vec!["system:masters".into()];
    }
    // The built-in role system:basic-user.
    if ask.plural == "selfsubjectaccessreviews" && ask.verb == "create" {
        let authenticated = groups.iter().any(|group| group == "system:authenticated");
        return if authenticated { vec!["ClusterRole system:basic-user".into()] } else { Vec::new() };
    }
    let everywhere = bound(state, user, &groups, "clusterrolebindings.rbac.authorization.k8s.io", "");
    let here = if ask.namespace.is_empty() {
        Vec::new()
    } else {
        bound(state, user, &groups, "rolebindings.rbac.authorization.k8s.io", ask.namespace)
    };
    let grants = |role: &Value| list(role, &["rules"]).iter().any(|rule| covers(rule, ask));
    everywhere.into_iter().chain(here).filter(|(_, role)| grants(role)).map(|(named, _)| named).collect()
}

/// The role that lets this user do that with a path that is no resource.
pub(crate) fn url_granted_by(state: &State, user: &User, verb: &str, path: &str) -> Option<String> {
    let groups = user.all_groups();
    let has = |rule: &Value, member: &str, fits: &dyn Fn(&str) -> bool| {
        list(rule, &[member]).iter().filter_map(Value::as_str).any(fits)
    };
    let below = |pattern: &str| pattern.strip_suffix('*').is_some_and(|start| path.starts_with(start));
    let grants = |role: &Value| {
        list(role, &["rules"]).iter().any(|rule| {
            has(rule, "verbs", &|v| v == "*" || v == verb)
                && has(rule, "nonResourceURLs", &|url| url == path || below(url))
        })
    };
    let everywhere = bound(state, user, &groups, "clusterrolebindings.rbac.authorization.k8s.io", "");
    everywhere.into_iter().find(|(_, role)| grants(role)).map(|(named, _)| named)
}

fn bound(state: &State, user: &User, groups: &[String], table: &str, namespace: &str) -> Vec<(String, Arc<Value>)> {
    let mut roles = Vec::new();
    for (key, binding) in state.objects(table) {
        if key.0 != namespace || !list(binding, &["subjects"]).iter().any(|subject| names(subject, user, groups)) {
            continue;
        }
        let name = text(binding, &["roleRef", "name"]);
        let (table, place, named) = match text(binding, &["roleRef", "kind"]) {
            "Role" => ("roles.rbac.authorization.k8s.io", namespace, format!("Role {namespace}/{name}")),
            _ => ("clusterroles.rbac.authorization.k8s.io", "", format!("ClusterRole {name}")),
        };
        if let Some(role) = state.get(table, place, name) {
            roles.push((named, Arc::clone(role)));
        }
    }
    roles
}

fn names(subject: &Value, user: &User, groups: &[String]) -> bool {
    let name = text(subject, &["name"]);
    match text(subject, &["kind"]) {
        "ServiceAccount" => user.name == format!("system:serviceaccount:{}:{name}", text(subject, &["namespace"])),
        "User" => user.name == name,
        "Group" => groups.iter().any(|group| group == name),
        _ => false,
    }
}

fn covers(rule: &Value, ask: &Ask<'_>) -> bool {
    let has = |member: &str, wanted: &str| {
        list(rule, &[member]).iter().filter_map(Value::as_str).any(|found| found == "*" || found == wanted)
    };
    let resource = ask.resource();
    let by_name = list(rule, &["resourceNames"]);
    has("verbs", ask.verb)
        && has("apiGroups", ask.group)
        && (has("resources", &resource)
            || (!ask.subresource.is_empty() && has("resources", &format!("*/{}", ask.subresource))))
        && (by_name.is_empty()
            || (!ask.name.is_empty() && by_name.iter().filter_map(Value::as_str).any(|name| name == ask.name)))
}
