#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn link(index: u32, name: &str) -> LinkId {
    LinkId { index, name: name.to_owned() }
}

fn via(gateway: &str, index: u32, metric: u32) -> DefaultVia {
    DefaultVia { gateway: Some(gateway.parse().unwrap()), link: Some(index), metric, protocol: BOOT }
}

fn flow(port: u16) -> FlowId {
    let at = |ip: [u8; 4], port: u16| std::net::SocketAddr::from((ip, port));
    let (client, service, pod) = (at([10, 244, 1, 5], port), at([10, 96, 0, 10], 53), at([10, 244, 1, 9], 53));
    FlowId {
        original: Tuple { source: client, destination: service },
        reply: Tuple { source: pod, destination: client },
    }
}

/// Every kind of change, with an image it is for and what it leaves.
fn all() -> Vec<(Change, Image, Image)> {
    let pod = Place::Pod { pod: "uid-1".into(), cookie: NetnsCookie(7), path: "/run/netns/cni-1".into() };
    let gateway = Ipv4Addr::new(10, 244, 1, 1);
    let wrong = NeighbourImage { mac: "02:00:00:00:be:ef".to_owned(), permanent: true };
    let route = Change::DefaultRoute { place: pod.clone(), link: link(2, "eth0"), gateway };
    let bridge = Change::BridgeAddress { bridge: link(3, "cni0"), ip: gateway, prefix: 24 };
    let other = (IpAddr::from([10, 0, 0, 1]), 8);
    vec![
        (route.clone(), Image::Routes(vec![]), Image::Routes(vec![via("10.244.1.1", 2, 0)])),
        (route, Image::Routes(vec![via("10.244.1.250", 2, 5)]), Image::Routes(vec![via("10.244.1.1", 2, 5)])),
        (Change::LinkUp { place: pod.clone(), link: link(2, "eth0") }, Image::Up(false), Image::Up(true)),
        (
            Change::AttachVeth { veth: link(9, "veth1"), bridge: link(3, "cni0") },
            Image::Bridge(None),
            Image::Bridge(Some(3)),
        ),
        (Change::Hairpin { veth: link(9, "veth1") }, Image::Hairpin(Some(false)), Image::Hairpin(Some(true))),
        (
            Change::DropNeighbour { place: pod, link: link(2, "eth0"), ip: gateway.into(), mac: wrong.mac.clone() },
            Image::Neighbour(Some(wrong)),
            Image::Neighbour(None),
        ),
        (bridge, Image::Addresses(vec![other]), Image::Addresses(vec![other, (gateway.into(), 24)])),
        (Change::Sysctl { name: Sysctl::IpForward, value: 1 }, Image::Value(0), Image::Value(1)),
        (Change::DropFlows { flows: vec![flow(1), flow(2)] }, Image::Flows(vec![flow(2)]), Image::Flows(vec![])),
    ]
}

#[test]
fn each_writes_one_thing_and_nothing_where_it_stands_already() {
    for (change, before, wrote) in all() {
        assert_eq!(change.writes(&before), Ok(wrote.clone()), "{change}");
        assert_eq!(change.writes(&wrote), Err(Unfit::AsWanted), "{change}");
        assert!(change.stands(&wrote, &wrote) && !change.stands(&before, &wrote), "{change}");
    }
}

#[test]
fn what_is_of_another_kind_or_somebody_elses_is_not_touched() {
    for (change, ..) in all() {
        for (_, other, _) in all() {
            if std::mem::discriminant(&other)
                != std::mem::discriminant(&all().iter().find(|a| a.0 == change).unwrap().1)
            {
                assert!(matches!(change.writes(&other), Err(Unfit::Otherwise(_))), "{change}: {other}");
            }
        }
    }
    let [(route, ..), ..] = all().as_slice().to_owned().try_into().map(|a: [_; 9]| a).unwrap();
    let two = Image::Routes(vec![via("10.244.1.7", 2, 0), via("10.244.1.8", 2, 100)]);
    assert!(matches!(route.writes(&two), Err(Unfit::Otherwise(_))), "which of several is to go is not ours to say");
    let attach = Change::AttachVeth { veth: link(9, "veth1"), bridge: link(3, "cni0") };
    assert!(matches!(attach.writes(&Image::Bridge(Some(4))), Err(Unfit::Otherwise(_))));
}

#[test]
fn a_neighbour_that_was_learned_anew_stands() {
    let (change, _, wrote) = all().remove(5);
    let learned = Image::Neighbour(Some(NeighbourImage { mac: "0a:58:0a:f4:01:01".to_owned(), permanent: false }));
    assert!(change.stands(&learned, &wrote));
    assert!(learned != wrote, "and is not taken back");
}

#[test]
fn everything_survives_a_journal() {
    for (change, before, wrote) in all() {
        let text = serde_json::to_string(&(&change, &before, &wrote)).unwrap();
        let back: (Change, Image, Image) = serde_json::from_str(&text).unwrap();
        assert_eq!(back, (change, before, wrote), "{text}");
    }
}

#[test]
fn a_sysctl_is_a_file_below_net() {
    for name in ["", "..", "../../kernel/x", "a/b", ".hidden", "a-name-that-is-far-too-long"] {
        assert_eq!(Sysctl::Forwarding(name.to_owned()).path(), None, "{name}");
        assert_eq!(Sysctl::RpFilter(name.to_owned()).path(), None, "{name}");
    }
    assert_eq!(Sysctl::RpFilter("eth0.100".to_owned()).path().unwrap(), "/proc/sys/net/ipv4/conf/eth0.100/rp_filter");
}

#[test]
fn changes_read_as_commands() {
    let commands: Vec<String> = all().iter().map(|(change, ..)| change.to_string()).collect();
    assert_eq!(
        commands,
        [
            "nsenter --net=/run/netns/cni-1 ip route replace default via 10.244.1.1 dev eth0",
            "nsenter --net=/run/netns/cni-1 ip route replace default via 10.244.1.1 dev eth0",
            "nsenter --net=/run/netns/cni-1 ip link set dev eth0 up",
            "ip link set dev veth1 master cni0",
            "bridge link set dev veth1 hairpin on",
            "nsenter --net=/run/netns/cni-1 ip neigh del 10.244.1.1 dev eth0",
            "ip address add 10.244.1.1/24 broadcast + dev cni0",
            "sysctl -w net.ipv4.ip_forward=1",
            "conntrack -D -p udp --orig-src 10.244.1.5 --sport 1 --orig-dst 10.96.0.10 --dport 53 (and 1 more entries)",
        ]
    );
}
