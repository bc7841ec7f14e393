//! What is under way, and how a path becomes a shot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nameward_config::Config;
use nameward_messages::namespaces::{Namespace, Vantage};
use nameward_messages::probe::{Expect, Observation, PathKey, ProbeItem, Purpose, Question, QuestionKind};
use nameward_messages::targets::{TargetKind, Targets, Transport};
use nameward_messages::{Mono, NetnsCookie, Now, RequestId};

use super::{Output, ProberMind};
use crate::confirm::PROBES;
use crate::paths::{Place, Questions, fresh};
use crate::schedule::{Picked, Schedule};

/// Most items of one request; the rest is missing in its answer.
pub(super) const MOST_ITEMS: usize = 1024;
/// A job that has not ended this long after it could have is given up: its future was lost.
const GRACE: Duration = Duration::from_secs(30);

/// Names a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// Probes that are sent together.
#[derive(Clone, Debug)]
pub struct Job {
    /// Comes back with the results.
    pub id: JobId,
    /// The probes, ordered by vantage.
    pub shots: Vec<Shot>,
    /// Most of them at once.
    pub concurrency: usize,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Its path.
    pub path: PathKey,
    /// Port to ask.
    pub port: u16,
    /// What is asked.
    pub question: Arc<Question>,
    /// Where from, if not from the host.
    pub place: Option<Place>,
    /// Why, and in which shape.
    pub purpose: Purpose,
    /// How long to wait.
    pub patience: Duration,
}

impl Shot {
    fn planned(picked: &Picked<'_>, purpose: Purpose, patience: Duration, random: u64) -> Option<Self> {
        let question = fresh(picked.planned.questions.get(picked.question)?, random);
        let place = picked.planned.place.clone();
        Some(Self { path: picked.path.clone(), port: picked.planned.port, question, place, purpose, patience })
    }

    pub(super) fn round(picked: &Picked<'_>, timeout: Duration, random: u64) -> Option<Self> {
        Self::planned(picked, Purpose::Round, timeout, random)
    }

    /// Three alike; each gets a port of its own, unless what is asked is the port that is held.
    pub(super) fn confirm(picked: &Picked<'_>, timeout: Duration, mut random: impl FnMut() -> u64) -> Vec<Self> {
        (0..PROBES).filter_map(|_| Self::planned(picked, Purpose::Confirm, timeout, random())).collect()
    }
}

/// A job under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) kind: Kind,
    pub(super) began: Now,
    pub(super) overdue: Mono,
}

/// Why it was begun.
#[derive(Debug)]
pub(super) enum Kind {
    Sweep { number: u64, period: Duration },
    Confirm { paths: Vec<PathKey> },
    Request { id: RequestId },
}

impl ProberMind {
    pub(super) fn run(&mut self, now: Now, mut shots: Vec<Shot>, kind: Kind, out: &mut Vec<Output>) {
        self.next_job += 1;
        let id = JobId(self.next_job);
        let concurrency = usize::try_from(self.config.probe.concurrency).unwrap_or(usize::MAX).max(1);
        let longest = shots.iter().map(|shot| shot.patience).max().unwrap_or_default();
        let waves = u32::try_from(shots.len() / concurrency + 1).unwrap_or(u32::MAX);
        let overdue = now.mono + longest.saturating_mul(waves) + GRACE;
        self.jobs.insert(id, Running { kind, began: now, overdue });
        // Neighbours share an entry into their namespace.
        shots.sort_by(|a, b| a.path.vantage.cmp(&b.path.vantage));
        out.push(Output::Run(Job { id, shots, concurrency }));
    }

    pub(super) fn sweeping(&self) -> bool {
        self.jobs.values().any(|job| matches!(job.kind, Kind::Sweep { .. }))
    }

    /// Gives up jobs whose end never came, as if nothing had been learned.
    pub(super) fn lose_overdue(&mut self, now: Now, out: &mut Vec<Output>) {
        let lost: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.overdue <= now.mono).map(|(id, _)| *id).collect();
        for id in lost {
            self.done(now, id, Vec::<Observation>::new(), out);
        }
    }
}

/// What a request's items are resolved against.
pub(super) struct Known<'a> {
    pub(super) config: &'a Config,
    pub(super) targets: &'a Targets,
    pub(super) namespaces: &'a BTreeMap<NetnsCookie, Namespace>,
    pub(super) schedule: &'a Schedule,
    pub(super) questions: &'a Questions,
    /// For names that must be new.
    pub(super) random: u64,
}

impl Known<'_> {
    /// The shot of an item; `None` if its vantage or target is gone.
    pub(super) fn shot(&self, item: ProbeItem) -> Option<Shot> {
        let place = match &item.path.vantage {
            Vantage::Host => None,
            Vantage::Pod { uid, cookie, .. } => {
                let namespace = self.namespaces.get(cookie).filter(|namespace| namespace.pod == *uid)?;
                Some(Place { cookie: *cookie, path: namespace.path.as_path().into() })
            }
        };
        let planned = self.schedule.last(&item.path);
        if planned.is_none() && !self.exists(&item.path) {
            return None;
        }
        let question = planned
            .as_ref()
            .and_then(|one| one.planned.questions.get(one.question))
            .map_or_else(|| self.questions.for_path(&item.path), Arc::clone);
        // Asked apart, a large answer is to say whether it was cut, and a reverse one whether there is a name.
        let question = match (question.kind, &question.expect) {
            (QuestionKind::Large, Expect::Arrives) | (QuestionKind::Reverse, Expect::Settled) => {
                Arc::new(Question { expect: Expect::SomeRecord, ..Question::clone(&question) })
            }
            _ => fresh(&question, self.random),
        };
        let port = match (item.port, &planned) {
            (0, Some(one)) => one.planned.port,
            (0, None) => self.port(&item.path),
            (port, _) => port,
        };
        let patience = match item.purpose {
            Purpose::Patience => self.config.diagnosis.patience.0,
            _ => self.config.probe.timeout.0,
        };
        Some(Shot { path: item.path, port, question, place, purpose: item.purpose, patience })
    }

    /// Whether a target outside the plan is still there (a terminating CoreDNS pod is).
    fn exists(&self, path: &PathKey) -> bool {
        match &path.target.kind {
            TargetKind::Pod { uid, .. } => {
                self.targets.pods.iter().any(|pod| pod.uid == *uid && pod.ips.contains(&path.target.ip))
            }
            TargetKind::Service => {
                self.targets.service.as_ref().is_some_and(|service| service.cluster_ips.contains(&path.target.ip))
            }
            TargetKind::Nameserver | TargetKind::Upstream => true,
        }
    }

    /// The port of a target outside the plan.
    fn port(&self, path: &PathKey) -> u16 {
        let pod = match &path.target.kind {
            TargetKind::Pod { uid, .. } => self.targets.pods.iter().find(|pod| pod.uid == *uid),
            TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream => None,
        };
        let named = pod.and_then(|pod| match path.transport {
            Transport::Udp => pod.udp_port,
            Transport::Tcp => pod.tcp_port,
        });
        named.unwrap_or(53)
    }
}
