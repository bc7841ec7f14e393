//! Label and field selectors.

use serde_json::Value;

use super::json::{at, list, text};
use super::resources::Resource;
use super::status::{Outcome, Refusal};

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Need {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

/// A label selector; all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Need>);

impl Labels {
    /// Reads the form of a query parameter: `a=b,c!=d,e in (f,g),h,!i`.
    pub(crate) fn parse(source: &str) -> Outcome<Self> {
        let fault = || Refusal::bad_request(format!("unable to parse requirement: {source}"));
        let mut needs = Vec::new();
        for part in split_outside_parentheses(source) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let need = if let Some((key, rest)) = part.split_once('(') {
                let values: Vec<String> =
                    rest.strip_suffix(')').ok_or_else(fault)?.split(',').map(|v| v.trim().to_owned()).collect();
                let mut words = key.split_whitespace();
                match (words.next(), words.next(), words.next()) {
                    (Some(key), Some("in"), None) => Need::In(key.into(), values),
                    (Some(key), Some("notin"), None) => Need::NotIn(key.into(), values),
                    _ => return Err(fault()),
                }
            } else if let Some((key, value)) = part.split_once("!=") {
                Need::NotIn(key.trim().into(), vec![value.trim().into()])
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                Need::In(key.trim().into(), vec![value.trim().into()])
            } else if let Some(key) = part.strip_prefix('!') {
                Need::HasNot(key.trim().into())
            } else if part.contains(char::is_whitespace) {
                return Err(fault());
            } else {
                Need::Has(part.into())
            };
            needs.push(need);
        }
        Ok(Self(needs))
    }

    /// Reads a `metav1.LabelSelector`. One without requirements selects everything, as in a budget.
    pub(crate) fn of(selector: &Value) -> Self {
        let mut needs = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                needs.push(Need::In(key.clone(), vec![value.as_str().unwrap_or_default().into()]));
            }
        }
        for expression in list(selector, &["matchExpressions"]) {
            let key = text(expression, &["key"]).to_owned();
            let values: Vec<String> =
                list(expression, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            needs.push(match text(expression, &["operator"]) {
                "NotIn" => Need::NotIn(key, values),
                "Exists" => Need::Has(key),
                "DoesNotExist" => Need::HasNot(key),
                _ => Need::In(key, values),
            });
        }
        Self(needs)
    }

    /// Reads a plain map, as a Service's selector.
    pub(crate) fn of_map(selector: &Value) -> Self {
        Self::of(&serde_json::json!({"matchLabels": selector}))
    }

    /// Whether an object has such labels.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = at(object, &["metadata", "labels"]);
        let value = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        self.0.iter().all(|need| match need {
            Need::In(key, values) => value(key).is_some_and(|value| values.iter().any(|v| v == value)),
            Need::NotIn(key, values) => value(key).is_none_or(|value| values.iter().all(|v| v != value)),
            Need::Has(key) => value(key).is_some(),
            Need::HasNot(key) => value(key).is_none(),
        })
    }
}

/// A field selector: path, whether equal, value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, bool, String)>);

impl Fields {
    /// Reads `metadata.name=x,status.phase!=y`; an unknown field of this resource is refused.
    pub(crate) fn parse(resource: &Resource, source: &str) -> Outcome<Self> {
        let mut needs = Vec::new();
        for part in source.split(',').filter(|part| !part.is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (path, true, value)
            } else {
                return Err(Refusal::bad_request(format!("invalid selector: '{part}'; can't understand '{part}'")));
            };
            if !selectable(resource, path) {
                return Err(Refusal::bad_request(format!("field label not supported: {path}")));
            }
            needs.push((path.to_owned(), equal, value.to_owned()));
        }
        Ok(Self(needs))
    }

    /// Whether an object has such fields.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, equal, wanted)| {
            let names: Vec<&str> = path.split('.').collect();
            let found = match at(object, &names) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            (found == *wanted) == *equal
        })
    }

    /// The name that `metadata.name=` asks for: authorisation by name applies to such a list.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.iter().find(|(path, equal, _)| path == "metadata.name" && *equal).map(|(_, _, value)| value.as_str())
    }
}

fn selectable(resource: &Resource, path: &str) -> bool {
    if path == "metadata.name" || (path == "metadata.namespace" && resource.namespaced) {
        return true;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => matches!(
            path,
            "spec.nodeName"
                | "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.serviceAccountName"
                | "spec.hostNetwork"
                | "status.phase"
                | "status.podIP"
                | "status.nominatedNodeName"
        ),
        ("", "nodes") => path == "spec.unschedulable",
        ("", "namespaces") => path == "status.phase",
        ("", "events") => {
            path.starts_with("involvedObject.") || matches!(path, "reason" | "reportingComponent" | "source" | "type")
        }
        ("events.k8s.io", "events") => {
            path.starts_with("regarding.") || matches!(path, "reason" | "reportingController" | "type")
        }
        ("apps", "replicasets") => path == "status.replicas",
        _ => false,
    }
}

fn split_outside_parentheses(source: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (at, character) in source.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&source[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&source[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        for (selector, wanted) in [
            ("a=1", true),
            ("a==1,b=2", true),
            ("a!=1", false),
            ("c!=1", true),
            ("a in (1,3),b", true),
            ("a notin (1)", false),
            ("!c", true),
            ("c", false),
            ("", true),
        ] {
            assert_eq!(Labels::parse(selector).unwrap().matches(&object), wanted, "{selector}");
        }
        assert!(Labels::parse("a b").is_err());
        assert!(Labels::parse("a near (1)").is_err());
    }
}
