//! What is asked, from where: every path that targets, namespaces and configuration give.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use nameward_config::{Also, Config};
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::probe::{Expect, PathKey, QueryType, Question, QuestionKind};
use nameward_messages::targets::{DnsPod, Family, Target, TargetKind, Targets, Transport};
use nameward_messages::{NetnsCookie, NodeName, PodUid};

use crate::share::QUERY;

/// A pod's namespace as a probe needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Identity.
    pub cookie: NetnsCookie,
    /// The file.
    pub path: Arc<Path>,
}

/// Whose budget a query spends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// A CoreDNS pod's.
    Pod(PodUid),
    /// A server's that is no CoreDNS pod.
    Server(IpAddr),
}

/// One path that is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Port to ask.
    pub port: u16,
    /// The questions in turn (more than one only for extra names). [`fresh`] makes what is really asked of them.
    pub questions: Arc<[Arc<Question>]>,
    /// Where from, if not from the host.
    pub place: Option<Place>,
    /// Every round, whatever the share: the host of a CoreDNS pod's own node asks that pod.
    pub always: bool,
    /// What a query costs, and whom.
    pub costs: Arc<[(Account, u128)]>,
}

/// Every path.
pub type Paths = BTreeMap<PathKey, Planned>;

/// The questions of one configuration and one state of the API.
#[derive(Clone, Debug)]
pub struct Questions {
    kinds: Vec<(QuestionKind, Arc<[Arc<Question>]>)>,
    internal: Arc<Question>,
}

impl Questions {
    /// From what the API says.
    #[must_use]
    pub fn new(config: &Config, targets: &Targets) -> Self {
        let known = &targets.kubernetes_service;
        let v4 = known.is_empty() || known.iter().any(IpAddr::is_ipv4);
        let (qtype, family) = if v4 { (QueryType::A, Family::Ipv4) } else { (QueryType::Aaaa, Family::Ipv6) };
        let right: Vec<IpAddr> = known.iter().copied().filter(|ip| Family::of(*ip) == family).collect();
        let expect = if right.is_empty() { Expect::SomeAddress } else { Expect::Addresses(right) };
        let question = |kind, name: &str, expect| Arc::new(Question { kind, name: absolute(name), qtype, expect });
        let domain = if targets.cluster_domain.is_empty() { "cluster.local" } else { &targets.cluster_domain };
        let internal = question(QuestionKind::Internal, &format!("kubernetes.default.svc.{domain}."), expect);
        let mut kinds: Vec<(QuestionKind, Arc<[_]>)> =
            vec![(QuestionKind::Internal, Arc::new([Arc::clone(&internal)]))];
        if !config.probe.external_name.is_empty() {
            let external = question(QuestionKind::External, &config.probe.external_name, Expect::SomeAddress);
            kinds.push((QuestionKind::External, Arc::new([external])));
        }
        let extra: Vec<_> =
            config.probe.extra_names.iter().map(|n| question(QuestionKind::Extra, n, Expect::SomeAddress)).collect();
        if !extra.is_empty() {
            kinds.push((QuestionKind::Extra, extra.into()));
        }
        let also = |kind| config.probe.also.contains(&kind);
        let mut more = |kind, name: String, qtype, expect| {
            kinds.push((kind, Arc::new([Arc::new(Question { kind, name, qtype, expect })])));
        };
        if also(Also::Held) {
            more(QuestionKind::Held, internal.name.clone(), qtype, internal.expect.clone());
        }
        if also(Also::OtherType) {
            let other = if qtype == QueryType::A { QueryType::Aaaa } else { QueryType::A };
            more(QuestionKind::OtherType, internal.name.clone(), other, Expect::NoError);
        }
        if let Some(ip) = known.iter().find(|ip| Family::of(**ip) == family).filter(|_| also(Also::Reverse)) {
            more(QuestionKind::Reverse, reverse(*ip), QueryType::Ptr, Expect::Settled);
        }
        if also(Also::Absent) {
            more(QuestionKind::Absent, format!("{ABSENT}.{domain}."), qtype, Expect::NoSuchName);
        }
        if !config.probe.large_name.is_empty() {
            let name = absolute(&config.probe.large_name);
            // CoreDNS's plugin kubernetes has no text to give; what lies outside has no hundred addresses.
            let inside = name.to_ascii_lowercase().ends_with(&format!(".{}.", domain.to_ascii_lowercase()));
            more(QuestionKind::Large, name, if inside { qtype } else { QueryType::Txt }, Expect::Arrives);
        }
        Self { kinds, internal }
    }

