//! How lists and maps merge: by key, as a set, or as a whole. Known by member name for built-in kinds
//! and read from the schema for custom ones.

use serde_json::Value;

/// Where in an object we stand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape<'s> {
    /// In a built-in kind: the kind, the member we stand in and its parent.
    BuiltIn { kind: &'s str, parent: &'s str, member: &'s str },
    /// In a custom resource: the schema here, if there is one.
    Schema(Option<&'s Value>),
}

/// How a list merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// As a whole.
    Atomic,
    /// Item by item, told apart by these members.
    Keyed(Vec<String>),
    /// As a set of scalars.
    Set,
}

impl<'s> Shape<'s> {
    /// The shape of a whole object.
    pub(crate) fn root(kind: &'s str, schema: Option<&'s Value>) -> Self {
        match schema {
            Some(schema) => Self::Schema(Some(schema)),
            None => Self::BuiltIn { kind, parent: "", member: "" },
        }
    }

    /// The shape of a member.
    pub(crate) fn member(self, name: &'s str) -> Self {
        match self {
            Self::BuiltIn { kind, member, .. } => Self::BuiltIn { kind, parent: member, member: name },
            // Metadata of a custom object is that of any object.
            Self::Schema(_) if name == "metadata" => Self::BuiltIn { kind: "", parent: "", member: "metadata" },
            Self::Schema(schema) => Self::Schema(schema.and_then(|schema| {
                schema.get("properties").and_then(|all| all.get(name)).or_else(|| schema.get("additionalProperties"))
            })),
        }
    }

    /// The shape of a list's items.
    pub(crate) fn item(self) -> Self {
        match self {
            Self::BuiltIn { .. } => self,
            Self::Schema(schema) => Self::Schema(schema.and_then(|schema| schema.get("items"))),
        }
    }

    /// How the list here merges in server-side apply.
    pub(crate) fn list(self) -> ListKind {
        match self {
            Self::BuiltIn { kind, parent, member } => match member {
                "ports" if parent == "containers" => keyed(&["containerPort", "protocol"]),
                "ports" if kind == "Service" => keyed(&["port", "protocol"]),
                "finalizers" => ListKind::Set,
                _ => strategic_key(kind, parent, member).map_or(ListKind::Atomic, |key| keyed(&[key])),
            },
            Self::Schema(schema) => {
                let Some(schema) = schema else { return ListKind::Atomic };
                match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                    Some("map") => ListKind::Keyed(
                        schema
                            .get("x-kubernetes-list-map-keys")
                            .and_then(Value::as_array)
                            .map(|keys| keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                            .unwrap_or_default(),
                    ),
                    Some("set") => ListKind::Set,
                    _ => ListKind::Atomic,
                }
            }
        }
    }

    /// The key by which a strategic merge patch merges the list here; `None`: it replaces the list.
    pub(crate) fn strategic(self) -> Option<&'static str> {
        match self {
            Self::BuiltIn { kind, parent, member } => strategic_key(kind, parent, member),
            Self::Schema(_) => None,
        }
    }

    /// Whether the object here is owned as a whole.
    pub(crate) fn atomic_map(self) -> bool {
        match self {
            Self::BuiltIn { member, .. } => matches!(
                member,
                "selector"
                    | "nodeSelector"
                    | "matchLabels"
                    | "fieldRef"
                    | "resourceFieldRef"
                    | "configMapKeyRef"
                    | "targetRef"
                    | "regarding"
            ),
            Self::Schema(schema) => schema.is_some_and(|schema| {
                schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic")
                    || schema.get("x-kubernetes-preserve-unknown-fields").and_then(Value::as_bool) == Some(true)
            }),
        }
    }
}

fn keyed(keys: &[&str]) -> ListKind {
    ListKind::Keyed(keys.iter().map(|key| (*key).to_owned()).collect())
}

fn strategic_key(kind: &str, parent: &str, member: &str) -> Option<&'static str> {
    match member {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "secrets" => Some("name"),
        "ports" if parent == "containers" || parent == "initContainers" => Some("containerPort"),
        "ports" if kind == "Service" => Some("port"),
        "volumeMounts" => Some("mountPath"),
        "conditions" => Some("type"),
        "addresses" if kind == "Node" => Some("type"),
        "podIPs" | "hostIPs" | "hostAliases" => Some("ip"),
        "ownerReferences" => Some("uid"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}
