//! The rules that the lab's kube-proxy writes, held against the recordings: equal but for counters and for the order of what
//! the kernel or kube-proxy keeps in no order. Addresses are those of the recordings, so chain names are equal too.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use nameward_simulations::lab::{Lab, LabSpec, Private, diff};
use nameward_simulations::proxy::{Mode, ServiceState};

use crate::harness::recordings;

fn recorded(file: &str) -> String {
    std::fs::read_to_string(recordings().join(file)).unwrap()
}

fn with(private: Private, node: u8, mode: Mode, coredns: &[[u8; 4]]) -> (Lab, ServiceState) {
    let coredns: Vec<Ipv4Addr> = coredns.iter().map(|ip| Ipv4Addr::from(*ip)).collect();
    let state = ServiceState::cluster(node, &coredns);
    let mut lab = Lab::build(private, LabSpec::default()).unwrap();
    lab.install_proxy(&format!("node{node}"), mode, state.clone()).unwrap();
    (lab, state)
}

/// The endpoints of the recording in iptables mode.
const NODE1: [[u8; 4]; 2] = [[10, 244, 1, 51], [10, 244, 1, 53]];

/// And in nftables mode.
const NODE2: [[u8; 4]; 2] = [[10, 244, 1, 56], [10, 244, 2, 21]];

/// Table to chain (with its policy) to rules in order, without counters.
fn tables(dump: &str) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut tables: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut table = String::new();
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.to_owned();
        } else if let Some(chain) = line.strip_prefix(':') {
            let (name, _counters) = chain.rsplit_once(' ').unwrap();
            tables.entry(table.clone()).or_default().entry(name.to_owned()).or_default();
        } else if let Some(at) = line.find("-A ") {
            let rule = &line[at + 3..];
            let name = rule.split(' ').next().unwrap();
            let chains = tables.get_mut(&table).unwrap();
            let key = chains.keys().find(|k| k.split(' ').next() == Some(name)).unwrap().clone();
            chains.get_mut(&key).unwrap().push(rule.to_owned());
        }
    }
    tables
}

/// Chains that the legacy backend always has; the nft backend makes them, and its dump shows them, when the table is there.
fn compare_iptables(lab: &Lab, node: &str, program: &str, file: &str) {
    let dump = lab.netns(node).unwrap().tool(program, &[], "").unwrap();
    assert_eq!(tables(&dump), tables(&recorded(file)), "{program} of {node} against {file}");
}

pub fn iptables_nft_as_recorded(private: Private) {
    let (lab, _) = with(private, 1, Mode::IptablesNft, &NODE1);
    compare_iptables(&lab, "node1", "iptables-nft-save", "iptables/node1.iptables-save.txt");
    compare_iptables(&lab, "node1", "ip6tables-nft-save", "iptables/node1.ip6tables-save.txt");
    compare_nft(&lab, "node1", "iptables/node1.nft-ruleset.txt");
}

pub fn iptables_legacy_as_recorded(private: Private) {
    let (lab, _) = with(private, 1, Mode::IptablesLegacy, &NODE1);
    compare_iptables(&lab, "node1", "iptables-legacy-save", "iptables/node1.iptables-save.txt");
    compare_iptables(&lab, "node1", "ip6tables-legacy-save", "iptables/node1.ip6tables-save.txt");
    let nft = lab.netns("node1").unwrap().tool("nft", &["list", "ruleset"], "").unwrap();
    assert_eq!(nft, "", "the other backend is untouched");
    let names = lab.netns("node1").unwrap().enter(|| std::fs::read_to_string("/proc/thread-self/net/ip_tables_names"));
    let names = names.unwrap().unwrap();
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["filter", "mangle", "nat"]);
}

