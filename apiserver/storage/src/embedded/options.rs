//! What can be set about the embedded store, with the reasons for the defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Disk, RealDisk};

/// Options of the embedded store.
#[derive(Clone)]
pub struct Options {
    /// The data directory; created with mode 0700 when missing.
    pub dir: PathBuf,
    /// Writes below these key prefixes are acknowledged before they are durable: a power cut (not the death of the
    /// process) may lose the last [`Options::relaxed_sync`] of them. Meant for data that is renewed anyway.
    pub relaxed_prefixes: Vec<String>,
    /// How long such writes may stay in the page cache. One fsync per second costs an idle disk nothing notable.
    pub relaxed_sync: Duration,
    /// The largest value accepted: etcd's default request limit, so that both stores refuse the same objects.
    pub max_value: usize,
    /// History is kept this long: upstream's compaction interval, which clients' page tokens are used to.
    pub history: Duration,
    /// At most this many changes are kept as history, however young.
    pub history_events: usize,
    /// At most this many bytes of superseded values are kept as history, however young.
    pub history_bytes: usize,
    /// A log segment is closed and a snapshot taken when the log since the last snapshot exceeds both this and the size
    /// of that snapshot: the disk holds at most about three times the live data plus this.
    pub log_bytes: u64,
    /// The files; tests put faults here.
    pub disk: Arc<dyn Disk>,
}

impl Options {
    /// The defaults for a data directory, with keys below `/registry` as in upstream's default `--etcd-prefix`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with_prefix(dir, "/registry")
    }

    /// The defaults for a data directory and key prefix.
    pub fn with_prefix(dir: impl Into<PathBuf>, prefix: &str) -> Self {
        let relaxed = ["leases", "events", "masterleases", "peerserverleases"];
        Self {
            dir: dir.into(),
            relaxed_prefixes: relaxed.iter().map(|name| format!("{prefix}/{name}/")).collect(),
            relaxed_sync: Duration::from_secs(1),
            max_value: 1_536 << 10,
            history: Duration::from_secs(300),
            history_events: 200_000,
            history_bytes: 64 << 20,
            log_bytes: 64 << 20,
            disk: Arc::new(RealDisk),
        }
    }
}
