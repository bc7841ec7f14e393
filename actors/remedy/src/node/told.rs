//! What the mind is told, and what it wants.

use std::sync::Arc;

use nameward_config::Config;
use nameward_kernel::repair::{Change, Image, RepairError, Seen, Undone, Wanted};
use nameward_messages::cluster_view::KillSwitch;
use nameward_messages::guarding::RefusalReason;
use nameward_messages::namespaces::NamespaceChanged;
use nameward_messages::probe::{ProbeAnswer, ProbeRequest};
use nameward_messages::remedy::{RemedyKind, RemedyRecord};
use nameward_messages::report::NodeOrders;
use nameward_messages::targets::Targets;
use nameward_messages::verdict::DiagnosisTells;

use crate::journal::{Entry, Found};

/// What the mind is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// What diagnosis concludes.
    Diagnosis(DiagnosisTells),
    /// This node's orders, with the permit.
    Orders(NodeOrders),
    /// Namespaces: where a repair is made, and what it writes.
    Namespace(NamespaceChanged),
    /// What can be asked, to verify.
    Targets(Arc<Targets>),
    /// The kill switch of the policy ConfigMap.
    KillSwitch(KillSwitch),
    /// Whether the local file [`crate::pause::PAUSE_FILE`] is there.
    PausedHere(bool),
    /// New settings.
    Configure(Arc<Config>),
    /// The journal was opened, or could not be, and of which boot it is.
    Journal {
        /// `/proc/sys/kernel/random/boot_id`.
        boot: String,
        /// What was found in it.
        found: Result<Found, String>,
    },
    /// A job ended.
    Done {
        /// Which.
        task: u64,
        /// What came of it.
        result: JobResult,
    },
    /// What was asked to verify was answered.
    Answer(Arc<ProbeAnswer>),
    /// The deadline passed.
    Tick,
}

/// One thing to do. The shell bounds each in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Read what a repair is about.
    Look(Wanted),
    /// Read what is there where a change would be made.
    Read(Change),
    /// Write to the journal, in this order, and sync.
    Journal(Vec<Entry>),
    /// Make a change.
    Apply {
        /// Which.
        change: Change,
        /// What must still be there.
        before: Image,
    },
    /// Take a change back.
    Undo {
        /// Which.
        change: Change,
        /// What to put back.
        before: Image,
        /// What must still be there.
        wrote: Image,
    },
}

/// What came of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// Of [`Job::Look`].
    Seen(Seen),
    /// Of [`Job::Read`] and [`Job::Apply`]: what is there now.
    Image(Result<Image, RepairError>),
    /// Of [`Job::Journal`]; why not, in one line.
    Journalled(Result<(), String>),
    /// Of [`Job::Undo`].
    Undone(Result<Undone, RepairError>),
}

/// What the mind wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the reporter, metrics and people.
    Tell(RemedyRecord),
    /// A repair was held back: to metrics. Its record is told as well.
    Refused {
        /// Which.
        kind: RemedyKind,
        /// Why.
        reason: RefusalReason,
    },
    /// Do this, and tell [`Input::Done`] with the same number. One at a time.
    Do {
        /// Its number.
        task: u64,
        /// What.
        job: Job,
    },
    /// To the prober.
    Probe(ProbeRequest),
}
