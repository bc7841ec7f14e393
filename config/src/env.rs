//! The environment overlay: `NAMEWARD_<SECTION>_<KEY>`, for example `NAMEWARD_PROBE_INTERVAL=5s` or
//! `NAMEWARD_REMEDY_MODES_EVICT_POD=act`. Lists are separated by commas.

use crate::load::Problem;
use crate::schema::Node;

const PREFIX: &str = "NAMEWARD_";

/// One value from the environment.
pub(crate) struct Item {
    pub(crate) variable: String,
    pub(crate) path: Vec<String>,
    pub(crate) value: toml::Value,
}

#[derive(Default)]
pub(crate) struct Overlay {
    pub(crate) values: Vec<Item>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
}

pub(crate) fn read(root: &Node, env: impl IntoIterator<Item = (String, String)>) -> Overlay {
    let mut variables: Vec<(String, String)> = env.into_iter().filter(|(k, _)| k.starts_with(PREFIX)).collect();
    variables.sort();
    let mut overlay = Overlay::default();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX).filter(|rest| !is_service_link(rest)) else { continue };
        let rest = rest.to_ascii_lowercase();
        match find(root, &rest) {
            Found::Place(path, node) => match node.read_text(&text) {
                Ok(value) => overlay.values.push(Item { variable, path, value }),
                Err(what) => overlay.problems.push(Problem { place: variable, key: path.join("."), what }),
            },
            Found::NoKey(section, what) => {
                overlay.problems.push(Problem { place: variable, key: section, what });
            }
            Found::NoSection => overlay.warnings.push(format!("{variable}: names no section; ignored")),
        }
    }
    overlay
}

/// Kubernetes sets `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_53_UDP_ADDR` and the like for every Service of the
/// namespace; a Service whose name begins with `nameward` must not break us.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_service_link(rest: &str) -> bool {
    rest == "PORT"
        || rest.ends_with("_PORT")
        || rest.contains("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest.contains("PORT_") && ["_TCP", "_UDP", "_SCTP"].iter().any(|p| rest.contains(p))
}

enum Found {
    Place(Vec<String>, Node),
    NoKey(String, String),
    NoSection,
}

fn find(root: &Node, rest: &str) -> Found {
    for section in root.keys() {
        let Some(tail) = rest.strip_prefix(&format!("{section}_")) else { continue };
        let Some(node) = root.child(&section) else { continue };
        for key in node.keys() {
            let Some(child) = node.child(&key) else { continue };
            if tail == key {
                return Found::Place(vec![section, key], child);
            }
            if let (true, Some(inner)) = (child.is_table(), tail.strip_prefix(&format!("{key}_"))) {
                let inner = inner.replace('_', "-");
                return match child.child(&inner) {
                    Some(leaf) => Found::Place(vec![section, key, inner], leaf),
                    None => Found::NoKey(format!("{section}.{key}.{inner}"), child.unknown(&inner)),
                };
            }
        }
        return Found::NoKey(format!("{section}.{tail}"), node.unknown(tail));
    }
    Found::NoSection
}

/// Puts a value at a path, making the tables on the way.
pub(crate) fn lay_over(table: &mut toml::Table, path: &[String], value: toml::Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let Some(inner) = inner.as_table_mut() {
                lay_over(inner, rest, value);
            }
        }
    }
}
