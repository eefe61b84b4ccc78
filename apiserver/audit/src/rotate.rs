//! A file that makes room for a new one when it is full. Full ones keep their time in their name, are compressed if
//! asked, and are removed by age and number. Upstream: `gopkg.in/natefinch/lumberjack.v2`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

const TIME_FORMAT: &str = "%Y-%m-%dT%H-%M-%S%.3f";
const COMPRESSED: &str = ".gz";

/// When a file is full, and what becomes of full ones; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Largest size of a file.
    pub max_bytes: u64,
    /// Days that full ones are kept.
    pub max_age_days: u32,
    /// How many full ones are kept.
    pub max_backups: usize,
    /// Whether full ones are compressed.
    pub compress: bool,
}

/// Creates a file that only its owner can read, and the directories to it.
///
/// # Errors
/// The system refuses.
pub fn ensure(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path).map(drop)
}

/// The file.
pub struct Rotating {
    path: PathBuf,
    rotation: Rotation,
    open: Option<(File, u64)>,
    /// Held while full files are compressed and removed.
    cleaning: Arc<Mutex<()>>,
}

impl Rotating {
    /// Nothing is opened yet.
    pub fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { path, rotation, open: None, cleaning: Arc::default() }
    }

    /// Writes bytes that stay together in one file.
    ///
    /// # Errors
    /// More bytes than a file may have, or the system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (length, max) = (bytes.len() as u64, self.rotation.max_bytes);
        if length > max {
            let text = format!("write length {length} exceeds maximum file size {max}");
            return Err(io::Error::other(text));
        }
        let (mut file, size) = match self.open.take() {
            Some((file, size)) if size + length <= max => (file, size),
            Some(_) => self.rotate()?,
            None => self.open_existing(length)?,
        };
        let written = file.write_all(bytes);
        self.open = Some((file, size + length));
        written
    }

    fn open_existing(&self, length: u64) -> io::Result<(File, u64)> {
        self.clean();
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.open_new(),
            Err(error) => Err(error),
            Ok(found) if found.len() + length >= self.rotation.max_bytes => self.rotate(),
            Ok(found) => match OpenOptions::new().append(true).open(&self.path) {
                Ok(file) => Ok((file, found.len())),
                Err(_) => self.open_new(),
            },
        }
    }

    fn rotate(&self) -> io::Result<(File, u64)> {
        let opened = self.open_new()?;
        self.clean();
        Ok(opened)
    }

    /// Moves what is there aside and starts anew, with the same mode and owner.
    fn open_new(&self) -> io::Result<(File, u64)> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let old = fs::metadata(&self.path).ok();
        if old.is_some() {
            fs::rename(&self.path, backup_name(&self.path, Timestamp::now()))?;
        }
        let mode = old.as_ref().map_or(0o600, |m| m.permissions().mode() & 0o7777);
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&self.path)?;
        if let Some(old) = old {
            use std::os::unix::fs::MetadataExt;
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        Ok((file, 0))
    }

    /// Compresses and removes full files, aside from the requests that wait for their line to be written.
    fn clean(&self) {
        let Rotation { max_age_days, max_backups, compress, .. } = self.rotation;
        if max_age_days == 0 && max_backups == 0 && !compress {
            return;
        }
        let (path, rotation, cleaning) = (self.path.clone(), self.rotation, self.cleaning.clone());
        let work = move || {
            // Whoever holds it sees the newest file too, or the next rotation does.
            let Some(_alone) = cleaning.try_lock() else { return };
            if let Err(error) = clean(&path, rotation, Timestamp::now()) {
                tracing::warn!(path = %path.display(), err = %error, "Cleaning up old audit log files");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }
}

/// Prefix and extension around the time of a full file.
fn name_parts(path: &Path) -> (String, String) {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // As Go sees extensions: from the last point, a leading one included.
    let at = name.rfind('.').unwrap_or(name.len());
    (format!("{}-", &name[..at]), name[at..].to_owned())
}

fn backup_name(path: &Path, now: Timestamp) -> PathBuf {
    let (prefix, extension) = name_parts(path);
    path.with_file_name(format!("{prefix}{}{extension}", now.strftime(TIME_FORMAT)))
}

/// The time in the name of a full file.
fn time_of(name: &str, path: &Path) -> Option<Timestamp> {
    let (prefix, extension) = name_parts(path);
    let rest = base(name).strip_prefix(&prefix)?.strip_suffix(&extension)?;
    let (date, time) = rest.split_once('T')?;
    // As a time is usually written, but for the dashes.
    format!("{date}T{}Z", time.replace('-', ":")).parse().ok()
}

fn base(name: &str) -> &str {
    name.strip_suffix(COMPRESSED).unwrap_or(name)
}

/// What is to be removed and what compressed, of the full files with their times.
fn plan(
    mut files: Vec<(Timestamp, String)>,
    rotation: Rotation,
    now: Timestamp,
) -> (Vec<String>, Vec<String>) {
    files.sort_by(|a, b| b.cmp(a));
    let mut kept: Vec<String> = Vec::new();
    let age = SignedDuration::from_hours(24 * i64::from(rotation.max_age_days));
    let cutoff = now.checked_sub(age).unwrap_or(Timestamp::MIN);
    let (mut remove, mut compress) = (Vec::new(), Vec::new());
    for (time, name) in files {
        if !kept.iter().any(|k| k == base(&name)) {
            kept.push(base(&name).to_owned());
        }
        let too_many = rotation.max_backups > 0 && kept.len() > rotation.max_backups;
        if too_many || rotation.max_age_days > 0 && time < cutoff {
            remove.push(name);
        } else if rotation.compress && !name.ends_with(COMPRESSED) {
            compress.push(name);
        }
    }
    (remove, compress)
}

fn clean(path: &Path, rotation: Rotation, now: Timestamp) -> io::Result<()> {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(time) = time_of(&name, path).filter(|_| entry.file_type().is_ok_and(|t| !t.is_dir())) {
            files.push((time, name));
        }
    }
    let (remove, compress) = plan(files, rotation, now);
    let mut result = Ok(());
    for name in remove {
        result = result.and(fs::remove_file(directory.join(name)));
    }
    for name in compress {
        result = result.and(gzip(&directory.join(name)));
    }
    result
}

