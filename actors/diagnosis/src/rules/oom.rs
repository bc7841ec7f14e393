//! F05: CoreDNS is killed for want of memory.

use std::collections::BTreeSet;
use std::time::Duration;

use nameward_messages::pods::ContainerOomKilled;
use nameward_messages::probe::QuestionKind;
use nameward_messages::targets::DnsPod;
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope};

use crate::finding::{Finding, RuleResult, Tally, View, dns_subject, not, probe_line};
use crate::matrix::{PathState, Pick};
use crate::process;

/// A kill older than this explains nothing.
pub const RECENT: Duration = Duration::from_secs(600);
/// Without a failing path, repeated kills stand for this long after the last. What begins to fail later than this after a kill
/// is not of its making.
pub const AFTERWARDS: Duration = Duration::from_secs(120);
/// What began to fail this long before a kill may still be of its making: a process short of memory is slow first.
const BEFOREHAND: Duration = Duration::from_secs(30);

/// `coredns-oom-killed`. A status that the API confirms needs no second sample: each kill is told once, and the
/// failing paths were confirmed by the prober.
pub fn judge(view: &View<'_>) -> RuleResult {
    let mut tally = Tally::default();
    for pod in &view.record.targets.pods {
        tally.add(one(view, pod));
    }
    tally.done()
}

/// The recent kills of a CoreDNS pod, oldest first.
pub fn recent<'a>(view: &View<'a>, pod: &DnsPod) -> Vec<&'a ContainerOomKilled> {
    view.record.oom_kills.iter().filter(|k| k.pod == pod.uid && age(view, k) <= RECENT).collect()
}

/// Replicas that die one after the other take over one another's load.
fn waves(view: &View<'_>, pod: &DnsPod) -> Option<Evidence> {
    let recent = view.record.oom_kills.iter().filter(|kill| age(view, kill) <= RECENT && kill.pod != pod.uid);
    let others: BTreeSet<&str> = recent.map(|kill| kill.key.name.as_str()).collect();
    let names: Vec<&str> = others.iter().copied().take(4).collect();
    (!others.is_empty()).then(|| {
        let line = format!("killed in the last ten minutes too: {}", names.join(", "));
        Evidence::new("status of other CoreDNS pods", line)
    })
}

/// The kernel's own count, where its cgroup can be seen.
fn cgroup_line(view: &View<'_>, pod: &DnsPod) -> Option<Evidence> {
    let figures = process::of(view.record.current.as_ref()?, pod)?.cgroup.value()?;
    let limit = figures.memory_max.map_or("no limit".to_owned(), |max| format!("of {max}"));
    let says = format!("oom_kill {}; {} bytes in use {limit}", figures.oom_kills?, figures.memory.unwrap_or(0));
    Some(Evidence::new(format!("{} memory.events", pod.key), says))
}

fn age(view: &View<'_>, kill: &ContainerOomKilled) -> Duration {
    let since = view.record.now.wall.duration_since(kill.finished_at);
    Duration::try_from(since).unwrap_or(Duration::ZERO)
}

/// Whether a path began to fail when a container was killed.
fn began_with(view: &View<'_>, state: &PathState, kill: &ContainerOomKilled) -> bool {
    let killed = age(view, kill);
    let fails_for = state.suspected.map(|since| view.record.now.mono.since(since));
    fails_for.is_some_and(|fails| fails <= killed + BEFOREHAND && fails + AFTERWARDS >= killed)
}

fn one(view: &View<'_>, pod: &DnsPod) -> RuleResult {
    let kills = recent(view, pod);
    let Some(last) = kills.last() else { return RuleResult::NotApplicable };
    let to_it = Pick { pod: Some(&pod.uid), ..Pick::default() };
    let dies = kills.len() >= 2 && !pod.ready;
    let of_a_kill = |state: &PathState| dies || kills.iter().any(|kill| began_with(view, state, kill));
    // A process that is gone answers nothing; one that fails for names from outside alone is alive.
    let internal = Pick { question: Some(QuestionKind::Internal), ..to_it };
    let failing = view.bad(internal).find(|(_, state)| of_a_kill(state));
    let again = kills.len() >= 2 && age(view, last) <= AFTERWARDS;
    if failing.is_none() && !again {
        return RuleResult::NotApplicable;
    }
    let limit =
        last.memory_limit.map_or("no limit set on the container".to_owned(), |bytes| format!("limit {bytes} bytes"));
    let mut evidence = vec![Evidence::new(
        format!("{} status of container {}", pod.key, last.container),
        format!(
            "OOMKilled at {}, {} restarts, {} kills in the last ten minutes, {limit}",
            last.finished_at,
            last.restarts,
            kills.len()
        ),
    )];
    evidence.extend(waves(view, pod));
    evidence.extend(cgroup_line(view, pod));
    evidence.extend(failing.map(|(path, state)| probe_line(path, state.failing.as_ref().unwrap_or(&state.last))));
    let mut explains = view.explained(&[to_it, Pick { service: true, ..Pick::default() }]);
    explains.retain(|path| view.record.matrix.get(path).is_some_and(of_a_kill));
    let killed = format!("the container was killed at {}", last.finished_at);
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::CorednsOomKilled,
        scope: Scope::CorednsPod,
        subject: dns_subject(pod),
        confidence: Confidence::Certain,
        evidence,
        ruled_out: vec![not(Cause::CorednsUdpDead, killed.clone()), not(Cause::CorednsHung, killed)],
        explains,
    }])
}
