//! The decision: what each told thing does to which series, and what `/state` and the page show. Pure.

mod agents;
mod history;
mod incidents;
mod paths;
mod pods;
mod publish;
mod tally;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::cluster_view::{ClusterView, KillSwitch};
use nameward_messages::guarding::Breaker;
use nameward_messages::namespaces::{Namespace, NamespaceChanged};
use nameward_messages::plan::{IncidentSpec, IncidentStatus};
use nameward_messages::probe::{Observation, Round};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::report::{NodeOrders, NodeReport};
use nameward_messages::status::PacketWay;
use nameward_messages::targets::Targets;
use nameward_messages::verdict::{Deferral, DiagnosisTells, Recovery, Verdict, VerdictKey};
use nameward_messages::{Mono, NetnsCookie, Now, PodUid};

use crate::input::{ConfigReload, MetricsInput};
use crate::mind::history::Hour;
use crate::mind::paths::Paths;
use crate::mind::pods::Pods;
use crate::mind::tally::Tally;
use crate::names::{Metric, RELOAD_FAILED, RELOAD_OK, SWITCH_SOURCES, scope_label};
use crate::state::Snapshot;

/// A snapshot is published at most this often.
pub const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Most remedies kept for `/state`.
pub const MOST_REMEDIES: usize = 50;
/// Most failures kept that healed before a cause was named.
pub const MOST_RECOVERED: usize = 20;
/// Most verdicts kept.
pub const MOST_VERDICTS: usize = 256;
/// Most incidents kept: as many as the cluster keeps.
pub const MOST_INCIDENTS: usize = 200;
/// Most namespaces kept.
pub const MOST_NAMESPACES: usize = 2048;

/// Values of a series' labels, in the order of [`crate::names::Spec::labels`].
pub type Labels = Vec<Cow<'static, str>>;

/// What is to be done with the registry and the pages.
#[derive(Clone, Debug)]
pub enum Output {
    /// A counter grows.
    Add {
        /// Which.
        metric: Metric,
        /// Which series.
        labels: Labels,
        /// By how much.
        by: u64,
    },
    /// A histogram sees these values, in seconds.
    Observe {
        /// Which.
        metric: Metric,
        /// Which series.
        labels: Labels,
        /// The values.
        seconds: Vec<f64>,
    },
    /// A gauge has these series and no others.
    Replace {
        /// Which.
        metric: Metric,
        /// All its series.
        series: Vec<(Labels, f64)>,
    },
    /// Counters and histograms of CoreDNS pods with other names than these end.
    KeepPods(BTreeSet<String>),
    /// `/state` shows this from now on.
    Publish(Arc<Snapshot>),
}

/// What is known, bounded.
#[derive(Debug)]
pub struct MetricsMind {
    born: Now,
    node: String,
    stale_after: Duration,
    pods: Pods,
    breakers: BTreeMap<Breaker, bool>,
    namespaces: BTreeMap<(PodUid, NetnsCookie), Arc<Namespace>>,
    targets: Arc<Targets>,
    paths: Paths,
    verdicts: BTreeMap<VerdictKey, Arc<Verdict>>,
    deferred: Arc<Vec<Deferral>>,
    recovered: VecDeque<Arc<Recovery>>,
    remedies: VecDeque<Arc<RemedyRecord>>,
    incidents: BTreeMap<String, Arc<(IncidentSpec, IncidentStatus)>>,
    orders: Option<Arc<NodeOrders>>,
    report: Option<Arc<NodeReport>>,
    round: Option<(u64, Duration)>,
    leader: bool,
    api_reachable: Option<bool>,
    config_hash: Option<String>,
    config_error: Option<String>,
    losses: Arc<Vec<String>>,
    unmodelled: Arc<Vec<String>>,
    ways: BTreeMap<VerdictKey, Arc<PacketWay>>,
    kill_switch: Option<KillSwitch>,
    view: Option<Arc<ClusterView>>,
    mode: Mode,
    hour: Hour,
    published: Option<Mono>,
    dirty: bool,
}

impl MetricsMind {
    /// A mind that knows nothing yet, of the process on this node.
    #[must_use]
    pub fn new(now: Now, node: &str, config: &Config) -> Self {
        Self {
            born: now,
            node: node.to_owned(),
            stale_after: config.coordinator.stale_after.0,
            pods: Pods::default(),
            breakers: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            targets: Arc::default(),
            paths: Paths::default(),
            verdicts: BTreeMap::new(),
            deferred: Arc::default(),
            recovered: VecDeque::new(),
            remedies: VecDeque::new(),
            incidents: BTreeMap::new(),
            orders: None,
            report: None,
            round: None,
            leader: false,
            api_reachable: None,
            config_hash: None,
            config_error: None,
            losses: Arc::default(),
            unmodelled: Arc::default(),
            ways: BTreeMap::new(),
            kill_switch: None,
            view: None,
            mode: config.remedy.mode,
            hour: Hour::default(),
            published: None,
            dirty: true,
        }
    }

