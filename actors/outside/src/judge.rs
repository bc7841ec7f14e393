//! What answers from outside mean. What is not reached is not known; only a way that a reply has proven can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nameward_messages::NodeName;
use nameward_messages::probe::{OutcomeKind, QuestionKind};
use nameward_messages::targets::Transport;
use serde::Serialize;

use crate::asking::Answer;
use crate::pods::Probe;
use crate::reach::Way;

/// One thing that was asked, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// By which way.
    pub way: Way,
    /// Where to.
    pub to: SocketAddr,
    /// How.
    pub transport: Transport,
    /// What.
    pub question: QuestionKind,
    /// What came of it.
    pub answer: Answer,
}

/// What one answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It answers, and rightly.
    Answers,
    /// It does not, though the way to it is proven.
    Fails,
    /// It is reached and does not serve who asks from here, or not by this name: nothing is learned.
    Declines,
    /// Nothing is known: not reached, or somebody else's address.
    NotReached,
}

impl State {
    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Fails => "fails",
            Self::Declines => "declines",
            Self::NotReached => "not reached",
        }
    }
}

/// What was found from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// Every way that is reached answers.
    Healthy,
    /// A way that is reached does not.
    Unhealthy,
    /// None is reached.
    NotReached,
}

/// Everything that was asked, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// One line per thing that was asked, in the order of the ways.
    pub lines: Vec<(Asked, State)>,
    /// All in all.
    pub found: Found,
}

/// Judges. `domain_known`: the cluster domain was read or stated; else a name that does not exist says nothing.
#[must_use]
pub fn judge(asked: Vec<Asked>, domain_known: bool) -> Judgement {
    let mut proven: BTreeMap<(Way, IpAddr), bool> = BTreeMap::new();
    for one in &asked {
        *proven.entry((one.way.clone(), one.to.ip())).or_default() |= proves(one);
    }
    let lines: Vec<(Asked, State)> = asked
        .into_iter()
        .map(|one| {
            let proven = proven.get(&(one.way.clone(), one.to.ip())).copied().unwrap_or(false);
            let state = state(&one, proven, domain_known);
            (one, state)
        })
        .collect();
    let any = |wanted| lines.iter().any(|(_, state)| *state == wanted);
    let found = match (any(State::Fails), any(State::Answers)) {
        (true, _) => Found::Unhealthy,
        (false, true) => Found::Healthy,
        (false, false) => Found::NotReached,
    };
    Judgement { lines, found }
}

/// Whether this answer proves that the way leads to cluster DNS.
fn proves(one: &Asked) -> bool {
    let outcome = one.answer.outcome;
    // Of an address that only pods and nodes are sure to reach, the right answer alone: it may be somebody else's here.
    if one.way.kind.published() {
        outcome.replied() && outcome != OutcomeKind::RcodeRefused
    } else {
        outcome == OutcomeKind::Answered
    }
}

fn state(one: &Asked, proven: bool, domain_known: bool) -> State {
    match one.answer.outcome {
        OutcomeKind::Answered => State::Answers,
        OutcomeKind::NotAsked => State::NotReached,
        // An access list that knows nobody outside (CoreDNS's plugin acl) says so.
        OutcomeKind::RcodeRefused if proven || one.way.kind.published() => State::Declines,
        OutcomeKind::NxDomain if !domain_known && one.question == QuestionKind::Internal => State::Declines,
        _ if proven && one.answer.failed => State::Fails,
        _ => State::NotReached,
    }
}

/// A look and probe pods together. `probes`: none were asked for, or what each said. Pods that were asked for and did not answer
/// leave open what they were to find out; those that answered count as they are.
#[must_use]
pub fn overall(look: Found, probes: Option<&[(NodeName, Probe)]>) -> Found {
    let Some(probes) = probes else { return look };
    let answers = || {
        probes
            .iter()
            .filter_map(|(_, probe)| if let Probe::Answered(answers) = probe { Some(answers) } else { None })
            .flatten()
    };
    if look == Found::Unhealthy || answers().any(|answer| answer.failed) {
        Found::Unhealthy
    } else if answers().any(|answer| answer.outcome == OutcomeKind::Answered) {
        Found::Healthy
    } else {
        Found::NotReached
    }
}

/// What a process that looks again and again has told last.
#[derive(Clone, Debug, Default)]
pub struct Told {
    last: Option<(Found, BTreeSet<String>)>,
}

