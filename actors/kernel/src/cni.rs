//! Entries of the CNI result cache (`/var/lib/cni/results`): which namespace belongs to which pod, without asking a runtime.

use std::net::IpAddr;
use std::path::PathBuf;

use nameward_messages::{ObjectKey, PodUid};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(test)]
mod tests;

/// Longest entry that is parsed, bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Most addresses, servers, domains or options kept.
pub const MAX_LIST: usize = 64;

/// What one entry says of one pod's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniEntry {
    /// `K8S_POD_UID`; runtimes of old do not give it.
    pub uid: Option<PodUid>,
    /// `K8S_POD_NAMESPACE` and `K8S_POD_NAME`.
    pub key: ObjectKey,
    /// The sandbox.
    pub container_id: String,
    /// The network's name.
    pub network: String,
    /// The interface inside, `eth0`.
    pub interface: String,
    /// The namespace file as the runtime named it.
    pub netns: PathBuf,
    /// The host end of the veth pair.
    pub host_veth: Option<String>,
    /// The bridge that it was attached to.
    pub bridge: Option<String>,
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
    /// The first gateway named.
    pub gateway: Option<IpAddr>,
    /// DNS servers that the pod was given.
    pub dns_servers: Vec<IpAddr>,
    /// Search domains that the pod was given.
    pub dns_search: Vec<String>,
    /// Options that the pod was given.
    pub dns_options: Vec<String>,
}

/// Why an entry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// Longer than [`MAX_BYTES`].
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// Another kind of entry than `cniCacheV1`.
    #[error("kind {kind:?} is not cniCacheV1")]
    Kind {
        /// The kind it claims.
        kind: String,
    },
    /// A field that every pod's entry has is not there.
    #[error("{field} is missing")]
    Missing {
        /// Which.
        field: &'static str,
    },
}

/// The document, as far as it is looked at. Names are those of libcni.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    container_id: String,
    #[serde(default)]
    config: String,
    #[serde(default)]
    if_name: String,
    #[serde(default)]
    network_name: String,
    #[serde(default)]
    netns: String,
    #[serde(default)]
    cni_args: Option<Vec<Vec<String>>>,
    #[serde(default)]
    capability_args: Option<Value>,
    #[serde(default)]
    result: Option<Value>,
}

/// Parses one entry. `None`: a well-formed entry that is not a pod's interface to the network (the loopback network, or a
/// container that Kubernetes did not start).
///
/// # Errors
/// [`CniError`] says what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Option<CniEntry>, CniError> {
    if bytes.len() > MAX_BYTES {
        return Err(CniError::TooLong);
    }
    let entry: Document = serde_json::from_slice(bytes)?;
    if entry.kind != "cniCacheV1" {
        return Err(CniError::Kind { kind: entry.kind.chars().take(64).collect() });
    }
    if entry.if_name == "lo" {
        return Ok(None);
    }
    let args = entry.cni_args.unwrap_or_default();
    let arg = |name: &str| args.iter().find(|a| a.len() == 2 && a[0] == name).map(|a| a[1].clone());
    let (Some(namespace), Some(name)) = (arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME")) else { return Ok(None) };
    if entry.netns.is_empty() {
        return Err(CniError::Missing { field: "netns" });
    }
    let result = entry.result.ok_or(CniError::Missing { field: "result" })?;
    let (bridge, host_veth) = host_side(&result, &entry.config);
    let (ips, gateway) = addresses(&result);
    let none = Value::Null;
    // The kubelet's choice comes as a capability; a network may name servers of its own in its result.
    let given = entry.capability_args.as_ref().and_then(|c| c.get("dns")).unwrap_or(&none);
    let own = result.get("dns").unwrap_or(&none);
    let list = |upper: &str, lower: &str| {
        let from_given = strings(given.get(upper).or_else(|| given.get(lower)));
        if from_given.is_empty() { strings(own.get(lower)) } else { from_given }
    };
    Ok(Some(CniEntry {
        uid: arg("K8S_POD_UID").filter(|u| !u.is_empty()).map(PodUid),
        key: ObjectKey::new(namespace, name),
        container_id: entry.container_id,
        network: entry.network_name,
        interface: entry.if_name,
        netns: entry.netns.into(),
        host_veth,
        bridge,
        ips,
        gateway,
        dns_servers: list("Servers", "nameservers").iter().filter_map(|s| s.parse().ok()).collect(),
        dns_search: list("Searches", "search"),
        dns_options: list("Options", "options"),
    }))
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|v| v.as_str().map(str::to_owned)).take(MAX_LIST).collect()
}

/// Bridge and host end of the veth pair: the interfaces without a sandbox. The configuration names the bridge; where it
/// does not, a plugin that makes both lists the bridge first.
fn host_side(result: &Value, config: &str) -> (Option<String>, Option<String>) {
    let interfaces = result.get("interfaces").and_then(Value::as_array).into_iter().flatten().take(MAX_LIST);
    let on_host: Vec<&str> = interfaces
        .filter(|i| i.get("sandbox").and_then(Value::as_str).unwrap_or_default().is_empty())
        .filter_map(|i| i.get("name")?.as_str())
        .collect();
    let named = bridge_of(config);
    let bridge = match &named {
        Some(name) => on_host.iter().find(|i| *i == name).copied(),
        None if on_host.len() > 1 => on_host.first().copied(),
        None => None,
    };
    let veth = on_host.iter().find(|i| Some(**i) != bridge).copied();
    (bridge.map(str::to_owned), veth.map(str::to_owned))
}

/// The bridge that the network's configuration (base64 of JSON) names.
fn bridge_of(config: &str) -> Option<String> {
    let config: Value = serde_json::from_slice(&base64(config)?).ok()?;
    let chained = config.get("plugins").and_then(Value::as_array).into_iter().flatten();
    let mut plugins = chained.chain(std::iter::once(&config));
    let bridge = plugins.find(|p| p.get("type").and_then(Value::as_str) == Some("bridge"))?;
    // The plugin's own default.
    Some(bridge.get("bridge").and_then(Value::as_str).filter(|b| !b.is_empty()).unwrap_or("cni0").to_owned())
}

/// Addresses and the first gateway, of results since 0.3.0 (`ips`) and before (`ip4`, `ip6`).
fn addresses(result: &Value) -> (Vec<IpAddr>, Option<IpAddr>) {
    let newer = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let older = ["ip4", "ip6"].iter().filter_map(|k| result.get(*k));
    let (mut ips, mut gateway) = (Vec::new(), None);
    for entry in newer.chain(older).take(MAX_LIST) {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let address: Option<IpAddr> =
            text("address").or_else(|| text("ip")).and_then(|a| a.split('/').next()?.parse().ok());
        ips.extend(address);
        gateway = gateway.or_else(|| text("gateway").and_then(|g| g.parse().ok()));
    }
    (ips, gateway)
}

/// Standard base64 with padding; `None` if it is not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0u32, 0u32);
    for c in text.trim_end_matches('=').bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(six)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    Some(out)
}
