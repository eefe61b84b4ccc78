//! Keeping container logs small: which files to keep, compress and remove when a log is rotated.
//!
//! Upstream: pkg/kubelet/logs/container_log_manager.go, v1.37.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

/// Suffix of a rotated and compressed log.
const COMPRESSED: &str = ".gz";
/// Suffix of a file that was being written when something went wrong.
const TEMPORARY: &str = ".tmp";

/// What to do with the rotated files of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Remove these: leftovers, and the oldest beyond the limit.
    pub remove: Vec<PathBuf>,
    /// Compress these.
    pub compress: Vec<PathBuf>,
}

/// Decides for the rotated files of one log; `max_files` counts the log itself. Names sort by time.
pub fn plan(mut rotated: Vec<PathBuf>, max_files: usize) -> Plan {
    rotated.sort();
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let mut plan = Plan::default();
    let mut kept = Vec::new();
    for path in &rotated {
        let name = text(path);
        // An uncompressed file beside its compressed form is a leftover of an interrupted compression.
        let leftover = name.ends_with(TEMPORARY)
            || (!name.ends_with(COMPRESSED)
                && rotated.iter().any(|p| text(p) == format!("{name}{COMPRESSED}")));
        if leftover {
            plan.remove.push(path.clone());
        } else {
            kept.push(path.clone());
        }
    }
    // Room for the log itself and for the file that the coming rotation makes.
    let excess = kept.len().saturating_sub(max_files.saturating_sub(2));
    plan.remove.extend(kept.drain(..excess));
    plan.compress = kept.into_iter().filter(|p| !text(p).ends_with(COMPRESSED)).collect();
    plan
}

/// The rotated files that belong to a log.
///
/// # Errors
/// If the folder cannot be read.
pub fn rotated_files(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            out.push(entry.path());
        }
    }
    Ok(out)
}

/// Where a log goes when it is rotated now.
pub fn rotated_name(log: &Path, now: Timestamp) -> PathBuf {
    let stamp = now.to_zoned(k8s_openapi::jiff::tz::TimeZone::system()).strftime("%Y%m%d-%H%M%S");
    PathBuf::from(format!("{}.{stamp}", log.display()))
}

/// Compresses a rotated log beside itself and removes the original.
///
/// # Errors
/// If a file cannot be read or written; the original is then still there.
pub fn compress(log: &Path) -> io::Result<()> {
    let target = PathBuf::from(format!("{}{COMPRESSED}", log.display()));
    let temporary = PathBuf::from(format!("{}{TEMPORARY}", target.display()));
    let mut input = std::fs::File::open(log)?;
    let output = std::fs::File::create(&temporary)?;
    let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
    io::copy(&mut input, &mut encoder)?;
    encoder.finish()?;
    std::fs::rename(&temporary, &target)?;
    std::fs::remove_file(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let files = paths(&["0.log.3", "0.log.1.gz", "0.log.2.gz", "0.log.2", "0.log.9.gz.tmp"]);
        let expected = Plan {
            remove: paths(&["0.log.2", "0.log.9.gz.tmp", "0.log.1.gz"]),
            compress: paths(&["0.log.3"]),
        };
        assert_eq!(plan(files, 4), expected);
    }

    #[test]
    fn compresses() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log.1");
        std::fs::write(&log, "text").unwrap();
        compress(&log).unwrap();
        assert_eq!(rotated_files(&dir.path().join("0.log")).unwrap(), [dir.path().join("0.log.1.gz")]);
    }
}
