//! What an act finds when it reaches the API server: I4, I7, I9, I10, I11, I13, I17, I18.

use std::time::Duration;

use nameward_messages::plan::IncidentPhase;
use nameward_messages::{Mono, ObjectKey, PodUid};
use nameward_remedy::shared::call::{ApiCall, CallResult, Reply};

use super::{Act, Done, Invariant, Kind};
use crate::world::World;

/// A request that arrives later than this after it was sent was given up on: what it rested on may have been taken back.
const LATE: Duration = Duration::from_secs(5);
/// A view may be this old when something is decided by it.
const VIEW: Duration = Duration::from_secs(5);
/// For the steps between an intent and its act.
const STEPS: Duration = Duration::from_secs(60);
/// A pod that is missed for a shorter time need not show in any view; a template's rollout shows by its pods afterwards.
const SHOWN: Duration = Duration::from_secs(6);
/// The breaker after an act that made things worse.
const BREAKER: Duration = Duration::from_secs(600);

impl World {
    /// A request on CoreDNS is at the API server; `holds`: it will be carried out.
    pub(crate) fn check_act(&mut self, p: usize, call: &ApiCall, act: &Act, holds: bool) {
        match call {
            ApiCall::Evict { pod, uid, resource_version, dry_run } => {
                if self.api.strangers.iter().any(|stranger| stranger.key == *pod) {
                    self.violate(Invariant::I18, format!("{pod} is no CoreDNS pod"));
                }
                if *dry_run {
                    return;
                }
                self.check_repeated(p, act, uid.as_str(), &pod.name);
                if !holds {
                    return;
                }
                self.check_target(act, uid, resource_version);
                self.check_evidence(p, act, uid);
                self.check_floor(p, uid);
                self.check_slot(p, act, Kind::Evict);
            }
            ApiCall::PatchMemory { workload, to, resource_version, dry_run, .. } => {
                self.check_workload(workload);
                let (from, owned) = (self.api.workload.limit, self.api.workload.memory_owner.is_some());
                self.check_memory(from, *to, owned);
                if *dry_run {
                    return;
                }
                self.check_repeated(p, act, &format!("memory {to}"), "");
                if !holds {
                    return;
                }
                if resource_version.is_empty() {
                    self.violate(Invariant::I9, "a limit is written without a precondition".to_owned());
                }
                let expected = self.expected();
                self.check_quorum(p, act, expected);
                self.check_slot(p, act, Kind::Memory);
            }
            ApiCall::Scale { workload, to, resource_version, dry_run, .. } => {
                self.check_workload(workload);
                if self.api.workload.replicas_owner.is_some() {
                    self.violate(Invariant::I17, format!("{to} replicas are written where another owns their number"));
                }
                if *dry_run || !holds {
                    return;
                }
                if resource_version.is_empty() {
                    self.violate(Invariant::I9, "replicas are written without a precondition".to_owned());
                }
                // What was added is taken away again: an undo, no remedy. It leaves what the floor wants.
                if *to < self.api.workload.replicas {
                    self.check_lowered(act, *to);
                } else {
                    self.check_slot(p, act, Kind::Scale);
                }
            }
            ApiCall::ResizePod { pod, uid, to, .. } => {
                if self.api.strangers.iter().any(|stranger| stranger.key == *pod) {
                    self.violate(Invariant::I18, format!("{pod} is no CoreDNS pod"));
                }
                let from = self.api.pod(uid).map_or(0, |pod| pod.limit);
                let owned = self.api.workload.memory_owner.is_some();
                self.check_memory(from, *to, owned);
                if holds {
                    self.check_slot(p, act, Kind::Resize);
                }
            }
            _ => {}
        }
    }

    /// I18: of all workloads, CoreDNS alone is changed.
    fn check_workload(&mut self, workload: &ObjectKey) {
        if *workload != World::workload_key() {
            self.violate(Invariant::I18, format!("{workload} is not the DNS workload"));
        }
    }

