//! The result of `nameward diagnose`: one object, documented in docs/diagnose.md.

use std::collections::BTreeSet;

use nameward_config::Config;
use nameward_diagnosis::finding::Finding;
use nameward_messages::namespaces::{Resolv, Vantage};
use nameward_messages::probe::{OutcomeKind, PathKey, QuestionKind};
use nameward_messages::remedy::{Mode, RemedyKind};
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence, Deferral, Evidence, RuledOut, Scope, Subject};
use serde::Serialize;

use super::list::runbook;
use super::reads::{Read, reads};
use super::survey::Surveyed;
use super::way::{Way, ways};
use crate::exit::{Failure, Found};

/// Everything that is told. The shape is stable: fields are added, and never change their meaning.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `null`: nothing could be asked.
    pub healthy: Option<bool>,
    pub node: String,
    pub subject: About,
    pub api: Api,
    pub matrix: Vec<Row>,
    pub ways: Vec<Way>,
    pub causes: Vec<Named>,
    pub ruled_out: Vec<RuledOut>,
    pub deferred: Vec<Deferral>,
    pub recovered: BTreeSet<Cause>,
    pub elsewhere: Vec<Elsewhere>,
    pub read: Vec<Read>,
    pub losses: Vec<String>,
    pub notes: Vec<String>,
}

/// Whom it is about.
#[derive(Debug, Serialize)]
pub(super) struct About {
    pub kind: &'static str,
    pub namespace: Option<String>,
    pub name: String,
    pub netns: Option<String>,
    pub addresses: Vec<std::net::IpAddr>,
    pub resolv: Option<Resolv>,
}

/// Whether the API took part.
#[derive(Debug, Serialize)]
pub(super) struct Api {
    pub server: Option<String>,
    pub missing: Option<String>,
}

/// One thing asked in one way.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub target: String,
    pub kind: &'static str,
    pub address: std::net::IpAddr,
    pub port: u16,
    pub transport: Transport,
    pub question: QuestionKind,
    pub way: &'static str,
    pub outcome: OutcomeKind,
    pub says: String,
    pub asked: u32,
    pub failed: u32,
    pub slowest_ms: f64,
    pub suspected: bool,
}

/// A cause with all that a person needs to act.
#[derive(Debug, Serialize)]
pub(super) struct Named {
    pub cause: Cause,
    pub fault: &'static str,
    pub scope: Scope,
    pub subject: Subject,
    pub says: &'static str,
    pub confidence: Confidence,
    pub evidence: Vec<Evidence>,
    pub ruled_out: Vec<RuledOut>,
    /// The first rung of its ladder, as configured; `null`: a person must act.
    pub remedy: Option<&'static str>,
    pub mode: Option<Mode>,
    /// Every rung, in the order in which they are looked at.
    pub ladder: Vec<Rung>,
    pub command: String,
    pub worse: &'static [&'static str],
    pub runbook: String,
}

/// What may be tried, and whether it would be.
#[derive(Debug, Serialize)]
pub(super) struct Rung {
    pub remedy: &'static str,
    pub mode: Mode,
    /// Whose act it is: `coordinator` or `agent`.
    pub by: &'static str,
}

/// A cause that stands on the node and does not concern the subject.
#[derive(Debug, Serialize)]
pub(super) struct Elsewhere {
    pub cause: Cause,
    pub subject: Subject,
}

impl Report {
    pub(super) fn of(surveyed: &Surveyed, config: &Config, losses: Vec<String>) -> Self {
        let failing: BTreeSet<&PathKey> = match &surveyed.api {
            Ok(_) => surveyed
                .matrix
                .suspected()
                .map(|(path, _)| path)
                .filter(|path| path.vantage == surveyed.vantage)
                .collect(),
            // Nobody confirms without rounds: what never answered counts.
            Err(_) => surveyed.asked.iter().filter(|(_, t)| t.failed == t.asked).map(|((path, _), _)| path).collect(),
        };
        let record = &surveyed.record;
        let concerns = |finding: &Finding| {
            finding.explains.iter().any(|path| path.vantage == surveyed.vantage)
                || finding.scope == Scope::Cluster
                || surveyed.vantage == Vantage::Host && finding.scope == Scope::Node
                || surveyed.pod.is_some() && finding.subject.uid == surveyed.pod
        };
        let (mine, other): (Vec<&Finding>, Vec<&Finding>) =
            surveyed.judgement.findings.iter().partition(|finding| concerns(finding));
        let causes: Vec<Named> = mine.into_iter().map(|finding| named(finding, surveyed, config)).collect();
        // What a cause says of another one is told there.
        let told = |r: &&RuledOut| !causes.iter().flat_map(|c| &c.ruled_out).any(|known| known.what == r.what);
        let ruled_out = surveyed.judgement.dismissed.iter().filter(told).cloned().collect();
        let deferred = if failing.is_empty() { Vec::new() } else { surveyed.judgement.deferred.clone() };
        let mut notes = surveyed.notes.clone();
        if config.probe.external_name.is_empty() {
            notes.push("names outside of the cluster were not asked for: probe.external_name is empty".to_owned());
        }
        if surveyed.api.is_err() {
            notes.push("without the API's word on Service and pods no cause is named".to_owned());
        }
        let matrix = rows(surveyed, &failing);
        let learned = matrix.iter().any(|row| row.outcome != OutcomeKind::NotAsked);
        Self {
            healthy: learned.then_some(failing.is_empty() && causes.is_empty()),
            node: record.node.to_string(),
            subject: about(surveyed),
            api: Api { server: surveyed.api.clone().ok(), missing: surveyed.api.clone().err() },
            matrix,
            ways: ways(surveyed),
            causes,
            ruled_out,
            deferred,
            recovered: surveyed.recovered.clone(),
            elsewhere: other
                .into_iter()
                .map(|finding| Elsewhere { cause: finding.cause, subject: finding.subject.clone() })
                .collect(),
            read: reads(surveyed),
            losses,
            notes,
        }
    }

