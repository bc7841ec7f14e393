//! What is wrong, with the evidence and the way of the packet.

use nameward_messages::plan::IncidentPhase;
use nameward_messages::status::{Incident, PacketWay, Passes, Status};
use nameward_messages::verdict::{Confidence, Evidence, RuledOut, Scope};

use super::acts;
use super::writer::Html;

pub(super) fn section(html: &mut Html, status: &Status) {
    html.with("section", &[("id", "incidents"), ("aria-labelledby", "incidents-title")], |html| {
        let open = status.incidents.iter().filter(|incident| incident.open).count();
        html.with("h2", &[("id", "incidents-title")], |html| html.text(&format!("Open incidents ({open})")));
        if open == 0 {
            html.el("p", |html| html.text("None."));
        }
        for incident in status.incidents.iter().filter(|incident| incident.open) {
            article(html, incident, &status.source.role);
        }
        let closed: Vec<&Incident> = status.incidents.iter().filter(|incident| !incident.open).collect();
        if !closed.is_empty() {
            html.with("h2", &[("id", "closed-title")], |html| {
                html.text(&format!("Closed within the last hour ({})", closed.len()))
            });
            closed.into_iter().for_each(|incident| article(html, incident, &status.source.role));
        }
        if status.incidents_left_out > 0 {
            html.el("p", |html| html.text(&format!("{} more are not shown.", status.incidents_left_out)));
        }
    });
}

/// The same from one fetching to the next, so that what a reader has opened stays open.
pub(super) fn id(incident: &Incident) -> String {
    let subject = &incident.subject;
    let raw = match &incident.name {
        Some(name) => format!("incident-{name}"),
        None => format!(
            "verdict-{}-{}-{}",
            incident.cause.id(),
            subject.namespace.as_deref().unwrap_or_default(),
            subject.uid.as_ref().map_or(subject.name.as_str(), |uid| uid.as_str())
        ),
    };
    raw.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(200).collect()
}

fn article(html: &mut Html, incident: &Incident, role: &str) {
    let id = id(incident);
    let class = if incident.open { "incident open" } else { "incident closed" };
    html.with("article", &[("id", &id), ("class", class), ("aria-labelledby", &format!("{id}-title"))], |html| {
        html.with("h3", &[("id", &format!("{id}-title"))], |html| {
            html.el("span.cause", |html| html.text(incident.cause.id()));
            html.text(" ");
            html.el("span.phase", |html| html.text(phase(incident)));
        });
        html.el("p.says", |html| html.text(&incident.says));
        if !incident.summary.is_empty() {
            html.el("p", |html| html.text(&incident.summary));
        }
        facts(html, incident);
        stations(html, incident);
        fold(html, &format!("{id}-evidence"), "Evidence: what was read, and where", incident.open, |html| {
            evidence(html, &incident.evidence)
        });
        if let Some(way) = &incident.way {
            fold(html, &format!("{id}-way"), "The packet's path, as it was read", incident.open, |html| {
                steps(html, way)
            });
        }
        if !incident.ruled_out.is_empty() {
            let title = format!("What it is not ({})", incident.ruled_out.len());
            fold(html, &format!("{id}-not"), &title, false, |html| ruled_out(html, &incident.ruled_out));
        }
        html.el("h4", |html| html.text("What was done about it"));
        if incident.acts.is_empty() {
            html.el("p", |html| html.text(nothing(incident, role)));
        } else {
            acts::list(html, &incident.acts);
        }
        fold(html, &format!("{id}-hand"), "By hand", incident.phase == Some(IncidentPhase::Escalated), |html| {
            by_hand(html, incident)
        });
    });
}

fn phase(incident: &Incident) -> &'static str {
    match incident.phase {
        None if incident.open => "named",
        None => "over",
        Some(IncidentPhase::Open) => "open",
        Some(IncidentPhase::Remediating) => "being remedied",
        Some(IncidentPhase::Verifying) => "being verified",
        Some(IncidentPhase::Resolved) => "resolved",
        Some(IncidentPhase::Escalated) => "needs a person",
    }
}

fn nothing(incident: &Incident, role: &str) -> &'static str {
    match (incident.open, incident.remedy) {
        (true, Some(remedy)) if remedy.shared() && role == "agent" => {
            "Nothing by this node: what touches CoreDNS is the coordinator's. Its page says what it does, and what it refuses."
        }
        (true, Some(_)) => "Nothing yet: a verdict must stand for a while, and guard rails must agree.",
        (true, None) => "Nothing: Nameward never touches this by itself. See below what a person can run.",
        (false, _) => "Nothing.",
    }
}