impl Told {
    /// One line, if something changed.
    pub fn news(&mut self, judgement: &Judgement) -> Option<String> {
        let of = |wanted: State| judgement.lines.iter().filter(move |(_, state)| *state == wanted);
        let failing: BTreeSet<String> =
            of(State::Fails).map(|(asked, _)| format!("{} over {}", asked.way, asked.transport)).collect();
        let now = (judgement.found, failing);
        if self.last.as_ref() == Some(&now) {
            return None;
        }
        let line = match judgement.found {
            Found::Healthy => format!("cluster DNS answers from outside: {} questions", of(State::Answers).count()),
            Found::NotReached => {
                "cluster DNS is not reached from outside: how it is cannot be said from here".to_owned()
            }
            Found::Unhealthy => {
                let named: Vec<&str> = now.1.iter().take(8).map(String::as_str).collect();
                format!("cluster DNS does not answer from outside: {}", named.join(", "))
            }
        };
        self.last = Some(now);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::reach::{Host, WayKind};

    use Found::{Healthy, NotReached, Unhealthy};
    use OutcomeKind::{Answered, NxDomain, RcodeRefused, Refused, ServFail, Timeout, WrongAnswer};
    use Transport::{Tcp, Udp};

    fn asked(kind: WayKind, transport: Transport, outcome: OutcomeKind) -> Asked {
        let ip = "198.51.100.9".parse().unwrap();
        let way = Way { kind, of: "x".into(), node: None, host: Host::Address(ip), udp: Some(53), tcp: Some(53) };
        let answer = Answer { outcome, latency_us: 1, failed: outcome != Answered && outcome != OutcomeKind::NotAsked };
        Asked { way, to: SocketAddr::new(ip, 53), transport, question: QuestionKind::Internal, answer }
    }

    #[test]
    fn a_table_of_looks_from_outside() {
        use WayKind::{LoadBalancer as Lb, Pod};
        for (what, asks, known, wanted) in [
            ("all is well", vec![(Lb, Udp, Answered), (Lb, Tcp, Answered)], true, Healthy),
            ("nothing was asked", vec![], true, NotReached),
            ("a firewall is silent", vec![(Lb, Udp, Timeout), (Lb, Tcp, Timeout)], true, NotReached),
            ("a firewall refuses", vec![(Lb, Udp, Refused), (Lb, Tcp, Refused)], true, NotReached),
            ("deaf on UDP", vec![(Lb, Udp, Timeout), (Lb, Tcp, Answered)], true, Unhealthy),
            (
                "a balancer accepts for nobody",
                vec![(Lb, Udp, Timeout), (Lb, Tcp, OutcomeKind::ConnectedOnly)],
                true,
                NotReached,
            ),
            ("it replies with a failure", vec![(Lb, Udp, ServFail)], true, Unhealthy),
            ("it replies wrongly", vec![(Lb, Udp, WrongAnswer)], true, Unhealthy),
            ("an access list", vec![(Lb, Udp, RcodeRefused), (Lb, Tcp, RcodeRefused)], true, NotReached),
            ("a domain that was assumed", vec![(Lb, Udp, NxDomain)], false, NotReached),
            ("a domain that was read", vec![(Lb, Udp, NxDomain)], true, Unhealthy),
            ("a pod that is routed", vec![(Pod, Udp, Answered), (Pod, Tcp, Answered)], true, Healthy),
            ("a pod that is not", vec![(Pod, Udp, Timeout), (Pod, Tcp, Timeout)], true, NotReached),
            ("somebody else has a pod's address", vec![(Pod, Udp, NxDomain), (Pod, Tcp, Refused)], true, NotReached),
            ("a pod that is deaf on UDP", vec![(Pod, Udp, Timeout), (Pod, Tcp, Answered)], true, Unhealthy),
            ("one is well, one is not reached", vec![(Lb, Udp, Answered), (Pod, Udp, Timeout)], true, Healthy),
            ("nothing could be asked", vec![(Lb, Udp, OutcomeKind::NotAsked)], true, NotReached),
        ] {
            let asks: Vec<(WayKind, Transport, OutcomeKind)> = asks;
            let asks = asks.into_iter().map(|(kind, transport, outcome)| asked(kind, transport, outcome)).collect();
            assert_eq!(judge(asks, known).found, wanted, "{what}");
        }
    }

    #[test]
    fn a_table_of_looks_with_probe_pods() {
        let answer = |outcome, failed| Answer { outcome, latency_us: 1, failed };
        let good = Probe::Answered(vec![answer(Answered, false)]);
        let bad = Probe::Answered(vec![answer(Answered, false), answer(Timeout, true)]);
        let blind = Probe::Answered(vec![answer(OutcomeKind::NotAsked, false)]);
        let never = Probe::Failed("ErrImagePull".into());
        for (what, look, probes, wanted) in [
            ("none were asked for", NotReached, None, NotReached),
            ("they answer", NotReached, Some(vec![good.clone()]), Healthy),
            ("one fails", Healthy, Some(vec![good.clone(), bad]), Unhealthy),
            ("outside fails", Unhealthy, Some(vec![good.clone()]), Unhealthy),
            ("none was started", Healthy, Some(vec![never.clone()]), NotReached),
            ("one was started", NotReached, Some(vec![never, good]), Healthy),
            ("one could ask nothing", NotReached, Some(vec![blind]), NotReached),
        ] {
            let probes: Option<Vec<(NodeName, Probe)>> =
                probes.map(|all: Vec<Probe>| all.into_iter().map(|p| ("n".into(), p)).collect());
            assert_eq!(overall(look, probes.as_deref()), wanted, "{what}");
        }
    }

    #[test]
    fn only_changes_are_told() {
        use WayKind::LoadBalancer as Lb;
        let look = |udp| judge(vec![asked(Lb, Udp, udp), asked(Lb, Tcp, Answered)], true);
        let mut told = Told::default();
        assert!(told.news(&look(Answered)).unwrap().contains("answers from outside: 2 questions"));
        assert_eq!(told.news(&look(Answered)), None);
        assert!(told.news(&look(Timeout)).unwrap().contains("load balancer x over udp"));
        assert_eq!(told.news(&look(Timeout)), None);
        assert!(told.news(&look(Answered)).is_some());
    }
}
