//! The log's lines to a collector of OpenTelemetry besides, by OTLP over HTTP: where and how, the specification's own environment
//! variables say (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, Protocol, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::logs::log_processor_with_async_runtime::BatchLogProcessor;
use opentelemetry_sdk::runtime::TokioCurrentThread;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer, Registry};

use crate::exit::Failure;

/// Either says that a collector is meant.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// What sends the lines has lines of its own: to send them would never end.
const SENDERS: [&str; 4] = ["opentelemetry", "hyper", "tokio", "mio"];

/// What the lines pass, and what sends them.
pub(super) type Export = (Box<dyn Layer<Registry> + Send + Sync>, SdkLoggerProvider);

/// The export that the environment asks for, if it does.
///
/// # Errors
/// What it asks for cannot be done: a bad address, or one that wants TLS (name a collector on the node).
pub(super) fn export() -> Result<Option<Export>, Failure> {
    let named = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let Some(variable) = ENDPOINTS.iter().find(named) else { return Ok(None) };
    let exporter = LogExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build();
    let exporter =
        exporter.map_err(|e| Failure::could_not(format!("logs cannot be exported to what {variable} says"), e))?;
    Ok(Some(layer(exporter)))
}

/// Lines are queued (2,048 at most; more are dropped and counted) and sent by a thread of its own: a collector that is slow or away holds
/// nobody up.
fn layer(exporter: LogExporter) -> Export {
    let processor = BatchLogProcessor::builder(exporter, TokioCurrentThread).build();
    let resource = Resource::builder().with_service_name("nameward").build();
    let provider = SdkLoggerProvider::builder().with_log_processor(processor).with_resource(resource).build();
    let bridge = OpenTelemetryTracingBridge::new(&provider);
    let own = filter_fn(|about| !SENDERS.iter().any(|sender| about.target().starts_with(sender)));
    (Box::new(bridge.with_filter(own)), provider)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Takes one request and returns its head and body.
    fn collector(listener: TcpListener) -> (String, Vec<u8>) {
        let (mut peer, _) = listener.accept().unwrap();
        let (mut read, mut chunk) = (Vec::new(), [0_u8; 4096]);
        loop {
            let got = peer.read(&mut chunk).unwrap();
            assert!(got > 0, "the request ended early");
            read.extend_from_slice(&chunk[..got]);
            let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap();
            if read.len() >= end + 4 + length {
                peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                return (head, read.split_off(end + 4));
            }
        }
    }

    #[test]
    fn a_line_reaches_the_collector_and_the_senders_own_do_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = std::thread::spawn(move || collector(listener));
        let to = format!("http://{address}/v1/logs");
        let exporter = LogExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_endpoint(to);
        let (layer, provider) = layer(exporter.build().unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(cause = "coredns-udp-dead", "an incident is open");
            tracing::warn!(target: "hyper::client", "a line of the sender");
        });
        provider.shutdown().unwrap();
        let (head, body) = taken.join().unwrap();
        let has = |text: &str| body.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(head.starts_with("post /v1/logs"), "{head}");
        assert!(has("an incident is open") && has("coredns-udp-dead") && has("nameward"));
        assert!(!has("a line of the sender"));
    }
}
