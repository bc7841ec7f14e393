//! `nameward simulate`: rehearses incidents and tells them as a timeline.

use std::io::Write as _;
use std::path::Path;

use nameward_simulations::result::{EntryKind, ScenarioResult, TimelineEntry, Told};
use nameward_simulations::runner::{Options, run};
use nameward_simulations::scenario::{BUILT_IN, Plane, Scenario};

use crate::cli::{Output, SimulateArgs};
use crate::exit::{Failure, Found};
use crate::output;

const NOTHING_ELSE: &str = "      and nothing else was changed but Nameward's own objects, by the API server's log and the kernel state of both nodes";

mod fleet;

pub(crate) fn simulate(args: &SimulateArgs) -> Result<Found, Failure> {
    if args.in_virtual_time {
        return fleet::simulate(&args.fleet, args.jobs, args.output);
    }
    if args.list {
        return list(args.output);
    }
    let scenarios = scenarios(args)?;
    let options = Options { strict: args.strict, watch: args.watch, panics: args.panics };
    // A scenario mostly waits: about 35 s, for about 5 s of a core.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if args.jobs == 0 { cores * 5 } else { args.jobs };
    let jobs = if args.watch { 1 } else { jobs };

    let mut results = round(&scenarios, options, jobs, args.output)?;
    let failed: Vec<usize> = (0..results.len()).filter(|index| !results[*index].passed).collect();
    let mut late = Vec::new();
    if args.again && !failed.is_empty() {
        if args.output == Output::Text {
            output::line(&format!("\n{} did not pass: once more", failed.len()));
        }
        let repeated: Vec<Scenario> = failed.iter().filter_map(|index| scenarios.get(*index).cloned()).collect();
        for (index, result) in failed.into_iter().zip(round(&repeated, options, jobs.min(cores), args.output)?) {
            if result.passed {
                late.push(result.scenario.clone());
            }
            results[index] = result;
        }
    }
    if let Some(file) = &args.faults_table {
        table(file, &scenarios, &results)?;
    }
    let passed = results.iter().filter(|r| r.passed).count();
    let all = passed == scenarios.len();
    if args.output == Output::Text {
        output::line("");
        output::line(&format!("{passed} of {} passed", scenarios.len()));
        if !late.is_empty() {
            output::line(&format!("at the second try only: {}", late.join(", ")));
        }
    }
    Ok(if all { Found::Healthy } else { Found::Unhealthy })
}

/// Runs scenarios and tells what they tell; one result for each, in their order.
fn round(scenarios: &[Scenario], options: Options, jobs: usize, form: Output) -> Result<Vec<ScenarioResult>, Failure> {
    let many = scenarios.len() > 1;
    let mut broken = Vec::new();
    let results = run(scenarios, options, jobs, |index, told| {
        let name = scenarios.get(index).map_or("", |s| s.name.as_str());
        match (form, told) {
            (Output::Text, Told::Entry(entry)) if !many => tell(entry),
            (Output::Text, Told::Entry(entry)) if entry.kind == EntryKind::Progress => {}
            (Output::Text, Told::Entry(entry)) => progress(&format!("{name}: {}", entry.text)),
            (Output::Text, Told::Result(result)) => {
                if !many {
                    output::line("");
                }
                summary(result);
                if !many && result.passed {
                    output::line(NOTHING_ELSE);
                }
            }
            (Output::Json, Told::Result(result)) => output::json(result),
            (Output::Json, Told::Entry(entry)) => progress(&format!("{name}: {}", entry.text)),
            (_, Told::Healthy | Told::Page { .. }) => {}
            (_, Told::Failed(why)) => {
                broken.push(index);
                output::error(&format!("nameward: {name}: {why}"));
            }
        }
    })
    .map_err(|e| Failure::could_not("the simulation cannot be started", e))?;
    if form == Output::Json {
        // One object per scenario, also for those that broke down.
        let broken = results.iter().enumerate().filter(|(index, _)| broken.contains(index));
        broken.for_each(|(_, result)| output::json(result));
    }
    Ok(results)
}

/// What failed is no measure of anything.
fn table(file: &Path, scenarios: &[Scenario], results: &[ScenarioResult]) -> Result<(), Failure> {
    let runs: Vec<(Scenario, ScenarioResult)> = scenarios.iter().cloned().zip(results.iter().cloned()).collect();
    if runs.iter().any(|(_, result)| !result.passed) {
        output::error(&format!("nameward: {} is left as it is: not all scenarios passed", file.display()));
        return Ok(());
    }
    let before = std::fs::read_to_string(file).unwrap_or_default();
    let written = std::fs::write(file, nameward_simulations::faults::page(&runs, &before));
    written.map_err(|e| Failure::could_not(format!("{} cannot be written", file.display()), e))
}

