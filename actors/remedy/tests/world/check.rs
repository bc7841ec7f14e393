//! The invariants, each as a question to the history of a world.

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_messages::Mono;
use nameward_messages::plan::IncidentPhase;
use nameward_remedy::shared::call::ApiCall;

use super::World;

/// Time from handing over to the act: the steps of the executor, each with its request.
const STEPS: Duration = Duration::from_secs(30);

/// Answers may be 30 s old when the plan's deadline stops further steps.
fn recent(at: Mono, now: Mono) -> bool {
    now.since(at) <= Duration::from_secs(30) && at <= now
}

/// I1 and I3: enough witnesses, its own node among them, two namespaces, and another pod good for the majority of those asked.
pub fn witnesses_and_a_good_pod(world: &World) {
    for act in world.acts.iter().filter(|a| a.what == "evict") {
        let pod = act.pod.clone().unwrap();
        let expected = world.nodes.len();
        let need = expected.min(expected.div_ceil(20).clamp(3, 12));
        let corroborated = world.asked.values().any(|asked| {
            let fresh: Vec<_> = asked.answers.iter().filter(|(_, at, ..)| recent(*at, act.at.mono)).collect();
            let failing: Vec<_> = fresh.iter().filter(|(_, _, bad, _)| bad.contains_key(&pod)).collect();
            let namespaces: u32 = failing.iter().map(|(_, _, bad, _)| bad[&pod]).sum();
            let mut good: BTreeMap<_, usize> = BTreeMap::new();
            for (_, _, _, goods) in &fresh {
                for uid in goods.iter().filter(|uid| **uid != pod) {
                    *good.entry(uid.clone()).or_default() += 1;
                }
            }
            failing.len() >= need && namespaces >= 2 && good.values().any(|n| n * 2 > asked.nodes.len())
        });
        assert!(corroborated, "I1/I3: {act:?}");
    }
}

/// I4: ready CoreDNS pods never fall below the floor by an act.
pub fn floor(world: &World) {
    for act in world.evictions() {
        assert!(act.ready_after >= act.desired.div_ceil(2).max(1), "I4: {act:?}");
    }
}

/// I7: one intent at a time while an act is made, and no act while another is under verification.
pub fn one_in_flight(world: &World) {
    for act in world.acts.iter().filter(|a| !a.dry && a.committed) {
        assert_eq!(act.intents, 1, "I7: {act:?}");
    }
    let verifying = world.incidents.values().filter(|i| i.status.phase == IncidentPhase::Verifying).count();
    let intents = world.incidents.values().filter(|i| i.status.intent.is_some()).count();
    assert!(verifying + intents <= 2, "I7: {verifying} verifying, {intents} intents");
}

/// I8: no request on CoreDNS after the Lease's deadline less a call's time.
pub fn lease_deadline(world: &World) {
    for touch in world.processes.iter().flat_map(|p| &p.touched) {
        assert!(touch.may_act, "I8: {touch:?}");
    }
}

/// I9: every act carries the preconditions of its target.
pub fn preconditions(world: &World) {
    for touch in world.processes.iter().flat_map(|p| &p.touched) {
        match &touch.call {
            ApiCall::Evict { uid, resource_version, .. } => {
                assert!(!uid.as_str().is_empty() && !resource_version.is_empty(), "I9: {touch:?}");
            }
            ApiCall::PatchMemory { resource_version, .. } => assert!(!resource_version.is_empty(), "I9: {touch:?}"),
            _ => {}
        }
    }
}

/// I10: between an act without a clear answer and the next one lies a read of the target; no pod is evicted twice.
pub fn never_blindly_again(world: &World) {
    let mut evicted = BTreeMap::new();
    for act in world.evictions() {
        *evicted.entry(act.pod.clone()).or_insert(0) += 1;
    }
    assert!(evicted.values().all(|times| *times == 1), "I10: {evicted:?}");
    for process in &world.processes {
        let mut acted: Option<String> = None;
        for (_, line) in &process.log {
            let real = line.starts_with("Evict") && line.contains("dry_run: false");
            if real {
                assert!(acted.is_none(), "I10: acted again without reading the target: {line}");
                acted = Some(line.clone());
            } else if line.starts_with("ReadPod") || line.contains("Done") || line.contains("Failed") {
                acted = None;
            }
        }
    }
}

/// I11: the budget, over all processes.
pub fn budget(world: &World) {
    let settings = &world.config.remedy;
    let mut starts: Vec<Mono> = world
        .acts
        .iter()
        .filter(|a| !a.dry && (a.what == "evict" || a.what == "memory" || a.what == "add"))
        .map(|a| a.at.mono)
        .collect();
    starts.sort();
    for pair in starts.windows(2) {
        let conflict_again = pair[1].since(pair[0]) < Duration::from_secs(30)
            && world.acts.iter().any(|a| a.at.mono == pair[0] && a.what == "memory" && !a.committed);
        let left = Duration::from_secs(10);
        assert!(
            conflict_again || pair[1].since(pair[0]) + left >= settings.shared_every.0,
            "I11: {:?} after {:?}",
            pair[1],
            pair[0]
        );
    }
    let most = settings.shared_per_hour as usize;
    for window in starts.windows(most + 1) {
        assert!(
            window[most].since(window[0]) + Duration::from_secs(60) >= Duration::from_secs(3600),
            "I11: {window:?}"
        );
    }
}

/// I12: nothing within the cool-down of a process or of its leadership.
pub fn cool_down(world: &World) {
    for touch in world.processes.iter().flat_map(|p| &p.touched) {
        let cool = world.config.remedy.cool_down.0;
        assert!(touch.up_for >= cool && touch.leading_for >= cool, "I12: {touch:?}");
    }
}

/// I5: an eviction only with a quorum of fresh, vouching reports.
pub fn quorum(world: &World) {
    for touch in world.processes.iter().flat_map(|p| &p.touched) {
        if matches!(touch.call, ApiCall::Evict { .. }) {
            assert!(touch.quorum_ago <= STEPS, "I5: {touch:?}");
        }
    }
}

/// I14: an incomplete view is no ground to plan, and an old one none to act.
pub fn complete_view(world: &World) {
    for process in &world.processes {
        assert!(process.plans.iter().all(|(_, complete)| *complete), "I14: {:?}", process.plans);
        for touch in &process.touched {
            assert!(touch.complete_ago <= Duration::from_secs(60) + STEPS, "I14: {touch:?}");
        }
    }
}

/// I17: memory is raised, within the cap, and never where somebody else owns it.
pub fn memory(world: &World) {
    for act in world.acts.iter().filter(|a| a.memory.is_some() && a.committed) {
        let (from, to) = act.memory.unwrap();
        assert!(!act.owned, "I17: {act:?}");
        assert!(to >= from && to <= world.config.remedy.memory_cap.0, "I17: {act:?}");
    }
}

/// I20: nothing while the kill switch is on, or unreadable for more than a minute.
pub fn kill_switch(world: &World) {
    for touch in world.processes.iter().flat_map(|p| &p.touched) {
        assert!(touch.switch_allows, "I20: {touch:?}");
    }
}

/// All of them.
pub fn all(world: &World) {
    witnesses_and_a_good_pod(world);
    floor(world);
    one_in_flight(world);
    lease_deadline(world);
    preconditions(world);
    never_blindly_again(world);
    budget(world);
    cool_down(world);
    quorum(world);
    complete_view(world);
    memory(world);
    kill_switch(world);
}