    /// I9: the target is the one that the incident is about, as it stands.
    fn check_target(&mut self, act: &Act, uid: &PodUid, version: &str) {
        let current = self.api.pod(uid).map(|pod| pod.version.to_string());
        if version.is_empty() || uid.as_str().is_empty() || current.as_deref() != Some(version) {
            self.violate(Invariant::I9, format!("{uid} is evicted at version {version:?}, and stands at {current:?}"));
        }
        let judged = act.intent.as_ref().and_then(|(name, _)| self.api.incidents.get(name));
        if let Some(judged) = judged.filter(|incident| incident.spec.subject.uid.as_ref() != Some(uid)) {
            let says = format!("{uid} is evicted for an incident of {}", judged.spec.subject);
            self.violate(Invariant::I9, says);
        }
    }

    /// I10: between two acts on one target lies a read of it.
    fn check_repeated(&mut self, p: usize, act: &Act, target: &str, pod: &str) {
        let read = self.check.seen.get(&p).and_then(|seen| {
            if pod.is_empty() { seen.workload_read.map(|(at, ..)| at) } else { seen.pods_read.get(pod).copied() }
        });
        let before = self.check.acted.get(target).copied();
        if let Some(before) = before.filter(|before| read.is_none_or(|read| read <= *before)) {
            self.violate(
                Invariant::I10,
                format!(
                    "{target} is acted on again, {:.1} s after the last time and unread",
                    self.now.since(before).as_secs_f64()
                ),
            );
        }
        self.check.acted.insert(target.to_owned(), self.now);
        if self.check.evicted.iter().any(|uid| uid.as_str() == target) {
            self.violate(Invariant::I10, format!("{target} was evicted already"));
        }
        if let Some((_, intent)) = &act.intent {
            let tries = self.check.tries.entry(format!("{} {target}", intent.kind)).or_default();
            tries.insert(intent.at);
            let (count, most) = (tries.len(), self.spec.config.remedy.tries_per_target as usize);
            if count > most {
                self.violate(Invariant::I11, format!("{count} tries on {target}, {most} are allowed"));
            }
        }
    }

    /// I4, by what the workload was when the process read it last.
    fn check_floor(&mut self, p: usize, uid: &PodUid) {
        let counts = self.api.pod(uid).is_some_and(|pod| pod.ready);
        let floor = self.api.workload.replicas.div_ceil(2).max(1);
        let after = self.api.ready().saturating_sub(u32::from(counts));
        if after >= floor {
            return;
        }
        let read = self.check.seen.get(&p).and_then(|seen| seen.workload_read);
        let excused = read.is_some_and(|(at, ready, wanted)| {
            let held = ready.saturating_sub(u32::from(counts)) >= wanted.div_ceil(2).max(1);
            held && self.now.since(at) <= Duration::from_secs(30)
        });
        if !excused {
            self.violate(Invariant::I4, format!("{after} ready pods are left, {floor} must stay (read: {read:?})"));
        }
    }

    /// An undo goes back to what stood before, and never below what the history set.
    fn check_lowered(&mut self, act: &Act, to: u32) {
        let before = act.intent.as_ref().and_then(|(_, intent)| intent.to);
        let workload = &self.api.workload;
        if before != Some(u64::from(to)) || workload.replicas != to + 1 || !workload.scaled_by_us {
            let stands = workload.replicas;
            self.violate(
                Invariant::I4,
                format!("replicas are lowered from {stands} to {to}; the intent says {before:?}"),
            );
        }
    }

    /// I17.
    fn check_memory(&mut self, from: u64, to: u64, owned: bool) {
        let cap = self.spec.config.remedy.memory_cap.0;
        if owned || to < from || to > cap {
            let says = format!("memory from {from} to {to}, cap {cap}, owned by another: {owned}");
            self.violate(Invariant::I17, says);
        }
    }

