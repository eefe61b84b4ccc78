//! How much a volume takes: its files counted, or what its file system says of itself.
//!
//! Project quotas are not asked. Upstream: pkg/volume/metrics_du.go, metrics_statfs.go and util/fs/fs.go, v1.37.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::AddAssign;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::node::machine::disk;

/// What files take of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of blocks in use.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl AddAssign for DiskUsage {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

/// How a volume is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// By counting files: it shares its file system with others.
    Files,
    /// By asking its file system.
    FileSystem,
    /// Not at all: it is a part of the node, or of an image.
    Nothing,
}

impl Measure {
    /// Name of the way in the metric of its duration.
    pub fn source(self) -> &'static str {
        if self == Self::FileSystem { "statfs" } else { "du" }
    }
}

/// Figures of one volume; bytes and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes that may still be written.
    pub available: u64,
    /// Bytes of the file system.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
    /// Inodes of the file system.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
    /// Inodes in use.
    pub inodes_used: u64,
}

/// Measures a volume; `None` for one that is not measured. Blocking, for as long as it takes to see all files.
///
/// # Errors
/// If the place cannot be read.
pub fn measure(path: &Path, how: Measure) -> io::Result<Option<Figures>> {
    if how == Measure::Nothing {
        return Ok(None);
    }
    let files = if how == Measure::Files { Some(disk_usage(path)?) } else { None };
    let whole = disk(path).ok_or_else(io::Error::last_os_error)?;
    let count = |n: i64| u64::try_from(n).unwrap_or_default();
    let own = files.unwrap_or_else(|| DiskUsage {
        bytes: count(whole.used),
        inodes: count(whole.inodes.saturating_sub(whole.inodes_free)),
    });
    Ok(Some(Figures {
        available: count(whole.available),
        capacity: count(whole.capacity),
        used: own.bytes,
        inodes: count(whole.inodes),
        inodes_free: count(whole.inodes_free),
        inodes_used: own.inodes,
    }))
}

/// What a file or all below a folder takes, on one file system; what vanishes meanwhile counts nothing. Blocking.
///
/// # Errors
/// If it is not there or cannot be read.
pub fn disk_usage(path: &Path) -> io::Result<DiskUsage> {
    let device = fs::metadata(path)?.dev();
    // A file with several names counts once.
    let mut seen = HashSet::new();
    let mut pending: Vec<PathBuf> = vec![path.to_owned()];
    let mut out = DiskUsage::default();
    while let Some(path) = pending.pop() {
        let Some(found) = present(fs::symlink_metadata(&path))? else { continue };
        if found.dev() != device || (found.nlink() > 1 && !found.is_dir() && !seen.insert(found.ino())) {
            continue;
        }
        out += DiskUsage { bytes: found.blocks().saturating_mul(512), inodes: 1 };
        if found.is_dir() {
            let Some(entries) = present(fs::read_dir(&path))? else { continue };
            for entry in entries {
                pending.extend(present(entry)?.map(|entry| entry.path()));
            }
        }
    }
    Ok(out)
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// What the files right in a folder take, without those in folders below. Blocking.
///
/// # Errors
/// If the folder cannot be read.
pub fn files_in(dir: &Path) -> io::Result<DiskUsage> {
    let mut out = DiskUsage::default();
    for entry in fs::read_dir(dir)? {
        let Some(entry) = present(entry)? else { continue };
        let Some(kind) = present(entry.file_type())? else { continue };
        if !kind.is_dir() {
            out += present(disk_usage(&entry.path()))?.unwrap_or_default();
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_files() {
        let dir = tempfile::tempdir().unwrap();
        let empty = disk_usage(dir.path()).unwrap();
        assert_eq!(empty.inodes, 1);
        fs::write(dir.path().join("a"), vec![1u8; 64 << 10]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/c"), vec![1u8; 64 << 10]).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let all = disk_usage(dir.path()).unwrap();
        assert_eq!(all.inodes, 5);
        assert!((128 << 10..256 << 10).contains(&(all.bytes - empty.bytes)), "{all:?}");
        // Both names are files of this folder; what is below is not. Each is looked at by itself.
        assert_eq!(files_in(dir.path()).unwrap().inodes, 3);
        assert!(disk_usage(&dir.path().join("none")).is_err());
    }

    #[test]
    fn ways() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(measure(dir.path(), Measure::Nothing).unwrap(), None);
        let files = measure(dir.path(), Measure::Files).unwrap().unwrap();
        let whole = measure(dir.path(), Measure::FileSystem).unwrap().unwrap();
        assert_eq!((files.inodes_used, files.capacity), (1, whole.capacity));
        assert!(whole.used > files.used && whole.capacity >= whole.used, "{whole:?}");
    }
}
