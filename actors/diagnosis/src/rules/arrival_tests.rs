//! What gets lost as it arrives: each cause, and what looks like it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_messages::probe::Outcome;
use nameward_messages::targets::Transport::{Tcp, Udp};
use nameward_messages::verdict::{Cause, Confidence};

use crate::judge::judge;
use crate::rules::scenarios::{Scenario, policy, rules, to};
use crate::testing::arrival::{complained, host_counter, invalid, pod_counter, second_uplink};
use crate::testing::*;

const RPF: &str = "TcpExt.IPReversePathFilter";
const BAD: &str = "Udp.InCsumErrors";

fn refused(packets: u64) -> String {
    format!("[{packets}:0] -A KUBE-FORWARD -m conntrack --ctstate INVALID")
}

fn dropped(packets: u64) -> impl Fn(&mut crate::record::Sample) {
    let text = iptables_rules().replacen(&refused(0), &refused(packets), 1);
    assert!(text.contains(&refused(packets)));
    rules(text)
}

fn asymmetric(setting: i64) -> World {
    complained(&[Udp, Tcp]).both(second_uplink(setting)).both(host_counter(RPF, 10))
}

/// The rows of these rules.
pub(crate) fn rows() -> Vec<Scenario> {
    use Confidence::{Certain, Probable};
    let row = |name, cause, confidence, world| Scenario { name, world, cause, confidence, subject: "node1" };
    let replies = || World::healthy().paths(|p| to(p, DNS_B).then_some(Outcome::Timeout));
    vec![
        row(
            "strict filter, other nodes complain",
            Cause::ReversePathFilter,
            Certain,
            asymmetric(1).newest(host_counter(RPF, 14)),
        ),
        row(
            "strict filter drops the replies",
            Cause::ReversePathFilter,
            Certain,
            replies().both(second_uplink(1)).both(host_counter(RPF, 10)).newest(host_counter(RPF, 14)),
        ),
        row(
            "bad checksums in CoreDNS's namespace",
            Cause::ChecksumErrors,
            Certain,
            complained(&[Udp]).both(pod_counter(BAD, 3)).newest(pod_counter(BAD, 7)),
        ),
        row(
            "bad checksums, conntrack refuses them",
            Cause::ChecksumErrors,
            Probable,
            complained(&[Udp]).both(invalid(5)).newest(invalid(9)).both(dropped(5)).newest(dropped(9)),
        ),
        row(
            "replies with bad checksums",
            Cause::ChecksumErrors,
            Certain,
            replies().both(host_counter(BAD, 0)).newest(host_counter(BAD, 4)),
        ),
    ]
}

#[test]
fn each_row_has_its_cause_alone() {
    for row in rows() {
        let judgement = judge(&row.world.record());
        let found: Vec<Cause> = judgement.findings.iter().map(|f| f.cause).collect();
        assert_eq!(found, [row.cause], "{}: {judgement:#?}", row.name);
        assert_eq!(judgement.findings[0].confidence, row.confidence, "{}", row.name);
    }
}