/// `table chain-or-set` to its lines, without counters; elements and lines of the table itself sorted.
fn nft_blocks(dump: &str) -> BTreeMap<String, Vec<String>> {
    let mut blocks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut table, mut block, mut elements) = (String::new(), String::new(), None::<String>);
    for line in dump.lines().map(str::trim) {
        if let Some(open) = &mut elements {
            open.push_str(line);
        } else if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {").to_owned();
            block.clone_from(&table);
            blocks.entry(block.clone()).or_default();
        } else if let Some(first) = line.strip_prefix("elements = {") {
            elements = Some(first.to_owned());
        } else if let Some(name) = line.strip_suffix(" {") {
            block = format!("{table} {name}");
            blocks.entry(block.clone()).or_default();
        } else if !line.is_empty() && line != "}" {
            let mut words: Vec<&str> = line.split(' ').collect();
            if let Some(at) = words.iter().position(|w| *w == "packets") {
                words.drain(at..at + 4);
            }
            blocks.get_mut(&block).unwrap().push(words.join(" "));
        }
        if elements.as_ref().is_some_and(|e| e.ends_with('}')) {
            let whole = elements.take().unwrap();
            let mut each: Vec<String> = whole.trim_end_matches('}').split(',').map(|e| e.trim().to_owned()).collect();
            each.sort();
            blocks.get_mut(&block).unwrap().extend(each);
        }
    }
    blocks
}

fn compare_nft(lab: &Lab, node: &str, file: &str) {
    let dump = lab.netns(node).unwrap().tool("nft", &["list", "ruleset"], "").unwrap();
    let (ours, theirs) = (nft_blocks(&dump), nft_blocks(&recorded(file)));
    let names = |b: &BTreeMap<String, Vec<String>>| b.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "chains and sets of {file}");
    for (name, lines) in &theirs {
        assert_eq!(&ours[name], lines, "{name} of {file}");
    }
}

pub fn nftables_as_recorded(private: Private) {
    let (lab, _) = with(private, 2, Mode::Nftables, &NODE2);
    compare_iptables(&lab, "node2", "iptables-nft-save", "nftables/node2.iptables-save.txt");
    compare_iptables(&lab, "node2", "ip6tables-nft-save", "nftables/node2.ip6tables-save.txt");
    compare_nft(&lab, "node2", "nftables/node2.nft-ruleset.txt");
}

pub fn without_endpoints_as_recorded(private: Private) {
    for (mode, program) in [(Mode::IptablesNft, "iptables-nft-save"), (Mode::IptablesLegacy, "iptables-legacy-save")] {
        let (mut lab, _) = with(private, 1, mode, &NODE1);
        lab.apply_services("node1", ServiceState::cluster(1, &[])).unwrap();
        compare_iptables(&lab, "node1", program, "faults/no-endpoints.iptables-save.txt");
    }
    let (mut lab, _) = with(private, 2, Mode::Nftables, &NODE2);
    lab.apply_services("node2", ServiceState::cluster(2, &[])).unwrap();
    compare_nft(&lab, "node2", "faults/no-endpoints.nft-ruleset.txt");
}

pub fn changes_are_quick_and_repeatable(private: Private) {
    for mode in [Mode::IptablesNft, Mode::IptablesLegacy, Mode::Nftables] {
        let (mut lab, state) = with(private, 1, mode, &NODE1);
        let netns = lab.netns("node1").unwrap().clone();
        let before = netns.snapshot().unwrap();
        lab.apply_services("node1", state.clone()).unwrap();
        assert_eq!(diff(&before, &netns.snapshot().unwrap()), Vec::<String>::new(), "{mode:?}: the same state again");
        let started = Instant::now();
        lab.apply_services("node1", ServiceState::cluster(1, &[Ipv4Addr::new(10, 244, 1, 51)])).unwrap();
        let took = started.elapsed();
        println!("  {mode:?}: a change in {took:?}");
        assert!(took.as_millis() < 100, "{mode:?}: took {took:?}");
        let fewer = netns.snapshot().unwrap();
        assert_ne!(diff(&before, &fewer), Vec::<String>::new());
        lab.apply_services("node1", state).unwrap();
        assert_eq!(diff(&before, &netns.snapshot().unwrap()), Vec::<String>::new(), "{mode:?}: there and back");
    }
}
