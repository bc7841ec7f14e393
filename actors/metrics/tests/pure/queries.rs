//! Rules and dashboard speak of metrics that exist, by labels and values that they have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use nameward_metrics::names::{Bound, Label, Metric, Type};
use serde_json::Value;

use crate::promql::{Selector, parse};

/// Labels that a scrape adds, and `cluster`, which some add to all.
const TARGET: [&str; 5] = ["cluster", "job", "instance", "node", "pod"];

fn path(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../..", path].iter().collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap()
}

/// What a rules file records and what it asks, without a parser of YAML: the file is ours, and promtool reads it properly.
struct Rules {
    /// Each recorded series with its expression.
    records: BTreeMap<String, String>,
    /// Each alert with its expressions and links.
    alerts: BTreeMap<String, Vec<(String, String)>>,
}

fn rules() -> Rules {
    let text = read("deploy/prometheus/rules.yaml");
    let mut rules = Rules { records: BTreeMap::new(), alerts: BTreeMap::new() };
    let starts = |line: &str| line.starts_with("      - record: ") || line.starts_with("      - alert: ");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let heads: Vec<usize> = (0..lines.len()).filter(|n| starts(lines[*n])).collect();
    for (n, head) in heads.iter().enumerate() {
        let end = heads.get(n + 1).copied().unwrap_or(lines.len());
        let body = &lines[*head..end];
        let (kind, name) = body[0].trim_start_matches("      - ").split_once(": ").unwrap();
        let at = body.iter().position(|line| line.starts_with("        expr: ")).expect(name);
        let more = body[at + 1..].iter().take_while(|line| line.starts_with("          "));
        let first = body[at].trim_start_matches("        expr: ").trim_end_matches('|');
        let expr = [first].into_iter().chain(more.copied()).collect::<Vec<_>>().join("\n");
        if kind == "record" {
            assert_eq!(rules.records.insert(name.to_owned(), expr), None, "{name}");
        } else {
            for needed in ["severity: ", "summary: ", "description: "] {
                assert!(body.iter().any(|line| line.trim_start().starts_with(needed)), "{name} has no {needed}");
            }
            let url = body.iter().find_map(|line| line.trim_start().strip_prefix("runbook_url: ")).expect(name);
            rules.alerts.entry(name.to_owned()).or_default().push((expr, url.to_owned()));
        }
    }
    rules
}

/// The labels that a series of this name can have, and the values of those that are enums. `None`: there is no such series.
fn labels_of(name: &str, rules: &Rules) -> Option<BTreeMap<String, Option<BTreeSet<&'static str>>>> {
    let mut known: BTreeMap<String, Option<BTreeSet<&'static str>>> =
        TARGET.iter().map(|label| ((*label).to_owned(), None)).collect();
    if let Some(expr) = rules.records.get(name) {
        // What it is summed by.
        for label in parse(expr).groupings {
            let of = Label::ALL.iter().find(|l| l.name() == label && matches!(l.bound(), Bound::OneOf(_)));
            // `result` and `outcome` are two labels each: their values are checked where the series is made.
            known.insert(
                label,
                of.filter(|l| Label::ALL.iter().filter(|o| o.name() == l.name()).count() == 1).map(values),
            );
        }
        return Some(known);
    }
    if ["up", "ALERTS"].contains(&name) {
        known.extend(["alertname", "alertstate"].map(|label| (label.to_owned(), None)));
        return Some(known);
    }
    for metric in Metric::ALL {
        let spec = metric.spec();
        let histogram = matches!(spec.kind, Type::Histogram(_));
        let bucket = histogram && name.strip_suffix("_bucket") == Some(spec.name);
        let part = histogram && ["_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(spec.name));
        if bucket || part || (!histogram && name == spec.name) {
            if bucket {
                known.insert("le".to_owned(), None);
            }
            for label in spec.labels {
                let bounded = matches!(label.bound(), Bound::OneOf(_)).then(|| values(label));
                known.insert(label.name().to_owned(), bounded);
            }
            return Some(known);
        }
    }
    None
}

fn values(label: &Label) -> BTreeSet<&'static str> {
    match label.bound() {
        Bound::OneOf(values) => values.into_iter().collect(),
        Bound::AtMost(_) => BTreeSet::new(),
    }
}

fn check(selector: &Selector, rules: &Rules, place: &str) {
    let name = &selector.metric;
    let known = labels_of(name, rules).unwrap_or_else(|| panic!("{place}: there is no metric {name}"));
    for (label, value) in &selector.matchers {
        let values = known.get(label).unwrap_or_else(|| panic!("{place}: {name} has no label {label}"));
        if let Some(values) = values
            && !value.contains('$')
        {
            for one in value.split('|') {
                assert!(values.contains(one), "{place}: {label} of {name} is never {one}");
            }
        }
    }
}

