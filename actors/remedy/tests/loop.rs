//! The whole loop of both minds in virtual time: from a verdict to a verified recovery, and every way in which it may be cut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use nameward_messages::plan::IncidentPhase;
use nameward_messages::remedy::{Mode, RemedyOutcome};
use world::{World, act_config, check};

fn outcomes(world: &World) -> Vec<RemedyOutcome> {
    world.incidents.values().flat_map(|i| i.status.ladder.iter().map(|r| r.outcome)).collect()
}

fn all_resolved(world: &World) -> bool {
    !world.incidents.is_empty()
        && world.incidents.values().all(|i| i.status.phase == IncidentPhase::Resolved && i.status.intent.is_none())
}

#[test]
fn a_deaf_pod_is_evicted_once_replaced_and_verified() {
    let mut world = World::new(act_config(), 2, 2, 1);
    world.run(70);
    assert!(world.incidents.is_empty());
    let broken = world.break_pod(0);
    assert!(world.run_until(120, all_resolved), "{:#?}\n{:#?}", world.incidents, world.processes[0].log);
    assert_eq!(world.evictions().len(), 1);
    assert_eq!(world.evictions()[0].pod.as_ref(), Some(&broken));
    assert_eq!(outcomes(&world), [RemedyOutcome::Done, RemedyOutcome::Verified]);
    let calls: Vec<&str> = world.processes[0]
        .log
        .iter()
        .filter_map(|(_, l)| l.split([' ', '{']).next())
        .filter(|w| w.starts_with("Read") || w.starts_with("Write") || w.starts_with("Evict") || w.starts_with("List"))
        .collect();
    assert_eq!(
        calls,
        [
            "ReadIncident",
            "WriteIncident",
            "ListIncidents",
            "ReadPod",
            "ReadWorkload",
            "Evict",
            "Evict",
            "ReadIncident",
            "WriteIncident"
        ]
    );
    // Afterwards it stays quiet.
    let incidents = world.incidents.len();
    world.run(600);
    assert_eq!((world.incidents.len(), world.evictions().len()), (incidents, 1));
    check::all(&world);
}

#[test]
fn observing_says_what_it_would_do_once_and_touches_nothing() {
    let mut config = act_config();
    config.remedy.mode = Mode::Observe;
    let mut world = World::new(config, 3, 3, 2);
    world.run(70);
    world.break_pod(1);
    world.run(600);
    assert!(world.acts.is_empty());
    assert_eq!(outcomes(&world), [RemedyOutcome::WouldAct]);
    let incident = world.incidents.values().next().unwrap();
    assert_eq!(incident.status.phase, IncidentPhase::Open);
    assert!(incident.status.ladder[0].detail.contains("would evict pod kube-system/coredns-2"));
}

#[test]
fn off_asks_nobody() {
    let mut config = act_config();
    config.remedy.mode = Mode::Off;
    let mut world = World::new(config, 3, 3, 2);
    world.run(70);
    world.break_pod(1);
    world.run(300);
    assert!(world.acts.is_empty() && world.asked.is_empty() && outcomes(&world).is_empty());
}

/// What was really done, in order.
fn done(world: &World) -> Vec<&str> {
    world.acts.iter().filter(|a| a.committed && !a.dry).map(|a| a.what.as_str()).collect()
}

fn history(world: &World) -> String {
    let ladders: Vec<_> =
        world.incidents.values().map(|i| (&i.status.phase, &i.status.added, &i.status.ladder)).collect();
    format!("{ladders:#?}\n{:#?}", world.processes.iter().map(|p| &p.log).collect::<Vec<_>>())
}

#[test]
fn when_every_pod_is_deaf_one_is_made_before_any_is_broken() {
    let mut world = World::new(act_config(), 3, 2, 3);
    world.run(70);
    world.break_pod(0);
    world.break_pod(1);
    assert!(world.run_until(1500, all_resolved), "{}", history(&world));
    assert_eq!(done(&world), ["add", "evict", "evict", "lower"], "{}", history(&world));
    assert_eq!((world.desired, world.pods.len()), (2, 2));
    assert!(world.pods.iter().all(|pod| !pod.dead));
    world.run(600);
    assert_eq!(done(&world).len(), 4);
    check::all(&world);
}

