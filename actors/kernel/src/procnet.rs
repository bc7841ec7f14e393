//! Parsers of `/proc/thread-self/net/…` and of sysctl files. Columns of counters are found by the names of the header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::facts::{ConntrackStat, Counters, NeighbourStat, SocketRow};

/// Most sockets of one table.
pub const MAX_ROWS: usize = 262_144;

/// Why a file of `/proc/net` could not be parsed. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcError {
    /// A line of a socket table.
    #[error("line {line}: not a row of a socket table")]
    Socket {
        /// Where.
        line: usize,
    },
    /// A pair of lines of `snmp` or `netstat`.
    #[error("line {line}: names and values do not belong together")]
    Counters {
        /// Where.
        line: usize,
    },
    /// A line of `stat/nf_conntrack`.
    #[error("line {line}: not a row of hexadecimal counters")]
    Conntrack {
        /// Where.
        line: usize,
    },
    /// More than [`MAX_ROWS`].
    #[error("more than {MAX_ROWS} rows")]
    TooLong,
}

/// `udp` and `udp6`: every socket.
///
/// # Errors
/// [`ProcError`] names the line.
pub fn udp(text: &str) -> Result<Vec<SocketRow>, ProcError> {
    sockets(text, |_| true)
}

/// `tcp` and `tcp6`: listeners (state `0A`) alone. Their `rx_queue` counts connections that wait to be accepted.
///
/// # Errors
/// [`ProcError`] names the line.
pub fn tcp_listeners(text: &str) -> Result<Vec<SocketRow>, ProcError> {
    sockets(text, |state| state == "0A")
}

