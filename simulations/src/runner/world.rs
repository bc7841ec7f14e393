//! The simulated cluster: the lab's kernel objects, the DNS servers in its pods, and what changed them.
//!
//! Every change that the simulation itself makes goes through [`World::change`], so that any other change of a node's
//! links, routes, rules or sysctls is seen and told as a violation.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;

use super::aliases::Aliases;
use super::crashes::Crashes;
use super::repairs::Watched;
use super::witness::Ask;
use crate::dns::{self, Command, DnsControl, DnsError};
use crate::lab::{Injected, Lab, LabError, LabSpec, NetFault, PodSpec, Private, Snapshot, diff};
use crate::proxy::{DnsService, Mode, ServiceState};

/// Address of the DNS Service.
pub(super) const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Why the world could not be changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorldError {
    /// The lab's namespaces or rules.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A DNS server.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The scenario names something that is not there.
    #[error("there is no {0}")]
    Nothing(String),
    /// A line of the scenario cannot be carried out.
    #[error("{0}")]
    Line(String),
    /// A file of a pod.
    #[error("a pod's file cannot be written")]
    File(#[from] std::io::Error),
}

/// A running pod.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) key: String,
    pub(super) coredns: bool,
    pub(super) server: Option<DnsControl>,
    memory_limit: Option<u64>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) lab: Lab,
    pub(super) pods: BTreeMap<String, Running>,
    upstream: Option<DnsControl>,
    pub(super) aliases: Aliases,
    /// Pods of kube-proxy that were started, by uid: `namespace/name` and node.
    proxies: BTreeMap<String, (String, String)>,
    pub(super) baseline: BTreeMap<String, Snapshot>,
    violations: Vec<String>,
    /// Bytes that every CoreDNS process needs.
    demand: u64,
    pub(super) crashes: Crashes,
    pub(super) watched: Watched,
}

/// The simulated cluster.
#[derive(Debug)]
pub(super) struct World(Mutex<State>);