    /// Takes in what was told.
    pub fn step(&mut self, now: Now, input: MetricsInput, out: &mut Vec<Output>) {
        self.dirty |= !matches!(input, MetricsInput::Tick);
        self.hour.hear(now, &input, &self.verdicts);
        match input {
            MetricsInput::Round(round) => self.round(&round, out),
            MetricsInput::Answer(answer) => self.observed(&answer.observations, out),
            MetricsInput::Suspected(suspicion) => {
                self.paths.suspect(suspicion.path.clone(), suspicion.at.wall);
                self.suspected(out);
            }
            MetricsInput::Cleared { path } => {
                self.paths.clear(&path);
                self.suspected(out);
            }
            MetricsInput::Verdict(tells) => self.diagnosis(tells, out),
            MetricsInput::Remedy(record) => self.remedy(record, out),
            MetricsInput::Refused { kind, reason } => out.push(count(Metric::Refusals, [kind.id(), reason.label()], 1)),
            MetricsInput::Breaker { breaker, open } => {
                self.breakers.insert(breaker, open);
                let series = self.breakers.iter().map(|(b, open)| (vec![b.label().into()], bit(*open))).collect();
                out.push(Output::Replace { metric: Metric::BreakerOpen, series });
            }
            MetricsInput::Oom(_) => out.push(count(Metric::OomCount, [], 1)),
            MetricsInput::Targets(targets) => {
                self.paths.keep_targets(&targets);
                self.pods.choose(&self.node, &targets);
                self.targets = targets;
                out.push(self.pods.keep());
                out.push(self.paths.coredns_up(&self.pods));
                self.suspected(out);
            }
            MetricsInput::Namespace(changed) => self.namespace(changed, out),
            MetricsInput::Leader(leader) => {
                self.leader = leader;
                out.push(gauge(Metric::Leader, bit(leader)));
            }
            MetricsInput::Api { reachable } => {
                self.api_reachable = Some(reachable);
                out.push(gauge(Metric::ApiReachable, bit(reachable)));
            }
            MetricsInput::Orders(orders) => self.orders = Some(orders),
            MetricsInput::Report(report) => self.report = Some(report),
            MetricsInput::Incident { name, spec, status } => {
                self.incidents.insert(name, Arc::new((spec, status)));
                self.bound_incidents();
                out.extend(self.incident_phases());
            }
            MetricsInput::IncidentGone { name } => {
                self.incidents.remove(&name);
                out.extend(self.incident_phases());
            }
            MetricsInput::KillSwitch(switch) => {
                self.kill_switch = Some(switch);
                out.push(thrown(switch));
            }
            MetricsInput::View(view) => {
                out.extend(agents::count(now.mono, &view, self.stale_after));
                out.extend(agents::budgets(&view));
                self.view = Some(view);
            }
            MetricsInput::Losses(losses) => {
                out.push(gauge(Metric::CapabilitiesMissing, number(losses.len())));
                self.losses = Arc::new(losses);
            }
            MetricsInput::ConfigReload(reload) => self.reload(reload, out),
            MetricsInput::Reconfigure(config) => {
                self.stale_after = config.coordinator.stale_after.0;
                self.mode = config.remedy.mode;
            }
            MetricsInput::Tick => {}
        }
        self.hour.stands(self.paths.suspected(), self.verdicts.len(), &self.incidents);
        self.publish(now, out);
    }