    /// The internal name, asked of a server that need not know it: any reply is right.
    fn any_reply(&self) -> (QuestionKind, Arc<[Arc<Question>]>) {
        let question = Question { expect: Expect::AnyReply, ..Question::clone(&self.internal) };
        (QuestionKind::Internal, Arc::new([Arc::new(question)]))
    }

    /// The question for a path that may lie outside the plan. A server that is not known to serve the cluster is asked
    /// the internal name with any reply being right: that it replies is what can be expected of it.
    #[must_use]
    pub fn for_path(&self, path: &PathKey) -> Arc<Question> {
        let configured = self.kinds.iter().find(|(kind, _)| *kind == path.question).and_then(|(_, list)| list.first());
        match (configured, &path.target.kind) {
            (Some(question), TargetKind::Upstream) if question.kind != QuestionKind::Internal => Arc::clone(question),
            (_, TargetKind::Upstream) | (None, _) => {
                Arc::new(Question { kind: path.question, expect: Expect::AnyReply, ..Question::clone(&self.internal) })
            }
            (Some(question), TargetKind::Pod { .. } | TargetKind::Service | TargetKind::Nameserver) => {
                Arc::clone(question)
            }
        }
    }
}

/// `MAXNS` of glibc's and musl's resolv.h.
const NAMESERVERS: usize = 3;
/// The label of a name that must not exist, before it is made unique.
const ABSENT: &str = "nameward-absent";

/// What is asked this time: a name that must not exist is a new one each time, else caches would answer.
#[must_use]
pub fn fresh(question: &Arc<Question>, random: u64) -> Arc<Question> {
    if question.kind != QuestionKind::Absent {
        return Arc::clone(question);
    }
    let name = format!("{ABSENT}-{random:016x}{}", question.name.strip_prefix(ABSENT).unwrap_or("."));
    Arc::new(Question { name, ..Question::clone(question) })
}

/// The name under which an address is looked up: RFC 1035 section 3.5, RFC 3596 section 2.5.
fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4));
            nibbles.collect::<String>() + "ip6.arpa."
        }
    }
}

/// Whether a kind of question is put on a way. What tells nothing new from another vantage is asked from the host alone,
/// so that a node with many pods costs little more.
fn is_put(kind: QuestionKind, path: &PathKey) -> bool {
    let (udp, host) = (path.transport == Transport::Udp, path.vantage == Vantage::Host);
    let service = path.target.kind == TargetKind::Service;
    match kind {
        QuestionKind::Internal | QuestionKind::External | QuestionKind::Extra | QuestionKind::Large => true,
        QuestionKind::Held => udp && service,
        QuestionKind::OtherType => udp && (host || service),
        QuestionKind::Reverse | QuestionKind::Absent => udp && host,
    }
}

fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

/// Something that is asked by every vantage.
struct Asked {
    target: Target,
    udp: Option<u16>,
    tcp: Option<u16>,
    costs: Arc<[(Account, u128)]>,
    own: bool,
}

/// Lays out every path. A vantage asks only addresses of its own families; a terminating CoreDNS pod is not asked.
#[must_use]
pub fn lay_out(
    config: &Config,
    node: &NodeName,
    targets: &Targets,
    namespaces: &BTreeMap<NetnsCookie, Namespace>,
) -> Paths {
    let questions = Questions::new(config, targets);
    let any_reply = [questions.any_reply()];
    let asked = everywhere(config, node, targets);
    let mut paths = Paths::new();
    for one in &asked {
        insert(&mut paths, &Vantage::Host, None, one, &questions.kinds);
    }
    for namespace in namespaces.values() {
        let vantage = vantage(namespace);
        let place = Place { cookie: namespace.cookie, path: namespace.path.as_path().into() };
        let has =
            |ip: IpAddr| namespace.ips.is_empty() || namespace.ips.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
        for one in asked.iter().filter(|one| has(one.target.ip)) {
            insert(&mut paths, &vantage, Some(&place), one, &questions.kinds);
        }
        let internal = questions.kinds.get(..1).unwrap_or_default();
        for one in own_nameservers(namespace, targets, &asked) {
            insert(&mut paths, &vantage, Some(&place), &one, internal);
        }
        for one in loopback_nameservers(namespace, targets) {
            insert(&mut paths, &vantage, Some(&place), &one, &any_reply);
        }
    }
    paths
}

/// The vantage of a namespace.
#[must_use]
pub fn vantage(namespace: &Namespace) -> Vantage {
    Vantage::Pod { uid: namespace.pod.clone(), key: namespace.key.clone(), cookie: namespace.cookie }
}

