//! A disk that loses every byte that was not synced, and stops at any step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::sync::{Arc, Mutex};

use super::Disk;

/// What is on the platters, and what only seems to be.
#[derive(Clone, Debug, Default)]
struct Platters {
    durable: Vec<u8>,
    seen: Vec<u8>,
    new_durable: Vec<u8>,
    new_seen: Vec<u8>,
    /// The new name is seen, but its folder was not synced.
    renamed: Option<Vec<u8>>,
}

/// A disk in a machine whose power can fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedDisk {
    platters: Arc<Mutex<Platters>>,
    /// Operations that still succeed.
    left: Arc<Mutex<Option<usize>>>,
    /// Bytes of a lost write that reached the platters all the same.
    torn: usize,
}

impl SimulatedDisk {
    /// The power fails after this many more operations.
    pub(crate) fn fail_after(&self, operations: Option<usize>) {
        *self.left.lock().unwrap() = operations;
    }

    /// Of what was not synced so many bytes reach the platters: a write that was torn.
    pub(crate) fn tearing(mut self, bytes: usize) -> Self {
        self.torn = bytes;
        self
    }

    /// The power comes back: only what was synced is there.
    pub(crate) fn after_power_failure(&self) -> Self {
        let mut platters = self.platters.lock().unwrap().clone();
        let kept = platters.durable.len();
        let tail = platters.seen.get(kept..).unwrap_or_default();
        if platters.renamed.is_none() && platters.seen.starts_with(&platters.durable) {
            let torn = tail[..self.torn.min(tail.len())].to_vec();
            platters.durable.extend(torn);
        }
        platters.seen = platters.durable.clone();
        platters.new_durable.clear();
        platters.new_seen.clear();
        platters.renamed = None;
        let torn = self.torn;
        Self { platters: Arc::new(Mutex::new(platters)), left: Arc::default(), torn }
    }

    /// What would be read after a failure of power.
    pub(crate) fn durable(&self) -> Vec<u8> {
        self.platters.lock().unwrap().durable.clone()
    }

    /// Writes bytes as a fault of the disk would.
    pub(crate) fn corrupt(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut platters = self.platters.lock().unwrap();
        change(&mut platters.durable);
        platters.seen = platters.durable.clone();
    }

    fn operate<T>(&self, work: impl FnOnce(&mut Platters) -> T) -> io::Result<T> {
        if let Some(left) = self.left.lock().unwrap().as_mut() {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the power failed"))?;
        }
        Ok(work(&mut self.platters.lock().unwrap()))
    }
}

impl Disk for SimulatedDisk {
    fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        self.operate(|p| p.seen[..most.min(p.seen.len())].to_vec())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.operate(|p| p.seen.extend(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.operate(|p| {
            p.durable = p.seen.clone();
            p.renamed = None;
        })
    }

    fn write_new(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.operate(|p| p.new_seen = bytes.to_vec())
    }

    fn sync_new(&mut self) -> io::Result<()> {
        self.operate(|p| p.new_durable = p.new_seen.clone())
    }

    fn rename_new(&mut self) -> io::Result<()> {
        self.operate(|p| {
            // The name of what was not synced: after a failure it would be an empty file.
            p.renamed = Some(p.new_durable.clone());
            p.seen = p.new_seen.clone();
        })
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.operate(|p| {
            if let Some(renamed) = p.renamed.take() {
                p.durable = renamed;
            }
        })
    }
}
