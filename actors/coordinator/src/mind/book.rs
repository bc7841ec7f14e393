//! Incidents: when one opens, what stands in it, when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nameward_config::settings::Remedy;
use nameward_messages::cluster_view::ClusterView;
use nameward_messages::plan::{IncidentPhase, IncidentSpec};
use nameward_messages::remedy::{Mode, RemedyKind, RemedyOutcome, RemedyRecord};
use nameward_messages::verdict::{Cause, Evidence, RuledOut, Scope, Subject, SubjectKind, VerdictKey};
use nameward_messages::{NodeName, Now};

use super::breaker::subject_of_many;
use super::incident::{Incident, Shared};
use super::notes::{self, Next};
use super::{CoordinatorMind, Output, Written};
use crate::judge::claims::of_a_node;
use crate::judge::{advice, names};

/// A claim must have stood for this long to open an incident.
pub(super) const OPEN_AFTER: Duration = Duration::from_secs(3);
/// And be gone for this long to end it.
const CLOSE_AFTER: Duration = Duration::from_secs(5);
/// Open incidents at most of faults of nodes and their pods; what is beyond is in the nodes' reports. Others do not wait for them.
const MOST_OF_NODES: usize = 100;
/// The same of all other faults, where no CoreDNS pod and neither the workload nor the Service is the subject: of these there are
/// only so many, and they always get in.
const MOST_OF_OTHERS: usize = 40;
/// Open incidents that one node alone names.
const MOST_OF_ONE: usize = 8;
/// Incidents at most, closed ones included.
pub(super) const MOST: usize = 200;
/// A closed incident is kept for this long.
pub(super) const KEEP: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// A reason for an incident to stand.
struct Ground {
    scope: Scope,
    ripe: bool,
    nodes: BTreeSet<NodeName>,
    evidence: Vec<Evidence>,
    ruled_out: Vec<RuledOut>,
    /// What a person reads, where cause and subject do not say it.
    summary: Option<String>,
}

impl CoordinatorMind {
    /// Brings the book in line with the API server.
    pub(super) fn sync(&mut self, now: Now, view: &ClusterView) {
        let held: BTreeMap<&str, _> = view.incidents.iter().map(|i| (i.name.as_str(), i)).collect();
        // Deleted by a person: forgotten, and opened anew if its ground stands.
        self.book.retain(|name, incident| incident.version.is_none() || held.contains_key(name.as_str()));
        for stored in &view.incidents {
            match self.book.get_mut(&stored.name) {
                Some(known) => {
                    known.learn(stored);
                    // The executor settled an intent that a crash had left.
                    let verifying = stored.status.phase == IncidentPhase::Verifying;
                    if verifying && known.phase == IncidentPhase::Open && self.active.is_none() && !known.judged() {
                        known.phase = IncidentPhase::Verifying;
                    }
                }
                None if stored.status.phase != IncidentPhase::Resolved => {
                    self.book.insert(stored.name.clone(), Incident::adopt(stored, now));
                }
                None => {}
            }
        }
    }

    /// Opens incidents for what stands, keeps their testimony, ends those whose ground is gone.
    pub(super) fn open_and_close(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let grounds = self.grounds(now, view);
        self.quiet.retain(|key, until| now.mono < *until && grounds.contains_key(key));
        for (key, ground) in &grounds {
            let known = self.book.values().find(|i| i.open() && i.key() == *key).map(|i| i.name.clone());
            let name = match known {
                Some(name) => name,
                None if ground.ripe && !self.quiet.contains_key(key) && self.room(key, ground, view) => {
                    let spec = IncidentSpec { cause: key.cause, scope: ground.scope, subject: key.subject.clone() };
                    let name = names::incident(key.cause, &key.subject, now.wall);
                    let summary = ground.summary.clone().unwrap_or_else(|| advice::summary(key.cause, &key.subject));
                    self.book.insert(name.clone(), Incident::new(name.clone(), spec, summary, now.wall, now.mono));
                    name
                }
                None => continue,
            };
            if let Some(incident) = self.book.get_mut(&name) {
                incident.gone_since = None;
                incident.testify(ground.nodes.clone(), ground.evidence.clone(), ground.ruled_out.clone());
                announce(incident, &self.config.remedy, view, now, out);
            }
        }
        self.take_node_records(view);
        self.close(now, &grounds, out);
        self.delete_old(now, view, out);
    }

