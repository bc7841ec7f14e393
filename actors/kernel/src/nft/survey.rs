//! `nft -j list chains`: which tables there are, at a small part of what listing all of them costs. On a node where
//! kube-proxy writes by iptables-nft, listing every table again in JSON takes seconds and tells nothing that `iptables-nft-save` does
//! not.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{NftError, Objects, Sink, native, text_of};
use serde::de::DeserializeSeed as _;

/// Most tables that are named.
const MAX_TABLES: usize = 256;

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Tables to be listed as wholes, by family and name: those that are not iptables' own, or that others hook into.
    pub tables: BTreeSet<(String, String)>,
    /// iptables-nft has a table here.
    pub iptables: bool,
    /// There are more tables than are named.
    pub truncated: bool,
}

/// Parses what `nft -j list chains` printed. Empty input is nothing at all.
///
/// # Errors
/// [`NftError::Json`] with line and column.
pub fn survey(json: &[u8]) -> Result<Survey, NftError> {
    let mut found = Survey::default();
    if !json.trim_ascii().is_empty() {
        let mut reader = serde_json::Deserializer::from_slice(json);
        Objects(&mut found).deserialize(&mut reader)?;
        reader.end()?;
    }
    Ok(found)
}

impl Sink for Survey {
    fn object(&mut self, object: &Value) {
        let Some(body) = object.get("chain") else { return };
        let (family, table, name) = (text_of(body, "family"), text_of(body, "table"), text_of(body, "name"));
        if table == crate::trace::TABLE {
            return;
        }
        if native::is_iptables_table(family, table) {
            self.iptables = true;
            if text_of(body, "hook").is_empty() || native::is_iptables_chain(family, table, name) {
                return;
            }
        }
        // The name goes into a command: nft's own grammar allows no more than this (nftables src/scanner.l, `string`).
        let plain =
            |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "/\\_.-".contains(c));
        if self.tables.len() >= MAX_TABLES || !plain(family) || !plain(table) || table.starts_with('-') {
            self.truncated = true;
        } else {
            self.tables.insert((family.to_owned(), table.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn chains(list: &[(&str, &str, &str, &str)]) -> Vec<u8> {
        let chain = |(family, table, name, hook): &(&str, &str, &str, &str)| {
            let mut body = serde_json::json!({"family": family, "table": table, "name": name, "handle": 1});
            if !hook.is_empty() {
                body["hook"] = (*hook).into();
            }
            serde_json::json!({ "chain": body })
        };
        let all: Vec<Value> = list.iter().map(chain).collect();
        serde_json::to_vec(&serde_json::json!({ "nftables": all })).unwrap()
    }

    #[test]
    fn only_tables_that_iptables_cannot_show_are_listed() {
        let found = survey(&chains(&[
            ("ip", "nat", "PREROUTING", "prerouting"),
            ("ip", "nat", "KUBE-SERVICES", ""),
            ("ip", "filter", "FORWARD", "forward"),
            ("inet", "firewalld", "filter_FORWARD", "forward"),
            ("ip", "kube-proxy", "services", ""),
        ]))
        .unwrap();
        let named: Vec<String> = found.tables.iter().map(|(f, t)| format!("{f} {t}")).collect();
        assert_eq!(
            (named.as_slice(), found.iptables),
            (["inet firewalld".to_owned(), "ip kube-proxy".into()].as_slice(), true)
        );
        // Somebody hooks into a table of iptables.
        let found = survey(&chains(&[("ip", "filter", "mine", "forward")])).unwrap();
        assert!(found.tables.contains(&("ip".to_owned(), "filter".to_owned())));
        assert_eq!(survey(b"").unwrap(), Survey::default());
        assert!(survey(b"{").is_err());
    }

    #[test]
    fn a_name_that_is_no_name_is_not_put_into_a_command() {
        let found = survey(&chains(&[("inet", "-f", "x", "input"), ("inet", "a b", "x", "input")])).unwrap();
        assert!(found.tables.is_empty() && found.truncated);
    }
}
