//! `docs/ladders.md`, made from the data.

use std::fmt::Write as _;

use nameward_messages::remedy::RemedyKind;
use nameward_messages::verdict::Cause;

use super::{By, COMMON, LADDERS, RUNGS, Rung};

/// The page.
#[must_use]
pub fn page() -> String {
    let mut text = String::from(
        "# Ladders\n\n\
         What Nameward tries for each cause, in which order, and when it stops. This page is made from\n\
         `config/src/ladders.rs` (`make ladders`); a test holds the two together.\n\n\
         A ladder is looked at from the left. A rung is taken when all of its conditions hold; if they do not, the next one\n\
         is looked at. Every ladder ends with a person: an Event, an incident in the phase `Escalated`, and the command to\n\
         begin with. Causes that are not listed have that one rung: Nameward names them and never touches them.\n\n\
         `[remedy.ladders]` of the configuration can leave rungs out or reorder them, never add one:\n\n\
         ```toml\n[remedy.ladders]\ncoredns-hung = [\"evict-pod\"]   # no replica is ever added for it\ncoredns-oom-killed = []        # only a person\n```\n\n\
         ## By cause\n\n| cause | rungs | then |\n|---|---|---|\n",
    );
    for (cause, rungs) in LADDERS {
        let names: Vec<String> = rungs.iter().map(|kind| link(*kind)).collect();
        let _ = writeln!(
            text,
            "| [{cause}](runbooks/{cause}.md) | {} | {} |",
            names.join(", "),
            link(RemedyKind::CallPerson)
        );
    }
    let others = Cause::ALL.iter().filter(|cause| !LADDERS.iter().any(|(of, _)| of == *cause));
    let others: Vec<&str> = others.map(|cause| cause.id()).collect();
    let _ = writeln!(text, "\nOnly a person: {}.", others.join(", "));
    text.push_str("\n## What every rung waits for\n\n");
    for line in COMMON {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str(
        "\nThe figures above are ceilings: a configuration can make them stricter and not looser, and whoever acts holds to them\n\
         whatever it was told. What is named after a setting has no figure here, since it is a setting: `remedy.wait`,\n\
         `remedy.cool_down` and `remedy.verify_within` (never less than `probe.interval`) are as long as they are configured.\n\n## By rung\n",
    );
    for rung in RUNGS {
        one(&mut text, rung);
    }
    text
}

fn link(kind: RemedyKind) -> String {
    format!("[{kind}](#{kind})")
}

fn one(text: &mut String, rung: &Rung) {
    let by = match rung.by {
        By::Coordinator => "the coordinator that holds the Lease",
        By::Agent => "the agent of the node concerned",
        By::Person => "a person",
    };
    let _ = writeln!(text, "\n### {}\n\n| | |\n|---|---|\n| by | {by} |", rung.remedy);
    let when: Vec<&str> = rung.when.iter().map(|when| when.says()).collect();
    let when = if when.is_empty() { "no rung before it is left".to_owned() } else { when.join("; ") };
    let ladders = LADDERS.iter().filter(|(_, rungs)| rungs.contains(&rung.remedy));
    let follows = |rungs: &&[RemedyKind]| {
        let place = rungs.iter().position(|kind| *kind == rung.remedy)?;
        rungs.get(place + 1).copied()
    };
    let next = ladders.filter_map(|(_, rungs)| follows(rungs)).next().unwrap_or(RemedyKind::CallPerson);
    let next = if rung.remedy == RemedyKind::CallPerson { "none".to_owned() } else { link(next) };
    for (what, says) in [
        ("when", when.as_str()),
        ("act", rung.act),
        ("verified", rung.verified),
        ("undo", rung.undo),
        ("next rung", next.as_str()),
        ("stop", rung.stop),
    ] {
        let _ = writeln!(text, "| {what} | {says} |");
    }
}