fn facts(html: &mut Html, incident: &Incident) {
    html.el("dl.facts", |html| {
        fact(html, "subject", |html| html.text(&incident.subject.to_string()));
        let concerned = match incident.scope {
            Scope::Pod => "one pod",
            Scope::CorednsPod => "one CoreDNS pod, whoever asks it",
            Scope::Node => "one node, and every pod on it",
            Scope::Cluster => "the whole cluster",
        };
        fact(html, "concerns", |html| html.text(concerned));
        if let Some(confidence) = incident.confidence {
            let text = match confidence {
                Confidence::Certain => "certain: the deciding evidence was read, twice",
                Confidence::Probable => "probable: the deciding evidence could not be read",
            };
            fact(html, "sure", |html| html.text(text));
        }
        if let Some(since) = incident.since {
            fact(html, "since", |html| html.time(since));
        }
        if let Some(at) = incident.closed_at {
            fact(html, "closed", |html| html.time(at));
        }
        if !incident.nodes.is_empty() {
            let shown: Vec<&str> = incident.nodes.iter().take(16).map(|node| node.as_str()).collect();
            let more = incident.nodes.len().saturating_sub(shown.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            fact(html, "seen by", |html| html.text(&format!("{}{more}", shown.join(", "))));
        }
        if let Some(name) = &incident.name {
            fact(html, "object", |html| html.texts(&["dnsincident ", name]));
        }
    });
}

fn fact(html: &mut Html, name: &'static str, value: impl FnOnce(&mut Html)) {
    html.el("div", |html| {
        html.el("dt", |html| html.text(name));
        html.el("dd", value);
    });
}

/// The places that a question passes; the sick one is named, not only coloured.
fn stations(html: &mut Html, incident: &Incident) {
    if incident.stations.is_empty() {
        return;
    }
    html.with("ol", &[("class", "stations"), ("aria-label", "The way of a question, and where it ends")], |html| {
        for station in &incident.stations {
            if station.here {
                html.with("li", &[("class", "here"), ("aria-current", "true")], |html| {
                    html.with("span", &[("aria-hidden", "true")], |html| html.raw("\u{2715} "));
                    html.text(&station.name);
                    html.el("span.mark", |html| html.text(": it lies here"));
                });
            } else {
                html.el("li", |html| html.text(&station.name));
            }
        }
    });
}

/// What can be opened and closed, without a script.
fn fold(html: &mut Html, id: &str, title: &str, open: bool, inner: impl FnOnce(&mut Html)) {
    let mut attributes = vec![("id", id)];
    if open {
        attributes.push(("open", ""));
    }
    html.with("details", &attributes, |html| {
        html.with("summary", &[("id", &format!("{id}-title"))], |html| html.text(title));
        inner(html);
    });
}

fn evidence(html: &mut Html, evidence: &[Evidence]) {
    if evidence.is_empty() {
        html.el("p", |html| html.text("None is recorded here."));
        return;
    }
    html.el("dl.read", |html| {
        for line in evidence {
            html.el("div", |html| {
                html.el("dt", |html| html.text(&line.read));
                html.el("dd", |html| html.text(&line.says));
            });
        }
    });
}

fn ruled_out(html: &mut Html, list: &[RuledOut]) {
    html.el("dl.read", |html| {
        for line in list {
            html.el("div", |html| {
                html.el("dt", |html| html.texts(&["not ", &line.what]));
                html.el("dd", |html| html.text(&line.because));
            });
        }
    });
}

fn steps(html: &mut Html, way: &PacketWay) {
    html.el("p", |html| html.text(&way.path));
    html.el("ol.way", |html| {
        for step in &way.steps {
            let (class, sign) = match step.passes {
                Passes::Yes => ("step well", "\u{2193}"),
                Passes::No => ("step failing", "\u{2715}"),
                Passes::Unknown => ("step unknown", "?"),
            };
            html.with("li", &[("class", class)], |html| {
                html.with("span", &[("class", "sign"), ("aria-hidden", "true")], |html| html.raw(sign));
                html.el("b", |html| html.text(&step.at));
                html.texts(&[": ", &step.says]);
                match step.passes {
                    Passes::Yes => html.spoken(" (passes)"),
                    Passes::No | Passes::Unknown => {
                        html.el("span.mark", |html| html.texts(&[" \u{2014} ", step.passes.label()]));
                    }
                }
            });
        }
    });
}

fn by_hand(html: &mut Html, incident: &Incident) {
    if let Some(remedy) = incident.remedy {
        html.el("p", |html| html.texts(&["Nameward's own remedy: ", remedy.id(), "."]));
    }
    // Long commands are broken, not cut: no second scrolling region.
    html.el("pre", |html| {
        html.el("code", |html| html.text(&incident.command));
    });
    for worse in &incident.never {
        html.el("p", |html| {
            html.el("strong", |html| html.text("Makes it worse: "));
            html.text(worse);
        });
    }
    html.el("p", |html| html.texts(&["Runbook: docs/", &incident.runbook]));
}
