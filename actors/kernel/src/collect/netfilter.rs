//! The node's netfilter rules, by the programs that know how to print them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use iptables::IPTables;

use super::{Limits, command, unread, unreadable};
use crate::enter::{EnterPool, Netns};
use crate::facts::{Netfilter, Reading};
use crate::iptables::{ParseError, RuleSet};
use crate::{nft, procnet};

/// The kernel's list of legacy tables that are in use in a namespace.
const LEGACY_TABLES: &str = "/proc/thread-self/net/ip_tables_names";

/// Reads the rules of the node's own namespace (IPv4, and the names of every foreign base chain).
///
/// Nothing is created by it: `iptables-nft-save` and `nft list` read alone, and legacy tables are asked for only if the
/// kernel lists any, since asking for one makes it.
pub async fn netfilter(pool: &EnterPool, limits: Limits) -> Netfilter {
    netfilter_about(pool, None, limits).await
}

/// [`netfilter`], and of what kube-proxy wrote only what concerns these addresses: a node may have tens of thousands of its
/// rules, and they are read again and again while something fails.
pub async fn netfilter_about(pool: &EnterPool, about: Option<&BTreeSet<IpAddr>>, limits: Limits) -> Netfilter {
    let (iptables_nft, iptables_legacy, ruleset) =
        tokio::join!(by_iptables_nft(limits, about), by_iptables_legacy(pool, limits, about), by_nft(limits, about));
    let (kube_proxy_nft, other_base_chains, native) = match ruleset {
        Reading::Read(ruleset) => (
            ruleset
                .kube_proxy
                .map_or_else(|| Reading::NotPresent("there is no table ip kube-proxy".to_owned()), Reading::Read),
            Reading::Read(ruleset.other_base_chains),
            Reading::Read(ruleset.native),
        ),
        other => (unchanged(&other), unchanged(&other), unchanged(&other)),
    };
    Netfilter { iptables_nft, iptables_legacy, kube_proxy_nft, other_base_chains, native }
}

async fn by_iptables_nft(limits: Limits, about: Option<&BTreeSet<IpAddr>>) -> Reading<RuleSet> {
    match command::run("iptables-nft-save", &["-c"], limits).await {
        Reading::NotPresent(why) => match plain_is("nf_tables", limits).await {
            true => reduced(command::run("iptables-save", &["-c"], limits).await, "iptables-save", about).await,
            false => Reading::NotPresent(why),
        },
        printed => reduced(printed, "iptables-nft-save", about).await,
    }
}

async fn by_iptables_legacy(pool: &EnterPool, limits: Limits, about: Option<&BTreeSet<IpAddr>>) -> Reading<RuleSet> {
    let tables = match legacy_tables(pool, pool.home()).await {
        Reading::Read(tables) => tables,
        other => return unchanged(&other),
    };
    if tables.is_empty() {
        return Reading::NotPresent("no legacy table is in use".to_owned());
    }
    match command::run("iptables-legacy-save", &["-c"], limits).await {
        // There are rules that nothing here can show: that is not the same as none.
        Reading::NotPresent(why) => match plain_is("legacy", limits).await {
            true => reduced(command::run("iptables-save", &["-c"], limits).await, "iptables-save", about).await,
            false => Reading::Failed(format!("legacy tables {} are in use, but {why}", tables.join(", "))),
        },
        printed => reduced(printed, "iptables-legacy-save", about).await,
    }
}

/// The legacy tables that are in use in a namespace.
pub(super) async fn legacy_tables(pool: &EnterPool, namespace: &Netns) -> Reading<Vec<String>> {
    match pool.run(namespace, || std::fs::read_to_string(LEGACY_TABLES)).await {
        Ok(Ok(text)) => Reading::Read(procnet::table_names(&text)),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Reading::Read(Vec::new()),
        Ok(Err(error)) => unread(LEGACY_TABLES, &error),
        Err(error) => unreadable(&error),
    }
}

/// Whether the plain `iptables-save` is of this kind.
async fn plain_is(kind: &str, limits: Limits) -> bool {
    let version = command::run("iptables-save", &["--version"], limits).await;
    version.value().is_some_and(|text| String::from_utf8_lossy(text).contains(&format!("({kind})")))
}

