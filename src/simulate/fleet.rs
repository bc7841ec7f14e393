//! `nameward simulate --virtual`: many histories of a fleet in virtual time, and what came of them.

use std::num::NonZeroUsize;
use std::time::Duration;

use nameward_fleet::{Outcome, Settings, month, play_watched, seeds_on};
use nameward_messages::Mono;
use nameward_supervision::clock;

use super::progress;
use crate::cli::{FleetArgs, Output};
use crate::exit::{Failure, Found};
use crate::output;

/// Lines of the trace that are told of a history that failed.
const TAIL: usize = 60;
/// Of 1000 datagrams, lost in a healthy cluster.
const LOSS: u32 = 10;
/// Who waits is told this often how far it is.
const EVERY: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);
/// Seeds that are named at the end.
const NAMED: usize = 20;

pub(crate) fn simulate(args: &FleetArgs, jobs: usize, form: Output) -> Result<Found, Failure> {
    if args.nodes.is_some_and(|nodes| !(1..=10_000).contains(&nodes)) {
        return Err(Failure::usage("--nodes takes 1 to 10000"));
    }
    if args.days.is_some_and(|days| !(1..=365).contains(&days)) {
        return Err(Failure::usage("--days takes 1 to 365"));
    }
    let mut total = Total { began: clock::now().mono, ..Total::default() };
    match args.days {
        Some(days) => total.days(args, days, form),
        None => total.seeds(args, jobs, form),
    }
    total.sum_up(args, form);
    Ok(if total.failed.is_empty() { Found::Healthy } else { Found::Unhealthy })
}

/// What all histories together held.
#[derive(Debug, Default)]
struct Total {
    began: Mono,
    told: Mono,
    seeds: u64,
    failed: Vec<u64>,
    events: u64,
    evictions: u64,
    raises: u64,
    others: u64,
    calls: u64,
    repairs: u64,
}

impl Total {
    fn seeds(&mut self, args: &FleetArgs, jobs: usize, form: Output) {
        let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
        let settings = Settings { nodes: args.nodes, trace: args.trace, ..Settings::default() };
        let threads = NonZeroUsize::new(jobs).or_else(|| std::thread::available_parallelism().ok());
        self.told = self.began;
        seeds_on(threads.unwrap_or(NonZeroUsize::MIN), from, count, settings, |outcome| {
            let broken = outcome.violations.iter().map(ToString::to_string).collect();
            self.tell(outcome, broken, args, form);
            self.say_how_far(count);
            true
        });
    }

    /// A healthy cluster: whatever is done to it is a failure.
    fn days(&mut self, args: &FleetArgs, days: u32, form: Output) {
        let spec = month(args.seed.unwrap_or(args.from), args.nodes.unwrap_or(5), days, LOSS);
        let outcome = play_watched(spec, args.trace, DAY, |over| {
            progress(&format!("{} of {days} days", over.as_secs() / DAY.as_secs()));
        });
        let stats = outcome.stats;
        let mut broken: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
        let acts = stats.evictions + stats.raises + stats.others + stats.repairs;
        if acts > 0 {
            broken.push(format!("{acts} remedies in a cluster in which nothing was wrong"));
        }
        if outcome.called {
            broken.push(format!("a person was called: {}", outcome.incidents.join(", ")));
        }
        self.tell(&outcome, broken, args, form);
    }

    fn tell(&mut self, outcome: &Outcome, broken: Vec<String>, args: &FleetArgs, form: Output) {
        let Outcome { seed, stats, trace, about, .. } = outcome;
        self.seeds += 1;
        self.events += stats.events;
        self.evictions += u64::from(stats.evictions);
        self.raises += u64::from(stats.raises);
        self.others += u64::from(stats.others);
        self.calls += u64::from(stats.calls);
        self.repairs += u64::from(stats.repairs);
        if broken.is_empty() && !args.trace {
            return;
        }
        let skipped = if args.trace { 0 } else { trace.len().saturating_sub(TAIL) };
        let replay = replay(args, *seed);
        if form == Output::Json {
            output::json(&serde_json::json!({
                "seed": seed, "about": about, "passed": broken.is_empty(), "violations": broken, "replay": replay,
                "events": stats.events, "evictions": stats.evictions, "memory_raised": stats.raises,
                "other_acts": stats.others, "node_repairs": stats.repairs, "persons_called": stats.calls,
                "trace": trace.iter().skip(skipped).collect::<Vec<_>>(),
            }));
        } else {
            output::line(&format!("seed {seed}: {about}"));
            for line in trace.iter().skip(skipped) {
                output::line(line);
            }
            for violation in &broken {
                output::line(&format!("seed {seed} breaks {violation}"));
            }
            if !broken.is_empty() && !args.trace {
                output::line(&format!("replay: {replay}\n"));
            }
        }
        if !broken.is_empty() {
            self.failed.push(*seed);
        }
    }

    fn say_how_far(&mut self, count: u64) {
        let now = clock::now().mono;
        if now.since(self.told) < EVERY {
            return;
        }
        self.told = now;
        let (took, left) = (now.since(self.began).as_secs_f64(), count.saturating_sub(self.seeds));
        let pace = self.seeds as f64 / took.max(0.001);
        progress(&format!(
            "{} of {count} histories, {} broke an invariant; {pace:.0} a second, about {} left",
            self.seeds,
            self.failed.len(),
            span(Duration::from_secs_f64(left as f64 / pace.max(0.001)))
        ));
    }

    fn sum_up(&mut self, args: &FleetArgs, form: Output) {
        self.failed.sort_unstable();
        let took = clock::now().mono.since(self.began);
        let Self { seeds, failed, events, evictions, raises, others, calls, repairs, .. } = self;
        if form == Output::Json {
            output::json(&serde_json::json!({
                "histories": seeds, "failed": failed.len(), "failed_seeds": failed, "events": events,
                "evictions": evictions, "memory_raised": raises, "other_acts": others, "node_repairs": repairs,
                "persons_called": calls, "seconds": (took.as_secs_f64() * 10.0).round() / 10.0,
            }));
            return;
        }
        let held = *seeds - failed.len() as u64;
        let what = match args.days {
            Some(days) => format!("{held} of {seeds} histories of {days} days in a healthy cluster held: no remedy"),
            None => format!("{held} of {seeds} histories held every invariant"),
        };
        output::line(&format!(
            "{what} ({evictions} evictions, {raises} memory limits raised, {others} other shared acts, {repairs} changes by \
             node repairs, {calls} calls for a person; {events} events, {})",
            span(took)
        ));
        if !failed.is_empty() {
            let named: Vec<String> = failed.iter().take(NAMED).map(u64::to_string).collect();
            let more = failed.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            output::line(&format!("broken: seeds {}{more}", named.join(", ")));
        }
    }
}

/// The command that plays this one again and tells all of it.
fn replay(args: &FleetArgs, seed: u64) -> String {
    let nodes = args.nodes.map_or(String::new(), |nodes| format!(" --nodes {nodes}"));
    let days = args.days.map_or(String::new(), |days| format!(" --days {days}"));
    format!("nameward simulate --virtual{days}{nodes} --seed {seed} --trace")
}

/// A time in words that are short.
fn span(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..10 => format!("{:.1} s", s as f64 + f64::from(time.subsec_millis()) / 1000.0),
        s @ 10..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}
