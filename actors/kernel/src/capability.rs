//! What this process may do, found out at its start by trying, and what is lost where it may not.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};

use crate::enter::EnterPool;

/// The inode of the machine's first PID namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What can be done here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `setns` into a network namespace is allowed.
    pub enter: bool,
    /// CAP_NET_ADMIN: netfilter and conntrack can be read.
    pub net_admin: bool,
    /// CAP_NET_RAW: legacy iptables can be read.
    pub net_raw: bool,
    /// CAP_SYS_PTRACE: other processes' namespaces and roots can be opened.
    pub sys_ptrace: bool,
    /// The machine's processes are visible (hostPID).
    pub host_pid: bool,
    /// `iptables-save` is installed.
    pub iptables_save: Option<PathBuf>,
    /// `iptables-legacy-save` is installed.
    pub iptables_legacy_save: Option<PathBuf>,
    /// `nft` is installed.
    pub nft: Option<PathBuf>,
}

impl Capabilities {
    /// Finds out. It changes nothing: the namespace that is entered is the one that the threads are in.
    /// It may block; call it at the start, not on a runtime's worker.
    #[must_use]
    pub fn find(pool: &EnterPool) -> Self {
        let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
        Self {
            enter: pool.try_setns().is_ok(),
            net_admin: has(Capability::CAP_NET_ADMIN),
            net_raw: has(Capability::CAP_NET_RAW),
            sys_ptrace: has(Capability::CAP_SYS_PTRACE),
            host_pid: std::fs::metadata("/proc/self/ns/pid").is_ok_and(|m| m.ino() == INITIAL_PID_NAMESPACE),
            iptables_save: installed("iptables-save"),
            iptables_legacy_save: installed("iptables-legacy-save"),
            nft: installed("nft"),
        }
    }

    /// Which vantages and which evidence are lost, one line each, with what would restore it. Empty: nothing is lost.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        let mut lost = |is: bool, line: &str| {
            if is {
                losses.push(line.to_owned());
            }
        };
        lost(!self.enter, "no probes from pods, the host's vantage alone: setns is not permitted; grant CAP_SYS_ADMIN");
        lost(
            !self.net_admin,
            "no firewall rules and no conntrack as evidence, causes in them stay unexplained: grant CAP_NET_ADMIN",
        );
        lost(
            self.net_admin && self.iptables_save.is_none(),
            "no iptables rules as evidence: iptables-save is not installed",
        );
        lost(
            self.net_admin && self.nft.is_none(),
            "no nftables rules as evidence (kube-proxy in nftables mode): nft is not installed",
        );
        lost(
            self.net_admin && self.iptables_legacy_save.is_some() && !self.net_raw,
            "no legacy iptables rules as evidence, where a node uses them: grant CAP_NET_RAW",
        );
        lost(
            self.host_pid && !self.sys_ptrace,
            "no sockets and files of CoreDNS's process as evidence: grant CAP_SYS_PTRACE beside hostPID",
        );
        losses
    }
}

/// An executable of the search path.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| executable(file))
}

fn executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Capabilities {
        let tool = |name: &str| Some(PathBuf::from("/usr/sbin").join(name));
        Capabilities {
            enter: true,
            net_admin: true,
            net_raw: true,
            sys_ptrace: true,
            host_pid: true,
            iptables_save: tool("iptables-save"),
            iptables_legacy_save: tool("iptables-legacy-save"),
            nft: tool("nft"),
        }
    }

    #[test]
    fn with_everything_nothing_is_lost() {
        assert!(everything().losses().is_empty());
    }

    #[test]
    fn each_loss_is_named_with_its_remedy() {
        let table = [
            (Capabilities { enter: false, ..everything() }, "CAP_SYS_ADMIN"),
            (Capabilities { net_admin: false, ..everything() }, "CAP_NET_ADMIN"),
            (Capabilities { net_raw: false, ..everything() }, "CAP_NET_RAW"),
            (Capabilities { sys_ptrace: false, ..everything() }, "CAP_SYS_PTRACE"),
            (Capabilities { iptables_save: None, ..everything() }, "iptables-save"),
            (Capabilities { nft: None, ..everything() }, "nft is not installed"),
        ];
        for (capabilities, named) in table {
            let losses = capabilities.losses();
            assert_eq!(losses.len(), 1, "{losses:?}");
            assert!(losses.iter().all(|line| line.contains(named)), "{losses:?}");
        }
    }

    #[test]
    fn without_hostpid_ptrace_is_not_missed() {
        assert!(Capabilities { host_pid: false, sys_ptrace: false, ..everything() }.losses().is_empty());
    }
}
