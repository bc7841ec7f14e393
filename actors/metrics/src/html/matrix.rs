//! Vantages by targets.

use nameward_messages::probe::QuestionKind;
use nameward_messages::status::{Cell, ClusterFigures, Matrix, MatrixOf, PathState, Row, Seen, Status, TargetHead};

use super::writer::{Html, milliseconds};

/// Kinds of questions that a cell names.
const NAMED: usize = 2;

pub(super) fn section(html: &mut Html, status: &Status) {
    html.with("section", &[("id", "matrix"), ("aria-labelledby", "matrix-title")], |html| {
        html.with("h2", &[("id", "matrix-title")], |html| html.text("Who gets answers from whom"));
        if let Some(figures) = &status.cluster {
            html.el("p", |html| html.text(&sentence(figures)));
        }
        if status.matrices.is_empty() {
            html.el("p", |html| html.text("Nothing has been asked yet."));
        }
        for matrix in &status.matrices {
            table(html, matrix);
        }
        html.raw(
            "<p class=\"legend\">Each cell: UDP above TCP. <span class=\"well\"><span aria-hidden=\"true\">\u{2713}</span> answers, with the \
             time of the last good answer</span>; <span class=\"doubtful\"><span aria-hidden=\"true\">!</span> failed once, not \
             confirmed</span>; <span class=\"failing\"><span aria-hidden=\"true\">\u{2715}</span> confirmed to fail, and how</span>; \
             <span class=\"unknown\"><span aria-hidden=\"true\">?</span> not known</span>.</p>\n",
        );
    });
}

fn sentence(figures: &ClusterFigures) -> String {
    let mut text = format!(
        "{} of {} nodes report, {} of them see DNS fail; {} of {} CoreDNS pods are ready.",
        figures.reporting, figures.nodes, figures.failing, figures.coredns_ready, figures.coredns
    );
    if figures.silent + figures.unwell > 0 {
        text.push_str(&format!(" Silent: {}; not well themselves: {}.", figures.silent, figures.unwell));
    }
    text
}

fn table(html: &mut Html, matrix: &Matrix) {
    let (caption, id) = match matrix.of {
        MatrixOf::Node => {
            ("From this node's host and from every pod's network namespace, by what is asked", "matrix-node")
        }
        MatrixOf::Cluster => {
            ("From every node's host and from its pods taken together, by what is asked", "matrix-cluster")
        }
    };
    // A region that can be scrolled must be reached by keyboard.
    html.with(
        "div",
        &[("class", "scroll"), ("id", id), ("role", "region"), ("aria-label", caption), ("tabindex", "0")],
        |html| {
            html.el("table", |html| {
                html.el("caption", |html| html.el("span.caption", |html| html.text(caption)));
                html.el("thead", |html| {
                    html.el("tr", |html| {
                        html.with("th", &[("scope", "col")], |html| html.text("from"));
                        for target in &matrix.targets {
                            html.with("th", &[("scope", "col")], |html| head(html, target));
                        }
                    });
                });
                html.el("tbody", |html| {
                    for row in &matrix.rows {
                        line(html, row);
                    }
                });
            });
        },
    );
    left_out(html, matrix);
}

fn head(html: &mut Html, target: &TargetHead) {
    html.el("span.target", |html| html.text(&target.name));
    html.el("span.where", |html| {
        html.text(&target.ip.to_string());
        if let Some(node) = &target.node {
            html.texts(&[" on ", node.as_str()]);
        }
    });
}

fn line(html: &mut Html, row: &Row) {
    html.el("tr", |html| {
        html.with("th", &[("scope", "row")], |html| html.broken(&row.from));
        for cell in &row.cells {
            html.with("td", &[("class", class(cell.state()))], |html| content(html, cell));
        }
    });
}

fn content(html: &mut Html, cell: &Cell) {
    if cell.both().iter().all(Option::is_none) {
        html.spoken("not asked");
        html.with("span", &[("aria-hidden", "true")], |html| html.text("\u{2013}"));
    }
    for (label, seen) in [("UDP", &cell.udp), ("TCP", &cell.tcp)] {
        let Some(seen) = seen else { continue };
        html.with("span", &[("class", seen_class(seen.state))], |html| {
            html.el("span.by", |html| html.text(label));
            html.text(" ");
            html.with("span", &[("aria-hidden", "true")], |html| html.text(sign(seen.state)));
            html.text(" ");
            html.text(&told(seen));
        });
    }
}

/// What stands in a cell, and is read out.
fn told(seen: &Seen) -> String {
    let mut text = match seen.state {
        PathState::Well => seen.latency_us.map_or_else(|| "ok".to_owned(), milliseconds),
        PathState::Unknown => PathState::Unknown.label().to_owned(),
        PathState::Doubtful | PathState::Failing => {
            let how = seen.says.as_deref().or(seen.outcome.map(|outcome| outcome.label()));
            how.unwrap_or(seen.state.label()).to_owned()
        }
    };
    // Of a single path the count says nothing.
    let asked = seen.good + seen.bad;
    if seen.state == PathState::Failing && asked > 1 {
        text.push_str(&format!(", {} of {asked}", seen.bad));
    }
    // That the cluster's own name fails is what everybody expects; which names fail matters when it answers.
    if seen.state == PathState::Failing && !seen.failing.contains(&QuestionKind::Internal) && !seen.failing.is_empty() {
        let mut others: Vec<&str> = seen.failing.iter().take(NAMED).map(|kind| kind.label()).collect();
        if seen.failing.len() > NAMED {
            others.push("\u{2026}");
        }
        text.push_str(&format!(" ({})", others.join(", ")));
    }
    text
}

fn left_out(html: &mut Html, matrix: &Matrix) {
    let mut left = Vec::new();
    if matrix.rows_left_out > 0 {
        left.push(format!("{} more rows", matrix.rows_left_out));
    }
    if matrix.targets_left_out > 0 {
        left.push(format!("{} more targets", matrix.targets_left_out));
    }
    if !left.is_empty() {
        html.el("p", |html| html.text(&format!("Not shown: {}. What fails is shown first.", left.join(" and "))));
    }
}

pub(super) fn class(state: PathState) -> &'static str {
    match state {
        PathState::Unknown => "unknown",
        PathState::Well => "well",
        PathState::Doubtful => "doubtful",
        PathState::Failing => "failing",
    }
}

fn seen_class(state: PathState) -> &'static str {
    match state {
        PathState::Unknown => "seen unknown",
        PathState::Well => "seen well",
        PathState::Doubtful => "seen doubtful",
        PathState::Failing => "seen failing",
    }
}

fn sign(state: PathState) -> &'static str {
    match state {
        PathState::Unknown => "?",
        PathState::Well => "\u{2713}",
        PathState::Doubtful => "!",
        PathState::Failing => "\u{2715}",
    }
}
