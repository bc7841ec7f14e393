//! `nameward diagnose --list-causes`: what can be found, when it is named, and what is done about it.

use comfy_table::Table;
use nameward_diagnosis::CauseInfo;
use nameward_messages::verdict::{Cause, Scope};
use serde::Serialize;

use crate::cli::Output;
use crate::output;

/// Where the pages stand for people who have no checkout.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbooks/");

/// The page of a cause.
pub(super) fn runbook(cause: Cause) -> String {
    format!("{PAGES}{}.md", cause.id())
}

/// One cause. Part of the documented output.
#[derive(Debug, Serialize)]
struct Listed {
    cause: &'static str,
    fault: &'static str,
    scope: Scope,
    says: &'static str,
    when: &'static str,
    remedy: Option<&'static str>,
    command: &'static str,
    worse: &'static [&'static str],
    runbook: String,
}

impl Listed {
    fn named_when(&self) -> &'static str {
        if self.when.is_empty() { self.says } else { self.when }
    }
}

fn all() -> Vec<Listed> {
    let infos = nameward_diagnosis::causes();
    // A rule may be asked twice, or name several causes: each cause stands once, in the order of the table.
    let when = |cause| infos.iter().find(|i: &&CauseInfo| i.cause == cause).map_or("", |i| i.when);
    let listed = Cause::ALL.iter().map(|cause| {
        let about = cause.about();
        Listed {
            cause: about.id,
            fault: about.fault,
            scope: about.scope,
            says: about.says,
            when: when(*cause),
            remedy: about.remedy.map(|kind| kind.id()),
            command: about.command,
            worse: about.never,
            runbook: runbook(*cause),
        }
    });
    listed.collect()
}

pub(super) fn causes(form: Output) {
    match form {
        Output::Json => all().iter().for_each(output::json),
        Output::Text => {
            let width = output::width();
            output::line(&if width < NARROW { list(&all(), width) } else { table(&all(), width) });
        }
    }
}

/// Below this many columns a table of five is no table any more.
const NARROW: usize = 90;

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Pod => "pod",
        Scope::CorednsPod => "coredns-pod",
        Scope::Node => "node",
        Scope::Cluster => "cluster",
    }
}

/// One below the other.
fn list(all: &[Listed], width: usize) -> String {
    let mut text = String::new();
    for one in all {
        let remedy = one.remedy.unwrap_or("call-person");
        text.push_str(&format!("{} ({}, {}; {remedy})\n", one.cause, one.fault, scope(one.scope)));
        text.push_str(&super::text::folded("  ", one.named_when(), width).join("\n"));
        text.push('\n');
    }
    format!("{text}\nEach has a page: {PAGES}CAUSE.md")
}

fn table(all: &[Listed], width: usize) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(["cause", "fault", "scope", "named when", "remedy"]);
    for one in all {
        table.add_row([one.cause, one.fault, scope(one.scope), one.named_when(), one.remedy.unwrap_or("call-person")]);
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n\nEach has a page: {PAGES}CAUSE.md", lines.join("\n"))
}
