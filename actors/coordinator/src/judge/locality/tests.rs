#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::{ObjectKey, PodUid};

use super::*;
use crate::judge::sight::SeenNode;

const UDP: (Look, Look) = (Look::Fails, Look::Reaches);
const BOTH: (Look, Look) = (Look::Fails, Look::Fails);

fn name(n: usize) -> NodeName {
    NodeName(format!("node{n}"))
}

fn pod(host: usize) -> SeenPod {
    let uid = PodUid(format!("dns{host}"));
    SeenPod {
        subject: Subject::pod(&ObjectKey::new("kube-system", format!("coredns-{host}")), &uid),
        uid,
        node: name(host),
        endpoint: Some(true),
        explained: false,
        examined: false,
    }
}

/// `nodes` nodes, a CoreDNS pod on each of `hosts`; all is well.
fn sight(nodes: usize, hosts: &[usize]) -> Sight {
    let mut sight = Sight { pods: hosts.iter().map(|h| pod(*h)).collect(), ..Sight::default() };
    for n in 1..=nodes {
        sight.nodes.insert(name(n), SeenNode { heard: true, ready: Some(true), ..SeenNode::default() });
        for host in hosts {
            let looks = Looks { udp: Look::Reaches, tcp: Look::Reaches, host_udp: Look::Reaches, deferred: None };
            sight.looks.insert((name(n), pod(*host).uid), looks);
        }
    }
    sight
}

impl Sight {
    fn breaks(mut self, from: usize, to: usize, (udp, tcp): (Look, Look)) -> Self {
        let looks = self.looks.get_mut(&(name(from), pod(to).uid)).unwrap();
        *looks = Looks { udp, tcp, host_udp: udp, deferred: Some((Duration::from_secs(10), "time-out".into())) };
        self
    }

    fn examined(mut self, hosts: &[usize]) -> Self {
        for host in hosts {
            self.pods.iter_mut().find(|p| p.node == name(*host)).unwrap().examined = true;
        }
        self
    }

    fn silent(mut self, n: usize, ready: Option<bool>) -> Self {
        *self.nodes.get_mut(&name(n)).unwrap() = SeenNode { ready, ..SeenNode::default() };
        self.looks.retain(|(node, _), _| *node != name(n));
        self
    }
}

fn found(sight: &Sight) -> Vec<(Cause, String, Confidence)> {
    let service =
        Subject::object(nameward_messages::verdict::SubjectKind::Service, &ObjectKey::new("kube-system", "kube-dns"));
    let all = judge(sight, &BTreeSet::new(), Some(&service));
    for one in &all {
        assert!(!one.evidence.is_empty() && one.evidence.len() <= LINES && !one.nodes.is_empty(), "{one:?}");
    }
    all.into_iter().map(|l| (l.cause, l.subject.name, l.confidence)).collect()
}

use Cause::{EndpointOnDeadNode as Dead, NodePairBlocked as Pair};
use Confidence::{Certain, Probable};

