//! `iptables-save`, parsed: tables, chains with their policies and counters, rules as words.
//!
//! What is parsed is bounded (lines, length of a line, words of a rule) and whole: a dump that breaks off within a table is
//! an error, since a rule that was not read looks like a rule that is not there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

mod about;
#[cfg(test)]
mod tests;
mod words;

pub use about::{about, parse_about};

use words::Words;
pub use words::split_words;

/// Most lines of one dump.
pub const MAX_LINES: usize = 1_000_000;
/// Longest line, bytes.
pub const MAX_LINE: usize = 16 * 1024;
/// Most words of one rule.
pub const MAX_WORDS: usize = 1024;

/// All tables of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSet {
    /// In the order of the dump.
    pub tables: Vec<Table>,
    /// Tables or chains that iptables cannot show because another program wrote them, as its comments name them.
    #[serde(default)]
    pub incompatible: Vec<String>,
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

/// Why a dump could not be parsed. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The dump is not UTF-8.
    #[error("line {line}: not UTF-8")]
    NotUtf8 {
        /// Where.
        line: usize,
    },
    /// More than [`MAX_LINES`].
    #[error("line {line}: more than {MAX_LINES} lines")]
    TooManyLines {
        /// Where.
        line: usize,
    },
    /// Longer than [`MAX_LINE`].
    #[error("line {line}: longer than {MAX_LINE} bytes")]
    LineTooLong {
        /// Where.
        line: usize,
    },
    /// More than [`MAX_WORDS`].
    #[error("line {line}: more than {MAX_WORDS} words")]
    TooManyWords {
        /// Where.
        line: usize,
    },
    /// A chain, rule or `COMMIT` before any `*table`.
    #[error("line {line}: no table is open")]
    NoTable {
        /// Where.
        line: usize,
    },
    /// A `*table` before the `COMMIT` of the last one.
    #[error("line {line}: table {table} was not committed")]
    NotCommitted {
        /// Where.
        line: usize,
        /// The table left open.
        table: String,
    },
    /// A rule for a chain that the table does not declare.
    #[error("line {line}: chain {chain} is not declared")]
    UnknownChain {
        /// Where.
        line: usize,
        /// The chain.
        chain: String,
    },
    /// One table names a chain twice: what is in it would depend on which is meant.
    #[error("line {line}: chain {chain} is declared twice")]
    ChainTwice {
        /// Counted from 1.
        line: usize,
        /// Its name.
        chain: String,
    },
    /// Counters that are not `[packets:bytes]`.
    #[error("line {line}: counters are not [packets:bytes]")]
    BadCounters {
        /// Where.
        line: usize,
    },
    /// A quote that does not end.
    #[error("line {line}: a quote does not end")]
    OpenQuote {
        /// Where.
        line: usize,
    },
    /// Anything else.
    #[error("line {line}: neither table, chain, rule nor COMMIT")]
    Unknown {
        /// Where.
        line: usize,
    },
}

impl RuleSet {
    /// A table by its name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.name == name)
    }

    /// A chain by its table and name.
    #[must_use]
    pub fn chain(&self, table: &str, chain: &str) -> Option<&Chain> {
        self.table(table)?.chain(chain)
    }

    /// The dump again, with counters (bytes as 0): parsing it gives an equal rule set.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        for note in &self.incompatible {
            let _ = writeln!(out, "# {note}");
        }
        for table in &self.tables {
            let _ = writeln!(out, "*{}", table.name);
            for chain in &table.chains {
                let policy = chain.policy.as_deref().unwrap_or("-");
                let _ = writeln!(out, ":{} {policy} [{}:0]", chain.name, chain.policy_packets);
            }
            for chain in &table.chains {
                for rule in &chain.rules {
                    let _ = writeln!(out, "[{}:0] -A {}{}", rule.packets, chain.name, Words(&rule.words));
                }
            }
            out.push_str("COMMIT\n");
        }
        out
    }
}

impl Table {
    /// A chain by its name.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == name)
    }
}

impl Chain {
    /// Whether one of its rules jumps or goes to a chain or target.
    #[must_use]
    pub fn jumps_to(&self, target: &str) -> bool {
        self.rules.iter().any(|r| r.target.as_deref() == Some(target))
    }
}

impl Rule {
    /// From its words, the target taken from them.
    #[must_use]
    pub fn from_words(packets: u64, words: Vec<String>) -> Self {
        let mut rule = Self { packets, target: None, words };
        rule.target = rule.arg("-j").or_else(|| rule.arg("-g")).map(str::to_owned);
        rule
    }

    /// Whether the words stand in the rule in this order, side by side and not negated; a comment's text does not count.
    #[must_use]
    pub fn has(&self, words: &[&str]) -> bool {
        if words.is_empty() {
            return true;
        }
        (0..self.words.len()).any(|at| {
            !self.is_value_of_comment(at)
                && !self.is_negated(at)
                && self.words.get(at..at + words.len()).is_some_and(|w| w.iter().zip(words).all(|(a, b)| a == b))
        })
    }

    /// The value of an option that is not negated, such as `-d` or `--dport`.
    #[must_use]
    pub fn arg(&self, option: &str) -> Option<&str> {
        let at = (0..self.words.len())
            .find(|at| self.words[*at] == option && !self.is_value_of_comment(*at) && !self.is_negated(*at))?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// As `iptables-save` writes it behind `-A CHAIN`.
    #[must_use]
    pub fn text(&self) -> String {
        Words(&self.words).to_string().trim_start().to_owned()
    }

    /// The comment, if there is one.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.arg("--comment")
    }

