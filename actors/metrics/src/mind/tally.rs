//! Counts the observations of a round or of an answer.

use std::collections::BTreeMap;

use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::{Observation, OutcomeKind};
use nameward_messages::targets::Transport;

use super::{Labels, Output, count};
use crate::names::Metric;

/// Host or pod, kind of target, transport.
type Way = (VantageKind, &'static str, Transport);

#[derive(Debug, Default)]
pub(super) struct Tally {
    outcomes: BTreeMap<(Way, OutcomeKind), u64>,
    durations: BTreeMap<Way, Vec<f64>>,
    replies: Vec<f64>,
    asked: u64,
    failed: u64,
}

impl Tally {
    pub(super) fn of(observations: &[Observation]) -> Self {
        let mut tally = Self::default();
        for observation in observations {
            tally.add(observation);
        }
        tally
    }

    fn add(&mut self, observation: &Observation) {
        let path = &observation.path;
        let way = (path.vantage.kind(), path.target.kind.label(), path.transport);
        *self.outcomes.entry((way, observation.outcome.kind())).or_default() += 1;
        // What was not asked has no duration and is no failure of DNS.
        let Some(good) = observation.outcome.good() else { return };
        let seconds = observation.latency.as_secs_f64();
        self.durations.entry(way).or_default().push(seconds);
        self.asked += 1;
        if !good {
            self.failed += 1;
        }
        if observation.outcome.replied() {
            self.replies.push(seconds);
        }
    }

    pub(super) fn report(self, out: &mut Vec<Output>) {
        for ((way, outcome), by) in self.outcomes {
            let mut labels = labels(way);
            labels.push(outcome.label().into());
            out.push(Output::Add { metric: Metric::Probes, labels, by });
        }
        for (way, seconds) in self.durations {
            out.push(Output::Observe { metric: Metric::ProbeDuration, labels: labels(way), seconds });
        }
        out.push(count(Metric::DnsQueryCount, [], self.asked));
        out.push(count(Metric::TotalFailures, [], self.failed));
        out.push(Output::Observe { metric: Metric::DnsQueryResponseTime, labels: Vec::new(), seconds: self.replies });
    }
}

fn labels((vantage, target, transport): Way) -> Labels {
    vec![vantage_label(vantage).into(), target.into(), transport_label(transport).into()]
}

pub(super) fn vantage_label(vantage: VantageKind) -> &'static str {
    match vantage {
        VantageKind::Host => "host",
        VantageKind::Pod => "pod",
    }
}

pub(super) fn transport_label(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}
