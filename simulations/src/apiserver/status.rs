//! Refusals: `metav1.Status` bodies, spelled as the recordings spell them.

use serde_json::{Map, Value, json};

use super::resources::Resource;

/// A request that was not done, with the `Status` body that says why.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) code: u16,
    /// A `Status`, or a string for a plain text answer.
    pub(crate) body: Value,
    /// Seconds for the `Retry-After` header.
    pub(crate) retry_after: Option<u32>,
}

/// What a handler gives back.
pub(crate) type Outcome<T> = Result<T, Refusal>;

impl Refusal {
    /// A `Status` with these fields; `details` may be null.
    pub(crate) fn new(code: u16, reason: &str, message: impl Into<String>, details: Value) -> Self {
        let mut body = Map::new();
        body.insert("kind".into(), "Status".into());
        body.insert("apiVersion".into(), "v1".into());
        body.insert("metadata".into(), json!({}));
        body.insert("status".into(), "Failure".into());
        body.insert("message".into(), message.into().into());
        if !reason.is_empty() {
            body.insert("reason".into(), reason.into());
        }
        if !details.is_null() {
            body.insert("details".into(), details);
        }
        body.insert("code".into(), code.into());
        Self { code, body: Value::Object(body), retry_after: None }
    }

    /// The reason, or an empty string.
    pub(crate) fn reason(&self) -> &str {
        self.body.get("reason").and_then(Value::as_str).unwrap_or_default()
    }

    /// The message, or an empty string.
    pub(crate) fn message(&self) -> &str {
        self.body.get("message").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, Value::Null)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized", Value::Null)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message, Value::Null)
    }

    /// The plain text answer for a path that nothing serves.
    pub(crate) fn page_not_found() -> Self {
        Self { code: 404, body: Value::String("404 page not found\n".into()), retry_after: None }
    }

    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified());
        Self::new(404, "NotFound", message, details(name, &resource.group, &resource.plural))
    }

    pub(crate) fn exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message, details(name, &resource.group, &resource.plural))
    }

    /// A write that was based on an older version.
    pub(crate) fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
        Self::new(409, "Conflict", message, details(name, &resource.group, &resource.plural))
    }

    /// A failed precondition of a delete or an eviction: these name the kind where others name the resource.
    pub(crate) fn precondition(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.kind);
        Self::new(409, "Conflict", message, details(name, &resource.group, &resource.kind))
    }

    pub(crate) fn too_many_requests(message: &str, cause: Option<Value>, retry_after: Option<u32>) -> Self {
        let mut details = Map::new();
        if let Some(cause) = cause {
            details.insert("causes".into(), Value::Array(vec![cause]));
        }
        if let Some(seconds) = retry_after {
            details.insert("retryAfterSeconds".into(), seconds.into());
        }
        let mut refusal = Self::new(429, "TooManyRequests", message, Value::Object(details));
        refusal.retry_after = retry_after;
        refusal
    }

    pub(crate) fn expired(message: &str) -> Self {
        Self::new(410, "Expired", message, Value::Null)
    }

    /// The object fails validation; one cause per fault.
    pub(crate) fn invalid(resource: &Resource, name: &str, faults: &[FieldFault]) -> Self {
        let kind = if resource.group.is_empty() {
            resource.kind.clone()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let texts: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes: Vec<Value> = faults
            .iter()
            .map(|fault| json!({"reason": fault.reason, "message": fault.message, "field": fault.field}))
            .collect();
        let mut about = details(name, &resource.group, &resource.kind);
        if let Some(about) = about.as_object_mut() {
            about.insert("causes".into(), Value::Array(causes));
        }
        Self::new(422, "Invalid", format!("{kind} \"{name}\" is invalid: {text}"), about)
    }
}

/// One fault of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldFault {
    /// Dotted path.
    pub(crate) field: String,
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub(crate) reason: &'static str,
    /// Text after the path.
    pub(crate) message: String,
}

impl FieldFault {
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), reason: "FieldValueInvalid", message: message.into() }
    }

    pub(crate) fn required(field: impl Into<String>) -> Self {
        Self { field: field.into(), reason: "FieldValueRequired", message: "Required value".into() }
    }
}

/// `details` with a name, a group unless it is the core group, and a kind (in fact mostly a resource).
fn details(name: &str, group: &str, kind: &str) -> Value {
    let mut map = Map::new();
    if !name.is_empty() {
        map.insert("name".into(), name.into());
    }
    if !group.is_empty() {
        map.insert("group".into(), group.into());
    }
    map.insert("kind".into(), kind.into());
    Value::Object(map)
}

/// The body of a success that has no object to show.
pub(crate) fn success(code: Option<u16>, about: Value) -> Value {
    let mut body = Map::new();
    body.insert("kind".into(), "Status".into());
    body.insert("apiVersion".into(), "v1".into());
    body.insert("metadata".into(), json!({}));
    body.insert("status".into(), "Success".into());
    if !about.is_null() {
        body.insert("details".into(), about);
    }
    if let Some(code) = code {
        body.insert("code".into(), code.into());
    }
    Value::Object(body)
}
