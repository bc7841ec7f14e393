//! The page that says which faults are named, rehearsed by which scenario: `docs/faults.md`.

use std::collections::{BTreeMap, BTreeSet};

use nameward_messages::verdict::Cause;

use crate::result::ScenarioResult;
use crate::scenario::{BUILT_IN, Expect, Plane, Scenario};

/// What is written by hand, with a mark for each table.
const TEMPLATE: &str = include_str!("faults.md");
const NAMED: &str = "<!-- named -->";
const QUIET: &str = "<!-- quiet -->";

/// Writes the page from the runs of scenarios in their data planes (see [`Scenario::in_plane`]). Of scenarios that were not run, the
/// lines that `before` has of them stay; lines of what is no scenario any more go.
#[must_use]
pub fn page(runs: &[(Scenario, ScenarioResult)], before: &str) -> String {
    let mut scenarios: BTreeMap<&str, Vec<&(Scenario, ScenarioResult)>> = BTreeMap::new();
    for run in runs {
        scenarios.entry(plain(&run.0)).or_default().push(run);
    }
    let mut named: Vec<(String, String)> = Vec::new();
    let mut quiet: BTreeMap<String, String> = BTreeMap::new();
    for line in before.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let known = |place: usize| {
            let name = cells.get(place)?.strip_prefix('`')?.strip_suffix('`')?;
            let kept = !scenarios.contains_key(name) && BUILT_IN.iter().any(|(built_in, _)| *built_in == name);
            kept.then_some(name)
        };
        if let Some(name) = known(1) {
            quiet.insert(name.to_owned(), format!("{line}\n"));
        } else if let Some(fault) = cells.get(1).filter(|_| known(2).is_some()) {
            named.push((sort_key(fault), format!("{line}\n")));
        }
    }
    for (name, runs) in &scenarios {
        let Some((first, _)) = runs.first() else { continue };
        if runs.iter().all(|(scenario, _)| scenario.expect.verdict.is_empty()) {
            let planes = planes(runs.iter().map(|(scenario, _)| scenario.plane()));
            quiet.insert((*name).to_owned(), format!("| `{name}` | {planes} | {} |\n", escaped(&first.summary)));
            continue;
        }
        for cause in causes(runs) {
            let with = runs.iter().filter(|(s, _)| s.expect.verdict.iter().any(|v| v.cause == cause));
            let planes = planes(with.map(|(scenario, _)| scenario.plane()));
            let seconds = seconds(cause, runs);
            let row = format!(
                "| {} | `{name}` | `{cause}` on {} | {planes} | {seconds} | {} |\n",
                cause.about().fault,
                subjects(cause, runs),
                remedies(&first.expect),
            );
            named.push((sort_key(cause.about().fault), row));
        }
    }
    named.sort();
    let head = "| fault | scenario | verdict | data planes | named after | remedy |\n|---|---|---|---|---|---|\n";
    let named: String = std::iter::once(head.to_owned()).chain(named.into_iter().map(|(_, row)| row)).collect();
    let head = "| scenario | data planes | what happens |\n|---|---|---|\n";
    let quiet: String = std::iter::once(head.to_owned()).chain(quiet.into_values()).collect();
    TEMPLATE.replace(NAMED, named.trim_end()).replace(QUIET, quiet.trim_end())
}

/// The causes of which the page says by hand why no scenario has them.
#[must_use]
pub fn not_rehearsed() -> BTreeSet<Cause> {
    let (_, list) = TEMPLATE.split_once("cannot rehearse").unwrap_or_default();
    let ids = list.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next());
    ids.filter_map(|id| Cause::ALL.iter().find(|cause| cause.id() == id)).copied().collect()
}

fn plain(scenario: &Scenario) -> &str {
    scenario.name.split('@').next().unwrap_or_default()
}

fn causes(runs: &[&(Scenario, ScenarioResult)]) -> BTreeSet<Cause> {
    runs.iter().flat_map(|(scenario, _)| &scenario.expect.verdict).map(|verdict| verdict.cause).collect()
}

fn subjects(cause: Cause, runs: &[&(Scenario, ScenarioResult)]) -> String {
    let expected = runs.iter().flat_map(|(scenario, _)| &scenario.expect.verdict).filter(|v| v.cause == cause);
    let all: BTreeSet<String> = expected.map(|verdict| format!("`{}`", verdict.subject)).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}

fn remedies(expect: &Expect) -> String {
    expect.remedy.iter().map(|remedy| remedy.kind.to_string()).collect::<Vec<_>>().join(", ")
}

