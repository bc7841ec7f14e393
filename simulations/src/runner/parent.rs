//! The outer process: one child per scenario, as many at once as wanted.
//!
//! A child isolates itself, so that killing it (or this process) leaves nothing on the machine.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use serde::{Deserialize, Serialize};

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

/// What a child is given on standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// What to run.
    pub scenario: Scenario,
    /// How.
    pub options: Options,
}

/// Why scenarios could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The own binary could not be started again.
    #[error("the scenario's process cannot be started")]
    Spawn(#[source] std::io::Error),
    /// The order could not be handed over.
    #[error("the scenario cannot be handed to its process")]
    Order(#[source] std::io::Error),
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
    let queue: Arc<Mutex<VecDeque<(usize, Scenario)>>> =
        Arc::new(Mutex::new(scenarios.iter().cloned().enumerate().collect()));
    let (sender, receiver) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for _ in 0..jobs.clamp(1, scenarios.len().max(1)) {
        let (queue, sender, stop) = (queue.clone(), sender.clone(), stop.clone());
        workers.push(thread::spawn(move || -> Result<(), RunError> {
            while !stop.load(Ordering::Relaxed) {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((index, scenario)) = next else { break };
                one(Order { scenario, options }, |told| {
                    let _ = sender.send((index, told));
                })
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
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
            Told::Entry(_) => {}
        }
    }
    for worker in workers {
        if let Ok(result) = worker.join() {
            result?;
        }
    }
    Ok(results.into_iter().flatten().collect())
}

fn one(order: Order, tell: impl Fn(Told)) -> Result<(), RunError> {
    let mut child: Child = Command::new("/proc/self/exe")
        .arg("__scenario")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(RunError::Spawn)?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = serde_json::to_vec(&order).map_err(|e| RunError::Order(e.into()))?;
        stdin.write_all(&text).map_err(RunError::Order)?;
    }
    let mut ended = false;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match serde_json::from_str::<Told>(&line) {
                Ok(told) => {
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
