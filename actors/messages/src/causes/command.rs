//! What a person runs about a cause, with the names that are known filled in.

use std::fmt;

use super::Cause;
use crate::verdict::{Subject, SubjectKind};

impl Cause {
    /// The stable id.
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.about().id
    }

    /// The fault of the catalogue it stands for.
    #[must_use]
    pub const fn fault(self) -> &'static str {
        self.about().fault
    }

    /// What a person would run for this subject, as seen from a node; words in capitals are left where nothing is known.
    #[must_use]
    pub fn command_for(self, subject: &Subject, node: Option<&str>) -> String {
        self.command_with(subject, node, &[])
    }

    /// As [`Self::command_for`], with more words that are known here: `("NETNS", "/run/netns/cni-…")`.
    #[must_use]
    pub fn command_with(self, subject: &Subject, node: Option<&str>, more: &[(&str, &str)]) -> String {
        let node = if subject.kind == SubjectKind::Node { Some(subject.name.as_str()) } else { node };
        let known =
            [("NAMESPACE", subject.namespace.as_deref()), ("NAME", Some(subject.name.as_str())), ("NODE", node)];
        let known = known.into_iter().filter_map(|(place, name)| Some((place, name?))).chain(more.iter().copied());
        known.fold(self.about().command.to_owned(), |command, (place, name)| fill(&command, place, name))
    }
}

/// Whole words only: NAME must not touch NAMESPACE.
fn fill(text: &str, place: &str, name: &str) -> String {
    let whole = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(place) {
        let (before, after) = rest.split_at(at);
        let tail = &after[place.len()..];
        let alone = whole(before.chars().last()) && whole(tail.chars().next());
        out.push_str(before);
        out.push_str(if alone { name } else { place });
        rest = tail;
    }
    out.push_str(rest);
    out
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kebab_case_and_distinct_and_serialise_as_themselves() {
        let mut seen = std::collections::BTreeSet::new();
        for cause in Cause::ALL {
            let id = cause.id();
            assert!(id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{id}");
            assert!(seen.insert(id), "{id} twice");
            assert_eq!(serde_json::to_value(cause).unwrap(), serde_json::json!(id));
        }
    }

    #[test]
    fn a_command_takes_the_subjects_names() {
        let node = Subject { kind: SubjectKind::Node, namespace: None, name: "node7".into(), uid: None };
        let command = Cause::ServiceRulesMissing.command_for(&node, None);
        assert!(command.ends_with("spec.nodeName=node7"), "{command}");
        let pod = Subject { kind: SubjectKind::Pod, namespace: Some("shop".into()), name: "cart".into(), uid: None };
        let command = Cause::CorednsUdpDead.command_for(&pod, Some("node7"));
        assert!(command.starts_with("kubectl -n shop delete pod cart "), "{command}");
        let known = [("NETNS", "/run/netns/cni-1"), ("GATEWAY", "10.244.1.1"), ("VETH", "veth1")];
        let command = Cause::PodRouteMissing.command_with(&pod, None, &known);
        assert!(
            command.starts_with("nsenter --net=/run/netns/cni-1 ip route add default via 10.244.1.1 ("),
            "{command}"
        );
    }
}
