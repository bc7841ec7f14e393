//! A history from a seed: mostly small clusters and short incidents, a few large ones, and every kind of trouble besides.

mod provoke;

use std::time::Duration;

use crate::fault::Fault;
use crate::process::Death;
use crate::sabotage::Sabotage;
use crate::spec::{DEAD, NODES, Skew, Spec};
use crate::truth::MI;

/// The cluster is left to settle before anything happens.
const WARM: u64 = 100;

/// The history of a seed.
pub(crate) fn spec(seed: u64, nodes: Option<usize>, sabotage: Sabotage) -> Spec {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let nodes = nodes.unwrap_or_else(|| match rng.u32(0..20_000) {
        0 => 5_000,
        1..=10 => 500,
        11..=200 => 50,
        201..=1500 => rng.usize(1..3),
        1501..=3000 => rng.usize(9..21),
        _ => rng.usize(3..9),
    });
    let replicas = match nodes {
        1 => rng.u32(1..3),
        2..=60 => rng.u32(2..5),
        _ => rng.u32(3..9),
    };
    let mut spec = Spec::quiet(seed, nodes, replicas);
    spec.sabotage = sabotage;
    spec.coordinators = rng.usize(1..4);
    spec.budgets = usize::from(rng.u8(0..8) > 0);
    spec.loss = [0, 0, 10, 10, 30][rng.usize(0..5)];
    spec.job_deaths = [0, 0, 200][rng.usize(0..3)];
    spec.lonely = (rng.u8(0..4) == 0).then(|| rng.usize(0..nodes));
    spec.memory_owner = (rng.u8(0..8) == 0).then(|| "argocd-controller".to_owned());
    spec.clocks = (0..spec.coordinators).map(|_| skew(&mut rng)).collect();
    spec.start_after = (0..spec.coordinators).map(|_| Duration::from_millis(rng.u64(0..5_000))).collect();
    let large = nodes > 60;
    let trouble = if large { 240 } else { rng.u64(200..660) };
    let mut drawer = Drawer { rng: &mut rng, spec: &spec, until: WARM + trouble, faults: Vec::new(), liars: 0 };
    let incidents = drawer.rng.usize(1..4);
    for _ in 0..incidents {
        drawer.incident();
    }
    let sides = if large { drawer.rng.usize(0..4) } else { drawer.rng.usize(0..9) };
    for _ in 0..sides {
        drawer.side();
    }
    let mut faults = drawer.faults;
    faults.push((Duration::from_secs(WARM + trouble), Fault::Calm));
    faults.sort_by_key(|(at, _)| *at);
    spec.faults = faults;
    // Time for two acts and for the call that follows ten minutes without one.
    spec.long = Duration::from_secs(WARM + trouble + if large { 900 } else { 1500 });
    // Every eighth is played to its end: what comes later than that would be found there.
    spec.ends_settled = !seed.is_multiple_of(8);
    if sabotage != Sabotage::None {
        let mut spec =
            Spec { seed, sabotage, clocks: spec.clocks, coordinators: spec.coordinators, ..Spec::quiet(seed, 8, 3) };
        provoke::provoke(&mut spec, &mut rng);
        return spec;
    }
    spec
}

/// Wall clocks are off by up to ten minutes, and monotonic ones run apart by less than a third.
fn skew(rng: &mut fastrand::Rng) -> Skew {
    let badly = rng.u8(0..3) == 0;
    Skew {
        wall_s: if badly { rng.i64(-600..600) } else { rng.i64(-2..3) },
        ppm: if badly { rng.i64(-140_000..140_000) } else { rng.i64(-100..100) },
        origin_s: rng.u64(0..10_000_000),
    }
}

struct Drawer<'a> {
    rng: &'a mut fastrand::Rng,
    spec: &'a Spec,
    until: u64,
    faults: Vec<(Duration, Fault)>,
    liars: usize,
}

