//! From text and environment to [`Config`], with every problem reported together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::env::{self, Overlay};
use crate::rules;
use crate::schema::{self, Node};
use crate::settings::Config;

/// A configuration and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings in force.
    pub config: Config,
    /// The first 12 hex digits of the SHA-256 of file and overlay: a reload happens when it changes.
    pub hash: String,
    /// Things that are not wrong but probably not meant, one line each.
    pub warnings: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// `file:line:column`, or the name of an environment variable.
    pub place: String,
    /// The key, `probe.interval`; empty for syntax.
    pub key: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.place, self.what)
        } else {
            write!(f, "{}: {}: {}", self.place, self.key, self.what)
        }
    }
}

/// Everything that is wrong with a configuration. The one in force before stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Reads `file` (none: the defaults) and lays the environment's `NAMEWARD_…` variables over it.
///
/// # Errors
/// All problems at once; a file that cannot be read is one problem.
pub fn load(file: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, Problems> {
    match file {
        None => load_text("(defaults)", "", env),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| Problems {
                problems: vec![Problem {
                    place: path.display().to_string(),
                    key: String::new(),
                    what: format!("cannot be read: {error}"),
                }],
            })?;
            load_text(&path.display().to_string(), &text, env)
        }
    }
}

/// The same from a text; `name` stands for the file in messages.
///
/// # Errors
/// All problems at once.
pub fn load_text(name: &str, text: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, Problems> {
    let root = schema::root();
    let places = Places { name, text };
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = syntax
        .iter()
        .map(|e| Problem {
            place: places.at(e.span().map_or(0, |s| s.start)),
            key: String::new(),
            what: e.message().to_owned(),
        })
        .collect();

    let mut spans = BTreeMap::new();
    // What stands after a line that is none may be read into a table that was not meant: what is before that line is judged alone.
    match syntax.iter().map(|e| e.span().map_or(0, |s| s.start)).min() {
        None => walk(&root, document.get_ref(), "", &places, &mut spans, &mut problems),
        Some(at) => {
            let before = text.get(..at).map_or("", |before| &before[..before.rfind('\n').map_or(0, |end| end + 1)]);
            walk(&root, DeTable::parse_recoverable(before).0.get_ref(), "", &places, &mut spans, &mut problems);
        }
    }
    let Overlay { values, problems: env_problems, warnings } = env::read(&root, env);
    problems.extend(env_problems);
    if !syntax.is_empty() {
        return Err(sorted(problems));
    }

    let mut table: toml::Table = toml::from_str(text).map_err(|e| unforeseen(&places, &e))?;
    for item in &values {
        env::lay_over(&mut table, &item.path, item.value.clone());
    }
    // What is wrong by itself is left out, so that the rest can still be held against one another.
    let wrong: Vec<String> = problems.iter().map(|p| p.key.clone()).collect();
    for key in &wrong {
        leave_out(&mut table, key);
    }
    let config = match Config::deserialize(table) {
        Ok(config) => config,
        Err(_) if !problems.is_empty() => return Err(sorted(problems)),
        Err(e) => return Err(unforeseen(&places, &e)),
    };

    let broken: Vec<Problem> = rules::check(&config)
        .into_iter()
        .filter(|(key, what)| !wrong.iter().any(|wrong| key.starts_with(wrong) || what.contains(wrong)))
        .map(|(key, what)| {
            let place = values
                .iter()
                .find(|v| v.path.join(".") == key)
                .map(|v| v.variable.clone())
                .or_else(|| spans.get(&*key).map(|at| places.at(*at)))
                .unwrap_or_else(|| name.to_owned());
            Problem { place, key: key.into_owned(), what }
        })
        .collect();
    problems.extend(broken);
    if !problems.is_empty() {
        return Err(sorted(problems));
    }

    let mut digest = Sha256::new();
    digest.update(text);
    for item in &values {
        digest.update([0]);
        digest.update(item.path.join("."));
        digest.update(item.value.to_string());
    }
    let hash: String = digest.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    Ok(Loaded { config, hash, warnings })
}

/// Takes `a.b.c` out of the table.
fn leave_out(table: &mut toml::Table, key: &str) {
    match key.split_once('.') {
        None => {
            table.remove(key);
        }
        Some((section, rest)) => {
            if let Some(inner) = table.get_mut(section).and_then(toml::Value::as_table_mut) {
                leave_out(inner, rest);
            }
        }
    }
}

fn sorted(mut problems: Vec<Problem>) -> Problems {
    // By line and column as numbers; variables of the environment last.
    problems.sort_by_cached_key(|p| {
        let mut parts = p.place.rsplit(':').map(|n| n.parse::<usize>().ok());
        let (column, line) = (parts.next().flatten(), parts.next().flatten());
        (line.is_none(), line, column, p.clone())
    });
    problems.dedup();
    Problems { problems }
}

/// A text that the schema accepts and serde does not: said as serde says it.
fn unforeseen(places: &Places<'_>, error: &toml::de::Error) -> Problems {
    Problems {
        problems: vec![Problem {
            place: places.at(error.span().map_or(0, |s| s.start)),
            key: String::new(),
            what: error.message().to_owned(),
        }],
    }
}

struct Places<'a> {
    name: &'a str,
    text: &'a str,
}

impl Places<'_> {
    /// `file:line:column`, both counted from 1; the column counts characters.
    fn at(&self, byte: usize) -> String {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.name)
    }
}

fn walk(
    node: &Node,
    table: &DeTable<'_>,
    prefix: &str,
    places: &Places<'_>,
    spans: &mut BTreeMap<String, usize>,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        let at = value.span().start;
        let Some(child) = node.child(name) else {
            problems.push(Problem { place: places.at(key.span().start), key: path, what: node.unknown(name) });
            continue;
        };
        spans.insert(path.clone(), at);
        if let (DeValue::Table(inner), true) = (value.get_ref(), child.is_table()) {
            walk(&child, inner, &path, places, spans, problems);
        } else if let Some((at, what)) = check_leaf(&child, value) {
            problems.push(Problem { place: places.at(at), key: path, what });
        }
    }
}

/// What is wrong with a value, and at which byte.
fn check_leaf(node: &Node, value: &Spanned<DeValue<'_>>) -> Option<(usize, String)> {
    let at = value.span().start;
    let plain = match value.get_ref() {
        DeValue::String(s) => toml::Value::String(s.to_string()),
        DeValue::Integer(i) => match i64::from_str_radix(&i.as_str().replace('_', ""), i.radix()) {
            Ok(i) => toml::Value::Integer(i),
            Err(_) => return Some((at, format!("`{}` is out of range", i.as_str()))),
        },
        DeValue::Float(x) => match x.as_str().replace('_', "").parse() {
            Ok(x) => toml::Value::Float(x),
            Err(_) => return Some((at, format!("`{}` is not a number", x.as_str()))),
        },
        DeValue::Boolean(b) => toml::Value::Boolean(*b),
        DeValue::Datetime(d) => toml::Value::Datetime(*d),
        DeValue::Array(items) => {
            let Some(item_node) = node.items() else {
                return Some((at, node.wrong_type("an array")));
            };
            return items.iter().find_map(|item| check_leaf(&item_node, item));
        }
        DeValue::Table(_) => return Some((at, node.wrong_type("a table"))),
    };
    node.check(&plain).map(|what| (at, what))
}
