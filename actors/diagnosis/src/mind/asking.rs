//! What to read and what to ask while a case is open.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use nameward_kernel::facts::FibQuery;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::probe::{PathKey, ProbeItem, ProbeRequest, Purpose, QuestionKind};
use nameward_messages::targets::{DnsPod, Target, TargetKind, Transport};
use nameward_messages::{Now, ObjectKey, PodUid, RequestId};

use super::recheck::Recheck;
use super::{DiagnosisMind, Output};
use crate::matrix::{Pick, target_pod, vantage_pod};
use crate::process::WantProcess;
use crate::rules::coredns::host_path;

/// Most pods whose namespace is read in one sample.
const MOST_PODS: usize = 12;
/// Healthy pods that are read to compare with.
const SIBLINGS: usize = 2;
/// Most probes of one quick request.
const MOST_ITEMS: usize = 24;
/// Most failing paths that are asked in other ways at a time, ...
const MOST_WAYS: usize = 8;
/// ... and as many from the host to CoreDNS pods of its own besides: they tell a slow process from one that hangs.
const MOST_OWN_WAYS: usize = 8;
/// What came of it is asked for again after this long, before it is forgotten.
const WAYS_STAND: Duration = Duration::from_secs(100);
/// Queries to an upstream at once from where CoreDNS asks it.
const UPSTREAM_TIMES: usize = 6;
/// Prefix of our requests' ids.
const OURS: &str = "diagnosis-";
/// Where CoreDNS's plugin `health` listens unless it is told otherwise.
pub(super) const HEALTH_PORT: u16 = 8080;

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Comes back with the sample.
    pub id: u64,
    /// Whether the packet filters are to be read; the node's other readings always are.
    pub netfilter: bool,
    /// Pods of this node.
    pub pods: Vec<WantPod>,
    /// CoreDNS processes of this node.
    pub processes: Vec<WantProcess>,
    /// Destinations whose conntrack entries are to be read.
    pub destinations: Vec<SocketAddr>,
    /// Addresses of Services whose rules are to be kept; none: those of all.
    pub services: BTreeSet<IpAddr>,
    /// Which way the host and each of the pods would send to these is looked up.
    pub lookups: Vec<FibQuery>,
    /// Which way the host would forward for pods to these is looked up.
    pub forwarded: Vec<FibQuery>,
    /// Other pods of the node, whose addresses alone are read, to find duplicates.
    pub others: Vec<(PodUid, PathBuf)>,
}

/// One pod whose namespace is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantPod {
    /// Its uid.
    pub uid: PodUid,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The file of its network namespace.
    pub path: PathBuf,
    /// For a CoreDNS pod: where `/health` is asked; sockets and counters are read too.
    pub health: Option<SocketAddr>,
    /// Whether the packet filters of its own namespace, and its sockets, are to be read.
    pub filters: bool,
}

/// Whether an answer is to one of our requests.
pub(super) fn is_ours(id: &RequestId) -> bool {
    id.as_str().starts_with(OURS)
}