#[test]
fn what_looks_like_it_is_not_called_so() {
    let one_uplink = |s: &mut crate::record::Sample| {
        second_uplink(1)(s);
        if let nameward_kernel::facts::Reading::Read(topology) = &mut s.host.topology {
            topology.routes.retain(|r| r.out_link != Some(101));
        }
    };
    // Calico makes every pod's link strict (felix, endpoint_mgr.go), with a route to the pod by each and no bridge.
    let routed_to_pods = |s: &mut crate::record::Sample| {
        one_uplink(s);
        let nameward_kernel::facts::Reading::Read(topology) = &mut s.host.topology else { panic!("no topology") };
        let of_bridge = topology.routes.iter().find(|r| r.out_link == Some(3)).unwrap().clone();
        topology.links.retain(|link| link.name != "cni0");
        let mut pods = vec![];
        for (n, link) in topology.links.iter_mut().filter(|link| link.name.starts_with("veth")).enumerate() {
            (link.name, link.master, link.port) = (format!("cali{n:011x}"), None, None);
            let destination = Some((ip(&format!("10.244.1.{}", 51 + n)), 32));
            pods.push(nameward_kernel::facts::Route { destination, out_link: Some(link.index), ..of_bridge.clone() });
        }
        topology.routes.retain(|r| r.out_link != Some(3));
        topology.routes.extend(pods);
        let names: Vec<String> = topology.links.iter().map(|link| link.name.clone()).collect();
        let nameward_kernel::facts::Reading::Read(sysctls) = &mut s.host.sysctls else { panic!("no sysctls") };
        sysctls.rp_filter = names.into_iter().map(|name| (name, 1)).collect();
    };
    let rows: Vec<(&str, World)> = vec![
        ("the counter stands still", asymmetric(1)),
        ("loose", asymmetric(2).newest(host_counter(RPF, 14))),
        ("off", asymmetric(0).newest(host_counter(RPF, 14))),
        (
            "UDP alone fails: addresses are not what it is about",
            complained(&[Udp]).both(second_uplink(1)).both(host_counter(RPF, 10)).newest(host_counter(RPF, 14)),
        ),
        (
            "one link leads out",
            complained(&[Udp, Tcp]).both(one_uplink).both(host_counter(RPF, 10)).newest(host_counter(RPF, 14)),
        ),
        (
            "one link leads out, the others are pods'",
            complained(&[Udp, Tcp]).both(routed_to_pods).both(host_counter(RPF, 10)).newest(host_counter(RPF, 14)),
        ),
        ("nobody complains", World::healthy().both(second_uplink(1)).newest(host_counter(RPF, 14))),
        ("a single bad datagram", complained(&[Udp]).both(pod_counter(BAD, 3)).newest(pod_counter(BAD, 4))),
        ("TCP alone fails", complained(&[Tcp]).both(pod_counter(BAD, 3)).newest(pod_counter(BAD, 9))),
        ("invalid, and nothing drops it", complained(&[Udp]).both(invalid(5)).newest(invalid(9))),
        // Segments of connections that were cut off are invalid too, and met by the rule before the policy.
        ("a policy drops all of it", {
            let cut = |counted: u64| rules(policy(0).replacen(&refused(0), &refused(counted), 1));
            complained(&[Udp, Tcp]).both(invalid(5)).newest(invalid(9)).both(cut(5)).newest(cut(9))
        }),
        // Connections to a process that hangs leave invalid segments behind, on its node and on others.
        (
            "the pod of which others complain does not answer its own node",
            complained(&[Udp])
                .paths(|p| to(p, DNS_A).then_some(Outcome::Timeout))
                .both(invalid(5))
                .newest(invalid(9))
                .both(dropped(5))
                .newest(dropped(9)),
        ),
        (
            "a far pod is silent, and something is invalid",
            World::healthy()
                .paths(|p| to(p, DNS_B).then_some(Outcome::Timeout))
                .both(invalid(5))
                .newest(invalid(9))
                .both(dropped(5))
                .newest(dropped(9)),
        ),
        ("errors, and nothing fails", World::healthy().both(pod_counter(BAD, 3)).newest(pod_counter(BAD, 9))),
    ];
    for (what, world) in rows {
        let record = world.record();
        let found: Vec<Cause> = judge(&record).findings.iter().map(|f| f.cause).collect();
        let wrong = |c: &Cause| matches!(c, Cause::ReversePathFilter | Cause::ChecksumErrors);
        assert!(!found.iter().any(wrong), "{what}: {found:?}");
    }
}

#[test]
fn what_others_sent_a_while_ago_counts_and_a_single_sample_does_not() {
    let world = || complained(&[Udp]).both(pod_counter(BAD, 7));
    let record = world().record();
    assert!(judge(&record).findings.is_empty());
    let mut earlier = sample(90_000);
    pod_counter(BAD, 3)(&mut earlier);
    let mut record = world().record();
    record.earlier = Some(std::sync::Arc::new(earlier));
    let found = judge(&record);
    assert_eq!(found.findings.iter().map(|f| f.cause).collect::<Vec<_>>(), [Cause::ChecksumErrors]);
    let mut single = world().newest(pod_counter(BAD, 9)).record();
    single.previous = None;
    let judgement = judge(&single);
    assert!(judgement.findings.is_empty(), "{:?}", judgement.findings);
    assert!(judgement.waiting.iter().any(|(rule, _)| *rule == "checksum-errors"), "{:?}", judgement.waiting);
}
