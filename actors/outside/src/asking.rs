//! What is asked, in a form that fits into a pod's arguments, and what came of it, in a form that fits into its last words.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::probe::{Expect, OutcomeKind, QueryType, Question, QuestionKind};
use nameward_messages::targets::Transport;
use serde::{Deserialize, Serialize};

/// Most questions of one plan: their answers must fit into the 4096 octets that the kubelet keeps of a pod's last words.
pub const MOST_ASKS: usize = 96;
/// Most names of one plan.
const MOST_NAMES: usize = 8;
/// Longest patience with one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// Fresh asks after a failure; two of them must fail.
pub const CONFIRM: usize = 3;
/// Longest time that a whole plan may take: a first ask and its confirmations, each with the longest patience.
pub const BOUND: Duration = Duration::from_secs(30);

/// What to ask, whom, and for how long to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Patience with one question, milliseconds.
    pub timeout_ms: u32,
    /// Wait between a failure and its confirmation, milliseconds.
    pub confirm_after_ms: u32,
    /// The questions.
    pub questions: Vec<Question>,
    /// Whom, how, and which of the questions.
    pub asks: Vec<(SocketAddr, Transport, u8)>,
}

/// What is wrong with a plan that was given as text.
#[derive(Debug, thiserror::Error)]
pub enum BadPlan {
    /// It cannot be read.
    #[error("the plan cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// It asks for too much.
    #[error("the plan has {asks} asks and {names} names; at most {MOST_ASKS} and {MOST_NAMES} are taken")]
    TooMuch {
        /// Asks.
        asks: usize,
        /// Names.
        names: usize,
    },
    /// An ask names a question that is not there.
    #[error("the plan names question {0}, which it does not hold")]
    NoQuestion(u8),
}

impl Plan {
    /// With the patience of the settings, and nothing to ask yet.
    #[must_use]
    pub fn new(config: &Config, questions: Vec<Question>) -> Self {
        let ms = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        Self {
            timeout_ms: ms(config.probe.timeout.0),
            confirm_after_ms: ms(config.probe.confirm_after.0),
            questions,
            asks: Vec::new(),
        }
    }

    /// Reads what [`Plan::spelled`] wrote.
    ///
    /// # Errors
    /// It is no plan, or one that asks for more than is taken.
    pub fn parse(text: &str) -> Result<Self, BadPlan> {
        let plan: Self = serde_json::from_str(text).map_err(BadPlan::Unreadable)?;
        let (asks, names) = (plan.asks.len(), plan.questions.len());
        if asks > MOST_ASKS || names > MOST_NAMES {
            return Err(BadPlan::TooMuch { asks, names });
        }
        match plan.asks.iter().find(|(_, _, question)| usize::from(*question) >= names) {
            Some((_, _, question)) => Err(BadPlan::NoQuestion(*question)),
            None => Ok(plan),
        }
    }

    /// As one line of text.
    #[must_use]
    pub fn spelled(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Asks every question of this address. `false`: the plan is full.
    pub fn add(&mut self, to: SocketAddr, transport: Transport) -> bool {
        if self.asks.len() + self.questions.len() > MOST_ASKS {
            return false;
        }
        self.asks.extend((0..self.questions.len()).filter_map(|n| Some((to, transport, u8::try_from(n).ok()?))));
        true
    }

    /// Patience with one question, bounded.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.timeout_ms)).clamp(Duration::from_millis(50), PATIENCE)
    }

    /// Wait before a confirmation, bounded.
    #[must_use]
    pub fn confirm_after(&self) -> Duration {
        Duration::from_millis(u64::from(self.confirm_after_ms)).min(PATIENCE)
    }
}

/// What came of one ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The outcome.
    pub outcome: OutcomeKind,
    /// Microseconds.
    pub latency_us: u32,
    /// It failed, and at least two of three fresh asks after it.
    pub failed: bool,
}

/// What came of every ask of a plan, in its order. Spelled short: `[["answered",812,false],…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// In the order of the plan.
    pub answers: Vec<(OutcomeKind, u32, bool)>,
}

impl Answers {
    /// From what came of the asks.
    #[must_use]
    pub fn of(all: &[Answer]) -> Self {
        Self { answers: all.iter().map(|a| (a.outcome, a.latency_us, a.failed)).collect() }
    }

    /// Reads them back, if there is one for each of `asks`.
    #[must_use]
    pub fn parse(text: &str, asks: usize) -> Option<Vec<Answer>> {
        let read: Self = serde_json::from_str(text.trim()).ok()?;
        let answers =
            read.answers.into_iter().map(|(outcome, latency_us, failed)| Answer { outcome, latency_us, failed });
        Some(answers.collect::<Vec<_>>()).filter(|all| all.len() == asks)
    }
}

/// The questions of a look: the cluster's own name, and a name outside if one is configured.
///
/// `known`: the cluster addresses of `default/kubernetes`; empty if they could not be read, then any address is right.
#[must_use]
pub fn questions(config: &Config, domain: &str, known: &[IpAddr]) -> Vec<Question> {
    let v4 = known.is_empty() || known.iter().any(IpAddr::is_ipv4);
    let qtype = if v4 { QueryType::A } else { QueryType::Aaaa };
    let right: Vec<IpAddr> = known.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect();
    let expect = if right.is_empty() { Expect::SomeAddress } else { Expect::Addresses(right) };
    let name = format!("kubernetes.default.svc.{domain}.");
    let mut all = vec![Question { kind: QuestionKind::Internal, name, qtype, expect }];
    if !config.probe.external_name.is_empty() {
        let name = config.probe.external_name.clone();
        all.push(Question { kind: QuestionKind::External, name, qtype, expect: Expect::SomeAddress });
    }
    all
}

/// The cluster domain by a Corefile: the first zone of the plugin `kubernetes` that is no reverse zone.
#[must_use]
pub fn domain_of(corefile: &str) -> Option<String> {
    let zones = corefile.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut zones =
        zones.map(str::split_whitespace).filter_map(|mut words| (words.next() == Some("kubernetes")).then_some(words));
    let first = zones.next()?.find(|zone| *zone != "{" && !zone.trim_end_matches('.').ends_with(".arpa"))?;
    let domain = first.trim_end_matches('.').to_ascii_lowercase();
    let good = domain.contains('.') && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    (good && domain.len() <= 253).then_some(domain)
}

#[cfg(test)]
mod tests;
