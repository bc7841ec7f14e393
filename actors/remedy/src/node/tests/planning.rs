//! What is not repaired, or not as a whole, because somebody set it so.

use nameward_kernel::facts::{BridgePort, Reading};
use nameward_kernel::repair::{Change, FlowId, MAX_FLOWS};

use super::facts::*;
use super::*;
use crate::node::plan::Known;

/// What is planned for a fault in a world that is spoiled further: commands, or why not.
fn planned(name: &str, spoil: impl Fn(&mut Seen)) -> Result<Vec<String>, String> {
    let mut case = cases().into_iter().find(|case| case.name == name).unwrap();
    spoil(&mut case.seen);
    let namespaces = namespaces().into_iter().map(|n| (n.pod.clone(), n)).collect();
    let known = Known { namespaces: &namespaces, targets: &targets() };
    let changes = known.changes(&case.verdict, &case.seen)?;
    Ok(changes.iter().map(ToString::to_string).collect())
}

#[test]
fn a_port_does_not_come_back_without_its_isolation_or_its_vlan() {
    assert!(planned("veth-off-bridge", |_| ()).is_ok());
    let isolated = |s: &mut Seen| host(s).links[4].port = Some(BridgePort { isolated: true, ..BridgePort::default() });
    let unknown = |s: &mut Seen| host(s).links[4].port = None;
    for why in [planned("veth-off-bridge", isolated), planned("veth-off-bridge", unknown)] {
        assert!(why.unwrap_err().contains("isolated"));
    }
    for filters in [Some(true), None] {
        let why = planned("veth-off-bridge", |s| host(s).links[2].vlan_filtering = filters).unwrap_err();
        assert!(why.contains("VLANs"), "{why}");
    }
}

#[test]
fn a_default_route_by_another_link_is_left_alone() {
    let by_another = |s: &mut Seen| pod(s).routes = vec![default_route([192, 168, 7, 1], 3)];
    let up = "nsenter --net=/run/netns/cni-1 ip link set dev eth0 up";
    assert_eq!(planned("veth-down-inside", by_another), Ok(vec![up.to_owned()]));
}

/// To write `ip_forward` back to 0 would stop the devices that forwarded before.
#[test]
fn devices_that_forward_are_not_put_at_risk_by_ip_forward() {
    let forwarding = |values: [(&str, i64); 3]| {
        planned("ip-forward-off", |s| {
            let Reading::Read(sysctls) = &mut s.sysctls else { panic!("not read") };
            sysctls.forwarding = values.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect();
        })
    };
    let all = Ok(vec!["sysctl -w net.ipv4.ip_forward=1".to_owned()]);
    assert_eq!(forwarding([("cni0", 0), ("eth0", 0), ("eth1", 0)]), all);
    let one = Ok(vec!["sysctl -w net.ipv4.conf.cni0.forwarding=1".to_owned()]);
    assert_eq!(forwarding([("cni0", 0), ("eth0", 1), ("eth1", 1)]), one);
    assert!(forwarding([("cni0", 1), ("eth0", 1), ("eth1", 0)]).is_err());
}

#[test]
fn after_care_finds_its_own_among_many_dead_entries() {
    let targets = targets();
    let known = Known { namespaces: &BTreeMap::new(), targets: &targets };
    let mut flows: Vec<FlowId> = (0..MAX_FLOWS)
        .map(|n| {
            let mut flow = dead_flow();
            flow.original.source.set_port(u16::try_from(n).unwrap() + 1);
            flow.reply.source.set_ip([10, 244, 9, 9].into());
            flow
        })
        .collect();
    flows.push(dead_flow());
    let seen = Seen { flows: Reading::Read(flows), ..healthy() };
    let gone = [dead_flow().reply.source.ip()].into();
    assert_eq!(known.changes_after(&gone, &seen), Ok(vec![Change::DropFlows { flows: vec![dead_flow()] }]));
}
