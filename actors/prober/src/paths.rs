//! What is asked, from where: every path that targets, namespaces and configuration give.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use nameward_config::Config;
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
    /// The questions in turn (more than one only for extra names).
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
        Self { kinds, internal }
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
            udp: service.udp_port.as_ref().map(|port| port.port),
            tcp: service.tcp_port.as_ref().map(|port| port.port),
            costs: costs.into(),
            own: false,
        });
    }
    asked
}

/// Nameservers of a pod's own that are none of the cluster's. Only a pod whose search list names the cluster's domain is
/// meant to use cluster DNS; the nameservers of another (`dnsPolicy: Default` or `None`) owe us no answer.
fn own_nameservers(namespace: &Namespace, targets: &Targets, asked: &[Asked]) -> Vec<Asked> {
    let resolv = &namespace.resolv;
    let services = format!("svc.{}", targets.cluster_domain.trim_end_matches('.'));
    if resolv.read_from.is_none() || !resolv.search.iter().any(|s| s.trim_end_matches('.').ends_with(&services)) {
        return Vec::new();
    }
    let known = |ip: &IpAddr| asked.iter().any(|one| one.target.ip == *ip);
    let mut servers: Vec<IpAddr> = resolv.nameservers.iter().copied().filter(|ip| !known(ip)).collect();
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
