//! The kill switch.

use nameward_cluster::names::POLICY_PAUSED;
use nameward_cluster::wire::ConfigMap;
use nameward_messages::Mono;
use nameward_messages::cluster_view::KillSwitch;

use crate::input::Snapshot;

/// What the policy ConfigMap says, and whether it can be read.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// `None`: never read.
    paused: Option<bool>,
    unreadable_since: Option<Mono>,
}

impl Policy {
    pub(crate) fn read(&mut self, found: &Snapshot<ConfigMap>) {
        // Whatever is not plainly "no" is taken for "yes".
        let said = found.values().find_map(|map| map.data.get(POLICY_PAUSED)).map(|value| value.trim().to_lowercase());
        self.paused = Some(said.is_some_and(|value| !["", "false", "no", "off"].contains(&value.as_str())));
    }

    pub(crate) fn good(&mut self) {
        if self.paused.is_some() {
            self.unreadable_since = None;
        }
    }

    pub(crate) fn lost(&mut self, now: Mono) {
        self.unreadable_since.get_or_insert(now);
    }

    pub(crate) fn state(&self) -> KillSwitch {
        match (self.paused, self.unreadable_since) {
            (Some(true), _) => KillSwitch::On,
            (Some(false), None) => KillSwitch::Off,
            (Some(false), Some(since)) => KillSwitch::UnreadableSince(since),
            // Never read: since the beginning, so that nothing is allowed before it was.
            (None, _) => KillSwitch::UnreadableSince(Mono::default()),
        }
    }
}
