//! `/proc/thread-self/net` and sysctls of a namespace, read by a thread that is inside.

use std::fs::File;
use std::io::{self, Read as _};

use super::{Limits, listeners, unread, unreadable};
use crate::enter::{EnterPool, Netns};
use crate::facts::{ConntrackStat, Counters, Reading, SocketTable, Sysctls};
use crate::procnet;

/// Sockets of a namespace.
pub async fn sockets(pool: &EnterPool, namespace: &Netns, limits: Limits) -> Reading<SocketTable> {
    let files = |names: [&str; 2]| names.map(|f| format!("/proc/thread-self/net/{f}")).to_vec();
    // The files of TCP are as slow as the machine has room for connections, and say no more.
    let tcp = move || {
        listeners::tcp_listeners(limits).map_err(|_| {
            let read = |path: String| (bounded(&path, limits.bytes), path);
            files(["tcp", "tcp6"]).into_iter().map(read).map(|(text, path)| (path, text)).collect::<Texts>()
        })
    };
    let (mut texts, tcp) = match read_and(pool, namespace, files(["udp", "udp6"]), limits, tcp).await {
        Ok(both) => both,
        Err(reading) => return reading,
    };
    let mut table = SocketTable::default();
    match tcp {
        Ok(rows) => table.tcp_listen = rows,
        Err(files) => texts.extend(files),
    }
    for (at, (path, text)) in texts.iter().enumerate() {
        let text = match text {
            Ok(text) => text,
            // A kernel without IPv6 has no sockets of it.
            Err(error) if path.ends_with('6') && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return unread(path, error),
        };
        let (into, rows) = match at {
            0 | 1 => (&mut table.udp, procnet::udp(text)),
            _ => (&mut table.tcp_listen, procnet::tcp_listeners(text)),
        };
        match rows {
            Ok(rows) => into.extend(rows),
            Err(why) => return Reading::Failed(format!("{path}: {why}")),
        }
    }
    Reading::Read(table)
}

/// Sockets of a namespace on one port: a node has thousands, and a rule asks about one port.
pub async fn sockets_on(pool: &EnterPool, namespace: &Netns, port: u16, limits: Limits) -> Reading<SocketTable> {
    match sockets(pool, namespace, limits).await {
        Reading::Read(mut table) => {
            table.udp.retain(|socket| socket.port == port);
            table.tcp_listen.retain(|socket| socket.port == port);
            Reading::Read(table)
        }
        other => other,
    }
}

/// Counters of a namespace.
pub async fn counters(pool: &EnterPool, namespace: &Netns, limits: Limits) -> Reading<Counters> {
    let files = ["snmp", "netstat"].map(|f| format!("/proc/thread-self/net/{f}"));
    let texts = match read(pool, namespace, files.to_vec(), limits).await {
        Ok(texts) => texts,
        Err(reading) => return reading,
    };
    let mut all = Counters::default();
    for (path, text) in &texts {
        match text.as_deref().map(procnet::counters) {
            Ok(Ok(counters)) => all.0.extend(counters.0),
            Ok(Err(why)) => return Reading::Failed(format!("{path}: {why}")),
            Err(error) => return unread(path, error),
        }
    }
    Reading::Read(all)
}

/// Conntrack's own counters for a namespace.
pub async fn conntrack_stat(pool: &EnterPool, namespace: &Netns, limits: Limits) -> Reading<ConntrackStat> {
    let files = vec!["/proc/thread-self/net/stat/nf_conntrack".to_owned()];
    let texts = match read(pool, namespace, files, limits).await {
        Ok(texts) => texts,
        Err(reading) => return reading,
    };
    match texts.first() {
        Some((path, Ok(text))) => match procnet::conntrack_stat(text) {
            Ok(stat) => Reading::Read(stat),
            Err(why) => Reading::Failed(format!("{path}: {why}")),
        },
        Some((path, Err(error))) => unread(path, error),
        None => Reading::NotRead,
    }
}

/// Sysctls of a namespace; one that is not there is `None`.
pub async fn sysctls(pool: &EnterPool, namespace: &Netns, limits: Limits) -> Reading<Sysctls> {
    let files = [
        "ipv4/ip_forward",
        "bridge/bridge-nf-call-iptables",
        "ipv4/conf/all/rp_filter",
        "netfilter/nf_conntrack_count",
        "netfilter/nf_conntrack_max",
        "ipv4/neigh/default/gc_thresh3",
    ]
    .map(|f| format!("/proc/sys/net/{f}"));
    // In one go: a thread that is inside is not left for each file anew.
    let devices = || super::devices::per_device(&["forwarding", "rp_filter"]);
    let (texts, devices) = match read_and(pool, namespace, files.to_vec(), limits, devices).await {
        Ok(both) => both,
        Err(reading) => return reading,
    };
    if let Some((path, Err(error))) =
        texts.iter().find(|(_, t)| t.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::NotFound))
    {
        return unread(path, error);
    }
    let mut devices = devices.into_iter();
    let (forwarding, rp_filter) = (devices.next().unwrap_or_default(), devices.next().unwrap_or_default());
    let mut values = texts.iter().map(|(_, text)| text.as_deref().ok().and_then(procnet::sysctl));
    let mut next = || values.next().flatten();
    Reading::Read(Sysctls {
        ip_forward: next(),
        bridge_nf_call_iptables: next(),
        rp_filter_all: next(),
        conntrack_count: next(),
        conntrack_max: next(),
        gc_thresh3: next(),
        rp_filter,
        forwarding,
    })
}

type Texts = Vec<(String, io::Result<String>)>;

/// Reads files on a thread inside the namespace. Both `/proc/thread-self/net` and `/proc/sys/net` are those of the
/// thread that reads.
async fn read<T>(pool: &EnterPool, namespace: &Netns, files: Vec<String>, limits: Limits) -> Result<Texts, Reading<T>> {
    read_and(pool, namespace, files, limits, || ()).await.map(|(texts, ())| texts)
}

/// As [`read`], and does something else there as well.
async fn read_and<T, U: Send + 'static>(
    pool: &EnterPool,
    namespace: &Netns,
    files: Vec<String>,
    limits: Limits,
    more: impl FnOnce() -> U + Send + 'static,
) -> Result<(Texts, U), Reading<T>> {
    let inside = pool.run(namespace, move || {
        let texts: Texts = files
            .into_iter()
            .map(|path| (bounded(&path, limits.bytes), path))
            .map(|(text, path)| (path, text))
            .collect();
        (texts, more())
    });
    match tokio::time::timeout(limits.within, inside).await {
        Ok(Ok(both)) => Ok(both),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(_) => Err(Reading::Failed(format!("/proc was not read within {:?}", limits.within))),
    }
}

pub(super) fn bounded(path: &str, bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {bytes} bytes")));
    }
    Ok(text)
}
