//! The journal of node repairs: what is about to be changed is on the disk before it is changed.
//!
//! One line per state of one change: a checksum, a space, JSON. The last line of a change counts. Lines of another boot are
//! void: the kernel's state that they speak of is gone. A line that is not whole (a crash in the middle of writing it) is
//! passed over and said: what it was to announce was not begun, since a change waits for the disk.
//!
//! A crash at any point leaves one of these, and [`replay`] says what then: nothing was changed; or what we wrote stands, and
//! is verified as if there had been no crash, and undone if it does not help; or somebody else was there, and a person looks.
//! Verified rather than undone at once: the repair may be all that lets DNS answer, and undoing it would put the fault back
//! for as long as the budget lasts.
//!
//! The file is bounded by [`MAX_BYTES`]: it is written anew, beside the old one and then in its place, with the changes that
//! are open and the last [`KEEP`] that are not.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use nameward_kernel::repair::{Change, Image, RepairError};
use nameward_messages::remedy::RemedyKind;
use nameward_messages::verdict::{Cause, Subject};
use serde::{Deserialize, Serialize};

/// Most bytes of the file.
pub const MAX_BYTES: usize = 512 * 1024;
/// Changes that are over and are kept, so that budgets survive a restart.
pub const KEEP: usize = 64;

/// Where a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Written down; it may have been made or not.
    Intended,
    /// Made and read back; not yet verified.
    Applied,
    /// Verified.
    Confirmed,
    /// Taken back, or never made.
    Undone,
    /// Neither: what is there is somebody else's, or is gone. A person was told if there is anything to be done.
    Left,
}

