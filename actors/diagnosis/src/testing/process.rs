//! What the API says of the container of CoreDNS A, and what its process says of itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nameward_kernel::coredns::CorednsMetrics;
use nameward_kernel::facts::Reading;
use nameward_messages::workload::{CorednsPodState, Ended, Said};
use nameward_messages::{Now, ObjectKey};

use super::{DNS_A, uid};
use crate::process::{ApiWays, ProcessReadings, Ready, Way};
use crate::record::Sample;

/// As plugin loop says it before it ends the process (coredns plugin/loop/loop.go).
pub(crate) const LOOP_WORDS: &str = "[FATAL] plugin/loop: Loop (127.0.0.1:40126 -> :53) detected for zone \".\", see \
    https://coredns.io/plugins/loop#troubleshooting. Query: \"HINFO 4547991504243258144.3688648895315093531.\"";
/// As the server refuses a directive that it does not know (coredns core/dnsserver, caddyfile parser).
pub(crate) const COREFILE_WORDS: &str = "/etc/coredns/Corefile:4 - Error during parsing: Unknown directive 'helth'";
/// As it says that its port is not its own.
pub(crate) const BIND_WORDS: &str = "Listen: listen tcp :53: bind: permission denied";

/// CoreDNS A runs well.
pub(crate) fn running() -> CorednsPodState {
    CorednsPodState {
        pod: uid(DNS_A),
        key: ObjectKey::new("kube-system", "coredns-74c7b86f9f-7tsjn"),
        node: Some("node1".into()),
        phase: "Running".to_owned(),
        ready: true,
        terminating: false,
        created_at: None,
        container: "coredns".to_owned(),
        restarts: 0,
        running_since: Some(Now::at(Duration::ZERO).wall),
        waiting: None,
        ended: None,
        held_up: None,
    }
}

/// It ended `seconds_ago` after having run for `ran`, not for the first time.
pub(crate) fn crashed(now: Now, seconds_ago: u64, ran: u64, exit_code: i32, message: &str) -> CorednsPodState {
    let finished = now.wall.checked_sub(Duration::from_secs(seconds_ago)).unwrap();
    CorednsPodState {
        ready: false,
        restarts: 3,
        running_since: None,
        waiting: Some(Said {
            reason: "CrashLoopBackOff".to_owned(),
            message: "back-off 40s restarting failed container=coredns".to_owned(),
        }),
        ended: Some(Ended {
            reason: "Error".to_owned(),
            message: message.to_owned(),
            exit_code,
            started_at: Some(finished.checked_sub(Duration::from_secs(ran)).unwrap()),
            finished_at: Some(finished),
        }),
        ..running()
    }
}

/// A process that is ready and reaches the API; its counters are not read unless a test asks for [`metrics`].
pub(crate) fn healthy() -> ProcessReadings {
    let api = "10.96.0.1:443".parse().unwrap();
    let server = "172.30.0.254:6443".parse().unwrap();
    ProcessReadings {
        ready: Reading::Read(Ready::Yes),
        metrics: Reading::NotPresent("nobody listens on 10.244.1.51:9153".to_owned()),
        cgroup: Reading::NotPresent("/sys/fs/cgroup does not show the node's pods".to_owned()),
        api: Reading::Read(ApiWays {
            inside: vec![(api, Way::Open), (server, Way::Open)],
            host: vec![(api, Way::Open), (server, Way::Open)],
        }),
    }
}

/// Changes what CoreDNS A's process says.
pub(crate) fn process(sample: &mut Sample) -> &mut ProcessReadings {
    sample.processes.get_mut(&uid(DNS_A)).unwrap()
}

/// Its counters: it answers one query a millisecond, half of them for names that do not exist.
pub(crate) fn metrics(sample: &mut Sample) -> &mut CorednsMetrics {
    let ms = u64::try_from(sample.at.0.as_millis()).unwrap();
    if process(sample).metrics.value().is_none() {
        process(sample).metrics = Reading::Read(CorednsMetrics {
            udp_requests: Some(ms),
            tcp_requests: Some(ms / 100),
            responses: [("NOERROR".to_owned(), ms / 2), ("NXDOMAIN".to_owned(), ms / 2)].into(),
            panics: Some(0),
            forward_broken: Some(0),
            forward_rejects: Some(0),
            proxy_failures: Some(0),
            api_refused: None,
            api_failed: None,
            api_good: Some(7),
        });
    }
    match &mut process(sample).metrics {
        Reading::Read(metrics) => metrics,
        other => panic!("{other:?}"),
    }
}
