//! The store in a directory: the default when no etcd is named.
//!
//! Everything live is in memory ([`index`]); the disk holds what is needed to get it back: a log ([`wal`]) written by
//! one thread with one fdatasync per batch ([`writer`], [`batch`]), and snapshots that keep the log short
//! ([`snapshot`]). [`replay`] reads both at start and says what it thinks of damage. No other database underneath: the
//! state fits in memory because the watch cache above shares its bytes, and a log plus a snapshot file has few enough
//! states to test all of them.
//!
//! What it does not do: run on more than one machine (that is etcd's job), or serve two processes (a lock file prevents
//! it).

pub mod backup;
pub mod batch;
mod codec;
pub mod disk;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod history;
pub mod index;
mod leases;
mod options;
mod record;
mod replay;
mod snapshot;
mod wal;
mod watch;
pub mod writer;

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

pub use self::options::Options;

use self::batch::{Compare, Done, Life, Relation, Step, Target, Txn, TxnDone};
use self::index::{KeyRange, Select};
use self::wal::Wal;
use self::writer::{MAX_UNSYNCED, Op, Past, Reply, Shared, Writer};
use crate::error::{Error, Result};
use crate::store::{Get, KeyValue, ListOptions, Page, Revision, Store, Watch, WatchOptions};

/// The embedded store. Dropping the last handle closes it and waits for the writer.
pub struct Embedded {
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
    max_value: usize,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Held for its lock.
    _lock: File,
}

