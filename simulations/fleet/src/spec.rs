//! One history as it is meant to go: the cluster, its settings, and what happens to it when.

use std::time::Duration;

use jiff::SignedDuration;
use nameward_config::Config;
use nameward_messages::remedy::Mode;
use nameward_messages::verdict::Cause;

use crate::clock::Clock;
use crate::fault::Fault;
use crate::sabotage::Sabotage;
use crate::truth::MI;

/// A clock's error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// Seconds that its wall clock is ahead.
    pub wall_s: i64,
    /// How much faster it runs, in millionths.
    pub ppm: i64,
    /// What its monotonic clock shows at the beginning, in seconds.
    pub origin_s: u64,
}

impl Skew {
    pub(crate) fn clock(self) -> Clock {
        Clock {
            origin: Duration::from_secs(self.origin_s),
            wall_ahead: SignedDuration::from_secs(self.wall_s),
            ppm: self.ppm,
        }
    }
}

/// A history.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Every choice follows from it.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// CoreDNS replicas.
    pub replicas: u32,
    /// Processes that want to lead.
    pub coordinators: usize,
    /// The settings.
    pub config: Config,
    /// The guard that is taken away, if one is.
    pub sabotage: Sabotage,
    /// CoreDNS's memory limit, bytes.
    pub memory: u64,
    /// The reconciler that owns the limit.
    pub memory_owner: Option<String>,
    /// The reconciler that owns the number of replicas.
    pub replicas_owner: Option<String>,
    /// Disruption budgets over CoreDNS.
    pub budgets: usize,
    /// The coordinators' clocks.
    pub clocks: Vec<Skew>,
    /// When each coordinator starts.
    pub start_after: Vec<Duration>,
    /// Of 1000 datagrams, lost.
    pub loss: u32,
    /// Of 1000 jobs of a node's repair, so many end with the agent's death.
    pub job_deaths: u32,
    /// A node without workload pods.
    pub lonely: Option<usize>,
    /// What happens, from the beginning of the history.
    pub faults: Vec<(Duration, Fault)>,
    /// How long it lasts.
    pub long: Duration,
    /// DNS must be healthy at the end, or a person called.
    pub must_settle: bool,
    /// It ends early, once nothing is under way and nothing has happened for longer than the pause between two shared acts.
    pub ends_settled: bool,
    /// The coordinators' minds go through everything at every tick, also where there is nothing to do.
    pub restless: bool,
}

impl Spec {
    /// A quiet cluster that may act.
    #[must_use]
    pub fn quiet(seed: u64, nodes: usize, replicas: u32) -> Self {
        let mut config = Config::default();
        config.remedy.mode = Mode::Act;
        Self {
            seed,
            nodes,
            replicas,
            coordinators: 2,
            config,
            sabotage: Sabotage::None,
            memory: 170 * MI,
            memory_owner: None,
            replicas_owner: None,
            budgets: 1,
            clocks: Vec::new(),
            start_after: vec![Duration::ZERO, Duration::from_millis(1300)],
            loss: 0,
            job_deaths: 0,
            lonely: None,
            faults: Vec::new(),
            long: Duration::from_secs(1800),
            must_settle: true,
            ends_settled: false,
            restless: false,
        }
    }

    /// The same with one more thing that happens.
    #[must_use]
    pub fn then(mut self, at_s: u64, fault: Fault) -> Self {
        self.faults.push((Duration::from_secs(at_s), fault));
        self
    }
}

/// A healthy cluster over many days: a rollout a day, drains in turn, lost datagrams. Nothing is to be remedied.
#[must_use]
pub fn month(seed: u64, nodes: usize, days: u32, loss: u32) -> Spec {
    const DAY: u64 = 86_400;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut spec = Spec { loss, ..Spec::quiet(seed, nodes, if nodes < 3 { 2 } else { 3 }) };
    spec.clocks = vec![Skew { wall_s: 3, ppm: 40, origin_s: 9 }, Skew { wall_s: -2, ppm: -60, origin_s: 100 }];
    for day in 0..u64::from(days) {
        let begin = day * DAY;
        spec = spec.then(begin + rng.u64(600..20_000), Fault::Rollout);
        let node = rng.usize(0..nodes);
        let at = begin + rng.u64(30_000..50_000);
        spec = spec.then(at, Fault::Drain(node)).then(at + rng.u64(300..3_000), Fault::Uncordon(node));
        if rng.u8(0..3) == 0 {
            // An agent is updated, a coordinator too.
            let at = begin + rng.u64(55_000..60_000);
            spec = spec.then(at, Fault::AgentRestart(rng.usize(0..nodes)));
            spec = spec.then(at + 100, Fault::Crash(rng.usize(0..2), Duration::from_secs(4)));
        }
        if rng.u8(0..5) == 0 {
            // A node is restarted for its kernel, after a drain.
            let (node, at) = (rng.usize(0..nodes), begin + rng.u64(62_000..80_000));
            spec = spec.then(at, Fault::Drain(node)).then(at + 120, Fault::NodeDown(node));
            spec = spec.then(at + 300, Fault::NodeUp(node)).then(at + 330, Fault::Uncordon(node));
        }
    }
    spec.faults.sort_by_key(|(at, _)| *at);
    spec.long = Duration::from_secs(u64::from(days) * DAY);
    spec
}

/// The causes in one CoreDNS pod that an eviction may heal.
pub(crate) const DEAD: [Cause; 3] = [Cause::CorednsUdpDead, Cause::CorednsUdpStuck, Cause::CorednsHung];
/// Causes of a whole node, or of a pod on it, with and without a remedy.
pub(crate) const NODES: [Cause; 4] =
    [Cause::IpForwardOff, Cause::ForwardPolicyDrop, Cause::PodRouteMissing, Cause::ServiceRulesMissing];
