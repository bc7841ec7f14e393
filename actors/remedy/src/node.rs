//! The mind of the node remedy: in this release it changes nothing. For a verdict that has stood for long enough and
//! whose ladder has a node repair, it tells what that repair would be, with the exact command.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use nameward_config::Config;
use nameward_messages::PodUid;
use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::namespaces::{Namespace, NamespaceChanged};
use nameward_messages::plan::Permit;
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::report::NodeOrders;
use nameward_messages::time::{Mono, Now};
use nameward_messages::verdict::{Cause, DiagnosisTells, Subject, Verdict, VerdictKey};

use crate::ladder::node_remedy;

/// What the mind is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// What diagnosis concludes.
    Diagnosis(DiagnosisTells),
    /// This node's orders, with the permit.
    Orders(NodeOrders),
    /// Namespaces, for the exact command.
    Namespace(NamespaceChanged),
    /// The kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// Whether the local file [`crate::pause::PAUSE_FILE`] is there.
    PausedHere(bool),
    /// New settings.
    Configure(Arc<Config>),
    /// The deadline passed.
    Tick,
}

/// What the mind wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the reporter, metrics and people.
    Tell(RemedyRecord),
}

/// The node remedy's mind.
#[derive(Debug)]
pub struct NodeMind {
    config: Arc<Config>,
    /// The permit and when its serial was first seen.
    permit: Option<(Permit, Mono)>,
    switch: KillSwitch,
    paused_here: bool,
    namespaces: BTreeMap<PodUid, Namespace>,
    standing: BTreeMap<VerdictKey, Standing>,
}

#[derive(Debug)]
struct Standing {
    verdict: Verdict,
    told: Option<RemedyOutcome>,
    /// The reason that was told, without the command.
    reason: String,
}

/// Verdicts of one node; diagnosis reports fewer.
const MOST: usize = 256;

impl NodeMind {
    /// A mind that knows nothing yet.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            permit: None,
            switch: KillSwitch::Off,
            paused_here: false,
            namespaces: BTreeMap::new(),
            standing: BTreeMap::new(),
        }
    }

    /// When [`Input::Tick`] is due: when the next verdict has stood for long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let wait = self.config.remedy.wait.0;
        let considered = |cause| node_remedy(cause).is_some_and(|kind| self.config.remedy.mode_of(kind) != Mode::Off);
        self.standing
            .values()
            .filter(|s| s.told.is_none() && considered(s.verdict.cause))
            .map(|s| s.verdict.since.mono + wait)
            .min()
    }

    /// Takes one input.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Diagnosis(DiagnosisTells::Stands(verdict)) => self.stands(verdict),
            Input::Diagnosis(DiagnosisTells::Ended { key, .. }) => {
                self.standing.remove(&key);
            }
            Input::Diagnosis(
                DiagnosisTells::Deferred(_)
                | DiagnosisTells::Examined(_)
                | DiagnosisTells::Matrix(_)
                | DiagnosisTells::Unmodelled(_)
                | DiagnosisTells::Recovered(_),
            )
            | Input::Tick => {}
            Input::Orders(orders) => {
                self.permit = match (orders.permit, self.permit.take()) {
                    (Some(new), Some((old, since))) if new.serial == old.serial => Some((new, since)),
                    (Some(new), _) => Some((new, now.mono)),
                    (None, _) => None,
                };
            }
            Input::Namespace(NamespaceChanged::Found(ns)) => {
                self.namespaces.insert(ns.pod.clone(), ns);
            }
            Input::Namespace(NamespaceChanged::Gone { pod, cookie }) => {
                if self.namespaces.get(&pod).is_some_and(|ns| ns.cookie == cookie) {
                    self.namespaces.remove(&pod);
                }
            }
            Input::KillSwitch(switch) => self.switch = switch,
            Input::PausedHere(paused) => self.paused_here = paused,
            Input::Configure(config) => self.config = config,
        }
        self.judge(now, out);
    }

    fn stands(&mut self, verdict: Verdict) {
        let key = verdict.key();
        if let Some(known) = self.standing.get_mut(&key) {
            known.verdict = verdict;
        } else if self.standing.len() < MOST {
            self.standing.insert(key, Standing { verdict, told: None, reason: String::new() });
        }
    }

    fn judge(&mut self, now: Now, out: &mut Vec<Output>) {
        let permitted = self
            .permit
            .as_ref()
            .is_some_and(|(permit, since)| now.mono.since(*since).as_secs() < u64::from(permit.valid_s));
        let halted = self.paused_here || !self.switch.allows(now.mono);
        let settings = &self.config.remedy;
        for standing in self.standing.values_mut() {
            let verdict = &standing.verdict;
            let Some(kind) = node_remedy(verdict.cause) else { continue };
            let mode = settings.mode_of(kind);
            if mode == Mode::Off || now.mono.since(verdict.since.mono) < settings.wait.0 {
                continue;
            }
            let (outcome, reason) = if mode == Mode::Act {
                (RemedyOutcome::Refused, "not in this release: node remedies observe")
            } else if halted {
                (RemedyOutcome::Refused, "the kill switch stops every change")
            } else if !permitted {
                (RemedyOutcome::Refused, "no permit")
            } else {
                (RemedyOutcome::WouldAct, "would")
            };
            if standing.told == Some(outcome) && standing.reason == reason {
                continue;
            }
            standing.told = Some(outcome);
            reason.clone_into(&mut standing.reason);
            let namespace = verdict.subject.uid.as_ref().and_then(|uid| self.namespaces.get(uid));
            let command = command(verdict.cause, &verdict.subject, namespace);
            let detail = match outcome {
                RemedyOutcome::WouldAct => format!("would run: {command}"),
                _ => format!("{reason}; by hand: {command}"),
            };
            out.push(Output::Tell(record(kind, &verdict.subject, mode, outcome, detail, now.wall)));
        }
    }
}

fn record(
    kind: RemedyKind,
    subject: &Subject,
    mode: Mode,
    outcome: RemedyOutcome,
    detail: String,
    at: Timestamp,
) -> RemedyRecord {
    RemedyRecord { kind, subject: subject.clone(), mode, outcome, detail, at }
}

/// The exact command of a node repair; what is not known stands in angle brackets.
fn command(cause: Cause, subject: &Subject, namespace: Option<&Namespace>) -> String {
    let path = namespace.map_or_else(|| "<its network namespace>".to_owned(), |ns| ns.path.display().to_string());
    let gateway = namespace
        .and_then(|ns| ns.gateway)
        .map_or_else(|| "<the node's bridge address>".to_owned(), |gateway| gateway.to_string());
    let veth = namespace.and_then(|ns| ns.host_veth.as_deref()).unwrap_or("<host end of its veth>");
    let bridge = namespace.and_then(|ns| ns.bridge.as_deref()).unwrap_or("<bridge>");
    match cause {
        Cause::PodRouteMissing => format!("nsenter --net={path} ip route add default via {gateway} dev eth0"),
        Cause::VethOffBridge => format!("ip link set dev {veth} master {bridge}"),
        other => other.command_for(subject, None),
    }
}

#[cfg(test)]
mod tests;
