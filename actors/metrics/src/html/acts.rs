//! What was done, would have been done or was refused, and why.

use nameward_messages::remedy::{RemedyKind, RemedyOutcome};
use nameward_messages::status::{Act, Status};

use super::writer::Html;

pub(super) fn section(html: &mut Html, status: &Status) {
    html.with("section", &[("id", "acts"), ("aria-labelledby", "acts-title")], |html| {
        html.with("h2", &[("id", "acts-title")], |html| html.text("What was done, and what was refused and why"));
        if status.acts.is_empty() {
            html.el("p", |html| html.text("Nothing was done and nothing was refused since this process started."));
        } else {
            list(html, &status.acts);
        }
    });
}

/// A list, not a table: the reasons are long, and a phone is narrow.
pub(super) fn list(html: &mut Html, acts: &[Act]) {
    html.el("ol.acts", |html| {
        for act in acts {
            html.with("li", &[("class", class(act.outcome))], |html| {
                html.el("p", |html| {
                    html.time(act.at);
                    html.text(" ");
                    html.el("strong", |html| html.text(outcome(act.outcome)));
                    html.text(" ");
                    html.el("code", |html| html.text(act.kind.id()));
                    html.texts(&[" on ", &act.subject.to_string()]);
                    // To call a person is nobody's mode.
                    if act.kind != RemedyKind::CallPerson {
                        html.text(&format!(" (mode {})", act.mode.label()));
                    }
                    if let Some(node) = &act.node {
                        html.texts(&[", by ", node.as_str()]);
                    }
                    if act.times > 1 {
                        html.text(&format!(", {} times", act.times));
                    }
                });
                if !act.detail.is_empty() {
                    html.el("p.why", |html| html.text(&act.detail));
                }
            });
        }
    });
}

fn class(outcome: RemedyOutcome) -> &'static str {
    match outcome {
        RemedyOutcome::Verified => "act well",
        RemedyOutcome::Refused | RemedyOutcome::Unknown | RemedyOutcome::WouldAct => "act doubtful",
        RemedyOutcome::Failed | RemedyOutcome::Ineffective | RemedyOutcome::Escalated => "act failing",
        RemedyOutcome::Done | RemedyOutcome::Undone => "act",
    }
}

/// For people.
fn outcome(outcome: RemedyOutcome) -> &'static str {
    match outcome {
        RemedyOutcome::WouldAct => "would have done",
        RemedyOutcome::Refused => "refused",
        RemedyOutcome::Done => "done, not verified yet:",
        RemedyOutcome::Unknown => "outcome not known:",
        RemedyOutcome::Verified => "done and verified:",
        RemedyOutcome::Ineffective => "done, did not help:",
        RemedyOutcome::Undone => "taken back:",
        RemedyOutcome::Failed => "could not be done:",
        RemedyOutcome::Escalated => "a person is called:",
    }
}
