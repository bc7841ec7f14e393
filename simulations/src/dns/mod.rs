//! The fault-injecting DNS server that stands in for CoreDNS, and for the upstream server behind it.
//!
//! Told: [`Options`] at the start, then one command a line on its input ([`Command`]), each answered by `ok` or `error: …`.
//! Tells: DNS on port 53 by UDP and TCP, and as CoreDNS `/health` on 8080, `/ready` on 8181, `/metrics` on 9153.
//! Invariants: a fault touches what its name says and nothing else (deaf on UDP, it still answers on TCP and `/health`); like
//! CoreDNS it listens on one socket `[::]` for both address families; it ends when its input ends.

mod command;
mod control;
mod handler;
mod http;
mod listen;
mod process;
mod zone;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};

pub use self::command::Command;
pub use self::control::{DnsControl, DnsError};

use self::handler::Shared;
use self::listen::Listeners;

/// What a server is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// What it answers.
    pub role: Role,
    /// Its DNS port, 53 in a lab.
    pub port: u16,
    /// Whether it serves `/health`, `/ready` and `/metrics`.
    pub http: bool,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// As CoreDNS: authority for `cluster.local`, forwards other names.
    Cluster {
        /// Names with a final dot to their addresses.
        records: BTreeMap<String, Vec<IpAddr>>,
        /// Where other names are asked.
        upstream: SocketAddr,
    },
    /// As a resolver of the internet: every name has this address, except those under `invalid.` and `cluster.local.`.
    Upstream {
        /// The address of every name.
        answer: Ipv4Addr,
    },
}

impl Options {
    /// CoreDNS with the records that every cluster has, forwarding to the control plane's server.
    #[must_use]
    pub fn coredns() -> Self {
        let record = |name: &str, last: u8| (name.to_owned(), vec![IpAddr::V4(Ipv4Addr::new(10, 96, 0, last))]);
        // A headless Service with many pods: its answer is longer than 1232 octets and shorter than a packet.
        let pods = (1..=80).map(|last| IpAddr::V4(Ipv4Addr::new(198, 18, 0, last))).collect();
        let records = BTreeMap::from([
            ("many.default.svc.cluster.local.".to_owned(), pods),
            record("kubernetes.default.svc.cluster.local.", 1),
            record("kube-dns.kube-system.svc.cluster.local.", 10),
        ]);
        let upstream = SocketAddr::from((crate::lab::CONTROL, 53));
        Self { role: Role::Cluster { records, upstream }, port: 53, http: true }
    }

    /// The server behind CoreDNS; it answers 192.0.2.1.
    #[must_use]
    pub fn upstream() -> Self {
        Self { role: Role::Upstream { answer: Ipv4Addr::new(192, 0, 2, 1) }, port: 53, http: false }
    }
}

/// `__dns OPTIONS`: runs a server until its input ends or it is told to exit.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let complain = |what: &dyn std::fmt::Display| {
        let _nobody_listens = writeln!(std::io::stderr(), "dns: {what}");
        ExitCode::from(2)
    };
    let options = args.first().and_then(|text| text.to_str()).map(serde_json::from_str::<Options>);
    let options = match options {
        Some(Ok(options)) => options,
        Some(Err(error)) => return complain(&error),
        None => return complain(&"options as JSON are missing"),
    };
    // One thread: what is measured is the agent, not this server.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(serve(options)).unwrap_or_else(|error| complain(&error));
            // Reading from the input blocks a thread that cannot be cancelled.
            runtime.shutdown_background();
            code
        }
        Err(error) => complain(&error),
    }
}

/// Serves until standard input ends (code 0) or `exit CODE` is read from it. Says `ready` on standard output when it listens.
///
/// # Errors
///
/// If a port cannot be bound or standard output is closed.
pub async fn serve(options: Options) -> std::io::Result<ExitCode> {
    let shared = Arc::new(Shared::new(options.role));
    let mut listeners = Listeners::new(options.port, Arc::clone(&shared));
    listeners.open_udp()?;
    listeners.open_tcp()?;
    if options.http {
        http::listen(&shared)?;
    }
    say("ready")?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command = match line.parse::<Command>() {
            Ok(command) => command,
            Err(error) => {
                say(&format!("error: {error}"))?;
                continue;
            }
        };
        match listeners.obey(&command).await {
            Ok(()) => say("ok")?,
            Err(error) => say(&format!("error: {error}"))?,
        }
        if let Command::Exit(code) = command {
            return Ok(ExitCode::from(code));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