impl DiagnosisMind {
    /// What to read for the paths that fail now.
    pub(super) fn want(&self, id: u64) -> Want {
        let mut froms: BTreeSet<&PodUid> = BTreeSet::new();
        let mut tos: BTreeSet<&PodUid> = BTreeSet::new();
        let (mut service, mut external) = (false, false);
        for (path, _) in self.matrix.suspected() {
            froms.extend(vantage_pod(path));
            tos.extend(target_pod(path));
            service |= matches!(path.target.kind, TargetKind::Service);
            external |= path.question != QuestionKind::Internal;
        }
        let complained = self.complaints_here();
        tos.extend(complained.iter().map(|complaint| &complaint.pod));
        let netfilter = service || !froms.is_empty() || !tos.is_empty() || !complained.is_empty();
        let dns = |namespace: &&Namespace| self.local_dns(&namespace.pod).is_some();
        let concerned = |n: &&Namespace| tos.contains(&n.pod) || service || external;
        let first = self.namespaces.values().filter(|n| dns(n) && concerned(n));
        let then = self.namespaces.values().filter(|n| !(dns(n) && concerned(n)) && froms.contains(&n.pod));
        let mut pods: Vec<&Namespace> = first.chain(then).take(MOST_PODS - SIBLINGS).collect();
        let siblings: Vec<&Namespace> = self
            .namespaces
            .values()
            .filter(|n| !froms.contains(&n.pod) && !pods.iter().any(|p| p.pod == n.pod))
            .take(SIBLINGS)
            .collect();
        pods.extend(siblings);
        let pods: Vec<WantPod> = pods
            .into_iter()
            .map(|n| WantPod {
                uid: n.pod.clone(),
                key: n.key.clone(),
                path: n.path.clone(),
                filters: tos.contains(&n.pod) || froms.contains(&n.pod),
                health: self
                    .local_dns(&n.pod)
                    .and_then(|pod| pod.ips.first())
                    .map(|ip| SocketAddr::new(*ip, HEALTH_PORT)),
            })
            .collect();
        let others = self.others(&pods);
        // What CoreDNS's own processes say, and whether they reach the API, tells of failures to reach them alone.
        let processes = if tos.is_empty() && !service && !external { Vec::new() } else { self.processes() };
        Want {
            id,
            netfilter,
            pods,
            processes,
            destinations: self.destinations(),
            services: self.services(),
            lookups: self.lookups(),
            forwarded: self.forwarded(),
            others,
        }
    }

    fn local_dns(&self, uid: &PodUid) -> Option<&DnsPod> {
        self.targets.pods.iter().find(|p| &p.uid == uid && p.node.as_ref() == Some(&self.node))
    }

    /// Asks again, in the ordinary way, what fails and what it is compared with; returns what was asked.
    pub(super) fn ask_again(&mut self, now: Now, out: &mut Vec<Output>) -> Option<Recheck> {
        let mut items: Vec<ProbeItem> = Vec::new();
        let mut add = |path: PathKey, port: u16| {
            if items.len() < MOST_ITEMS && !items.iter().any(|i| i.path == path) {
                items.push(ProbeItem { path, port, purpose: Purpose::Diagnosis });
            }
        };
        // CoreDNS pods of this node, by both transports from the host.
        for pod in self.targets.pods.iter().filter(|p| p.node.as_ref() == Some(&self.node)) {
            let Some((path, _)) = self.matrix.bad(Pick { pod: Some(&pod.uid), ..Pick::default() }).next() else {
                continue;
            };
            for (transport, port) in [(Transport::Udp, pod.udp_port), (Transport::Tcp, pod.tcp_port)] {
                add(host_path(pod, path.target.ip, transport), port.unwrap_or(53));
            }
            // What it refuses to forward moves its counter between two samples.
            let outer = Pick { pod: Some(&pod.uid), question: Some(QuestionKind::External), ..Pick::default() };
            let from_host = |path: &PathKey| path.vantage == Vantage::Host;
            if let Some((path, state)) = self.matrix.bad(outer).find(|(path, _)| from_host(path)) {
                add(path.clone(), state.port);
            }
        }
        let mut froms: Vec<&PodUid> = Vec::new();
        for (path, state) in self.matrix.suspected() {
            match vantage_pod(path) {
                Some(uid) if !froms.contains(&uid) && froms.len() < 4 => froms.push(uid),
                Some(uid) if froms.contains(&uid) => {}
                Some(_) => continue,
                None if matches!(path.target.kind, TargetKind::Service) => {}
                None => continue,
            }
            if path.question == QuestionKind::Internal {
                add(path.clone(), state.port);
            }
            // A nameserver is wrong only if the Service answers the same pod.
            if matches!(path.target.kind, TargetKind::Nameserver)
                && let Some((ip, port)) = self.service_address(path.target.ip, path.transport)
            {
                add(PathKey { target: Target { kind: TargetKind::Service, ip }, ..path.clone() }, port);
            }
        }
        for (path, port) in self.name_paths() {
            add(path, port);
        }
        let mut again: Vec<ProbeItem> = Vec::new();
        for (path, port) in self.upstream_paths() {
            // Several at once from where CoreDNS asks it: of a server that drops what is too much, some are answered.
            if path.vantage != Vantage::Host {
                let item = ProbeItem { path: path.clone(), port, purpose: Purpose::Diagnosis };
                again.extend(std::iter::repeat_n(item, UPSTREAM_TIMES - 1));
            }
            add(path, port);
        }
        items.extend(again);
        if items.is_empty() {
            return None;
        }
        let request = self.request(now, items);
        let recheck = Recheck::new(now.mono, &request);
        out.push(Output::Probe(request));
        Some(recheck)
    }

