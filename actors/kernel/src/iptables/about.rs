//! A dump cut down, before it is parsed, to what concerns a few Services: of kube-proxy's chains per Service and per endpoint,
//! of which a large cluster has tens of thousands, only those that their rules lead to are left. All other chains stay whole.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{MAX_LINES, ParseError, RuleSet, parse_bytes};

/// Chains that belong to one Service or one endpoint (pkg/proxy/iptables/proxier.go).
const OF_SERVICES: [&str; 6] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"];
/// Chains with one rule for each Service or port.
const DISPATCH: [&str; 4] = ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"];
/// From a Service's rule to its endpoints it is three steps.
const STEPS: usize = 4;

/// [`parse_bytes`] of a dump that was cut down by [`about`].
///
/// # Errors
/// [`ParseError`] names the line of the dump that was cut down.
pub fn parse_about(dump: &[u8], addresses: &BTreeSet<IpAddr>) -> Result<RuleSet, ParseError> {
    match std::str::from_utf8(dump) {
        Ok(text) => parse_bytes(about(text, addresses).as_bytes()),
        // It names the line.
        Err(_) => parse_bytes(dump),
    }
}

/// Leaves out what concerns other Services. What is not spelled as kube-proxy's rules are is left as it is.
#[must_use]
pub fn about(dump: &str, addresses: &BTreeSet<IpAddr>) -> String {
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    for line in dump.lines().take(MAX_LINES) {
        if let Some(rule) = rule(line).filter(|r| DISPATCH.contains(&r.chain)) {
            wanted.extend(rule.target.filter(|t| of_service(t) && concerns(rule.words, addresses)));
        }
    }
    for _ in 0..STEPS {
        let more: Vec<&str> = dump
            .lines()
            .take(MAX_LINES)
            .filter_map(rule)
            .filter(|r| of_service(r.chain) && wanted.contains(r.chain))
            .filter_map(|r| r.target)
            .filter(|t| of_service(t) && !wanted.contains(t))
            .collect();
        if more.is_empty() {
            break;
        }
        wanted.extend(more);
    }
    let mut out = String::new();
    for line in dump.lines() {
        let stays = match (rule(line), declared(line)) {
            (Some(rule), _) if of_service(rule.chain) => wanted.contains(rule.chain),
            (Some(rule), _) if DISPATCH.contains(&rule.chain) => match rule.target {
                Some(target) if of_service(target) => wanted.contains(target),
                // REJECT and DROP of a Service without endpoints.
                Some(_) => concerns(rule.words, addresses),
                None => true,
            },
            (None, Some(chain)) if of_service(chain) => wanted.contains(chain),
            _ => true,
        };
        if stays {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

struct Rule<'a> {
    chain: &'a str,
    words: &'a str,
    target: Option<&'a str>,
}

/// `[12:34] -A CHAIN …` or `-A CHAIN …`.
fn rule(line: &str) -> Option<Rule<'_>> {
    let body = match line.strip_prefix('[') {
        Some(counted) => counted.split_once("] ")?.1,
        None => line,
    };
    let (chain, words) = body.strip_prefix("-A ")?.split_once(' ')?;
    // The target stands behind the last `-j`; kube-proxy's comments have none.
    let target = words.rsplit_once("-j ").map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
    Some(Rule { chain, words, target })
}

/// `:CHAIN - [0:0]`.
fn declared(line: &str) -> Option<&str> {
    line.strip_prefix(':')?.split(' ').next()
}

fn of_service(chain: &str) -> bool {
    OF_SERVICES.iter().any(|prefix| chain.starts_with(prefix))
}

/// For one of the addresses, or for none in particular. A negated destination, or a range, is for none in particular.
fn concerns(words: &str, addresses: &BTreeSet<IpAddr>) -> bool {
    let Some(range) = words.strip_prefix("-d ").and_then(|rest| rest.split(' ').next()) else { return true };
    let (address, prefix) = range.split_once('/').unwrap_or((range, ""));
    match address.parse::<IpAddr>() {
        Ok(ip) if matches!((ip.is_ipv4(), prefix), (_, "") | (true, "32") | (false, "128")) => addresses.contains(&ip),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::recordings;

    fn recorded() -> String {
        std::fs::read_to_string(recordings().join("iptables/node1.iptables-save.txt")).unwrap()
    }

    fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn what_concerns_the_dns_service_is_left_whole() {
        let (text, only) = (recorded(), addresses(&["10.96.0.10"]));
        let cut = about(&text, &only);
        assert!(!cut.contains("KUBE-SVC-NPX46M4PTMTKRN6Y") && !cut.contains("172.30.0.254:6443"), "{cut}");
        let (whole, less) = (crate::iptables::parse(&text).unwrap(), parse_about(text.as_bytes(), &only).unwrap());
        for name in
            ["KUBE-SVC-TCOU7JCQXEZGVUNU", "KUBE-SVC-ERIFXISQEP7F7OF4", "KUBE-SEP-YNCIU67N6VYVMDY3", "PREROUTING"]
        {
            assert_eq!(less.chain("nat", name), whole.chain("nat", name), "{name}");
        }
        assert_eq!(less.table("filter"), whole.table("filter"));
        assert_eq!(about(&text, &addresses(&["10.96.0.10", "10.96.0.1"])).trim_end(), text.trim_end());
    }

    #[test]
    fn refusals_of_others_go_and_those_of_the_dns_service_stay() {
        let text = std::fs::read_to_string(recordings().join("faults/no-endpoints.iptables-save.txt")).unwrap();
        let other = text.replace("10.96.0.10", "10.96.7.7");
        assert!(about(&text, &addresses(&["10.96.0.10"])).contains("has no endpoints"));
        assert!(!about(&other, &addresses(&["10.96.0.10"])).contains("has no endpoints"));
    }

    proptest! {
        #[test]
        fn any_text_is_cut_to_a_part_of_its_lines(text in "(-A |KUBE-SERVICES |KUBE-SVC-X |-j |:|\\[1:1\\] |-d 10.96.0.9/32 |\n|\\PC){0,60}") {
            let cut = about(&text, &addresses(&["10.96.0.10"]));
            let lines: BTreeSet<&str> = text.lines().collect();
            prop_assert!(cut.lines().all(|line| lines.contains(line)));
        }
    }
}
