//! The last hour: a picture, the same figures as a table, and what happened.

use nameward_messages::status::{EventKind, History, MINUTES, Minute, Status};

use super::writer::{Html, clock, exact, milliseconds};

/// Width and height of the picture, in its own units: a minute is [`BAR`] wide.
const BAR: usize = 10;
const HEIGHT: usize = 60;

pub(super) fn section(html: &mut Html, status: &Status) {
    let history = &status.history;
    html.with("section", &[("id", "history"), ("aria-labelledby", "history-title")], |html| {
        html.with("h2", &[("id", "history-title")], |html| html.text("The last hour"));
        html.el("p", |html| html.text(&summary(history)));
        if history.minutes.is_empty() {
            return;
        }
        picture(html, &history.minutes);
        html.with("details", &[("id", "history-figures")], |html| {
            html.with("summary", &[("id", "history-figures-title")], |html| {
                html.text("The same as a table, minute by minute")
            });
            table(html, &history.minutes);
        });
        events(html, history);
    });
}

fn summary(history: &History) -> String {
    let asked: u64 = history.minutes.iter().map(|minute| u64::from(minute.asked)).sum();
    let failed: u64 = history.minutes.iter().map(|minute| u64::from(minute.failed)).sum();
    let bad = history.minutes.iter().filter(|minute| is_bad(minute)).count();
    let known = match history.minutes.len() {
        0 => return "Nothing yet. It is kept in memory, and begins anew with the process.".to_owned(),
        1 => "1 minute is known".to_owned(),
        n => format!("{n} minutes are known"),
    };
    let asked = if asked == 0 { String::new() } else { format!("; {asked} questions were asked, {failed} failed") };
    format!("{known} (kept in memory, it begins anew with the process){asked}; something was wrong in {bad}.")
}

fn is_bad(minute: &Minute) -> bool {
    minute.suspected > 0 || minute.incidents > 0
}

/// One bar a minute: its height is the share of questions that failed (at least a sliver when anything is wrong). What is
/// well is a low line, so that a gap is seen as a gap. The picture has one sentence for those who do not see it; the table
/// has the rest.
fn picture(html: &mut Html, minutes: &[Minute]) {
    let worst = minutes.iter().map(|minute| minute.suspected).max().unwrap_or_default();
    let width = (MINUTES * BAR).to_string();
    let view = format!("0 0 {width} {HEIGHT}");
    let label = format!(
        "Failing paths in each of the last {} minutes, at most {worst} at once. The table below has the figures.",
        minutes.len()
    );
    html.with(
        "svg",
        &[
            ("class", "bars"),
            ("viewBox", &view),
            ("role", "img"),
            ("aria-label", &label),
            ("preserveAspectRatio", "none"),
        ],
        |html| {
            let offset = MINUTES.saturating_sub(minutes.len());
            for (n, minute) in minutes.iter().enumerate() {
                let (class, height) = bar(minute, worst);
                if height == 0 {
                    continue;
                }
                let (x, y) = ((offset + n) * BAR + 1, HEIGHT - height);
                let (x, y, height, width) = (x.to_string(), y.to_string(), height.to_string(), (BAR - 2).to_string());
                html.with(
                    "rect",
                    &[("class", class), ("x", &x), ("y", &y), ("width", &width), ("height", &height)],
                    |html| {
                        html.el("title", |html| html.text(&words(minute)));
                    },
                );
            }
        },
    );
    html.raw(
        "<p class=\"axis\" aria-hidden=\"true\"><span>an hour ago</span><span>now</span></p>\n\
         <p class=\"legend\" aria-hidden=\"true\">A bar for each minute: low where all was well, tall where paths failed, none where nothing was told.</p>\n",
    );
}

fn bar(minute: &Minute, worst: u32) -> (&'static str, usize) {
    if is_bad(minute) {
        let (suspected, worst) = (u64::from(minute.suspected), u64::from(worst.max(1)));
        let height = 20 + suspected * (HEIGHT as u64 - 20) / worst;
        return ("bad", usize::try_from(height).unwrap_or(HEIGHT).min(HEIGHT));
    }
    match (minute.known, minute.failed) {
        (false, _) => ("none", 0),
        (true, 0) => ("good", 6),
        // Failed, and never confirmed: loss that a resolver's second try hides.
        (true, _) => ("some", 12),
    }
}

fn words(minute: &Minute) -> String {
    format!(
        "{}: {} failing paths, {} of {} questions failed",
        clock(minute.at),
        minute.suspected,
        minute.failed,
        minute.asked
    )
}

fn table(html: &mut Html, minutes: &[Minute]) {
    let caption = "Figures by minute, newest first";
    html.with("div", &[("class", "scroll tall"), ("id", "history-table"), ("role", "region"), ("aria-label", caption), ("tabindex", "0")], |html| {
        html.el("table", |html| {
            html.el("caption", |html| html.text(caption));
            html.raw(
                "<thead><tr><th scope=\"col\">minute</th><th scope=\"col\">failing paths</th><th scope=\"col\">open incidents</th>\
                 <th scope=\"col\">asked</th><th scope=\"col\">failed</th><th scope=\"col\">median time</th></tr></thead>\n",
            );
            html.el("tbody", |html| {
                for minute in minutes.iter().rev() {
                    html.el("tr", |html| {
                        html.with("th", &[("scope", "row")], |html| {
                            html.with("time", &[("datetime", &exact(minute.at))], |html| html.text(&clock(minute.at)));
                        });
                        if minute.known {
                            for n in [minute.suspected, minute.incidents, minute.asked, minute.failed] {
                                html.el("td", |html| html.text(&n.to_string()));
                            }
                            let median = minute.median_us.map_or_else(|| "\u{2013}".to_owned(), milliseconds);
                            html.el("td", |html| html.text(&median));
                        } else {
                            html.with("td", &[("colspan", "5")], |html| html.text("nothing was told"));
                        }
                    });
                }
            });
        });
    });
}

fn events(html: &mut Html, history: &History) {
    html.el("h3", |html| html.text("What happened, newest first"));
    if history.events.is_empty() {
        html.el("p", |html| html.text("Nothing worth telling."));
        return;
    }
    html.el("ol.events", |html| {
        for event in &history.events {
            let class = match event.kind {
                EventKind::Named | EventKind::Escalated => "event failing",
                EventKind::Ended | EventKind::Healed => "event well",
                EventKind::Refused => "event doubtful",
                EventKind::Acted | EventKind::Own => "event",
            };
            html.with("li", &[("class", class)], |html| {
                html.time(event.at);
                html.text(" ");
                html.el("strong", |html| html.text(event.kind.label()));
                html.texts(&[" ", &event.text]);
            });
        }
    });
}
