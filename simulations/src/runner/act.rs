//! The course of a scenario once its cluster is healthy: a quiet time, the faults, and the same cluster without them.

use std::sync::Arc;
use std::time::Duration;

use nameward_messages::remedy::RemedyKind;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod upsets;

use super::child::{Cluster, Failure, LOOK, progress, say};
use super::eyes::{GLANCE, watch_dns};
use super::inject::{describe, inject};
use super::judge::judge;
use super::lift::{Undo, lift};
use super::observe::{Observer, all_healthy};
use super::parent::Options;
use super::processes::{Process, check};
use super::repairs::{Repaired, journal_left, repairs_of};
use super::repeats::sent_again;
use super::world::World;
use crate::result::{EntryKind, ScenarioResult, TimelineEntry, Told};
use crate::scenario::{Action, Expect, ExpectVerdict, Scenario, Step};

/// The node that is asked where it does not matter.
const FIRST: &str = "node1";
/// Rounds of every agent before the faults in which nothing may be found.
const QUIET_ROUNDS: f64 = 2.0;
/// How long they may take.
const QUIET: Duration = Duration::from_secs(20);
/// About how long `nameward check` and `nameward diagnose` take: they are asked while the cluster is watched anyway.
const ASKING: Duration = Duration::from_secs(5);
/// How long what was named stands before they are asked.
const ASKED_AFTER: Duration = Duration::from_secs(2);
/// Between two looks of the runner's own eyes while what they see does not change.
const STARE: Duration = Duration::from_millis(1500);
/// How long after the faults were lifted everything may take to be well.
const LIFTED: Duration = Duration::from_secs(25);

/// A scenario on its way.
struct Act<'a> {
    cluster: &'a mut Cluster,
    scenario: &'a Scenario,
    options: Options,
    observer: Observer,
    looks: mpsc::Receiver<Vec<String>>,
    /// Something was changed: the runner's eyes look now, and more often.
    changed: Arc<Notify>,
    zero: Instant,
    /// The repairs of nodes that are expected, which the kernel must show.
    repairs: Vec<(RemedyKind, String)>,
    /// The process that is stopped, by its pod.
    held: Option<String>,
}

/// Carries it out and judges it.
pub(super) async fn act(
    cluster: &mut Cluster,
    scenario: &Scenario,
    options: Options,
) -> Result<ScenarioResult, Failure> {
    let world = Arc::clone(&cluster.world);
    let repairs = repairs_of(scenario);
    let expected = repairs.clone();
    tokio::task::spawn_blocking(move || world.remember().and_then(|()| world.watch_over(&expected))).await??;
    let (sender, looks) = mpsc::channel(1);
    let changed = Arc::new(Notify::new());
    // Where recovery is timed, it is looked for all the time.
    let pace = if scenario.expect.recover_within.is_some() { GLANCE } else { STARE };
    // Conntrack's entries of before are met from a port that is kept alone.
    let kept = repairs.iter().any(|(kind, _)| *kind == RemedyKind::DropConntrack);
    let eyes = tokio::spawn(watch_dns(Arc::clone(&cluster.world), sender, Arc::clone(&changed), pace, kept));
    let observer = Observer::new(&cluster.api, &scenario.name);
    let mut act =
        Act { cluster, scenario, options, observer, looks, changed, zero: Instant::now(), repairs, held: None };
    let done = act.whole().await;
    eyes.abort();
    done?;
    let observer = act.observer;
    Ok(judge(observer.result, &scenario.expect, options.strict))
}

