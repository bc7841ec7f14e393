//! Runs histories: one, or many seeds in a row.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::check::Violation;
use crate::draw;
use crate::spec::Spec;
use crate::world::{Stats, World};

/// What came of a history.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What it held.
    pub stats: Stats,
    /// The invariants that it broke; it ends with the first event that breaks one.
    pub violations: Vec<Violation>,
    /// What happened: its end, or all of it.
    pub trace: Vec<String>,
    /// One line about what it was.
    pub about: String,
    /// DNS was healthy in truth at the end.
    pub healthy: bool,
    /// An incident stood at the end that calls for a person.
    pub called: bool,
    /// Incidents that stood at the end, with their phases.
    pub incidents: Vec<String>,
}

/// What seeds are made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// So many nodes in every history; `None`: as the seed says.
    pub nodes: Option<usize>,
    /// Keep the whole trace.
    pub trace: bool,
    /// The guard that is taken away.
    pub sabotage: crate::sabotage::Sabotage,
}

/// Plays one history.
#[must_use]
pub fn play(spec: Spec, trace: bool) -> Outcome {
    let (seed, about) = (spec.seed, about(&spec));
    let mut world = World::new(spec);
    world.trace.whole = trace;
    world.play();
    finish(world, seed, about)
}

/// The history of a seed.
#[must_use]
pub fn drawn(seed: u64, settings: Settings) -> Spec {
    draw::spec(seed, settings.nodes, settings.sabotage)
}

/// Plays one seed. Its trace is written down only if it is asked for, or if something was broken: then it is played again.
#[must_use]
pub fn seed(seed: u64, settings: Settings) -> Outcome {
    let spec = drawn(seed, settings);
    if settings.trace {
        return play(spec, true);
    }
    let about = about(&spec);
    let mut world = World::new(spec.clone());
    world.trace.off = true;
    world.play();
    if world.check.violations.is_empty() { finish(world, seed, about) } else { play(spec, false) }
}

/// Plays a history and tells, every so often, how much of it is over.
#[must_use]
pub fn play_watched(spec: Spec, trace: bool, every: Duration, mut told: impl FnMut(Duration)) -> Outcome {
    let (seed, about) = (spec.seed, about(&spec));
    let mut world = World::new(spec);
    world.trace.whole = trace;
    let mut next = every;
    while !world.play_until(next) {
        told(next);
        next += every;
    }
    finish(world, seed, about)
}

/// Plays seeds in a row and tells of each; ends when told to.
pub fn seeds(from: u64, count: u64, settings: Settings, mut told: impl FnMut(&Outcome) -> bool) {
    for number in from..from.saturating_add(count) {
        if !told(&seed(number, settings)) {
            return;
        }
    }
}

/// The same on several threads: told as they end, not in their order.
pub fn seeds_on(
    threads: NonZeroUsize,
    from: u64,
    count: u64,
    settings: Settings,
    mut told: impl FnMut(&Outcome) -> bool,
) {
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let end = from.saturating_add(count);
    std::thread::scope(|scope| {
        // Bounded: outcomes hold traces.
        let (sender, outcomes) = mpsc::sync_channel(64);
        for _ in 0..threads.get() {
            let (next, stop, sender) = (&next, &stop, sender.clone());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end || sender.send(seed(number, settings)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        while let Ok(outcome) = outcomes.recv() {
            if !told(&outcome) {
                stop.store(true, Ordering::Relaxed);
                // What is still being played has nobody to tell.
                break;
            }
        }
        drop(outcomes);
    });
}

fn finish(world: World, seed: u64, about: String) -> Outcome {
    let (healthy, called) = (world.healthy(), world.person_called());
    let World { stats, check, trace, api, .. } = world;
    let incidents = api.incidents.iter().map(|(name, incident)| format!("{name} {:?}", incident.status.phase));
    let incidents = incidents.collect();
    Outcome { seed, stats, violations: check.violations, trace: trace.into_lines(), about, healthy, called, incidents }
}

fn about(spec: &Spec) -> String {
    format!(
        "{} nodes, {} replicas, {} coordinators, {} faults in {} min",
        spec.nodes,
        spec.replicas,
        spec.coordinators,
        spec.faults.len(),
        spec.long.as_secs() / Duration::from_secs(60).as_secs(),
    )
}
