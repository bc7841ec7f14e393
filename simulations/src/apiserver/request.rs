//! Reading a request: path, query, body.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use serde_json::Value;

use super::status::{Outcome, Refusal};

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user name, as `system:serviceaccount:nameward:nameward-agent`.
    pub name: String,
    /// Groups; `system:authenticated` and those of a service account are added by the server.
    pub groups: Vec<String>,
    /// Extra attributes, as `authentication.kubernetes.io/node-name`.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A service account's token; bound to a node, if one is given, as a pod's token is.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, node: Option<&str>) -> Self {
        let extra = node
            .map(|node| ("authentication.kubernetes.io/node-name".to_owned(), vec![node.to_owned()]))
            .into_iter()
            .collect();
        Self { name: format!("system:serviceaccount:{namespace}:{name}"), groups: Vec::new(), extra }
    }

    /// The same, bound to a pod as well.
    #[must_use]
    pub fn of_pod(mut self, pod: &str) -> Self {
        self.extra.insert(POD_NAME.to_owned(), vec![pod.to_owned()]);
        self
    }

    /// The pod that it is bound to, or nothing.
    pub(crate) fn pod(&self) -> &str {
        self.extra.get(POD_NAME).and_then(|all| all.first()).map_or("", String::as_str)
    }

    /// All power, as the first administrator of a cluster has it.
    #[must_use]
    pub fn admin() -> Self {
        Self { name: ADMIN.into(), groups: vec!["system:masters".into()], extra: BTreeMap::new() }
    }

    /// The groups that count in authorisation.
    pub(crate) fn all_groups(&self) -> Vec<String> {
        let mut groups = self.groups.clone();
        if self.name == ANONYMOUS {
            groups.push("system:unauthenticated".into());
            return groups;
        }
        groups.push("system:authenticated".into());
        if let Some(rest) = self.name.strip_prefix("system:serviceaccount:") {
            groups.push("system:serviceaccounts".into());
            if let Some((namespace, _)) = rest.split_once(':') {
                groups.push(format!("system:serviceaccounts:{namespace}"));
            }
        }
        groups
    }
}

/// The attribute with the name of a token's pod.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Name of the in-process administrator.
pub(crate) const ADMIN: &str = "kubernetes-admin";
/// Name of the controllers and kubelets of the simulation.
pub(crate) const MACHINERY: &str = "system:machinery";
/// Who has no token.
pub(crate) const ANONYMOUS: &str = "system:anonymous";

/// One request, whether it came by HTTP or from inside.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) content_type: String,
    pub(crate) accept: String,
    /// The first word of the User-Agent before `/`: the default field manager.
    pub(crate) agent: String,
    pub(crate) body: Bytes,
    pub(crate) user: User,
    /// From inside the process: namespaces need not exist, status and uid of a created object are kept.
    pub(crate) inside: bool,
}

impl ApiRequest {
    /// A query parameter, `""` if absent.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// A boolean query parameter.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.param(name), "1" | "true" | "True")
    }

    /// Whether the query asks for a dry run.
    pub(crate) fn dry_run(&self) -> bool {
        self.param("dryRun") == "All"
    }

    /// Who owns the fields that this request writes.
    pub(crate) fn manager(&self) -> String {
        match (self.param("fieldManager"), self.agent.as_str()) {
            ("", "") => "unknown".into(),
            ("", agent) => agent.into(),
            (manager, _) => manager.into(),
        }
    }

    /// The body as JSON; YAML is taken too.
    pub(crate) fn json(&self) -> Outcome<Value> {
        if let Ok(value) = serde_json::from_slice(&self.body) {
            return Ok(value);
        }
        let text = std::str::from_utf8(&self.body).map_err(|_| Refusal::bad_request("the body is not UTF-8"))?;
        serde_saphyr::from_str(text)
            .map_err(|error| Refusal::bad_request(format!("the object provided is unrecognized: {error}")))
    }

    /// The body as JSON, null if empty.
    pub(crate) fn json_or_null(&self) -> Outcome<Value> {
        if self.body.iter().all(u8::is_ascii_whitespace) { Ok(Value::Null) } else { self.json() }
    }
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// Not a resource: `/version`, `/apis`, ….
    Other(Vec<String>),
    /// A resource, an object or a subresource.
    Resource(Target),
}

/// A path below a group and version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

/// Splits a path.
pub(crate) fn parse_path(path: &str) -> Named {
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (group, version, rest) = match words.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Named::Other(parts),
    };
    let mut target = Target { group: group.into(), version: version.into(), ..Target::default() };
    let rest = match rest {
        // `namespaces/x` and `namespaces/x/status` are about the namespace itself.
        ["namespaces", _, "status" | "finalize"] => rest,
        ["namespaces", namespace, inner @ ..] if !inner.is_empty() => {
            target.namespace = (*namespace).into();
            inner
        }
        _ => rest,
    };
    let mut rest = rest.iter();
    target.plural = rest.next().copied().unwrap_or_default().into();
    target.name = rest.next().copied().unwrap_or_default().into();
    target.subresource = rest.next().copied().unwrap_or_default().into();
    Named::Resource(target)
}

/// Splits a query string.
pub(crate) fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        })
        .collect()
}

/// Undoes percent-encoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = (byte == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match hex {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let Named::Resource(target) = parse_path("/api/v1/namespaces/kube-system/pods/a/eviction") else { panic!() };
        assert_eq!(
            (target.namespace.as_str(), target.plural.as_str(), target.name.as_str(), target.subresource.as_str()),
            ("kube-system", "pods", "a", "eviction")
        );
        let Named::Resource(target) = parse_path("/api/v1/namespaces/x") else { panic!() };
        assert_eq!((target.plural.as_str(), target.name.as_str()), ("namespaces", "x"));
        assert!(matches!(parse_path("/apis/apps/v1"), Named::Other(_)));
    }

    #[test]
    fn queries() {
        let query = parse_query("labelSelector=k8s-app%3Dkube-dns&watch=1&x");
        assert_eq!(query["labelSelector"], "k8s-app=kube-dns");
        assert_eq!(query["x"], "");
        assert_eq!(parse_query("a=%zz%4")["a"], "%zz%4");
    }
}
