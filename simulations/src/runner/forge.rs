//! Somebody on a node who holds its agent's token: reports in its name what nobody else sees, and tries to report for others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nameward_messages::report::{MatrixRow, NodeOrders, NodeReport, ReportedVerdict, RequestAnswer};
use nameward_messages::verdict::{Cause, Confidence, Evidence, Scope, Subject};
use nameward_messages::{ObjectKey, PodUid};
use serde_json::{Value, json};

use super::child::Failure;
use crate::apiserver::{Handle, User};

/// Between two reports: quicker than an agent's questions are waited for.
const EVERY: Duration = Duration::from_millis(400);

/// The forger, until it is dropped or lifted.
#[derive(Debug)]
pub(super) struct Forger {
    api: Handle,
    node: String,
    /// The agent's own last word.
    genuine: Value,
    task: tokio::task::JoinHandle<()>,
    /// What it got away with.
    went_well: Arc<Mutex<Vec<String>>>,
}

/// Whom it accuses.
pub(super) struct Victim {
    pub(super) key: ObjectKey,
    pub(super) uid: PodUid,
}

impl Forger {
    /// Begins. The node's agent must be silent, or there are two voices.
    pub(super) fn begin(api: &Handle, node: &str, victim: Victim) -> Result<Self, Failure> {
        let agent = api.get("NodeAgent", "", node).ok_or("the node has no report")?;
        let genuine = agent["status"].clone();
        let report: NodeReport = serde_json::from_value(genuine.clone())?;
        let others =
            api.list("NodeAgent", "", "").into_iter().filter_map(|a| a["metadata"]["name"].as_str().map(str::to_owned));
        let others: Vec<String> = others.filter(|name| name != node).collect();
        let went_well: Arc<Mutex<Vec<String>>> = Arc::default();
        let lie = Lie {
            api: api.clone(),
            user: User::service_account("nameward", "nameward-agent", Some(node)),
            node: node.to_owned(),
            path: format!("/apis/{}/nodeagents", agent["apiVersion"].as_str().unwrap_or_default()),
            others,
            victim,
            report,
            went_well: Arc::clone(&went_well),
        };
        let task = tokio::runtime::Handle::current().spawn(lie.go_on());
        Ok(Self { api: api.clone(), node: node.to_owned(), genuine, task, went_well })
    }

    /// Ends; the agent's own word stands again. Gives back what should not have been possible.
    pub(super) fn end(self) -> Vec<String> {
        self.task.abort();
        let mut genuine = self.genuine.clone();
        // Reports count up, also past a liar's.
        let said = self.api.get("NodeAgent", "", &self.node).and_then(|agent| agent["status"]["sequence"].as_u64());
        genuine["sequence"] = json!(said.unwrap_or_default() + 1);
        let patch = json!({"status": {"verdicts": null, "answers": null, "deferred": null}});
        let cleared = self.api.patch("NodeAgent", "", &self.node, patch);
        let restored = self.api.patch("NodeAgent", "", &self.node, json!({"status": genuine}));
        let mut left = std::mem::take(&mut *self.went_well.lock().unwrap_or_else(PoisonError::into_inner));
        left.extend(cleared.and(restored).err().map(|why| format!("the true report could not be put back: {why}")));
        left
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What it says, over and over.
struct Lie {
    api: Handle,
    user: User,
    node: String,
    /// Of all reports.
    path: String,
    others: Vec<String>,
    victim: Victim,
    report: NodeReport,
    went_well: Arc<Mutex<Vec<String>>>,
}

impl Lie {
    async fn go_on(mut self) {
        let since = self.api.now();
        loop {
            let orders = self.api.get("NodeAgent", "", &self.node).map(|agent| agent["spec"].clone());
            let orders: NodeOrders = orders.and_then(|spec| serde_json::from_value(spec).ok()).unwrap_or_default();
            self.say(since, &orders);
            if let Err(refused) = self.write(&self.node) {
                self.note(format!("the agent of {} cannot write its own report: {refused}", self.node));
                return;
            }
            for other in &self.others {
                if self.write(other).is_ok() {
                    self.note(format!("with the token of {}'s agent the report of {other} was written", self.node));
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn note(&self, line: String) {
        let mut lines = self.went_well.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// The pod is dead, from everywhere here, and every question is answered so.
    fn say(&mut self, since: Timestamp, orders: &NodeOrders) {
        let report = &mut self.report;
        report.sequence += 1;
        report.written_at = Some(self.api.now());
        report.self_check = true;
        report.verdicts = vec![ReportedVerdict {
            cause: Cause::CorednsUdpDead,
            scope: Scope::CorednsPod,
            subject: Subject::pod(&self.victim.key, &self.victim.uid),
            confidence: Confidence::Certain,
            evidence: vec![Evidence::new("a forger", "it is dead, believe me")],
            ruled_out: Vec::new(),
            since,
        }];
        let victim = &self.victim.uid;
        for row in &mut report.matrix.rows {
            accuse(row, victim);
        }
        let rows = report.matrix.rows.clone();
        let answer = |id| RequestAnswer { id, rows: rows.clone() };
        report.answers = orders.requests.iter().map(|request| answer(request.id.clone())).collect();
    }

    fn write(&self, node: &str) -> Result<(), String> {
        let report = serde_json::to_value(&self.report).map_err(|e| e.to_string())?;
        let path = format!("{}/{node}/status", self.path);
        let body = json!({"status": report});
        match self.api.request(&self.user, "PATCH", &path, "application/merge-patch+json", &body) {
            (200, _) => Ok(()),
            (code, body) => Err(format!("{code} {}", body["message"].as_str().unwrap_or_default())),
        }
    }
}

/// Over UDP it fails from everywhere.
fn accuse(row: &mut MatrixRow, victim: &PodUid) {
    use nameward_messages::probe::OutcomeKind;
    use nameward_messages::targets::Transport;
    if row.pod.as_ref() == Some(victim) && row.transport == Transport::Udp && row.good > 0 {
        (row.good, row.bad, row.outcome) = (0, row.good, Some(OutcomeKind::Refused));
    }
}
