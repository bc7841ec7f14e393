//! The journal's file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::journal::Disk;

/// The file, its folder, and a lock: two agents must not repair one node.
#[derive(Debug)]
pub(crate) struct FileDisk {
    path: PathBuf,
    new: PathBuf,
    folder: PathBuf,
    file: File,
    /// Held for as long as this is.
    _lock: File,
}

/// The folder is root's alone: whoever could write the journal could have things undone.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

impl FileDisk {
    /// Opens the file, which is made with its folder if it is not there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("/")).to_owned();
        std::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder)?;
        let lock = options().open(beside(path, ".lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another agent holds it"),
            TryLockError::Error(error) => error,
        })?;
        let file = options().append(true).open(path)?;
        Ok(Self { new: beside(path, ".new"), path: path.to_owned(), folder, file, _lock: lock })
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(ending);
    name.into()
}

impl Disk for FileDisk {
    fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        File::open(&self.path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.sync_folder()
    }

    fn write_new(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = options().open(&self.new)?;
        file.set_len(0)?;
        file.write_all(bytes)
    }

    fn sync_new(&mut self) -> io::Result<()> {
        options().open(&self.new)?.sync_all()
    }

    fn rename_new(&mut self) -> io::Result<()> {
        std::fs::rename(&self.new, &self.path)?;
        // What is appended from here on goes to the file that bears the name now.
        self.file = options().append(true).open(&self.path)?;
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// Which boot this is.
pub(crate) fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let id = text.trim();
    if id.is_empty() { Err(io::Error::other("it is empty")) } else { Ok(id.to_owned()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_there_and_only_one_agent_writes() {
        let folder = std::env::temp_dir().join(format!("nameward-journal-{}", std::process::id()));
        let path = folder.join("deep").join("journal");
        let mut disk = FileDisk::open(&path).unwrap();
        assert_eq!(disk.read(100).unwrap(), b"");
        disk.append(b"one\n").unwrap();
        disk.sync().unwrap();
        assert!(FileDisk::open(&path).unwrap_err().to_string().contains("another agent"));
        disk.write_new(b"two\n").unwrap();
        disk.sync_new().unwrap();
        disk.rename_new().unwrap();
        disk.sync_folder().unwrap();
        disk.append(b"three\n").unwrap();
        assert_eq!(disk.read(100).unwrap(), b"two\nthree\n");
        assert_eq!(disk.read(3).unwrap(), b"two");
        drop(disk);
        assert_eq!(FileDisk::open(&path).unwrap().read(100).unwrap(), b"two\nthree\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
