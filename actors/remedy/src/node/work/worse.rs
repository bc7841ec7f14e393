//! Whether something got worse while a repair is verified. Other things fail on a node meanwhile that have nothing to do with the
//! repair (a CoreDNS pod that goes, a pod that comes up broken), and none of them is a reason to put a fault back. What counts:
//! - two vantages in pods more than before, on one path of the matrix that the host does not see fail as well;
//! - a certain verdict that was not there before, of the node itself, or of the links of a pod on the same bridge.

use nameward_messages::namespaces::VantageKind;
use nameward_messages::probe::QuestionKind;
use nameward_messages::report::MatrixDigest;
use nameward_messages::targets::Transport;
use nameward_messages::verdict::{Confidence, Layer, SubjectKind};

use super::*;

/// So many vantages more that fail on one path are worse: one alone comes and goes.
const WORSE_BY: u32 = 2;

/// What the matrix says of failing paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct Failing {
    /// Vantages in pods that fail, by path.
    pods: BTreeMap<(IpAddr, Transport, QuestionKind), u32>,
    /// What fails from the host.
    host: BTreeSet<(IpAddr, Transport)>,
}

impl Failing {
    pub(in crate::node) fn of(matrix: &MatrixDigest) -> Self {
        let mut failing = Self::default();
        for row in matrix.rows.iter().filter(|row| row.bad > 0) {
            match row.from {
                VantageKind::Host => {
                    failing.host.insert((row.ip, row.transport));
                }
                VantageKind::Pod => {
                    let bad = failing.pods.entry((row.ip, row.transport, row.question)).or_default();
                    *bad = bad.saturating_add(row.bad);
                }
            }
        }
        failing
    }

    /// In which way more fails than before, if it does.
    fn worse_than(&self, before: &Self) -> Option<String> {
        self.pods.iter().find_map(|(path, bad)| {
            let (ip, transport, _) = path;
            let was = before.pods.get(path).copied().unwrap_or_default();
            let worse = *bad >= was.saturating_add(WORSE_BY) && !self.host.contains(&(*ip, *transport));
            worse.then(|| format!("{ip} over {transport} fails from {bad} pods, and from {was} before"))
        })
    }
}

/// What the node looked like before the first change.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) verdicts: BTreeSet<VerdictKey>,
    pub(super) failing: Failing,
}

impl NodeMind {
    /// What got worse since the repair began, if anything did. After a crash nobody knows what it was like before.
    pub(super) fn worse(&self) -> Option<String> {
        let work = self.work.as_ref()?;
        let before = work.before.as_ref()?;
        if let Some(says) = self.failing.worse_than(&before.failing) {
            return Some(says);
        }
        let new = |(key, standing): &(&VerdictKey, &crate::node::Standing)| {
            standing.verdict.confidence == Confidence::Certain
                && !before.verdicts.contains(*key)
                && key.subject != work.subject
                && self.may_be_ours(work, key)
        };
        let (key, _) = self.standing.iter().find(new)?;
        Some(format!("{} on {} was not there before", key.cause, key.subject))
    }

    /// Whether a repair can have brought this about.
    fn may_be_ours(&self, work: &Work, key: &VerdictKey) -> bool {
        let links =
            matches!(key.cause, Cause::DuplicateMac | Cause::DuplicatePodIp | Cause::VethDown | Cause::VethOffBridge);
        match key.cause.about().layer {
            Layer::Node => true,
            Layer::Pod if links => {
                let bridge = |subject: &Subject| {
                    let uid = subject.uid.as_ref()?;
                    self.namespaces.get(uid)?.bridge.as_deref()
                };
                bridge(&key.subject).is_some_and(|theirs| match work.subject.kind {
                    SubjectKind::Pod => bridge(&work.subject) == Some(theirs),
                    _ => work.entries.iter().any(|entry| concerns(&entry.change, theirs)),
                })
            }
            _ => false,
        }
    }
}

/// Whether a change is one of this bridge.
fn concerns(change: &Change, name: &str) -> bool {
    match change {
        Change::BridgeAddress { bridge, .. } | Change::AttachVeth { bridge, .. } => bridge.name == name,
        Change::LinkUp { link, .. } => link.name == name,
        Change::DefaultRoute { .. }
        | Change::Hairpin { .. }
        | Change::DropNeighbour { .. }
        | Change::Sysctl { .. }
        | Change::DropFlows { .. } => false,
    }
}
