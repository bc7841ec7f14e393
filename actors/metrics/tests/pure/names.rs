//! The names are a promise.

use std::collections::BTreeSet;

use nameward_messages::probe::OutcomeKind;
use nameward_metrics::catalogue;
use nameward_metrics::names::{Bound, Label, Metric, Type};

/// A change here breaks somebody's dashboard: say it in the changelog.
const GOLDEN: &str = "\
oom_count counter
restart_count counter
total_failures counter
dns_query_count counter
dns_query_response_time histogram
nameward_build_info gauge version
nameward_probes_total counter vantage target transport outcome
nameward_probe_duration_seconds histogram vantage target transport
nameward_rounds_total counter
nameward_round_period_seconds gauge
nameward_round_duration_seconds gauge
nameward_namespaces gauge
nameward_suspected_paths gauge
nameward_coredns_up gauge coredns_pod coredns_node transport
nameward_coredns_probes_total counter coredns_pod coredns_node vantage transport result
nameward_coredns_probe_duration_seconds histogram coredns_pod coredns_node transport
nameward_verdicts gauge cause scope
nameward_verdicts_total counter cause
nameward_recovered_total counter
nameward_incidents gauge phase
nameward_incidents_unresolved gauge cause phase
nameward_remedies_total counter kind mode outcome
nameward_refusals_total counter kind reason
nameward_breaker_open gauge breaker
nameward_kill_switch gauge source
nameward_agents gauge state
nameward_coredns_pods gauge budgets
nameward_leader gauge
nameward_api_reachable gauge
nameward_capabilities_missing gauge
nameward_config_reloads_total counter result
nameward_config_last_reload_successful gauge
nameward_actor_alive gauge actor
nameward_actor_degraded gauge actor
nameward_actor_handled_total counter actor
nameward_actor_restarts_total counter actor
nameward_actor_lost_total counter actor
nameward_actor_shed_total counter actor
nameward_actor_waiting gauge actor
nameward_actor_idle_seconds gauge actor
";

#[test]
fn golden() {
    let mut text = String::new();
    for (name, kind, help, labels) in catalogue() {
        assert!(help.ends_with('.'), "{name}");
        text.push_str(&[&[name, kind], labels.as_slice()].concat().join(" "));
        text.push('\n');
    }
    assert_eq!(text, GOLDEN);
}

#[test]
fn ours_follow_the_conventions() {
    for metric in Metric::ALL {
        let spec = metric.spec();
        let Some(rest) = spec.name.strip_prefix("nameward_") else { continue };
        assert_eq!(rest.ends_with("_total"), spec.kind == Type::Counter, "{}", spec.name);
        if let Type::Histogram(buckets) = spec.kind {
            assert!(rest.ends_with("_seconds") && buckets.is_sorted(), "{}", spec.name);
            assert_eq!((buckets.first(), buckets.last()), (Some(&0.0005), Some(&5.0)));
        }
    }
}

/// However large the cluster, an agent has so many series at most.
#[test]
fn bounded() {
    let mut all = 0;
    for metric in Metric::ALL {
        let spec = metric.spec();
        let values = |label: &Label| match label.bound() {
            Bound::OneOf(values) => {
                let distinct: BTreeSet<_> = values.iter().collect();
                assert_eq!(distinct.len(), values.len(), "{label:?}");
                values.len()
            }
            // A pod has one node: they do not multiply.
            Bound::AtMost(_) if *label == Label::CorednsNode => 1,
            Bound::AtMost(most) => most,
        };
        let series: usize = spec.labels.iter().map(values).product();
        let lines = if let Type::Histogram(buckets) = spec.kind { buckets.len() + 3 } else { 1 };
        all += series * lines;
    }
    // Most are causes, refusals and outcomes of remedies that never come about; a quiet agent has about 250.
    assert!(all < 3500, "{all}");
    assert_eq!(Label::Outcome.bound(), Bound::OneOf(OutcomeKind::ALL.map(OutcomeKind::label).to_vec()));
}

/// Labels that are spelled twice, here and in JSON, are spelled alike.
#[test]
fn labels_are_what_json_says() {
    use nameward_messages::verdict::Scope;
    let Bound::OneOf(scopes) = Label::Scope.bound() else { panic!() };
    for scope in scopes {
        let parsed: Scope = serde_json::from_value(scope.into()).unwrap();
        assert_eq!(serde_json::to_value(parsed).unwrap(), scope);
    }
}
