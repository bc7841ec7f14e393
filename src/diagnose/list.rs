//! `nameward diagnose --list-causes`: what can be found, when it is named, and what is done about it.

use comfy_table::Table;
use nameward_diagnosis::CauseInfo;
use nameward_messages::verdict::Cause;
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
    scope: nameward_messages::verdict::Scope,
    says: &'static str,
    when: &'static str,
    remedy: Option<&'static str>,
    command: &'static str,
    worse: &'static [&'static str],
    runbook: String,
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
        Output::Text => output::line(&table(&all(), output::width())),
    }
}

fn table(all: &[Listed], width: usize) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(["cause", "fault", "scope", "named when", "remedy"]);
    for one in all {
        let scope = match one.scope {
            nameward_messages::verdict::Scope::Pod => "pod",
            nameward_messages::verdict::Scope::CorednsPod => "coredns-pod",
            nameward_messages::verdict::Scope::Node => "node",
            nameward_messages::verdict::Scope::Cluster => "cluster",
        };
        let when = if one.when.is_empty() { one.says } else { one.when };
        table.add_row([one.cause, one.fault, scope, when, one.remedy.unwrap_or("call-person")]);
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n\nEach has a page: {PAGES}CAUSE.md", lines.join("\n"))
}