fn list(form: Output) -> Result<Found, Failure> {
    for (name, _) in BUILT_IN {
        let scenario = Scenario::find(name).map_err(|e| Failure::usage_by(&e))?;
        match form {
            Output::Text => output::line(&format!("{name:<28}{}", scenario.summary)),
            Output::Json => output::json(&serde_json::json!({"scenario": name, "summary": scenario.summary})),
        }
    }
    Ok(Found::Healthy)
}

fn scenarios(args: &SimulateArgs) -> Result<Vec<Scenario>, Failure> {
    let names: Vec<&str> = if args.all {
        BUILT_IN.iter().map(|(name, _)| *name).collect()
    } else {
        args.scenario.iter().map(String::as_str).collect()
    };
    let mut scenarios = Vec::new();
    for (turn, name) in names.into_iter().enumerate() {
        let scenario = Scenario::find(name).map_err(|e| Failure::usage_by(&e))?;
        let has = &scenario.planes;
        let planes: Vec<Plane> = match args.plane {
            Some(plane) => has.iter().copied().filter(|one| *one == plane).collect(),
            None if args.once && !scenario.plane_matters() => has.iter().copied().cycle().skip(turn).take(1).collect(),
            None if args.all || args.faults_table.is_some() => has.clone(),
            None => vec![scenario.plane()],
        };
        if planes.is_empty() && !args.all {
            let has: Vec<&str> = has.iter().map(|plane| plane.name()).collect();
            let has = has.join(", ");
            return Err(Failure::usage(format!("{name} has no such data plane; it has {has}")));
        }
        let runs: Vec<Scenario> = planes.into_iter().map(|plane| scenario.in_plane(plane)).collect();
        // Whether a remedy is what heals does not depend on the data plane.
        let control = runs.first().filter(|_| args.controls).and_then(Scenario::with_remedies_off);
        scenarios.extend(runs.into_iter().chain(control));
    }
    Ok(scenarios)
}

fn tell(entry: &TimelineEntry) {
    let (colour, sign) = match entry.kind {
        EntryKind::Progress => ("2", " "),
        EntryKind::Fault => ("35", "!"),
        EntryKind::Symptom => ("33", "~"),
        EntryKind::Verdict => ("1;36", "="),
        EntryKind::Incident => ("36", "-"),
        EntryKind::Remedy => ("1;34", ">"),
        EntryKind::Recovered => ("1;32", "+"),
        EntryKind::Violation => ("1;31", "X"),
    };
    let (on, off) = if output::colours() { (format!("\x1b[{colour}m"), "\x1b[0m") } else { (String::new(), "") };
    output::line(&format!("{:>8.2}s  {on}{sign} {}{off}", entry.at_s, entry.text));
    for detail in &entry.details {
        output::line(&format!("{:>13}{detail}", ""));
    }
}

fn summary(result: &ScenarioResult) {
    let (colour, word) = if result.passed { ("1;32", "pass") } else { ("1;31", "FAIL") };
    let (on, off) = if output::colours() { (format!("\x1b[{colour}m"), "\x1b[0m") } else { (String::new(), "") };
    let time = |t: Option<f64>| t.map_or_else(|| "-".to_owned(), |t| format!("{t:.1}s"));
    let causes: Vec<&str> = result.verdicts.iter().map(|v| v.cause.id()).collect();
    let remedies: Vec<String> = result.remedies.iter().map(|r| format!("{} {}", r.kind, r.subject)).collect();
    output::line(&format!(
        "{on}{word}{off}  {:<34} named {:>6}  healed {:>6}  {}{}",
        result.scenario,
        time(result.detected_s),
        time(result.recovered_s),
        if causes.is_empty() { "no verdict".to_owned() } else { causes.join(", ") },
        if remedies.is_empty() { String::new() } else { format!("; {}", remedies.join(", ")) },
    ));
    for violation in &result.violations {
        output::line(&format!("      {violation}"));
    }
}

/// Progress goes to standard error, and only to people.
fn progress(text: &str) {
    use std::io::IsTerminal as _;
    let mut stderr = std::io::stderr().lock();
    if stderr.is_terminal() {
        let _ = writeln!(stderr, "  {text}");
    }
}