impl State {
    /// Whether anything is left to be done about it.
    #[must_use]
    pub fn open(self) -> bool {
        matches!(self, Self::Intended | Self::Applied)
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts up in one journal.
    pub id: u64,
    /// The first entry of the same repair.
    pub repair: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Which remedy.
    pub kind: RemedyKind,
    /// Why.
    pub cause: Cause,
    /// On what.
    pub subject: Subject,
    /// What is changed, and where (pod and namespace cookie, or the host).
    pub change: Change,
    /// What was there.
    pub before: Image,
    /// What is there afterwards.
    pub wrote: Image,
    /// Where it stands.
    pub state: State,
    /// It made things worse, and was undone for that.
    #[serde(default)]
    pub worse: bool,
    /// It is after-care: no repair of a fault that was found, and none of its tries.
    #[serde(default)]
    pub care: bool,
    /// When it was intended, in milliseconds since the boot.
    pub began_ms: u64,
    /// The same for people.
    pub at: Timestamp,
}

/// The file, as the journal needs it: every step that a crash can come between.
pub trait Disk: Send {
    /// All bytes, at most `most`; nothing if there is no file.
    fn read(&mut self, most: usize) -> io::Result<Vec<u8>>;
    /// Adds to the end. Not safe before [`Disk::sync`].
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// What was appended survives a loss of power from here on, and so does the file's name.
    fn sync(&mut self) -> io::Result<()>;
    /// Writes another file beside it.
    fn write_new(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// The other file's bytes survive from here on.
    fn sync_new(&mut self) -> io::Result<()>;
    /// The other file takes the place of the journal.
    fn rename_new(&mut self) -> io::Result<()>;
    /// The new name survives from here on.
    fn sync_folder(&mut self) -> io::Result<()>;
}

/// Why the journal cannot be used: then nothing may be changed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read.
    #[error("the journal cannot be read")]
    Read(#[source] io::Error),
    /// It cannot be written, or not safely.
    #[error("the journal cannot be written")]
    Write(#[source] io::Error),
    /// An entry is bigger than the file may be.
    #[error("an entry of {0} bytes is too big for the journal")]
    TooBig(usize),
    /// An entry cannot be written as text.
    #[error("an entry cannot be written as text")]
    Text(#[source] serde_json::Error),
}

/// What was found when the journal was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The changes of this boot, in their order, as they last stood.
    pub entries: Vec<Entry>,
    /// Lines that are not whole.
    pub damaged: usize,
    /// Lines of this boot that are whole and that this release cannot read: another one wrote them. They are kept.
    pub foreign: usize,
    /// Changes of another boot.
    pub void: usize,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    entries: BTreeMap<u64, Entry>,
    /// Lines of another release, as they are.
    foreign: Vec<u8>,
    bytes: usize,
    /// The end of the file is not known to be whole: it is written anew before anything is added.
    torn: bool,
}

impl<D: Disk> Journal<D> {
    /// Reads what is there, leaves out what is void, and makes the end of the file good.
    ///
    /// # Errors
    /// [`JournalError::Read`] and [`JournalError::Write`].
    pub fn open(mut disk: D, boot: &str) -> Result<(Self, Found), JournalError> {
        let bytes = disk.read(MAX_BYTES).map_err(JournalError::Read)?;
        let mut found = Found::default();
        let mut entries: BTreeMap<u64, Entry> = BTreeMap::new();
        let mut foreign = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match parse(line) {
                Some(Line::Entry(entry)) => drop(entries.insert(entry.id, *entry)),
                Some(Line::Foreign(of)) if of != boot => found.void += 1,
                Some(Line::Foreign(_)) if foreign.len() + line.len() < MAX_BYTES / 4 => {
                    found.foreign += 1;
                    foreign.extend(line);
                    foreign.push(b'\n');
                }
                Some(Line::Foreign(_)) | None => found.damaged += 1,
            }
        }
        let torn = found.damaged > 0 || bytes.last().is_some_and(|byte| *byte != b'\n');
        let all = entries.len();
        entries.retain(|_, entry| entry.boot == boot);
        found.void += all - entries.len();
        let mut journal = Self { disk, entries, foreign, bytes: bytes.len(), torn };
        if torn || found.void > 0 {
            journal.anew()?;
        }
        found.entries = journal.entries.values().cloned().collect();
        Ok((journal, found))
    }

    /// Writes down how a change stands. When this returns, it survives a loss of power.
    ///
    /// # Errors
    /// [`JournalError`]: then it must not be counted on, and nothing be done that waits for it.
    pub fn write(&mut self, entry: Entry) -> Result<(), JournalError> {
        let line = line(&entry)?;
        if line.len() > MAX_BYTES / 2 {
            return Err(JournalError::TooBig(line.len()));
        }
        self.entries.insert(entry.id, entry);
        if self.torn || self.bytes + line.len() > MAX_BYTES {
            return self.anew();
        }
        // Whatever fails here, nobody knows how much of it is on the disk.
        self.torn = true;
        self.disk.append(&line).and_then(|()| self.disk.sync()).map_err(JournalError::Write)?;
        self.torn = false;
        self.bytes += line.len();
        Ok(())
    }

    /// Writes the file anew: first beside, then in its place.
    fn anew(&mut self) -> Result<(), JournalError> {
        let over: Vec<u64> = self.entries.values().filter(|e| !e.state.open()).map(|e| e.id).collect();
        for id in over.iter().take(over.len().saturating_sub(KEEP)) {
            self.entries.remove(id);
        }
        for entry in self.entries.values_mut().filter(|e| !e.state.open()) {
            slim(entry);
        }
        let mut text = self.foreign.clone();
        for entry in self.entries.values() {
            text.extend(line(entry)?);
        }
        self.torn = true;
        let disk = &mut self.disk;
        disk.write_new(&text)
            .and_then(|()| disk.sync_new())
            .and_then(|()| disk.rename_new())
            .and_then(|()| disk.sync_folder())
            .map_err(JournalError::Write)?;
        self.torn = false;
        self.bytes = text.len();
        Ok(())
    }

    /// The disk behind it.
    pub fn into_disk(self) -> D {
        self.disk
    }
}

/// What is over need not say which entries of conntrack went.
fn slim(entry: &mut Entry) {
    if let Change::DropFlows { flows } = &mut entry.change {
        flows.truncate(1);
        entry.before = Image::Flows(flows.clone());
    }
}

fn line(entry: &Entry) -> Result<Vec<u8>, JournalError> {
    let text = serde_json::to_string(entry).map_err(JournalError::Text)?;
    Ok(format!("{:08x} {text}\n", crc32(text.as_bytes())).into_bytes())
}

/// A line that is whole.
enum Line {
    Entry(Box<Entry>),
    /// Of a release that knows other changes; the boot in which it was written.
    Foreign(String),
}

/// What is read of any line.
#[derive(Deserialize)]
struct OfAnyRelease {
    boot: String,
}

fn parse(line: &[u8]) -> Option<Line> {
    let (sum, text) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum.get(..8)?).ok()?, 16).ok()?;
    if sum != crc32(text) {
        return None;
    }
    let foreign = || serde_json::from_slice(text).ok().map(|of: OfAnyRelease| Line::Foreign(of.boot));
    serde_json::from_slice(text).ok().map(|entry| Line::Entry(Box::new(entry))).or_else(foreign)
}

/// CRC-32 as in Ethernet and zip (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// What becomes of a change that was open when the process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It was not made, or somebody took it back.
    Nothing,
    /// Its namespace or its link is gone, and what we wrote with it.
    Gone,
    /// What we wrote stands: verify it, and undo it if it does not help.
    Verify,
    /// Conntrack's entries: what was deleted is deleted, and there is nothing to undo.
    Over,
    /// Something else is there: leave it, and tell a person.
    LeaveAlone(Image),
    /// It could not be read now.
    Unread(RepairError),
}

/// Compares what is there now with what an open entry says.
#[must_use]
pub fn replay(entry: &Entry, now: Result<Image, RepairError>) -> Replay {
    match now {
        Err(RepairError::Gone(_)) => Replay::Gone,
        Err(error) => Replay::Unread(error),
        Ok(_) if !entry.change.reversible() => Replay::Over,
        Ok(now) if now == entry.before => Replay::Nothing,
        Ok(now) if entry.change.stands(&now, &entry.wrote) => Replay::Verify,
        Ok(now) => Replay::LeaveAlone(now),
    }
}

#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;
