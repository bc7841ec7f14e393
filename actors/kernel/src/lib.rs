//! The machine as Nameward sees it: namespaces, sockets, netlink, netfilter, conntrack, `/proc`, pod files, DNS exchange.
//!
//! Types and parsers are pure. What touches the world stands behind the feature `io`, and nothing else in the
//! workspace calls setns, opens a netlink socket or runs `iptables-save` or `nft`.
//!
//! Invariants:
//! - A namespace is entered only in [`enter`], in a synchronous closure, on threads of its own, with a guard that restores.
//! - After setns only `/proc/thread-self/net` follows the thread; `/proc/net` and `/proc/self/net` are never read.
//! - Every reader is bounded in time and bytes and says [`facts::Reading`] instead of failing silently.
//! - Nothing is changed but by [`repair`], whose changes are typed, single, and compared before and after.
//! - Reading leaves no trace: a legacy table is read only if `ip_tables_names` lists it.

pub mod cgroup;
pub mod cni;
pub mod conntrack;
pub mod coredns;
pub mod exchange;
pub mod facts;
pub mod filter;
pub mod flows;
pub mod iptables;
pub mod kubeproxy;
pub mod locks;
pub mod nft;
pub mod procnet;
pub mod repair;
pub mod resolv;
pub mod sockdiag;
pub mod trace;

#[cfg(feature = "io")]
pub mod capability;
#[cfg(feature = "io")]
pub mod collect;
#[cfg(feature = "io")]
pub mod enter;
#[cfg(feature = "io")]
mod netlink;
#[cfg(feature = "io")]
pub mod podfile;
#[cfg(feature = "io")]
pub mod rtnl;
#[cfg(feature = "io")]
pub mod sockets;

/// Where the recordings from a real cluster stand: beside the workspace.
#[cfg(test)]
pub(crate) fn recordings() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures")
}
