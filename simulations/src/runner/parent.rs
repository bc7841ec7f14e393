//! The outer process: one child per cluster, as many at once as wanted. Scenarios that want the same cluster and leave it as it
//! was take turns in one: building it costs more than most of them.
//!
//! A child isolates itself, so that killing it (or this process) leaves nothing on the machine.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use serde::{Deserialize, Serialize};

use super::pages::Doors;
use crate::result::{ScenarioResult, Told};
use crate::scenario::Scenario;

/// How scenarios are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Times are checked as written; else threefold.
    pub strict: bool,
    /// The cluster is kept running afterwards.
    pub watch: bool,
    /// Every actor panics once.
    pub panics: bool,
}

/// Most scenarios that take turns in one cluster.
const TURNS: usize = 8;

/// What a child is given on standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// What to run, one after the other in one cluster. Never empty.
    pub scenarios: Vec<Scenario>,
    /// How.
    pub options: Options,
}

/// Scenarios by their place in the list, in the clusters in which they take turns.
fn clusters(scenarios: &[Scenario], options: Options) -> VecDeque<Vec<(usize, Scenario)>> {
    let mut alone: Vec<Vec<(usize, Scenario)>> = Vec::new();
    let mut alike: Vec<Vec<(usize, Scenario)>> = Vec::new();
    for (index, scenario) in scenarios.iter().cloned().enumerate() {
        if options.panics || options.watch || !scenario.leaves_no_trace() {
            alone.push(vec![(index, scenario)]);
            continue;
        }
        match alike.iter_mut().find(|group| group.iter().any(|(_, one)| one.same_cluster(&scenario))) {
            Some(group) => group.push((index, scenario)),
            None => alike.push(vec![(index, scenario)]),
        }
    }
    let mut queue = VecDeque::new();
    for group in alike {
        // Neighbours in the list are alike in what they break: dealt out like cards, they do not follow one another.
        let hands = group.len().div_ceil(TURNS);
        let mut dealt: Vec<Vec<(usize, Scenario)>> = vec![Vec::new(); hands];
        for (card, one) in group.into_iter().enumerate() {
            dealt[card % hands].push(one);
        }
        queue.extend(dealt);
    }
    // The long ones first: what ends last should be short.
    queue.extend(alone);
    queue
}

/// Why scenarios could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The own binary could not be started again.
    #[error("the scenario's process cannot be started")]
    Spawn(#[source] std::io::Error),
    /// The ports for the status pages could not be opened.
    #[error("the status pages cannot be served on loopback")]
    Pages(#[source] std::io::Error),
    /// The order could not be handed over.
    #[error("the scenario cannot be handed to its process")]
    Order(#[source] std::io::Error),
}

/// Lets so many clusters come up at once: that takes a core each, and what runs already shall keep its times.
#[derive(Debug)]
struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Gate {
    fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), freed: Condvar::new() }
    }

    fn enter(&self) -> Pass<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Pass(self)
    }
}