    /// Whether the book has room for one more incident. What agents make up fills no more than their own part of it.
    fn room(&self, key: &VerdictKey, ground: &Ground, view: &ClusterView) -> bool {
        let ours = |subject: &Subject| match subject.kind {
            SubjectKind::Pod => view.pods.iter().any(|pod| Some(&pod.uid) == subject.uid.as_ref()),
            SubjectKind::Service => Some(subject) == subject_of_many(view).as_ref(),
            SubjectKind::Deployment => {
                view.workload.as_ref().is_some_and(|w| *subject == Subject::object(SubjectKind::Deployment, &w.key))
            }
            SubjectKind::Node | SubjectKind::Upstream => false,
        };
        let open = || self.book.values().filter(|i| i.open());
        if of_a_node(key.cause) && ground.scope != Scope::Cluster {
            let of_nodes = open().filter(|i| of_a_node(i.spec.cause)).count();
            of_nodes < MOST_OF_NODES && self.room_for_one(ground)
        } else if ours(&key.subject) {
            true
        } else {
            let others = open().filter(|i| !of_a_node(i.spec.cause) && !ours(&i.spec.subject)).count();
            others < MOST_OF_OTHERS && self.room_for_one(ground)
        }
    }

    fn room_for_one(&self, ground: &Ground) -> bool {
        let alone = |nodes: &[NodeName]| nodes.len() == 1 && ground.nodes.contains(&nodes[0]);
        let named = || self.book.values().filter(|i| i.open() && alone(&i.nodes)).count();
        ground.nodes.len() != 1 || named() < MOST_OF_ONE
    }

    fn grounds(&self, now: Now, view: &ClusterView) -> BTreeMap<VerdictKey, Ground> {
        let mut grounds = BTreeMap::new();
        self.of_many(now, view, &mut grounds);
        for (key, words) in self.claims.all() {
            if self.storms.groups(key.cause) && subject_of_many(view).is_some() {
                continue;
            }
            let Some(first) = words.values().next() else { continue };
            // What is left over beside a named cause comes and goes with single probes: no incident of its own.
            if key.cause == Cause::Unexplained && self.claims.named(&key.subject) {
                continue;
            }
            let lines = |(node, word): (&NodeName, &crate::judge::claims::Word)| {
                let node = node.clone();
                let line = move |e: &Evidence| Evidence::new(format!("{node}: {}", e.read), e.says.clone());
                word.verdict.evidence.iter().map(line).collect::<Vec<_>>()
            };
            let ground = Ground {
                // What was told of one pod and is the workload's reaches as far as such a cause does.
                scope: if key.subject == first.verdict.subject { first.verdict.scope } else { key.cause.about().scope },
                ripe: words.values().any(|w| w.vouched && now.mono.since(w.since) >= OPEN_AFTER),
                nodes: words.keys().cloned().collect(),
                evidence: words.iter().flat_map(lines).collect(),
                ruled_out: first.verdict.ruled_out.clone(),
                summary: None,
            };
            grounds.insert(key.clone(), ground);
        }
        for (key, (located, since)) in self.located.all() {
            let ground = Ground {
                scope: located.scope,
                ripe: now.mono.since(*since) >= OPEN_AFTER,
                nodes: located.nodes.clone(),
                evidence: located.evidence.clone(),
                ruled_out: located.ruled_out.clone(),
                summary: None,
            };
            grounds.entry(key.clone()).or_insert(ground);
        }
        for (subject, words) in self.claims.unexplained(now.mono, view, &self.located.explained()) {
            let key = VerdictKey { cause: Cause::Unexplained, subject };
            let (nodes, evidence) = words.into_iter().unzip();
            let scope = advice::scope_of(Cause::Unexplained);
            let ground = Ground { scope, ripe: true, nodes, evidence, ruled_out: Vec::new(), summary: None };
            grounds.entry(key).or_insert(ground);
        }
        if let Some(workload) = &view.workload {
            let kills = self.kills.standing(now.mono, workload);
            if !kills.is_empty() {
                let subject = Subject::object(SubjectKind::Deployment, &workload.key);
                let key = VerdictKey { cause: Cause::CorednsOomKilled, subject };
                let scope = advice::scope_of(Cause::CorednsOomKilled);
                let blank = Ground {
                    scope,
                    ripe: true,
                    nodes: BTreeSet::new(),
                    evidence: Vec::new(),
                    ruled_out: Vec::new(),
                    summary: None,
                };
                let ground = grounds.entry(key).or_insert(blank);
                ground.ripe = true;
                ground.evidence.splice(0..0, kills);
            }
        }
        grounds
    }