    /// Where a `DNAT` rule sends to, when it names one address and port. A range or an address alone is `None`.
    #[must_use]
    pub fn dnat_to(&self) -> Option<SocketAddr> {
        if self.target.as_deref() != Some("DNAT") {
            return None;
        }
        self.arg("--to-destination")?.parse().ok()
    }

    /// Whether the rule is for this one destination address (`-d ADDRESS/32`, `/128` or without prefix).
    #[must_use]
    pub fn is_to(&self, ip: IpAddr) -> bool {
        let Some(text) = self.arg("-d") else { return false };
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let whole = if ip.is_ipv4() { "32" } else { "128" };
        (prefix.is_empty() || prefix == whole) && address.parse() == Ok(ip)
    }

    fn is_negated(&self, at: usize) -> bool {
        at > 0 && self.words[at - 1] == "!" && !self.is_value_of_comment(at - 1)
    }

    fn is_value_of_comment(&self, at: usize) -> bool {
        // `--comment --comment` names a comment with that text: count back over a run of the word.
        let run = self.words[..at].iter().rev().take_while(|w| *w == "--comment").count();
        run % 2 == 1
    }
}

/// Parses what `iptables-save` printed, with or without `-c`.
///
/// # Errors
/// [`ParseError`] names the line.
pub fn parse(text: &str) -> Result<RuleSet, ParseError> {
    let mut set = RuleSet::default();
    let mut open: Option<Table> = None;
    // A large cluster has tens of thousands of chains: a rule finds its own by name.
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    for (at, raw) in text.lines().enumerate() {
        let line = at + 1;
        if line > MAX_LINES {
            return Err(ParseError::TooManyLines { line });
        }
        if raw.len() > MAX_LINE {
            return Err(ParseError::LineTooLong { line });
        }
        let body = raw.trim();
        match body.as_bytes().first() {
            None => {}
            Some(b'#') => {
                let note = body.trim_start_matches('#').trim_start();
                if note.contains("incompatible") {
                    set.incompatible.push(note.to_owned());
                }
            }
            Some(b'*') => {
                if let Some(table) = open.replace(Table { name: body[1..].to_owned(), chains: Vec::new() }) {
                    return Err(ParseError::NotCommitted { line, table: table.name });
                }
                index.clear();
            }
            Some(b':') => {
                let table = open.as_mut().ok_or(ParseError::NoTable { line })?;
                let chain = chain_line(&body[1..], line)?;
                if index.insert(chain.name.clone(), table.chains.len()).is_some() {
                    return Err(ParseError::ChainTwice { line, chain: chain.name });
                }
                table.chains.push(chain);
            }
            Some(b'[' | b'-') => {
                let table = open.as_mut().ok_or(ParseError::NoTable { line })?;
                rule_line(table, &index, body, line)?;
            }
            Some(_) if body == "COMMIT" => set.tables.push(open.take().ok_or(ParseError::NoTable { line })?),
            Some(_) => return Err(ParseError::Unknown { line }),
        }
    }
    match open {
        None => Ok(set),
        Some(table) => Err(ParseError::NotCommitted { line: text.lines().count(), table: table.name }),
    }
}

/// [`parse`] of bytes, for what a child process printed and for fuzzing.
///
/// # Errors
/// [`ParseError`] names the line.
pub fn parse_bytes(bytes: &[u8]) -> Result<RuleSet, ParseError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            Err(ParseError::NotUtf8 { line: 1 + before.split(|b| *b == b'\n').count().saturating_sub(1) })
        }
    }
}

fn chain_line(body: &str, line: usize) -> Result<Chain, ParseError> {
    let mut words = body.split_whitespace();
    let (Some(name), Some(policy)) = (words.next(), words.next()) else {
        return Err(ParseError::Unknown { line });
    };
    let policy_packets = match words.next() {
        Some(counters) => packets(counters).ok_or(ParseError::BadCounters { line })?,
        None => 0,
    };
    let policy = (policy != "-").then(|| policy.to_owned());
    Ok(Chain { name: name.to_owned(), policy, policy_packets, rules: Vec::new() })
}

fn rule_line(table: &mut Table, index: &BTreeMap<String, usize>, body: &str, line: usize) -> Result<(), ParseError> {
    let (count, body) = match body.split_once(' ') {
        Some((counters, rest)) if counters.starts_with('[') => {
            (packets(counters).ok_or(ParseError::BadCounters { line })?, rest)
        }
        None if body.starts_with('[') => return Err(ParseError::Unknown { line }),
        Some(_) | None => (0, body),
    };
    let mut words = split_words(body, line)?;
    if words.len() < 2 || words[0] != "-A" {
        return Err(ParseError::Unknown { line });
    }
    let rule = Rule::from_words(count, words.split_off(2));
    match index.get(&words[1]).and_then(|at| table.chains.get_mut(*at)) {
        Some(chain) => chain.rules.push(rule),
        None => return Err(ParseError::UnknownChain { line, chain: words.swap_remove(1) }),
    }
    Ok(())
}

/// `[packets:bytes]`.
fn packets(counters: &str) -> Option<u64> {
    let (packets, bytes) = counters.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
    bytes.parse::<u64>().ok()?;
    packets.parse().ok()
}
