#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nameward_messages::ids::NetnsCookie;
use nameward_messages::probe::{Outcome, PathKey, Purpose, QuestionKind};
use nameward_messages::targets::Transport;
use nameward_messages::{Mono, ObjectKey};

use super::*;

fn target(name: &str, ip: &str) -> Target {
    let kind = match name {
        "" => TargetKind::Service,
        name => TargetKind::Pod { uid: name.into(), key: ObjectKey::new("kube-system", name), node: None },
    };
    Target { kind, ip: ip.parse().unwrap() }
}

fn heard(pods: u64, targets: &[Target], outcome: impl Fn(&PathKey) -> Outcome) -> Heard {
    let mut heard = Heard::default();
    let pod = |n: u64| {
        let key = ObjectKey::new("default", format!("client-{n:03}"));
        Vantage::Pod { uid: format!("uid-{n}").as_str().into(), key, cookie: NetnsCookie(n) }
    };
    for vantage in std::iter::once(Vantage::Host).chain((1..=pods).map(pod)) {
        heard.namespaces.extend((vantage != Vantage::Host).then(|| (vantage.to_string(), ())));
        for target in targets {
            for transport in [Transport::Udp, Transport::Tcp] {
                let (vantage, target) = (vantage.clone(), target.clone());
                let path = PathKey { vantage, target, transport, question: QuestionKind::Internal };
                let outcome = outcome(&path);
                if outcome.good() == Some(false) {
                    heard.suspected.insert(path.clone(), ());
                }
                let observation = Observation {
                    at: Mono(Duration::from_secs(1)),
                    path: path.clone(),
                    port: 53,
                    outcome,
                    latency: Duration::from_micros(1_250),
                    connect: None,
                    purpose: Purpose::Round,
                };
                heard.paths.insert(path, observation);
            }
        }
    }
    heard
}

fn text(heard: &Heard, width: usize) -> String {
    Report { node: "node1", heard, losses: &[] }.text(width)
}

#[test]
fn a_healthy_node_with_many_pods_is_told_in_few_lines() {
    let targets = [target("coredns-6d-abcde", "10.244.1.2"), target("", "10.96.0.10")];
    let text = text(&heard(100, &targets, |_| Outcome::Answered), 110);
    assert!(text.lines().count() < 20, "{text}");
    assert!(text.contains("90 more pods, slowest") && text.contains("coredns-6d-abcde"), "{text}");
    assert!(text.ends_with("DNS answers: 404 paths asked from node1 and 100 pods."), "{text}");
}

#[test]
fn whoever_fails_is_named_among_many() {
    let targets = [target("coredns-6d-abcde", "10.244.1.2"), target("", "10.96.0.10")];
    let bad = |path: &PathKey| path.vantage.to_string() == "default/client-077" && path.transport == Transport::Udp;
    let heard = heard(100, &targets, |path| if bad(path) { Outcome::Timeout } else { Outcome::Answered });
    let text = text(&heard, 110);
    let line = text.lines().find(|line| line.contains("default/client-077")).unwrap();
    assert!(line.contains("udp timeout  tcp 1.2ms"), "{line}");
    assert!(text.contains("89 more pods") && text.contains("2 of 404 paths fail"), "{text}");
}

#[test]
fn a_narrow_terminal_is_respected() {
    let pods = ["a", "b", "c", "d"].map(|n| target(&format!("coredns-6d4b75cb6d-{n}wxyz"), "10.244.1.2"));
    let text = text(&heard(3, &pods, |_| Outcome::Answered), 80);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("…-awxyz") && text.contains("udp 1.2ms"), "{text}");
}

#[test]
fn json_has_a_line_for_every_path() {
    let targets = [target("", "10.96.0.10")];
    let heard = heard(2, &targets, |_| Outcome::Timeout);
    let json = Report { node: "node1", heard: &heard, losses: &["no nft".to_owned()] }.json();
    assert_eq!((json["healthy"].as_bool(), json["matrix"].as_array().unwrap().len()), (Some(false), 6));
    assert_eq!(json["matrix"][0]["outcome"], "timeout");
    assert_eq!((json["matrix"][0]["latency_ms"].as_f64(), json["losses"][0].as_str()), (Some(1.25), Some("no nft")));
}
