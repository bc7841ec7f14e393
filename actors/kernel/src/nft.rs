//! `nft -j list ruleset`, reduced: kube-proxy's tables of nftables mode, and the base chains that other programs made.
//!
//! Elements of the dump are read one at a time, so that memory follows what is kept and not the size of the dump.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nameward_messages::targets::Transport;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod native;
mod survey;
#[cfg(test)]
mod tests;
mod text;

pub use native::Native;
pub use survey::{Survey, survey};

/// Most objects of one dump.
pub const MAX_OBJECTS: usize = 2_000_000;

/// `table ip kube-proxy` (or ip6), reduced to what decides about a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeProxyTable {
    /// Map `service-ips`: (address, protocol, port) to the chain it goes to, sorted. Other protocols are left out.
    pub service_ips: Vec<(IpAddr, Transport, u16, String)>,
    /// Map `no-endpoint-services`: the same key to its verdict (`reject-chain`, `drop`).
    pub no_endpoint_services: Vec<(IpAddr, Transport, u16, String)>,
    /// Chain `service-…` to the endpoints its rules send to, sorted. Older releases go through a chain per endpoint:
    /// it is followed.
    pub endpoints: BTreeMap<String, Vec<SocketAddr>>,
    /// Base chains by name with the chains that they jump to, in order.
    pub base_chains: BTreeMap<String, Vec<String>>,
    /// Set `cluster-ips`.
    pub cluster_ips: Vec<IpAddr>,
    /// Other chains by name with the maps that they look up, in order: `services` must look up `service-ips`.
    #[serde(default)]
    pub lookups: BTreeMap<String, Vec<String>>,
}

/// One whole dump, reduced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// `table ip kube-proxy`.
    pub kube_proxy: Option<KubeProxyTable>,
    /// `table ip6 kube-proxy`.
    pub kube_proxy6: Option<KubeProxyTable>,
    /// Base chains outside kube-proxy's tables and iptables' own: `family table chain hook`.
    pub other_base_chains: Vec<String>,
    /// The tables outside kube-proxy's and iptables' own, with their rules.
    #[serde(default)]
    pub native: Native,
}

/// Why a dump could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// Not the JSON that nft prints; serde_json names line and column.
    #[error("not the JSON of nft")]
    Json(#[from] serde_json::Error),
}

/// Parses what `nft -j list ruleset` (or `list table ip kube-proxy`) printed. Empty input is an empty rule set.
///
/// # Errors
/// [`NftError::Json`] with line and column.
pub fn parse(json: &[u8]) -> Result<Ruleset, NftError> {
    parse_parts([json], None)
}

/// [`parse`] of several dumps, one for each table. With `about`, of kube-proxy's tables only what concerns these addresses is
/// kept: a node may have tens of thousands of endpoints, and one Service is asked about.
///
/// # Errors
/// [`NftError::Json`] with line and column.
pub fn parse_parts<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    about: Option<&BTreeSet<IpAddr>>,
) -> Result<Ruleset, NftError> {
    let mut dump = Dump { about: about.cloned(), ..Dump::default() };
    for json in parts {
        if json.trim_ascii().is_empty() {
            continue;
        }
        let mut reader = serde_json::Deserializer::from_slice(json);
        Objects(&mut dump).deserialize(&mut reader)?;
        reader.end()?;
    }
    Ok(dump.finish())
}

/// Takes the objects of a dump, one at a time.
trait Sink {
    fn object(&mut self, object: &Value);
}

/// What is gathered on the way.
#[derive(Default)]
struct Dump {
    tables: BTreeMap<String, Gathered>,
    other: Vec<String>,
    native: native::Gathering,
    /// Of kube-proxy's tables only what concerns these is kept.
    about: Option<BTreeSet<IpAddr>>,
}

/// One kube-proxy table while it is gathered.
#[derive(Default)]
struct Gathered {
    table: KubeProxyTable,
    /// Chain to the chains it goes or jumps to.
    onward: BTreeMap<String, Vec<String>>,
    /// Chain to where its own rules send.
    dnat: BTreeMap<String, Vec<SocketAddr>>,
}