    /// One ground for each fault that many nodes share: not one for each of them.
    fn of_many(&self, now: Now, view: &ClusterView, grounds: &mut BTreeMap<VerdictKey, Ground>) {
        let Some(subject) = subject_of_many(view) else { return };
        for (cause, nodes) in self.claims.alike().into_iter().filter(|(cause, _)| self.storms.groups(*cause)) {
            let words = self.claims.all().iter().filter(|(key, _)| key.cause == cause).flat_map(|(_, words)| words);
            let mut evidence = self.storms.evidence(cause);
            let mut ripe = false;
            for (node, word) in words {
                ripe |= word.vouched && now.mono.since(word.since) >= OPEN_AFTER;
                let line = |e: &Evidence| Evidence::new(format!("{node}: {}", e.read), e.says.clone());
                evidence.extend(word.verdict.evidence.iter().take(2).map(line));
            }
            let summary = Some(self.storms.summary(cause, &nodes, view.nodes.len()));
            let ground = Ground { scope: Scope::Cluster, ripe, nodes, evidence, ruled_out: Vec::new(), summary };
            grounds.insert(VerdictKey { cause, subject: subject.clone() }, ground);
        }
    }

    /// Node remedies that agents recorded about an incident's subject belong to its ladder.
    fn take_node_records(&mut self, view: &ClusterView) {
        for incident in self.book.values_mut().filter(|i| i.open()) {
            let subject = incident.spec.subject.clone();
            let early = jiff::SignedDuration::from_mins(5);
            let records = view.agents.iter().filter_map(|a| a.report.as_ref()).flat_map(|r| &r.remedies);
            for record in records.filter(|r| !r.kind.shared() && r.subject == subject) {
                if incident.opened_at.duration_since(record.at) <= early {
                    incident.record(record.clone());
                }
            }
        }
    }

    fn close(&mut self, now: Now, grounds: &BTreeMap<VerdictKey, Ground>, out: &mut Vec<Output>) {
        let active = self.active.as_ref().map(|a| a.incident.clone());
        let suffers = self.claims.coredns_suffers();
        for incident in self.book.values_mut().filter(|i| i.open() && !grounds.contains_key(&i.key())) {
            let since = *incident.gone_since.get_or_insert(now.mono);
            let busy = incident.intent.is_some()
                || incident.added.is_some()
                || matches!(incident.phase, IncidentPhase::Remediating | IncidentPhase::Verifying)
                || active.as_deref() == Some(incident.name.as_str());
            if busy || now.mono.since(since) < CLOSE_AFTER || (incident.stubborn && suffers) {
                continue;
            }
            incident.phase = IncidentPhase::Resolved;
            incident.closed_at = Some(now.wall);
            incident.shared = Shared::Over;
            if grounds.keys().any(|key| key.cause == incident.spec.cause) && self.storms.groups(incident.spec.cause) {
                // It goes on as part of the one incident of many nodes.
                continue;
            }
            out.push(notes::recovered(incident, "DNS recovered: no node says so any more"));
        }
    }

