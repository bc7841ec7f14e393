//! What the kernel holds of one namespace, for a comparison before and after.
//!
//! Left out, because it changes by itself: counters, handles, learned neighbours, conntrack entries, the state that a link's
//! other end gives it (carrier, bridge port state, `linkdown` on routes), and IPv6 link-local addresses and their routes,
//! which come and go with a link.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::LabError;
use super::netns::Netns;

/// The state of one namespace: sections such as `links` or `iptables-nft filter FORWARD`, each with its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    sections: BTreeMap<String, Vec<String>>,
}

/// Sysctls that decide about packets, below `/proc/sys/net`; those of each link are added.
const SYSCTLS: [&str; 8] = [
    "ipv4/ip_forward",
    "ipv6/conf/all/forwarding",
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
    "bridge/bridge-nf-call-arptables",
    "netfilter/nf_conntrack_max",
    "netfilter/nf_conntrack_udp_timeout",
    "netfilter/nf_conntrack_udp_timeout_stream",
];

/// Sysctls of each link, below `/proc/sys/net/ipv4/conf/<link>`.
const LINK_SYSCTLS: [&str; 5] = ["forwarding", "rp_filter", "route_localnet", "proxy_arp", "arp_ignore"];

impl Netns {
    /// Reads the state of this namespace. About 20 ms. Legacy tables are read only where they are loaded.
    ///
    /// # Errors
    ///
    /// If a program is missing or fails.
    pub fn snapshot(&self) -> Result<Snapshot, LabError> {
        let mut snapshot = Snapshot::default();
        snapshot.links(&self.json(&["-details", "link", "show"])?);
        snapshot.addresses(&self.json(&["address", "show"])?);
        for family in ["-4", "-6"] {
            snapshot.routes(&self.json(&[family, "route", "show", "table", "all"])?);
        }
        snapshot.permanent_neighbours(&self.json(&["neighbour", "show", "nud", "permanent"])?);
        self.sysctl_lines(&mut snapshot)?;
        for program in ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"] {
            let names = if program.starts_with("ip6") { "ip6_tables_names" } else { "ip_tables_names" };
            let legacy = program.contains("legacy");
            let loaded = self.enter(|| std::fs::read_to_string(format!("/proc/thread-self/net/{names}")))?;
            if !legacy || loaded.is_ok_and(|names| !names.trim().is_empty()) {
                snapshot.rules(program.trim_end_matches("-save"), &self.tool(program, &[], "")?);
            }
        }
        snapshot.nft(&self.tool("nft", &["--stateless", "list", "ruleset"], "")?);
        Ok(snapshot)
    }

    fn json(&self, args: &[&str]) -> Result<Vec<Value>, LabError> {
        let all: Vec<&str> = std::iter::once("-json").chain(args.iter().copied()).collect();
        let text = self.tool("ip", &all, "")?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&text).map_err(|error| LabError::Tool {
            command: format!("ip {}", all.join(" ")),
            namespace: self.name().to_owned(),
            stderr: format!("its output is not understood: {error}"),
        })
    }

    fn sysctl_lines(&self, snapshot: &mut Snapshot) -> Result<(), LabError> {
        let lines = self.enter(|| {
            let mut names: Vec<String> = SYSCTLS.iter().map(|n| (*n).to_owned()).collect();
            for link in std::fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten() {
                let link = link.file_name().to_string_lossy().into_owned();
                names.extend(LINK_SYSCTLS.iter().map(|name| format!("ipv4/conf/{link}/{name}")));
            }
            let line = |name: &String| {
                let value = std::fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
                Some(format!("{} = {}", name.replace('/', "."), value.trim()))
            };
            names.iter().filter_map(line).collect::<Vec<String>>()
        })?;
        snapshot.add("sysctls", lines);
        Ok(())
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn shown(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => format!(" {key} {text}"),
        Some(other) => format!(" {key} {other}"),
        None => String::new(),
    }
}

impl Snapshot {
    fn add(&mut self, section: &str, lines: impl IntoIterator<Item = String>) {
        self.sections.entry(section.to_owned()).or_default().extend(lines);
    }

