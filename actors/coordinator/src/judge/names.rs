//! Names of incidents: the same cause, subject and moment give the same name, so that creating twice is a conflict.

use jiff::Timestamp;
use nameward_messages::verdict::{Cause, Subject};

/// `<cause>-<hash of the subject>-<when it was opened, UTC>`: a valid object name of at most 63 characters.
#[must_use]
pub fn incident(cause: Cause, subject: &Subject, opened: Timestamp) -> String {
    let when = opened.strftime("%Y%m%d%H%M%S");
    format!("{cause}-{:08x}-{when}", hash(subject))
}

/// FNV-1a, folded to 32 bits. Not a defence, only a short name.
fn hash(subject: &Subject) -> u32 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let uid = subject.uid.as_ref().map_or("", |uid| uid.as_str());
    let parts = [subject.kind.label(), subject.namespace.as_deref().unwrap_or(""), &subject.name, uid];
    for part in parts {
        for byte in part.bytes().chain(std::iter::once(0)) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let [a, b, c, d, e, f, g, h] = state.to_be_bytes();
    u32::from_be_bytes([a ^ e, b ^ f, c ^ g, d ^ h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use nameward_messages::{Now, ObjectKey};
    use std::time::Duration;

    #[test]
    fn names_are_stable_valid_and_told_apart_by_subject() {
        let at = Now::at(Duration::from_secs(5)).wall;
        let one = Subject::pod(&ObjectKey::new("kube-system", "coredns-a"), &"u1".into());
        let two = Subject::pod(&ObjectKey::new("kube-system", "coredns-a"), &"u2".into());
        let name = |subject| incident(Cause::ServiceWithoutEndpoints, subject, at);
        assert_eq!(name(&one), name(&one));
        assert_ne!(name(&one), name(&two));
        assert!(name(&one).len() <= 63);
        assert!(name(&one).chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    }
}