impl Drawer<'_> {
    fn at(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(WARM * 1000..self.until * 1000))
    }

    fn later(&mut self, at: Duration) -> Duration {
        at + Duration::from_millis(self.rng.u64(3_000..300_000))
    }

    fn long(&mut self) -> Duration {
        Duration::from_secs([2, 8, 20, 61, 90, 300][self.rng.usize(0..6)])
    }

    fn node(&mut self) -> usize {
        self.rng.usize(0..self.spec.nodes)
    }

    fn add(&mut self, at: Duration, fault: Fault) {
        self.faults.push((at, fault));
    }

    /// Something is wrong with DNS.
    fn incident(&mut self) {
        let at = self.at();
        let dead = DEAD[self.rng.usize(0..DEAD.len())];
        let (pod, node) = (self.rng.usize(0..8), self.node());
        let heals = self.later(at);
        match self.rng.u32(0..20) {
            0..=7 => self.add(at, Fault::PodSick(pod, dead)),
            8 => {
                self.add(at, Fault::PodSick(pod, dead));
                self.add(heals, Fault::PodWell(pod));
            }
            9 => self.add(at, Fault::AllPodsSick(dead)),
            10 => {
                self.add(at, Fault::Corefile(true));
                if self.rng.bool() {
                    self.add(heals, Fault::Corefile(false));
                }
            }
            11 => {
                self.add(at, Fault::Upstream(true));
                self.add(heals, Fault::Upstream(false));
            }
            12..=14 => {
                let needs = [200, 300, 600, 2000][self.rng.usize(0..4)] * MI;
                self.add(at, Fault::Needs(needs));
            }
            15 | 16 => {
                let cause = NODES[self.rng.usize(0..NODES.len())];
                self.add(at, Fault::NodeSick(node, cause));
                self.add(heals, Fault::NodeWell(node));
            }
            17 => {
                // Half the nodes, of one cause.
                let cause = NODES[self.rng.usize(0..NODES.len())];
                for n in (0..self.spec.nodes).step_by(2) {
                    self.add(at, Fault::NodeSick(n, cause));
                    self.add(heals, Fault::NodeWell(n));
                }
            }
            18 => {
                self.add(at, Fault::PodSick(pod, dead));
                let spreads = self.rng.bool();
                self.add(at, if spreads { Fault::Contagion(true) } else { Fault::Relapse(Some(dead)) });
            }
            _ => {
                self.add(at, Fault::NodeDown(node));
                self.add(heals, Fault::NodeUp(node));
            }
        }
    }

    /// Something is in the way of those who would mend it.
    fn side(&mut self) {
        let (at, long) = (self.at(), self.long());
        let (node, p) = (self.node(), self.rng.usize(0..self.spec.coordinators));
        let ends = self.later(at);
        let back = Duration::from_millis(self.rng.u64(200..30_000));
        match self.rng.u32(0..34) {
            0..=2 => self.add(at, Fault::Crash(p, back)),
            3 | 4 => self.add(at, Fault::CrashLeader(back)),
            5 | 6 => {
                let when = if self.rng.bool() { Death::Before } else { Death::After };
                let call = self.rng.u64(1..14);
                self.add(at, Fault::DieAtCall(call, when));
            }
            7 => self.add(at, Fault::ExecutorPanics(p)),
            8 => self.add(at, Fault::CoordinatorPanics(p)),
            9 => self.add(at, Fault::StopLeader(long)),
            10 => self.add(at, Fault::Stop(p, long)),
            11 => self.add(at, Fault::CutLeader(long)),
            12 => self.add(at, Fault::Cut(p, long)),
            13 => self.add(at, Fault::ApiDown(long)),
            14 => self.add(at, Fault::Throttle(long)),
            15..=17 => {
                let permille = [20, 100, 400][self.rng.usize(0..3)];
                let slow = Duration::from_millis([0, 300, 3_000][self.rng.usize(0..3)]);
                self.add(at, Fault::Lossy { permille, slow, long: long * 3 });
            }
            18 => self.add(at, Fault::Freeze(long)),
            19 => self.add(at, Fault::BreakWatch(p, long)),
            20 => {
                self.add(at, Fault::Policy(true));
                self.add(ends, Fault::Policy(false));
            }
            21 => self.add(at, Fault::PolicyLost(p, long)),
            22 => {
                self.add(at, Fault::PauseFile(p, true));
                self.add(ends, Fault::PauseFile(p, false));
            }
            23 => self.add(at, Fault::Rollout),
            24 => {
                self.add(at, Fault::Drain(node));
                self.add(ends, Fault::Uncordon(node));
            }
            25 => {
                let replicas = self.spec.replicas + self.rng.u32(0..2);
                self.add(at, Fault::Scale(replicas));
            }
            26 => self.add(at, Fault::Touch(self.spec.nodes)),
            27 => self.add(at, Fault::Blocked(true)),
            28 => self.agents_fail(at, ends, node),
            29 | 30 => self.liar(at, ends, node),
            31 => self.add(at, Fault::AgentCut(node, long)),
            32 => self.add(at, Fault::Budgets(2)),
            _ => self.agents_fail(at, ends, node),
        }
    }

    fn agents_fail(&mut self, at: Duration, ends: Duration, node: usize) {
        match self.rng.u8(0..4) {
            0 => self.add(at, Fault::AgentRestart(node)),
            1 => {
                self.add(at, Fault::AgentUnwell(node, true));
                self.add(ends, Fault::AgentUnwell(node, false));
            }
            2 => self.add(at, Fault::AgentSilent(node)),
            _ => {
                // Too many for a quorum.
                for n in (0..self.spec.nodes).step_by(2) {
                    let unwell = self.rng.bool();
                    self.add(at, if unwell { Fault::AgentUnwell(n, true) } else { Fault::AgentSilent(n) });
                }
            }
        }
    }

    /// Fewer liars than witnesses are needed.
    fn liar(&mut self, at: Duration, ends: Duration, node: usize) {
        if self.liars + 1 >= self.spec.nodes.min(3) {
            return;
        }
        self.liars += 1;
        let pod = self.rng.usize(0..8);
        let lie = match self.rng.u8(0..4) {
            0 => Fault::Accuses(node, pod),
            1 => Fault::AccusesAll(node),
            2 => Fault::Praises(node),
            _ => Fault::Forges(node),
        };
        self.add(at, lie);
        if self.rng.bool() {
            self.add(ends, Fault::Honest(node));
        }
    }
}
