//! Backup of a data directory, whether a server uses it or not, into one file; and back.
//!
//! The file is a snapshot in the store's own format ([`super::snapshot`]): every live key at one revision, in checked
//! frames, with an end that says how many there must be. It holds everything acknowledged before the backup began.
//! Values stay as they are stored: what was encrypted at rest is encrypted in the file, and needs the same keys later.
//!
//! What it does not do: keep history (a restored store serves the present only) or write several versions into one file.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use parking_lot::RwLock;

use super::disk::sync_dir;
use super::replay::{self, Replayed};
use super::snapshot::{self, Job};
use crate::error::{Error, Result};
use crate::store::Revision;

/// The file number of a restored store's snapshot: the log goes on with the same number.
const FIRST: u64 = 1;
/// A copy of files that change meanwhile may be inconsistent; more often than this it is damage.
const ATTEMPTS: usize = 8;

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The store's revision.
    pub revision: Revision,
    /// Live keys.
    pub keys: usize,
    /// Size of the file.
    pub bytes: u64,
}

/// Writes the state of the store in `dir` to `file`, which must not exist; only its owner may read it.
///
/// # Errors
/// When `dir` holds no store or a damaged one, or `file` cannot be written.
pub fn save(dir: &Path, file: &Path) -> Result<Summary> {
    if file.exists() {
        return Err(Error::Invalid(format!("{} exists already", file.display())));
    }
    let copy = Scratch(file.with_extension("copy"));
    let state = copy_and_replay(dir, &copy.0)?;
    let revision = state.state.current();
    write(state, revision, file)?;
    inspect(file)
}

/// Reads a backup from its beginning to its end.
///
/// # Errors
/// When it is damaged or no backup.
pub fn inspect(file: &Path) -> Result<Summary> {
    let replayed = load(file)?;
    Ok(summary(&replayed))
}

/// Makes a data directory of a backup. `bump` is added to the revision: clients that saw what happened after the
/// backup must never meet a revision again with another meaning, so it has to exceed the writes since.
///
/// # Errors
/// When the backup is damaged, or `dir` holds anything already.
pub fn restore(file: &Path, dir: &Path, bump: Revision) -> Result<Summary> {
    let fail = |error: std::io::Error| Error::io("creating the data directory", dir, &error);
    let mut replayed = load(file)?;
    let revision = replayed.state.current().checked_add(bump.max(0));
    let revision = revision.ok_or_else(|| Error::Invalid(format!("{bump} is too much to add")))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    if fs::read_dir(dir).map_err(fail)?.next().is_some() {
        let why = "is not empty: restore into a new directory, or move what it holds away first";
        return Err(Error::Invalid(format!("{} {why}", dir.display())));
    }
    replayed.state.jump(revision);
    let path = snapshot::snapshot_path(dir, FIRST);
    write(replayed, revision, &path)?;
    inspect(&path)
}

fn load(file: &Path) -> Result<Replayed> {
    let mut replayed = Replayed::empty();
    snapshot::load_file(file, &mut replayed, Instant::now())?;
    Ok(replayed)
}

fn summary(replayed: &Replayed) -> Summary {
    let state = &replayed.state;
    Summary { revision: state.current(), keys: state.live(), bytes: replayed.snapshot_bytes }
}

/// Writes a snapshot that is there whole and durable, or not at all.
fn write(from: Replayed, revision: Revision, file: &Path) -> Result<()> {
    let partial = file.with_extension("tmp");
    let job = Job {
        dir: PathBuf::new(),
        number: FIRST,
        seq: from.next_seq.saturating_sub(1),
        revision,
        leases: from.leases.list(Instant::now()),
    };
    let written = snapshot::write_file(&partial, &job, &RwLock::new(from.state));
    written.inspect_err(|_| drop(fs::remove_file(&partial)))?;
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::rename(&partial, file)
        .and_then(|()| sync_dir(parent))
        .map_err(|error| Error::io("renaming", &partial, &error))
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is a folder named after the backup; the next backup of that name clears it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies the files, repeatedly if a server replaced some meanwhile, and reads the copy.
fn copy_and_replay(dir: &Path, copy: &Path) -> Result<Replayed> {
    let mut last = Error::Corrupt(format!("{} holds no store", dir.display()));
    for _ in 0..ATTEMPTS {
        match copy_files(dir, copy).and_then(|()| replay::replay(copy, Instant::now())) {
            Ok(replayed) => return Ok(replayed),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Older files first: a log that ends early is a store of that moment, one with a gap is none.
fn copy_files(dir: &Path, copy: &Path) -> Result<()> {
    match fs::remove_dir_all(copy) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("clearing", copy, &error));
        }
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(copy).map_err(|e| Error::io("creating", copy, &e))?;
    let mut names: Vec<String> = replay::list(dir)?;
    names.retain(|name| replay::is_data(name));
    if names.is_empty() {
        return Err(Error::Invalid(format!("{} holds no store", dir.display())));
    }
    names.sort_unstable();
    for name in names {
        let from = dir.join(&name);
        let mut source = File::open(&from).map_err(|error| Error::io("opening", &from, &error))?;
        let mut target = File::create(copy.join(&name)).map_err(|e| Error::io("creating", copy, &e))?;
        std::io::copy(&mut source, &mut target).map_err(|error| Error::io("copying", &from, &error))?;
    }
    Ok(())
}