fn insert(
    paths: &mut Paths,
    vantage: &Vantage,
    place: Option<&Place>,
    asked: &Asked,
    kinds: &[(QuestionKind, Arc<[Arc<Question>]>)],
) {
    for (transport, port) in [(Transport::Udp, asked.udp), (Transport::Tcp, asked.tcp)] {
        let Some(port) = port else { continue };
        for (kind, questions) in kinds {
            let always = asked.own && place.is_none() && *kind == QuestionKind::Internal;
            let key = PathKey { vantage: vantage.clone(), target: asked.target.clone(), transport, question: *kind };
            if !is_put(*kind, &key) {
                continue;
            }
            let planned = Planned {
                port,
                questions: Arc::clone(questions),
                place: place.cloned(),
                always,
                costs: Arc::clone(&asked.costs),
            };
            paths.insert(key, planned);
        }
    }
}

fn everywhere(config: &Config, node: &NodeName, targets: &Targets) -> Vec<Asked> {
    let set = |configured: u16, found: Option<u16>| if configured == 0 { found } else { Some(configured) };
    let live: Vec<&DnsPod> = targets.pods.iter().filter(|pod| !pod.terminating).collect();
    let mut asked = Vec::new();
    for pod in &live {
        let kind = TargetKind::Pod { uid: pod.uid.clone(), key: pod.key.clone(), node: pod.node.clone() };
        let costs: Arc<[_]> = Arc::new([(Account::Pod(pod.uid.clone()), QUERY)]);
        for ip in &pod.ips {
            asked.push(Asked {
                target: Target { kind: kind.clone(), ip: *ip },
                udp: set(config.discovery.udp_port, pod.udp_port),
                tcp: set(config.discovery.tcp_port, pod.tcp_port),
                costs: Arc::clone(&costs),
                own: pod.node.as_ref() == Some(node),
            });
        }
    }
    let Some(service) = &targets.service else { return asked };
    for ip in &service.cluster_ips {
        // A query to the Service ends at one of its pods: it costs each of them its part.
        let part = QUERY.div_ceil(u128::try_from(live.len()).unwrap_or(1).max(1));
        let mut costs: Vec<_> = live.iter().map(|pod| (Account::Pod(pod.uid.clone()), part)).collect();
        if costs.is_empty() {
            costs.push((Account::Server(*ip), QUERY));
        }
        asked.push(Asked {
            target: Target { kind: TargetKind::Service, ip: *ip },
            // Resolvers ask by both, whether the Service has the port or not: that it lacks one must show.
            udp: service.udp_port.as_ref().or(service.tcp_port.as_ref()).map(|port| port.port),
            tcp: service.tcp_port.as_ref().or(service.udp_port.as_ref()).map(|port| port.port),
            costs: costs.into(),
            own: false,
        });
    }
    asked
}

/// Nameservers of a pod's own that are none of the cluster's. Only a pod whose search list names the cluster's domain is
/// meant to use cluster DNS; the nameservers of another (`dnsPolicy: Default` or `None`) owe us no answer.
fn own_nameservers(namespace: &Namespace, targets: &Targets, asked: &[Asked]) -> Vec<Asked> {
    if !uses_cluster_dns(namespace, targets) {
        return Vec::new();
    }
    let known = |ip: &IpAddr| asked.iter().any(|one| one.target.ip == *ip);
    nameservers(namespace, |ip| !known(ip))
}

/// Loopback addresses that a pod that is not meant to use cluster DNS names: whatever else they owe, somebody must be
/// there. CoreDNS's own are left out: it listens there itself.
fn loopback_nameservers(namespace: &Namespace, targets: &Targets) -> Vec<Asked> {
    let coredns = targets.pods.iter().any(|pod| pod.uid == namespace.pod);
    if coredns || namespace.resolv.read_from.is_none() || uses_cluster_dns(namespace, targets) {
        return Vec::new();
    }
    nameservers(namespace, IpAddr::is_loopback)
}

fn uses_cluster_dns(namespace: &Namespace, targets: &Targets) -> bool {
    let resolv = &namespace.resolv;
    let services = format!("svc.{}", targets.cluster_domain.trim_end_matches('.'));
    resolv.read_from.is_some() && resolv.search.iter().any(|s| s.trim_end_matches('.').ends_with(&services))
}

fn nameservers(namespace: &Namespace, which: impl Fn(&IpAddr) -> bool) -> Vec<Asked> {
    // No resolver reads more of them.
    let read = namespace.resolv.nameservers.iter().take(NAMESERVERS);
    let mut servers: Vec<IpAddr> = read.copied().filter(which).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
        .into_iter()
        .map(|ip| Asked {
            target: Target { kind: TargetKind::Nameserver, ip },
            udp: Some(53),
            tcp: Some(53),
            costs: Arc::new([(Account::Server(ip), QUERY)]),
            own: false,
        })
        .collect()
}

#[cfg(test)]
mod tests;