    fn delete_old(&mut self, now: Now, view: &ClusterView, out: &mut Vec<Output>) {
        let resolved = |i: &&nameward_messages::cluster_view::IncidentView| {
            i.status.phase == IncidentPhase::Resolved && i.status.intent.is_none()
        };
        let mut closed: Vec<_> = view.incidents.iter().filter(resolved).collect();
        closed.sort_by_key(|i| i.status.closed_at.or(i.created_at));
        let surplus = view.incidents.len().saturating_sub(MOST);
        for (place, incident) in closed.into_iter().enumerate().take(WRITES_PER_STEP) {
            let closed_at = incident.status.closed_at.or(incident.created_at);
            let old = closed_at.is_some_and(|at| now.wall.duration_since(at) > KEEP);
            if (old || place < surplus) && self.may_write(now.mono, Written::Incident(incident.name.clone())) {
                out.push(Output::DeleteIncident { name: incident.name.clone(), uid: incident.uid.clone() });
            }
        }
    }

    /// Writes what differs from the API server. While the executor has the incident, it alone writes.
    pub(super) fn write_incidents(&mut self, now: Now, out: &mut Vec<Output>) {
        let handed = self.active.as_ref().filter(|a| a.handed()).map(|a| a.incident.clone());
        let mine = |i: &Incident| i.intent.is_none() && handed.as_deref() != Some(i.name.as_str());
        let view = self.view.clone();
        let stored: BTreeMap<&str, _> =
            view.iter().flat_map(|v| &v.incidents).map(|i| (i.name.as_str(), &i.status)).collect();
        let mut wanted = Vec::new();
        for incident in self.book.values().filter(|i| mine(i)) {
            let status = incident.status();
            if wanted.len() < WRITES_PER_STEP && stored.get(incident.name.as_str()) != Some(&&status) {
                wanted.push((incident.name.clone(), incident.spec.clone(), incident.version.clone(), status));
            }
        }
        for (name, spec, version, status) in wanted {
            if !self.may_write(now.mono, Written::Incident(name.clone())) {
                continue;
            }
            let status = Box::new(status);
            out.push(match version {
                None => Output::OpenIncident { name, spec, status },
                Some(resource_version) => Output::UpdateIncident { name, resource_version, status },
            });
        }
        let settled = |i: &Incident| !i.open() && i.version.is_some();
        self.book.retain(|name, i| !(settled(i) && stored.get(name.as_str()) == Some(&&i.status())));
    }
}

/// Incident writes per step; the rest follow at the next.
const WRITES_PER_STEP: usize = 10;

/// Tells people of a new incident, and calls them at once when the cause is theirs alone.
fn announce(incident: &mut Incident, settings: &Remedy, view: &ClusterView, now: Now, out: &mut Vec<Output>) {
    if incident.announced {
        return;
    }
    incident.announced = true;
    let IncidentSpec { cause, subject, .. } = incident.spec.clone();
    let command = advice::command(cause, &subject, &incident.nodes, settings, view);
    // A fault of nodes whose subject is none of them: it is that of many.
    let of_many = of_a_node(cause) && matches!(subject.kind, SubjectKind::Service | SubjectKind::Deployment);
    let remedy = settings.ladder(cause).first().copied();
    let next = match remedy {
        _ if of_many => Next::Many(&command),
        _ if advice::nobodys_worry(cause) => Next::Nothing,
        Some(kind) if !advice::persons_alone(settings, cause) => Next::Remedy(kind, settings.mode_of(kind), &command),
        Some(_) | None => Next::Person(&command),
    };
    out.push(notes::opened(incident, next));
    if matches!(next, Next::Many(_) | Next::Person(_)) {
        let record = RemedyRecord {
            kind: RemedyKind::CallPerson,
            subject,
            mode: Mode::Observe,
            outcome: RemedyOutcome::Escalated,
            detail: command,
            at: now.wall,
        };
        incident.record(record.clone());
        incident.phase = IncidentPhase::Escalated;
        incident.shared = Shared::Over;
        out.push(Output::Record { incident: incident.name.clone(), record, reason: None });
    }
}
