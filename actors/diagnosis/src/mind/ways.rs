//! The way of a packet that fails, for people: told with each verdict that is told.

use nameward_messages::namespaces::Vantage;
use nameward_messages::probe::{PathKey, QuestionKind};
use nameward_messages::status::{MOST_STEPS, PacketWay, Passes, WayStep};
use nameward_messages::verdict::DiagnosisTells;

use super::Output;
use crate::judge::Judgement;
use crate::record::EvidenceRecord;
use crate::way::{self, Known, way};

/// Longest text of a step, in characters.
const LINE: usize = 400;

/// Tells the way of one path of each verdict among the outputs from `first` on.
pub(super) fn tell(record: &EvidenceRecord, judgement: &Judgement, first: usize, out: &mut Vec<Output>) {
    let told = out.iter().skip(first).filter_map(|output| match output {
        Output::Tell(DiagnosisTells::Stands(verdict)) => Some(verdict.key()),
        _ => None,
    });
    for key in told.collect::<Vec<_>>() {
        let explained = judgement.findings.iter().find(|finding| finding.key() == key).map(|finding| &finding.explains);
        let path = explained.and_then(|paths| paths.iter().min_by_key(|path| rank(path)));
        if let Some(way) = path.and_then(|path| read(record, path)) {
            out.push(Output::Tell(DiagnosisTells::Way { key, way }));
        }
    }
}

/// What says most to a reader: a pod's way to the Service is what a workload sees.
fn rank(path: &PathKey) -> (bool, bool, &PathKey) {
    (path.question != QuestionKind::Internal, path.vantage == Vantage::Host, path)
}

fn read(record: &EvidenceRecord, path: &PathKey) -> Option<PacketWay> {
    let namespace = match &path.vantage {
        Vantage::Host => None,
        Vantage::Pod { uid, .. } => Some(record.namespaces.get(uid)?),
    };
    let known = Known {
        node: &record.node,
        targets: &record.targets,
        vantage: &path.vantage,
        namespace,
        sample: record.current.as_deref()?,
    };
    let steps = way(&known, &path.target, path.transport);
    let step = |step: way::Step| WayStep {
        at: clip(&step.at),
        says: clip(&step.says),
        passes: match step.passes {
            way::Passes::Yes => Passes::Yes,
            way::Passes::No => Passes::No,
            way::Passes::Unknown => Passes::Unknown,
        },
    };
    let steps = steps.into_iter().take(MOST_STEPS).map(step).collect();
    Some(PacketWay { path: path.to_string(), steps })
}

fn clip(text: &str) -> String {
    text.chars().take(LINE).collect()
}