impl Sink for Dump {
    fn object(&mut self, object: &Value) {
        let Some((kind, body)) = object.as_object().and_then(|o| o.iter().next()) else { return };
        let (family, table) = match kind.as_str() {
            "table" => (text_of(body, "family"), text_of(body, "name")),
            _ => (text_of(body, "family"), text_of(body, "table")),
        };
        if table == crate::trace::TABLE {
            return;
        }
        if table != "kube-proxy" || !matches!(family, "ip" | "ip6") {
            if kind == "chain" {
                self.foreign_chain(family, table, body);
            }
            self.native.object(kind, family, table, body);
            return;
        }
        let gathered = self.tables.entry(family.to_owned()).or_default();
        let about = self.about.as_ref();
        // Maps stand before chains in a dump: what they do not lead to concerns others.
        let chain = text_of(body, if kind == "rule" { "chain" } else { "name" });
        if about.is_some()
            && matches!(kind.as_str(), "chain" | "rule")
            && is_service(chain)
            && !gathered.leads_to(chain)
        {
            return;
        }
        let wanted = |ip: &IpAddr| about.is_none_or(|about| about.contains(ip));
        match kind.as_str() {
            "chain" if body.get("hook").is_some() => {
                gathered.table.base_chains.entry(text_of(body, "name").to_owned()).or_default();
            }
            "chain" if is_service(text_of(body, "name")) => {
                gathered.dnat.entry(text_of(body, "name").to_owned()).or_default();
            }
            "set" if text_of(body, "name") == "cluster-ips" => {
                let ips = elements(body).filter_map(|e| value(e).as_str()?.parse().ok());
                gathered.table.cluster_ips = ips.filter(wanted).collect();
            }
            "map" if text_of(body, "name") == "service-ips" => gathered.table.service_ips = verdict_map(body, wanted),
            "map" if text_of(body, "name") == "no-endpoint-services" => {
                gathered.table.no_endpoint_services = verdict_map(body, wanted);
            }
            "rule" => gathered.rule(body),
            _ => {}
        }
    }
}

impl Dump {
    fn foreign_chain(&mut self, family: &str, table: &str, chain: &Value) {
        let hook = text_of(chain, "hook");
        let name = text_of(chain, "name");
        // iptables-nft's own chains have fixed names in fixed tables; those are read by iptables-nft-save.
        let iptables = native::is_iptables_chain(family, table, name);
        if !hook.is_empty() && !iptables {
            self.other.push(format!("{family} {table} {name} {hook}"));
        }
    }

    fn finish(mut self) -> Ruleset {
        let mut table = |family| self.tables.remove(family).map(Gathered::finish);
        let (kube_proxy, kube_proxy6) = (table("ip"), table("ip6"));
        Ruleset { kube_proxy, kube_proxy6, other_base_chains: self.other, native: self.native.finish() }
    }
}

impl Gathered {
    fn rule(&mut self, body: &Value) {
        let chain = text_of(body, "chain");
        for statement in body.get("expr").and_then(Value::as_array).into_iter().flatten() {
            let Some((kind, inside)) = statement.as_object().and_then(|o| o.iter().next()) else { continue };
            match kind.as_str() {
                "jump" | "goto" => self.leads(chain, text_of(inside, "target")),
                "dnat" => self.dnat.entry(chain.to_owned()).or_default().extend(sends_to(inside)),
                "vmap" => match inside.get("data") {
                    Some(Value::String(map)) => {
                        let map = map.trim_start_matches('@').to_owned();
                        self.table.lookups.entry(chain.to_owned()).or_default().push(map);
                    }
                    Some(data) => {
                        let pairs = data.get("set").and_then(Value::as_array).into_iter().flatten();
                        for target in pairs.filter_map(|pair| verdict(pair.get(1)?)) {
                            self.leads(chain, &target);
                        }
                    }
                    None => {}
                },
                _ => {}
            }
        }
    }

    /// Whether a map or another chain that was kept leads to a chain.
    fn leads_to(&self, chain: &str) -> bool {
        self.table.service_ips.iter().any(|(.., to)| to == chain)
            || self.onward.values().any(|next| next.iter().any(|to| to == chain))
    }

    fn leads(&mut self, from: &str, to: &str) {
        self.onward.entry(from.to_owned()).or_default().push(to.to_owned());
    }

