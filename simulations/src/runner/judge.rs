//! Whether what was seen is what was expected: a pure comparison.

use std::time::Duration;

use crate::result::{FoundRemedy, ScenarioResult};
use crate::scenario::Expect;

/// How much longer things may take when times are not checked as written.
const LENIENT: f64 = 3.0;

/// Completes a result: adds what is missing, surplus or late to its violations, and says whether it passed.
pub(super) fn judge(mut seen: ScenarioResult, expect: &Expect, strict: bool) -> ScenarioResult {
    let slack = if strict { 1.0 } else { LENIENT };
    let limit = |within: Duration| within.as_secs_f64() * slack;
    let mut wrong = Vec::new();

    for wanted in &expect.verdict {
        let found = seen
            .verdicts
            .iter()
            .any(|v| v.cause == wanted.cause && v.scope == wanted.scope && v.subject == wanted.subject);
        if !found {
            wrong.push(format!("no verdict {} on {}", wanted.cause, wanted.subject));
        }
    }
    for found in &seen.verdicts {
        let wanted = expect
            .verdict
            .iter()
            .chain(&expect.may)
            .any(|w| w.cause == found.cause && w.scope == found.scope && w.subject == found.subject);
        if !wanted {
            let read: Vec<String> = found.evidence.iter().map(|line| format!("{}: {}", line.read, line.says)).collect();
            wrong.push(format!(
                "verdict {} on {} ({:?}, {:?}, after {:.1} s) was not expected; it rests on: {}",
                found.cause,
                found.subject,
                found.scope,
                found.confidence,
                found.at_s,
                read.join("; ")
            ));
        }
        if found.evidence.is_empty() {
            wrong.push(format!("verdict {} on {} has no evidence", found.cause, found.subject));
        }
    }
    for wanted in &expect.remedy {
        let times = seen.remedies.iter().filter(|r| r.kind == wanted.kind && r.subject == wanted.subject).count();
        if times != 1 {
            wrong.push(format!("remedy {} on {} was done {times} times, expected once", wanted.kind, wanted.subject));
        }
        let early = |r: &&FoundRemedy| {
            r.kind == wanted.kind
                && r.subject == wanted.subject
                && wanted.after.is_some_and(|after| r.at_s < after.0.as_secs_f64())
        };
        if let Some(early) = seen.remedies.iter().find(early) {
            wrong
                .push(format!("remedy {} on {} was done at {:.1} s, too early", early.kind, early.subject, early.at_s));
        }
    }
    for found in &seen.remedies {
        if !expect.remedy.iter().any(|w| w.kind == found.kind && w.subject == found.subject) {
            wrong.push(format!("remedy {} on {} was not expected", found.kind, found.subject));
        }
    }
    match (expect.detect_within, seen.detected_s) {
        (Some(within), Some(at)) if at > limit(within.0) => {
            wrong.push(format!("named after {at:.1} s, expected within {:.0} s", limit(within.0)));
        }
        _ => {}
    }
    match (expect.recover_within, seen.recovered_s) {
        (Some(within), Some(at)) if at > limit(within.0) => {
            wrong.push(format!("healed after {at:.1} s, expected within {:.0} s", limit(within.0)));
        }
        (Some(_), None) => wrong.push("DNS did not recover".to_owned()),
        (None, Some(at)) if !expect.verdict.is_empty() && !expect.disturbance => {
            wrong.push(format!("DNS recovered after {at:.1} s, though nothing should have healed it"));
        }
        _ => {}
    }
    seen.violations.append(&mut wrong);
    seen.passed = seen.violations.is_empty();
    seen
}

#[cfg(test)]
mod tests {
    use nameward_config::Period;
    use nameward_messages::remedy::{Mode, RemedyKind};
    use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope};

    use super::*;
    use crate::result::FoundVerdict;
    use crate::scenario::Scenario;

    fn seen() -> ScenarioResult {
        ScenarioResult {
            scenario: "udp-dead".to_owned(),
            detected_s: Some(4.0),
            recovered_s: Some(20.0),
            verdicts: vec![FoundVerdict {
                cause: Cause::CorednsUdpDead,
                scope: Scope::CorednsPod,
                subject: "coredns@node1".to_owned(),
                confidence: Confidence::Certain,
                at_s: 4.0,
                evidence: vec![Evidence::new("probe", "refused")],
            }],
            remedies: vec![FoundRemedy {
                kind: RemedyKind::EvictPod,
                subject: "coredns@node1".to_owned(),
                mode: Mode::Act,
                at_s: 10.0,
                outcome: "201".to_owned(),
            }],
            ..ScenarioResult::default()
        }
    }

    fn expect() -> Expect {
        Scenario::find("udp-dead").unwrap().expect
    }

    #[test]
    fn what_was_expected_passes() {
        let result = judge(seen(), &expect(), true);
        assert!(result.passed, "{:?}", result.violations);
    }

    #[test]
    fn a_swapped_expectation_fails() {
        for (name, _) in crate::scenario::BUILT_IN {
            let other = Scenario::find(name).unwrap().expect;
            let same = other.verdict == expect().verdict && other.remedy == expect().remedy;
            let result = judge(seen(), &other, false);
            assert_eq!(result.passed, same, "udp-dead judged by {name}: {:?}", result.violations);
        }
    }

    #[test]
    fn what_may_be_found_need_not_be_and_nothing_else_may() {
        let api_down = Scenario::find("api-down").unwrap().expect;
        let none = ScenarioResult { scenario: "api-down".to_owned(), ..ScenarioResult::default() };
        assert!(judge(none, &api_down, false).passed);
        let told = || ScenarioResult { remedies: Vec::new(), detected_s: None, recovered_s: None, ..seen() };
        assert!(judge(told(), &api_down, false).passed, "a report that was held back");
        assert!(!judge(seen(), &api_down, false).passed, "and it is acted upon");
        let mut other = told();
        other.verdicts[0].subject = "coredns@node2".to_owned();
        assert!(!judge(other, &api_down, false).passed, "of another pod");
        let mut more = told();
        more.verdicts[0].cause = Cause::CorednsHung;
        assert!(!judge(more, &api_down, false).passed, "another cause");
    }

    #[test]
    fn each_difference_is_a_violation() {
        let mut expect = expect();
        let none = ScenarioResult { scenario: "udp-dead".to_owned(), ..ScenarioResult::default() };
        assert_eq!(judge(none, &expect, false).violations.len(), 3, "no verdict, no remedy, no recovery");

        let mut twice = seen();
        twice.remedies.push(twice.remedies[0].clone());
        assert!(!judge(twice, &expect, false).passed, "two evictions");

        expect.remedy[0].after = Some(Period::secs(20));
        assert!(!judge(seen(), &expect, false).passed, "an eviction at 10 s");
        expect.remedy[0].after = Some(Period::secs(9));
        assert!(judge(seen(), &expect, false).passed);

        let mut late = seen();
        late.detected_s = Some(12.0);
        assert!(!judge(late.clone(), &expect, true).passed, "late when strict");
        assert!(judge(late, &expect, false).passed, "threefold otherwise");

        expect.recover_within = None;
        assert!(!judge(seen(), &expect, false).passed, "recovered though remedies are off");
        expect.recover_within = Some(Period::secs(1));
        assert!(!judge(seen(), &expect, false).passed, "far too late");
    }
}
