//! What a kubelet leaves of a CoreDNS pod that it evicted is an object and no pod.

use super::shared::{MI, acting, answer, end, plans, pod};
use super::*;

use nameward_messages::plan::PlanEnd;
use nameward_messages::workload::CorednsPodState;

/// The object, under the name `left`, of node1, with a kill for want of memory a moment ago.
fn left(rig: &mut Rig, phase: &str) {
    let mut left = DnsPodView { phase: phase.into(), ready: false, ..pod("left", "node1", Some(170 * MI)) };
    left.containers[0].oom_killed_at = Some(rig.now.wall);
    rig.view.coredns.push(CorednsPodState {
        pod: left.uid.clone(),
        key: left.key.clone(),
        node: left.node.clone(),
        phase: phase.into(),
        ready: false,
        terminating: false,
        created_at: Some(Now::at(Duration::from_secs(1)).wall),
        container: "coredns".into(),
        restarts: 0,
        running_since: None,
        waiting: None,
        ended: None,
        held_up: None,
    });
    rig.view.pods.insert(0, left);
}

#[test]
fn it_is_nobodys_fault_and_counts_in_no_floor_and_no_majority() {
    for (phase, counts) in [("Failed", false), ("Succeeded", false), ("Pending", true)] {
        let mut rig = acting();
        left(&mut rig, phase);
        rig.pass(120);
        assert_eq!(rig.view.incidents.is_empty(), !counts, "{phase}: {:?}", rig.phases());
        if counts {
            continue;
        }
        // One of the two that run goes deaf: it is evicted as if nothing lay beside it.
        rig.claim(1, Cause::CorednsUdpDead, &Subject::pod(&ObjectKey::new("kube-system", "a"), &"a".into()));
        rig.pass(35);
        let known: Vec<DnsPodView> = rig.view.pods.clone();
        rig.view.pods.retain(|pod| pod.uid.as_str() != "left");
        answer(&mut rig, &["a"]);
        rig.view.pods = known;
        rig.pass(2);
        assert_eq!(plans(&rig).len(), 1, "{phase}: {:?}", rig.view.incidents[0].status.ladder);
        // The nodes never say anything of what is left, and it is verified without.
        end(&mut rig, PlanEnd::Done);
        rig.view.pods.retain(|pod| pod.uid.as_str() != "a");
        rig.view.pods.push(pod("c", "node1", Some(170 * MI)));
        rig.report(1, |r| r.verdicts.clear());
        for _ in 0..60 {
            let known: Vec<DnsPodView> = rig.view.pods.clone();
            rig.view.pods.retain(|pod| pod.uid.as_str() != "left");
            answer(&mut rig, &[]);
            rig.view.pods = known;
            rig.pass(2);
        }
        let incident = &rig.view.incidents[0];
        assert_eq!(incident.status.phase, IncidentPhase::Resolved, "{phase}: {:?}", incident.status);
        assert_eq!(rig.view.incidents.len(), 1, "{phase}: {:?}", rig.phases());
    }
}

#[test]
fn an_intent_that_an_old_view_shows_beyond_its_end_is_not_waited_for() {
    let mut rig = acting();
    let subject = Subject::pod(&ObjectKey::new("kube-system", "a"), &"a".into());
    rig.claim(1, Cause::CorednsUdpDead, &subject);
    rig.pass(35);
    answer(&mut rig, &["a"]);
    rig.pass(2);
    assert_eq!(plans(&rig).len(), 1);
    // The executor writes its intent, and refuses; what it writes then is not seen, since the watch cache stands still.
    let intent = nameward_messages::plan::Intent {
        kind: RemedyKind::EvictPod,
        subject,
        target: None,
        by: "me".into(),
        resource_version: "1".into(),
        from: None,
        to: None,
        at: rig.now.wall,
    };
    rig.view.incidents[0].status.intent = Some(intent);
    rig.pass(1);
    end(&mut rig, PlanEnd::Refused);
    rig.pass(8);
    assert!(rig.view.incidents[0].status.intent.is_some());
    // It goes on: the pod was replaced by hand, and the intent is long gone.
    rig.view.incidents[0].status.intent = None;
    rig.view.pods[0] = pod("c", "node1", Some(170 * MI));
    rig.report(1, |r| r.verdicts.clear());
    rig.pass(20);
    assert_eq!(rig.phases(), [(Cause::CorednsUdpDead, IncidentPhase::Resolved)]);
}
