//! A rule for people, nearly as `nft list` prints it.

use serde_json::Value;

/// Longest text of a rule, characters.
const LONGEST: usize = 300;

/// The statements of a rule in nft's words, without counters.
pub(super) fn rule(expr: &[Value], comment: &str) -> String {
    let mut words: Vec<String> = expr.iter().filter_map(statement).collect();
    if !comment.is_empty() {
        words.push(format!("comment \"{comment}\""));
    }
    shortened(words.join(" "))
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn statement(of: &Value) -> Option<String> {
    let (kind, body) = of.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "counter" => return None,
        "match" => {
            let op = body.get("op").and_then(Value::as_str).unwrap_or("==");
            let (left, right) = (side(body.get("left")), side(body.get("right")));
            if matches!(op, "==" | "in") { format!("{left} {right}") } else { format!("{left} {op} {right}") }
        }
        "jump" | "goto" => format!("{kind} {}", body.get("target").and_then(Value::as_str).unwrap_or_default()),
        "reject" => match (body.get("type").and_then(Value::as_str), body.get("expr").and_then(Value::as_str)) {
            (Some(with), Some(code)) => format!("reject with {with} {code}"),
            (Some(with), None) => format!("reject with {with}"),
            _ => "reject".to_owned(),
        },
        "vmap" => format!("{} vmap {}", side(body.get("key")), side(body.get("data"))),
        "dnat" | "redirect" | "snat" => {
            let part = |key| body.get(key).map(|v| side(Some(v))).unwrap_or_default();
            let (address, port) = (part("addr"), part("port"));
            match (address.is_empty(), port.is_empty()) {
                (true, true) => kind.clone(),
                (false, true) => format!("{kind} to {address}"),
                _ => format!("{kind} to {address}:{port}"),
            }
        }
        "mangle" => format!("{} set {}", side(body.get("key")), side(body.get("value"))),
        "log" => "log".to_owned(),
        "limit" => format!("limit rate {}", side(body.get("rate"))),
        "xt" => format!("xt {}", body.get("name").and_then(Value::as_str).unwrap_or("?")),
        _ if body.is_null() => kind.clone(),
        _ => format!("{kind} {body}"),
    })
}

fn side(of: Option<&Value>) -> String {
    let Some(of) = of else { return "?".to_owned() };
    match of {
        Value::String(text) => text.clone(),
        Value::Array(list) => joined(list, ","),
        Value::Object(map) => {
            let Some((kind, body)) = map.iter().next() else { return "?".to_owned() };
            let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
            match kind.as_str() {
                "payload" => format!("{} {}", text("protocol"), text("field")),
                "meta" if matches!(text("key"), "iif" | "oif" | "iifname" | "oifname") => text("key").to_owned(),
                "meta" => format!("meta {}", text("key")),
                "ct" => ["ct", text("dir"), text("key")].join(" ").replace("  ", " "),
                "prefix" => format!("{}/{}", text("addr"), side(body.get("len"))),
                "range" => body.as_array().map(|r| joined(r, "-")).unwrap_or_default(),
                "set" => format!("{{ {} }}", body.as_array().map(|s| joined(s, ", ")).unwrap_or_default()),
                "concat" => body.as_array().map(|s| joined(s, " . ")).unwrap_or_default(),
                "&" | "|" | "^" => body.as_array().map(|s| joined(s, &format!(" {kind} "))).unwrap_or_default(),
                "fib" => format!("fib {} {}", side(body.get("flags")), text("result")),
                "elem" => side(body.get("val")),
                "jump" | "goto" => format!("{kind} {}", text("target")),
                _ if body.is_null() => kind.clone(),
                _ => of.to_string(),
            }
        }
        other => other.to_string(),
    }
}

fn joined(list: &[Value], with: &str) -> String {
    // A pair of a map is a list within the list.
    let one = |v: &Value| match v {
        Value::Array(pair) if pair.len() == 2 && with == ", " => {
            format!("{} : {}", side(pair.first()), side(pair.get(1)))
        }
        other => side(Some(other)),
    };
    list.iter().take(32).map(one).collect::<Vec<_>>().join(with)
}