    /// When [`MetricsInput::Tick`] is due: something changed since the last snapshot.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match (self.dirty, self.published) {
            (true, Some(at)) => Some(at + PUBLISH_EVERY),
            _ => None,
        }
    }

    fn observed(&self, observations: &[Observation], out: &mut Vec<Output>) {
        Tally::of(observations).report(out);
        self.pods.report(observations, out);
    }

    fn round(&mut self, round: &Round, out: &mut Vec<Output>) {
        self.observed(&round.observations, out);
        self.paths.saw(round);
        self.round = Some((round.number, round.period));
        out.push(count(Metric::Rounds, [], 1));
        out.push(gauge(Metric::RoundPeriod, round.period.as_secs_f64()));
        out.push(gauge(Metric::RoundDuration, round.ended.mono.since(round.began.mono).as_secs_f64()));
        out.push(self.paths.coredns_up(&self.pods));
        self.suspected(out);
    }

    fn diagnosis(&mut self, tells: DiagnosisTells, out: &mut Vec<Output>) {
        match tells {
            DiagnosisTells::Stands(verdict) => {
                let key = verdict.key();
                let known = self.verdicts.contains_key(&key);
                // A rebuilt mind is told again what its predecessor has counted.
                if !known && verdict.since.mono >= self.born.mono {
                    out.push(count(Metric::VerdictsTotal, [verdict.cause.id()], 1));
                }
                if known || self.verdicts.len() < MOST_VERDICTS {
                    self.verdicts.insert(key, Arc::new(verdict));
                }
                out.push(self.standing());
            }
            DiagnosisTells::Ended { key, .. } => {
                self.verdicts.remove(&key);
                self.ways.remove(&key);
                out.push(self.standing());
            }
            DiagnosisTells::Deferred(deferred) => self.deferred = Arc::new(deferred),
            // The page shows the paths themselves; that nothing was found is for the coordinator.
            DiagnosisTells::Matrix(_) | DiagnosisTells::Examined(_) => {}
            DiagnosisTells::Unmodelled(found) => self.unmodelled = Arc::new(found),
            DiagnosisTells::Way { key, way } => {
                if self.verdicts.contains_key(&key) {
                    self.ways.insert(key, Arc::new(way));
                }
            }
            DiagnosisTells::Recovered(recovery) => {
                out.push(count(Metric::Recovered, [], 1));
                self.recovered.push_back(Arc::new(recovery));
                if self.recovered.len() > MOST_RECOVERED {
                    self.recovered.pop_front();
                }
            }
        }
    }

    fn remedy(&mut self, record: RemedyRecord, out: &mut Vec<Output>) {
        let labels = [record.kind.id(), record.mode.label(), record.outcome.label()];
        out.push(count(Metric::Remedies, labels, 1));
        if record.kind == RemedyKind::EvictPod && record.outcome == RemedyOutcome::Done {
            out.push(count(Metric::RestartCount, [], 1));
        }
        self.remedies.push_back(Arc::new(record));
        if self.remedies.len() > MOST_REMEDIES {
            self.remedies.pop_front();
        }
    }

    fn namespace(&mut self, changed: NamespaceChanged, out: &mut Vec<Output>) {
        match changed {
            NamespaceChanged::Found(namespace) => {
                let key = (namespace.pod.clone(), namespace.cookie);
                if self.namespaces.len() < MOST_NAMESPACES || self.namespaces.contains_key(&key) {
                    self.namespaces.insert(key, Arc::new(namespace));
                }
            }
            NamespaceChanged::Gone { pod, cookie } => {
                self.paths.forget_vantage(&pod, cookie);
                self.namespaces.remove(&(pod, cookie));
                self.suspected(out);
            }
        }
        out.push(gauge(Metric::Namespaces, number(self.namespaces.len())));
    }

    fn reload(&mut self, reload: ConfigReload, out: &mut Vec<Output>) {
        let (result, good) = match reload {
            ConfigReload::Ok { hash } => {
                self.config_hash = Some(hash);
                self.config_error = None;
                (RELOAD_OK, true)
            }
            ConfigReload::Failed { because } => {
                self.config_error = Some(because);
                (RELOAD_FAILED, false)
            }
        };
        out.push(count(Metric::ConfigReloads, [result], 1));
        out.push(gauge(Metric::ConfigGood, bit(good)));
    }

    fn suspected(&self, out: &mut Vec<Output>) {
        out.push(gauge(Metric::SuspectedPaths, number(self.paths.suspected())));
    }

    fn standing(&self) -> Output {
        let mut standing: BTreeMap<_, usize> = BTreeMap::new();
        for verdict in self.verdicts.values() {
            *standing.entry((verdict.cause, verdict.scope)).or_default() += 1;
        }
        let series = standing
            .into_iter()
            .map(|((cause, scope), n)| (vec![cause.id().into(), scope_label(scope).into()], number(n)))
            .collect();
        Output::Replace { metric: Metric::Verdicts, series }
    }
}

fn count<const N: usize>(metric: Metric, labels: [&'static str; N], by: u64) -> Output {
    Output::Add { metric, labels: labels.into_iter().map(Cow::Borrowed).collect(), by }
}

fn gauge(metric: Metric, value: f64) -> Output {
    Output::Replace { metric, series: vec![(Vec::new(), value)] }
}

/// Which of its sources throws the kill switch. The local file is looked for whenever somebody reads the metrics.
fn thrown(switch: KillSwitch) -> Output {
    let on = [matches!(switch, KillSwitch::On), matches!(switch, KillSwitch::UnreadableSince(_))];
    let series = SWITCH_SOURCES.iter().zip(on).map(|(source, on)| (vec![(*source).into()], bit(on))).collect();
    Output::Replace { metric: Metric::KillSwitch, series }
}

fn bit(on: bool) -> f64 {
    f64::from(u8::from(on))
}

fn number(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}
