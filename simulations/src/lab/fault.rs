//! Faults of the network, each with its undo.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::build::Lab;
use super::error::LabError;
use super::netns::Netns;
use super::pods::write;
use super::spec::CONTROL;
use crate::proxy::Mode;

/// What can be broken. Nodes are `node1`, …; pods are `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum NetFault {
    /// All Services go from kube-proxy's dispatch: nat `KUBE-SERVICES` is emptied, or the map `service-ips`. kube-proxy is
    /// held: it does not write until undone.
    ServiceRulesFlushed {
        /// The node.
        node: String,
    },
    /// Only the entry for DNS by UDP goes from the dispatch. kube-proxy is held.
    UdpServiceRuleDeleted {
        /// The node.
        node: String,
    },
    /// The jump from nat PREROUTING goes, so pods (and not the host) lose all Services. kube-proxy is held.
    PreroutingJumpDeleted {
        /// The node.
        node: String,
    },
    /// A firewall reload: every rule of the node goes. kube-proxy is held.
    RulesetFlushed {
        /// The node.
        node: String,
    },
    /// kube-proxy writes nothing any more; what stands goes stale.
    ProxyHeld {
        /// The node.
        node: String,
    },
    /// kube-proxy leaves conntrack entries that lead to no endpoint any more, as releases did before it looked after them.
    FlowsKept {
        /// The node.
        node: String,
    },
    /// The filter FORWARD policy becomes DROP.
    ForwardPolicyDrop {
        /// The node.
        node: String,
    },
    /// A rule at the head of filter FORWARD drops DNS by UDP to one address.
    UdpFiltered {
        /// The node.
        node: String,
        /// The address.
        to: IpAddr,
    },
    /// A rule at the head of mangle FORWARD drops a share of DNS by UDP, per mille.
    UdpLoss {
        /// The node.
        node: String,
        /// The share.
        per_mille: u16,
    },
    /// A pod loses its default route.
    DefaultRouteDeleted {
        /// The pod.
        pod: String,
    },
    /// The node's end of a pod's veth pair is taken off the bridge.
    VethDetached {
        /// The pod.
        pod: String,
    },
    /// The node's end of a pod's veth pair goes down.
    VethDown {
        /// The pod.
        pod: String,
    },
    /// A pod's `resolv.conf`, and the CNI cache entry of the pod, name another server.
    NameserverReplaced {
        /// The pod.
        pod: String,
        /// The server.
        nameserver: IpAddr,
    },
    /// The control plane's host drops DNS, by UDP and TCP: the upstream server is silent.
    UpstreamDropped,
    /// A node loses its route to the pods of another.
    NodeRouteDeleted {
        /// The node.
        node: String,
        /// The other node.
        to: String,
    },
    /// The bridge loses its address, so pods have no gateway.
    BridgeAddressDeleted {
        /// The node.
        node: String,
    },
    /// A node does not forward.
    ForwardingOff {
        /// The node.
        node: String,
    },
    /// Bridged packets bypass iptables, so replies between pods of one node come from the wrong source.
    BridgeFilterOff {
        /// The node.
        node: String,
    },
}

/// A fault in place, and how to take it back.
#[derive(Debug)]
pub struct Injected {
    /// Which.
    pub fault: NetFault,
    /// What was done, as a person would do it.
    pub did: Vec<String>,
    undo: Vec<Undo>,
}

