//! Reads of a PromQL expression what it is about: which metrics, with which labels. Not its arithmetic.

use std::collections::BTreeSet;

/// One selector: a metric with its matchers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// Label and value, as written.
    pub(crate) matchers: Vec<(String, String)>,
}

/// What an expression is about.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) selectors: Vec<Selector>,
    /// Labels of `by`, `without`, `on`, `ignoring` and the groups.
    pub(crate) groupings: BTreeSet<String>,
}

const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Panics on what it cannot read: this is a test.
pub(crate) fn parse(text: &str) -> Query {
    let mut query = Query::default();
    let tokens = tokens(text);
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at].as_str();
        let next = tokens.get(at + 1).map_or("", String::as_str);
        at += 1;
        let word = token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
        if !word || WORDS.contains(&token) {
            continue;
        }
        if LISTS.contains(&token) {
            // A group may stand without a list.
            if next == "(" {
                let end = close(&tokens, at, ")");
                query.groupings.extend(tokens[at + 1..end].iter().filter(|t| *t != ",").cloned());
                at = end + 1;
            }
        } else if next == "{" {
            let end = close(&tokens, at, "}");
            let parts: Vec<&[String]> = tokens[at + 1..end].split(|t| t == ",").filter(|p| !p.is_empty()).collect();
            let matcher = |part: &&[String]| match part {
                [label, _, value] => (label.clone(), value.trim_matches('"').to_owned()),
                other => panic!("{text}: {other:?}"),
            };
            query.selectors.push(Selector { metric: token.to_owned(), matchers: parts.iter().map(matcher).collect() });
            at = end + 1;
        } else if next != "(" && !LISTS.contains(&next) {
            query.selectors.push(Selector { metric: token.to_owned(), matchers: vec![] });
        }
        // Else a function, or an aggregation whose labels come first.
    }
    query
}

fn close(tokens: &[String], from: usize, with: &str) -> usize {
    from + tokens[from..].iter().position(|t| t == with).unwrap_or_else(|| panic!("{with} is missing: {tokens:?}"))
}

/// Words, strings, numbers with their units, and single signs. Ranges are dropped whole.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => rest[1..].find('"').unwrap_or_else(|| panic!("{text}")) + 2,
            '[' => rest.find(']').unwrap_or_else(|| panic!("{text}")) + 1,
            '=' | '!' | '<' | '>' if rest[1..].starts_with(['=', '~']) => 2,
            c if c.is_ascii_alphanumeric() || "_:.$".contains(c) => {
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_:.$".contains(c))).unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        if !token.trim().is_empty() && first != '[' {
            tokens.push(token.to_owned());
        }
    }
    tokens
}

#[test]
fn reads_what_is_written() {
    let query = parse(
        "sum by (a, le) (rate(x_bucket{l=\"1\",m=~\"a|b\"}[5m] offset 1h)) / on (c) group_left max(y) > bool 0.5 or up unless count(z{})",
    );
    let names: Vec<&str> = query.selectors.iter().map(|s| s.metric.as_str()).collect();
    assert_eq!(names, ["x_bucket", "y", "up", "z"]);
    assert_eq!(query.selectors[0].matchers, [("l".to_owned(), "1".to_owned()), ("m".to_owned(), "a|b".to_owned())]);
    assert_eq!(query.groupings.into_iter().collect::<Vec<_>>(), ["a", "c", "le"]);
}
