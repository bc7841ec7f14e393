//! A rule's words, apart and together again.

use std::fmt::Write as _;

use super::{MAX_WORDS, ParseError};

/// Words as `iptables-restore` splits them: by blanks; `"` opens and closes a quote, and `\` escapes within it alone.
///
/// # Errors
/// [`ParseError::OpenQuote`], [`ParseError::TooManyWords`].
pub fn split_words(body: &str, line: usize) -> Result<Vec<String>, ParseError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut escaped = false;
    for c in body.chars() {
        if quoted {
            let into = word.get_or_insert_default();
            match c {
                _ if escaped => {
                    into.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => into.push(c),
            }
        } else if c == '"' {
            quoted = true;
            word.get_or_insert_default();
        } else if c == ' ' || c == '\t' {
            words.extend(word.take());
            if words.len() > MAX_WORDS {
                return Err(ParseError::TooManyWords { line });
            }
        } else {
            word.get_or_insert_default().push(c);
        }
    }
    if quoted {
        return Err(ParseError::OpenQuote { line });
    }
    words.extend(word);
    Ok(words)
}

/// Words with a blank before each, quoted where splitting would not give them back.
pub(super) struct Words<'a>(pub(super) &'a [String]);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for word in self.0 {
            if !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '"') {
                write!(f, " {word}")?;
                continue;
            }
            f.write_str(" \"")?;
            for c in word.chars() {
                if c == '"' || c == '\\' {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
            f.write_char('"')?;
        }
        Ok(())
    }
}
