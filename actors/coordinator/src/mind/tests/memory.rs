//! Kills for want of memory, and clocks.

use nameward_messages::remedy::Mode;

use super::shared::{MI, acting, key, plans, workload};
use super::*;

#[test]
fn kills_since_the_last_raise_count_however_far_the_clocks_of_the_machines_are_apart() {
    let mut rig = acting();
    let killed = |rig: &mut Rig, pod: usize, limit| {
        rig.view.pods[pod].containers[0].memory_limit = Some(limit);
        rig.view.pods[pod].containers[0].oom_killed_at = Some(rig.now.wall);
    };
    rig.pass(60);
    killed(&mut rig, 0, 170 * MI);
    rig.pass(40);
    assert_eq!(plans(&rig).len(), 1);
    // Raised by a coordinator whose clock is ten minutes ahead of the kubelet's.
    let record = RemedyRecord {
        kind: RemedyKind::RaiseMemory,
        subject: Subject::object(SubjectKind::Deployment, &key("coredns")),
        mode: Mode::Act,
        outcome: RemedyOutcome::Done,
        detail: "raised".into(),
        at: rig.now.wall + Duration::from_secs(600),
    };
    rig.view.incidents[0].status.ladder.push(record);
    rig.view.incidents[0].status.phase = IncidentPhase::Resolved;
    rig.view.workload = Some(workload(340 * MI));
    rig.mind = CoordinatorMind::new(Arc::clone(&rig.mind.config));
    rig.tell(Input::KillSwitch(KillSwitch::Off));
    rig.pass(30);
    (1..=rig.view.agents.len()).for_each(|n| rig.report(n, |_| {}));
    // This one may be of the time before the raise.
    killed(&mut rig, 0, 340 * MI);
    rig.pass(100);
    assert_eq!(plans(&rig).len(), 1);
    // This one cannot be.
    killed(&mut rig, 1, 340 * MI);
    rig.pass(40);
    assert_eq!(plans(&rig).len(), 2);
}
