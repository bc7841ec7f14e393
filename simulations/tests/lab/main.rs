//! The lab, kube-proxy's rules and the DNS server, on a real kernel. Every test runs in private namespaces; when started as
//! root, all run a second time as an ordinary user. Nothing is skipped: what the machine lacks makes a test fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, unreachable_pub)]
#![expect(clippy::disallowed_methods, reason = "a test measures real time")]

mod dns_server;
mod faults;
mod harness;
mod isolation;
mod network;
mod rules;

use std::process::ExitCode;

use harness::{Scene, Test};

/// Tests that run inside.
const TESTS: &[Test] = &[
    ("network::lab_comes_up_in_time", network::lab_comes_up_in_time),
    ("network::node_looks_like_the_recording", network::node_looks_like_the_recording),
    ("network::pods_and_services_answer_iptables_nft", network::pods_and_services_answer_iptables_nft),
    ("network::pods_and_services_answer_iptables_legacy", network::pods_and_services_answer_iptables_legacy),
    ("network::pods_and_services_answer_nftables", network::pods_and_services_answer_nftables),
    ("network::pods_come_and_go", network::pods_come_and_go),
    ("network::a_thread_that_strays_is_found", network::a_thread_that_strays_is_found),
    ("rules::iptables_nft_as_recorded", rules::iptables_nft_as_recorded),
    ("rules::iptables_legacy_as_recorded", rules::iptables_legacy_as_recorded),
    ("rules::nftables_as_recorded", rules::nftables_as_recorded),
    ("rules::without_endpoints_as_recorded", rules::without_endpoints_as_recorded),
    ("rules::changes_are_quick_and_repeatable", rules::changes_are_quick_and_repeatable),
    ("dns_server::answers_and_forwards", dns_server::answers_and_forwards),
    ("dns_server::sockets_fail_as_told", dns_server::sockets_fail_as_told),
    ("dns_server::answers_fail_as_told", dns_server::answers_fail_as_told),
    ("dns_server::hangs_and_exits", dns_server::hangs_and_exits),
    ("faults::each_changes_what_it_says_iptables_nft", faults::each_changes_what_it_says_iptables_nft),
    ("faults::each_changes_what_it_says_iptables_legacy", faults::each_changes_what_it_says_iptables_legacy),
    ("faults::each_changes_what_it_says_nftables", faults::each_changes_what_it_says_nftables),
    ("faults::symptoms_are_those_of_the_catalogue", faults::symptoms_are_those_of_the_catalogue),
];

/// Tests that watch a simulation from outside.
const OUTSIDE: &[(&str, fn())] = &[
    ("isolation::killing_any_process_leaves_nothing", isolation::killing_any_process_leaves_nothing),
    ("isolation::signals_and_codes_pass", isolation::signals_and_codes_pass),
    ("isolation::refusal_names_the_next_step", isolation::refusal_names_the_next_step),
];

/// What tests start this binary again for.
const SCENES: &[Scene] = &[("stand", isolation::stand), ("end", isolation::end)];

fn main() -> ExitCode {
    harness::main(TESTS, OUTSIDE, SCENES)
}
