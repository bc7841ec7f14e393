//! `/proc/locks` (proc_locks(5)): who holds the lock of a file, without touching it.

use serde::{Deserialize, Serialize};

/// Most lines that are read.
const MAX_LINES: usize = 100_000;

/// Whether a file is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLock {
    /// Somebody holds an exclusive `flock` on it.
    pub held: bool,
    /// The holder's process id, if this PID namespace shows it.
    pub holder: Option<u32>,
    /// How many wait for it.
    pub waiting: u32,
    /// Only holders of this PID namespace and those below are shown, so that `held: false` means little.
    pub partial: bool,
}

/// Finds the `flock`s on the file with this device and inode. Lines that are not understood are passed by: the file
/// holds locks of every kind.
#[must_use]
pub fn parse(text: &str, (major, minor): (u64, u64), inode: u64) -> FileLock {
    let mut found = FileLock::default();
    for line in text.lines().take(MAX_LINES) {
        // 1: FLOCK  ADVISORY  WRITE 4711 00:19:1337 0 EOF, or 1: -> FLOCK … for one that waits.
        let mut words = line.split_ascii_whitespace().skip(1).peekable();
        let waits = words.next_if_eq(&"->").is_some();
        let (Some("FLOCK"), Some(_), Some(access), Some(pid), Some(file)) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        if !is_file(file, (major, minor), inode) {
            continue;
        }
        if waits {
            found.waiting = found.waiting.saturating_add(1);
        } else if access == "WRITE" {
            found.held = true;
            found.holder = pid.parse().ok().filter(|pid| *pid != 0);
        }
    }
    found
}

/// `major:minor:inode`, the first two in hexadecimal.
fn is_file(text: &str, (major, minor): (u64, u64), inode: u64) -> bool {
    let mut parts = text.split(':');
    let (Some(a), Some(b), Some(c), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    u64::from_str_radix(a, 16) == Ok(major) && u64::from_str_radix(b, 16) == Ok(minor) && c.parse() == Ok(inode)
}

/// [`parse`] of bytes, for fuzzing.
#[must_use]
pub fn parse_bytes(bytes: &[u8]) -> FileLock {
    parse(&String::from_utf8_lossy(bytes), (0, 0x19), 1337)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const TEXT: &str = "1: FLOCK  ADVISORY  WRITE 4711 00:19:1337 0 EOF\n\
                        1: -> FLOCK  ADVISORY  WRITE 4712 00:19:1337 0 EOF\n\
                        2: POSIX  ADVISORY  READ 5 00:19:1337 128 128\n\
                        3: FLOCK  ADVISORY  WRITE 6 fd:00:99 0 EOF\n";

    #[test]
    fn the_holder_and_those_who_wait_are_found() {
        let lock = FileLock { held: true, holder: Some(4711), waiting: 1, partial: false };
        assert_eq!(parse(TEXT, (0, 0x19), 1337), lock);
        assert!(!parse(TEXT, (0, 0x19), 99).held);
        assert!(parse(TEXT, (0xfd, 0), 99).held);
    }

    #[test]
    fn nonsense_is_no_lock() {
        for text in ["", "1:", "1: -> ->", "1: FLOCK a b c d:e:f", "\u{0}\n1: FLOCK A WRITE 0 00:19:1337"] {
            let _any = parse_bytes(text.as_bytes());
        }
        assert_eq!(parse("x FLOCK A WRITE 0 00:19:1337", (0, 0x19), 1337).holder, None);
    }
}