fn planes(planes: impl Iterator<Item = Plane>) -> String {
    let found: BTreeSet<Plane> = planes.collect();
    if found.len() == Plane::ALL.len() {
        return "all".to_owned();
    }
    found.into_iter().map(Plane::name).collect::<Vec<_>>().join(", ")
}

/// The times of all data planes, as a range of whole seconds.
fn seconds(cause: Cause, runs: &[&(Scenario, ScenarioResult)]) -> String {
    let times = runs.iter().filter_map(|(_, result)| {
        let verdicts = result.verdicts.iter().filter(|verdict| verdict.cause == cause);
        verdicts.map(|verdict| verdict.at_s).min_by(f64::total_cmp)
    });
    let mut times: Vec<f64> = times.map(f64::round).collect();
    times.sort_by(f64::total_cmp);
    match (times.first(), times.last()) {
        (Some(least), Some(most)) if least == most => format!("{least:.0} s"),
        (Some(least), Some(most)) => format!("{least:.0} to {most:.0} s"),
        _ => "-".to_owned(),
    }
}

/// F3 before F12, and those without a fault last.
fn sort_key(fault: &str) -> String {
    let digits: String = fault.chars().skip(1).take_while(char::is_ascii_digit).collect();
    format!("{:0>3}{fault}", if digits.is_empty() { "999" } else { &digits })
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn all() -> Vec<Scenario> {
        let parsed = BUILT_IN.iter().map(|(name, text)| Scenario::parse(name, text).unwrap());
        parsed.flat_map(|s| s.planes.clone().into_iter().map(move |plane| s.in_plane(plane))).collect()
    }

    #[test]
    fn every_cause_is_rehearsed_or_it_is_said_why_not() {
        let rehearsed: BTreeSet<Cause> = all().iter().flat_map(|s| &s.expect.verdict).map(|v| v.cause).collect();
        let missing: Vec<&Cause> =
            Cause::ALL.iter().filter(|c| !rehearsed.contains(*c) && !not_rehearsed().contains(*c)).collect();
        assert!(missing.is_empty(), "neither in a scenario nor in faults.md: {missing:?}");
        let both: Vec<Cause> = not_rehearsed().intersection(&rehearsed).copied().collect();
        assert!(both.is_empty(), "in a scenario, so that faults.md is wrong: {both:?}");
    }

    #[test]
    fn every_fault_of_the_catalogue_is_on_the_page() {
        let runs: Vec<(Scenario, ScenarioResult)> =
            all().into_iter().map(|scenario| (scenario, ScenarioResult::default())).collect();
        let page = page(&runs, "");
        let missing: Vec<String> = (1..=58).map(|n| format!("F{n:02}")).filter(|id| !page.contains(id)).collect();
        assert!(missing.is_empty(), "neither rehearsed nor said why not: {missing:?}");
    }

    #[test]
    fn what_was_not_run_keeps_its_line() {
        let runs: Vec<(Scenario, ScenarioResult)> =
            all().into_iter().map(|scenario| (scenario, ScenarioResult::default())).collect();
        let whole = page(&runs, "");
        assert_eq!(page(&[], &whole), whole);
        let one: Vec<_> = runs.iter().filter(|(s, _)| ["udp-dead", "healthy"].contains(&plain(s))).cloned().collect();
        assert_eq!(page(&one, &whole), whole);
        let gone = whole.replace("`udp-dead`", "`no-scenario`").replace("`healthy`", "`none-either`");
        let kept = page(&[], &gone);
        assert!(!kept.contains("no-scenario") && !kept.contains("none-either"));
        assert_eq!(kept.lines().count() + 2, whole.lines().count());
    }

    #[test]
    fn the_page_in_the_repository_has_every_scenario() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/faults.md")).unwrap();
        let missing: Vec<&str> =
            BUILT_IN.iter().map(|(name, _)| *name).filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
        assert!(missing.is_empty(), "make faults SCENARIOS=\"{}\"", missing.join(" "));
    }

    #[test]
    fn the_page_has_a_line_for_each_scenario_and_cause() {
        let runs: Vec<(Scenario, ScenarioResult)> =
            all().into_iter().map(|scenario| (scenario, ScenarioResult::default())).collect();
        let page = page(&runs, "");
        assert!(!page.contains("<!--"));
        for (name, _) in BUILT_IN {
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
        assert!(
            page.contains("| F01a | `udp-dead` | `coredns-udp-dead` on `coredns@node1` | all | - | evict-pod |"),
            "{page}"
        );
    }
}