/// A place in a [`Gate`], given back when dropped.
struct Pass<'g>(&'g Gate);

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// Runs scenarios, at most `jobs` at once, and tells everything that they tell, in order per scenario.
/// The results come in the order of `scenarios`.
///
/// # Errors
/// Only if no process can be started; a scenario that breaks down is a result that did not pass.
pub fn run(
    scenarios: &[Scenario],
    options: Options,
    jobs: usize,
    mut tell: impl FnMut(usize, &Told),
) -> Result<Vec<ScenarioResult>, RunError> {
    let queue = Arc::new(Mutex::new(clusters(scenarios, options)));
    let (sender, receiver) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let gate = Arc::new(Gate::new(thread::available_parallelism().map_or(1, usize::from)));
    let mut workers = Vec::new();
    for _ in 0..jobs.clamp(1, scenarios.len().max(1)) {
        let (queue, sender, stop, gate) = (queue.clone(), sender.clone(), stop.clone(), gate.clone());
        workers.push(thread::spawn(move || -> Result<(), RunError> {
            while !stop.load(Ordering::Relaxed) {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(mut turns) = next else { break };
                let order = Order { scenarios: turns.iter().map(|(_, one)| one.clone()).collect(), options };
                let mut at = 0;
                let mut pass = Some(gate.enter());
                one(&order, |told| {
                    if matches!(told, Told::Healthy | Told::Result(_) | Told::Failed(_)) {
                        pass = None;
                    }
                    let ends = matches!(told, Told::Result(_) | Told::Failed(_));
                    if let Some((index, _)) = turns.get(at) {
                        let _ = sender.send((*index, told));
                    }
                    at += usize::from(ends);
                })
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                // Behind one that did not pass, a cluster is not what the others are owed.
                let left = turns.split_off(at.clamp(1, turns.len()));
                if !left.is_empty() {
                    queue.lock().unwrap_or_else(PoisonError::into_inner).push_front(left);
                }
            }
            Ok(())
        }));
    }
    drop(sender);
    let mut results: Vec<Option<ScenarioResult>> = vec![None; scenarios.len()];
    for (index, told) in receiver {
        tell(index, &told);
        match told {
            Told::Result(result) => results[index] = Some(result),
            Told::Failed(why) => {
                results[index] = Some(ScenarioResult {
                    scenario: scenarios[index].name.clone(),
                    violations: vec![format!("could not be carried out: {why}")],
                    ..ScenarioResult::default()
                });
            }
            Told::Entry(_) | Told::Healthy | Told::Page { .. } => {}
        }
    }
    for worker in workers {
        if let Ok(result) = worker.join() {
            result?;
        }
    }
    Ok(results.into_iter().flatten().collect())
}

fn one(order: &Order, mut tell: impl FnMut(Told)) -> Result<(), RunError> {
    let mut child: Child = Command::new("/proc/self/exe")
        .arg("__scenario")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(RunError::Spawn)?;
    let mut doors = None;
    if let Some(mut stdin) = child.stdin.take() {
        let mut text = serde_json::to_vec(order).map_err(|e| RunError::Order(e.into()))?;
        text.push(b'\n');
        stdin.write_all(&text).map_err(RunError::Order)?;
        if let Some(scenario) = order.scenarios.first().filter(|_| order.options.watch) {
            doors = Some(Doors::open(scenario, stdin).map_err(RunError::Pages)?);
        }
    }
    let mut ended = false;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match serde_json::from_str::<Told>(&line) {
                Ok(Told::Page { id, text }) => doors.iter().for_each(|doors| doors.reply(id, text.clone())),
                Ok(told) => {
                    if matches!(told, Told::Healthy) {
                        doors.iter().flat_map(Doors::told).for_each(&mut tell);
                    }
                    ended |= matches!(told, Told::Result(_) | Told::Failed(_));
                    tell(told);
                }
                Err(_) => tell(Told::Failed(format!("its process wrote `{line}`"))),
            }
        }
    }
    let status = child.wait().map_err(RunError::Spawn)?;
    if !ended {
        tell(Told::Failed(format!("its process ended early ({status})")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{BUILT_IN, Plane};

    #[test]
    fn every_scenario_has_its_turn_in_a_cluster_like_it() {
        let all: Vec<Scenario> = BUILT_IN.iter().flat_map(|(name, _)| Scenario::find(name)).collect();
        let runs: Vec<Scenario> =
            all.iter().flat_map(|s| s.planes.clone().into_iter().map(|plane: Plane| s.in_plane(plane))).collect();
        let clusters = clusters(&runs, Options::default());
        let mut seen: Vec<usize> = clusters.iter().flatten().map(|(index, _)| *index).collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..runs.len()), "each once");
        for turns in &clusters {
            assert!(turns.len() <= TURNS);
            assert!(turns.windows(2).all(|two| two[0].1.same_cluster(&two[1].1)), "{turns:?}");
            assert!(turns.len() == 1 || turns.iter().all(|(_, one)| one.leaves_no_trace()));
        }
        let panics = Options { panics: true, ..Options::default() };
        assert!(super::clusters(&runs, panics).iter().all(|turns| turns.len() == 1));
    }

    #[test]
    fn a_gate_lets_in_what_there_is_place_for() {
        let gate = Gate::new(2);
        let (first, second) = (gate.enter(), gate.enter());
        assert_eq!(*gate.free.lock().unwrap(), 0);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(gate.enter()));
            drop(first);
            waiting.join().unwrap();
        });
        drop(second);
        assert_eq!(*gate.free.lock().unwrap(), 2);
    }
}
