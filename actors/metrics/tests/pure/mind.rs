//! What is told becomes series.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nameward_config::Config;
use nameward_messages::cluster_view::{ClusterView, KillSwitch, NodeAgentView, NodeView};
use nameward_messages::guarding::{Breaker, RefusalReason};
use nameward_messages::namespaces::Vantage;
use nameward_messages::plan::IncidentPhase;
use nameward_messages::probe::{NotAsked, Outcome};
use nameward_messages::remedy::{RemedyKind, RemedyOutcome};
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::Cause;
use nameward_messages::{Mono, NodeName};
use nameward_metrics::mind::{MOST_INCIDENTS, MOST_REMEDIES, Output};
use nameward_metrics::names::{Bound, MOST_PODS, Metric};
use nameward_metrics::state::Snapshot;
use nameward_metrics::{MetricsInput, MetricsMind};
use proptest::prelude::*;

use crate::common::*;

/// A mind with what came of its outputs.
struct Bench {
    mind: MetricsMind,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<Metric, Vec<(String, f64)>>,
    seen: BTreeMap<Metric, usize>,
    snapshot: Arc<Snapshot>,
    published: usize,
    kept: BTreeSet<String>,
}

impl Bench {
    fn new() -> Self {
        Self {
            mind: MetricsMind::new(at(0), "node1", &Config::default()),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            seen: BTreeMap::new(),
            snapshot: Arc::default(),
            published: 0,
            kept: BTreeSet::new(),
        }
    }

    fn tell(&mut self, second: u64, inputs: impl IntoIterator<Item = MetricsInput>) {
        for input in inputs {
            let mut out = Vec::new();
            self.mind.step(at(second), input, &mut out);
            out.into_iter().for_each(|output| self.apply(output));
        }
    }

