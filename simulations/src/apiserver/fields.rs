//! Sets of fields, as `managedFields` writes them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::shape::{ListKind, Shape};

/// A set of fields as a tree. Children are named `f:member`, `k:{key}` or `v:value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// This very field belongs to the set.
    own: bool,
    children: BTreeMap<String, Fields>,
}

impl Fields {
    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.children.is_empty()
    }

    /// Every leaf of an applied object; members that no one owns (name, uid, …) are left out.
    pub(crate) fn of(value: &Value, shape: Shape<'_>) -> Self {
        let mut fields = Self::collect(value, shape, false);
        fields.strip_system();
        fields
    }

    /// What an update added or changed, and what it removed.
    pub(crate) fn changes(before: &Value, after: &Value, shape: Shape<'_>) -> (Self, Self) {
        let (mut set, mut removed) = (Self::default(), Self::default());
        compare(before, after, shape, &mut set, &mut removed);
        set.strip_system();
        removed.strip_system();
        (set, removed)
    }

    /// Leaves of `applied` that differ in `live`.
    pub(crate) fn differing(applied: &Value, live: &Value, shape: Shape<'_>) -> Self {
        let (set, _) = Self::changes(live, applied, shape);
        set
    }

    fn collect(value: &Value, shape: Shape<'_>, containers: bool) -> Self {
        let mut fields = Self::default();
        match value {
            Value::Object(map) if !shape.atomic_map() && !map.is_empty() => {
                fields.own = containers;
                for (name, value) in map {
                    fields.children.insert(format!("f:{name}"), Self::collect(value, shape.member(name), containers));
                }
            }
            Value::Array(items) if shape.list() != ListKind::Atomic && !items.is_empty() => {
                fields.own = containers;
                let kind = shape.list();
                for item in items {
                    let mut child = match kind {
                        ListKind::Set => Self::default(),
                        _ => Self::collect(item, shape.item(), containers),
                    };
                    child.own = true;
                    fields.children.insert(item_name(&kind, item), child);
                }
            }
            _ => fields.own = true,
        }
        fields
    }

    /// Adds another set.
    pub(crate) fn add(&mut self, other: &Self) {
        self.own |= other.own;
        for (name, child) in &other.children {
            self.children.entry(name.clone()).or_default().add(child);
        }
    }

    /// Takes the leaves of another set out; `below`: whatever lies below a leaf of it goes as well.
    pub(crate) fn subtract(&mut self, other: &Self, below: bool) {
        if other.own {
            self.own = false;
            if below && other.children.is_empty() {
                self.children.clear();
            }
        }
        for (name, child) in &other.children {
            if let Some(mine) = self.children.get_mut(name) {
                mine.subtract(child, below);
                if mine.is_empty() {
                    self.children.remove(name);
                }
            }
        }
    }

    /// What is in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let mut both = Self { own: self.own && other.own, children: BTreeMap::new() };
        for (name, child) in &self.children {
            if let Some(theirs) = other.children.get(name) {
                let common = child.common(theirs);
                if !common.is_empty() {
                    both.children.insert(name.clone(), common);
                }
            }
        }
        both
    }

    /// The leaves as text: `.spec.replicas`, `.spec.containers[name="a"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.write_paths("", &mut paths);
        paths
    }

    fn write_paths(&self, here: &str, out: &mut Vec<String>) {
        if self.own && self.children.is_empty() {
            out.push(here.to_owned());
        }
        for (name, child) in &self.children {
            let step = match name.split_once(':') {
                Some(("f", member)) => format!(".{member}"),
                Some(("k", key)) => {
                    let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                    let parts: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    format!("[{}]", parts.join(","))
                }
                Some((_, value)) => format!("[={value}]"),
                None => continue,
            };
            child.write_paths(&format!("{here}{step}"), out);
        }
    }

    /// Removes from `value` every leaf of this set.
    pub(crate) fn remove_from(&self, value: &mut Value, shape: Shape<'_>) {
        match value {
            Value::Object(map) => {
                for (name, child) in &self.children {
                    let Some(member) = name.strip_prefix("f:") else { continue };
                    if child.children.is_empty() {
                        map.remove(member);
                    } else if let Some(inner) = map.get_mut(member) {
                        child.remove_from(inner, shape.member(member));
                        if inner.as_object().is_some_and(Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty) {
                            map.remove(member);
                        }
                    }
                }
            }
            Value::Array(items) => {
                let kind = shape.list();
                items.retain_mut(|item| match self.children.get(&item_name(&kind, item)) {
                    Some(child) if child.own => false,
                    Some(child) => {
                        child.remove_from(item, shape.item());
                        true
                    }
                    None => true,
                });
            }
            _ => {}
        }
    }

    /// Members that have no owner.
    fn strip_system(&mut self) {
        for name in ["f:apiVersion", "f:kind"] {
            self.children.remove(name);
        }
        if let Some(metadata) = self.children.get_mut("f:metadata") {
            metadata.own = false;
            for name in [
                "name",
                "namespace",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "managedFields",
                "selfLink",
            ] {
                metadata.children.remove(&format!("f:{name}"));
            }
            if metadata.children.is_empty() {
                self.children.remove("f:metadata");
            }
        }
        self.own = false;
    }

    /// As `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for (name, child) in &self.children {
            map.insert(name.clone(), child.to_json());
        }
        Value::Object(map)
    }

    /// Reads `fieldsV1`.
    pub(crate) fn from_json(value: &Value) -> Self {
        let Some(map) = value.as_object() else { return Self::default() };
        Self::read(map, true)
    }

    fn read(map: &Map<String, Value>, root: bool) -> Self {
        let mut fields = Self { own: !root && map.is_empty(), children: BTreeMap::new() };
        for (name, child) in map {
            if name == "." {
                fields.own = true;
            } else if let Some(child) = child.as_object() {
                fields.children.insert(name.clone(), Self::read(child, false));
            }
        }
        fields
    }
}