impl Embedded {
    /// Opens or creates the store. Reads the whole directory: call it before serving, off the runtime's threads.
    pub fn open(options: Options) -> Result<Self> {
        let dir = &options.dir;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| Error::io("creating the data directory", dir, &error))?;
        let lock = lock(dir)?;
        let mut replayed = replay::replay(dir, Instant::now())?;
        let jump = (!replayed.clean && !options.relaxed_prefixes.is_empty())
            .then(|| replayed.state.current() + MAX_UNSYNCED);
        if let Some(revision) = jump {
            replayed.state.jump(revision);
        }
        tracing::info!(dir = %dir.display(), keys = replayed.state.live(), revision = replayed.state.current(),
            clean = replayed.clean, "opened the embedded store");
        let shared = Arc::new(Shared::new(replayed.state));
        let wal = Wal::new(
            dir.clone(),
            Arc::clone(&options.disk),
            replayed.next_number,
            replayed.next_seq,
            replayed.log_bytes,
        );
        let max_value = options.max_value;
        let past = Past { snapshot_bytes: replayed.snapshot_bytes, segments: replayed.segments };
        let mut writer = Writer::new(Arc::clone(&shared), options, wal, replayed.leases, past);
        if let Some(revision) = jump {
            writer.jump(revision);
        }
        let thread = std::thread::Builder::new().name("storage-writer".into()).spawn(move || writer.run());
        let thread = thread.map_err(|error| Error::Io(format!("starting the writer thread: {error}")))?;
        Ok(Self { shared, closed: Arc::default(), max_value, writer: Mutex::new(Some(thread)), _lock: lock })
    }

    /// Finishes queued writes, marks the log as complete and ends the watches. Later calls fail with `Unavailable`.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.shared.close();
        if let Some(thread) = self.writer.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the storage writer panicked");
        }
    }

    /// Runs a transaction.
    pub async fn txn(&self, txn: Txn) -> Result<TxnDone> {
        for step in txn.then.iter().chain(&txn.otherwise) {
            if let Step::Put { key, value, .. } = step
                && key.len() + value.as_ref().map_or(0, Bytes::len) > self.max_value
            {
                return Err(Error::TooLarge);
            }
        }
        match self.shared.submit(Op::Txn(txn)).await? {
            Reply::Txn(done) => Ok(done),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands an operation to the writer: leases and compaction for the etcd façade.
    pub async fn submit(&self, op: Op) -> Result<Reply> {
        self.shared.submit(op).await
    }

    /// Reads a range.
    pub fn range(&self, range: &KeyRange, select: Select) -> Result<Page> {
        self.shared.state.read().range(range, select)
    }

    /// The current and the oldest readable revision.
    pub fn revisions(&self) -> (Revision, Revision) {
        let state = self.shared.state.read();
        (state.current(), state.oldest())
    }

    /// Watches a range.
    pub fn watch_range(&self, range: KeyRange, from: Revision, prev: bool) -> Result<Watch> {
        watch::start(Arc::clone(&self.shared), Arc::clone(&self.closed), range, from, prev)
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<TxnDone> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let life = ttl.map_or(Life::Endless, |ttl| Life::Seconds(whole_seconds(ttl)));
        self.txn(Txn {
            compares: vec![at_revision(&key, expected)],
            then: vec![Step::Put { key: key.clone(), value: Some(value), life: Some(life) }],
            otherwise: vec![Step::Range(KeyRange::key(&key), Select::default())],
        })
        .await
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait::async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str, revision: Revision) -> Result<Get> {
        let state = self.shared.state.read();
        Ok(Get { kv: state.get(key.as_bytes(), revision)?, revision: state.current() })
    }

    async fn list(&self, options: ListOptions) -> Result<Page> {
        let mut range = KeyRange::prefix(options.prefix.as_bytes());
        if let Some(start) = options.start {
            range.start = range.start.max(Bytes::from(start));
        }
        let ListOptions { limit, revision, keys_only, count_only, .. } = options;
        self.range(&range, Select { limit, revision, keys_only, count_only })
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        let done = self.put(key, value, 0, ttl).await?;
        match found(&done) {
            _ if done.succeeded => Ok(done.revision),
            Some(current) => Err(Error::AlreadyExists { key: key.to_owned(), current: Box::new(current) }),
            None => Err(Error::Corrupt(format!("a create of {key} found it neither free nor taken"))),
        }
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision> {
        let done = self.put(key, value, expected, ttl).await?;
        if done.succeeded {
            return Ok(done.revision);
        }
        Err(Error::Conflict { key: key.to_owned(), expected, current: found(&done).map(Box::new) })
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        let bytes = Bytes::copy_from_slice(key.as_bytes());
        let range = KeyRange::key(&bytes);
        let done = self
            .txn(Txn {
                compares: vec![at_revision(&bytes, expected)],
                then: vec![Step::Delete(range.clone())],
                otherwise: vec![Step::Range(range, Select::default())],
            })
            .await?;
        let current = found(&done);
        match (done.succeeded, done.steps.first()) {
            (true, Some(Done::Delete(deleted))) if !deleted.is_empty() => Ok(done.revision),
            (false, _) if current.is_some() => {
                Err(Error::Conflict { key: key.to_owned(), expected, current: current.map(Box::new) })
            }
            _ => Err(Error::NotFound { key: key.to_owned(), revision: done.revision }),
        }
    }

    async fn watch(&self, options: WatchOptions) -> Result<Watch> {
        self.watch_range(KeyRange::prefix(options.prefix.as_bytes()), options.from, options.prev)
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.shared.submit(Op::Compact(revision)).await.map(|_| ())
    }

    fn compacted(&self) -> Revision {
        self.shared.state.read().oldest()
    }

    async fn current_revision(&self) -> Result<Revision> {
        Ok(self.shared.state.read().current())
    }

    async fn health(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Unavailable("the store has been closed".into()));
        }
        self.shared.broken.get().map_or(Ok(()), |why| Err(Error::Unavailable(why.clone())))
    }

    async fn size(&self) -> Result<Option<u64>> {
        Ok(Some(self.shared.size.load(Ordering::Relaxed)))
    }
}

fn lock(dir: &std::path::Path) -> Result<File> {
    let path = dir.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| Error::io("opening", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
            "{} is locked: another process uses this data directory; stop it or choose another directory",
            path.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(Error::io("locking", &path, &error)),
    }
}

fn at_revision(key: &Bytes, revision: Revision) -> Compare {
    Compare { key: key.clone(), relation: Relation::Equal, target: Target::Mod(revision) }
}

fn found(done: &TxnDone) -> Option<KeyValue> {
    match done.steps.first() {
        Some(Done::Range(page)) => page.kvs.first().cloned(),
        _ => None,
    }
}

/// Leases count whole seconds; a fraction rounds up, so that nothing ends early.
pub(crate) fn whole_seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).unwrap_or(i64::MAX).max(1)
}

fn unexpected(reply: &Reply) -> Error {
    Error::Corrupt(format!("the writer answered something else: {reply:?}"))
}
