//! What `nameward check` says from outside.

use std::collections::BTreeMap;

use nameward_messages::targets::Transport;
use nameward_outside::asking::Answer;
use nameward_outside::judge::{Found, Judgement, State};
use nameward_outside::look::Scene;
use nameward_outside::pods::{Aim, Probe};
use serde_json::{Value, json};

use super::probes::Probed;
use crate::output;

/// What was found from outside.
pub(crate) struct Report<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) judgement: &'a Judgement,
    pub(crate) probed: Option<&'a Probed>,
    /// All in all.
    pub(crate) found: Found,
}

impl Report<'_> {
    /// One object for programs.
    pub(crate) fn json(&self) -> Value {
        let ways: Vec<Value> = self
            .judgement
            .lines
            .iter()
            .map(|(asked, state)| {
                json!({
                    "way": asked.way, "address": asked.to.ip(), "port": asked.to.port(), "transport": asked.transport,
                    "question": asked.question, "outcome": asked.answer.outcome, "latency_ms": ms(&asked.answer), "state": state,
                })
            })
            .collect();
        let healthy = match self.found {
            Found::Healthy => Some(true),
            Found::Unhealthy => Some(false),
            Found::NotReached => None,
        };
        let mut object = json!({
            "healthy": healthy, "from": "outside", "service": self.scene.service.key.to_string(), "matrix": ways,
            "losses": self.scene.losses,
        });
        if let Some(probed) = self.probed {
            object["probes"] =
                probed.launched.probes.iter().map(|(node, probe)| of_probe(probed, node.as_str(), probe)).collect();
        }
        if self.found == Found::NotReached {
            let (what, why) = self.not_reached();
            object["error"] = json!({"what": what, "because": [why]});
        }
        object
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.judgement.lines.is_empty() {
            lines.push(self.ways());
        }
        for (node, probe) in self.probed.iter().flat_map(|p| &p.launched.probes) {
            lines.push(String::new());
            match (probe, self.probed) {
                (Probe::Answered(answers), Some(probed)) => lines.push(pod(node.as_str(), &probed.aims, answers)),
                _ => lines.push(format!("from a pod on {node}: {probe}")),
            }
        }
        lines.push(String::new());
        lines.push(self.sentence());
        lines.join("\n")
    }

    fn ways(&self) -> String {
        let mut rows: BTreeMap<(usize, String), BTreeMap<Transport, Vec<String>>> = BTreeMap::new();
        let mut order: Vec<String> = Vec::new();
        for (asked, state) in &self.judgement.lines {
            let name = format!("{}\t{}", asked.way, asked.to.ip());
            let at = order.iter().position(|known| *known == name).unwrap_or_else(|| {
                order.push(name.clone());
                order.len() - 1
            });
            let cell = match state {
                State::Answers => format!("{:.1}ms", ms(&asked.answer)),
                State::NotReached => format!("- ({})", asked.answer.outcome.label()),
                State::Fails | State::Declines => format!("{}: {}", state.label(), asked.answer.outcome.label()),
            };
            rows.entry((at, name)).or_default().entry(asked.transport).or_default().push(cell);
        }
        let mut table = output::table(["FROM OUTSIDE", "ADDRESS", "UDP", "TCP"]);
        for ((_, name), cells) in rows {
            let (way, address) = name.split_once('\t').unwrap_or((&name, ""));
            let cell = |t| cells.get(&t).map_or_else(String::new, |all| all.join(", "));
            table.add_row([way.to_owned(), address.to_owned(), cell(Transport::Udp), cell(Transport::Tcp)]);
        }
        output::trimmed(&table)
    }

    fn sentence(&self) -> String {
        let count = |wanted| self.judgement.lines.iter().filter(|(_, state)| *state == wanted).count();
        let outside =
            format!("from outside {} asked paths answer and {} fail", count(State::Answers), count(State::Fails));
        let pods = self.probed.map(|probed| {
            let answered = probed.launched.probes.iter().filter(|(_, p)| matches!(p, Probe::Answered(_))).count();
            format!(", {answered} of {} probe pods answered", probed.launched.probes.len())
        });
        let pods = pods.unwrap_or_default();
        match self.found {
            Found::Healthy => format!("DNS answers: {outside}{pods}."),
            Found::Unhealthy => format!("DNS does not answer: {outside}{pods}.{}", self.hint()),
            Found::NotReached => format!("How DNS is cannot be said: {outside}{pods}."),
        }
    }

    /// Where pods may be silent for a reason that is not DNS.
    fn hint(&self) -> String {
        let silent = |answers: &[Answer]| answers.iter().all(|a| a.failed && !a.outcome.replied());
        let all = self.probed.iter().flat_map(|p| &p.launched.probes).all(|(_, p)| match p {
            Probe::Answered(answers) => silent(answers),
            Probe::Waits(_) | Probe::Failed(_) => true,
        });
        match self.probed {
            Some(probed) if all => format!(
                " Nothing answered any pod: if a network policy of the namespace {} forbids it, choose another by --namespace.",
                probed.namespace
            ),
            _ => String::new(),
        }
    }

    /// What could not be found out with the next step, and why.
    pub(crate) fn not_reached(&self) -> (String, String) {
        let why = if self.judgement.lines.is_empty() {
            "the Service has no external address, no load balancer and no node port, and no address could be asked"
                .to_owned()
        } else {
            let declined = self.judgement.lines.iter().filter(|(_, s)| *s == State::Declines).count();
            let (asked, key) = (self.judgement.lines.len(), &self.scene.service.key);
            format!("every way that may lead to {key} was asked: of {asked} paths none answers, {declined} decline")
        };
        match self.probed {
            None => (
                "cluster DNS is not reachable from here, so how it is cannot be said; start probe pods with --allow-pods, or run this \
                 on a node"
                    .to_owned(),
                why,
            ),
            Some(probed) => {
                let said: Vec<String> = probed.launched.probes.iter().map(|(node, p)| format!("the pod on {node} {p}")).collect();
                ("no probe pod has answered, so how cluster DNS is cannot be said".to_owned(), said.join("; "))
            }
        }
    }
}