    fn apply(&mut self, output: Output) {
        match output {
            Output::Add { metric, labels, by } => {
                check_labels(metric, &labels);
                *self.counters.entry(format!("{metric:?} {}", labels.join(" "))).or_default() += by;
            }
            Output::Observe { metric, labels, seconds } => {
                check_labels(metric, &labels);
                *self.seen.entry(metric).or_default() += seconds.len();
            }
            Output::Replace { metric, series } => {
                series.iter().for_each(|(labels, _)| check_labels(metric, labels));
                self.gauges
                    .insert(metric, series.into_iter().map(|(labels, value)| (labels.join(" "), value)).collect());
            }
            Output::KeepPods(pods) => self.kept = pods,
            Output::Publish(snapshot) => {
                self.snapshot = snapshot;
                self.published += 1;
            }
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    fn gauge(&self, metric: Metric) -> Vec<(&str, f64)> {
        self.gauges.get(&metric).into_iter().flatten().map(|(labels, value)| (labels.as_str(), *value)).collect()
    }
}

/// As many labels as defined, and each one of its values.
fn check_labels(metric: Metric, labels: &[std::borrow::Cow<'static, str>]) {
    let spec = metric.spec();
    assert_eq!(spec.labels.len(), labels.len(), "{}", spec.name);
    for (label, value) in spec.labels.iter().zip(labels) {
        if let Bound::OneOf(values) = label.bound() {
            assert!(values.contains(&value.as_ref()), "{} {label:?} {value}", spec.name);
        }
    }
}

#[test]
fn counts() {
    let mut bench = Bench::new();
    bench.tell(5, a_bad_day());
    for (name, expected) in [
        ("DnsQueryCount ", 4),
        ("TotalFailures ", 3),
        ("OomCount ", 1),
        ("RestartCount ", 1),
        ("Rounds ", 1),
        ("Probes host pod udp refused", 1),
        ("Probes pod pod udp timeout", 1),
        ("Probes pod service udp serv-fail", 1),
        ("VerdictsTotal coredns-udp-dead", 1),
        ("Remedies evict-pod act verified", 1),
        ("ConfigReloads failed", 1),
    ] {
        assert_eq!(bench.counter(name), expected, "{name}: {:?}", bench.counters);
    }
    assert_eq!(bench.seen[&Metric::ProbeDuration], 4);
    assert_eq!(bench.seen[&Metric::DnsQueryResponseTime], 2, "only what replied has a response time");
    assert_eq!(bench.gauge(Metric::SuspectedPaths), [("", 2.0)]);
    assert_eq!(bench.gauge(Metric::Verdicts), [("coredns-udp-dead coredns-pod", 1.0)]);
    assert_eq!(bench.gauge(Metric::CorednsUp), [("coredns-a node1 udp", 0.0), ("coredns-a node1 tcp", 1.0)]);
    assert_eq!(bench.gauge(Metric::ConfigGood), [("", 0.0)]);
    assert_eq!(bench.gauge(Metric::RoundPeriod), [("", 10.0)]);
    assert_eq!(bench.counter("CorednsProbes coredns-a node1 host udp bad"), 1);
    assert_eq!(bench.counter("CorednsProbes coredns-a node1 host tcp good"), 1);
    assert_eq!(bench.counter("CorednsProbes coredns-a node1 pod udp bad"), 1);
    assert_eq!(bench.seen[&Metric::CorednsProbeDuration], 3);
    assert_eq!(bench.gauge(Metric::IncidentsUnresolved), [("coredns-udp-dead verifying", 1.0)]);
    assert_eq!(bench.gauge(Metric::CapabilitiesMissing), [("", 1.0)]);
}

#[test]
fn what_holds_remedies_back_is_shown() {
    let mut bench = Bench::new();
    let kind = RemedyKind::EvictPod;
    let refused = |reason| MetricsInput::Refused { kind, reason };
    bench.tell(1, [refused(RefusalReason::HourlyBudget), refused(RefusalReason::HourlyBudget)]);
    assert_eq!(bench.counter("Refusals evict-pod hourly-budget"), 2);
    let breaker = |breaker, open| MetricsInput::Breaker { breaker, open };
    bench.tell(2, [breaker(Breaker::Node, false), breaker(Breaker::Coredns, true)]);
    assert_eq!(bench.gauge(Metric::BreakerOpen), [("node", 0.0), ("coredns", 1.0)]);
    for (switch, policy, unreadable) in [
        (KillSwitch::Off, 0.0, 0.0),
        (KillSwitch::On, 1.0, 0.0),
        (KillSwitch::UnreadableSince(Mono::default()), 0.0, 1.0),
    ] {
        bench.tell(3, [MetricsInput::KillSwitch(switch)]);
        assert_eq!(bench.gauge(Metric::KillSwitch), [("policy", policy), ("policy-unreadable", unreadable)]);
    }
}

#[test]
fn agents_are_counted_by_how_they_report() {
    let node = |name: &str, terminating| NodeView {
        name: NodeName::from(name),
        uid: String::new(),
        ready: None,
        unschedulable: None,
        zone: None,
        terminating,
    };
    let agent = |name: &str, changed: u64, vouches: Option<bool>| NodeAgentView {
        name: NodeName::from(name),
        uid: String::new(),
        resource_version: String::new(),
        orders: NodeOrders::default(),
        report: vouches.map(|self_check| Arc::new(NodeReport { self_check, ..NodeReport::default() })),
        changed_at: at(changed).mono,
    };
    let mut view = ClusterView {
        complete: true,
        nodes: vec![
            node("a", false),
            node("b", false),
            node("c", false),
            node("d", false),
            node("e", false),
            node("f", true),
        ],
        agents: vec![
            agent("a", 990, Some(true)),
            agent("b", 990, Some(false)),
            agent("c", 10, Some(true)),
            agent("d", 990, None),
            agent("f", 990, Some(true)),
            agent("no node's", 990, Some(true)),
        ],
        ..ClusterView::default()
    };
    let mut bench = Bench::new();
    bench.tell(1000, [MetricsInput::View(Arc::new(view.clone()))]);
    let expected = [("fresh", 1.0), ("doubtful", 1.0), ("stale", 1.0), ("missing", 2.0)];
    assert_eq!(bench.gauge(Metric::Agents), expected);
    assert_eq!(bench.gauge(Metric::CorednsBudgets), [("none", 0.0), ("one", 0.0), ("several", 0.0)]);
    view.complete = false;
    view.nodes.clear();
    bench.tell(1001, [MetricsInput::View(Arc::new(view))]);
    assert_eq!(bench.gauge(Metric::Agents), expected, "an incomplete view says nothing");
}

/// Where CoreDNS pods are many, the nodes together show all of them.
#[test]
fn each_node_shows_other_pods() {
    let names: Vec<_> = (0..200_u8).map(|n| (format!("coredns-{n}"), n)).collect();
    let pods: Vec<_> = names.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let shown = |node: &str| {
        let mut bench = Bench::new();
        bench.mind = MetricsMind::new(at(0), node, &Config::default());
        bench.tell(1, [targets(&pods)]);
        bench.kept
    };
    assert_eq!(shown("node7"), shown("node7"));
    let all: BTreeSet<String> = (0..100).flat_map(|n| shown(&format!("node{n}"))).collect();
    assert_eq!((shown("node1").len(), all.len()), (MOST_PODS, 200));
}

#[test]
fn what_was_not_asked_is_no_failure() {
    let mut bench = Bench::new();
    let path = path(workload(1), service(), Transport::Udp);
    let not_asked = Outcome::NotAsked { why: NotAsked::NamespaceGone };
    bench.tell(5, [round(1, 1, vec![saw(1, path, not_asked, 0)])]);
    assert_eq!(bench.counter("Probes pod service udp not-asked"), 1);
    assert_eq!((bench.counter("DnsQueryCount "), bench.counter("TotalFailures ")), (0, 0));
    assert!(!bench.seen.contains_key(&Metric::ProbeDuration));
}

#[test]
fn a_verdict_is_counted_once_while_it_stands() {
    let mut bench = Bench::new();
    let cause = Cause::CorednsUdpDead;
    bench.tell(5, [stands(cause, "coredns-a", 2), stands(cause, "coredns-a", 2), stands(cause, "coredns-b", 4)]);
    assert_eq!(bench.counter("VerdictsTotal coredns-udp-dead"), 2);
    assert_eq!(bench.gauge(Metric::Verdicts), [("coredns-udp-dead coredns-pod", 2.0)]);
    bench.tell(9, [ended(cause, "coredns-a"), ended(cause, "coredns-b")]);
    assert_eq!(bench.gauge(Metric::Verdicts), []);
    bench.tell(20, [stands(cause, "coredns-a", 20)]);
    assert_eq!(bench.counter("VerdictsTotal coredns-udp-dead"), 3);
}

#[test]
fn a_rebuilt_mind_does_not_count_what_its_predecessor_counted() {
    let mut bench = Bench::new();
    bench.mind = MetricsMind::new(at(100), "node1", &Config::default());
    bench.tell(100, [stands(Cause::UpstreamDead, "coredns-a", 50)]);
    assert_eq!(bench.counter("VerdictsTotal upstream-dead"), 0);
    assert_eq!(bench.gauge(Metric::Verdicts).len(), 1, "but it stands");
}

#[test]
fn series_of_what_is_gone_disappear() {
    let mut bench = Bench::new();
    bench.tell(5, a_bad_day());
    // The evicted pod is replaced.
    bench.tell(10, [targets(&[("coredns-b", 3), ("coredns-c", 4)])]);
    assert_eq!(bench.gauge(Metric::CorednsUp), []);
    assert_eq!(bench.gauge(Metric::SuspectedPaths), [("", 0.0)]);
    let host = path(Vantage::Host, coredns("coredns-c", 4), Transport::Udp);
    bench.tell(11, [round(2, 11, vec![saw(11, host, Outcome::Answered, 1)])]);
    assert_eq!(bench.gauge(Metric::CorednsUp), [("coredns-c node1 udp", 1.0)]);
    // So does a workload's namespace.
    assert!(bench.snapshot.matrix.iter().any(|entry| entry.path.vantage == workload(1)));
    bench.tell(20, [namespace_gone(1)]);
    assert_eq!(bench.gauge(Metric::Namespaces), [("", 0.0)]);
    assert!(!bench.snapshot.matrix.iter().any(|entry| entry.path.vantage == workload(1)));
}

#[test]
fn a_pod_with_two_addresses_is_up_on_both() {
    let mut bench = Bench::new();
    let v4 = path(Vantage::Host, coredns("coredns-a", 2), Transport::Udp);
    let v6 = path(Vantage::Host, coredns("coredns-a", 9), Transport::Udp);
    let good = saw(1, v4, Outcome::Answered, 1);
    let bad = saw(1, v6, Outcome::Timeout, 700);
    bench.tell(1, [targets(&[("coredns-a", 2)]), round(1, 1, vec![good, bad])]);
    assert_eq!(bench.gauge(Metric::CorednsUp), [("coredns-a node1 udp", 0.0)]);
}

#[test]
fn pods_with_series_are_capped() {
    let mut bench = Bench::new();
    let names: Vec<_> = (0..200_u8).map(|n| (format!("coredns-{n}"), n)).collect();
    let pods: Vec<_> = names.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let asked = pods
        .iter()
        .map(|(name, n)| saw(1, path(Vantage::Host, coredns(name, *n), Transport::Udp), Outcome::Answered, 1))
        .collect();
    bench.tell(1, [targets(&pods), round(1, 1, asked)]);
    assert_eq!(bench.gauge(Metric::CorednsUp).len(), MOST_PODS);
}

#[test]
fn a_path_that_is_not_asked_any_more_leaves_the_matrix() {
    let mut bench = Bench::new();
    let old = path(workload(1), service(), Transport::Udp);
    let new = path(workload(2), service(), Transport::Udp);
    bench.tell(1, [round(1, 1, vec![saw(1, old, Outcome::Answered, 1)])]);
    bench.tell(302, [round(2, 302, vec![saw(302, new.clone(), Outcome::Answered, 1)])]);
    assert_eq!(bench.snapshot.matrix.iter().map(|entry| (*entry.path).clone()).collect::<Vec<_>>(), [new]);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut bench = Bench::new();
    let many = (0..6000).map(|n| saw(1, path(workload(n), service(), Transport::Udp), Outcome::Answered, 1)).collect();
    bench.tell(1, [round(1, 1, many)]);
    assert_eq!((bench.snapshot.matrix.len(), bench.snapshot.matrix_left_out), (5000, 1000));
    bench.tell(2, (0..100).map(|_| remedy(RemedyOutcome::Refused)));
    bench.tell(3, (0..300).map(|n| incident(&format!("dns-{n}"), IncidentPhase::Open, n)));
    bench.tell(5, [MetricsInput::Tick]);
    assert_eq!(bench.snapshot.remedies.len(), MOST_REMEDIES);
    assert_eq!(bench.snapshot.incidents.len(), MOST_INCIDENTS);
    assert!(bench.snapshot.incidents.iter().any(|(name, _)| name == "dns-299"), "the newest stay");
    assert_eq!(bench.counter("Remedies evict-pod act refused"), 100);
    assert_eq!(bench.gauge(Metric::Incidents)[0], ("open", 200.0));
}

#[test]
fn snapshots_are_published_at_once_and_then_once_a_second() {
    let mut bench = Bench::new();
    bench.tell(1, [MetricsInput::Leader(true), MetricsInput::Leader(false), MetricsInput::Leader(true)]);
    assert_eq!((bench.published, bench.snapshot.leader), (1, true));
    bench.tell(1, [MetricsInput::Leader(false)]);
    assert!(bench.snapshot.leader, "not yet");
    assert_eq!(bench.mind.deadline(), Some(at(2).mono));
    bench.tell(2, [MetricsInput::Tick]);
    assert!(!bench.snapshot.leader);
    assert_eq!((bench.published, bench.mind.deadline()), (2, None));
}

fn any_input() -> impl Strategy<Value = MetricsInput> {
    let cause = || (0..Cause::ALL.len()).prop_map(|n| Cause::ALL[n]);
    let outcome = prop_oneof![
        Just(Outcome::Answered),
        Just(Outcome::Timeout),
        Just(Outcome::NotPermitted),
        any::<u16>().prop_map(|rcode| Outcome::Rcode { rcode }),
        Just(Outcome::NotAsked { why: NotAsked::NoPermission }),
    ];
    let observed = (0..9_u64, 0..5_u8, outcome).prop_map(|(vantage, pod, outcome)| {
        let vantage = if vantage == 0 { Vantage::Host } else { workload(vantage) };
        let target = if pod == 0 { service() } else { coredns(&format!("coredns-{pod}"), pod) };
        saw(1, path(vantage, target, Transport::Udp), outcome, 1)
    });
    prop_oneof![
        prop::collection::vec(observed, 0..20).prop_map(|observations| round(1, 1, observations)),
        (cause(), 0..3_u8).prop_map(|(cause, pod)| stands(cause, &format!("coredns-{pod}"), 1)),
        (cause(), 0..3_u8).prop_map(|(cause, pod)| ended(cause, &format!("coredns-{pod}"))),
        (0..9_u64).prop_map(namespace),
        (0..9_u64).prop_map(namespace_gone),
        (0..9_u64).prop_map(|n| suspected(path(workload(n), service(), Transport::Udp))),
        Just(targets(&[("coredns-1", 1), ("coredns-2", 2)])),
        Just(targets(&[])),
        Just(oom()),
        Just(MetricsInput::Tick),
    ]
}

proptest! {
    /// Labels are always as defined (checked on the way), and gauges say what the snapshot says.
    #[test]
    fn series_and_snapshot_agree(inputs in prop::collection::vec(any_input(), 0..60)) {
        let mut bench = Bench::new();
        bench.tell(1, inputs);
        bench.tell(1000, [MetricsInput::Tick]);
        let sum = |metric| bench.gauge(metric).iter().map(|(_, value)| value).sum::<f64>();
        if !bench.gauges.is_empty() {
            prop_assert!((sum(Metric::Verdicts) - bench.snapshot.verdicts.len() as f64).abs() < 0.5);
            prop_assert!((sum(Metric::SuspectedPaths) - bench.snapshot.suspected.len() as f64).abs() < 0.5);
            prop_assert!((sum(Metric::Namespaces) - bench.snapshot.namespaces.len() as f64).abs() < 0.5);
        }
    }
}
