//! `iptables-save -c`, parsed. (Skeleton: the fields are the contract, the parser is to be written.)

use serde::{Deserialize, Serialize};

/// All tables of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSet {
    /// In the order of the dump.
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// `filter`, `nat`, …
    pub name: String,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// `ACCEPT` or `DROP` for a built-in chain.
    pub policy: Option<String>,
    /// Packets that met the policy.
    pub policy_packets: u64,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Packets that matched.
    pub packets: u64,
    /// `-j` or `-g`.
    pub target: Option<String>,
    /// The rule as words without `-A CHAIN`, quotes resolved.
    pub words: Vec<String>,
}
