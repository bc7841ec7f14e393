//! The tables that neither kube-proxy nor iptables made, in a bounded form: chains with their hooks, rules as nft's own
//! JSON, sets and maps by name. What a rule means is found out when a packet is walked through it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text;

/// Most rules that are kept of all foreign tables together.
pub const MAX_RULES: usize = 20_000;
/// Most chains.
pub const MAX_CHAINS: usize = 4_000;
/// Most elements that are kept of all sets and maps together.
pub const MAX_ELEMENTS: usize = 100_000;
/// Most statements of one rule.
const MAX_STATEMENTS: usize = 64;

/// Foreign tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Native {
    /// In the order of the dump.
    pub tables: Vec<NativeTable>,
    /// More was there than is kept: nothing may be concluded from what is absent.
    #[serde(default)]
    pub truncated: bool,
    /// Whether iptables-nft has a table here (`ip filter` and its like): `iptables-nft-save` shows it.
    #[serde(default)]
    pub iptables: bool,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeTable {
    /// `inet`, `ip`, `ip6`, `bridge`, `netdev`, `arp`.
    pub family: String,
    /// Its name.
    pub name: String,
    /// Its chains.
    pub chains: Vec<NativeChain>,
    /// Elements of sets and maps by name, as nft prints them.
    pub sets: BTreeMap<String, Vec<Value>>,
}

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeChain {
    /// Its name.
    pub name: String,
    /// Where it hooks in, if it does.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<NativeRule>,
}

/// Where a base chain hooks in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// `filter`, `nat`, `route`.
    pub kind: String,
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`, `ingress`, `egress`.
    pub hook: String,
    /// Its priority: lower comes first.
    pub priority: i64,
    /// Whether its policy is drop.
    pub drop: bool,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeRule {
    /// Its handle: what a trace names it by.
    pub handle: u64,
    /// Packets counted by its own counter, if it has one.
    pub packets: Option<u64>,
    /// Its statements, as `nft -j` prints them.
    pub expr: Vec<Value>,
    /// For people, nearly as nft prints it.
    pub text: String,
}

impl NativeTable {
    /// A chain by its name.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<&NativeChain> {
        self.chains.iter().find(|c| c.name == name)
    }

    /// As evidence names it: `inet filter`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.family, self.name)
    }
}

/// iptables-nft's own chains have fixed names in fixed tables.
#[must_use]
pub(crate) fn is_iptables_table(family: &str, table: &str) -> bool {
    matches!(family, "ip" | "ip6") && matches!(table, "filter" | "nat" | "mangle" | "raw" | "security")
}

/// See [`is_iptables_table`].
#[must_use]
pub(super) fn is_iptables_chain(family: &str, table: &str, chain: &str) -> bool {
    is_iptables_table(family, table) && matches!(chain, "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING")
}

/// Foreign tables while they are gathered.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    native: Native,
    rules: usize,
    chains: usize,
    elements: usize,
}

impl Gathering {
    /// Takes one object of the dump that is not kube-proxy's.
    pub(super) fn object(&mut self, kind: &str, family: &str, table: &str, body: &Value) {
        if is_iptables_table(family, table) {
            self.native.iptables = true;
        }
        match kind {
            "chain" => self.chain(family, table, body),
            "set" | "map" => self.set(family, table, body),
            "rule" => self.rule(family, table, body),
            _ => {}
        }
    }

    pub(super) fn finish(mut self) -> Native {
        // A table of iptables is read by its own program; what else hooks in there is kept, with what it may lead to.
        self.native.tables.retain(|t| t.chains.iter().any(|c| c.base.is_some()));
        self.native
    }

    fn table(&mut self, family: &str, name: &str) -> &mut NativeTable {
        let at = match self.native.tables.iter().position(|t| t.family == family && t.name == name) {
            Some(at) => at,
            None => {
                self.native.tables.push(NativeTable {
                    family: family.to_owned(),
                    name: name.to_owned(),
                    ..NativeTable::default()
                });
                self.native.tables.len() - 1
            }
        };
        &mut self.native.tables[at]
    }

    fn chain(&mut self, family: &str, table: &str, body: &Value) {
        let name = super::text_of(body, "name");
        if is_iptables_chain(family, table, name) {
            return;
        }
        self.chains += 1;
        if self.chains > MAX_CHAINS {
            self.native.truncated = true;
            return;
        }
        let hook = super::text_of(body, "hook");
        let base = (!hook.is_empty()).then(|| Base {
            kind: super::text_of(body, "type").to_owned(),
            hook: hook.to_owned(),
            priority: body.get("prio").and_then(Value::as_i64).unwrap_or_default(),
            drop: super::text_of(body, "policy") == "drop",
        });
        self.table(family, table).chains.push(NativeChain { name: name.to_owned(), base, rules: Vec::new() });
    }

    fn set(&mut self, family: &str, table: &str, body: &Value) {
        if is_iptables_table(family, table) {
            return;
        }
        let elements = body.get("elem").and_then(Value::as_array).cloned().unwrap_or_default();
        self.elements += elements.len();
        if self.elements > MAX_ELEMENTS {
            self.native.truncated = true;
            return;
        }
        self.table(family, table).sets.insert(super::text_of(body, "name").to_owned(), elements);
    }

    fn rule(&mut self, family: &str, table: &str, body: &Value) {
        let chain = super::text_of(body, "chain");
        let known = |t: &NativeTable| t.chains.iter().any(|c| c.base.is_some());
        // Chains come before rules: a table of iptables without a foreign base chain needs none of its rules here.
        if is_iptables_table(family, table)
            && !self.native.tables.iter().any(|t| t.family == family && t.name == table && known(t))
        {
            return;
        }
        self.rules += 1;
        if self.rules > MAX_RULES {
            self.native.truncated = true;
            return;
        }
        let expr: Vec<Value> = body.get("expr").and_then(Value::as_array).cloned().unwrap_or_default();
        if expr.len() > MAX_STATEMENTS {
            self.native.truncated = true;
            return;
        }
        let packets = expr.iter().find_map(|s| s.get("counter")?.get("packets")?.as_u64());
        let rule = NativeRule {
            handle: body.get("handle").and_then(Value::as_u64).unwrap_or_default(),
            packets,
            text: text::rule(&expr, super::text_of(body, "comment")),
            expr,
        };
        let into = self.table(family, table);
        if let Some(chain) = into.chains.iter_mut().find(|c| c.name == chain) {
            chain.rules.push(rule);
        }
    }
}
