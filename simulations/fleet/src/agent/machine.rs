//! The machine under a node's agent, as far as a repair touches it: one sysctl, and the disk with the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use nameward_kernel::facts::{Reading, Sysctls};
use nameward_kernel::repair::{Change, Image, RepairError, Seen, Sysctl, Undone};
use nameward_messages::verdict::Cause;
use nameward_remedy::journal::{Entry, Found, State};
use nameward_remedy::node::{Input as NodeInput, Job, JobResult};

use super::AgentEvent;
use crate::check::Invariant;
use crate::sabotage::Sabotage;
use crate::world::World;

/// What outlives the agent's process.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// `net.ipv4.ip_forward`.
    ip_forward: i64,
    /// What is on the disk, synced.
    journal: BTreeMap<u64, Entry>,
    /// Counts the boots.
    boot: u32,
}

impl Default for Machine {
    fn default() -> Self {
        Self { ip_forward: 1, journal: BTreeMap::new(), boot: 1 }
    }
}

impl World {
    /// The agent opens its journal.
    pub(crate) fn open_journal(&mut self, n: usize) {
        let machine = &self.agents[n].machine;
        let boot = format!("boot-{}", machine.boot);
        let (entries, void): (Vec<Entry>, Vec<Entry>) =
            machine.journal.values().cloned().partition(|entry| entry.boot == boot);
        let entries = if self.sabotage == Sabotage::JournalUnread { Vec::new() } else { entries };
        let found = Ok(Found { entries, damaged: 0, foreign: 0, void: void.len() });
        self.tell_node(n, NodeInput::Journal { boot, found });
    }

    /// The machine was off: what the kernel knew is gone.
    pub(crate) fn rebooted(&mut self, n: usize) {
        let machine = &mut self.agents[n].machine;
        machine.boot += 1;
        machine.ip_forward = 1;
        if matches!(self.nodes[n].sick, Some((Cause::IpForwardOff, _))) {
            self.nodes[n].sick = None;
        }
    }

    /// What is wrong with a node is wrong with its machine.
    pub(crate) fn set_forwarding(&mut self, n: usize, on: bool) {
        self.agents[n].machine.ip_forward = i64::from(on);
    }

    pub(crate) fn start_job(&mut self, n: usize, task: u64, job: Job) {
        let after = Duration::from_millis(self.rng.u64(5..400));
        // Now and then the agent dies before the job, or right after it.
        let dies = self.rng.u32(0..1000) < self.spec.job_deaths;
        if dies && self.rng.bool() {
            self.agent_dies(n);
            return;
        }
        self.push_agent(n, after, AgentEvent::Job { task, job: Box::new(job), dies });
    }

    pub(crate) fn end_job(&mut self, n: usize, task: u64, job: Job, dies: bool) {
        let result = self.do_job(n, job);
        if dies {
            self.agent_dies(n);
        } else {
            self.tell_node(n, NodeInput::Done { task, result });
        }
    }

    fn agent_dies(&mut self, n: usize) {
        self.trace.line(self.now, &self.nodes[n].name, || "the agent dies in the middle of a repair".to_owned());
        self.end_agent(n);
        self.start_agent(n, Duration::from_secs(4));
    }

    fn do_job(&mut self, n: usize, job: Job) -> JobResult {
        match job {
            Job::Look(_) => {
                let ip_forward = Some(self.agents[n].machine.ip_forward);
                let sysctls = Reading::Read(Sysctls { ip_forward, ..Sysctls::default() });
                JobResult::Seen(Seen { sysctls, ..Seen::default() })
            }
            Job::Read(change) => JobResult::Image(self.image(n, &change)),
            Job::Journal(entries) => {
                self.check_overwritten(n, &entries);
                if self.sabotage != Sabotage::NoJournal {
                    let known = entries.into_iter().map(|entry| (entry.id, entry));
                    self.agents[n].machine.journal.extend(known);
                }
                JobResult::Journalled(Ok(()))
            }
            Job::Apply { change, before } => JobResult::Image(self.apply(n, &change, &before)),
            Job::Undo { change, before, wrote } => JobResult::Undone(self.undo(n, &change, &before, &wrote)),
        }
    }

    /// I16: what stands open in the journal is ended, never written over as if it had not been.
    fn check_overwritten(&mut self, n: usize, entries: &[Entry]) {
        let journal = &self.agents[n].machine.journal;
        let lost = entries.iter().find(|entry| {
            let known = journal.get(&entry.id);
            known
                .is_some_and(|known| known.state.open() && known.boot == entry.boot && known.began_ms != entry.began_ms)
        });
        if let Some(lost) = lost {
            let says = format!("node {n} writes entry {} of its journal over one that is open", lost.id);
            self.violate(Invariant::I16, says);
        }
    }

    /// I16, at the end: nothing is left open on a machine whose agent has had the time for it.
    pub(crate) fn check_journals(&mut self) {
        for n in 0..self.agents.len() {
            let agent = &self.agents[n];
            let boot = format!("boot-{}", agent.machine.boot);
            let open = agent.machine.journal.values().find(|entry| entry.boot == boot && entry.state.open());
            if let Some(open) = open.filter(|_| agent.alive && !self.nodes[n].down) {
                let says = format!("node {n} left entry {} of its journal open: {:?}", open.id, open.change);
                self.violate(Invariant::I16, says);
            }
        }
    }

    fn image(&self, n: usize, change: &Change) -> Result<Image, RepairError> {
        match change {
            Change::Sysctl { name: Sysctl::IpForward, .. } => Ok(Image::Value(self.agents[n].machine.ip_forward)),
            _ => Err(RepairError::Failed("not modelled".to_owned())),
        }
    }

    fn apply(&mut self, n: usize, change: &Change, before: &Image) -> Result<Image, RepairError> {
        let announced = self.agents[n]
            .machine
            .journal
            .values()
            .any(|entry| entry.state == State::Intended && entry.change == *change && entry.before == *before);
        if !announced {
            self.violate(Invariant::I15, format!("node {n} makes {change:?}, and the disk does not know of it"));
        }
        if self.image(n, change)? != *before {
            return Err(RepairError::Changed("another value".to_owned()));
        }
        self.check_node_act(n);
        self.check_agent_switch(n);
        let wrote = change.writes(before).map_err(|unfit| RepairError::Changed(unfit.to_string()))?;
        self.put(n, &wrote);
        Ok(wrote)
    }

    fn undo(&mut self, n: usize, change: &Change, before: &Image, wrote: &Image) -> Result<Undone, RepairError> {
        let now = self.image(n, change)?;
        if now == *before {
            return Ok(Undone::NotNeeded);
        }
        if now != *wrote {
            return Ok(Undone::LeftAlone(now));
        }
        self.check_agent_switch(n);
        self.put(n, before);
        Ok(Undone::Done)
    }

    fn put(&mut self, n: usize, image: &Image) {
        let Image::Value(value) = image else { return };
        self.agents[n].machine.ip_forward = *value;
        self.stats.repairs += 1;
        if *value == 1 && matches!(self.nodes[n].sick, Some((Cause::IpForwardOff, _))) {
            self.node_well(n);
        }
    }
}
