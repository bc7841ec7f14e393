//! What happens, seen from outside: the API's objects and log, and the runner's own probes. Never the agents' word alone.

use std::collections::{BTreeMap, BTreeSet};

use nameward_messages::plan::{IncidentPhase, IncidentSpec, IncidentStatus};
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::report::NodeReport;
use nameward_messages::verdict::{Cause, Confidence, Evidence, RuledOut, Scope, Subject, SubjectKind};

use serde_json::Value;

use super::world::World;
use crate::apiserver::{Handle, LogEntry};
use crate::result::{EntryKind, FoundRemedy, FoundVerdict, ScenarioResult, TimelineEntry};
use crate::scenario::Expect;

/// Seconds after the kill switch was thrown in which a change may still be under way.
const STOPS_WITHIN: f64 = 5.0;
/// Looks in a row at which every path must answer to count as recovered where nothing should have healed it.
const STEADY: u32 = 8;

/// Gathers what was seen since the cluster was found healthy.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// Log entries already read.
    read: u64,
    /// Reports and incidents already read, by their resource version.
    known: BTreeMap<String, String>,
    /// Incidents of the warm-up.
    earlier: BTreeSet<String>,
    verdicts: BTreeSet<(Cause, Scope, String)>,
    phases: BTreeMap<String, (IncidentPhase, usize)>,
    /// The last line of each incident's ladder.
    last: BTreeMap<String, String>,
    told_failing: usize,
    clean_looks: u32,
    failing_looks: u32,
    /// Failed at two looks in a row: one alone says that the machine is busy.
    ever_failed: bool,
    resized: Vec<String>,
    /// Replicas that a scale wrote last.
    scaled: Option<i64>,
    /// The pod of a coordinator that was stopped while it led, and goes on.
    woken: Option<String>,
    /// The kill switch is thrown since then.
    switched: Option<f64>,
    /// Every line that stood in an incident.
    told: BTreeSet<String>,
    /// Repairs of nodes that were taken back, as the kernel shows.
    taken_back: Vec<(RemedyKind, String)>,
    /// Every incident as it was seen last, with its subject in the scenario's names.
    incidents: BTreeMap<String, (String, IncidentSpec, IncidentStatus)>,
    /// What was seen.
    pub result: ScenarioResult,
    /// Lines for the timeline, to be taken.
    pub entries: Vec<TimelineEntry>,
}

