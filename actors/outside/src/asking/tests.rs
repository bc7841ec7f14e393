#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn full() -> Plan {
    let mut config = Config::default();
    config.probe.external_name = "example.com.".into();
    let mut plan = Plan::new(&config, questions(&config, "cluster.local", &["10.96.0.1".parse().unwrap()]));
    let mut port = 1;
    while plan.add(SocketAddr::from(([10, 96, 0, 10], port)), Transport::Udp) {
        port += 1;
    }
    plan
}

#[test]
fn a_plan_survives_its_spelling_and_a_full_one_fits() {
    let plan = full();
    assert_eq!(plan.asks.len(), MOST_ASKS);
    assert_eq!(Plan::parse(&plan.spelled()).unwrap(), plan);
    let worst = Answer { outcome: OutcomeKind::NetworkUnreachable, latency_us: 9_999_999, failed: true };
    let text = serde_json::to_string(&Answers::of(&vec![worst; MOST_ASKS])).unwrap();
    assert!(text.len() < 4096, "the kubelet keeps 4096 octets, these are {}", text.len());
    assert_eq!(Answers::parse(&text, MOST_ASKS).unwrap()[0], worst);
    assert_eq!(Answers::parse(&text, 3), None, "answers to another plan");
    assert_eq!(Answers::parse("exec format error", 1), None);
}

#[test]
fn a_plan_that_asks_for_too_much_is_refused() {
    let mut plan = full();
    plan.asks.push((SocketAddr::from(([10, 0, 0, 1], 53)), Transport::Tcp, 0));
    assert!(matches!(Plan::parse(&plan.spelled()), Err(BadPlan::TooMuch { .. })));
    plan.asks = vec![(SocketAddr::from(([10, 0, 0, 1], 53)), Transport::Tcp, 9)];
    assert!(matches!(Plan::parse(&plan.spelled()), Err(BadPlan::NoQuestion(9))));
    assert!(matches!(Plan::parse("{}"), Err(BadPlan::Unreadable(_))));
    plan.timeout_ms = u32::MAX;
    assert_eq!(plan.timeout(), PATIENCE);
    let whole = plan.timeout() * 2 + plan.confirm_after();
    assert!(whole <= BOUND, "the confirmations of one ask are asked at once");
}

#[test]
fn a_table_of_corefiles() {
    for (corefile, wanted) in [
        (".:53 {\n  kubernetes cluster.local in-addr.arpa ip6.arpa {\n  }\n}", Some("cluster.local")),
        (".:53 {\n  kubernetes in-addr.arpa corp.example. {\n  }\n}", Some("corp.example")),
        (".:53 {\n  # kubernetes old.local\n  kubernetes {\n  }\n}", None),
        (".:53 {\n  forward . 8.8.8.8\n}", None),
        ("kubernetes $(rm).local", None),
        ("", None),
    ] {
        assert_eq!(domain_of(corefile).as_deref(), wanted, "{corefile}");
    }
}
