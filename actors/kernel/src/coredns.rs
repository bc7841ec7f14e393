//! What CoreDNS says of itself: the handful of families of its Prometheus text that matter here, and the body of `/ready`.
//!
//! Names as CoreDNS has them (plugin/metrics, plugin/forward, plugin/proxy, plugin/kubernetes; the older ones were used
//! before 1.7). The text is hostile input: what is not understood is passed over, and everything kept is bounded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most response codes that are kept apart.
const CODES: usize = 32;
/// Longest label value that is kept, bytes.
const VALUE: usize = 64;
/// Most plugins that are kept of `/ready`.
const PLUGINS: usize = 16;

/// Counters of one CoreDNS process, summed over the labels that are not named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorednsMetrics {
    /// `coredns_dns_requests_total{proto="udp"}`: queries that arrived over UDP. `None`: the family is not there.
    pub udp_requests: Option<u64>,
    /// The same over TCP.
    pub tcp_requests: Option<u64>,
    /// `coredns_dns_responses_total` by `rcode`, as CoreDNS spells it: `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED`.
    pub responses: BTreeMap<String, u64>,
    /// `coredns_panics_total`.
    pub panics: Option<u64>,
    /// `coredns_forward_healthcheck_broken_total`: queries sent to a random upstream because all were down.
    pub forward_broken: Option<u64>,
    /// `coredns_forward_max_concurrent_rejects_total`: queries refused because too many were under way.
    pub forward_rejects: Option<u64>,
    /// `coredns_proxy_healthcheck_failures_total` (before 1.11 `coredns_forward_healthcheck_failures_total`).
    pub proxy_failures: Option<u64>,
    /// `coredns_kubernetes_rest_client_requests_total` with a code of 401 or 403: the API refuses CoreDNS's rights.
    pub api_refused: Option<u64>,
    /// The same with another failure: 5xx, or `<error>` where no answer came.
    pub api_failed: Option<u64>,
    /// The same with a code of 2xx.
    pub api_good: Option<u64>,
}

impl CorednsMetrics {
    /// All responses.
    #[must_use]
    pub fn all_responses(&self) -> u64 {
        self.responses.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Responses with one code.
    #[must_use]
    pub fn responses_of(&self, rcode: &str) -> u64 {
        self.responses.get(rcode).copied().unwrap_or(0)
    }
}

/// Reads the text of `/metrics`. Arbitrary bytes give what of them is understood.
#[must_use]
pub fn parse_bytes(bytes: &[u8]) -> CorednsMetrics {
    let mut found = CorednsMetrics::default();
    for line in bytes.split(|b| *b == b'\n') {
        // Only CoreDNS's own families are looked at; most of the text is histograms of others.
        if line.starts_with(b"coredns_")
            && let Ok(line) = std::str::from_utf8(line)
        {
            take(&mut found, line);
        }
    }
    found
}

fn take(found: &mut CorednsMetrics, line: &str) -> Option<()> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = (line.get(..end)?, line.get(end..)?);
    let wanted = |label: &str| labels(rest).and_then(|(labels, _)| labels.get(label).cloned()).unwrap_or_default();
    let value = || number(labels(rest)?.1);
    match name {
        "coredns_dns_requests_total" | "coredns_dns_request_count_total" => match wanted("proto").as_str() {
            "udp" => add(&mut found.udp_requests, value()?),
            "tcp" => add(&mut found.tcp_requests, value()?),
            _ => {}
        },
        "coredns_dns_responses_total" | "coredns_dns_response_rcode_count_total" => {
            let (code, value) = (wanted("rcode"), value()?);
            if !code.is_empty() && (found.responses.len() < CODES || found.responses.contains_key(&code)) {
                let sum = found.responses.entry(code).or_default();
                *sum = sum.saturating_add(value);
            }
        }
        "coredns_panics_total" | "coredns_panic_count_total" => add(&mut found.panics, value()?),
        "coredns_forward_healthcheck_broken_total" | "coredns_forward_healthcheck_broken_count_total" => {
            add(&mut found.forward_broken, value()?);
        }
        "coredns_forward_max_concurrent_rejects_total" | "coredns_forward_max_concurrent_reject_count_total" => {
            add(&mut found.forward_rejects, value()?);
        }
        "coredns_proxy_healthcheck_failures_total" | "coredns_forward_healthcheck_failures_total" => {
            add(&mut found.proxy_failures, value()?);
        }
        "coredns_kubernetes_rest_client_requests_total" => {
            let (code, value) = (wanted("code"), value()?);
            let into = match code.as_bytes() {
                b"401" | b"403" => &mut found.api_refused,
                [b'2', ..] => &mut found.api_good,
                _ => &mut found.api_failed,
            };
            add(into, value);
        }
        _ => {}
    }
    Some(())
}

fn add(into: &mut Option<u64>, value: u64) {
    *into = Some(into.unwrap_or(0).saturating_add(value));
}

/// A counter's value: what stands before an optional time stamp. Counters are floats on the wire.
fn number(rest: &str) -> Option<u64> {
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "finite, not negative, and the cast saturates"
    )]
    (value.is_finite() && value >= 0.0).then_some(value as u64)
}