#[derive(Debug)]
enum Undo {
    Ip(Netns, Vec<String>),
    Restore(Netns, &'static str, String),
    Resync(String),
    Flows(String),
    File(PathBuf, String, Whole),
    Sysctl(Netns, &'static str, String),
}

/// How a file is written: over the old one, as the kubelet writes into a sandbox (the pod has it bound), or in its place.
#[derive(Clone, Copy, Debug)]
enum Whole {
    Over,
    Replaced,
}

impl Whole {
    fn write(self, path: &Path, text: &str) -> Result<(), LabError> {
        match self {
            Self::Over => std::fs::write(path, text).map_err(LabError::file(path)),
            Self::Replaced => write(path, text),
        }
    }
}

/// Empties the table of a legacy backend: declared without `--noflush`, nothing else stays in it.
const LEGACY_EMPTY: &str = "*mangle\nCOMMIT\n*filter\nCOMMIT\n*nat\nCOMMIT\n";

impl Lab {
    /// Breaks something.
    ///
    /// # Errors
    ///
    /// If what is to be broken is not there, or a program refuses.
    pub fn inject(&mut self, fault: NetFault) -> Result<Injected, LabError> {
        let mut done = Injected { fault: fault.clone(), did: Vec::new(), undo: Vec::new() };
        match &fault {
            NetFault::ServiceRulesFlushed { node }
            | NetFault::UdpServiceRuleDeleted { node }
            | NetFault::PreroutingJumpDeleted { node }
            | NetFault::RulesetFlushed { node } => {
                self.break_services(&fault, node, &mut done)?;
                self.proxy_mut(node)?.hold();
                done.undo.push(Undo::Resync(node.clone()));
            }
            NetFault::ProxyHeld { node } => {
                self.proxy_mut(node)?.hold();
                done.did.push(format!("kube-proxy of {node} writes no more"));
                done.undo.push(Undo::Resync(node.clone()));
            }
            NetFault::FlowsKept { node } => {
                self.proxy_mut(node)?.keep_flows(true);
                done.did.push(format!("kube-proxy of {node} leaves old conntrack entries"));
                done.undo.push(Undo::Flows(node.clone()));
            }
            NetFault::ForwardPolicyDrop { node } => {
                let rules = ("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n", "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n");
                self.restore_rules(node, rules.0, rules.1, &mut done)?;
            }
            NetFault::UdpFiltered { node, to } => {
                let rule = format!("FORWARD -d {to}/32 -p udp -m udp --dport 53 -j DROP");
                self.insert_rule(node, "filter", &rule, &mut done)?;
            }
            NetFault::UdpLoss { node, per_mille } => {
                let chance = f64::from(*per_mille) / 1000.0;
                let rule = format!(
                    "FORWARD -p udp -m udp --dport 53 -m statistic --mode random --probability {chance:.4} -j DROP"
                );
                self.insert_rule(node, "mangle", &rule, &mut done)?;
            }
            NetFault::UpstreamDropped => {
                let rules = |verb: &str| {
                    let rule = |proto: &str| format!("-{verb} INPUT -p {proto} -m {proto} --dport 53 -j DROP\n");
                    format!("*filter\n{}{}COMMIT\n", rule("udp"), rule("tcp"))
                };
                let control = self.control().clone();
                restore(&control, "iptables-nft-restore", &rules("A"), &rules("D"), &mut done)?;
            }
            NetFault::DefaultRouteDeleted { pod } => {
                delete_route(&self.pod(pod)?.netns, "default", &mut done)?;
            }
            NetFault::NodeRouteDeleted { node, to } => {
                let range = self.node(to)?.pod_range.clone();
                delete_route(&self.node(node)?.netns, &range, &mut done)?;
            }
            NetFault::VethDetached { pod } => {
                let (netns, veth) = self.veth(pod)?;
                let undo =
                    [format!("link set {veth} master cni0"), format!("link set {veth} type bridge_slave hairpin on")];
                ip(&netns, &[format!("link set {veth} nomaster")], &undo, &mut done)?;
            }
            NetFault::VethDown { pod } => {
                let (netns, veth) = self.veth(pod)?;
                ip(&netns, &[format!("link set {veth} down")], &[format!("link set {veth} up")], &mut done)?;
            }
            NetFault::BridgeAddressDeleted { node } => {
                let (netns, address) = (self.node(node)?.netns.clone(), self.node(node)?.gateway);
                let undo = format!("address add {address}/24 broadcast + dev cni0");
                ip(&netns, &[format!("address delete {address}/24 dev cni0")], &[undo], &mut done)?;
            }
            NetFault::ForwardingOff { node } => self.sysctl_off(node, "net/ipv4/ip_forward", &mut done)?,
            NetFault::BridgeFilterOff { node } => {
                self.sysctl_off(node, "net/bridge/bridge-nf-call-iptables", &mut done)?;
            }
            NetFault::NameserverReplaced { pod, nameserver } => self.replace_nameserver(pod, *nameserver, &mut done)?,
        }
        Ok(done)
    }

    /// Takes a fault back. What was changed in the same place meanwhile is overwritten.
    ///
    /// # Errors
    ///
    /// If a step fails; the others are still done.
    pub fn undo(&mut self, injected: Injected) -> Result<(), LabError> {
        let mut result = Ok(());
        for step in injected.undo.into_iter().rev() {
            let done = match step {
                Undo::Ip(netns, lines) => netns.ip(&lines),
                Undo::Restore(netns, program, text) => netns.tool(program, &["--noflush"], &text).map(|_| ()),
                Undo::Resync(node) => self.proxy_mut(&node).and_then(crate::proxy::Proxy::resync),
                Undo::Flows(node) => self.proxy_mut(&node).and_then(|proxy| {
                    proxy.keep_flows(false);
                    proxy.forget_stale()
                }),
                Undo::File(path, text, how) => how.write(&path, &text),
                Undo::Sysctl(netns, name, value) => netns.sysctls(&[(name, &value)]),
            };
            result = result.and(done);
        }
        result
    }

    fn veth(&self, pod: &str) -> Result<(Netns, String), LabError> {
        let pod = self.pod(pod)?;
        Ok((self.node(&pod.spec.node)?.netns.clone(), pod.host_veth.clone()))
    }

    fn break_services(&self, fault: &NetFault, node: &str, done: &mut Injected) -> Result<(), LabError> {
        let (mode, netns) = (self.proxy(node)?.mode(), self.node(node)?.netns.clone());
        let dns = self.spec.cluster_dns;
        let nft = |text: &str| netns.tool("nft", &["-f", "-"], &format!("{text}\n")).map(|_| text.to_owned());
        let lines = |lines: &str| {
            let text = format!("*nat\n{lines}\nCOMMIT\n");
            netns.tool(restorer(mode), &["--noflush"], &text).map(|_| format!("{}: {lines}", restorer(mode)))
        };
        let nftables = mode == Mode::Nftables;
        let did = match fault {
            NetFault::ServiceRulesFlushed { .. } if nftables => nft("flush map ip kube-proxy service-ips")?,
            NetFault::ServiceRulesFlushed { .. } => lines("-F KUBE-SERVICES")?,
            NetFault::PreroutingJumpDeleted { .. } if nftables => nft("flush chain ip kube-proxy nat-prerouting")?,
            NetFault::UdpServiceRuleDeleted { .. } if nftables => {
                let state = self.proxy(node)?.state();
                let udp =
                    |p: &&crate::proxy::ServicePort| p.cluster_ip == dns && p.protocol == crate::proxy::Protocol::Udp;
                let port = state.ports.iter().find(udp);
                let chain = port.map(crate::proxy::nft_service_chain).unwrap_or_default();
                nft(&format!("delete element ip kube-proxy service-ips {{ {dns} . udp . 53 : goto {chain} }}"))?
            }
            NetFault::PreroutingJumpDeleted { .. } | NetFault::UdpServiceRuleDeleted { .. } => {
                let head = match fault {
                    NetFault::PreroutingJumpDeleted { .. } => "-A PREROUTING -m comment".to_owned(),
                    _ => format!("-A KUBE-SERVICES -d {dns}/32 -p udp "),
                };
                let dump = netns.tool(&restorer(mode).replace("restore", "save"), &["-t", "nat"], "")?;
                let found = dump.lines().find(|line| line.starts_with(&head));
                let rule = found.ok_or(LabError::Unknown { kind: "rule", name: head })?;
                lines(&rule.replacen("-A", "-D", 1))?
            }
            _ if mode == Mode::IptablesLegacy => {
                netns.tool("iptables-legacy-restore", &[], LEGACY_EMPTY)?;
                netns.tool("ip6tables-legacy-restore", &[], LEGACY_EMPTY)?;
                "iptables-legacy: all tables emptied".to_owned()
            }
            _ => nft("flush ruleset")?,
        };
        done.did.push(did);
        Ok(())
    }

    fn insert_rule(&self, node: &str, table: &str, rule: &str, done: &mut Injected) -> Result<(), LabError> {
        let text = |verb: &str| format!("*{table}\n-{verb} {rule}\nCOMMIT\n");
        self.restore_rules(node, &text("I"), &text("D"), done)
    }

    fn restore_rules(&self, node: &str, text: &str, undo: &str, done: &mut Injected) -> Result<(), LabError> {
        restore(&self.node(node)?.netns, restorer(self.proxy(node)?.mode()), text, undo, done)
    }

    fn sysctl_off(&self, node: &str, name: &'static str, done: &mut Injected) -> Result<(), LabError> {
        let netns = &self.node(node)?.netns;
        netns.sysctls(&[(name, "0")])?;
        done.did.push(format!("sysctl -w {}=0", name.replace('/', ".")));
        done.undo.push(Undo::Sysctl(netns.clone(), name, "1".into()));
        Ok(())
    }

    fn replace_nameserver(&self, pod: &str, nameserver: IpAddr, done: &mut Injected) -> Result<(), LabError> {
        let pod = self.pod(pod)?;
        let read = |path: &Path| std::fs::read_to_string(path).map_err(LabError::file(path));
        let (conf, cache) = (read(&pod.resolv_conf)?, read(&pod.cni_result)?);
        let wrong: Vec<String> = conf
            .lines()
            .map(|line| {
                if line.starts_with("nameserver") { format!("nameserver {nameserver}\n") } else { format!("{line}\n") }
            })
            .collect();
        let mut entry: Value =
            serde_json::from_str(&cache).map_err(std::io::Error::from).map_err(LabError::file(&pod.cni_result))?;
        if let Some(servers) = entry.pointer_mut("/capabilityArgs/dns/Servers") {
            *servers = json!([nameserver]);
        }
        Whole::Over.write(&pod.resolv_conf, &wrong.concat())?;
        done.undo.push(Undo::File(pod.resolv_conf.clone(), conf, Whole::Over));
        write(&pod.cni_result, &entry.to_string())?;
        done.undo.push(Undo::File(pod.cni_result.clone(), cache, Whole::Replaced));
        done.did.push(format!("nameserver {nameserver} in {}", pod.resolv_conf.display()));
        Ok(())
    }
}

fn restorer(mode: Mode) -> &'static str {
    match mode {
        Mode::IptablesLegacy => "iptables-legacy-restore",
        Mode::IptablesNft | Mode::Nftables => "iptables-nft-restore",
    }
}

fn restore(netns: &Netns, program: &'static str, text: &str, undo: &str, done: &mut Injected) -> Result<(), LabError> {
    netns.tool(program, &["--noflush"], text)?;
    done.did.push(format!("{program} --noflush: {}", text.trim().replace('\n', "; ")));
    done.undo.push(Undo::Restore(netns.clone(), program, undo.to_owned()));
    Ok(())
}

fn ip(netns: &Netns, lines: &[String], undo: &[String], done: &mut Injected) -> Result<(), LabError> {
    netns.ip(lines)?;
    done.did.extend(lines.iter().map(|line| format!("ip {line}")));
    done.undo.push(Undo::Ip(netns.clone(), undo.to_vec()));
    Ok(())
}

/// Deletes a route and remembers it as `ip` printed it.
fn delete_route(netns: &Netns, which: &str, done: &mut Injected) -> Result<(), LabError> {
    let shown = netns.tool("ip", &["-4", "route", "show", which], "")?;
    let route = shown.lines().next().map(str::trim).filter(|line| !line.is_empty());
    let route = route.ok_or_else(|| LabError::Unknown { kind: "route", name: which.into() })?;
    // `ip` prints states behind a route that it does not accept.
    let plain = route.replace(" linkdown", "").replace(" dead", "");
    ip(netns, &[format!("route delete {plain}")], &[format!("route add {plain}")], done)
}

impl NetFault {
    /// The pod that it is about, as `namespace/name`.
    pub(crate) fn pod(&self) -> Option<&str> {
        match self {
            Self::DefaultRouteDeleted { pod }
            | Self::VethDetached { pod }
            | Self::VethDown { pod }
            | Self::NameserverReplaced { pod, .. } => Some(pod),
            _ => None,
        }
    }

