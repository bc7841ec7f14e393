//! The page of metrics and the text that promtool lints are generated: here they are compared, or written.

use std::fmt::Write as _;
use std::path::PathBuf;

use nameward_metrics::names::{Bound, Metric, Type};

fn file(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../..", path].iter().collect()
}

/// `NAMEWARD_WRITE_DOCS=1` writes what is compared otherwise.
fn same(path: &str, text: &str) {
    let file = file(path);
    if std::env::var_os("NAMEWARD_WRITE_DOCS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == text, "{path} is not up to date: run `make metrics`");
}

#[test]
fn the_page_is_up_to_date() {
    same("docs/metrics.md", &nameward_metrics::page());
}

/// Every metric once, as Prometheus text.
#[test]
fn the_text_to_lint_is_up_to_date() {
    let mut text = String::new();
    for metric in Metric::ALL {
        let spec = metric.spec();
        let label = |label: &nameward_metrics::names::Label| {
            let value = match label.bound() {
                Bound::OneOf(values) => values[0],
                Bound::AtMost(_) => "x",
            };
            format!("{}=\"{value}\"", label.name())
        };
        let labels: Vec<String> = spec.labels.iter().map(label).collect();
        let with = |suffix: &str, more: &str| {
            let labels: Vec<&str> =
                labels.iter().map(String::as_str).chain((!more.is_empty()).then_some(more)).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            format!("{}{suffix}{labels} 1\n", spec.name)
        };
        let _ = write!(text, "# HELP {} {}\n# TYPE {} {}\n", spec.name, spec.help, spec.name, spec.kind.label());
        if matches!(spec.kind, Type::Histogram(_)) {
            text += &[with("_bucket", "le=\"+Inf\""), with("_sum", ""), with("_count", "")].concat();
        } else {
            text += &with("", "");
        }
    }
    same("deploy/prometheus/tests/metrics.prom", &text);
}

#[test]
fn every_metric_says_what_to_do_when_it_moves() {
    for metric in Metric::ALL {
        assert!(metric.moves().len() > 20 && metric.moves().ends_with('.'), "{metric:?}");
        let name = metric.spec().name;
        if name.starts_with("nameward_") && name.ends_with("_seconds") {
            assert_eq!(metric.unit(), "seconds", "{name}");
        }
    }
}
