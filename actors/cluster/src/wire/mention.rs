//! Whether a container is told a name of the cluster: of its command, arguments and environment nothing else is kept.

use serde::{Deserialize, Deserializer};

use super::nullable;

/// Longest name, RFC 1035 section 2.3.4.
const LONGEST: usize = 253;

/// The first name of a Service in a text: `service.namespace.svc`, with or without more behind it.
pub(super) fn mention(text: &str) -> Option<String> {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let mut words = text.split(|c| !of_a_name(c)).map(|word| word.trim_matches('.')).filter(|w| w.len() <= LONGEST);
    words.find(|word| word.split('.').position(|label| label == "svc").is_some_and(|at| at >= 2)).map(str::to_owned)
}

/// Of a list of texts.
pub(super) fn in_words<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let words: Vec<String> = nullable(from)?;
    Ok(words.iter().find_map(|word| mention(word)))
}

/// Of an environment.
pub(super) fn in_environment<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Variable {
        #[serde(deserialize_with = "nullable")]
        value: String,
    }
    let variables: Vec<Variable> = nullable(from)?;
    Ok(variables.iter().find_map(|variable| mention(&variable.value)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use crate::wire::PodSpec;

    use super::*;

    #[test]
    fn a_table_of_texts() {
        let table = [
            ("http://cart.shop.svc:8080/x", Some("cart.shop.svc")),
            ("redis://user:secret@cache.shop.svc.cluster.local.", Some("cache.shop.svc.cluster.local")),
            ("--a=b,--server=x.y.svc", Some("x.y.svc")),
            ("svc.cluster.local", None),
            ("x.svc", None),
            ("lib.so.svc2", None),
            ("/usr/svc/x.y", None),
            ("", None),
        ];
        for (text, name) in table {
            assert_eq!(mention(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn only_the_name_is_kept_of_a_container() {
        let text = r#"{"containers":[
            {"name":"a","command":["/a"],"args":null,"env":[{"name":"X","valueFrom":{}},{"name":"Y","value":null}]},
            {"name":"b","args":["--to","http://cart.shop.svc"],"env":[{"name":"P","value":"secret@db.shop.svc"}]}]}"#;
        let spec: PodSpec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.containers[0].names_cluster(), None);
        assert_eq!(spec.containers[1].names_cluster(), Some("cart.shop.svc"));
        assert!(!format!("{spec:?}").contains("secret"));
    }
}
