//! Every change against the kernel: made, read back, compared with `ip`, taken back; refused where somebody else was faster.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod private;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nameward_kernel::enter::{EnterPool, Netns, cookie_here};
use nameward_kernel::facts::{Reading, Topology};
use nameward_kernel::repair::{
    Change, FlowId, Image, LinkId, Place, RepairError, Seen, Sysctl, Undone, Wanted, apply, look, read, undo,
};
use nameward_messages::NetnsCookie;

const WITHIN: Duration = Duration::from_secs(20);
/// The pod `other`, which is alive.
const DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 6));

const NETWORK: &str = "
    ip netns add pod && ip netns add other
    ip link add cni0 type bridge && ip link set cni0 up && ip addr add 10.244.1.1/24 dev cni0
    for pod in pod other; do
        ip link add veth$pod type veth peer name eth0 netns $pod
        ip link set veth$pod master cni0 up && ip -n $pod link set eth0 up && ip -n $pod link set lo up
        ip link set veth$pod type bridge_slave hairpin on
    done
    ip -n pod addr add 10.244.1.5/24 dev eth0 && ip -n other addr add 10.244.1.6/24 dev eth0
    ip -n pod route add default via 10.244.1.1";

struct Bench {
    pool: EnterPool,
    runtime: tokio::runtime::Runtime,
    pod: Place,
    host: Topology,
    inside: Topology,
}

impl Bench {
    fn new() -> Self {
        private::run(NETWORK);
        let pool = EnterPool::new(1, 4).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let path = Path::new("/run/netns/pod");
        let namespace = Netns::open(path).unwrap();
        let cookie = runtime.block_on(pool.run(&namespace, cookie_here)).unwrap().unwrap();
        let pod = Place::Pod { pod: "uid-1".into(), cookie, path: path.to_owned() };
        let seen = runtime.block_on(look(&pool, &Wanted { pods: vec![pod.clone()], flows_to: vec![] }, WITHIN));
        let Seen { host: Reading::Read(host), mut pods, .. } = seen else { panic!("{seen:?}") };
        let Some(Reading::Read(inside)) = pods.remove(&"uid-1".into()) else { panic!("{pods:?}") };
        Self { pool, runtime, pod, host, inside }
    }

    fn link(&self, name: &str) -> LinkId {
        LinkId { index: self.host.link(name).unwrap().index, name: name.to_owned() }
    }

    fn eth0(&self) -> LinkId {
        LinkId { index: self.inside.link("eth0").unwrap().index, name: "eth0".to_owned() }
    }

    fn read(&self, change: &Change) -> Result<Image, RepairError> {
        self.runtime.block_on(read(&self.pool, change, WITHIN))
    }

    fn undo(&self, change: &Change, before: &Image, wrote: &Image) -> Result<Undone, RepairError> {
        self.runtime.block_on(undo(&self.pool, change, before, wrote, WITHIN))
    }

    /// The whole life of a change: `broken` breaks, and what `show` prints must be the same after the repair as before it
    /// was broken, and after the undo as when it was broken.
    fn lives(&self, change: &Change, broken: &str, show: &str) {
        let whole = printed(show);
        private::run(broken);
        let sick = printed(show);
        assert_ne!(whole, sick, "{broken} breaks something that {show} shows");
        let before = self.read(change).unwrap();
        let wrote = change.writes(&before).unwrap();
        assert_eq!(self.runtime.block_on(apply(&self.pool, change, &before, WITHIN)), Ok(wrote.clone()), "{change}");
        assert_eq!(printed(show), whole, "{change} repairs it, and nothing else");
        let again = self.runtime.block_on(apply(&self.pool, change, &before, WITHIN));
        assert!(matches!(again, Err(RepairError::Changed(_))), "{change}: what was read is not there: {again:?}");
        assert_eq!(self.undo(change, &before, &wrote), Ok(Undone::Done), "{change}");
        assert_eq!(printed(show), sick, "{change} is taken back");
        assert_eq!(self.undo(change, &before, &wrote), Ok(Undone::NotNeeded), "{change}");
    }
}