    /// I7, I11, I13: the one slot of shared remedies, its budget and its breaker.
    fn check_slot(&mut self, p: usize, act: &Act, kind: Kind) {
        let late = self.now.since(act.sent) > LATE;
        let mine = act.intent.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
        let intents = self.api.incidents.values().filter(|incident| incident.status.intent.is_some()).count();
        if mine.is_empty() {
            self.violate(Invariant::I7, "an act without an intent that was written before".to_owned());
        } else if intents != 1 && !late {
            self.violate(Invariant::I7, format!("{intents} intents stand while an act is carried out"));
        }
        let verifying = self
            .api
            .incidents
            .iter()
            .find(|(name, incident)| **name != mine && incident.status.phase == IncidentPhase::Verifying)
            .map(|(name, _)| name.clone());
        if let Some(other) = verifying {
            self.violate(Invariant::I7, format!("an act for {mine} while {other} is being verified"));
        }
        // A resize goes with the raise of the template.
        let of_one = |done: &Done| done.incident == mine && self.now.since(done.at) <= STEPS && kind != Kind::Evict;
        if !self.check.done.iter().rev().take(8).any(of_one) {
            self.check_budget(p);
        }
        if let Some((until, why)) = self.check.breaker.clone().filter(|(until, _)| self.now < *until) {
            let left = until.since(self.now).as_secs();
            self.violate(Invariant::I13, format!("an act {left} s before the breaker closes: {why}"));
        }
        // While pods come and go, no more can be known to have been well than were all through the last views.
        let lately = self.check.well.iter().rev().scan(false, |before, (at, well)| {
            let last = std::mem::replace(before, self.now.since(*at) > VIEW);
            (!last).then_some(*well)
        });
        let well_before = lately.chain([self.well()]).min().unwrap_or(0);
        self.check.done.push(Done {
            at: self.now,
            p,
            kind,
            incident: mine,
            well_before,
            verified: false,
            judged: false,
        });
        if kind == Kind::Evict
            && let Some((_, intent)) = &act.intent
            && let Some(uid) = intent.subject.uid.clone()
        {
            self.check.evicted.insert(uid);
        }
    }

    /// I11, by true time: clocks may be off by what they are off.
    fn check_budget(&mut self, p: usize) {
        let settings = &self.spec.config.remedy;
        let (every, most) = (settings.shared_every.0, settings.shared_per_hour as usize);
        let slack = Duration::from_secs(20);
        let spans = (0..self.processes.len()).map(|q| self.true_span(q, every)).min();
        let spacing = spans.unwrap_or(every).saturating_sub(slack);
        let hours = (0..self.processes.len()).map(|q| self.true_span(q, Duration::from_secs(3600))).min();
        let hour = hours.unwrap_or_default().saturating_sub(slack * 6);
        let starts: Vec<Mono> = self.check.starts();
        if let Some(last) = starts.last().filter(|last| self.now.since(**last) < spacing) {
            let says = format!("process {p} acts {} s after the last act", self.now.since(*last).as_secs());
            self.violate(Invariant::I11, says);
        }
        let lately = starts.iter().filter(|at| self.now.since(**at) < hour).count();
        if lately >= most {
            self.violate(Invariant::I11, format!("act number {} within an hour", lately + 1));
        }
    }

    /// CoreDNS pods that are well now.
    fn well(&self) -> usize {
        self.api.active().filter(|pod| pod.well() && self.nodes[pod.node].works()).count()
    }

    /// The truth changed: who is well.
    pub(crate) fn note_truth(&mut self) {
        let (now, well) = (self.now, self.well());
        if self.check.well.last().is_none_or(|(_, last)| *last != well) {
            self.check.well.push((now, well));
            if self.check.well.len() > 4096 {
                self.check.well.drain(..2048);
            }
        }
    }

    /// Pods or the workload changed: whether a rollout is under way, or has just ended.
    pub(super) fn note_rollout(&mut self) {
        let (now, workload) = (self.now, &self.api.workload);
        let older = self.api.active().any(|pod| pod.revision != workload.revision);
        let fewer = self.api.updated() < workload.replicas;
        let shown = self.check.rolling.is_some_and(|since| now.since(since) >= SHOWN);
        if older || self.check.older || shown {
            self.check.rollout = Some(now);
        }
        self.check.older = older;
        self.check.rolling = (older || fewer).then(|| self.check.rolling.unwrap_or(now));
    }

    /// The last moment of a rollout that a process could know of.
    pub(super) fn last_rollout(&self) -> Option<Mono> {
        let stands = self.check.rolling.map(|since| since + SHOWN).filter(|at| *at <= self.now);
        self.check.rollout.max(stands)
    }