#[test]
fn the_smallest_set_that_explains_is_named() {
    let pair = |from: usize| (Pair, format!("node{from}"), Certain);
    type Row = (&'static str, Sight, Vec<(Cause, String, Confidence)>);
    let rows: Vec<Row> = vec![
        ("all is well", sight(3, &[1, 2]), vec![]),
        ("a pair, both ways", sight(3, &[1, 2]).breaks(1, 2, UDP).breaks(2, 1, UDP).examined(&[1, 2]), vec![pair(1)]),
        ("a pair, one way", sight(3, &[1, 2]).breaks(1, 2, UDP).examined(&[2]), vec![pair(2)]),
        ("a pair, the other end has no pod", sight(3, &[1, 2]).breaks(3, 1, BOTH).examined(&[1]), vec![pair(1)]),
        ("two nodes only", sight(2, &[1]).breaks(2, 1, UDP).examined(&[1]), vec![(Pair, "node1".into(), Probable)]),
        (
            "a node cut off from all others",
            sight(4, &[1, 2])
                .breaks(1, 2, BOTH)
                .breaks(2, 1, BOTH)
                .breaks(3, 1, BOTH)
                .breaks(4, 1, BOTH)
                .examined(&[1, 2]),
            vec![(Pair, "node1".into(), Probable)],
        ),
        (
            "a node that reaches nobody",
            sight(4, &[1, 2]).breaks(3, 1, UDP).breaks(3, 2, UDP).examined(&[1, 2]),
            vec![(Pair, "node3".into(), Probable)],
        ),
        (
            "two pairs of four nodes",
            sight(4, &[1, 2]).breaks(3, 1, UDP).breaks(4, 2, UDP).examined(&[1, 2]),
            vec![pair(1), pair(2)],
        ),
        (
            "every pair",
            sight(3, &[1, 2, 3])
                .breaks(1, 2, UDP)
                .breaks(1, 3, UDP)
                .breaks(2, 1, UDP)
                .breaks(2, 3, UDP)
                .breaks(3, 1, UDP)
                .breaks(3, 2, UDP)
                .examined(&[1, 2, 3]),
            vec![(Pair, "kube-dns".into(), Probable)],
        ),
        (
            "a dead node",
            sight(3, &[1, 2]).breaks(1, 2, BOTH).breaks(3, 2, BOTH).silent(2, Some(false)),
            vec![(Dead, "coredns-2".into(), Certain)],
        ),
        (
            "a dead node and a broken pair, whose far end has nobody else",
            sight(4, &[1, 2])
                .breaks(1, 2, BOTH)
                .breaks(3, 2, BOTH)
                .silent(2, Some(false))
                .breaks(4, 1, UDP)
                .breaks(4, 2, BOTH)
                .examined(&[1]),
            vec![(Dead, "coredns-2".into(), Certain), (Pair, "node1".into(), Probable)],
        ),
    ];
    for (what, sight, expected) in rows {
        assert_eq!(found(&sight), expected, "{what}");
    }
}

#[test]
fn what_is_no_fault_of_the_network_is_not_called_one() {
    let pair = || sight(3, &[1, 2]).breaks(1, 2, UDP).breaks(2, 1, UDP);
    let change = |change: fn(&mut Sight)| {
        let mut sight = pair().examined(&[1, 2]);
        change(&mut sight);
        sight
    };
    let rows: Vec<(&str, Sight)> = vec![
        ("nobody has looked into it yet", pair()),
        ("a rollout is under way", change(|s| s.moving = true)),
        ("the pods' own nodes name a cause", change(|s| s.pods.iter_mut().for_each(|p| p.explained = true))),
        (
            "the pods' own hosts are not answered",
            change(|s| {
                for n in [1, 2] {
                    s.looks.get_mut(&(name(n), pod(n).uid)).unwrap().host_udp = Look::Fails;
                }
            }),
        ),
        (
            "only for a moment",
            change(|s| {
                for looks in s.looks.values_mut() {
                    if let Some((since, _)) = &mut looks.deferred {
                        *since = Duration::from_secs(1);
                    }
                }
            }),
        ),
        ("the nodes are being drained", change(|s| s.nodes.values_mut().for_each(|n| n.cordoned = true))),
        ("those that complain are sick themselves", change(|s| s.nodes.values_mut().for_each(|n| n.sick = true))),
        // A kubelet that is silent while everybody reaches its pod is no dead node.
        ("not ready and reached", sight(3, &[1, 2]).breaks(1, 2, BOTH).silent(2, Some(false))),
        ("no endpoint any more", {
            let mut sight = sight(3, &[1, 2]).breaks(1, 2, BOTH).breaks(3, 2, BOTH).silent(2, Some(false));
            sight.pods[1].endpoint = None;
            sight
        }),
        ("silent, and said to be ready", sight(3, &[1, 2]).breaks(1, 2, BOTH).breaks(3, 2, BOTH).silent(2, Some(true))),
        ("silent for a moment", sight(3, &[1, 2]).breaks(1, 2, BOTH).breaks(3, 2, BOTH).silent(2, None)),
    ];
    for (what, sight) in rows {
        assert_eq!(found(&sight), [], "{what}");
    }
}

#[test]
fn what_is_not_modelled_makes_it_probable_and_is_said() {
    let mut sight = sight(3, &[1, 2]).breaks(1, 2, UDP).examined(&[2]);
    sight.nodes.get_mut(&name(1)).unwrap().unmodelled = vec!["kube-proxy in IPVS mode".into()];
    assert_eq!(found(&sight), [(Pair, "node2".into(), Probable)]);
    let located = judge(&sight, &BTreeSet::new(), None).remove(0);
    assert!(located.evidence.iter().any(|e| e.says.contains("IPVS")), "{located:?}");
}

#[test]
fn evidence_names_both_ends_and_both_transports_and_a_standing_subject_is_kept() {
    let sight = sight(3, &[1, 2]).breaks(1, 2, UDP).breaks(2, 1, UDP).examined(&[1, 2]);
    let located = judge(&sight, &BTreeSet::new(), None).remove(0);
    let first = &located.evidence[0];
    assert_eq!(first.read, "node2 → pod kube-system/coredns-1 on node1");
    assert_eq!(first.says, "udp does not answer, tcp answers (time-out)");
    assert!(located.evidence.iter().any(|e| e.read.starts_with("node3 → ")), "{:?}", located.evidence);
    assert_eq!(located.explains.len(), 2);
    let kept = judge(&sight, &BTreeSet::from([name(2)]), None).remove(0);
    assert_eq!(kept.subject, Subject::node(&name(2)));
}

/// node1 and node2 cannot reach each other by UDP, and that stands as node1's; what else fails has done so for `seconds`.
fn beside_a_pair(seconds: u64, others: &[(usize, usize)]) -> Sight {
    let mut sight = sight(4, &[1, 2]).breaks(1, 2, UDP).breaks(2, 1, UDP).examined(&[1, 2]);
    for (from, to) in others {
        sight = sight.breaks(*from, *to, UDP);
        let looks = sight.looks.get_mut(&(name(*from), pod(*to).uid)).unwrap();
        looks.deferred = Some((Duration::from_secs(seconds), "time-out".into()));
    }
    sight
}

#[test]
fn a_moment_of_loss_beside_a_pair_that_stands_does_not_move_the_blame() {
    let named = |sight: &Sight, standing: &[usize]| -> Vec<String> {
        let standing = standing.iter().map(|n| name(*n)).collect();
        judge(sight, &standing, None).into_iter().map(|located| located.subject.name).collect()
    };
    // The other end loses packets of everybody else for a moment, or of one.
    for others in [&[(3, 2), (4, 2)][..], &[(3, 2)], &[(4, 2)]] {
        for seconds in [0, 5, 6, 12, 29] {
            assert_eq!(named(&beside_a_pair(seconds, others), &[1]), ["node1"], "{others:?} for {seconds} s");
        }
    }
    // It lasts: the other end is cut off from all.
    assert_eq!(named(&beside_a_pair(30, &[(3, 2), (4, 2)]), &[1]), ["node2"]);
    // What the named end loses besides is its own at once, and what stands alone is named at once.
    assert_eq!(named(&beside_a_pair(6, &[(3, 1), (4, 1)]), &[1]), ["node1"]);
    assert_eq!(named(&beside_a_pair(6, &[(3, 2), (4, 2)]), &[]), ["node2"]);
}

#[test]
fn nothing_is_named_before_all_who_see_it_have_settled_unless_it_lasts() {
    let aged = |seconds: u64, fresh: u64, examined: &[usize]| {
        let mut sight = sight(3, &[1, 2]).breaks(1, 2, UDP).breaks(2, 1, UDP).examined(examined);
        for ((from, to), seconds) in [((1, 2), seconds), ((2, 1), fresh)] {
            let looks = sight.looks.get_mut(&(name(from), pod(to).uid)).unwrap();
            looks.deferred = Some((Duration::from_secs(seconds), "time-out".into()));
        }
        found(&sight).into_iter().map(|(_, node, _)| node).collect::<Vec<_>>()
    };
    assert_eq!(aged(8, 3, &[1, 2]), [""; 0], "the other end began to see it a moment ago");
    assert_eq!(aged(8, 8, &[2]), [""; 0], "the other end has not looked into it");
    assert_eq!(aged(12, 6, &[1, 2]), ["node1"]);
    // An agent that says nothing for long holds nothing up.
    assert_eq!(aged(20, 3, &[2]), ["node1"]);
}
