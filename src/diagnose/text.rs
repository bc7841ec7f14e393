//! The report for people.

use comfy_table::{ContentArrangement, Table};
use nameward_diagnosis::way::Passes;
use nameward_messages::probe::OutcomeKind;
use nameward_messages::remedy::Mode;
use nameward_messages::verdict::Confidence;

use super::report::{Named, Report, Row};
use super::way::Way;

pub(super) fn text(report: &Report, width: usize) -> String {
    let mut out = vec![headline(report)];
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            out.push(String::new());
            out.push(title.to_owned());
            out.extend(lines.into_iter().map(|line| if line.is_empty() { line } else { format!("  {line}") }));
        }
    };
    if !report.matrix.is_empty() {
        section("What was asked (time, or failure and how often of how many)", matrix(&report.matrix, width));
    }
    section("The way of a packet, as far as it could be read", ways(report, width));
    for named in &report.causes {
        section(&format!("Cause: {}", named.cause), cause(named, width));
    }
    section(
        "Left to another node",
        report
            .deferred
            .iter()
            .map(|d| {
                format!(
                    "{} fails from here ({}): run `nameward diagnose --host` on {}",
                    d.subject, d.because, d.to_node
                )
            })
            .collect(),
    );
    let ruled_out = report.ruled_out.iter().map(|r| format!("{}: {}", r.what, r.because)).collect();
    section("Looked like it, and ruled out", ruled_out);
    section("What was read, and what could not be", read(report, width));
    let recovered = report.recovered.iter().map(|cause| format!("{cause} was there and is not any more"));
    let elsewhere =
        report.elsewhere.iter().map(|e| format!("{} of {} stands on this node as well", e.cause, e.subject));
    section("Beside it", recovered.chain(elsewhere).chain(report.notes.iter().cloned()).collect());
    out.push(String::new());
    out.push(sentence(report));
    out.join("\n")
}

fn headline(report: &Report) -> String {
    let about = &report.subject;
    let addresses: Vec<String> = about.addresses.iter().map(ToString::to_string).collect();
    let mut line = match &about.namespace {
        Some(namespace) => format!("pod {namespace}/{} on {}", about.name, report.node),
        None if about.netns.is_some() => format!("a network namespace of no pod that {} knows", report.node),
        None => format!("node {}", report.node),
    };
    if !addresses.is_empty() {
        line.push_str(&format!(", {}", addresses.join(", ")));
    }
    if let Some(netns) = &about.netns {
        line.push_str(&format!(", {netns}"));
    }
    if let Some(resolv) = about.resolv.as_ref().filter(|r| r.read_from.is_some()) {
        let servers: Vec<String> = resolv.nameservers.iter().map(ToString::to_string).collect();
        line.push_str(&format!("\nresolv.conf: nameserver {}", servers.join(" ")));
        if !resolv.search.is_empty() {
            line.push_str(&format!("; search {}", resolv.search.join(" ")));
        }
        if !resolv.options.is_empty() {
            line.push_str(&format!("; options {}", resolv.options.join(" ")));
        }
    }
    line
}

/// Servers by ways of asking. A server is named once.
fn matrix(rows: &[Row], width: usize) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width.saturating_sub(2)).unwrap_or(u16::MAX));
    table.set_header(["server", "question", "way of asking", "udp", "tcp"]);
    let mut lines: Vec<(&str, String, &str, Vec<&Row>)> = Vec::new();
    for row in rows {
        let question = word(&row.question);
        match lines.iter_mut().find(|(t, q, w, _)| *t == row.target && *q == question && *w == row.way) {
            Some((.., cells)) => cells.push(row),
            None => lines.push((&row.target, question, row.way, vec![row])),
        }
    }
    // The plain way before the others, and a server's lines together.
    lines.sort_by(|a, b| {
        let rank = |line: &(&str, String, &str, Vec<&Row>)| (line.1 != "internal", line.2 != "plain");
        (a.0, rank(a), &a.1, a.2).cmp(&(b.0, rank(b), &b.1, b.2))
    });
    let mut last = "";
    for (target, question, way, cells) in &lines {
        let cell = |transport: &str| {
            let row = cells.iter().find(|row| row.transport.to_string() == transport);
            row.map_or_else(String::new, |row| shown(row))
        };
        let named = if *target == last { "" } else { target };
        last = target;
        table.add_row([named.to_owned(), question.clone(), (*way).to_owned(), cell("udp"), cell("tcp")]);
    }
    // The borderless style begins each line with a blank.
    table.to_string().lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or(line).to_owned()).collect()
}

/// A kind of question as it is spelled in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn shown(row: &Row) -> String {
    let times = if row.asked > 1 { format!(" {}/{}", row.failed, row.asked) } else { String::new() };
    match row.outcome {
        OutcomeKind::Answered => format!("{:.1}ms", row.slowest_ms),
        kind => format!("{}{times}", kind.label()),
    }
}

