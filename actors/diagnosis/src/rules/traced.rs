//! What nftrace tells: which probes are worth being traced, and which rule dropped those that were.

use std::collections::BTreeSet;

use nameward_kernel::filter::{Backend, Filters, Place};
use nameward_messages::PodUid;
use nameward_messages::probe::{PathKey, QuestionKind};
use nameward_messages::targets::TargetKind;
use nameward_messages::verdict::{Cause, Confidence, Evidence};

use super::filter_pod;
use super::filter_survey::survey;
use crate::judge::Judgement;
use crate::record::{APART, EvidenceRecord, Sample, Traced};

/// A probe that is worth being traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Its path.
    pub(crate) path: PathKey,
    /// The port to ask.
    pub(crate) port: u16,
    /// The pod in whose namespace it is traced; `None`: the node's.
    pub(crate) inside: Option<PodUid>,
}

/// Paths of which the node's packet filters, or a pod's own, may drop what is asked, and of which that is not certain. Rules of
/// iptables-legacy are not told of by nftrace.
pub(crate) fn wanted(record: &EvidenceRecord, judgement: &Judgement) -> Vec<Need> {
    let certain: BTreeSet<&PathKey> = judgement
        .findings
        .iter()
        .filter(|finding| finding.confidence == Confidence::Certain)
        .flat_map(|finding| &finding.explains)
        .collect();
    let filters = [Cause::ForwardPolicyDrop, Cause::NetworkPolicyDrop, Cause::PacketFilterDrop];
    let doubtful: BTreeSet<&PathKey> = judgement
        .findings
        .iter()
        .filter(|finding| finding.confidence == Confidence::Probable && filters.contains(&finding.cause))
        .flat_map(|finding| &finding.explains)
        .collect();
    let fits = |path: &PathKey| {
        let asked = matches!(path.question, QuestionKind::Internal | QuestionKind::OtherType);
        asked && !certain.contains(path) && !matches!(path.target.kind, TargetKind::Upstream)
    };
    let mut needs: Vec<Need> = Vec::new();
    let mut add = |path: &PathKey, inside: Option<PodUid>| {
        let Some(state) = record.matrix.get(path).filter(|_| fits(path)) else { return };
        let need = Need { path: path.clone(), port: state.port, inside };
        if !needs.contains(&need) {
            needs.push(need);
        }
    };
    for hit in survey(record).hits {
        let Some(path) = &hit.path else { continue };
        let unsure = hit.doubt.is_some() || doubtful.contains(path);
        if unsure && hit.verdict.is_loss() && hit.place.backend != Backend::IptablesLegacy {
            add(path, None);
        }
    }
    for (path, uid) in filter_pod::in_doubt(record) {
        add(&path, Some(uid));
    }
    needs
}

/// The traces of a path in one namespace that met the packet filters there.
fn of<'a>(
    record: &'a EvidenceRecord,
    path: &'a PathKey,
    inside: Option<&'a PodUid>,
) -> impl Iterator<Item = &'a Traced> {
    let since = record.matrix.get(path).and_then(|state| state.suspected);
    record.traces.iter().filter(move |traced| {
        // Inside a pod it does not matter who else asks in the same way.
        let alike = traced.path.transport == path.transport && traced.path.target.ip == path.target.ip;
        (&traced.path == path || (inside.is_some() && alike))
            && traced.inside.as_ref() == inside
            && traced.followed.events > 0
            && since.is_some_and(|since| traced.at >= since)
    })
}

/// Where a traced probe was dropped, as the rules that were read spell it, or as the kernel names it.
pub(crate) fn place(sample: &Sample, traced: &Traced) -> Option<Place> {
    let dropped = traced.followed.dropped.as_ref()?;
    let filters = match &traced.inside {
        None => Filters::of(&sample.host.netfilter),
        Some(uid) => Filters::of(&sample.pods.get(uid)?.filters),
    };
    Some(dropped.place(&filters).unwrap_or_else(|| Place {
        backend: Backend::Nft,
        table: format!("{} {}", dropped.family, dropped.table),
        chain: dropped.chain.clone(),
        rule: dropped.handle.map(|handle| format!("rule with handle {handle}")),
        nth: 0,
    }))
}

/// What traces say of one place on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// The probe was dropped elsewhere, or nowhere in nf_tables, twice.
    NotHere,
    /// The probe was dropped here, once so far.
    Once,
    /// Here, twice, a second or more apart.
    Twice,
}

/// See [`Told`].
pub(crate) fn told(record: &EvidenceRecord, path: &PathKey, inside: Option<&PodUid>, at: &Place) -> Told {
    let Some(sample) = &record.current else { return Told::Nothing };
    let here = |traced: &&Traced| place(sample, traced).as_ref() == Some(at);
    let mut dropped = of(record, path, inside).filter(here).map(|traced| traced.at);
    if let Some(first) = dropped.next() {
        return if dropped.any(|later| later.since(first) >= APART) { Told::Twice } else { Told::Once };
    }
    // One that was answered was lucky: that says nothing of those that are not.
    let whole = of(record, path, inside).filter(|t| !t.followed.more && !t.followed.answered).count();
    if whole >= 2 && at.backend != Backend::IptablesLegacy { Told::NotHere } else { Told::Nothing }
}

/// Places in which probes of a path were dropped for certain.
pub(crate) fn places(record: &EvidenceRecord, path: &PathKey, inside: Option<&PodUid>) -> Vec<(Place, bool)> {
    let Some(sample) = &record.current else { return Vec::new() };
    let mut found: Vec<(Place, bool)> = Vec::new();
    for traced in of(record, path, inside) {
        let Some(place) = place(sample, traced) else { continue };
        let answer = traced.followed.dropped.as_ref().is_some_and(|dropped| dropped.answer);
        if !found.iter().any(|(known, _)| *known == place) {
            found.push((place, answer));
        }
    }
    found
}

/// What was told, for people.
pub(crate) fn line(record: &EvidenceRecord, path: &PathKey, inside: Option<&PodUid>, at: &Place) -> Option<Evidence> {
    let sample = record.current.as_ref()?;
    let all = of(record, path, inside).count();
    let mut here = of(record, path, inside).filter(|traced| place(sample, traced).as_ref() == Some(at));
    let first = here.next()?;
    let count = 1 + here.count();
    let dropped = first.followed.dropped.as_ref()?;
    let what = if dropped.answer { "the answer to a traced probe" } else { "a traced probe" };
    let says = format!("{what} {path} was dropped in {}, {count} of {all} times", dropped.name());
    Some(Evidence::new(format!("{} nftrace", record.node), says))
}

/// Of paths that nothing explains: that the probes passed all of nf_tables, or where they were last seen.
pub(crate) fn passed(record: &EvidenceRecord, paths: &BTreeSet<PathKey>) -> Option<Evidence> {
    let traced = record.traces.iter().rev().find(|traced| paths.contains(&traced.path))?;
    let followed = &traced.followed;
    let says = match (followed.events, &followed.dropped, &followed.last) {
        (0, ..) => format!("a traced probe {} did not get as far as these packet filters", traced.path),
        (_, Some(dropped), _) => format!("a traced probe {} was dropped in {}", traced.path, dropped.name()),
        (_, None, Some(last)) => {
            format!("no rule of nf_tables dropped a traced probe {}; it was last seen in {last}", traced.path)
        }
        (_, None, None) => format!("no rule of nf_tables was met by a traced probe {}", traced.path),
    };
    Some(Evidence::new(format!("{} nftrace", record.node), says))
}
