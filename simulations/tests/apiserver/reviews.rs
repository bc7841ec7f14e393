//! Whose a token is, and what its owner may read: asked by those whom `deploy/rbac/optional/status-page.yaml` lets ask.

use std::path::Path;

use nameward_simulations::OPTED_IN;
use nameward_simulations::apiserver::{User, parse_manifests};
use serde_json::{Value, json};

use crate::bench::Bench;

fn agent() -> User {
    User::service_account("nameward", "nameward-agent", Some("node1"))
}

fn ask(bench: &Bench, path: &str, spec: Value) -> (u16, Value) {
    bench.handle.request(&agent(), "POST", &format!("/apis/{path}"), "application/json", &json!({"spec": spec}))
}

const TOKENS: &str = "authentication.k8s.io/v1/tokenreviews";
const ACCESS: &str = "authorization.k8s.io/v1/subjectaccessreviews";

fn opened(bench: &Bench) {
    let (_, name, text) = OPTED_IN.iter().find(|(_, name, _)| name.ends_with("/status-page.yaml")).unwrap();
    for object in parse_manifests(Path::new(name), text).unwrap() {
        bench.handle.create(object).unwrap();
    }
}

#[tokio::test]
async fn nobody_may_ask_unless_the_page_is_opened() {
    let bench = Bench::bare().await;
    let access = json!({"user": "x", "nonResourceAttributes": {"path": "/state", "verb": "get"}});
    assert_eq!(ask(&bench, TOKENS, json!({"token": "viewer"})).0, 403);
    assert_eq!(ask(&bench, ACCESS, access.clone()).0, 403);
    opened(&bench);
    assert_eq!(ask(&bench, TOKENS, json!({"token": "viewer"})).0, 201);
    assert_eq!(ask(&bench, ACCESS, access).0, 201);
}

#[tokio::test]
async fn a_token_has_an_owner_for_its_own_audience_alone() {
    let bench = Bench::bare().await;
    opened(&bench);
    bench.handle.add_foreign_token("made-for-us", User::service_account("nameward", "viewer", None), "nameward");
    bench.handle.add_token("made-for-the-api", User::service_account("nameward", "viewer", None));
    for (token, audiences, known) in [
        ("made-for-us", json!(["nameward"]), true),
        ("made-for-us", json!(["vault", "nameward"]), true),
        ("made-for-us", json!(["vault"]), false),
        ("made-for-us", json!([]), false),
        ("made-for-the-api", json!(["nameward"]), false),
        ("made-for-the-api", json!([]), true),
        ("guessed", json!(["nameward"]), false),
    ] {
        let (_, review) = ask(&bench, TOKENS, json!({"token": token, "audiences": audiences}));
        assert_eq!(review["status"]["authenticated"] == true, known, "{token} for {audiences}: {review}");
        if known && audiences != json!([]) {
            assert_eq!(review["status"]["audiences"], json!(["nameward"]));
            assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:nameward:viewer");
        }
    }
}

#[tokio::test]
async fn a_path_is_read_by_whom_a_role_lets_read_it() {
    let bench = Bench::bare().await;
    opened(&bench);
    for (user, groups, path, verb, may) in [
        ("system:serviceaccount:nameward:viewer", json!([]), "/state", "get", true),
        ("system:serviceaccount:nameward:viewer", json!([]), "/", "get", true),
        ("system:serviceaccount:nameward:viewer", json!([]), "/status.json", "get", true),
        ("system:serviceaccount:nameward:viewer", json!([]), "/state", "post", false),
        ("system:serviceaccount:nameward:viewer", json!([]), "/state/more", "get", false),
        ("system:serviceaccount:nameward:other", json!(["a"]), "/state", "get", false),
        ("", json!([]), "/state", "get", false),
    ] {
        let spec = json!({"user": user, "groups": groups, "nonResourceAttributes": {"path": path, "verb": verb}});
        let (_, review) = ask(&bench, ACCESS, spec);
        assert_eq!(review["status"]["allowed"], may, "{user} {verb} {path}: {review}");
    }
}