fn printed(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn default_routes_come_back() {
    if !private::enter("default_routes_come_back") {
        return;
    }
    let bench = Bench::new();
    let gateway = [10, 244, 1, 1].into();
    let change = Change::DefaultRoute { place: bench.pod.clone(), link: bench.eth0(), gateway };
    let show = "ip -n pod route show table all";
    bench.lives(&change, "ip -n pod route del default", show);
    private::run("ip -n pod route add default via 10.244.1.1");
    bench.lives(&change, "ip -n pod route replace default via 10.244.1.250", show);

    // Somebody else was there meanwhile: nothing of his is touched.
    private::run("ip -n pod route del default");
    let (before, wrote) = (Image::Routes(vec![]), change.writes(&Image::Routes(vec![])).unwrap());
    private::run("ip -n pod route add default via 10.244.1.77");
    let theirs = printed(show);
    let applied = bench.runtime.block_on(apply(&bench.pool, &change, &before, WITHIN));
    assert!(matches!(applied, Err(RepairError::Changed(_))), "{applied:?}");
    assert!(matches!(bench.undo(&change, &before, &wrote), Ok(Undone::LeftAlone(_))));
    assert_eq!(printed(show), theirs);
}

/// Its MTU and its source would be gone after the repair, and after the undo as well.
#[test]
fn a_default_route_with_settings_of_its_own_is_left_alone() {
    if !private::enter("a_default_route_with_settings_of_its_own_is_left_alone") {
        return;
    }
    let bench = Bench::new();
    let change = Change::DefaultRoute { place: bench.pod.clone(), link: bench.eth0(), gateway: [10, 244, 1, 1].into() };
    for special in [
        "via 10.244.1.250 mtu 1400",
        "via 10.244.1.250 src 10.244.1.5",
        "via 169.254.1.1 dev eth0 onlink",
        "nexthop via 10.244.1.250 nexthop via 10.244.1.251",
    ] {
        private::run(&format!("ip -n pod route replace default {special}"));
        assert!(matches!(bench.read(&change), Err(RepairError::Failed(_))), "{special}");
        private::run("ip -n pod route del default");
    }
    assert_eq!(bench.read(&change), Ok(Image::Routes(vec![])));
}

#[test]
fn links_come_up_and_go_onto_their_bridge() {
    if !private::enter("links_come_up_and_go_onto_their_bridge") {
        return;
    }
    let bench = Bench::new();
    let up = "ip -o link show vethpod | grep -o '[<,]UP[,>]' || true";
    let host_end = Change::LinkUp { place: Place::Host, link: bench.link("vethpod") };
    bench.lives(&host_end, "ip link set vethpod down", up);
    private::run("ip link set vethpod up");
    let inside = Change::LinkUp { place: bench.pod.clone(), link: bench.eth0() };
    bench.lives(&inside, "ip -n pod link set eth0 down", "ip -n pod -o link show eth0 | grep -o '[<,]UP[,>]' || true");
    private::run("ip -n pod link set eth0 up");
    let bridge = Change::LinkUp { place: Place::Host, link: bench.link("cni0") };
    let shows = "ip -o link show cni0 | grep -o '[<,]UP[,>]'; ip route show";
    bench.lives(&bridge, "ip link set cni0 down", &format!("{shows} || true"));
    private::run("ip link set cni0 up");

    let attach = Change::AttachVeth { veth: bench.link("vethpod"), bridge: bench.link("cni0") };
    bench.lives(&attach, "ip link set vethpod nomaster", "ip -o link show vethpod | grep -o 'master cni0' || true");
    private::run("ip link set vethpod master cni0");
    let hairpin = Change::Hairpin { veth: bench.link("vethpod") };
    private::run("ip link set vethpod type bridge_slave hairpin on");
    let port = "ip -d -o link show vethpod | grep -o 'hairpin [a-z]*'";
    bench.lives(&hairpin, "ip link set vethpod type bridge_slave hairpin off", port);
}

#[test]
fn the_bridge_gets_its_address_and_neighbours_are_forgotten() {
    if !private::enter("the_bridge_gets_its_address_and_neighbours_are_forgotten") {
        return;
    }
    private::run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 || true");
    let bench = Bench::new();
    private::run("ip addr del 10.244.1.1/24 dev cni0 && ip addr add 10.244.1.1/24 broadcast + dev cni0");
    let address = Change::BridgeAddress { bridge: bench.link("cni0"), ip: [10, 244, 1, 1].into(), prefix: 24 };
    bench.lives(&address, "ip addr flush dev cni0", "ip addr show dev cni0 | grep inet || true; ip route show");

    let wrong = "ip neigh replace 10.244.1.1 lladdr 02:00:00:00:be:ef dev eth0 nud permanent";
    let change = Change::DropNeighbour {
        place: bench.pod.clone(),
        link: bench.eth0(),
        ip: [10, 244, 1, 1].into(),
        mac: "02:00:00:00:be:ef".to_owned(),
    };
    bench.lives(&change, &format!("ip netns exec pod {wrong}"), "ip -n pod neigh show nud permanent");
    // Learned anew since: then there is nothing to take back.
    private::run("ip -n pod neigh replace 10.244.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud reachable");
    let (before, wrote) = (bench.read(&change).unwrap(), Image::Neighbour(None));
    assert!(change.writes(&before).is_err(), "{before}: the entry that was wrong is not there");
    let sick = Image::Neighbour(None);
    assert!(matches!(bench.undo(&change, &sick, &wrote), Ok(Undone::LeftAlone(_))));
}

#[test]
fn sysctls_are_written_where_they_may_be() {
    if !private::enter("sysctls_are_written_where_they_may_be") {
        return;
    }
    let bench = Bench::new();
    private::run("sysctl -q -w net.ipv4.ip_forward=1");
    let forward = Change::Sysctl { name: Sysctl::IpForward, value: 1 };
    bench.lives(&forward, "sysctl -q -w net.ipv4.ip_forward=0", "sysctl net.ipv4.ip_forward");
    private::run("sysctl -q -w net.ipv4.ip_forward=1");
    let device = Change::Sysctl { name: Sysctl::Forwarding("cni0".to_owned()), value: 1 };
    bench.lives(&device, "sysctl -q -w net.ipv4.conf.cni0.forwarding=0", "sysctl net.ipv4.conf.cni0.forwarding");
    let nowhere = Change::Sysctl { name: Sysctl::Forwarding("none".to_owned()), value: 1 };
    assert!(matches!(bench.read(&nowhere), Err(RepairError::Gone(_))));
    // As the shipped manifest has it.
    private::run("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys");
    let refused = bench.read(&forward);
    assert!(matches!(&refused, Err(RepairError::NotPermitted(why)) if why.contains("writable")), "{refused:?}");
}

#[test]
fn only_the_entries_named_are_deleted() {
    if !private::enter("only_the_entries_named_are_deleted") {
        return;
    }
    let bench = Bench::new();
    let entry = |port: u16, from: &str, to: &str| {
        format!(
            "conntrack -I -p udp -t 600 --src 10.244.1.5 --dst 10.96.0.10 --sport {port} --dport 53 --reply-src {from} \
             --reply-dst 10.244.1.5 --reply-port-src 53 --reply-port-dst {port} {to}"
        )
    };
    // Without the tool there is nothing to put in, and nothing is shown.
    let tool = Command::new("conntrack").arg("--version").output();
    assert!(tool.is_ok_and(|said| said.status.success()), "conntrack of conntrack-tools is needed");
    let put = |port: u16, from: &str| private::run(&entry(port, from, ">/dev/null 2>&1"));
    let expire = |port: u16| {
        private::run(&format!("conntrack -D -p udp --orig-src 10.244.1.5 --sport {port} >/dev/null 2>&1"));
    };
    for (port, from) in [(4000, "10.244.9.9"), (4001, "10.244.9.9"), (4002, "10.244.1.6"), (4003, "10.244.9.9")] {
        put(port, from);
    }
    let service = "10.96.0.10:53".parse().unwrap();
    let wanted = Wanted { pods: vec![], flows_to: vec![service] };
    let seen = bench.runtime.block_on(look(&bench.pool, &wanted, WITHIN));
    let Reading::Read(flows) = seen.flows else { panic!("{:?}", seen.flows) };
    assert_eq!(flows.len(), 4);
    let dead: Vec<FlowId> = flows.iter().filter(|f| f.reply.source.ip().to_string() == "10.244.9.9").copied().collect();
    let change = Change::DropFlows { flows: dead.clone() };
    let before = bench.read(&change).unwrap();
    assert_eq!(before, Image::Flows(dead));
    // One of them runs out by itself meanwhile, and a client that asks again from its port is sent to a living pod.
    expire(4000);
    expire(4003);
    put(4003, "10.244.1.6");
    let applied = bench.runtime.block_on(apply(&bench.pool, &change, &before, WITHIN));
    assert_eq!(applied, Ok(Image::Flows(vec![])));
    let seen = bench.runtime.block_on(look(&bench.pool, &wanted, WITHIN));
    let Reading::Read(left) = seen.flows else { panic!("{:?}", seen.flows) };
    let alive = |port: u16| left.iter().any(|f| f.original.source.port() == port && f.reply.source.ip() == DNS);
    assert!(left.len() == 2 && alive(4002) && alive(4003), "the others are left: {left:?}");

    // None is left of those that were seen: nothing is done, and that is said.
    put(4000, "10.244.1.6");
    put(4001, "10.244.1.6");
    let again = bench.runtime.block_on(apply(&bench.pool, &change, &before, WITHIN));
    assert!(matches!(again, Err(RepairError::Changed(_))), "{again:?}");
    let seen = bench.runtime.block_on(look(&bench.pool, &wanted, WITHIN));
    assert_eq!(seen.flows.value().map(Vec::len), Some(4));
}

#[test]
fn another_namespace_or_link_is_not_the_one_that_was_judged() {
    if !private::enter("another_namespace_or_link_is_not_the_one_that_was_judged") {
        return;
    }
    let bench = Bench::new();
    let Place::Pod { pod, cookie, path } = bench.pod.clone() else { panic!() };
    let replaced = Place::Pod { pod: pod.clone(), cookie: NetnsCookie(cookie.0 + 1), path };
    let gone = Place::Pod { pod, cookie, path: "/run/netns/nowhere".into() };
    for place in [replaced, gone] {
        let change = Change::LinkUp { place, link: bench.eth0() };
        assert!(matches!(bench.read(&change), Err(RepairError::Gone(_))), "{change}");
    }
    let mut renamed = bench.link("vethpod");
    renamed.name = "vethother".to_owned();
    let change = Change::LinkUp { place: Place::Host, link: renamed };
    assert!(matches!(bench.read(&change), Err(RepairError::Gone(_))), "{change}");
    let change = Change::LinkUp { place: Place::Host, link: LinkId { index: 4711, name: "x".to_owned() } };
    assert!(matches!(bench.read(&change), Err(RepairError::Gone(_))), "{change}");
}
