//! Asking the simulated server what was asked of the recorded one, and comparing the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kube::client::Body;
use nameward_simulations::apiserver::{ApiServer, Handle, Options, User, manifests};
use serde_json::{Value, json};

/// The folder with recordings of a real cluster, beside the clone.
pub fn recordings() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures")
}

/// One recorded pair.
#[derive(Clone, Debug)]
pub struct Pair {
    pub name: String,
    pub request: Value,
    pub response: Value,
}

/// A recorded transcript in order.
pub fn transcript(file: &str) -> Vec<Pair> {
    let text = std::fs::read_to_string(recordings().join(file)).unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.into_iter()
        .map(|pair| Pair {
            name: pair["name"].as_str().unwrap().into(),
            request: pair["request"].clone(),
            response: pair["response"].clone(),
        })
        .collect()
}

/// A recorded object.
pub fn recorded(file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(recordings().join(file)).unwrap()).unwrap()
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub text: String,
}

impl Answer {
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| Value::String(self.text.clone()))
    }

    pub fn events(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A server on a port of this machine, with a client for each token.
pub struct Bench {
    pub handle: Handle,
    pub url: String,
    server: tokio::task::JoinHandle<()>,
    /// Recorded uids and resource versions, and what they are here.
    pub known: BTreeMap<String, String>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub const ADMIN: &str = "admin-token";

impl Bench {
    pub async fn start() -> Self {
        let tokens = BTreeMap::from([
            (ADMIN.to_owned(), User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() }),
            ("proxy-token".to_owned(), User { name: "system:kube-proxy".into(), ..User::default() }),
            ("agent-token".to_owned(), User::service_account("kube-system", "agent", Some("node1"))),
        ]);
        let rbac = manifests(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/rbac")).unwrap();
        let handle = ApiServer::new(Options { tokens, manifests: rbac, ..Options::default() }).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = handle.clone();
        let server = tokio::spawn(async move { serving.serve(listener).await });
        Self { handle, url, server, known: BTreeMap::new() }
    }

    /// Puts a recorded object into the store as it was, but for its resource version.
    pub fn seed(&self, kind: &str, version: &str, object: &Value) {
        let mut object = object.clone();
        object["kind"] = kind.into();
        object["apiVersion"] = version.into();
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        self.handle.put(object).unwrap();
    }

    /// Sends a recorded request, with its ids exchanged for those of this server.
    pub async fn ask(&self, pair: &Pair, token: &str) -> Answer {
        let request = self.translated(&pair.request);
        let path = request["path"].as_str().unwrap().replace("timeoutSeconds=2", "timeoutSeconds=1");
        self.send(
            token,
            request["method"].as_str().unwrap(),
            &path,
            request["contentType"].as_str().unwrap_or_default(),
            &request["body"],
        )
        .await
    }

    pub async fn send(&self, token: &str, method: &str, path: &str, content_type: &str, body: &Value) -> Answer {
        let mut config = kube::Config::new(self.url.parse().unwrap());
        config.auth_info.token = Some(token.to_owned().into());
        // A refusal is an answer here.
        config.default_retry = false;
        let client = kube::Client::try_from(config).unwrap();
        let bytes = match body {
            Value::Null => Vec::new(),
            Value::String(text) => text.clone().into_bytes(),
            body => body.to_string().into_bytes(),
        };
        let mut request = http::Request::builder().method(method).uri(path).header("user-agent", "Python-urllib/3.11");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let response = client.send(request.body(Body::from(bytes)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let content_type =
            response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let bytes = response.into_body().collect_bytes().await.unwrap();
        Answer { status, content_type, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    fn translated(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.known.get(text).map_or_else(|| value.clone(), |here| here.clone().into()),
            Value::Array(items) => items.iter().map(|item| self.translated(item)).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(name, value)| (name.clone(), self.translated(value))).collect())
            }
            other => other.clone(),
        }
    }

    /// Remembers which recorded ids are which of ours.
    pub fn learn(&mut self, recorded: &Value, ours: &Value) {
        for name in ["uid", "resourceVersion"] {
            if let (Some(theirs), Some(ours)) = (recorded["metadata"][name].as_str(), ours["metadata"][name].as_str()) {
                self.known.insert(theirs.into(), ours.into());
            }
        }
    }

    /// Asks, compares all that is not an id or a time, and learns the ids.
    pub async fn replay(&mut self, pair: &Pair, token: &str) -> Answer {
        let answer = self.ask(pair, token).await;
        let name = &pair.name;
        assert_eq!(answer.status, pair.response["status"], "{name}: {}", answer.text);
        let kind = pair.response["headers"]["Content-Type"].as_str().unwrap();
        assert_eq!(answer.content_type, kind, "{name}");
        if let Some(events) = pair.response["events"].as_array() {
            let ours: Vec<Value> = answer.events().into_iter().map(plain).collect();
            let theirs: Vec<Value> = events.iter().cloned().map(plain).collect();
            assert_same(name, &Value::Array(theirs), &Value::Array(ours));
        } else {
            let (theirs, ours) = (pair.response["body"].clone(), answer.body());
            self.learn(&theirs, &ours);
            assert_same(name, &plain(theirs), &plain(ours));
        }
        answer
    }
}

/// Without managed fields (which were removed from the recordings), ids, versions and times.
pub fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(name, _)| name != "managedFields")
                .map(|(name, value)| {
                    let volatile = matches!(name.as_str(), "uid" | "resourceVersion" | "continue") && value != "";
                    if volatile { (name, json!("*")) } else { (name, plain(value)) }
                })
                .collect(),
        ),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::String(text) => Value::String(without_ids(&text)),
        other => other,
    }
}

/// Times, uids and versions in a text are made equal.
fn without_ids(text: &str) -> String {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return "<time>".into();
    }
    let mut out = text.to_owned();
    for label in ["in record (", "in object meta: "] {
        if let Some(at) = out.find(label) {
            let start = at + label.len();
            let end = out[start..].find([')', ',']).map_or(out.len(), |end| start + end);
            out.replace_range(start..end, "*");
        }
    }
    out
}

/// Every leaf with its path.
fn leaves(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(name, value)| leaves(value, &format!("{path}.{name}"), out));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, value)| leaves(value, &format!("{path}[{at}]"), out));
        }
        leaf => {
            out.insert(format!("{path} = {leaf}"));
        }
    }
}

/// Fails with what is missing and what is too much.
pub fn assert_same(name: &str, theirs: &Value, ours: &Value) {
    let (mut wanted, mut found) = (BTreeSet::new(), BTreeSet::new());
    leaves(theirs, "", &mut wanted);
    leaves(ours, "", &mut found);
    let missing: Vec<&String> = wanted.difference(&found).take(20).collect();
    let extra: Vec<&String> = found.difference(&wanted).take(20).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{name}:\nrecorded, not answered: {missing:#?}\nanswered, not recorded: {extra:#?}"
    );
}