fn of_probe(probed: &Probed, node: &str, probe: &Probe) -> Value {
    match probe {
        Probe::Answered(answers) => {
            let matrix: Vec<Value> = probed
                .aims
                .iter()
                .zip(answers)
                .map(|(aim, answer)| {
                    json!({
                        "target": aim.target, "address": aim.to.ip(), "port": aim.to.port(), "transport": aim.transport,
                        "question": aim.question, "outcome": answer.outcome, "latency_ms": ms(answer), "failed": answer.failed,
                    })
                })
                .collect();
            json!({"node": node, "answered": true, "matrix": matrix})
        }
        Probe::Waits(_) | Probe::Failed(_) => json!({"node": node, "answered": false, "because": probe.to_string()}),
    }
}

fn pod(node: &str, aims: &[Aim], answers: &[Answer]) -> String {
    let mut rows: Vec<(String, BTreeMap<Transport, Vec<String>>)> = Vec::new();
    for (aim, answer) in aims.iter().zip(answers) {
        let name = format!("{}\t{}", aim.target, aim.to.ip());
        if rows.last().is_none_or(|(last, _)| *last != name) {
            rows.push((name, BTreeMap::new()));
        }
        let cell = if answer.failed || answer.outcome.label() != "answered" {
            answer.outcome.label().to_owned()
        } else {
            format!("{:.1}ms", ms(answer))
        };
        if let Some((_, cells)) = rows.last_mut() {
            cells.entry(aim.transport).or_default().push(cell);
        }
    }
    let head = format!("FROM A POD ON {node}");
    let mut table = output::table([head.as_str(), "ADDRESS", "UDP", "TCP"]);
    for (name, cells) in rows {
        let (target, address) = name.split_once('\t').unwrap_or((&name, ""));
        let cell = |t| cells.get(&t).map_or_else(String::new, |all| all.join(", "));
        table.add_row([target.to_owned(), address.to_owned(), cell(Transport::Udp), cell(Transport::Tcp)]);
    }
    output::trimmed(&table)
}

fn ms(answer: &Answer) -> f64 {
    f64::from(answer.latency_us) / 1e3
}
