#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{Expect, QueryType, Question, QuestionKind};
use nameward_messages::targets::{TargetKind, Transport};
use nameward_messages::{NetnsCookie, ObjectKey, PodUid};
use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn account(pod: u64) -> Account {
    Account::Pod(PodUid(format!("dns-{pod}")))
}

/// `pods` CoreDNS pods, asked from the host and `vantages` namespaces over both transports, and the Service; the host is
/// on the node of pod 0.
fn paths(vantages: u64, pods: u64) -> Paths {
    let question = Arc::new(Question {
        kind: QuestionKind::Internal,
        name: "kubernetes.default.svc.cluster.local.".to_owned(),
        qtype: QueryType::A,
        expect: Expect::SomeAddress,
    });
    let mut paths = Paths::new();
    for from in 0..=vantages {
        let vantage = match from {
            0 => Vantage::Host,
            n => Vantage::Pod {
                uid: PodUid(format!("pod-{n}")),
                key: ObjectKey::new("default", format!("pod-{n}")),
                cookie: NetnsCookie(n),
            },
        };
        for to in 0..=pods {
            let service = to == pods;
            let kind = if service {
                TargetKind::Service
            } else {
                let key = ObjectKey::new("kube-system", format!("coredns-{to}"));
                TargetKind::Pod { uid: PodUid(format!("dns-{to}")), key, node: None }
            };
            let costs: Vec<_> = if service {
                (0..pods).map(|pod| (account(pod), QUERY.div_ceil(u128::from(pods)))).collect()
            } else {
                vec![(account(to), QUERY)]
            };
            let ip = [10, 244, 0, u8::try_from(to).unwrap()].into();
            for transport in [Transport::Udp, Transport::Tcp] {
                let target = Target { kind: kind.clone(), ip };
                let path = PathKey { vantage: vantage.clone(), target, transport, question: QuestionKind::Internal };
                let planned = Planned {
                    port: 53,
                    questions: Arc::new([Arc::clone(&question)]),
                    place: None,
                    always: from == 0 && to == 0,
                    costs: costs.clone().into(),
                };
                paths.insert(path, planned);
            }
        }
    }
    paths
}

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    move || rng.u64(..)
}

fn at(ms: u64) -> Mono {
    Mono(Duration::from_millis(ms))
}

#[test]
fn with_a_large_share_every_path_is_asked_every_round() {
    let mut schedule = Schedule::default();
    schedule.set(paths(10, 2), 15_000, INTERVAL, at(0), &mut random(1));
    for round in 1..5 {
        assert_eq!(schedule.pick(round, at(10_000 * round), |_| false).len(), 11 * 3 * 2);
    }
    assert_eq!(schedule.period(INTERVAL), INTERVAL);
}

#[test]
fn the_period_says_how_long_a_turn_takes() {
    let mut schedule = Schedule::default();
    schedule.set(paths(99, 2), 1000, INTERVAL, at(0), &mut random(1));
    // 100 vantages by 2 transports to a pod, and half of as many to the Service: 300 queries at one per second.
    assert_eq!(schedule.period(INTERVAL), Duration::from_secs(300));
}

#[test]
fn a_change_of_paths_gives_no_fresh_allowance() {
    let mut schedule = Schedule::default();
    schedule.set(paths(10, 2), 500, INTERVAL, at(0), &mut random(1));
    let first = schedule.pick(1, at(0), |_| false).len();
    schedule.set(paths(11, 2), 500, INTERVAL, at(0), &mut random(1));
    assert!(first > 2);
    assert_eq!(schedule.pick(2, at(0), |_| false).len(), 0);
}

#[test]
fn extra_names_take_turns() {
    let mut paths = paths(0, 1);
    let names: Vec<Arc<Question>> = ["a.example.", "b.example."]
        .into_iter()
        .map(|name| {
            let (kind, expect) = (QuestionKind::Extra, Expect::SomeAddress);
            Arc::new(Question { kind, name: name.to_owned(), qtype: QueryType::A, expect })
        })
        .collect();
    let (path, planned) = paths.first_entry().map(|e| (e.key().clone(), e.get().clone())).unwrap();
    paths.insert(path.clone(), Planned { questions: names.into(), ..planned });
    let mut schedule = Schedule::default();
    schedule.set(paths, 30_000, INTERVAL, at(0), &mut random(1));
    let mut asked = Vec::new();
    for round in 1..5 {
        let picked = schedule.pick(round, at(round * 10_000), |_| false);
        asked.extend(picked.iter().filter(|one| *one.path == path).map(|one| one.question));
        assert_eq!(schedule.last(&path).unwrap().question, *asked.last().unwrap());
    }
    assert_eq!(asked, [0, 1, 0, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Over any time, no account is asked more than its rate and one round's worth and one query; what must always be
    /// asked is; and each path has its turn, whatever is suspected.
    #[test]
    fn the_share_holds_and_every_path_has_its_turn(
        vantages in 1u64..12, pods in 1u64..4, share in 100u64..3000, seed: u64, every in 1u64..5,
    ) {
        let all = paths(vantages, pods);
        let mut schedule = Schedule::default();
        schedule.set(all.clone(), share, INTERVAL, at(0), &mut random(seed));
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut asked: BTreeSet<PathKey> = BTreeSet::new();
        let mut spent: BTreeMap<Account, u128> = BTreeMap::new();
        let (mut now, rounds) = (at(0), 2000u64);
        for round in 1..=rounds {
            now = now + Duration::from_millis(rng.u64(9000..=10_000));
            let suspected = |path: &PathKey| (path.to_string().len() as u64).is_multiple_of(every);
            let picked = schedule.pick(round, now, suspected);
            let always = picked.iter().filter(|one| one.planned.always).count();
            prop_assert_eq!(always, 2, "round {}", round);
            for one in picked {
                asked.insert(one.path.clone());
                for (account, cost) in one.planned.costs.iter() {
                    *spent.entry(account.clone()).or_default() += cost;
                }
            }
        }
        for (who, spent) in spent {
            let own = rate_for(3, INTERVAL * CLOSEST_PERCENT / 100);
            let rate = u128::from(if who == account(0) { share.max(own) } else { share });
            prop_assert!(spent <= rate * (now.0.as_nanos() + INTERVAL.as_nanos()) + QUERY, "{:?}", who);
        }
        prop_assert_eq!(asked.len(), all.len());
    }
}