impl Observer {
    /// Starts after what is in the log now.
    pub(super) fn new(api: &Handle, scenario: &str) -> Self {
        let result = ScenarioResult { scenario: scenario.to_owned(), ..ScenarioResult::default() };
        let earlier = api.list("DnsIncident", "", "");
        let earlier = earlier.iter().filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned)).collect();
        Self { read: api.log_since(u64::MAX).1, earlier, result, ..Self::default() }
    }

    /// Ends the quiet time. What was found in it is given back as violations, and is not found again.
    pub(super) fn begin(&mut self) -> Vec<String> {
        let seen = std::mem::take(&mut self.result);
        self.result.scenario.clone_from(&seen.scenario);
        self.result.violations = seen.violations;
        let verdicts = seen.verdicts.iter().map(|v| format!("verdict {} on {}", v.cause, v.subject));
        let remedies = seen.remedies.iter().map(|r| format!("remedy {} on {}", r.kind, r.subject));
        // A look of the runner's that failed here says that the machine is busy, and nothing about what is under test.
        (self.ever_failed, self.failing_looks, self.told_failing) = (false, 0, 0);
        verdicts.chain(remedies).map(|what| format!("before any fault: {what}")).collect()
    }

    /// From here on DNS must be seen well anew.
    pub(super) fn look_again(&mut self) {
        self.clean_looks = 0;
    }

    /// Whether DNS answered on every path at two looks in a row.
    pub(super) fn clean(&self) -> bool {
        self.clean_looks >= 2
    }

    /// Where nothing should heal: what fails for some queries only is met by none of the runner's own now and then, so well is
    /// what has been so for [`STEADY`] looks.
    pub(super) fn doubt_recovery(&mut self) {
        if self.clean_looks < STEADY {
            self.result.recovered_s = None;
        }
    }

    fn tell(&mut self, at_s: f64, kind: EntryKind, text: String, details: Vec<String>) {
        self.entries.push(TimelineEntry { at_s, kind, text, details });
    }

    /// Whether an object is not as it was when it was read before.
    fn new_version(&mut self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let text = |member: &str| metadata[member].as_str().unwrap_or_default().to_owned();
        let version = text("resourceVersion");
        self.known.insert(text("uid"), version.clone()) != Some(version)
    }

    /// Reads reports and incidents.
    pub(super) fn look_at_objects(&mut self, api: &Handle, world: &World, at_s: f64) {
        for agent in api.list("NodeAgent", "", "") {
            if !self.new_version(&agent) {
                continue;
            }
            let node = agent["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let Ok(report) = serde_json::from_value::<NodeReport>(agent["status"].clone()) else { continue };
            for v in report.verdicts {
                let subject = alias(world, &v.subject);
                self.verdict(at_s, &node, (v.cause, v.scope, subject), v.confidence, v.evidence, &v.ruled_out);
            }
        }
        for incident in api.list("DnsIncident", "", "") {
            let name = incident["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if self.earlier.contains(&name) || !self.new_version(&incident) {
                continue;
            }
            let (Ok(spec), Ok(status)) = (
                serde_json::from_value::<IncidentSpec>(incident["spec"].clone()),
                serde_json::from_value::<IncidentStatus>(incident["status"].clone()),
            ) else {
                continue;
            };
            let subject = alias(world, &spec.subject);
            // What the coordinator concludes by itself is a verdict too.
            let known = self.verdicts.iter().any(|(cause, _, s)| *cause == spec.cause && *s == subject);
            if !known {
                let key = (spec.cause, spec.scope, subject.clone());
                let (evidence, ruled_out) = (status.evidence.clone(), &status.ruled_out);
                self.verdict(at_s, "coordinator", key, Confidence::Certain, evidence, ruled_out);
            }
            let rungs: Vec<String> = status
                .ladder
                .iter()
                .map(|r| format!("{} {} ({}): {}", r.kind, r.outcome.label(), r.mode.label(), r.detail))
                .collect();
            self.told.extend(rungs.iter().cloned().chain([status.summary.clone()]));
            self.incidents.insert(name.clone(), (subject.clone(), spec.clone(), status.clone()));
            let phase = (status.phase, rungs.len());
            self.last.extend(rungs.last().map(|rung| (name.clone(), rung.clone())));
            if self.phases.insert(name, phase) != Some(phase) {
                let text = format!("incident {} on {subject}: {:?}. {}", spec.cause, status.phase, status.summary);
                let last = rungs.last().cloned().into_iter().collect();
                self.tell(at_s, EntryKind::Incident, text, last);
            }
        }
    }

    fn verdict(
        &mut self,
        at_s: f64,
        by: &str,
        (cause, scope, subject): (Cause, Scope, String),
        confidence: Confidence,
        evidence: Vec<Evidence>,
        ruled_out: &[RuledOut],
    ) {
        if !self.verdicts.insert((cause, scope, subject.clone())) {
            return;
        }
        let mut details: Vec<String> = evidence.iter().map(|e| format!("{}: {}", e.read, e.says)).collect();
        details.extend(ruled_out.iter().map(|r| format!("not {}: {}", r.what, r.because)));
        self.tell(at_s, EntryKind::Verdict, format!("{by} names {cause} on {subject} ({confidence:?})"), details);
        self.result.detected_s.get_or_insert(at_s);
        self.result.verdicts.push(FoundVerdict { cause, scope, subject, confidence, at_s, evidence });
    }

    /// A coordinator that led and was stopped goes on: from here on it must change nothing.
    pub(super) fn wakes(&mut self, pod: &str) {
        self.woken = Some(pod.to_owned());
    }

    /// The kill switch was thrown at this time, or released.
    pub(super) fn switched(&mut self, since: Option<f64>) {
        self.switched = since;
    }

    /// What must have been told in incidents and was not, and whether as many stand open as must.
    pub(super) fn not_told(&self, expect: &Expect) -> Vec<String> {
        let missing = expect.told.iter().filter(|text| !self.told.iter().any(|line| line.contains(text.as_str())));
        let mut wrong: Vec<String> = missing.map(|text| format!("no incident says `{text}`")).collect();
        let open = self.phases.values().filter(|(phase, _)| *phase != IncidentPhase::Resolved).count();
        if let Some(wanted) = expect.open_incidents.filter(|wanted| usize::from(*wanted) != open) {
            wrong.push(format!("{open} incidents stand open in the end, expected {wanted}"));
        }
        wrong
    }

    /// Whether a repair of a node was seen that was not taken back.
    pub(super) fn repair_stands(&self) -> bool {
        let stands = |r: &FoundRemedy| !r.kind.shared() && !self.taken_back.contains(&(r.kind, r.subject.clone()));
        self.result.remedies.iter().any(stands)
    }

    /// Repairs that must be taken back and stand, and those that must stand and were taken back.
    pub(super) fn not_taken_back(&self, expect: &Expect) -> Vec<String> {
        let back = |kind, subject: &str| self.taken_back.iter().any(|(k, s)| *k == kind && s == subject);
        let stand = expect.remedy.iter().filter(|r| r.taken_back_within.is_some() && !back(r.kind, &r.subject));
        let stand = stand.map(|r| format!("{} on {} was not taken back", r.kind, r.subject));
        let meant = |kind, subject: &str| {
            expect.remedy.iter().any(|r| r.taken_back_within.is_some() && r.kind == kind && r.subject == subject)
        };
        let gone = self.taken_back.iter().filter(|(kind, subject)| !meant(*kind, subject));
        let gone = gone.map(|(kind, subject)| format!("{kind} on {subject} was taken back"));
        stand.chain(gone).collect()
    }

    /// What the expected incidents lack: for each the best match is named.
    pub(super) fn incidents_lack(&self, expect: &Expect) -> Vec<String> {
        let mut lacks = Vec::new();
        for wanted in &expect.incident {
            let seen = self.incidents.values();
            let best = seen.filter_map(|(subject, spec, status)| wanted.missing(subject, spec, status));
            match best.min_by_key(Vec::len) {
                None => lacks.push(format!("no incident {wanted}")),
                Some(missing) => lacks.extend(missing.iter().map(|what| format!("incident {wanted} {what}"))),
            }
        }
        lacks
    }

    /// Resizes of pods that no memory raise followed or went before.
    pub(super) fn stray_resizes(&self) -> Vec<String> {
        if self.result.remedies.iter().any(|r| r.kind == RemedyKind::RaiseMemory) {
            return Vec::new();
        }
        self.resized.iter().map(|pod| format!("pod {pod} was resized without a memory raise")).collect()
    }

    /// Incidents that are neither resolved nor handed to a person.
    pub(super) fn unsettled(&self) -> Vec<String> {
        let settled = [IncidentPhase::Resolved, IncidentPhase::Escalated];
        let open = self.phases.iter().filter(|(_, (phase, _))| !settled.contains(phase));
        open.map(|(name, (phase, _))| {
            let last = self.last.get(name).map_or("nothing was tried or refused", String::as_str);
            format!("incident {name} is still {phase:?}: {last}")
        })
        .collect()
    }

    /// Reads the API server's log.
    pub(super) fn look_at_log(&mut self, api: &Handle, world: &World, at_s: f64) {
        let (log, read) = api.log_since(self.read);
        for entry in &log {
            if let Some(line) = self.woken.as_deref().and_then(|pod| woken_did(pod, entry)) {
                self.tell(at_s, EntryKind::Violation, line.clone(), Vec::new());
                self.result.violations.push(line);
            }
            match classify(entry) {
                Class::Own | Class::Nothing => {}
                Class::Resize => self.resized.push(entry.name.clone()),
                Class::Remedy(RemedyKind::AddReplica) if self.lowers(entry) => {
                    let text = format!("the replica that was added to {} is taken away again", entry.name);
                    self.tell(at_s, EntryKind::Remedy, text, Vec::new());
                }
                Class::Remedy(kind) => self.remedy(world, at_s, kind, entry),
                Class::Refused(kind) => {
                    let text = format!("{kind} on {} was refused: {} {}", entry.name, entry.code, entry.reason);
                    self.tell(at_s, EntryKind::Remedy, text, Vec::new());
                }
                Class::Violation => {
                    let line = format!(
                        "{} did {} {} ({}), which no remedy does",
                        entry.user, entry.verb, entry.path, entry.code
                    );
                    self.tell(at_s, EntryKind::Violation, line.clone(), Vec::new());
                    self.result.violations.push(line);
                }
            }
        }
        self.read = read;
    }

    /// Whether a scale only takes back what a scale before it wrote.
    fn lowers(&mut self, entry: &LogEntry) -> bool {
        let body: Value = serde_json::from_str(&entry.body).unwrap_or_default();
        let to = body["spec"]["replicas"].as_i64();
        let before = std::mem::replace(&mut self.scaled, to);
        matches!((before, to), (Some(before), Some(to)) if to < before)
    }

    /// Nothing is changed once the kill switch has been thrown for [`STOPS_WITHIN`].
    fn stopped(&mut self, at_s: f64, kind: RemedyKind, subject: &str) {
        if self.switched.is_some_and(|since| at_s - since > STOPS_WITHIN) {
            self.result.violations.push(format!("{kind} on {subject} while the kill switch was thrown"));
        }
    }

    fn remedy(&mut self, world: &World, at_s: f64, kind: RemedyKind, entry: &LogEntry) {
        let key = format!("{}/{}", entry.namespace, entry.name);
        let subject = match kind {
            RemedyKind::EvictPod | RemedyKind::RestartKubeProxy => world.alias(None, &key).unwrap_or(key),
            _ => format!("deployment {}", entry.name),
        };
        self.stopped(at_s, kind, &subject);
        let who = entry.user.rsplit(':').next().unwrap_or_default();
        let text = format!("{who} does {kind} on {subject}: the API server answers {}", entry.code);
        self.tell(at_s, EntryKind::Remedy, text, Vec::new());
        let outcome = entry.code.to_string();
        self.result.remedies.push(FoundRemedy { kind, subject, mode: Mode::Act, at_s, outcome });
    }

    /// The kernel shows that a node was repaired: by nobody else, since nobody else is there.
    pub(super) fn repaired(&mut self, at_s: f64, kind: RemedyKind, subject: String, taken_back: bool) {
        self.stopped(at_s, kind, &subject);
        if taken_back {
            let text = format!("{kind} on {subject} is taken back: the kernel's state is as the fault left it");
            self.tell(at_s, EntryKind::Remedy, text, Vec::new());
            self.taken_back.push((kind, subject));
            return;
        }
        let text = format!("{kind} on {subject}: the kernel's state is as it was before the fault");
        self.tell(at_s, EntryKind::Remedy, text, Vec::new());
        let outcome = "whole".to_owned();
        self.result.remedies.push(FoundRemedy { kind, subject, mode: Mode::Act, at_s, outcome });
    }

    /// Takes the result of one look of the runner's own.
    pub(super) fn look_at_dns(&mut self, failing: &[String], at_s: f64) {
        // Told when it begins and when it becomes half as bad again, not at every flicker.
        if failing.len() * 2 > self.told_failing * 3 {
            let more = failing.len().saturating_sub(3);
            let mut details: Vec<String> = failing.iter().take(3).cloned().collect();
            if more > 0 {
                details.push(format!("and {more} more"));
            }
            let text = format!("{} paths do not answer", failing.len());
            self.tell(at_s, EntryKind::Symptom, text, details);
            self.told_failing = failing.len();
        }
        if failing.is_empty() {
            self.clean_looks += 1;
            self.failing_looks = 0;
        } else {
            self.clean_looks = 0;
            self.failing_looks += 1;
            self.ever_failed |= self.failing_looks == 2;
            self.result.recovered_s = None;
        }
        if self.ever_failed && self.clean_looks == 2 && self.result.recovered_s.is_none() {
            self.result.recovered_s = Some(at_s);
            self.told_failing = 0;
            self.tell(at_s, EntryKind::Recovered, "DNS answers on every path again".to_owned(), Vec::new());
        }
    }
}