fn sockets(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<SocketRow>, ProcError> {
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate().skip(1) {
        if line.trim().is_empty() {
            continue;
        }
        if at > MAX_ROWS {
            return Err(ProcError::TooLong);
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let row = row(&words, &wanted).ok_or(ProcError::Socket { line: at + 1 })?;
        rows.extend(row);
    }
    Ok(rows)
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops`; `Some(None)`: not wanted.
fn row(words: &[&str], wanted: impl Fn(&str) -> bool) -> Option<Option<SocketRow>> {
    let (ip, port) = words.get(1)?.split_once(':')?;
    let (ip, port) = (address(ip)?, u16::from_str_radix(port, 16).ok()?);
    if !wanted(words.get(3)?) {
        return Some(None);
    }
    let (_, rx_queue) = words.get(4)?.split_once(':')?;
    let rx_queue = u64::from_str_radix(rx_queue, 16).ok()?;
    let inode = words.get(9)?.parse().ok()?;
    // TCP has other columns from here on and counts no drops per socket.
    let drops = if words.len() == 13 { words[12].parse().ok()? } else { 0 };
    Some(Some(SocketRow { ip, port, rx_queue, drops, inode }))
}

/// The kernel prints the words of an address as the machine's integers.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0u8; 16];
            for part in 0..4 {
                octets[part * 4..part * 4 + 4].copy_from_slice(&word(part * 8)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// `snmp` and `netstat`: pairs of lines, the names and the values of one group. Negative values (`Tcp.MaxConn`) are left out.
///
/// # Errors
/// [`ProcError`] names the line.
pub fn counters(text: &str) -> Result<Counters, ProcError> {
    let mut out = Counters::default();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    for (at, pair) in lines.chunks(2).enumerate() {
        let wrong = ProcError::Counters { line: at * 2 + 1 };
        let [names, values] = pair else { return Err(wrong) };
        let (Some((group, names)), Some((same, values))) = (names.split_once(':'), values.split_once(':')) else {
            return Err(wrong);
        };
        let (names, values): (Vec<_>, Vec<_>) =
            (names.split_ascii_whitespace().collect(), values.split_ascii_whitespace().collect());
        if group != same || names.len() != values.len() {
            return Err(wrong);
        }
        for (name, value) in names.into_iter().zip(values) {
            match value.parse::<i128>() {
                Ok(value) => {
                    if let Ok(value) = u64::try_from(value) {
                        out.0.insert(format!("{group}.{name}"), value);
                    }
                }
                Err(_) => return Err(wrong),
            }
        }
    }
    Ok(out)
}

/// `stat/nf_conntrack`: a header and a row of hexadecimal counters per CPU, added up; `entries` is the same in every row
/// and stands once.
///
/// # Errors
/// [`ProcError`] names the line.
pub fn conntrack_stat(text: &str) -> Result<ConntrackStat, ProcError> {
    let mut out = ConntrackStat::default();
    let mut lines = text.lines().enumerate();
    let Some((_, header)) = lines.next() else { return Ok(out) };
    let names: Vec<&str> = header.split_ascii_whitespace().collect();
    for (at, line) in lines {
        let wrong = ProcError::Conntrack { line: at + 1 };
        if line.trim().is_empty() {
            continue;
        }
        if at > MAX_ROWS {
            return Err(ProcError::TooLong);
        }
        let values: Result<Vec<u64>, _> = line.split_ascii_whitespace().map(|v| u64::from_str_radix(v, 16)).collect();
        let Ok(values) = values else { return Err(wrong) };
        if values.len() != names.len() {
            return Err(wrong);
        }
        for (name, value) in names.iter().zip(values) {
            let sum = out.0.entry((*name).to_owned()).or_default();
            *sum = if *name == "entries" { value } else { sum.saturating_add(value) };
        }
    }
    Ok(out)
}

/// `stat/arp_cache` and `stat/ndisc_cache`: laid out as [`conntrack_stat`]'s file.
///
/// # Errors
/// [`ProcError`] names the line.
pub fn neighbour_stat(text: &str) -> Result<NeighbourStat, ProcError> {
    conntrack_stat(text).map(|stat| NeighbourStat(stat.0))
}

/// The first number of a sysctl file; `None` if there is none.
#[must_use]
pub fn sysctl(text: &str) -> Option<i64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The tables that `ip_tables_names` lists.
#[must_use]
pub fn table_names(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().take(16).map(str::to_owned).collect()
}

/// Runs every parser of this module over the same bytes: the entry for fuzzing.
pub fn parse_any(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = crate::sockdiag::parse(bytes);
    let _ =
        (udp(&text), tcp_listeners(&text), counters(&text), conntrack_stat(&text), sysctl(&text), table_names(&text));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn recorded(file: &str) -> String {
        std::fs::read_to_string(crate::recordings().join(file)).unwrap()
    }

    #[test]
    fn recorded_counters() {
        let snmp = counters(&recorded("iptables/node1.proc-net-snmp.txt")).unwrap();
        assert_eq!((snmp.get("Ip.ForwDatagrams"), snmp.get("Udp.InDatagrams")), (Some(585), Some(1)));
        assert_eq!(snmp.get("Tcp.MaxConn"), None);
        for node in ["iptables/node1", "nftables/node2"] {
            let netstat = counters(&recorded(&format!("{node}.proc-net-netstat.txt"))).unwrap();
            assert!(netstat.get("TcpExt.ListenDrops").is_some() && netstat.get("IpExt.InOctets").is_some());
            let stat = conntrack_stat(&recorded(&format!("{node}.proc-net-stat-nf_conntrack.txt"))).unwrap();
            assert!(stat.0.contains_key("insert_failed"));
        }
        let stat = conntrack_stat(&recorded("iptables/node1.proc-net-stat-nf_conntrack.txt")).unwrap();
        assert_eq!(stat.0["entries"], 0x81);
        assert_eq!(counters(&recorded("iptables/pod-coredns.proc-net-snmp.txt")).unwrap().get("Udp.NoPorts"), Some(10));
    }

    #[test]
    fn rows_of_cpus_are_added_up() {
        let stat =
            conntrack_stat("entries  drop insert_failed\n0000000a 00000001 00000002\n0000000a 0000000f 00000000\n")
                .unwrap();
        assert_eq!((stat.0["entries"], stat.0["drop"], stat.0["insert_failed"]), (10, 16, 2));
        assert_eq!(conntrack_stat("a b\n1\n"), Err(ProcError::Conntrack { line: 2 }));
        let table =
            neighbour_stat("entries  res_failed table_fulls\n00000400 00000056 00000007\n00000400 00000043 00000001\n");
        let table = table.unwrap();
        assert_eq!((table.get("entries"), table.get("table_fulls"), table.get("allocs")), (Some(1024), Some(8), None));
    }

    // A row as a little-endian machine prints it.
    #[cfg(target_endian = "little")]
    #[test]
    fn sockets_are_read() {
        let text = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                    39733: 0100007F:0035 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 4242 2 0000000000000000 7\n";
        let row = SocketRow { ip: "127.0.0.1".parse().unwrap(), port: 53, rx_queue: 768, drops: 7, inode: 4242 };
        assert_eq!(udp(text).unwrap(), [row]);
        let text = "  sl  local_address                         remote_address                        st tx_queue rx_queue\n\
                    0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 99 1 0000000000000000 100 0 0 10 0\n\
                    1: 00000000000000000000000001000000:0036 00000000000000000000000000000000:0000 01 00000000:00000002 00:00000000 00000000     0        0 99 1 0000000000000000 100 0 0 10 0\n";
        let rows = tcp_listeners(text).unwrap();
        assert_eq!((rows.len(), rows[0].ip, rows[0].rx_queue, rows[0].drops), (1, "::1".parse().unwrap(), 2, 0));
        assert_eq!(udp("header\nnonsense\n"), Err(ProcError::Socket { line: 2 }));
    }

    #[test]
    fn sysctls() {
        assert_eq!(
            (sysctl("1\n"), sysctl("32768\t60999\n"), sysctl(""), sysctl("x")),
            (Some(1), Some(32768), None, None)
        );
        assert_eq!(table_names("nat\nfilter\n"), ["nat", "filter"]);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(\\PC|\n| |:){0,300}") {
            parse_any(text.as_bytes());
        }
    }
}
