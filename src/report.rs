//! What `nameward check` says: a matrix of vantages and servers, verdicts, and what could not be looked at.

use std::collections::BTreeMap;

use comfy_table::Table;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::Observation;
use nameward_messages::targets::{Target, TargetKind};
use nameward_messages::verdict::Confidence;

use crate::check::Heard;

/// Pods that answer everywhere are named up to this many; the rest is summed up in one row.
const NAMED: usize = 10;
const TRANSPORTS: [&str; 2] = ["udp", "tcp"];

/// What was found out on a node.
pub(crate) struct Report<'a> {
    pub(crate) node: &'a str,
    pub(crate) heard: &'a Heard,
    /// What could not be looked at, and why.
    pub(crate) losses: &'a [String],
}

/// The worst observation per transport.
type Cell<'a> = BTreeMap<String, &'a Observation>;
type Row<'a> = BTreeMap<&'a Target, Cell<'a>>;

impl Report<'_> {
    /// Paths that could be asked.
    pub(crate) fn asked(&self) -> usize {
        self.heard.paths.values().filter(|o| o.outcome.good().is_some()).count()
    }

    /// Nothing failed and was confirmed.
    pub(crate) fn healthy(&self) -> bool {
        self.heard.suspected.is_empty() && self.heard.verdicts.is_empty()
    }

    /// One object for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let paths: Vec<_> = self
            .heard
            .paths
            .values()
            .map(|o| {
                serde_json::json!({
                    "vantage": o.path.vantage.to_string(), "target": o.path.target.to_string(), "transport": o.path.transport,
                    "question": o.path.question, "outcome": o.outcome.kind(),
                    "latency_ms": (o.latency.as_secs_f64() * 1e6).round() / 1e3,
                    "suspected": self.heard.suspected.contains_key(&o.path),
                })
            })
            .collect();
        let verdicts: Vec<_> = self.heard.verdicts.values().collect();
        serde_json::json!({
            "healthy": self.healthy(), "node": self.node, "namespaces": self.heard.namespaces.len(), "matrix": paths,
            "verdicts": verdicts, "deferred": self.heard.deferred, "losses": self.losses,
        })
    }

    /// For people: the matrix, the verdicts and one sentence. `width`: columns of the terminal.
    pub(crate) fn text(&self, width: usize) -> String {
        let mut lines = vec![self.matrix(width)];
        for verdict in self.heard.verdicts.values() {
            let sure = match verdict.confidence {
                Confidence::Certain => "certain",
                Confidence::Probable => "probable: the deciding evidence could not be read",
            };
            lines.push(String::new());
            lines.push(format!("{}: {} ({sure})", verdict.cause, verdict.subject));
            lines.extend(verdict.evidence.iter().map(|e| format!("  {}: {}", e.read, e.says)));
            lines.extend(verdict.ruled_out.iter().map(|r| format!("  not {}: {}", r.what, r.because)));
        }
        for deferral in &self.heard.deferred {
            lines.push(String::new());
            lines.push(format!(
                "{} fails from here ({}); its own node {} must judge: run `nameward check` there",
                deferral.subject, deferral.because, deferral.to_node
            ));
        }
        lines.push(String::new());
        lines.push(self.sentence());
        lines.join("\n")
    }

    fn sentence(&self) -> String {
        let (asked, failed) = (self.asked(), self.heard.suspected.len());
        let pods = self.heard.namespaces.len();
        let from = format!("{} and {pods} pod{}", self.node, if pods == 1 { "" } else { "s" });
        match (self.healthy(), failed) {
            (true, _) => format!("DNS answers: {asked} paths asked from {from}."),
            // Its cause stands although every server answers: a resolv.conf that names another, for instance.
            (false, 0) => format!("{asked} paths answer, asked from {from}, but not all is well: see above."),
            (false, _) => format!("DNS does not answer: {failed} of {asked} paths fail, asked from {from}."),
        }
    }

    /// Vantages by servers. A cell shows both transports, each with the worst of the names asked.
    fn matrix(&self, width: usize) -> String {
        let mut rows: BTreeMap<(bool, String), Row<'_>> = BTreeMap::new();
        let mut columns: Vec<&Target> = Vec::new();
        for (path, observation) in &self.heard.paths {
            if !columns.contains(&&path.target) {
                columns.push(&path.target);
            }
            let row = rows.entry((path.vantage != Vantage::Host, path.vantage.to_string())).or_default();
            worst(row.entry(&path.target).or_default(), observation);
        }
        columns.sort();
        let rows = summed_up(rows);

        // Side by side where the terminal has room, else one below the other.
        let first = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let wide = first + 3 + columns.len() * 26 <= width;
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let header = std::iter::once(format!("from {}", self.node)).chain(columns.iter().map(|t| header(t, wide)));
        table.set_header(header);
        for (name, row) in &rows {
            let between = if wide { "  " } else { "\n" };
            let cells =
                columns.iter().map(|column| row.get(column).map_or_else(String::new, |cell| shown(cell, between)));
            table.add_row(std::iter::once(name.clone()).chain(cells));
        }
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n")
    }
}

/// The host first, then what fails, then a few of those that are well, and the others as one row.
fn summed_up<'a>(rows: BTreeMap<(bool, String), Row<'a>>) -> Vec<(String, Row<'a>)> {
    let (mut shown, mut well) = (Vec::new(), Vec::new());
    for ((pod, name), row) in rows {
        let good = row.values().flat_map(BTreeMap::values).all(|o| o.outcome.good() == Some(true));
        if pod && good { well.push((name, row)) } else { shown.push((name, row)) }
    }
    let rest = if well.len() > NAMED + 1 { well.split_off(NAMED) } else { Vec::new() };
    shown.extend(well);
    if !rest.is_empty() {
        let name = format!("{} more pods, slowest", rest.len());
        let mut sum = Row::new();
        for (target, cell) in rest.into_iter().flat_map(|(_, row)| row) {
            cell.into_values().for_each(|observation| worst(sum.entry(target).or_default(), observation));
        }
        shown.push((name, sum));
    }
    shown
}

/// Keeps a failure before an answer, and the slower of two answers.
fn worst<'a>(cell: &mut Cell<'a>, observation: &'a Observation) {
    let rank = |o: &Observation| (o.outcome.good() == Some(false), o.outcome.good().is_none(), o.latency);
    let kept = cell.entry(observation.path.transport.to_string()).or_insert(observation);
    if rank(observation) > rank(kept) {
        *kept = observation;
    }
}

/// A pod by its name over its address; where there is little room by the end of its name.
fn header(target: &Target, wide: bool) -> String {
    match &target.kind {
        TargetKind::Pod { key, .. } => match key.name.rsplit_once('-') {
            Some((_, end)) if !wide => format!("…-{end}\n{}", target.ip),
            _ => format!("{}\n{}", key.name, target.ip),
        },
        kind @ (TargetKind::Service | TargetKind::Nameserver | TargetKind::Upstream) => {
            format!("{}\n{}", kind.label(), target.ip)
        }
    }
}

fn shown(cell: &Cell<'_>, between: &str) -> String {
    let words = TRANSPORTS.iter().filter_map(|transport| {
        let o = cell.get(*transport)?;
        Some(match o.outcome.good() {
            Some(true) => format!("{transport} {:.1}ms", o.latency.as_secs_f64() * 1e3),
            _ => format!("{transport} {}", o.outcome.kind().label()),
        })
    });
    words.collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests;
