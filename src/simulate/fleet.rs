//! `nameward simulate --virtual`: many histories of a fleet in virtual time, and what came of them.

use nameward_fleet::{Outcome, Settings, month, play, seeds};

use crate::cli::{FleetArgs, Output};
use crate::exit::{Failure, Found};
use crate::output;

/// Lines of the trace that are told of a history that failed.
const TAIL: usize = 60;
/// Of 1000 datagrams, lost in a healthy cluster.
const LOSS: u32 = 10;

pub(crate) fn simulate(args: &FleetArgs, form: Output) -> Result<Found, Failure> {
    if args.nodes.is_some_and(|nodes| !(1..=10_000).contains(&nodes)) {
        return Err(Failure::usage("--nodes takes 1 to 10000"));
    }
    let mut total = Total::default();
    if let Some(days) = args.days {
        let spec = month(args.seed.unwrap_or(args.from), args.nodes.unwrap_or(5), days, LOSS);
        let mut outcome = play(spec, args.trace);
        let acts = outcome.stats.evictions + outcome.stats.raises + outcome.stats.others;
        if !args.trace && outcome.violations.is_empty() && acts == 0 {
            outcome.trace.clear();
        }
        total.tell(&outcome, form, args.trace);
        total.failed += u64::from(acts > 0 && outcome.violations.is_empty());
    } else {
        let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
        let settings = Settings { nodes: args.nodes, trace: args.trace, ..Settings::default() };
        seeds(from, count, settings, |outcome| {
            total.tell(outcome, form, args.trace);
            true
        });
    }
    total.sum_up(form);
    Ok(if total.failed == 0 { Found::Healthy } else { Found::Unhealthy })
}

/// What all histories together held.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    failed: u64,
    events: u64,
    evictions: u64,
    raises: u64,
    others: u64,
    calls: u64,
}

impl Total {
    fn tell(&mut self, outcome: &Outcome, form: Output, whole: bool) {
        let Outcome { seed, stats, violations, trace, about, .. } = outcome;
        self.seeds += 1;
        self.events += stats.events;
        self.evictions += u64::from(stats.evictions);
        self.raises += u64::from(stats.raises);
        self.others += u64::from(stats.others);
        self.calls += u64::from(stats.calls);
        self.failed += u64::from(!violations.is_empty());
        if form == Output::Json && (!violations.is_empty() || whole) {
            let broken: Vec<String> = violations.iter().map(ToString::to_string).collect();
            output::json(&serde_json::json!({
                "seed": seed, "about": about, "passed": broken.is_empty(), "violations": broken,
                "evictions": stats.evictions, "memory_raised": stats.raises, "persons_called": stats.calls,
            }));
            return;
        }
        if whole || !violations.is_empty() {
            output::line(&format!("seed {seed}: {about}"));
            let skipped = if whole { 0 } else { trace.len().saturating_sub(TAIL) };
            for line in trace.iter().skip(skipped) {
                output::line(line);
            }
        }
        for violation in violations {
            output::line(&format!("seed {seed} breaks {violation}"));
        }
        if !violations.is_empty() {
            output::line(&format!("replay: nameward simulate --virtual --seed {seed} --trace"));
        }
    }

    fn sum_up(&self, form: Output) {
        let Self { seeds, failed, events, evictions, raises, others, calls, .. } = self;
        if form == Output::Json {
            output::json(&serde_json::json!({
                "seeds": seeds, "failed": failed, "events": events, "evictions": evictions, "memory_raised": raises,
                "other_acts": others, "persons_called": calls,
            }));
            return;
        }
        output::line(&format!(
            "{} of {seeds} histories held every invariant ({evictions} evictions, {raises} memory limits raised, {others} \
             other acts, {calls} calls for a person; {events} events)",
            seeds - failed
        ));
    }
}