    /// Asks in other ways when a path begins to fail, and again before the answer is forgotten: with patience, which tells slow from silent and waits for the ICMP error of an address that
    /// nobody has, and with A and AAAA from one socket, which races in conntrack where single queries do not.
    pub(super) fn ask_in_other_ways(&mut self, now: Now, out: &mut Vec<Output>) {
        let local: BTreeSet<&PodUid> =
            self.targets.pods.iter().filter(|p| p.node.as_ref() == Some(&self.node)).map(|p| &p.uid).collect();
        let own =
            |path: &PathKey| path.vantage == Vantage::Host && target_pod(path).is_some_and(|uid| local.contains(uid));
        let Some(case) = &mut self.case else { return };
        // What answered meanwhile, or began to fail anew, was asked about something else.
        case.asked.retain(|path, (since, at)| {
            let same = self.matrix.get(path).is_some_and(|state| state.suspected == Some(*since));
            same && now.mono.since(*at) < WAYS_STAND
        });
        let mut items = Vec::new();
        for (path, state) in self.matrix.suspected() {
            let Some(since) = state.suspected.filter(|_| path.question == QuestionKind::Internal) else { continue };
            let (mine, most) = (own(path), if own(path) { MOST_OWN_WAYS } else { MOST_WAYS });
            if case.asked.contains_key(path) || case.asked.keys().filter(|asked| own(asked) == mine).count() >= most {
                continue;
            }
            case.asked.insert(path.clone(), (since, now.mono));
            let port = state.port;
            let ways: &[Purpose] = match path.transport {
                Transport::Udp => &[Purpose::Patience, Purpose::Both],
                Transport::Tcp => &[Purpose::Patience],
            };
            items.extend(ways.iter().map(|purpose| ProbeItem { path: path.clone(), port, purpose: purpose.clone() }));
        }
        if !items.is_empty() {
            let request = self.request(now, items);
            out.push(Output::Probe(request));
        }
    }

    fn request(&mut self, now: Now, items: Vec<ProbeItem>) -> ProbeRequest {
        self.serial += 1;
        let id = RequestId(format!("{OURS}{}-{}", now.mono.0.as_millis(), self.serial));
        ProbeRequest { id, items, deadline: now.mono + Duration::from_secs(3) }
    }

    fn service_address(&self, like: IpAddr, transport: Transport) -> Option<(IpAddr, u16)> {
        let service = self.targets.service.as_ref()?;
        let port = match transport {
            Transport::Udp => service.udp_port.as_ref(),
            Transport::Tcp => service.tcp_port.as_ref(),
        }?;
        let ip = service.cluster_ips.iter().find(|ip| ip.is_ipv4() == like.is_ipv4())?;
        Some((*ip, port.port))
    }

    /// The upstreams, from the host and from the CoreDNS pod that forwards there, while external names fail.
    fn upstream_paths(&self) -> Vec<(PathKey, u16)> {
        let outer = [QuestionKind::External, QuestionKind::Extra]
            .into_iter()
            .find(|question| self.matrix.bad(Pick { question: Some(*question), ..Pick::default() }).next().is_some());
        let Some(question) = outer else { return Vec::new() };
        let mut paths = Vec::new();
        for pod in self.targets.pods.iter().filter(|p| p.node.as_ref() == Some(&self.node)) {
            let Some(namespace) = self.namespaces.get(&pod.uid) else { continue };
            let from_pod =
                Vantage::Pod { uid: namespace.pod.clone(), key: namespace.key.clone(), cookie: namespace.cookie };
            for ip in namespace.resolv.nameservers.iter().filter(|ip| !ip.is_loopback()).take(3) {
                for vantage in [Vantage::Host, from_pod.clone()] {
                    let target = Target { kind: TargetKind::Upstream, ip: *ip };
                    paths.push((PathKey { vantage, target, transport: Transport::Udp, question }, 53));
                }
            }
        }
        paths
    }
}
