//! What must happen for a missing guard to show.

use std::time::Duration;

use nameward_messages::verdict::Cause;

use crate::fault::Fault;
use crate::sabotage::Sabotage;
use crate::spec::Spec;
use crate::truth::MI;

const DEAD: Cause = Cause::CorednsUdpDead;

/// Makes a history in which the guard that is taken away is needed.
pub(super) fn provoke(spec: &mut Spec, rng: &mut fastrand::Rng) {
    let nodes = spec.nodes;
    // A pod that falls sick at 120 s is acted on at about 170 s.
    let about = |rng: &mut fastrand::Rng| rng.u64(155..185);
    let mut faults: Vec<(u64, Fault)> = match spec.sabotage {
        // What is taken away in a named scenario alone.
        Sabotage::None | Sabotage::EveryNodesTurn => return,
        Sabotage::OneSickNode => {
            (0..nodes / 2 + 1).map(|n| (120, Fault::NodeSick(n, Cause::ForwardPolicyDrop))).collect()
        }
        Sabotage::AllOthersGood => vec![(120, Fault::AllPodsSick(DEAD))],
        Sabotage::MoreReady => vec![(119, Fault::PodUnready(2))],
        Sabotage::FreshReports => (0..nodes * 3 / 8).map(|n| (30, Fault::AgentSilent(n))).collect(),
        Sabotage::AllVouch => (0..nodes * 3 / 4).map(|n| (110, Fault::AgentUnwell(n, true))).collect(),
        Sabotage::AloneInTheWorld => {
            let crash = Fault::CrashLeader(Duration::from_secs(3));
            vec![(119, Fault::PodSick(1, DEAD)), (about(rng) + 8, crash)]
        }
        Sabotage::EternalLease => Vec::new(),
        Sabotage::NoBudget => {
            spec.config.remedy.shared_every.0 = Duration::from_secs(3600);
            vec![(121, Fault::PodSick(1, DEAD)), (122, Fault::PodSick(2, DEAD))]
        }
        Sabotage::NoCoolDown => vec![(10, Fault::PodSick(1, DEAD))],
        Sabotage::NoBreaker => vec![(120, Fault::Contagion(true)), (120, Fault::Relapse(Some(DEAD)))],
        Sabotage::OldViewLooksNew => {
            let blind = (0..spec.coordinators).map(|p| (205, Fault::BreakWatch(p, Duration::from_secs(600))));
            blind.chain([(165, Fault::Needs(300 * MI))]).collect()
        }
        Sabotage::JournalUnread => {
            // Every job of a repair may be the agent's last.
            spec.job_deaths = 400;
            vec![(120, Fault::NodeSick(rng.usize(0..nodes), Cause::IpForwardOff))]
        }
        Sabotage::NoJournal => vec![(120, Fault::NodeSick(rng.usize(0..nodes), Cause::IpForwardOff))],
        Sabotage::NoOwnerNoCap => {
            spec.memory_owner = Some("argocd-controller".to_owned());
            vec![(120, Fault::Needs(300 * MI))]
        }
        Sabotage::NoKillSwitch => vec![(110, Fault::Policy(true))],
        Sabotage::NobodyIsCalled => vec![(120, Fault::Corefile(true))],
        Sabotage::FewNodes | Sabotage::NoPreconditions | Sabotage::ActsAgain | Sabotage::WrongPod => Vec::new(),
        // Each has a history of its own.
        Sabotage::AgentsSeeNoSwitch | Sabotage::PermitsForYears => Vec::new(),
    };
    match spec.sabotage {
        Sabotage::FreshReports => faults.push((860, Fault::PodSick(0, DEAD))),
        Sabotage::OneSickNode
        | Sabotage::NoOwnerNoCap
        | Sabotage::NobodyIsCalled
        | Sabotage::NoJournal
        | Sabotage::JournalUnread => {}
        _ => faults.push((120, Fault::PodSick(0, DEAD))),
    }
    // Nothing else happens, but for a little bad luck.
    spec.budgets = usize::from(spec.sabotage != Sabotage::MoreReady);
    spec.faults = faults.into_iter().map(|(at, fault)| (Duration::from_secs(at), fault)).collect();
    spec.faults.sort_by_key(|(at, _)| *at);
    let calm = Duration::from_secs(1100);
    spec.faults.push((calm, Fault::Calm));
    spec.long = calm + Duration::from_secs(1500);
}