/// What a coordinator did after it woke: another one leads, so it may read, claim the Lease and tell of it, and nothing else.
fn woken_did(pod: &str, entry: &LogEntry) -> Option<String> {
    let own = matches!(entry.resource.as_str(), "leases" | "events" | "selfsubjectaccessreviews");
    (entry.instance == pod && !entry.dry_run && !own).then(|| {
        format!(
            "the coordinator in {pod} led, was stopped, and on waking did {} {} ({})",
            entry.verb, entry.path, entry.code
        )
    })
}

enum Class {
    /// Nameward's own objects.
    Own,
    /// Nothing was changed.
    Nothing,
    /// A shared act.
    Remedy(RemedyKind),
    /// A shared act that the API server refused.
    Refused(RemedyKind),
    /// Part of a memory raise, and of nothing else.
    Resize,
    /// Anything else.
    Violation,
}

fn classify(entry: &LogEntry) -> Class {
    let coordinator = entry.user.ends_with("coordinator");
    let act = match (entry.resource.as_str(), entry.subresource.as_str()) {
        ("pods", "eviction") if coordinator && entry.name.starts_with("kube-proxy-") => {
            Some(RemedyKind::RestartKubeProxy)
        }
        ("pods", "eviction") if coordinator => Some(RemedyKind::EvictPod),
        ("deployments", "") if coordinator && entry.verb == "patch" => Some(RemedyKind::RaiseMemory),
        ("deployments", "scale") if coordinator => Some(RemedyKind::AddReplica),
        _ => None,
    };
    if entry.dry_run {
        return Class::Nothing;
    }
    match act {
        Some(kind) if entry.changed() => return Class::Remedy(kind),
        Some(kind) => return Class::Refused(kind),
        None => {}
    }
    match (entry.resource.as_str(), entry.subresource.as_str()) {
        ("pods", "resize") if coordinator && entry.changed() => Class::Resize,
        ("nodeagents", _) | ("events" | "selfsubjectaccessreviews", "") => Class::Own,
        ("dnsincidents", _) | ("leases", "") if coordinator => Class::Own,
        // Its own condition, and no other: the admission policy sees to that.
        ("nodes", "status") if coordinator => Class::Own,
        _ if entry.changed() => Class::Violation,
        _ => Class::Nothing,
    }
}

