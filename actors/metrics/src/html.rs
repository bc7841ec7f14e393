//! The status page: a pure function from [`Status`] to HTML.
//!
//! It is written by hand, without a template library: a process that may enter namespaces takes in no crate for a single page.
//! What guards against injection is [`writer::Html`]: markup is `&'static str`, that is, it stands in this source; everything
//! else can only be written as text, escaped. Elements are closed by construction.

use nameward_messages::status::{Health, NoteKind, Source, Status};

mod acts;
mod history;
mod incident;
mod matrix;
mod writer;

use writer::Html;

/// The style sheet, served as a file of its own: the page forbids styles inside it.
pub const CSS: &str = include_str!("html/nameward.css");
/// The script, as the style sheet. Everything can be read without it.
pub const JS: &str = include_str!("html/nameward.js");
/// What the page may load: its own style sheet and script, and itself anew. Nothing from elsewhere, no form, no frame.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The whole page.
#[must_use]
pub fn page(status: &Status) -> String {
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n");
    html.with("html", &[("lang", "en")], |html| {
        html.el("head", |html| {
            html.raw(
                "<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                 <meta name=\"robots\" content=\"noindex\">\n",
            );
            html.el("title", |html| html.text(&title(status)));
            html.raw("<link rel=\"icon\" href=\"nameward.svg\" type=\"image/svg+xml\">\n");
            html.raw("<link rel=\"stylesheet\" href=\"nameward.css\">\n<script src=\"nameward.js\" defer></script>\n");
        });
        html.el("body", |html| {
            html.raw("<a class=\"skip\" href=\"#live\">Skip to what is known</a>\n");
            header(html, status);
            html.with("main", &[("id", "live"), ("tabindex", "-1")], |html| sections(html, status));
            footer(html, status);
        });
    });
    html.finish()
}

/// The icon.
pub const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\"><path fill=\"#2b6cb0\" \
                        d=\"M8 0l7 3v5c0 4-3 7-7 8-4-1-7-4-7-8V3z\"/><path fill=\"none\" stroke=\"#fff\" stroke-width=\"2\" \
                        d=\"M4.500 8l2.500 2.500L11.500 5.500\"/></svg>";

fn title(status: &Status) -> String {
    let source = &status.source;
    let whose = if source.node.is_empty() { String::new() } else { format!(" on {}", source.node) };
    format!("DNS {}: Nameward {}{whose}", status.health.label(), source.role)
}

fn header(html: &mut Html, status: &Status) {
    html.el("header", |html| {
        html.el("p.name", |html| {
            html.el("strong", |html| html.text("Nameward"));
            html.text(" ");
            html.with("span", &[("id", "source")], |html| source(html, &status.source));
        });
        // Read out when it changes, and only this.
        html.with("div", &[("id", "headline"), ("role", "status"), ("aria-live", "polite")], |html| {
            html.el("h1", |html| {
                html.with("span", &[("class", health_class(status.health))], |html| {
                    html.with("span", &[("aria-hidden", "true")], |html| html.raw(health_sign(status.health)));
                    html.text(" DNS ");
                    html.text(status.health.label());
                });
                html.text(" ");
                html.el("span.sentence", |html| html.text(&status.headline));
            });
        });
        html.with("nav", &[("aria-label", "Sections")], |html| {
            html.raw(
                "<ul><li><a href=\"#incidents\">Incidents</a></li><li><a href=\"#matrix\">Matrix</a></li>\
                 <li><a href=\"#acts\">What was done</a></li><li><a href=\"#history\">Last hour</a></li></ul>",
            );
        });
        // The script puts its switch here; without it there is nothing to switch.
        html.raw("<p id=\"control\"></p>\n<noscript><p>Reload this page to see what is newer.</p></noscript>\n");
    });
}

fn source(html: &mut Html, source: &Source) {
    html.text(&source.role);
    if !source.node.is_empty() {
        html.text(" on ");
        html.el("b", |html| html.text(&source.node));
    }
    if let Some(leading) = source.leading {
        html.text(if leading { ", leading" } else { ", standing by" });
    }
    if let Some(mode) = source.mode {
        html.texts(&[", remedies: ", mode.label()]);
    }
    if let Some(period) = source.period_s {
        html.text(&format!(", each path asked every {period} s"));
    }
}

/// What the script fetches anew. Each section is replaced as a whole, and only if it changed.
fn sections(html: &mut Html, status: &Status) {
    notes(html, status);
    incident::section(html, status);
    matrix::section(html, status);
    acts::section(html, status);
    history::section(html, status);
}

fn notes(html: &mut Html, status: &Status) {
    html.with("section", &[("id", "notes"), ("aria-label", "About the observer")], |html| {
        if status.notes.is_empty() {
            return;
        }
        html.el("ul.notes", |html| {
            for note in &status.notes {
                let class = match note.kind {
                    NoteKind::Trouble => "trouble",
                    NoteKind::Stopped => "stopped",
                    NoteKind::Limit => "limit",
                    NoteKind::Info => "info",
                };
                html.with("li", &[("class", class)], |html| {
                    html.el("strong", |html| html.text(note.kind.label()));
                    html.texts(&[": ", &note.text]);
                });
            }
        });
    });
}

fn footer(html: &mut Html, status: &Status) {
    html.el("footer", |html| {
        html.with("p", &[("id", "asof")], |html| {
            match status.as_of {
                Some(at) => {
                    html.text("As of ");
                    html.time(at);
                }
                None => {
                    html.text("Nothing is known yet");
                }
            }
            html.texts(&[", Nameward ", &status.source.version, "."]);
        });
        html.raw(
            "<p>The same as <a href=\"status.json\">JSON</a>; all that this process knows is in <a href=\"state\">state</a>, \
             figures over time are in <a href=\"metrics\">metrics</a>. This page only reads: nothing can be changed here.</p>\n",
        );
    });
}

fn health_class(health: Health) -> &'static str {
    match health {
        Health::Unknown => "badge unknown",
        Health::Well => "badge well",
        Health::Failing => "badge failing",
    }
}

fn health_sign(health: Health) -> &'static str {
    match health {
        Health::Unknown => "?",
        Health::Well => "\u{2713}",
        Health::Failing => "\u{2715}",
    }
}