fn check_expr(expr: &str, rules: &Rules, place: &str) {
    let query = parse(expr);
    assert!(!query.selectors.is_empty(), "{place}: {expr}");
    let mut all = BTreeSet::new();
    for selector in &query.selectors {
        check(selector, rules, place);
        all.extend(labels_of(&selector.metric, rules).unwrap().into_keys());
    }
    for label in &query.groupings {
        assert!(all.contains(label), "{place}: nothing in it has a label {label}");
    }
}

#[test]
fn rules_speak_of_metrics_that_exist() {
    let rules = rules();
    assert!(rules.records.len() > 10 && rules.alerts.len() > 20);
    for (name, expr) in &rules.records {
        check_expr(expr, &rules, name);
    }
    for (name, alerts) in &rules.alerts {
        alerts.iter().for_each(|(expr, _)| check_expr(expr, &rules, name));
    }
}

/// What counts as a failure in the rules is what counts as one in the program: all but these two.
#[test]
fn failures_are_those_of_the_program() {
    use nameward_messages::probe::OutcomeKind;
    let (good, nothing): (Vec<_>, Vec<_>) = (vec![OutcomeKind::Answered.label()], vec![OutcomeKind::NotAsked.label()]);
    let text = read("deploy/prometheus/rules.yaml");
    assert!(text.contains(&format!("outcome!~\"{}|{}\"", good[0], nothing[0])));
    assert!(text.contains(&format!("outcome!=\"{}\"", nothing[0])));
}

#[test]
fn every_alert_has_its_page_and_its_test() {
    let rules = rules();
    let tests = read("deploy/prometheus/tests/alerts.yaml");
    let folder = path("docs/runbooks/alerts");
    let mut pages: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".md").to_owned())
        .collect();
    assert!(pages.remove("README"));
    assert_eq!(pages, rules.alerts.keys().cloned().collect());
    let index = read("docs/runbooks/alerts/README.md");
    let base = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbooks");
    for (name, alerts) in &rules.alerts {
        assert!(index.contains(&format!("| [{name}]({name}.md) | ")), "{name} is not in the index");
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} has no test that makes it fire");
        let page = fs::read_to_string(folder.join(format!("{name}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        let found: Vec<&str> = page.lines().filter(|line| line.starts_with("## ")).collect();
        let expected = ["## What it means", "## Where to look", "## What to do", "## What Nameward does meanwhile"];
        assert_eq!(found, expected, "{name}");
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(folder.join(link).exists(), "{name}: {link}");
        }
        for (_, url) in alerts {
            let own = format!("{base}/alerts/{name}.md");
            let causes = format!("{base}/{{{{ $labels.cause }}}}.md");
            assert!(*url == own || *url == causes, "{name}: {url}");
        }
    }
}

/// Every object in it, however deep.
fn walk<'a>(value: &'a Value, found: &mut Vec<&'a serde_json::Map<String, Value>>) {
    match value {
        Value::Object(map) => {
            found.push(map);
            map.values().for_each(|v| walk(v, found));
        }
        Value::Array(list) => list.iter().for_each(|v| walk(v, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_dashboard_speaks_of_metrics_that_exist() {
    let rules = rules();
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/nameward.json")).unwrap();
    let mut objects = Vec::new();
    walk(&dashboard, &mut objects);
    let mut asked = 0;
    for object in &objects {
        if let Some(Value::String(expr)) = object.get("expr") {
            check_expr(expr, &rules, "deploy/grafana/nameward.json");
            asked += 1;
        }
    }
    assert!(asked > 25, "{asked}");
    // The lists that a person chooses from: label_values(metric, label), or label_values({…}, label).
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    for variable in variables.iter().filter(|v| v["type"] == "query") {
        let query = variable["query"]["query"].as_str().unwrap();
        let (selector, label) =
            query.trim_start_matches("label_values(").trim_end_matches(')').rsplit_once(", ").expect(query);
        let query = parse(selector);
        check(&query.selectors[0], &rules, query_place(variable));
        assert!(labels_of(&query.selectors[0].metric, &rules).unwrap().contains_key(label), "{label}");
    }
    let rows: Vec<&str> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|panel| panel["type"] == "row")
        .filter_map(|panel| panel["title"].as_str())
        .collect();
    assert_eq!(rows, ["Overview", "Per node", "Per CoreDNS pod", "Incidents", "Remedies", "Nameward itself"]);
    // Numbers that identify panels are theirs alone, and each panel but rows says what it shows.
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{}", panel["title"]);
    }
}

fn query_place(variable: &Value) -> &str {
    variable["name"].as_str().unwrap_or_default()
}
