//! F39: the neighbour table of the kernel is full.

use nameward_messages::probe::Outcome;
use nameward_messages::verdict::{Cause, Evidence, Scope, Subject};

use super::links::failed;
use crate::finding::{Finding, RuleResult, View, confidence, not, probe_line};
use crate::matrix::Pick;
use crate::record::Sample;

/// `neighbour-table-full`.
pub fn judge(view: &View<'_>) -> RuleResult {
    let record = view.record;
    let all = Pick::default();
    let Some((path, state)) = view.bad(all).find(|(_, s)| matches!(failed(s), Outcome::NoBuffers)) else {
        return RuleResult::NotApplicable;
    };
    let counter = |sample: &Sample, name: &str| sample.host.neighbours.value()?.get(name);
    let moved = record.moved(|before, after| Some(counter(after, "table_fulls")? > counter(before, "table_fulls")?));
    let sure = match confidence(record, moved, true, "the kernel's neighbour table has not been full in between") {
        Ok(sure) => sure,
        Err(result) => return result,
    };
    let mut evidence = vec![probe_line(path, failed(state))];
    if let (Some(before), Some(after)) = (&record.previous, &record.current) {
        let rose = counter(after, "table_fulls").zip(counter(before, "table_fulls")).map(|(a, b)| a.saturating_sub(b));
        let limit = after.host.sysctls.value().and_then(|s| s.gc_thresh3);
        let limit = limit.map_or("its limit is not to be read here".to_owned(), |n| format!("gc_thresh3 is {n}"));
        let entries = counter(after, "entries").map_or("?".to_owned(), |n| n.to_string());
        evidence.push(Evidence::new(
            format!("{} /proc/net/stat/arp_cache", record.node),
            match rose {
                Some(rose) => format!("table_fulls rose by {rose} between two samples; {entries} entries, {limit}"),
                None => "could not be read".to_owned(),
            },
        ));
    }
    // Whoever is no neighbour yet is not reached: connections time out, datagrams are refused.
    let explains = view
        .bad(all)
        .filter(|(_, s)| matches!(failed(s), Outcome::NoBuffers | Outcome::Timeout))
        .map(|(path, _)| path.clone())
        .collect();
    RuleResult::Verdicts(vec![Finding {
        cause: Cause::NeighbourTableFull,
        scope: Scope::Node,
        subject: Subject::node(&record.node),
        confidence: sure,
        evidence,
        ruled_out: vec![
            not(Cause::ConntrackFull, "a full conntrack table says EPERM, not ENOBUFS"),
            not(Cause::CorednsHung, "the node's own kernel does not send"),
        ],
        explains,
    }])
}
