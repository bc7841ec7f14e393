//! An act whose answer did not come is never made again: the server's log shows whether it was, also where a precondition saved the day.

use std::collections::BTreeSet;

use crate::apiserver::LogEntry;

/// Evictions that were sent again after the API server had carried them out, whatever it answered then.
pub(super) fn sent_again(log: &[LogEntry]) -> Vec<String> {
    let eviction = |entry: &&LogEntry| {
        (entry.resource.as_str(), entry.subresource.as_str()) == ("pods", "eviction") && !entry.dry_run
    };
    let (mut gone, mut again) = (BTreeSet::new(), Vec::new());
    for entry in log.iter().filter(eviction) {
        if gone.contains(&(&entry.namespace, &entry.name)) {
            let (pod, code) = (&entry.name, entry.code);
            again.push(format!("the eviction of {pod} had been carried out, and was sent again (answered {code})"));
        } else if entry.changed() {
            gone.insert((&entry.namespace, &entry.name));
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eviction_that_was_carried_out_is_sent_once() {
        let entry = |name: &str, dry_run, code| LogEntry {
            at: std::time::Duration::ZERO,
            wall: nameward_messages::Now::at(std::time::Duration::ZERO).wall,
            user: "system:serviceaccount:nameward:nameward-coordinator".into(),
            instance: String::new(),
            verb: "create".into(),
            path: String::new(),
            group: String::new(),
            resource: "pods".into(),
            namespace: "kube-system".into(),
            name: name.into(),
            subresource: "eviction".into(),
            dry_run,
            code,
            reason: String::new(),
            body: String::new(),
            reply_lost: false,
        };
        let fine = [entry("a", true, 201), entry("a", false, 429), entry("a", false, 201), entry("a", true, 201)];
        assert!(sent_again(&fine).is_empty(), "one that was refused may be tried again");
        assert!(sent_again(&[entry("a", false, 201), entry("b", false, 201)]).is_empty(), "two pods");
        for code in [201, 404, 409] {
            assert_eq!(sent_again(&[entry("a", false, 201), entry("a", false, code)]).len(), 1, "{code}");
        }
    }
}
