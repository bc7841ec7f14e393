//! Access to the recordings, and a server that answers as it is told; for tests alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The folder of the recordings, beside the clone.
pub(crate) fn recordings() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures")
}

/// A recorded file.
pub(crate) fn file<T: DeserializeOwned>(path: &str) -> T {
    let path = recordings().join(path);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("a recording is well-formed")
}

/// A recorded pair by its name.
pub(crate) fn pair(name: &str) -> Value {
    ["api-transcript.json", "api-transcript-2.json"]
        .iter()
        .flat_map(|transcript| file::<Vec<Value>>(transcript))
        .find(|pair| pair["name"] == name)
        .unwrap_or_else(|| panic!("no recording named {name}"))
}

/// The body of a recorded response.
pub(crate) fn recorded<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(pair(name)["response"]["body"].clone()).expect("the recorded body decodes")
}

/// A request as the server saw it.
#[cfg(feature = "io")]
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

#[cfg(feature = "io")]
impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What the server does with a request.
#[cfg(feature = "io")]
pub(crate) enum Reply {
    /// Answers.
    Answer(u16, Value),
    /// Closes the connection instead.
    HangUp,
    /// Never answers.
    Silence,
}

/// An HTTP server on a port of its own: where it listens, and what it was asked.
#[cfg(feature = "io")]
pub(crate) async fn server(
    reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (std::net::SocketAddr, std::sync::Arc<std::sync::Mutex<Vec<Seen>>>) {
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log, reply) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())), Arc::new(reply));
    let seen = log.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (log, reply) = (log.clone(), reply.clone());
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let (mut first, mut headers) = (String::new(), http::HeaderMap::new());
                    if stream.read_line(&mut first).await.unwrap_or(0) == 0 {
                        return;
                    }
                    loop {
                        let mut line = String::new();
                        stream.read_line(&mut line).await.unwrap();
                        let Some((name, value)) = line.trim().split_once(": ") else { break };
                        let name: http::HeaderName = name.parse().unwrap();
                        headers.insert(name, value.parse().unwrap());
                    }
                    let length = headers.get("content-length").map_or(0, |l| l.to_str().unwrap().parse().unwrap());
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).await.unwrap();
                    let mut words = first.split_whitespace().map(str::to_owned);
                    let (method, path) = (words.next().unwrap(), words.next().unwrap());
                    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    let request = Seen { method, path, headers, body };
                    let reply = reply(&request);
                    log.lock().unwrap().push(request);
                    match reply {
                        Reply::Answer(status, body) => {
                            let body = body.to_string();
                            let head = format!(
                                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                                body.len()
                            );
                            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                        }
                        Reply::HangUp => return,
                        Reply::Silence => std::future::pending().await,
                    }
                }
            });
        }
    });
    (address, seen)
}

/// A kubeconfig for a server, in a folder that lives as long as the value.
#[cfg(feature = "io")]
pub(crate) fn kubeconfig(server: &str) -> (tempfile::TempDir, nameward_config::settings::Kubernetes) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\nclusters: [{{name: lab, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: agent, user: {{token: node1}}}}]\ncontexts: [{{name: lab, context: {{cluster: lab, user: agent}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let settings = nameward_config::settings::Kubernetes {
        kubeconfig: path.display().to_string(),
        ..nameward_config::settings::Kubernetes::default()
    };
    (folder, settings)
}