    fn links(&mut self, links: &[Value]) {
        let line = |link: &Value| {
            let flags = link.get("flags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let up = if flags.iter().any(|f| f == "UP") { "up" } else { "down" };
            let kind = link.pointer("/linkinfo/info_kind").and_then(Value::as_str).unwrap_or("");
            let hairpin =
                link.pointer("/linkinfo/info_slave_data/hairpin").map_or(String::new(), |h| format!(" hairpin {h}"));
            let (master, mtu, mac) = (shown(link, "master"), shown(link, "mtu"), shown(link, "address"));
            format!("{} {kind} {up}{master}{hairpin}{mtu}{mac}", text(link, "ifname"))
        };
        self.add("links", links.iter().map(line));
    }

    fn addresses(&mut self, links: &[Value]) {
        for link in links {
            let addresses = link.get("addr_info").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let lasting = addresses.iter().filter(|a| !text(a, "local").starts_with("fe80:"));
            let name = text(link, "ifname");
            let line =
                |a: &Value| format!("{} on {name}{}{}", text(a, "local"), shown(a, "prefixlen"), shown(a, "broadcast"));
            self.add("addresses", lasting.map(line));
        }
    }

    fn routes(&mut self, routes: &[Value]) {
        let lasting = routes.iter().filter(|r| {
            let to = text(r, "dst");
            text(r, "table") != "local" && !to.starts_with("fe80:") && !to.starts_with("ff00:")
        });
        let keys = ["type", "gateway", "dev", "protocol", "scope", "prefsrc", "metric", "table"];
        let line = |r: &Value| text(r, "dst").to_owned() + &keys.iter().map(|k| shown(r, k)).collect::<String>();
        let mut lines: Vec<String> = lasting.map(line).collect();
        lines.sort();
        self.add("routes", lines);
    }

    fn permanent_neighbours(&mut self, neighbours: &[Value]) {
        let line = |n: &Value| text(n, "dst").to_owned() + &shown(n, "dev") + &shown(n, "lladdr");
        self.add("permanent neighbours", neighbours.iter().map(line));
    }

    fn rules(&mut self, program: &str, dump: &str) {
        let mut table = "";
        for line in dump.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if let Some(declared) = line.strip_prefix(':') {
                // Name, policy, counters.
                let mut words = declared.split(' ');
                let (chain, policy) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
                self.add(&format!("{program} {table} {chain}"), [format!("policy {policy}")]);
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let chain = rule.split(' ').next().unwrap_or("");
                self.add(&format!("{program} {table} {chain}"), [rule.to_owned()]);
            }
        }
    }

    /// Tables of nft itself; those of `iptables-nft` are in its own dump, without loss.
    fn nft(&mut self, dump: &str) {
        let (mut table, mut block) = (String::new(), String::new());
        let mut elements: Option<String> = None;
        for line in dump.lines().map(str::trim) {
            if let Some(open) = &mut elements {
                open.push_str(line);
            } else if let Some(name) = line.strip_prefix("table ").and_then(|l| l.strip_suffix(" {")) {
                table = name.to_owned();
                block.clear();
                continue;
            } else if line.starts_with("elements = {") {
                elements = Some(line.trim_start_matches("elements = {").to_owned());
            } else if let Some(name) = line.strip_suffix(" {") {
                block = format!(" {name}");
                self.add_nft(&table, &block, []);
                continue;
            } else {
                if !line.is_empty() && line != "}" {
                    self.add_nft(&table, &block, [line.to_owned()]);
                }
                continue;
            }
            if let Some(whole) = elements.take_if(|open| open.ends_with('}')) {
                // The kernel keeps them in no order.
                let mut each: Vec<String> =
                    whole.trim_end_matches('}').split(',').map(|e| format!("element {}", e.trim())).collect();
                each.sort();
                self.add_nft(&table, &block, each);
            }
        }
    }

    fn add_nft(&mut self, table: &str, block: &str, lines: impl IntoIterator<Item = String>) {
        let mut words = table.split(' ');
        let of_iptables = matches!(words.next(), Some("ip" | "ip6"))
            && matches!(words.next(), Some("filter" | "nat" | "mangle" | "raw" | "security"));
        if !of_iptables {
            self.add(&format!("nft {table}{block}"), lines);
        }
    }

    /// The lines of one section, for example `nft ip kube-proxy map service-ips`.
    #[must_use]
    pub fn section(&self, name: &str) -> &[String] {
        self.sections.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Names of all sections.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }
}

/// What differs: `- section: line` is gone, `+ section: line` is new, `~ section` has the same lines in another order.
#[must_use]
pub fn diff(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut differences = Vec::new();
    let names: std::collections::BTreeSet<&String> = before.sections.keys().chain(after.sections.keys()).collect();
    for name in names {
        let (was, is) = (before.sections.get(name), after.sections.get(name));
        if was.is_none() {
            differences.push(format!("+ {name}"));
        } else if is.is_none() {
            differences.push(format!("- {name}"));
        }
        let (was, is) = (was.map(Vec::as_slice).unwrap_or_default(), is.map(Vec::as_slice).unwrap_or_default());
        let (gone, new) = (missing(was, is), missing(is, was));
        if gone.is_empty() && new.is_empty() && was != is {
            differences.push(format!("~ {name}"));
        }
        differences.extend(gone.into_iter().map(|line| format!("- {name}: {line}")));
        differences.extend(new.into_iter().map(|line| format!("+ {name}: {line}")));
    }
    differences
}

/// Lines of `all` that are not in `of`, counted.
fn missing<'a>(all: &'a [String], of: &[String]) -> Vec<&'a String> {
    let mut left: Vec<&String> = of.iter().collect();
    let mut gone = Vec::new();
    for line in all {
        match left.iter().position(|other| *other == line) {
            Some(index) => {
                left.swap_remove(index);
            }
            None => gone.push(line),
        }
    }
    gone
}