    /// I13: an act after which fewer pods are well, all through the time in which it is verified, opens the breaker. Pods that were
    /// resized for a raise that then was not made are a try that failed: there is nothing to verify.
    pub(super) fn check_breaker(&mut self) {
        /// Most that a verification takes longer than the first leader wanted.
        const LONGEST: Duration = Duration::from_secs(180);
        let verify = self.spec.config.remedy.verify_within.0;
        let Some(last) = self.check.done.last().filter(|last| !last.judged && last.kind != Kind::Resize) else {
            return;
        };
        let p = last.p;
        let (from, until) = (last.at + Duration::from_secs(20), last.at + self.true_span(p, verify));
        // A successor verifies for as long again.
        let stands = self.api.incidents.get(&last.incident);
        let asking = stands.is_some_and(|known| known.status.phase == IncidentPhase::Verifying);
        if self.now < until + Duration::from_secs(30) || (asking && self.now < until + LONGEST) {
            return;
        }
        if let Some(last) = self.check.done.last_mut() {
            last.judged = true;
        }
        let Some(last) = self.check.done.last() else { return };
        if last.verified || self.check.breaker.as_ref().is_some_and(|(open, _)| *open > last.at) {
            return;
        }
        let before = last.well_before;
        let at_start = self.check.well.iter().rev().find(|(at, _)| *at <= from).map_or(0, |(_, well)| *well);
        let during = self.check.well.iter().filter(|(at, _)| *at > from);
        let most = during.map(|(_, well)| *well).max().unwrap_or(at_start).max(at_start);
        // The verification's own minds may have seen one pod more than the truth: a margin of none is enough only if it is clear.
        if most < before {
            let why = format!(
                "{before} pods were well before the act at {:.1}, and at most {most} after",
                last.at.0.as_secs_f64()
            );
            self.check.breaker = Some((until + BREAKER.mul_f64(0.74), why));
        }
    }

    /// A coordinator calls its act verified: so it is, if as many pods were well while the nodes were asked as before the act.
    pub(super) fn note_verified(&mut self, incident: &str) {
        /// Between the nodes' probes and the word that rests on them.
        const ASKED: Duration = Duration::from_secs(15);
        let now = self.now;
        let Some(last) = self.check.done.iter().rev().find(|done| done.incident == incident) else { return };
        let (at, before) = (last.at, last.well_before);
        let from = if now.since(at) > ASKED { now - ASKED } else { at };
        let held = self.check.well.iter().rev().find(|(since, _)| *since <= from).map_or(0, |(_, well)| *well);
        let lately = self.check.well.iter().filter(|(since, _)| *since > from).map(|(_, well)| *well);
        if lately.max().unwrap_or(0).max(held) >= before {
            let same =
                self.check.done.iter_mut().filter(|done| done.incident == incident && at.since(done.at) <= STEPS);
            same.for_each(|done| done.verified = true);
        }
    }

    /// What an executor's read was answered with.
    pub(crate) fn check_read(&mut self, p: usize, call: &ApiCall, result: &CallResult) {
        let (now, seen) = (self.now, self.check.seen.entry(p).or_default());
        match (call, result) {
            (ApiCall::ReadPod { pod }, Ok(Reply::Pod(_))) => {
                seen.pods_read.insert(pod.name.clone(), now);
            }
            (ApiCall::ReadWorkload { .. }, Ok(Reply::Workload(Some(read)))) => {
                seen.workload_read = Some((now, read.ready, read.replicas));
            }
            _ => {}
        }
    }
}

impl super::Checker {
    /// When each remedy began: a raise of memory and its resizes are one.
    fn starts(&self) -> Vec<Mono> {
        let mut starts: Vec<(Mono, &str)> = Vec::new();
        for done in &self.done {
            let same = |(at, incident): &&(Mono, &str)| *incident == done.incident && done.at.since(*at) <= STEPS;
            if done.kind == Kind::Evict || !starts.iter().any(|start| same(&start)) {
                starts.push((done.at, &done.incident));
            }
        }
        starts.into_iter().map(|(at, _)| at).collect()
    }
}
