//! Who somebody is that shows a token, and whether he may read a path of ours: asked of the API server, which alone knows.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Ask, CallError, Cluster, JSON, Operation, Run};

/// Whom a token belongs to, as the API server's review says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenUser {
    /// As `system:serviceaccount:monitoring:viewer`.
    pub username: String,
    /// The account's uid, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further attributes, which are handed on as they came.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub extra: Value,
}

impl Cluster {
    /// Whom a token belongs to that was made for this audience; `None`: it is none, or was made for another one. A token for the
    /// API server itself is not taken: it would cross the network in the clear, and be worth something there.
    ///
    /// # Errors
    /// The call failed.
    pub async fn review_token(&self, token: &str, audience: &str) -> Result<Option<TokenUser>, CallError> {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews".to_owned();
        let ask = Ask::write(Operation::ReviewToken, Method::POST, path, (JSON, body), Run::Real);
        let answer: Value = self.send(ask).await?;
        Ok(owner(&answer["status"], audience))
    }

    /// Whether a user may read a path that is no resource of the API.
    ///
    /// # Errors
    /// The call failed.
    pub async fn may_read(&self, user: &TokenUser, path: &str) -> Result<bool, CallError> {
        let mut spec = serde_json::to_value(user).unwrap_or_default();
        // In a review of access the name is called otherwise.
        spec["user"] = spec["username"].take();
        if let Some(members) = spec.as_object_mut() {
            members.remove("username");
        }
        spec["nonResourceAttributes"] = json!({"path": path, "verb": "get"});
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned();
        let ask = Ask::write(Operation::ReviewVisitor, Method::POST, path, (JSON, body), Run::Real);
        let answer: Value = self.send(ask).await?;
        let says = |member: &str| answer["status"][member].as_bool().unwrap_or(false);
        Ok(says("allowed") && !says("denied"))
    }
}

/// Whom a review's status names. An API server that knows nothing of audiences leaves them out: then it did not look.
fn owner(status: &Value, audience: &str) -> Option<TokenUser> {
    let for_us = status["audiences"].as_array().is_some_and(|all| all.iter().any(|one| one == audience));
    let user: TokenUser = serde_json::from_value(status["user"].clone()).ok()?;
    (status["authenticated"] == true && for_us && !user.username.is_empty()).then_some(user)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_reviewed_for_the_audience_names_a_user() {
        let user = json!({"username": "system:serviceaccount:a:b", "groups": ["g"], "extra": {"k": ["v"]}});
        let whole = json!({"authenticated": true, "audiences": ["nameward"], "user": user});
        let found = owner(&whole, "nameward").unwrap();
        assert_eq!((found.username.as_str(), found.groups.len()), ("system:serviceaccount:a:b", 1));
        assert_eq!(found.extra["k"][0], "v");
        for (member, value) in [
            ("authenticated", json!(false)),
            ("authenticated", Value::Null),
            ("authenticated", json!("true")),
            ("audiences", json!(["https://kubernetes.default.svc"])),
            ("audiences", json!([])),
            ("audiences", Value::Null),
            ("user", json!({"username": ""})),
            ("user", json!([])),
            ("user", Value::Null),
        ] {
            let mut status = whole.clone();
            status[member] = value.clone();
            assert_eq!(owner(&status, "nameward"), None, "{member} is {value}");
        }
        assert_eq!(owner(&Value::Null, "nameward"), None);
    }
}