/// Chains first, then the tables that `iptables-nft-save` does not show: see [`nft::survey`].
async fn by_nft(limits: Limits, about: Option<&BTreeSet<IpAddr>>) -> Reading<nft::Ruleset> {
    let chains = match command::run("nft", &["-j", "list", "chains"], limits).await {
        Reading::Read(chains) => chains,
        other => return unchanged(&other),
    };
    let survey = match nft::survey(&chains) {
        Ok(survey) => survey,
        Err(nft::NftError::Json(why)) => return Reading::Failed(format!("nft: not understood: {why}")),
    };
    drop(chains);
    let list = |(family, table): &(String, String)| {
        let (family, table) = (family.clone(), table.clone());
        async move { command::run("nft", &["-j", "list", "table", &family, &table], limits).await }
    };
    let mut parts = Vec::new();
    for (printed, (family, table)) in
        futures::future::join_all(survey.tables.iter().map(list)).await.into_iter().zip(&survey.tables)
    {
        match printed {
            Reading::Read(printed) => parts.push(printed),
            // It was deleted meanwhile.
            Reading::Failed(why) if why.contains("No such file or directory") => {}
            Reading::Failed(why) => return Reading::Failed(format!("table {family} {table}: {why}")),
            other => return unchanged(&other),
        }
    }
    let about = about.cloned();
    let parse = move || nft::parse_parts(parts.iter().map(Vec::as_slice), about.as_ref());
    match tokio::task::spawn_blocking(parse).await {
        Ok(Ok(mut ruleset)) => {
            ruleset.native.iptables |= survey.iptables;
            ruleset.native.truncated |= survey.truncated;
            Reading::Read(ruleset)
        }
        Ok(Err(nft::NftError::Json(why))) => Reading::Failed(format!("nft: not understood: {why}")),
        Err(_) => Reading::Failed("nft: reading its output failed".to_owned()),
    }
}

/// What nft printed, reduced.
pub(super) async fn rules_of_nft(printed: Reading<Vec<u8>>) -> Reading<nft::Ruleset> {
    let printed = match printed {
        Reading::Read(printed) => printed,
        other => return unchanged(&other),
    };
    match tokio::task::spawn_blocking(move || nft::parse(&printed)).await {
        Ok(Ok(ruleset)) => Reading::Read(ruleset),
        Ok(Err(nft::NftError::Json(why))) => Reading::Failed(format!("nft: not understood: {why}")),
        Err(_) => Reading::Failed("nft: reading its output failed".to_owned()),
    }
}

pub(super) async fn parsed(printed: Reading<Vec<u8>>, program: &'static str) -> Reading<RuleSet> {
    reduced(printed, program, None).await
}

async fn reduced(
    printed: Reading<Vec<u8>>,
    program: &'static str,
    about: Option<&BTreeSet<IpAddr>>,
) -> Reading<RuleSet> {
    let printed = match printed {
        Reading::Read(printed) => printed,
        other => return unchanged(&other),
    };
    let about = about.cloned();
    let parse = move || match about {
        Some(about) => crate::iptables::parse_about(&printed, &about),
        None => crate::iptables::parse_bytes(&printed),
    };
    match tokio::task::spawn_blocking(parse).await {
        Ok(Ok(set)) => Reading::Read(set),
        Ok(Err(why @ ParseError::NotCommitted { .. })) => Reading::Failed(format!("{program} broke off: {why}")),
        Ok(Err(why)) => Reading::Failed(format!("{program}: not understood: {why}")),
        Err(_) => Reading::Failed(format!("{program}: reading its output failed")),
    }
}

/// The same reason for another value.
pub(super) fn unchanged<A, B>(reading: &Reading<A>) -> Reading<B> {
    match reading {
        Reading::Read(_) | Reading::NotRead => Reading::NotRead,
        Reading::NotPermitted(why) => Reading::NotPermitted(why.clone()),
        Reading::NotPresent(why) => Reading::NotPresent(why.clone()),
        Reading::Failed(why) => Reading::Failed(why.clone()),
    }
}

/// The policy of one built-in chain by iptables-nft, for when a whole dump is too long or takes too long.
///
/// The crate does not check the exit status of what it lists and cannot be stopped: the status is checked here, and the
/// call runs on a thread that is left behind when it takes too long.
pub async fn chain_policy(table: &'static str, chain: &'static str, limits: Limits) -> Reading<String> {
    let (tell, answer) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("iptables".to_owned()).spawn(move || {
        let _ = tell.send(policy_now(table, chain));
    });
    if let Err(error) = started {
        return Reading::Failed(format!("cannot start a thread: {error}"));
    }
    match tokio::time::timeout(limits.within, answer).await {
        Ok(Ok(reading)) => reading,
        Ok(Err(_)) => Reading::Failed("iptables-nft: the call failed".to_owned()),
        Err(_) => Reading::Failed(format!("iptables-nft did not end within {:?}", limits.within)),
    }
}

fn policy_now(table: &str, chain: &str) -> Reading<String> {
    // The nft backend takes no lock, so there is nothing to wait for.
    let iptables = IPTables { cmd: "iptables-nft", has_check: true, has_wait: false, is_numeric: false };
    let output = match iptables.execute(table, &format!("-S {chain}")) {
        Ok(output) => output,
        Err(error) => {
            let missing =
                error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound);
            return if missing {
                Reading::NotPresent("iptables-nft is not installed".to_owned())
            } else {
                Reading::Failed(format!("iptables-nft: {error}"))
            };
        }
    };
    let (printed, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        let why = format!("iptables-nft ended with {}: {}", output.status, complaint.trim());
        return if why.contains("Permission denied") || why.contains("you must be root") {
            Reading::NotPermitted(why)
        } else {
            Reading::Failed(why)
        };
    }
    let policy =
        printed.lines().find_map(|line| line.strip_prefix(&format!("-P {chain} ")).map(|p| p.trim().to_owned()));
    policy.map_or_else(|| Reading::NotPresent(format!("chain {chain} of table {table} has no policy")), Reading::Read)
}