impl Act<'_> {
    fn at(&self) -> f64 {
        self.zero.elapsed().as_secs_f64()
    }

    fn slack(&self) -> u32 {
        if self.options.strict { 1 } else { 3 }
    }

    async fn whole(&mut self) -> Result<(), Failure> {
        let expect = &self.scenario.expect;
        self.quiet().await?;
        let before = rounds(self.cluster);
        let recorded = recoveries(self.cluster);
        self.zero = Instant::now();
        let (undo, fulfilled, asked) = self.faults().await?;
        if expect.recover_within.is_none() {
            self.observer.doubt_recovery();
        }
        if expect.recorded && recoveries(self.cluster) <= recorded {
            self.violations(vec!["no agent recorded that what failed healed by itself".to_owned()]);
        }
        if expect.probing_goes_on {
            self.probing_went_on(&before);
        }
        let stray = self.observer.stray_resizes();
        self.violations(stray);
        self.violations(sent_again(&self.cluster.api.log_since(0).0));
        let missing = self.observer.not_told(expect);
        self.violations(missing);
        let stand = self.observer.not_taken_back(expect);
        self.violations(stand);
        let lacks = self.observer.incidents_lack(expect);
        self.violations(lacks);
        if expect.recover_within.is_some() {
            // Recovery is the coordinator's to verify, too.
            let unsettled = self.observer.unsettled();
            self.violations(unsettled);
        }
        if let Some(asked) = asked.or_else(|| ask_meanwhile(&self.cluster.world, expect)) {
            let disagree = asked.await??;
            self.violations(disagree);
        }
        // Whoever watches wants to see the faults.
        if fulfilled && expect.lifts && !self.options.watch {
            self.lifted(undo).await?;
        }
        let world = Arc::clone(&self.cluster.world);
        let changes = tokio::task::spawn_blocking(move || world.violations()).await??;
        self.violations(changes);
        self.repairs_ended().await?;
        let strays = futures::future::join_all(self.cluster.processes.iter().map(Process::strays)).await;
        self.violations(strays.into_iter().flatten().collect());
        if self.options.panics {
            let calm = self.cluster.processes.iter().flat_map(Process::never_panicked).collect();
            self.violations(calm);
        }
        Ok(())
    }

    fn violations(&mut self, more: Vec<String>) {
        self.observer.result.violations.extend(more);
    }

    /// One look at everything. Whether all processes still run.
    fn look(&mut self) -> bool {
        let at = self.at();
        self.observer.look_at_log(&self.cluster.api, &self.cluster.world, at);
        self.observer.look_at_objects(&self.cluster.api, &self.cluster.world, at);
        while let Ok(failing) = self.looks.try_recv() {
            self.observer.look_at_dns(&failing, at);
        }
        for entry in self.observer.entries.drain(..) {
            say(&Told::Entry(entry));
        }
        match self.cluster.processes.iter_mut().find_map(Process::ended) {
            Some(how) => {
                self.violations(vec![how]);
                false
            }
            None => true,
        }
    }

    /// The control before the faults: every agent goes on for some rounds, and nothing is found or done.
    async fn quiet(&mut self) -> Result<(), Failure> {
        let before = rounds(self.cluster);
        let began = Instant::now();
        while self.look() {
            let now = rounds(self.cluster);
            let agents = self.cluster.processes.iter().zip(before.iter().zip(&now));
            let mut agents = agents.filter(|(process, _)| process.name.starts_with("agent"));
            if agents.all(|(_, (before, now))| now.unwrap_or(0.0) >= before.unwrap_or(0.0) + QUIET_ROUNDS) {
                break;
            }
            if began.elapsed() > QUIET * self.slack() {
                return Err("the agents do not probe".into());
            }
            tokio::time::sleep(LOOK * 2).await;
        }
        let found = self.observer.begin();
        self.violations(found);
        progress(0.0, &format!("quiet for {:.1} s", began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// The faults, until everything expected has happened or the time for it is over. Gives back how to lift them, and
    /// whether everything has happened, and the commands that were asked meanwhile.
    async fn faults(&mut self) -> Result<(Vec<Undo>, bool, Option<Asked>), Failure> {
        let (scenario, expect) = (self.scenario, &self.scenario.expect);
        let last_fault = scenario.inject.iter().map(|s| s.at.0).max().unwrap_or_default();
        // When everything expected should have happened at the latest.
        let told = expect.incident.iter().map(|incident| incident.within);
        let back = expect.remedy.iter().map(|remedy| remedy.taken_back_within);
        let needed = [expect.detect_within, expect.recover_within].into_iter().chain(told).chain(back);
        let needed = needed.flatten().map(|p| p.0).max();
        let latest = last_fault + needed.unwrap_or_default() * self.slack() + Duration::from_secs(10);
        let mut steps = scenario.inject.iter().peekable();
        let mut fulfilled_at: Option<Instant> = None;
        let mut undo = Vec::new();
        let ask_at = expect.settle.0.saturating_sub(ASKING).max(ASKED_AFTER);
        let mut asked: Option<Asked> = None;
        loop {
            while let Some(step) = steps.next_if(|s| s.at.0 <= self.zero.elapsed()) {
                let Some(more) = self.prepare(step).await? else { continue };
                undo.push(more);
                let done = inject(&self.cluster.world, &self.cluster.api, &step.action).await?;
                let text = describe(&step.action);
                say(&Told::Entry(TimelineEntry { at_s: self.at(), kind: EntryKind::Fault, text, details: done.did }));
                undo.push(done.undo);
                self.changed.notify_one();
            }
            if !self.look() {
                return Ok((undo, false, asked));
            }
            self.look_at_repairs().await?;
            let seen = &self.observer.result;
            let done = steps.peek().is_none()
                && seen.verdicts.len() >= expect.verdict.len()
                && seen.remedies.len() >= expect.remedy.len()
                && self.observer.not_taken_back(expect).is_empty()
                && self.observer.incidents_lack(expect).is_empty()
                && (expect.recover_within.is_none()
                    || seen.recovered_s.is_some() && self.observer.unsettled().is_empty());
            if !done {
                fulfilled_at = None;
            }
            let stood = done.then(|| fulfilled_at.get_or_insert_with(Instant::now).elapsed());
            if asked.is_none() && stood.is_some_and(|stood| stood >= ask_at) {
                asked = ask_meanwhile(&self.cluster.world, expect);
            }
            let settled = stood.is_some_and(|stood| stood >= expect.settle.0)
                && asked.as_ref().is_none_or(JoinHandle::is_finished);
            if settled || !done && self.zero.elapsed() >= latest {
                return Ok((undo, settled, asked));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The control behind the faults: they are lifted, and then everything is well, by the runner's own eyes and by the
    /// agents' word.
    async fn lifted(&mut self, undo: Vec<Undo>) -> Result<(), Failure> {
        let something = undo.iter().any(|undo| !matches!(undo, Undo::Nothing));
        self.wake()?;
        let left = lift(&self.cluster.world, &self.cluster.api, undo).await?;
        self.violations(left);
        if something {
            progress(self.at(), "the faults are lifted");
        }
        let (nodes, topology) = (self.scenario.topology.names(), &self.scenario.topology);
        let replicas = usize::try_from(topology.coredns.count())?;
        let recovered = self.observer.result.recovered_s;
        let began = Instant::now();
        self.observer.look_again();
        self.changed.notify_one();
        while self.look() {
            let sick = match all_healthy(&self.cluster.api, &nodes, replicas) {
                Ok(()) if self.observer.clean() => break,
                Ok(()) => "DNS does not answer on every path".to_owned(),
                Err(sick) => sick,
            };
            if began.elapsed() > LIFTED * self.slack() {
                let waited = began.elapsed().as_secs_f64();
                self.violations(vec![format!("{waited:.0} s after the faults were lifted: {sick}")]);
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        // What became well now did so by being lifted.
        self.observer.result.recovered_s = recovered;
        if something {
            let took = began.elapsed().as_secs_f64();
            self.observer.result.lifted_s = Some(took);
            progress(self.at(), &format!("everything is well {took:.1} s after the faults were lifted"));
        }
        Ok(())
    }

    /// What the kernel shows of the repairs that are expected.
    async fn look_at_repairs(&mut self) -> Result<(), Failure> {
        if self.repairs.is_empty() {
            return Ok(());
        }
        let world = Arc::clone(&self.cluster.world);
        let found = tokio::task::spawn_blocking(move || world.repaired()).await??;
        for Repaired { kind, subject, taken_back } in found {
            let at = self.at();
            self.observer.repaired(at, kind, subject, taken_back);
        }
        Ok(())
    }

    /// Nothing is left of the repairs but what was expected: pods' namespaces too are as they were, and no journal has
    /// anything open. Nodes of which no repair is expected must leave no journal with an entry.
    async fn repairs_ended(&mut self) -> Result<(), Failure> {
        let world = Arc::clone(&self.cluster.world);
        let mut left = tokio::task::spawn_blocking(move || world.not_whole()).await??;
        let nodes = self.scenario.topology.names();
        // After a pod is gone, what conntrack still sends to it may be dropped on any node.
        let meant = |node: &str| {
            self.repairs
                .iter()
                .any(|(kind, s)| *kind == RemedyKind::DropConntrack || s.rsplit('@').next() == Some(node))
        };
        left.extend(nodes.iter().flat_map(|node| journal_left(node, meant(node))));
        self.violations(left);
        Ok(())
    }

    fn probing_went_on(&mut self, before: &[Option<f64>]) {
        let after = rounds(self.cluster);
        let mut stopped = Vec::new();
        for ((process, before), after) in self.cluster.processes.iter().zip(before).zip(&after) {
            if process.name.starts_with("agent") && after.unwrap_or(0.0) < before.unwrap_or(0.0) + 2.0 {
                stopped.push(format!("the {} stopped probing", process.name));
            }
        }
        self.violations(stopped);
    }
}

/// The verdict that still stands at the end, with the node that it can be seen from; `None` inside: nothing is wrong.
/// `None` outside: what stands at the end is not settled by the scenario.
fn standing(expect: &Expect) -> Option<Option<(&ExpectVerdict, &str)>> {
    if !expect.check || expect.disturbance || expect.recover_within.is_some() {
        return None;
    }
    match expect.verdict.as_slice() {
        [] => Some(None),
        [one] => {
            let node = one.subject.rsplit('@').next().filter(|node| node.starts_with("node"));
            Some(Some((one, node.unwrap_or(FIRST))))
        }
        _ => None,
    }
}

/// What people are told who ask while the faults stand: what disagrees with what is expected.
type Asked = JoinHandle<Result<Vec<String>, Failure>>;

/// Asks, unless what stands is not settled by the scenario.
fn ask_meanwhile(world: &Arc<World>, expect: &Expect) -> Option<Asked> {
    standing(expect)?;
    let (world, expect) = (Arc::clone(world), expect.clone());
    Some(tokio::spawn(async move {
        let Some(expected) = standing(&expect) else { return Ok(Vec::new()) };
        let (check, diagnose) = tokio::join!(check_agrees(&world, expected), diagnose_agrees(&world, expected));
        Ok([check?, diagnose?].concat())
    }))
}

/// A person who asks on the node is told the same.
async fn check_agrees(world: &World, expected: Option<(&ExpectVerdict, &str)>) -> Result<Vec<String>, Failure> {
    let node = expected.map_or(FIRST, |(_, node)| node).to_owned();
    let netns = world.netns(&node)?;
    let on = node.clone();
    let (code, said) = match tokio::task::spawn_blocking(move || check(&netns, &on, &["check"])).await? {
        Ok(said) => said,
        Err(error) => return Ok(vec![format!("`nameward check` on {node} said: {error}")]),
    };
    let causes: Vec<&str> =
        said["verdicts"].as_array().into_iter().flatten().filter_map(|v| v["cause"].as_str()).collect();
    let (wanted, status) = match expected {
        Some((verdict, _)) => (vec![verdict.cause.id()], 1),
        None => (Vec::new(), 0),
    };
    let agrees = causes == wanted && code == Some(status);
    let complaint = format!("`nameward check` on {node} ended with {code:?} and names {causes:?}, expected {wanted:?}");
    Ok(if agrees { Vec::new() } else { vec![complaint] })
}

/// A person who has the pod explained is told the same, and where its packets end or what was read.
async fn diagnose_agrees(world: &World, expected: Option<(&ExpectVerdict, &str)>) -> Result<Vec<String>, Failure> {
    let Some((verdict, node)) = expected.filter(|(verdict, _)| verdict.subject.contains('@')) else {
        return Ok(Vec::new());
    };
    // A pod that is gone, or that never ran, has no namespace to be asked from.
    let Ok(pod) = world.key(&verdict.subject) else { return Ok(Vec::new()) };
    if world.gone(&pod) {
        return Ok(Vec::new());
    }
    let (netns, on, whom) = (world.netns(node)?, node.to_owned(), pod.clone());
    let asked = tokio::task::spawn_blocking(move || check(&netns, &on, &["diagnose", &whom])).await?;
    let (code, said) = match asked {
        Ok(said) => said,
        Err(error) => return Ok(vec![format!("`nameward diagnose {pod}` on {node} said: {error}")]),
    };
    let causes: Vec<&str> =
        said["causes"].as_array().into_iter().flatten().filter_map(|c| c["cause"].as_str()).collect();
    let wanted = verdict.cause.id();
    let agrees = causes == [wanted] && code == Some(1);
    let complaint =
        format!("`nameward diagnose {pod}` on {node} ended with {code:?} and names {causes:?}, expected {wanted:?}");
    Ok(if agrees { Vec::new() } else { vec![complaint] })
}

fn rounds(cluster: &Cluster) -> Vec<Option<f64>> {
    cluster.processes.iter().map(|p| p.metric("nameward_rounds_total", "")).collect()
}

/// Failures that healed before a cause was named, as all agents count them.
fn recoveries(cluster: &Cluster) -> u64 {
    let counted = cluster.processes.iter().filter_map(|p| p.metric("nameward_recovered_total", ""));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of a few")]
    let sum = counted.sum::<f64>() as u64;
    sum
}
