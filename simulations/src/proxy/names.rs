//! Names that kube-proxy derives. Written here apart from the agent's own derivation on purpose: both are held against the
//! recordings, so that an error in one is not hidden by the other.

use data_encoding::BASE32;
use sha2::{Digest as _, Sha256};

use super::state::ServicePort;

fn hash(text: &str, length: usize) -> String {
    BASE32.encode(&Sha256::digest(text.as_bytes())).chars().take(length).collect()
}

/// `KUBE-SVC-…` of a Service port, iptables mode; `KUBE-SVL-…` with `internalTrafficPolicy: Local`.
#[must_use]
pub fn service_chain(port: &ServicePort) -> String {
    let kind = if port.local { "SVL" } else { "SVC" };
    format!("KUBE-{kind}-{}", hash(&format!("{}{}", port.title(), port.protocol), 16))
}

/// `KUBE-SEP-…` of one of its endpoints (`ip:port`), iptables mode.
#[must_use]
pub fn endpoint_chain(port: &ServicePort, endpoint: &str) -> String {
    format!("KUBE-SEP-{}", hash(&format!("{}{}{endpoint}", port.title(), port.protocol), 16))
}

/// `service-…` of a Service port, nftables mode; `local-…` with `internalTrafficPolicy: Local`.
#[must_use]
pub fn nft_service_chain(port: &ServicePort) -> String {
    let path = format!("{}/{}/{}/{}", port.namespace, port.service, port.protocol, port.name);
    let kind = if port.local { "local" } else { "service" };
    format!("{kind}-{}-{path}", hash(&path, 8))
}