/// Replaces a file by its compressed form.
fn gzip(path: &Path) -> io::Result<()> {
    let mut target = path.as_os_str().to_owned();
    target.push(COMPRESSED);
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    let out = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&target)?;
    let mut encoder = GzEncoder::new(out, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn names() {
        let path = Path::new("/var/log/audit.log");
        let name = backup_name(path, at("2026-01-02T03:04:05.678Z"));
        assert_eq!(name, Path::new("/var/log/audit-2026-01-02T03-04-05.678.log"));
        for file in ["audit-2026-01-02T03-04-05.678.log", "audit-2026-01-02T03-04-05.678.log.gz"] {
            assert_eq!(time_of(file, path), Some(at("2026-01-02T03:04:05.678Z")), "{file}");
        }
        for file in ["audit.log", "audit-x.log", "other-2026-01-02T03-04-05.678.log"] {
            assert_eq!(time_of(file, path), None, "{file}");
        }
    }

    #[test]
    fn what_is_kept() {
        let file = |day: u32, end: &str| (at(&format!("2026-01-{day:02}T00:00:00Z")), format!("{day}{end}"));
        let files = vec![file(1, ""), file(4, ""), file(3, ".gz"), file(3, ""), file(2, "")];
        let check = |rotation: Rotation, remove: &[&str], compress: &[&str]| {
            let got = plan(files.clone(), rotation, at("2026-01-05T00:00:00Z"));
            let want = [remove, compress].map(|l| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
            assert_eq!([got.0, got.1], want, "{rotation:?}");
        };
        check(Rotation { max_backups: 2, ..Rotation::default() }, &["2", "1"], &[]);
        check(Rotation { max_age_days: 3, ..Rotation::default() }, &["1"], &[]);
        check(Rotation { max_backups: 3, compress: true, ..Rotation::default() }, &["1"], &["4", "3", "2"]);
    }

    #[test]
    fn rotates_when_full() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/audit.log");
        ensure(&path).unwrap();
        let rotation = Rotation { max_bytes: 10, compress: true, ..Rotation::default() };
        let mut file = Rotating::new(path.clone(), rotation);
        for line in ["12345\n", "6789\n", "abc\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        assert_eq!(
            file.write(&[b'x'; 11]).unwrap_err().to_string(),
            "write length 11 exceeds maximum file size 10"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "6789\nabc\n");
        let mut names: Vec<String> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names.len(), 2);
        assert!(names[0].ends_with(".log.gz"), "{names:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