/// Labels, cut to their bound, and what follows them.
fn labels(rest: &str) -> Option<(BTreeMap<&str, String>, &str)> {
    let mut found = BTreeMap::new();
    let Some(mut rest) = rest.strip_prefix('{') else { return Some((found, rest)) };
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((found, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut escaped = false;
        let mut end = None;
        for (at, c) in after.char_indices() {
            match c {
                '"' if !escaped => {
                    end = Some(at);
                    break;
                }
                '\\' if !escaped => escaped = true,
                c => {
                    escaped = false;
                    if value.len() < VALUE {
                        value.push(c);
                    }
                }
            }
        }
        rest = after.get(end? + 1..)?;
        if found.len() < 16 {
            found.insert(name, value);
        }
    }
}

/// The plugins that `/ready` still waits for. CoreDNS answers 503 with their names: `kubernetes`, or in newer versions
/// `Still waiting on: "kubernetes"`.
#[must_use]
pub fn waiting_on(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body.get(..body.len().min(4096)).unwrap_or_default()).into_owned();
    let names = text.rsplit_once("waiting on:").map_or(text.as_str(), |(_, names)| names);
    names
        .split([',', '\n', '\r', ' '])
        .map(|name| name.trim().trim_matches('"'))
        .filter(|name| {
            !name.is_empty() && name.len() <= VALUE && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
        .take(PLUGINS)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    // Spelled as in plugin/metrics' README and as CoreDNS 1.11 writes it.
    const TEXT: &str = r#"# HELP coredns_dns_requests_total Counter of DNS requests made per zone, protocol and family.
# TYPE coredns_dns_requests_total counter
coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="A",view="",zone="."} 4711
coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="AAAA",view="",zone="."} 1e+02
coredns_dns_requests_total{family="2",proto="tcp",server="dns://:53",type="A",view="",zone="."} 3
# TYPE coredns_dns_responses_total counter
coredns_dns_responses_total{plugin="kubernetes",rcode="NXDOMAIN",server="dns://:53",view="",zone="."} 4000
coredns_dns_responses_total{plugin="forward",rcode="NOERROR",server="dns://:53",view="",zone="."} 811
coredns_dns_responses_total{plugin="",rcode="SERVFAIL",server="dns://:53",view="",zone="."} 3 1395066363000
coredns_panics_total 0
coredns_forward_max_concurrent_rejects_total 17
coredns_forward_healthcheck_broken_total 2
coredns_proxy_healthcheck_failures_total{proxy_name="forward",to="172.30.0.254:53"} 5
coredns_proxy_healthcheck_failures_total{proxy_name="forward",to="172.30.0.253:53"} 1
coredns_kubernetes_rest_client_requests_total{code="403",host="10.96.0.1:443",method="GET"} 12
coredns_kubernetes_rest_client_requests_total{code="<error>",host="10.96.0.1:443",method="GET"} 2
coredns_kubernetes_rest_client_requests_total{code="200",host="10.96.0.1:443",method="GET"} 9
go_goroutines 42
"#;

    #[test]
    fn the_families_that_matter() {
        let found = parse_bytes(TEXT.as_bytes());
        assert_eq!((found.udp_requests, found.tcp_requests), (Some(4811), Some(3)));
        assert_eq!((found.responses_of("NXDOMAIN"), found.all_responses()), (4000, 4814));
        assert_eq!((found.panics, found.forward_rejects, found.forward_broken), (Some(0), Some(17), Some(2)));
        assert_eq!(found.proxy_failures, Some(6));
        assert_eq!((found.api_refused, found.api_failed, found.api_good), (Some(12), Some(2), Some(9)));
    }

    #[test]
    fn what_is_odd_is_passed_over() {
        let text = "coredns_dns_requests_total{proto=\"udp\"\ncoredns_dns_requests_total{proto=\"a\\\"b\",x=\"}\"} 5\n\
            coredns_dns_requests_total{proto=\"udp\"} NaN\ncoredns_dns_requests_total{proto=\"udp\"} -1\n\
            coredns_dns_requests_total{proto=\"udp\"} 7\ncoredns_panics_total\n";
        let found = parse_bytes(text.as_bytes());
        assert_eq!(found, CorednsMetrics { udp_requests: Some(7), ..CorednsMetrics::default() });
        let many: String = (0..1000).map(|n| format!("coredns_dns_responses_total{{rcode=\"R{n}\"}} 1\n")).collect();
        assert_eq!(parse_bytes(many.as_bytes()).responses.len(), CODES);
    }

    #[test]
    fn plugins_that_are_waited_for() {
        assert_eq!(waiting_on(b"kubernetes"), ["kubernetes"]);
        assert_eq!(waiting_on(b"[INFO] plugin/ready: Still waiting on: \"kubernetes,etcd\"\n"), ["kubernetes", "etcd"]);
        assert_eq!(waiting_on(b"OK").len(), 1, "only a 503 is read");
        assert!(waiting_on(b"<html>\xff</html>").is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = (parse_bytes(&bytes), waiting_on(&bytes));
        }

        #[test]
        fn nearly_right_text_never_panics(text in "coredns_(dns_requests|dns_responses|panics)_total[{}=\",\\\\ a-z0-9.\u{e9}]{0,60}") {
            let _ = parse_bytes(text.as_bytes());
        }
    }
}
