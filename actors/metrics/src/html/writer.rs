//! Writes HTML: markup from this source alone, everything else as text.

use std::fmt::Write as _;

use jiff::Timestamp;

/// The longest text that is shown in one place, in characters: what is read from the world has no length of its own.
const LONGEST: usize = 2000;

/// A page under way.
#[derive(Debug, Default)]
pub(super) struct Html {
    out: String,
}

impl Html {
    /// Markup. Only what stands in this source is `'static`: nothing from the world can get here.
    pub(super) fn raw(&mut self, markup: &'static str) {
        self.out.push_str(markup);
    }

    /// Text, escaped, also for attributes in quotes.
    pub(super) fn text(&mut self, text: &str) {
        for (n, c) in text.chars().enumerate() {
            if n == LONGEST {
                self.out.push('\u{2026}');
                break;
            }
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                '\n' | '\t' => self.out.push(' '),
                c if hides(c) => self.out.push('\u{fffd}'),
                c => self.out.push(c),
            }
        }
    }

    /// Texts, one after the other.
    pub(super) fn texts(&mut self, texts: &[&str]) {
        texts.iter().for_each(|text| self.text(text));
    }

    /// A text that may be broken after each slash, as in `namespace/name`.
    pub(super) fn broken(&mut self, text: &str) {
        for part in text.split_inclusive('/') {
            self.text(part);
            if part.ends_with('/') {
                self.raw("<wbr>");
            }
        }
    }

    /// An element and what is in it. `spec` is its name, with a class after a dot.
    pub(super) fn el(&mut self, spec: &'static str, inner: impl FnOnce(&mut Self)) {
        match spec.split_once('.') {
            Some((name, class)) => self.with(name, &[("class", class)], inner),
            None => self.with(spec, &[], inner),
        }
    }

    /// An element with attributes. Their values are escaped; none of them is a place where a script could stand.
    pub(super) fn with(
        &mut self,
        name: &'static str,
        attributes: &[(&'static str, &str)],
        inner: impl FnOnce(&mut Self),
    ) {
        self.out.push('<');
        self.out.push_str(name);
        for (key, value) in attributes {
            self.out.push(' ');
            self.out.push_str(key);
            self.out.push_str("=\"");
            self.text(value);
            self.out.push('"');
        }
        self.out.push('>');
        inner(self);
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        if !matches!(name, "span" | "b" | "strong" | "code" | "a" | "time") {
            self.out.push('\n');
        }
    }

    /// A moment: the time of the day, with the date for machines.
    pub(super) fn time(&mut self, at: Timestamp) {
        self.with("time", &[("datetime", &exact(at))], |html| html.text(&clock(at)));
    }

    /// Words for those who hear the page.
    pub(super) fn spoken(&mut self, text: &str) {
        self.el("span.spoken", |html| html.text(text));
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

/// To the second, in UTC.
pub(super) fn exact(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time of the day.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S UTC").to_string()
}

/// Microseconds, in milliseconds as people read them.
pub(super) fn milliseconds(us: u64) -> String {
    let mut text = String::new();
    // Whole numbers only: rounded to a tenth below 100 ms.
    let tenths = us.saturating_add(50) / 100;
    let _ = match tenths {
        0 => write!(text, "{}.{:02} ms", us / 1000, (us % 1000) / 10),
        1..1000 => write!(text, "{}.{} ms", tenths / 10, tenths % 10),
        _ => write!(text, "{} ms", (us + 500) / 1000),
    };
    text
}

/// What would hide or turn around the text beside it: control characters, and those that change its direction.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_the_world_is_text() {
        let mut html = Html::default();
        html.with("p", &[("title", "\"><script>alert(1)</script>")], |html| {
            html.text("<img src=x onerror='alert(\"1\")'> & \u{202e}evil\u{0}\nline")
        });
        assert_eq!(
            html.finish(),
            "<p title=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\">&lt;img src=x onerror=&#39;alert(&quot;1&quot;)&#39;&gt; &amp; \
             \u{fffd}evil\u{fffd} line</p>\n"
        );
    }

    #[test]
    fn text_has_an_end() {
        let mut html = Html::default();
        html.text(&"x".repeat(5000));
        assert_eq!(html.finish().chars().count(), LONGEST + 1);
    }

    #[test]
    fn times_are_short() {
        for (us, text) in [
            (4, "0.00 ms"),
            (49, "0.04 ms"),
            (50, "0.1 ms"),
            (940, "0.9 ms"),
            (1240, "1.2 ms"),
            (99_940, "99.9 ms"),
            (700_400, "700 ms"),
        ] {
            assert_eq!(milliseconds(us), text, "{us}");
        }
    }
}
