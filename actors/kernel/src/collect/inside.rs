//! The packet filters inside a pod's own namespace.

use super::netfilter::{legacy_tables, parsed, rules_of_nft};
use super::{Limits, command};
use crate::enter::{EnterPool, Netns};
use crate::facts::{Netfilter, Reading};

/// Reads the rules of a pod's own namespace, with the programs of ours: they are started by a thread that is inside, see
/// our files and that namespace's rules, and make nothing there.
///
/// Most pods have none, so nft is asked first: it knows of every table but legacy ones.
pub async fn netfilter_inside(pool: &EnterPool, namespace: &Netns, limits: Limits) -> Netfilter {
    let native = async {
        rules_of_nft(command::run_inside(pool, namespace, "nft", &["-j", "list", "ruleset"], limits).await).await
    };
    let (native, tables) = tokio::join!(native, legacy_tables(pool, namespace));
    let none = native.value().is_some_and(|n| !n.native.iptables);
    let by_nft = async {
        if none {
            return Reading::NotPresent("there is no table of iptables-nft".to_owned());
        }
        let printed = command::run_inside(pool, namespace, "iptables-nft-save", &["-c"], limits).await;
        parsed(printed, "iptables-nft-save").await
    };
    let by_legacy = async {
        match &tables {
            Reading::Read(tables) if tables.is_empty() => Reading::NotPresent("no legacy table is in use".to_owned()),
            Reading::Read(tables) => {
                let printed = command::run_inside(pool, namespace, "iptables-legacy-save", &["-c"], limits).await;
                match parsed(printed, "iptables-legacy-save").await {
                    // There are rules that nothing here can show: that is not the same as none.
                    Reading::NotPresent(why) => {
                        Reading::Failed(format!("legacy tables {} are in use, but {why}", tables.join(", ")))
                    }
                    other => other,
                }
            }
            other => super::netfilter::unchanged(other),
        }
    };
    let (iptables_nft, iptables_legacy) = tokio::join!(by_nft, by_legacy);
    let (other_base_chains, native) = match native {
        Reading::Read(ruleset) => (Reading::Read(ruleset.other_base_chains), Reading::Read(ruleset.native)),
        other => (super::netfilter::unchanged(&other), super::netfilter::unchanged(&other)),
    };
    Netfilter { iptables_nft, iptables_legacy, kube_proxy_nft: Reading::NotRead, other_base_chains, native }
}
