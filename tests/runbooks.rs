//! Every cause has its page, every page its headings, and no page is left over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nameward_messages::verdict::Cause;

const HEADINGS: [&str; 7] = [
    "## What it means",
    "## How users notice",
    "## How Nameward knows",
    "## How to confirm by hand",
    "## What Nameward does",
    "## What not to do",
    "## References",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks")
}

/// Words, however the lines are broken.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn pages() -> BTreeSet<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // Alerts have a folder of their own, which the room of metrics checks.
    files
        .filter(|name| name != "README.md" && name != "alerts")
        .map(|name| name.strip_suffix(".md").unwrap().to_owned())
        .collect()
}

#[test]
fn every_cause_has_a_page_and_every_page_a_cause() {
    let causes: BTreeSet<String> = Cause::ALL.iter().map(|cause| cause.id().to_owned()).collect();
    assert_eq!(causes, pages());
}

#[test]
fn every_page_has_every_heading_with_something_under_it() {
    for cause in Cause::ALL {
        let text = fs::read_to_string(folder().join(format!("{cause}.md"))).unwrap();
        assert!(text.starts_with(&format!("# {cause}\n")), "{cause}: the title is the cause's id");
        let lines = text.lines().count();
        assert!((30..=66).contains(&lines), "{cause}: {lines} lines");
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(found, HEADINGS, "{cause}");
        for section in text.split("\n## ").skip(1) {
            let (title, body) = section.split_once('\n').unwrap();
            assert!(body.trim().len() > 20, "{cause}: nothing under {title}");
        }
    }
}

#[test]
fn a_page_says_of_its_cause_what_the_program_says() {
    for cause in Cause::ALL {
        let about = cause.about();
        let text = words(&fs::read_to_string(folder().join(format!("{cause}.md"))).unwrap());
        let remedy = about.remedy.map_or("none: a person is called", |kind| kind.id());
        assert!(text.contains(&format!("| {} |", about.fault)), "{cause}: the fault is {}", about.fault);
        assert!(text.contains(&format!("| {remedy} |")), "{cause}: the remedy is {remedy}");
        assert!(text.contains(&words(about.command)), "{cause}: its advice is not the program's: {}", about.command);
    }
}

#[test]
fn the_index_names_every_page() {
    let index = fs::read_to_string(folder().join("README.md")).unwrap();
    for cause in Cause::ALL {
        let row = format!("| [{cause}]({cause}.md) | {} |", cause.fault());
        assert!(index.contains(&row), "{cause} is not in the index, or with another fault");
        assert!(index.contains(cause.about().says), "{cause}: the index says something else");
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    for name in pages().into_iter().chain(["README".to_owned()]) {
        let text = fs::read_to_string(folder().join(format!("{name}.md"))).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.starts_with("http") && !link.starts_with('#') {
                assert!(folder().join(link).exists(), "{name}: {link}");
            }
        }
    }
}