/// A subject in the scenario's names.
fn alias(world: &World, subject: &Subject) -> String {
    match subject.kind {
        SubjectKind::Pod => {
            let key = format!("{}/{}", subject.namespace.as_deref().unwrap_or_default(), subject.name);
            world.alias(subject.uid.as_ref().map(|u| u.as_str()), &key).unwrap_or(key)
        }
        SubjectKind::Node => subject.name.clone(),
        SubjectKind::Upstream => "upstream".to_owned(),
        SubjectKind::Service | SubjectKind::Deployment => format!("{} {}", subject.kind.label(), subject.name),
    }
}

/// Whether every agent has reported a healthy node whose matrix covers every CoreDNS pod.
pub(super) fn all_healthy(api: &Handle, nodes: &[String], coredns: usize) -> Result<(), String> {
    let agents = api.list("NodeAgent", "", "");
    if agents.len() < nodes.len() {
        return Err(format!("{} of {} agents have reported", agents.len(), nodes.len()));
    }
    for agent in &agents {
        let name = &agent["metadata"]["name"];
        let report: NodeReport = serde_json::from_value(agent["status"].clone())
            .map_err(|_| format!("the agent on {name} has not reported"))?;
        let pods: BTreeSet<_> = report.matrix.rows.iter().filter_map(|r| r.pod.clone()).collect();
        let healthy = report.conditions.iter().any(|c| c.r#type == "Healthy" && c.status == "True");
        if !healthy || pods.len() < coredns || report.namespaces == 0 {
            let troubles = report.troubles.join("; ");
            return Err(format!(
                "the agent on {name} reports {} CoreDNS pods, {} namespaces, healthy: {healthy}. {troubles}",
                pods.len(),
                report.namespaces
            ));
        }
        if let Some(bad) = report.matrix.rows.iter().find(|r| r.bad > 0) {
            return Err(format!("the agent on {name} sees {} fail", bad.ip));
        }
        // While the cluster comes up, the Service has no endpoints for a moment: that is over by now, or will be.
        if !report.deferred.is_empty() || !report.examined.is_empty() {
            return Err(format!(
                "the agent on {name} leaves CoreDNS pods to other nodes, or looks into their complaints"
            ));
        }
        if let Some(verdict) = report.verdicts.first() {
            return Err(format!("the agent on {name} still names {} on {}", verdict.cause, verdict.subject));
        }
    }
    let leads = api.list("Lease", "", "").iter().any(|lease| lease["spec"]["holderIdentity"].is_string());
    if leads { Ok(()) } else { Err("no coordinator holds the Lease".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_that_woke_may_read_and_claim_and_nothing_else() {
        let entry = |instance: &str, verb: &str, resource: &str, subresource: &str, dry_run, code| LogEntry {
            at: std::time::Duration::ZERO,
            wall: nameward_messages::Now::at(std::time::Duration::ZERO).wall,
            user: "system:serviceaccount:nameward:nameward-coordinator".into(),
            instance: instance.into(),
            verb: verb.into(),
            path: format!("/{resource}"),
            group: String::new(),
            resource: resource.into(),
            namespace: String::new(),
            name: String::new(),
            subresource: subresource.into(),
            dry_run,
            code,
            reason: String::new(),
            body: String::new(),
            reply_lost: false,
        };
        for (bad, entry) in [
            (true, entry("control", "create", "pods", "eviction", false, 201)),
            (true, entry("control", "create", "pods", "eviction", false, 404)),
            (true, entry("control", "patch", "dnsincidents", "status", false, 200)),
            (true, entry("control", "patch", "nodeagents", "", false, 200)),
            (false, entry("control", "create", "pods", "eviction", true, 201)),
            (false, entry("control", "update", "leases", "", false, 409)),
            (false, entry("control-2", "create", "pods", "eviction", false, 201)),
        ] {
            assert_eq!(woken_did("control", &entry).is_some(), bad, "{entry:?}");
        }
    }
}
