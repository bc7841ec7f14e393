//! A small validator of the Prometheus text format, version 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// Every sample: its name with labels, and its value.
pub(crate) fn validate(text: &str) -> Result<BTreeMap<String, f64>, String> {
    let mut helped = BTreeSet::new();
    let mut typed: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut current = "";
    if !text.ends_with('\n') {
        return Err("does not end with a line feed".to_owned());
    }
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').ok_or_else(|| format!("empty help: {line}"))?;
            if help.is_empty() || !helped.insert(name) {
                return Err(format!("help is empty or given twice: {line}"));
            }
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
            if !helped.contains(name) || typed.insert(name, kind).is_some() {
                return Err(format!("type without help, or given twice: {line}"));
            }
            current = name;
        } else {
            let (series, value) = sample(line)?;
            let name = series.split('{').next().unwrap_or_default();
            let base = match typed.get(current) {
                Some(&"histogram") => ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)),
                _ => Some(name),
            };
            if base != Some(current) {
                return Err(format!("{name} stands under {current}"));
            }
            if samples.insert(series.to_owned(), value).is_some() {
                return Err(format!("given twice: {series}"));
            }
        }
    }
    Ok(samples)
}

/// Splits a sample at the blank behind its labels, minding quotes and escapes.
fn sample(line: &str) -> Result<(&str, f64), String> {
    let (mut quoted, mut escaped, mut split) = (false, false, None);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => split = split.or(Some(at)),
            _ => {}
        }
    }
    let (series, value) = line.split_at(split.ok_or_else(|| format!("no value: {line}"))?);
    let name = series.split('{').next().unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err(format!("illegal name: {line}"));
    }
    if series.contains('{') && !series.ends_with('}') {
        return Err(format!("labels do not end: {line}"));
    }
    let value = value.trim().parse().map_err(|_| format!("no number: {line}"))?;
    Ok((series, value))
}

#[test]
fn finds_faults() {
    let head = "# HELP a A.\n# TYPE a gauge\n";
    assert!(validate(&format!("{head}a{{x=\"b \\\" c\"}} 1\na 2\n")).is_ok());
    for bad in ["a 1\na 2\n", "b 1\n", "a{x=\"1\" 1\n", "a one\n", "# TYPE b gauge\nb 1\n", "# HELP a A.\n", "a 1"] {
        assert!(validate(&format!("{head}{bad}")).is_err(), "{bad}");
    }
}
