//! Scenarios of the Service, conntrack, kube-proxy's rules and NodeLocal DNSCache: each with its one cause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nameward_kernel::facts::SocketTable;
use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::Outcome;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Cause, Confidence};

use super::scenarios::{Scenario, is_service, row, rules};
use crate::testing::service::*;
use crate::testing::*;

/// The rows.
pub(crate) fn rows() -> Vec<Scenario> {
    use Cause::*;
    use Confidence::{Certain, Probable};
    let dead = || group("10.96.0.10:53", "10.244.2.9:53", &["10.244.1.52:40000"], 1);
    let bare_flow = || group("172.30.0.254:53", "172.30.0.254:53", &["10.244.1.51:32000"], 0);
    let both = |p: &nameward_messages::probe::PathKey| is_service(p).then_some(Outcome::Timeout);
    let refused = Outcome::Refused { by: Some(ip("10.96.0.10")) };
    vec![
        row("a kept port leads to a dead endpoint", StaleConntrack, Certain, "node1", {
            World::healthy().path(held(pod_vantage(CLIENT)), Outcome::Timeout).both(flows(vec![dead()]))
        }),
        row("a kept port from when there were no rules", StaleConntrack, Certain, "node1", {
            let bare = group("10.96.0.10:53", "10.96.0.10:53", &["10.244.1.52:40000"], 0);
            World::healthy().path(held(pod_vantage(CLIENT)), Outcome::Timeout).both(flows(vec![bare]))
        }),
        row("conntrack cannot insert", ConntrackInsertFailed, Certain, "node1", {
            clashing().both(conntrack(7, 7, 900)).newest(conntrack(12, 12, 900))
        }),
        row("conntrack is full", ConntrackFull, Certain, "node1", {
            let full = World::healthy().paths(|p| {
                Some(if p.vantage == Vantage::Host && p.transport == Transport::Udp {
                    Outcome::NotPermitted
                } else {
                    Outcome::Timeout
                })
            });
            full.both(conntrack(0, 10, 262_100)).newest(conntrack(0, 80, 262_144))
        }),
        row("the Service has no UDP port", ServicePortMissing, Certain, "kube-dns", {
            World::healthy()
                .targets(|t| t.service.as_mut().unwrap().udp_port = None)
                .paths(|p| (is_service(p) && p.transport == Transport::Udp).then_some(Outcome::Timeout))
        }),
        row("the Service is deleted", ServiceMissing, Certain, "kube-dns", {
            let mut world = World::healthy().targets(|t| {
                t.service = None;
                t.pods.clear();
            });
            for client in [CLIENT, CLIENT2] {
                for transport in [Transport::Udp, Transport::Tcp] {
                    world = world.path(by_nameserver(pod_vantage(client), "10.96.0.10", transport), Outcome::Timeout);
                }
            }
            world
        }),
        row("internalTrafficPolicy Local, no pod here", NoLocalEndpoint, Certain, "node1", {
            World::healthy()
                .targets(|t| {
                    t.service.as_mut().unwrap().internal_traffic_local = true;
                    t.pods.remove(0);
                })
                .with(|r| {
                    r.namespaces.remove(&uid(DNS_A));
                })
                .paths(both)
                .both(rules(no_local_rules()))
        }),
        row("NodeLocal: the daemon is dead", NodeLocalDnsDead, Certain, "node1", {
            let refused = refused.clone();
            World::healthy()
                .paths(move |p| is_service(p).then(|| refused.clone()))
                .both(rules(notrack_rules()))
                .both(cache_link)
                .both(listeners(SocketTable::default()))
        }),
        row("NodeLocal: the daemon hangs", NodeLocalDnsDead, Certain, "node1", {
            World::healthy()
                .paths(both)
                .both(rules(notrack_rules()))
                .both(cache_link)
                .both(listeners(SocketTable { udp: vec![socket(53, 4352, 0)], tcp_listen: vec![socket(53, 3, 0)] }))
        }),
        row("NodeLocal: rules left behind", NodeLocalDnsDead, Certain, "node1", {
            World::healthy().paths(both).both(rules(notrack_rules())).both(listeners(SocketTable::default()))
        }),
        row("old rules in the other backend", TwoIptablesBackends, Certain, "node1", {
            World::healthy().paths(both).both(|s| s.host.netfilter.iptables_legacy = parsed(&old_rules()))
        }),
        row("the xtables lock is held", XtablesLockHeld, Certain, "node1", {
            World::healthy().paths(both).both(legacy_alone(old_rules())).both(locked(true))
        }),
        row("not masqueraded", MasqueradeMissing, Certain, "node1", bare().both(flows(vec![bare_flow()]))),
        row("not masqueraded, though a rule seems to be for it", MasqueradeMissing, Probable, "node1", {
            let text = iptables_rules().replace(
                "-A POSTROUTING -m comment",
                "-A POSTROUTING -s 10.244.1.0/24 -j MASQUERADE\n-A POSTROUTING -m comment",
            );
            bare().both(flows(vec![bare_flow()])).both(rules(text))
        }),
    ]
}