fn ways(report: &Report, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last: Option<&Way> = None;
    for way in &report.ways {
        let transports: Vec<String> = way.transports.iter().map(ToString::to_string).collect();
        let title = format!("to {} over {}", way.to, transports.join(" and "));
        if last.is_some_and(|last| last.to == way.to && last.like(way)) {
            lines.push(format!("{title}: the same steps, by rules of its own"));
            continue;
        }
        last = Some(way);
        lines.push(title);
        for step in &way.steps {
            let mark = match step.passes {
                Passes::Yes => ' ',
                Passes::No => 'X',
                Passes::Unknown => '?',
            };
            lines.extend(folded(&format!("  {mark} {}: ", step.at), &step.says, width));
        }
    }
    lines
}

fn cause(named: &Named, width: usize) -> Vec<String> {
    let sure = match named.confidence {
        Confidence::Certain => "certain: the deciding evidence was read where it lies, twice",
        Confidence::Probable => "probable: the symptoms match, but the deciding evidence could not be read",
    };
    let mut lines = folded("", &format!("{} {} ({sure}; fault {})", named.subject, named.says, named.fault), width);
    for evidence in &named.evidence {
        lines.extend(folded(&format!("read     {}: ", evidence.read), &evidence.says, width));
    }
    for ruled_out in &named.ruled_out {
        lines.extend(folded(&format!("not      {}: ", ruled_out.what), &ruled_out.because, width));
    }
    for (n, rung) in named.ladder.iter().enumerate() {
        let what = match rung.mode {
            Mode::Off => "switched off by the configuration".to_owned(),
            Mode::Observe => "Nameward records what it would do, and does nothing".to_owned(),
            Mode::Act if rung.by == "agent" => "the node's agent does it, under permit and with a journal".to_owned(),
            Mode::Act => "the coordinator does it, within its guard rails".to_owned(),
        };
        let head = if n == 0 { "remedy   " } else { "or       " };
        lines.extend(folded(head, &format!("{}: {what}", rung.remedy), width));
    }
    if named.ladder.is_empty() {
        lines.extend(folded("remedy   ", "none of Nameward's own: a person must act", width));
    }
    lines.extend(folded("by hand  ", &named.command, width));
    for worse in named.worse {
        lines.extend(folded("never    ", worse, width));
    }
    lines.push(format!("more     {}", named.runbook));
    lines
}

fn read(report: &Report, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut of: Vec<&str> = report.read.iter().map(|r| r.of.as_str()).collect();
    of.dedup();
    for of in of {
        let read: Vec<&str> = report.read.iter().filter(|r| r.of == of && r.status == "read").map(|r| r.what).collect();
        if !read.is_empty() {
            lines.extend(folded(&format!("{of}: "), &read.join(", "), width));
        }
    }
    for missing in report.read.iter().filter(|r| r.status != "read") {
        let why = missing.why.as_deref().unwrap_or("no reason given");
        let head = format!("{}: {} {}: ", missing.of, missing.what, missing.status.replace('-', " "));
        lines.extend(folded(&head, why, width));
    }
    lines.extend(report.api.missing.iter().flat_map(|why| folded("the API: ", why, width)));
    lines
}

fn sentence(report: &Report) -> String {
    let whom = match &report.subject.namespace {
        Some(namespace) => format!("{namespace}/{}", report.subject.name),
        None => report.subject.name.clone(),
    };
    let failing = report.matrix.iter().filter(|row| row.suspected && row.way == "plain").count();
    let asked = report.matrix.len();
    let well = report.matrix.iter().filter(|row| row.failed == 0).count();
    match (report.healthy, failing, report.causes.is_empty()) {
        (None, ..) => format!("Nothing could be asked from {whom}."),
        (Some(true), ..) if well < asked => {
            format!(
                "DNS answers {whom}: {well} of {asked} ways of asking; the rest was not confirmed, or is not the cluster's."
            )
        }
        (Some(true), ..) => format!("DNS answers {whom}: {asked} ways of asking, all well."),
        (Some(false), 0, _) => format!("DNS answers {whom}, but not all is well: see above."),
        (Some(false), n, true) => format!("DNS fails {whom} on {n} paths, and no cause is named from here: see above."),
        (Some(false), n, false) => format!("DNS fails {whom} on {n} paths: see the cause above."),
    }
}

/// A long line, broken between words; what follows stands under its beginning.
pub(super) fn folded(head: &str, text: &str, width: usize) -> Vec<String> {
    let room = width.saturating_sub(4).max(40);
    let indent = head.chars().count().min(12);
    let mut lines = vec![head.trim_end_matches(' ').to_owned()];
    let mut first = true;
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        let glue = usize::from(!line.is_empty());
        if line.chars().count() + glue + word.chars().count() > room && !(first && line.trim().is_empty()) {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else if first && head.ends_with(' ') {
            *line = format!("{head}{word}");
        } else {
            line.push_str(if glue == 1 { " " } else { "" });
            line.push_str(word);
        }
        first = false;
    }
    lines
}

#[cfg(test)]
mod tests;
