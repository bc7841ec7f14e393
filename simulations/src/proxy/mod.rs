//! kube-proxy's hand: writes the rules of a set of Services into a node, spelled as the recordings spell them.
//!
//! Told: a node's namespace, a [`Mode`], a [`ServiceState`]. Tells: nothing; the rules are in the kernel when it returns.
//! Invariants: a change replaces all of kube-proxy's part of a table in one transaction; rules of others in the same table
//! are left alone, and so are jumps and chains that a fault took away, until [`Proxy::resync`]; applying the same state twice
//! changes nothing.

mod flows;
mod iptables;
mod names;
mod nfacct;
mod nftables;
mod state;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::names::{endpoint_chain, nft_service_chain, service_chain};
pub use self::state::{DnsService, Protocol, ServicePort, ServiceState};

use self::iptables::{Family, Table};
use crate::lab::{LabError, Netns};

/// kube-proxy's mode and the program behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `--proxy-mode=iptables` through `iptables-nft`.
    IptablesNft,
    /// `--proxy-mode=iptables` through `iptables-legacy`.
    IptablesLegacy,
    /// `--proxy-mode=nftables`; the kubelet's chains stand beside it through `iptables-nft`.
    Nftables,
}

impl Mode {
    /// `iptables-nft` or `iptables-legacy`: what writes the kubelet's chains, and kube-proxy's in iptables mode.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::IptablesNft | Self::Nftables => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }
}

/// The kube-proxy of one node.
#[derive(Debug)]
pub struct Proxy {
    netns: Netns,
    mode: Mode,
    state: ServiceState,
    /// `KUBE-SVC-*` and `KUBE-SEP-*` chains that stand in the nat table.
    written: BTreeSet<String>,
    /// A fault holds it: it takes changes in and writes nothing.
    held: bool,
    /// A fault keeps it from deleting conntrack entries: as releases did that had no reconciler for them.
    keeps_flows: bool,
}

impl Proxy {
    /// Writes everything into a namespace that has no rules yet: the kubelet's chains, kube-proxy's, and the jumps.
    ///
    /// # Errors
    ///
    /// If a program is missing or refuses.
    pub fn install(netns: &Netns, mode: Mode, state: ServiceState) -> Result<Self, LabError> {
        netns
            .enter(|| nfacct::create(nfacct::INVALID_DROPPED))?
            .map_err(|source| LabError::Namespace { name: format!("{}, accounting object", netns.name()), source })?;
        let mut proxy =
            Self { netns: netns.clone(), mode, state, written: BTreeSet::new(), held: false, keeps_flows: false };
        // The order of the recordings: nft lists tables in it.
        for family in [Family::V6, Family::V4] {
            let text: String = proxy.tables(family).iter().map(Table::whole).collect();
            proxy.restore(family, &text, false)?;
        }
        if mode == Mode::Nftables {
            proxy.nft(&(nftables::table(&proxy.state, false) + &nftables::table(&proxy.state, true)))?;
        }
        proxy.written = iptables::service_chains(&proxy.tables(Family::V4));
        Ok(proxy)
    }

    /// Which mode it is in.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The namespace it writes to.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// What it has written last.
    #[must_use]
    pub fn state(&self) -> &ServiceState {
        &self.state
    }

    /// Follows a change of Services or endpoints, in one transaction. As kube-proxy's partial sync, it does not look after
    /// jumps from built-in chains.
    ///
    /// # Errors
    ///
    /// If the program refuses; then the old rules stand.
    pub fn apply(&mut self, state: ServiceState) -> Result<(), LabError> {
        self.state = state;
        if self.held {
            return Ok(());
        }
        if self.mode == Mode::Nftables {
            self.nft(&nftables::table(&self.state, false))?;
            return self.forget_stale();
        }
        let tables = self.tables(Family::V4);
        let now = iptables::service_chains(&tables);
        let stale: Vec<&String> = self.written.difference(&now).collect();
        let text: String = tables.iter().map(|table| table.own_chains(&stale)).collect();
        self.restore(Family::V4, &text, true)?;
        self.written = now;
        self.forget_stale()
    }

    /// Deletes the conntrack entries of DNS that lead nowhere, as after every sync; not while it is held.
    ///
    /// # Errors
    ///
    /// If conntrack refuses.
    pub fn forget_stale(&self) -> Result<(), LabError> {
        if self.held || self.keeps_flows { Ok(()) } else { flows::reconcile(&self.netns, &self.state) }
    }

    /// Whether it leaves conntrack entries that lead nowhere.
    pub fn keep_flows(&mut self, keep: bool) {
        self.keeps_flows = keep;
    }

    /// From now on it writes nothing, until [`Proxy::resync`].
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// kube-proxy's full sync, and the kubelet's: puts all chains and jumps right that others took away or changed.
    ///
    /// # Errors
    ///
    /// If a program refuses.
    pub fn resync(&mut self) -> Result<(), LabError> {
        self.held = false;
        let now = iptables::service_chains(&self.tables(Family::V4));
        for family in [Family::V4, Family::V6] {
            let found = self.netns.tool(&format!("{}-save", family.program(self.mode.program())), &[], "")?;
            let stale: Vec<&String> = match family {
                Family::V4 => self.written.difference(&now).collect(),
                Family::V6 => Vec::new(),
            };
            let text: String = self
                .tables(family)
                .iter()
                .map(|table| table.own_chains(&stale).replace("COMMIT\n", &(table.jumps_again(&found) + "COMMIT\n")))
                .collect();
            self.restore(family, &text, true)?;
        }
        self.written = now;
        if self.mode == Mode::Nftables {
            self.nft(&(nftables::table(&self.state, false) + &nftables::table(&self.state, true)))?;
        }
        self.forget_stale()
    }

    fn tables(&self, family: Family) -> Vec<Table> {
        iptables::tables(family, self.mode, &self.state)
    }

    fn restore(&self, family: Family, text: &str, keep: bool) -> Result<(), LabError> {
        let program = format!("{}-restore", family.program(self.mode.program()));
        // As kube-proxy, it gives up when somebody keeps the xtables lock; only the legacy backend has one.
        let wait: &[&str] = if self.mode == Mode::IptablesLegacy { &["-w", "1"] } else { &[] };
        let args: &[&str] = if keep { &["--noflush"] } else { &[] };
        self.netns.tool(&program, &[args, wait].concat(), text).map(|_| ())
    }

    fn nft(&self, text: &str) -> Result<(), LabError> {
        self.netns.tool("nft", &["-f", "-"], text).map(|_| ())
    }
}