impl World {
    /// Builds nodes, rules and the upstream server. Pods come later, from the machinery.
    pub(super) fn build(private: Private, mode: Mode, nodes: u8) -> Result<Self, WorldError> {
        let mut lab = Lab::build(private, LabSpec { nodes, ..LabSpec::default() })?;
        for (number, node) in numbered(&lab) {
            lab.install_proxy(&node, mode, ServiceState::cluster(number, &[]))?;
        }
        let upstream = DnsControl::start(lab.control(), &dns::Options::upstream())?;
        Ok(Self(Mutex::new(State {
            lab,
            pods: BTreeMap::new(),
            upstream: Some(upstream),
            aliases: Aliases::default(),
            proxies: BTreeMap::new(),
            baseline: BTreeMap::new(),
            violations: Vec::new(),
            demand: 0,
            crashes: Crashes::default(),
            watched: Watched::default(),
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a pod; gives back its address.
    pub(super) fn start(
        &self,
        spec: PodSpec,
        coredns: bool,
        memory_limit: Option<u64>,
    ) -> Result<Ipv4Addr, WorldError> {
        self.change(|state| {
            let (uid, key, node) = (spec.uid.clone(), spec.key(), spec.node.clone());
            let address = state.lab.add_pod(spec)?.address;
            state.aliases.add(&uid, &key, &node, coredns);
            let server = coredns.then(|| serve(&state.lab, &key)).transpose()?;
            state.pods.insert(uid, Running { key, coredns, server, memory_limit });
            Ok(address)
        })
    }

    /// Starts the process of a CoreDNS pod again in the namespace that stands.
    pub(super) fn restart(&self, uid: &str) -> Result<(), WorldError> {
        let mut state = self.state();
        let key = state.pods.get(uid).ok_or_else(|| WorldError::Nothing(format!("pod {uid}")))?.key.clone();
        let server = serve(&state.lab, &key)?;
        if let Some(pod) = state.pods.get_mut(uid) {
            pod.server = Some(server);
        }
        Ok(())
    }

    /// The address of a pod.
    pub(super) fn address(&self, key: &str) -> Result<Ipv4Addr, WorldError> {
        Ok(self.state().lab.pod(key)?.address)
    }

    /// Ends a pod and its namespace.
    pub(super) fn stop(&self, uid: &str) -> Result<(), WorldError> {
        self.change(|state| {
            let Some(pod) = state.pods.remove(uid) else { return Ok(()) };
            drop(pod.server);
            Ok(state.lab.remove_pod(&pod.key)?)
        })
    }

    /// kube-proxy follows the DNS Service and its ready endpoints, on every node; the first failure is told.
    pub(super) fn services(&self, dns: Option<&DnsService>) -> Result<(), WorldError> {
        self.change(|state| {
            let nodes = numbered(&state.lab).into_iter();
            let mut apply = |(number, node): (u8, String)| {
                state.lab.apply_services(&node, ServiceState::with_dns(number, dns)).map_err(WorldError::from)
            };
            nodes.map(&mut apply).fold(Ok(()), Result::and)
        })
    }

    /// kube-proxy of a node starts in a pod: it writes all rules, whatever held the one before it. Gives back the node's address.
    pub(super) fn start_proxy(&self, uid: &str, key: &str, node: &str) -> Result<Ipv4Addr, WorldError> {
        self.change(|state| {
            state.lab.resync(node)?;
            state.aliases.add(uid, key, node, false);
            state.proxies.insert(uid.to_owned(), (key.to_owned(), node.to_owned()));
            Ok(state.lab.node(node)?.address)
        })
    }

    /// kube-proxy's next sync, on every node: conntrack entries that lead nowhere go.
    pub(super) fn forget_stale_flows(&self) -> Result<(), WorldError> {
        self.change(|state| {
            for (_, node) in numbered(&state.lab) {
                state.lab.proxy(&node)?.forget_stale()?;
            }
            Ok(())
        })
    }

    /// A pod's memory limit changed while it runs.
    pub(super) fn resized(&self, uid: &str, memory_limit: Option<u64>) {
        if let Some(pod) = self.state().pods.get_mut(uid) {
            pod.memory_limit = memory_limit;
        }
    }

    /// CoreDNS processes that need more than their limit are killed; gives back the pods' uids.
    pub(super) fn reap_oversized(&self) -> Vec<String> {
        let mut state = self.state();
        let demand = state.demand;
        let mut killed = Vec::new();
        for (uid, pod) in &mut state.pods {
            let over = pod.coredns && pod.memory_limit.is_some_and(|limit| demand > limit);
            if over && pod.server.take().is_some() {
                killed.push(uid.clone());
            }
        }
        killed
    }

    /// CoreDNS processes need this much from now on.
    pub(super) fn demand(&self, bytes: u64) {
        self.state().demand = bytes;
    }

    /// Injects a fault of the network; says what was done.
    pub(super) fn inject(&self, fault: NetFault) -> Result<Injected, WorldError> {
        self.change(|state| Ok(state.lab.inject(fault)?))
    }

    /// Takes a fault of the network back, unless its pod is gone.
    pub(super) fn lift(&self, injected: Injected) -> Result<(), WorldError> {
        self.change(|state| match injected.fault.pod().is_some_and(|pod| state.lab.pod(pod).is_err()) {
            true => Ok(()),
            false => Ok(state.lab.undo(injected)?),
        })
    }

    /// Tells a CoreDNS stand-in something.
    pub(super) fn tell(&self, alias: &str, command: &Command) -> Result<(), WorldError> {
        self.with_server(alias, |server| server.tell(command))
    }

    /// Tells the upstream stand-in something.
    pub(super) fn tell_upstream(&self, command: &Command) -> Result<(), WorldError> {
        let mut state = self.state();
        let upstream = state.upstream.as_mut().ok_or_else(|| WorldError::Nothing("running upstream".to_owned()))?;
        Ok(upstream.tell(command)?)
    }

    /// Stops a CoreDNS stand-in where it stands, or lets it go on.
    pub(super) fn hang(&self, alias: &str, stop: bool) -> Result<(), WorldError> {
        let signal = if stop { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.with_server(alias, |server| server.signal(signal))
    }

    /// Whether the pod of an alias has no process that could be told anything.
    pub(super) fn unserved(&self, alias: &str) -> bool {
        self.with_server(alias, |_| Ok(())).is_err()
    }

    fn with_server(
        &self,
        alias: &str,
        work: impl FnOnce(&mut DnsControl) -> Result<(), DnsError>,
    ) -> Result<(), WorldError> {
        let mut state = self.state();
        let key = state.aliases.key(alias).map(str::to_owned);
        let pod = state.pods.values_mut().find(|pod| Some(&pod.key) == key.as_ref());
        let server = pod.and_then(|pod| pod.server.as_mut());
        Ok(work(server.ok_or_else(|| WorldError::Nothing(format!("running {alias}")))?)?)
    }

    /// The upstream resolver stops.
    pub(super) fn stop_upstream(&self) {
        self.state().upstream = None;
    }

    /// The upstream resolver starts again.
    pub(super) fn start_upstream(&self) -> Result<(), WorldError> {
        let mut state = self.state();
        if state.upstream.is_none() {
            state.upstream = Some(DnsControl::start(state.lab.control(), &dns::Options::upstream())?);
        }
        Ok(())
    }

    /// Gives the pods that run now their names again, as if they had just been started: what an earlier scenario replaced
    /// must not matter to the next one.
    pub(super) fn name_anew(&self) {
        let mut state = self.state();
        let mut running: Vec<(String, String, String, bool)> = state
            .pods
            .iter()
            .filter_map(|(uid, pod)| {
                let node = state.lab.pod(&pod.key).ok()?.spec.node.clone();
                Some((pod.key.clone(), uid.clone(), node, pod.coredns))
            })
            .chain(state.proxies.iter().map(|(uid, (key, node))| (key.clone(), uid.clone(), node.clone(), false)))
            .collect();
        running.sort();
        let mut aliases = Aliases::default();
        for (key, uid, node, coredns) in &running {
            aliases.add(uid, key, node, *coredns);
        }
        state.aliases = aliases;
    }

    /// `namespace/name` of an alias.
    pub(super) fn key(&self, alias: &str) -> Result<String, WorldError> {
        let state = self.state();
        state.aliases.key(alias).map(str::to_owned).ok_or_else(|| WorldError::Nothing(alias.to_owned()))
    }

    /// The alias of a pod by its uid, else by its key.
    pub(super) fn alias(&self, uid: Option<&str>, key: &str) -> Option<String> {
        let state = self.state();
        uid.and_then(|uid| state.aliases.of(uid)).or_else(|| state.aliases.of_key(key)).map(str::to_owned)
    }

    /// A namespace by its name in the lab (`control`, `node1`, `default/client-1-node1`).
    pub(super) fn netns(&self, name: &str) -> Result<crate::lab::Netns, WorldError> {
        Ok(self.state().lab.netns(name)?.clone())
    }

    /// Everything that workloads depend on: who asks whom for what.
    pub(super) fn asks(&self, external: bool) -> Vec<Ask> {
        let state = self.state();
        let mut servers = vec![IpAddr::V4(CLUSTER_DNS)];
        servers.extend(
            state
                .pods
                .values()
                .filter(|p| p.coredns)
                .filter_map(|p| state.lab.pod(&p.key).ok())
                .map(|p| IpAddr::V4(p.address)),
        );
        let mut asks = Vec::new();
        let nodes = state.lab.nodes().map(|n| (n.name.clone(), n.netns.clone(), servers.clone(), true));
        let pods = state.lab.pods().map(|pod| {
            let mut servers = servers.clone();
            // A workload asks the server that its resolv.conf names.
            let text = std::fs::read_to_string(&pod.resolv_conf).unwrap_or_default();
            let named =
                text.lines().filter_map(|l| l.strip_prefix("nameserver ")).filter_map(|l| l.trim().parse().ok());
            servers.extend(named.filter(|s: &IpAddr| *s != IpAddr::V4(crate::lab::CONTROL)));
            servers.sort();
            servers.dedup();
            (pod.spec.key(), pod.netns.clone(), servers, false)
        });
        for (from, netns, servers, node) in nodes.chain(pods) {
            for server in servers {
                for tcp in [false, true] {
                    asks.push(Ask {
                        from: from.clone(),
                        netns: netns.clone(),
                        server,
                        tcp,
                        port: 0,
                        name: "kubernetes.default.svc.cluster.local",
                        expect: Some(Ipv4Addr::new(10, 96, 0, 1)),
                    });
                }
            }
            if node && external {
                let name = "example.com";
                let server = CLUSTER_DNS.into();
                asks.push(Ask { from, netns, server, tcp: false, port: 0, name, expect: None });
            }
        }
        asks
    }

    /// Remembers the nodes' state: from here on what changes is either ours or a violation.
    pub(super) fn remember(&self) -> Result<(), WorldError> {
        self.state().remember()
    }

    /// Compares the nodes' state with what is remembered and takes what was found so far.
    pub(super) fn violations(&self) -> Result<Vec<String>, WorldError> {
        let mut state = self.state();
        state.compare()?;
        Ok(std::mem::take(&mut state.violations))
    }

    pub(super) fn change<T>(&self, work: impl FnOnce(&mut State) -> Result<T, WorldError>) -> Result<T, WorldError> {
        let mut state = self.state();
        state.compare()?;
        let done = work(&mut state);
        if !state.baseline.is_empty() {
            state.remember()?;
            state.fall_sick()?;
        }
        done
    }
}

impl State {
    fn remember(&mut self) -> Result<(), WorldError> {
        for node in self.lab.nodes() {
            self.baseline.insert(node.name.clone(), node.netns.snapshot()?);
        }
        Ok(())
    }

    fn compare(&mut self) -> Result<(), WorldError> {
        let mut found = Vec::new();
        for (node, before) in &self.baseline {
            let now = self.lab.netns(node)?.snapshot()?;
            found.extend(diff(before, &now).into_iter().map(|line| format!("{node} was changed: {line}")));
        }
        self.violations.append(&mut found);
        Ok(())
    }
}

/// Nodes by number and name.
fn numbered(lab: &Lab) -> Vec<(u8, String)> {
    lab.nodes().map(|node| (node.number, node.name.clone())).collect()
}

fn serve(lab: &Lab, key: &str) -> Result<DnsControl, WorldError> {
    Ok(DnsControl::start(&lab.pod(key)?.netns, &dns::Options::coredns())?)
}