    /// One sentence for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::ServiceRulesFlushed { node } => format!("all Services gone from kube-proxy's rules on {node}"),
            Self::UdpServiceRuleDeleted { node } => format!("DNS by UDP gone from kube-proxy's rules on {node}"),
            Self::PreroutingJumpDeleted { node } => format!("kube-proxy's jump from PREROUTING gone on {node}"),
            Self::RulesetFlushed { node } => format!("all rules of {node} flushed"),
            Self::ProxyHeld { node } => format!("kube-proxy of {node} does not write"),
            Self::FlowsKept { node } => format!("kube-proxy of {node} leaves old conntrack entries"),
            Self::ForwardPolicyDrop { node } => format!("FORWARD policy DROP on {node}"),
            Self::UdpFiltered { node, to } => format!("{node} drops DNS by UDP to {to}"),
            Self::UdpLoss { node, per_mille } => format!("{node} loses {per_mille} per mille of DNS by UDP"),
            Self::DefaultRouteDeleted { pod } => format!("no default route in {pod}"),
            Self::VethDetached { pod } => format!("veth of {pod} off its bridge"),
            Self::VethDown { pod } => format!("veth of {pod} down"),
            Self::NameserverReplaced { pod, nameserver } => format!("{pod} asks {nameserver}"),
            Self::UpstreamDropped => format!("upstream server {CONTROL} silent"),
            Self::NodeRouteDeleted { node, to } => format!("no route from {node} to the pods of {to}"),
            Self::BridgeAddressDeleted { node } => format!("cni0 of {node} without address"),
            Self::ForwardingOff { node } => format!("{node} does not forward"),
            Self::BridgeFilterOff { node } => format!("bridged packets bypass iptables on {node}"),
        }
    }
}