/// The name of a list's item in a set.
fn item_name(kind: &ListKind, item: &Value) -> String {
    match kind {
        ListKind::Keyed(keys) => {
            let mut map = Map::new();
            for key in keys {
                if let Some(value) = item.get(key) {
                    map.insert(key.clone(), value.clone());
                } else if key == "protocol" {
                    map.insert(key.clone(), "TCP".into());
                }
            }
            format!("k:{}", Value::Object(map))
        }
        _ => format!("v:{item}"),
    }
}

/// Finds the item of `items` with the same key.
pub(crate) fn same_item<'v>(kind: &ListKind, items: &'v [Value], item: &Value) -> Option<&'v Value> {
    let name = item_name(kind, item);
    items.iter().find(|other| item_name(kind, other) == name)
}

/// The position of the item with the same key.
pub(crate) fn position(kind: &ListKind, items: &[Value], item: &Value) -> Option<usize> {
    let name = item_name(kind, item);
    items.iter().position(|other| item_name(kind, other) == name)
}

fn compare(before: &Value, after: &Value, shape: Shape<'_>, set: &mut Fields, removed: &mut Fields) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) if !shape.atomic_map() => {
            for (name, value) in new {
                let inner = shape.member(name);
                let child = format!("f:{name}");
                match old.get(name) {
                    Some(was) => descend(&child, was, value, inner, set, removed),
                    None => {
                        set.children.insert(child, Fields::collect(value, inner, true));
                    }
                }
            }
            for (name, value) in old {
                if !new.contains_key(name) {
                    removed.children.insert(format!("f:{name}"), Fields::collect(value, shape.member(name), true));
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if shape.list() != ListKind::Atomic => {
            let kind = shape.list();
            for item in new {
                let child = item_name(&kind, item);
                match same_item(&kind, old, item) {
                    Some(was) if kind != ListKind::Set => descend(&child, was, item, shape.item(), set, removed),
                    Some(_) => {}
                    None => {
                        let mut fields = Fields::collect(item, shape.item(), true);
                        fields.own = true;
                        set.children.insert(child, fields);
                    }
                }
            }
            for item in old {
                if same_item(&kind, new, item).is_none() {
                    let mut fields = Fields::collect(item, shape.item(), true);
                    fields.own = true;
                    removed.children.insert(item_name(&kind, item), fields);
                }
            }
        }
        _ if before == after => {}
        _ => set.add(&Fields::collect(after, shape, true)),
    }
}

fn descend(name: &str, was: &Value, is: &Value, shape: Shape<'_>, set: &mut Fields, removed: &mut Fields) {
    let (mut inner_set, mut inner_removed) = (Fields::default(), Fields::default());
    compare(was, is, shape, &mut inner_set, &mut inner_removed);
    if !inner_set.is_empty() {
        set.children.insert(name.to_owned(), inner_set);
    }
    if !inner_removed.is_empty() {
        removed.children.insert(name.to_owned(), inner_removed);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Shape<'static> {
        Shape::root("Deployment", None)
    }

    #[test]
    fn a_change_names_its_leaf() {
        let before = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "x", "resources": {"limits": {"memory": "1"}}}]}}}});
        let mut after = before.clone();
        after["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("2");
        let (set, removed) = Fields::changes(&before, &after, deployment());
        assert_eq!(set.paths(), [".spec.template.spec.containers[name=\"a\"].resources.limits.memory"]);
        assert!(removed.is_empty());
        assert_eq!(
            set.to_json(),
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {
                "f:resources": {"f:limits": {"f:memory": {}}}}}}}}})
        );
        assert_eq!(Fields::from_json(&set.to_json()), set);
    }

    #[test]
    fn sets_subtract_and_meet() {
        let object = json!({"spec": {"replicas": 1, "paused": true}});
        let mut all = Fields::of(&object, deployment());
        let one = Fields::of(&json!({"spec": {"replicas": 5}}), deployment());
        assert_eq!(all.common(&one).paths(), [".spec.replicas"]);
        all.subtract(&one, true);
        assert_eq!(all.paths(), [".spec.paused"]);
    }
}
