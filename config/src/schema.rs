//! The JSON schema of [`Config`], and what a value must be to fit it.

use std::net::SocketAddr;

use serde_json::Value as Json;

use crate::settings::Config;
use crate::text::{Bytes, Period};

/// The JSON schema of the configuration file, for editors and `nameward config schema`.
#[must_use]
pub fn json_schema() -> Json {
    let mut schema = schemars::schema_for!(Config).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), Json::from("Nameward configuration"));
    }
    schema
}

/// One place of the schema, its reference resolved.
pub(crate) struct Node {
    root: std::sync::Arc<Json>,
    here: Json,
    /// Name in `$defs`, if it came by a reference.
    def: Option<String>,
}

pub(crate) fn root() -> Node {
    let root = std::sync::Arc::new(json_schema());
    Node { here: (*root).clone(), root, def: None }
}

impl Node {
    fn resolve(&self, json: &Json) -> Self {
        let name = json.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
        match name {
            Some(name) => Self {
                root: self.root.clone(),
                here: self.root.pointer(&format!("/$defs/{name}")).cloned().unwrap_or_default(),
                def: Some(name.to_owned()),
            },
            None => Self { root: self.root.clone(), here: json.clone(), def: None },
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        self.here.get("type").and_then(Json::as_str) == Some("object")
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        if let Some(names) = self.here.pointer("/propertyNames/enum").and_then(Json::as_array) {
            return names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect();
        }
        let properties = self.here.get("properties").and_then(Json::as_object);
        properties.map(|p| p.keys().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn child(&self, key: &str) -> Option<Self> {
        if !self.keys().iter().any(|k| k == key) {
            return None;
        }
        let found =
            self.here.pointer(&format!("/properties/{key}")).or_else(|| self.here.get("additionalProperties"))?;
        Some(self.resolve(found))
    }

    pub(crate) fn items(&self) -> Option<Self> {
        self.here.get("items").map(|items| self.resolve(items))
    }

    /// The message for a key that is not there, with the nearest one that is.
    pub(crate) fn unknown(&self, key: &str) -> String {
        let keys = self.keys();
        let nearest = keys.iter().min_by_key(|k| distance(k, key)).filter(|k| distance(k, key) <= key.len().max(3) / 2);
        let nearest = nearest.or_else(|| keys.iter().find(|k| k.starts_with(key)));
        match nearest {
            Some(near) => format!("unknown key; did you mean `{near}`?"),
            None => format!("unknown key; known here: {}", keys.join(", ")),
        }
    }

    fn wanted(&self) -> &str {
        if self.here.get("oneOf").is_some() || self.here.get("enum").is_some() {
            return "a string";
        }
        match self.here.get("type").and_then(Json::as_str) {
            Some("object") => "a table",
            Some("array") => "an array",
            Some("integer") => "a whole number",
            Some("number") => "a number",
            Some("boolean") => "true or false",
            _ => "a string",
        }
    }

    pub(crate) fn wrong_type(&self, got: &str) -> String {
        format!("must be {}, not {got}", self.wanted())
    }

    fn choices(&self) -> Vec<&str> {
        let consts = self.here.get("oneOf").and_then(Json::as_array).into_iter().flatten();
        let consts = consts.filter_map(|c| c.get("const").and_then(Json::as_str));
        let plain = self.here.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        consts.chain(plain).collect()
    }

    /// What is wrong with a scalar, if anything.
    pub(crate) fn check(&self, value: &toml::Value) -> Option<String> {
        match (self.wanted(), value) {
            ("a whole number", toml::Value::Integer(i)) => {
                let max = match self.here.get("format").and_then(Json::as_str) {
                    Some("uint16") => i64::from(u16::MAX),
                    Some("uint32") => i64::from(u32::MAX),
                    _ => i64::MAX,
                };
                (*i < 0 || *i > max).then(|| format!("must be from 0 to {max}, not {i}"))
            }
            ("a number", toml::Value::Float(_) | toml::Value::Integer(_))
            | ("true or false", toml::Value::Boolean(_)) => None,
            ("a string", toml::Value::String(text)) => self.check_text(text),
            _ => Some(self.wrong_type(match value {
                toml::Value::String(_) => "a string",
                toml::Value::Integer(_) => "a whole number",
                toml::Value::Float(_) => "a number",
                toml::Value::Boolean(_) => "true or false",
                toml::Value::Datetime(_) => "a date",
                toml::Value::Array(_) => "an array",
                toml::Value::Table(_) => "a table",
            })),
        }
    }

    fn check_text(&self, text: &str) -> Option<String> {
        let choices = self.choices();
        if !choices.is_empty() {
            let fits = choices.contains(&text);
            return (!fits).then(|| format!("`{text}` is not one of {}", choices.join(", ")));
        }
        if self.here.get("format").and_then(Json::as_str) == Some("ip-port") {
            let fits = text.parse::<SocketAddr>().is_ok();
            return (!fits)
                .then(|| format!("`{text}` is not an address with port such as 127.0.0.1:9890 or [::]:9890"));
        }
        match self.def.as_deref() {
            Some("Period") => text.parse::<Period>().err().map(|e| e.to_string()),
            Some("Bytes") => text.parse::<Bytes>().err().map(|e| e.to_string()),
            _ => None,
        }
    }

    /// Reads a text from the environment as what this place wants.
    pub(crate) fn read_text(&self, text: &str) -> Result<toml::Value, String> {
        let not = || format!("`{text}` is not {}", self.wanted());
        let value = match self.wanted() {
            "a whole number" => toml::Value::Integer(text.parse().map_err(|_| not())?),
            "a number" => toml::Value::Float(text.parse().map_err(|_| not())?),
            "true or false" => toml::Value::Boolean(text.parse().map_err(|_| not())?),
            "an array" => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect())
            }
            "a table" => return Err("is a section: name one of its keys".to_owned()),
            _ => toml::Value::String(text.to_owned()),
        };
        match (&value, self.items()) {
            (toml::Value::Array(items), Some(node)) => {
                items.iter().find_map(|item| node.check(item)).map_or(Ok(value.clone()), Err)
            }
            _ => self.check(&value).map_or(Ok(value.clone()), Err),
        }
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
