//! Text that goes into objects of the API: bounded, and one line.

/// One line of at most so many bytes: control characters become blanks (as JSON each would take six bytes), and what is
/// missing is said by three dots.
#[must_use]
pub fn line(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    if text.len() <= most {
        return text.chars().map(plain).collect();
    }
    let end = text.floor_char_boundary(most.saturating_sub(3));
    text.chars().take(text[..end].chars().count()).map(plain).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_is_bounded_in_bytes_and_stays_one() {
        assert_eq!(line("short", 600), "short");
        assert_eq!(line("two\nlines\u{1}", 600), "two lines ");
        let long = line(&"ä".repeat(400), 601);
        assert!(long.len() <= 601 && long.ends_with("ä..."), "{long}");
        // Cut twice is cut once: whoever compares lines finds them equal.
        assert_eq!(line(&long, 601), long);
        assert_eq!(line(&line(&"x\n".repeat(500), 600), 600), line(&"x\n".repeat(500), 600));
    }
}
