//! `docs/metrics.md`, generated.

use std::fmt::Write as _;

use crate::names::{Bound, Label, Metric, Type};

const HEAD: &str = "\
# Metrics

<!-- Generated from actors/metrics/src/names.rs: `make metrics` writes it, a test compares it. -->

Every Nameward process serves Prometheus text on `metrics.listen` (`:9890/metrics`). Names and labels are a promise: a change
stands in CHANGELOG.md. Recording rules and alerts are in `deploy/prometheus/rules.yaml`, a dashboard in
`deploy/grafana/nameward.json`; what an alert means and what to do is in [runbooks/alerts](runbooks/alerts/README.md).

**Scraping.** Let the target label `node` say on which node the process runs (`__meta_kubernetes_pod_node_name`): rules, alerts and
the dashboard fall back on `instance` where it is missing. The metrics' own labels for CoreDNS pods are `coredns_pod` and
`coredns_node`, so that nothing collides with the scraped pod's own. An interval of 15 s to 60 s fits.

**Agent and coordinator** serve the same names. What a process cannot know is absent or stays at 0: an agent that is not the coordinator
has no `nameward_agents`, a coordinator alone probes nothing.

**How many series.** Labels are enums, or names of CoreDNS pods: at most 32 of those per process. Where a cluster has more CoreDNS pods,
each node takes others, so that all nodes together show all of them. Series of a pod that is gone disappear. An agent has about 280
series, and 34 more for each CoreDNS pod; in a cluster of many nodes and many CoreDNS pods, drop
`nameward_coredns_probe_duration_seconds_bucket` at the scrape (20 of those 34) and keep the rest.

";

const PROTOTYPE: &str = "\
## Names of the prototype

The first five metrics carry the names of the prototype `coredns-healthcheck`, so that its dashboards and alerts go on working. They are
the one exception to the naming rules, and `promtool check metrics` says so of the four counters: no `_total`, and `_count` at the end of
three, which is a histogram's. They stay. Every other metric starts with `nameward_` and follows the rules, which a test
checks; `make rules` runs `promtool check metrics` and accepts complaints about these alone.
";

/// The page.
#[must_use]
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| metric | type | unit | labels | meaning | when it moves |\n|---|---|---|---|---|---|\n");
    for metric in Metric::ALL {
        let spec = metric.spec();
        let labels: Vec<&str> = spec.labels.iter().map(|label| label.name()).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            spec.name,
            spec.kind.label(),
            metric.unit(),
            labels.join(", "),
            spec.help,
            metric.moves()
        );
    }
    text.push_str("\n## Labels\n\n| label | of | values |\n|---|---|---|\n");
    for label in Label::ALL {
        let of: Vec<String> = Metric::ALL
            .iter()
            .map(|metric| metric.spec())
            .filter(|spec| spec.labels.contains(label))
            .map(|spec| format!("`{}`", spec.name))
            .collect();
        let _ = writeln!(text, "| {} | {} | {} |", label.name(), of.join(", "), values(*label));
    }
    text.push_str("\n## Buckets\n\n| histogram | upper bounds, seconds |\n|---|---|\n");
    for metric in Metric::ALL {
        let spec = metric.spec();
        if let Type::Histogram(buckets) = spec.kind {
            let bounds: Vec<String> = buckets.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "| `{}` | {} |", spec.name, bounds.join(", "));
        }
    }
    text.push('\n');
    text.push_str(PROTOTYPE);
    text
}

fn values(label: Label) -> String {
    match (label, label.bound()) {
        (Label::Cause, Bound::OneOf(causes)) => {
            let links: Vec<String> = causes.iter().map(|cause| format!("[{cause}](runbooks/{cause}.md)")).collect();
            links.join(", ")
        }
        (_, Bound::OneOf(values)) => values.join(", "),
        (Label::Version, Bound::AtMost(_)) => "Nameward's version".to_owned(),
        (_, Bound::AtMost(most)) => format!("names, at most {most} at a time"),
    }
}