#[test]
fn the_only_replica_is_replaced_by_making_another_first() {
    let mut world = World::new(act_config(), 3, 1, 13);
    world.run(70);
    world.break_pod(0);
    assert!(world.run_until(900, all_resolved), "{}", history(&world));
    assert_eq!(done(&world), ["add", "evict", "lower"], "{}", history(&world));
    assert_eq!((world.desired, world.ready()), (1, 1));
    check::all(&world);
}

#[test]
fn a_replica_that_does_not_help_is_taken_away_and_a_person_called() {
    let mut world = World::new(act_config(), 3, 2, 14);
    world.fix_on_replace = false;
    world.run(70);
    world.break_pod(0);
    world.break_pod(1);
    assert!(world.run_until(400, |w| done(w) == ["add", "lower"]), "{}", history(&world));
    world.run(900);
    assert_eq!((done(&world), world.desired), (vec!["add", "lower"], 2), "{}", history(&world));
    assert!(world.events.iter().any(|(_, e)| e.starts_with("DnsNeedsAPerson")));
    check::all(&world);
}

#[test]
fn where_an_autoscaler_owns_the_replicas_none_is_added_and_it_is_said() {
    let mut world = World::new(act_config(), 3, 2, 15);
    world.owner = Some("the Horizontal Pod Autoscaler".to_owned());
    world.run(70);
    world.break_pod(0);
    world.break_pod(1);
    world.run(400);
    assert!(done(&world).is_empty());
    assert!(history(&world).contains("the Horizontal Pod Autoscaler owns the number of replicas"));
    assert!(world.incidents.values().all(|i| i.status.phase == IncidentPhase::Escalated), "{}", history(&world));
}

#[test]
fn a_number_that_a_person_set_meanwhile_is_left_alone() {
    let mut world = World::new(act_config(), 3, 1, 16);
    world.run(70);
    world.break_pod(0);
    assert!(world.run_until(300, |w| done(w) == ["add"]));
    world.run(60);
    world.desired = 4;
    world.template.0 += 1000;
    for node in ["node1", "node3"] {
        world.add_pod(node.into(), true);
    }
    assert!(world.run_until(900, all_resolved), "{}", history(&world));
    assert_eq!((done(&world), world.desired), (vec!["add", "evict"], 4));
    assert!(history(&world).contains("somebody has set it since"));
}

#[test]
fn a_restart_at_any_step_never_adds_twice_and_takes_away_what_was_added() {
    for call in 1..=20 {
        let mut world = World::new(act_config(), 3, 1, 17);
        world.run(70);
        world.break_pod(0);
        world.processes[0].die_at_call = Some(call);
        assert!(world.run_until(2400, all_resolved), "died at call {call}: {}", history(&world));
        let acts = done(&world);
        assert_eq!(acts, ["add", "evict", "lower"], "died at call {call}: {}", history(&world));
        assert_eq!(world.desired, 1, "died at call {call}");
        check::all(&world);
    }
}

#[test]
fn one_lying_node_evicts_nothing() {
    let mut world = World::new(act_config(), 4, 3, 4);
    world.run(70);
    let uid = world.pods[0].uid.clone();
    let node = world.pods[0].node.clone();
    world.agents.get_mut(&node).unwrap().lies_about = Some(uid);
    world.run(900);
    assert!(world.acts.is_empty());
    // After ten minutes a person is called, and nothing else.
    assert_eq!(outcomes(&world), [RemedyOutcome::Refused, RemedyOutcome::Escalated]);
}

