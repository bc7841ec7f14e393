//! When the mind has a probe traced, and when it may not.

use nameward_kernel::trace::Followed;
use nameward_messages::cluster_view::KillSwitch;

use super::*;
use crate::mind::WantTrace;

/// A rule that is not understood, whose counter stands at `packets`, and a client whose queries are lost.
fn doubtful(packets: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        let rules = crate::testing::iptables_rules();
        let first = rules.lines().position(|line| line.contains("-A FORWARD")).unwrap();
        let mut lines: Vec<&str> = rules.lines().collect();
        let rule = format!("[{packets}:0] -A FORWARD -p udp -m set --match-set blocked src -j DROP");
        lines.insert(first, &rule);
        let text = lines.join("\n");
        sample.host.netfilter.iptables_nft = crate::testing::parsed(&text);
    }
}

fn client_to_a() -> PathKey {
    PathKey { vantage: crate::testing::pod_vantage(CLIENT), ..host_to_a() }
}

/// Lets ten seconds pass and says what was to be traced; each trace comes back at once with `followed`.
fn traced(settings: Settings, switch: Option<KillSwitch>, followed: Option<&Followed>) -> Vec<WantTrace> {
    let mut play = Play::new();
    play.tell(Input::Configure(settings));
    if let Some(switch) = switch {
        play.tell(Input::KillSwitch(switch));
    }
    play.suspect(&client_to_a(), &Outcome::Timeout);
    for step in 0..100 {
        play.answer(doubtful(step));
        if let (Some(followed), Some(last)) = (followed, play.traced.last().map(|want| want.id)) {
            play.tell(Input::Traced { id: last, followed: Some(Box::new(followed.clone())) });
        }
        play.pass(100);
    }
    play.traced
}

#[test]
fn a_probe_is_traced_twice_and_only_if_it_is_allowed() {
    let on = Settings { trace: true, ..settings() };
    let told = Followed { events: 7, ..Followed::default() };
    let twice = traced(on.clone(), Some(KillSwitch::Off), Some(&told));
    assert_eq!(twice.len(), 2, "{twice:#?}");
    assert_ne!(twice[0].id, twice[1].id);
    assert_eq!(twice[0].to, "10.244.1.51:53".parse().unwrap());
    assert_eq!((twice[0].at.as_ref(), twice[0].from.is_some()), (None, true));
    assert_eq!(twice[0].question.name, "kubernetes.default.svc.cluster.local.");
    // Off by default, not before the kill switch is known, and not while it is thrown.
    assert_eq!(traced(settings(), Some(KillSwitch::Off), Some(&told)), []);
    assert_eq!(traced(on.clone(), None, Some(&told)), []);
    assert_eq!(traced(on.clone(), Some(KillSwitch::On), Some(&told)), []);
    let unreadable = KillSwitch::UnreadableSince(nameward_messages::Mono::default());
    assert_eq!(traced(on.clone(), Some(unreadable), Some(&told)), []);
    // One at a time: a trace that never comes back is given up after five seconds.
    assert_eq!(traced(on, Some(KillSwitch::Off), None).len(), 2);
}