    pub(super) fn found(&self) -> Result<Found, Failure> {
        match self.healthy {
            Some(true) => Ok(Found::Healthy),
            Some(false) => Ok(Found::Unhealthy),
            None => {
                let why = self.api.missing.clone().unwrap_or_else(|| "nothing to ask was found".to_owned());
                Err(Failure::could_not(format!("no question could be asked from {}", self.subject.name), why))
            }
        }
    }
}

fn about(surveyed: &Surveyed) -> About {
    match &surveyed.namespace {
        // A namespace by its file, which no pod owns.
        Some(namespace) if namespace.pod.as_str() == namespace.path.display().to_string() => About {
            kind: "netns",
            namespace: None,
            name: namespace.path.display().to_string(),
            netns: Some(namespace.path.display().to_string()),
            addresses: namespace.ips.clone(),
            resolv: Some(namespace.resolv.clone()),
        },
        Some(namespace) => About {
            kind: "pod",
            namespace: Some(namespace.key.namespace.clone()),
            name: namespace.key.name.clone(),
            netns: Some(namespace.path.display().to_string()),
            addresses: namespace.ips.clone(),
            resolv: Some(namespace.resolv.clone()),
        },
        None => {
            let name = surveyed.record.node.to_string();
            About { kind: "node", namespace: None, name, netns: None, addresses: Vec::new(), resolv: None }
        }
    }
}

fn named(finding: &Finding, surveyed: &Surveyed, config: &Config) -> Named {
    let about = finding.cause.about();
    let record = &surveyed.record;
    // What stands in capitals in a command is filled in where it is known.
    let of_subject = finding.subject.uid.as_ref().and_then(|uid| record.namespaces.get(uid));
    let mut known: Vec<(&str, String)> = Vec::new();
    if let Some(namespace) = of_subject {
        known.push(("NETNS", namespace.path.display().to_string()));
        known.extend(namespace.host_veth.clone().map(|veth| ("VETH", veth)));
        known.extend(namespace.bridge.clone().map(|bridge| ("BRIDGE", bridge)));
        known.extend(namespace.gateway.map(|gateway| ("GATEWAY", gateway.to_string())));
        known.extend(namespace.ips.first().map(|ip| ("POD_IP", ip.to_string())));
    }
    let service = record.targets.service.as_ref().and_then(|service| service.cluster_ips.first());
    known.extend(service.map(|ip| ("SERVICE_IP", ip.to_string())));
    let rungs = config.remedy.ladder(finding.cause);
    let rung = |kind: &RemedyKind| Rung {
        remedy: kind.id(),
        mode: config.remedy.mode_of(*kind),
        by: if kind.shared() { "coordinator" } else { "agent" },
    };
    let ladder: Vec<Rung> = rungs.iter().map(rung).collect();
    let known: Vec<(&str, &str)> = known.iter().map(|(place, name)| (*place, name.as_str())).collect();
    Named {
        cause: finding.cause,
        fault: about.fault,
        scope: finding.scope,
        subject: finding.subject.clone(),
        says: about.says,
        confidence: finding.confidence,
        evidence: finding.evidence.clone(),
        ruled_out: finding.ruled_out.clone(),
        remedy: ladder.first().map(|rung| rung.remedy),
        mode: ladder.first().map(|rung| rung.mode),
        ladder,
        command: finding.cause.command_with(&finding.subject, Some(record.node.as_str()), &known),
        worse: about.never,
        runbook: runbook(finding.cause),
    }
}

fn rows(surveyed: &Surveyed, failing: &BTreeSet<&PathKey>) -> Vec<Row> {
    let row = |((path, way), tally): (&(PathKey, &'static str), &super::survey::Tally)| Row {
        target: path.target.to_string(),
        kind: path.target.kind.label(),
        address: path.target.ip,
        port: tally.last.port,
        transport: path.transport,
        question: path.question,
        way,
        outcome: tally.last.outcome.kind(),
        says: tally.last.outcome.to_string(),
        asked: tally.asked,
        failed: tally.failed,
        slowest_ms: (tally.slowest.as_secs_f64() * 1e6).round() / 1e3,
        suspected: failing.contains(path),
    };
    surveyed.asked.iter().map(row).collect()
}
