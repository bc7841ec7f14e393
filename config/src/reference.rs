//! `docs/configuration.md`, made from the annotated file and the rules.

use std::collections::BTreeMap;

use crate::{ANNOTATED, Config, rules};

const HEAD: &str = "\
# Configuration

One TOML file, `--config FILE`; without it every value is the default. Made by `make configuration` from `config/nameward.toml`, which has the same
values with the same notes and can be copied. `nameward config check FILE` names every fault with its line and column,
`nameward config print` shows what is in force, `nameward config schema` writes a JSON schema for editors.

An environment variable lies over the file: `NAMEWARD_<SECTION>_<KEY>`, for instance `NAMEWARD_PROBE_INTERVAL=5s`. The file is
read again when its content changes; a bad one is refused, told in the log and in `nameward_config_reloads_total{result=\"failed\"}`, and the old values
stay in force. Durations are written `700ms`, `10s`, `5m`, `1h`, memory `170Mi`, `1Gi`. What a key must be besides its type stands below it; some limits are
ceilings that no configuration can lift.
";

/// The page.
fn page() -> String {
    let mut bounds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    rules::every(&Config::default(), |_, key, what| {
        // What is said of one value only is no bound.
        if what.starts_with("must ") || what.starts_with("at most") || what.starts_with("is written") {
            bounds.entry(key).or_default().push(what);
        }
    });
    let mut page = HEAD.to_owned();
    let (mut section, mut notes) = (String::new(), Vec::new());
    for line in ANNOTATED.lines().skip_while(|line| !line.starts_with('[')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            page.push_str(&format!("\n## {name}\n\n"));
            flush(&mut page, &mut notes);
        } else if let Some(note) = line.strip_prefix('#') {
            notes.push(note.trim().to_owned());
        } else if let Some((key, value)) = line.split_once(" = ") {
            let full = format!("{section}.{key}");
            let variable = format!("NAMEWARD_{}", full.replace('.', "_").to_uppercase());
            page.push_str(&format!("\n### {section}.{key}\n\nDefault `{value}`; `{variable}`.\n\n"));
            flush(&mut page, &mut notes);
            let bounds = bounds.remove(full.as_str()).unwrap_or_default();
            if !bounds.is_empty() {
                page.push('\n');
            }
            for bound in bounds {
                page.push_str(&format!("- {bound}\n"));
            }
        } else if line.is_empty() {
            flush(&mut page, &mut notes);
        }
    }
    assert!(bounds.is_empty(), "rules about keys that the file does not have: {bounds:?}");
    page.replace("\n\n\n", "\n\n")
}

/// Notes as running text; an example among them as an example.
fn flush(page: &mut String, notes: &mut Vec<String>) {
    let mut example = false;
    for note in notes.drain(..) {
        let is_example = note.starts_with('[') || note.contains(" = ");
        if is_example != example {
            page.push_str(if is_example { "\n```toml\n" } else { "```\n" });
            example = is_example;
        }
        page.push_str(&if is_example { note } else { note.replace('<', "\\<") });
        page.push('\n');
    }
    if example {
        page.push_str("```\n");
    }
}

/// `NAMEWARD_WRITE_DOCS=1` writes what is compared otherwise.
#[test]
fn the_reference_is_what_the_file_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if std::env::var_os("NAMEWARD_WRITE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == page(), "docs/configuration.md is out of date: run `make configuration`");
}
