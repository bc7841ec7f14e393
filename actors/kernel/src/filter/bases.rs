//! The chains at a hook, in the order in which the kernel asks them.

use super::{Backend, Filters, Hook};
use crate::iptables::{Chain, Table};
use crate::nft::KubeProxyTable;
use crate::nft::native::{NativeChain, NativeTable};

/// A chain that hooks in.
#[derive(Clone, Copy)]
pub(super) enum Base<'a> {
    Xt {
        backend: Backend,
        table: &'a Table,
        chain: &'a Chain,
    },
    Native {
        table: &'a NativeTable,
        chain: &'a NativeChain,
    },
    KubeProxy {
        table: &'a KubeProxyTable,
        nat: bool,
    },
    /// Rules of a family that is not walked.
    NotWalked {
        table: &'a NativeTable,
        chain: &'a NativeChain,
    },
}

impl Base<'_> {
    pub(super) fn is_nat(&self) -> bool {
        match self {
            Self::Xt { table, .. } => table.name == "nat",
            Self::Native { chain, .. } => chain.base.as_ref().is_some_and(|b| b.kind == "nat"),
            Self::KubeProxy { nat, .. } => *nat,
            Self::NotWalked { .. } => false,
        }
    }
}

/// The chains at a hook, in the order in which the kernel asks them.
/// Which of several with the same priority comes first, is not to be seen: the kernel goes by who registered when.
pub(super) fn bases<'a>(filters: &Filters<'a>, hook: Hook, v4: bool) -> Vec<(i64, Base<'a>)> {
    let mut found: Vec<(i64, Base<'a>)> = Vec::new();
    let nat = if matches!(hook, Hook::Prerouting | Hook::Output) { -100 } else { 100 };
    let sets = [(Backend::IptablesLegacy, filters.iptables_legacy), (Backend::IptablesNft, filters.iptables_nft)];
    // What is read of iptables is its IPv4 half.
    for (backend, set) in sets.into_iter().filter(|_| v4) {
        for table in set.iter().flat_map(|s| &s.tables) {
            let priority = match table.name.as_str() {
                "raw" => -300,
                "mangle" => -150,
                "nat" => nat,
                "filter" => 0,
                "security" => 50,
                _ => continue,
            };
            if let Some(chain) = table.chain(hook.chain()) {
                found.push((priority, Base::Xt { backend, table, chain }));
            }
        }
    }
    if let Some(table) = filters.kube_proxy.filter(|_| v4) {
        found.push((nat, Base::KubeProxy { table, nat: true }));
        found.push((0, Base::KubeProxy { table, nat: false }));
    }
    for table in filters.native.iter().flat_map(|n| &n.tables) {
        for chain in &table.chains {
            let Some(base) = &chain.base else { continue };
            match table.family.as_str() {
                "inet" => {}
                "ip" if v4 => {}
                "ip6" if !v4 => {}
                // They see a frame before or beside the hooks of IP.
                "bridge" | "netdev" if matters(chain) && hook != Hook::Output => {
                    if matches!(base.hook.as_str(), "ingress" | "prerouting" | "forward" | "input")
                        && (hook == Hook::Prerouting) == matches!(base.hook.as_str(), "ingress" | "prerouting")
                    {
                        found.push((-400, Base::NotWalked { table, chain }));
                    }
                    continue;
                }
                _ => continue,
            }
            if base.hook == hook.nft() {
                found.push((base.priority, Base::Native { table, chain }));
            }
        }
    }
    found.sort_by_key(|(priority, _)| *priority);
    found
}

fn matters(chain: &NativeChain) -> bool {
    !chain.rules.is_empty() || chain.base.as_ref().is_some_and(|b| b.drop)
}