#[test]
fn without_a_quorum_of_fresh_reports_nothing_is_evicted() {
    let mut world = World::new(act_config(), 8, 3, 9);
    for node in ["node7", "node8"] {
        world.agents.get_mut(&node.into()).unwrap().silent = true;
    }
    world.run(70);
    world.break_pod(0);
    world.run(200);
    assert!(world.acts.is_empty());
    let ladder = &world.incidents.values().next().unwrap().status.ladder;
    assert!(ladder[0].detail.contains("only 6 of 8 expected nodes have a fresh report"), "{ladder:?}");
    // They speak again: now it may be done.
    for agent in world.agents.values_mut() {
        agent.silent = false;
    }
    assert!(world.run_until(300, all_resolved), "{:#?}", world.processes[0].log);
    assert_eq!(world.evictions().len(), 1);
    check::all(&world);
}

#[test]
fn an_eviction_that_does_not_help_ends_with_a_person() {
    let mut world = World::new(act_config(), 2, 2, 5);
    world.fix_on_replace = false;
    world.run(70);
    world.break_pod(0);
    world.run(250);
    assert_eq!(world.evictions().len(), 1);
    let all = outcomes(&world);
    assert!(all.contains(&RemedyOutcome::Ineffective) && all.contains(&RemedyOutcome::Escalated), "{all:?}");
    check::all(&world);
}

#[test]
fn memory_is_raised_after_a_confirmed_kill_and_not_where_somebody_owns_it() {
    for owner in [None, Some("Argo CD".to_owned())] {
        let mut world = World::new(act_config(), 2, 2, 6);
        world.owner = owner.clone();
        world.run(70);
        for pod in &mut world.pods {
            pod.oom_at = Some(world.now.wall);
        }
        // A heartbeat of every agent is waited for.
        world.run(420);
        if owner.is_none() {
            assert_eq!(world.template.1, 340 * world::MI);
            assert!(all_resolved(&world), "{:#?}", world.incidents);
            let record =
                world.incidents.values().flat_map(|i| &i.status.ladder).find(|r| r.outcome == RemedyOutcome::Done);
            assert!(record.unwrap().detail.contains("170Mi"));
        } else {
            assert!(world.acts.is_empty());
            let said = world.incidents.values().flat_map(|i| &i.status.ladder).any(|r| r.detail.contains("Argo CD"));
            assert!(said, "{:#?}", world.incidents);
        }
        check::all(&world);
    }
}

#[test]
fn a_restart_at_any_step_never_evicts_twice_and_still_recovers() {
    for call in 1..=12 {
        let mut world = World::new(act_config(), 2, 2, 7);
        world.run(70);
        world.break_pod(0);
        world.processes[0].die_at_call = Some(call);
        assert!(
            world.run_until(1200, all_resolved),
            "died at call {call}: {:#?}\n{:#?}",
            world.incidents,
            world.processes.iter().map(|p| &p.log).collect::<Vec<_>>()
        );
        assert_eq!(world.evictions().len(), 1, "died at call {call}");
        check::all(&world);
    }
}

#[test]
fn budgets_outlive_a_restart() {
    let mut world = World::new(act_config(), 2, 3, 8);
    world.run(70);
    world.break_pod(0);
    assert!(world.run_until(120, |w| w.evictions().len() == 1));
    world.run(20);
    let first = world.evictions()[0].at.mono;
    world.restart(0);
    let last = world.pods.len() - 2;
    world.break_pod(last);
    assert!(world.run_until(900, |w| w.evictions().len() == 2), "{:#?}", world.processes[1].log);
    let second = world.evictions()[1].at.mono;
    assert!(second.since(first) >= world.config.remedy.shared_every.0, "{:?}", second.since(first));
    check::all(&world);
}

#[test]
fn both_rooms_agree_on_which_cause_leads_to_which_shared_remedy() {
    for &cause in nameward_messages::verdict::Cause::ALL {
        match nameward_config::settings::Remedy::default().shared_remedy(cause) {
            Some(kind) => assert!(nameward_remedy::ladder::allows(cause, kind), "{cause}: {kind}"),
            None => {
                let kinds = nameward_messages::remedy::RemedyKind::ALL;
                assert!(!kinds.into_iter().any(|kind| nameward_remedy::ladder::allows(cause, kind)), "{cause}");
            }
        }
    }
}