    fn finish(mut self) -> KubeProxyTable {
        for (chain, jumps) in &mut self.table.base_chains {
            *jumps = self.onward.get(chain).cloned().unwrap_or_default();
        }
        let services = self.dnat.keys().chain(self.onward.keys()).filter(|c| is_service(c)).cloned();
        for chain in services.collect::<BTreeSet<_>>() {
            let mut endpoints = self.dnat.get(&chain).cloned().unwrap_or_default();
            for next in self.onward.get(&chain).into_iter().flatten() {
                endpoints.extend(self.dnat.get(next).into_iter().flatten());
            }
            endpoints.sort_unstable();
            endpoints.dedup();
            self.table.endpoints.insert(chain, endpoints);
        }
        self.table.service_ips.sort();
        self.table.no_endpoint_services.sort();
        self.table.cluster_ips.sort();
        self.table
    }
}

/// `service-…`, and `local-…` for a policy that keeps traffic on the node; the slash tells them from `service-endpoints-check`.
fn is_service(chain: &str) -> bool {
    (chain.starts_with("service-") || chain.starts_with("local-")) && chain.contains('/')
}

fn text_of<'a>(body: &'a Value, key: &str) -> &'a str {
    body.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn elements(body: &Value) -> impl Iterator<Item = &Value> {
    body.get("elem").and_then(Value::as_array).into_iter().flatten()
}

/// An element, or its value when it carries a comment or a time-out.
fn value(element: &Value) -> &Value {
    element.get("elem").and_then(|e| e.get("val")).unwrap_or(element)
}

/// A verdict in words: the chain it leads to, or `drop`, `accept`, ….
fn verdict(of: &Value) -> Option<String> {
    let (kind, inside) = of.as_object()?.iter().next()?;
    match kind.as_str() {
        "goto" | "jump" => Some(text_of(inside, "target").to_owned()),
        other => Some(other.to_owned()),
    }
}

fn verdict_map(body: &Value, wanted: impl Fn(&IpAddr) -> bool) -> Vec<(IpAddr, Transport, u16, String)> {
    elements(body)
        .filter_map(|pair| {
            let key = value(pair.get(0)?).get("concat")?;
            let ip = key.get(0)?.as_str()?.parse().ok().filter(&wanted)?;
            let transport = match key.get(1)?.as_str()? {
                "udp" => Transport::Udp,
                "tcp" => Transport::Tcp,
                _ => return None,
            };
            let port = u16::try_from(key.get(2)?.as_u64()?).ok()?;
            Some((ip, transport, port, verdict(pair.get(1)?)?))
        })
        .collect()
}

/// Where a dnat statement sends: one address and port, or a numbered map of them.
pub(crate) fn sends_to(dnat: &Value) -> Vec<SocketAddr> {
    let address = dnat.get("addr");
    if let Some(ip) = address.and_then(Value::as_str) {
        let port = dnat.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
        return ip.parse().ok().zip(port).map(|(ip, port)| SocketAddr::new(ip, port)).into_iter().collect();
    }
    let pairs = address.and_then(|a| a.get("map")?.get("data")?.get("set")?.as_array());
    pairs
        .into_iter()
        .flatten()
        .filter_map(|pair| {
            let to = value(pair.get(1)?).get("concat")?;
            Some(SocketAddr::new(to.get(0)?.as_str()?.parse().ok()?, u16::try_from(to.get(1)?.as_u64()?).ok()?))
        })
        .collect()
}

/// `{"nftables": [ … ]}`, each object handed on and dropped.
struct Objects<'a, S>(&'a mut S);

impl<'de, S: Sink> DeserializeSeed<'de> for Objects<'_, S> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Objects<'_, S> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with the key `nftables`")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "nftables" {
                found = true;
                map.next_value_seed(List(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(serde::de::Error::missing_field("nftables")) }
    }
}

struct List<'a, S>(&'a mut S);

impl<'de, S: Sink> DeserializeSeed<'de> for List<'_, S> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for List<'_, S> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut seen = 0_usize;
        while let Some(object) = list.next_element::<Value>()? {
            seen += 1;
            if seen > MAX_OBJECTS {
                return Err(serde::de::Error::custom(format!("more than {MAX_OBJECTS} objects")));
            }
            self.0.object(&object);
        }
        Ok(())
    }
}
