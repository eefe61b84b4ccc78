//! The writer thread: takes what has queued up, evaluates it as one batch, makes it durable with one fdatasync, makes
//! it visible, wakes the watchers it concerns, and answers. While it waits for the disk the next batch queues up, so
//! that throughput follows the load and a single writer waits for one sync only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::batch::{Batch, Effects, Step, Txn, TxnDone};
use super::index::State;
use super::leases::Leases;
use super::options::Options;
use super::record::Record;
use super::snapshot::{self, Job};
use super::wal::{AppendError, Wal};
use super::watch::Watchers;
use crate::error::{Error, Result};
use crate::lease::LeaseReuse;
use crate::store::Revision;

/// Operations waiting for the writer at most; more callers wait at the door.
const QUEUE: usize = 4096;
/// A batch is cut here, to bound the latency of those in it.
const BATCH_BYTES: usize = 8 << 20;
/// Relaxed writes that may be visible before they are durable; a start after a crash skips this many revisions, so that
/// no revision means two things.
pub const MAX_UNSYNCED: Revision = 10_000;
/// Restarts leave small segments behind; a snapshot gathers them when there are more.
const MAX_SEGMENTS: u64 = 64;
/// Versions freed per hold of the state's lock.
const TRIM: usize = 2048;

/// An operation for the writer.
#[derive(Debug)]
pub enum Op {
    /// A transaction.
    Txn(Txn),
    /// Grant a lease (id 0 chooses).
    Grant { id: i64, ttl: i64 },
    /// End a lease.
    Revoke { id: i64 },
    /// Renew a lease.
    KeepAlive { id: i64 },
    /// Describe a lease.
    Lease { id: i64 },
    /// Describe all leases.
    Leases,
    /// Compact.
    Compact(Revision),
}

/// The writer's answer.
#[derive(Debug)]
pub enum Reply {
    /// To a transaction.
    Txn(TxnDone),
    /// To lease operations: revision, id, TTL (-1: no such lease), seconds left, keys.
    Lease { revision: Revision, id: i64, ttl: i64, left: i64, keys: Vec<bytes::Bytes> },
    /// To a request for all leases.
    Leases(Vec<i64>),
    /// To a compaction.
    Compacted(Revision),
}

struct Request {
    op: Op,
    reply: oneshot::Sender<Result<Reply>>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    closing: bool,
    /// The size of a snapshot that was finished, or the error.
    snapshot: Option<Result<u64>>,
}

/// What the handles, the writer and the watchers share.
pub struct Shared {
    /// The visible state.
    pub state: RwLock<State>,
    /// Everyone to wake after a change.
    pub watchers: Watchers,
    /// Why writes are refused for good, if they are.
    pub broken: std::sync::OnceLock<String>,
    /// Bytes of log and snapshot.
    pub size: std::sync::atomic::AtomicU64,
    queue: Mutex<Queue>,
    wake: Condvar,
    door: Arc<Semaphore>,
}

impl Shared {
    /// The shared part around a state.
    pub fn new(state: State) -> Self {
        Self {
            state: RwLock::new(state),
            watchers: Watchers::default(),
            broken: std::sync::OnceLock::new(),
            size: std::sync::atomic::AtomicU64::new(0),
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            door: Arc::new(Semaphore::new(QUEUE)),
        }
    }

    /// Hands an operation to the writer and waits for its answer. When the caller goes away the operation may still be
    /// carried out.
    pub async fn submit(&self, op: Op) -> Result<Reply> {
        let closed = || Error::Unavailable("the store has been closed".into());
        let permit = self.door.clone().acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.closing {
                return Err(closed());
            }
            queue.requests.push_back(Request { op, reply, _permit: permit });
            if queue.requests.len() == 1 {
                self.wake.notify_one();
            }
        }
        answer.await.map_err(|_| closed())?
    }

    /// Asks the writer to finish what is queued and end.
    pub fn close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
        self.door.close();
    }
}

/// What the writer is told of the files it finds.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// The size of the snapshot.
    pub snapshot_bytes: u64,
    /// The number of segments after it.
    pub segments: u64,
}

/// The writer's own data.
pub struct Writer {
    shared: Arc<Shared>,
    options: Options,
    wal: Wal,
    leases: Leases,
    reuse: LeaseReuse,
    started: Instant,
    /// Records that go before the first batch.
    preamble: Vec<u8>,
    /// The last frame there was when the writer started.
    first_seq: u64,
    /// The segment at which replay would begin.
    base_number: u64,
    snapshot_bytes: u64,
    /// A snapshot is being written: the bytes of log it covers, and its number.
    snapshotting: Option<(u64, u64)>,
    retry_snapshot: Instant,
    last_sync: Instant,
    unsynced: Revision,
    history: VecDeque<(Instant, Revision)>,
    trimming: bool,
}

impl Writer {
    /// A writer going on where the log ends.
    pub fn new(shared: Arc<Shared>, options: Options, wal: Wal, leases: Leases, past: Past) -> Self {
        let now = Instant::now();
        let Past { snapshot_bytes, segments } = past;
        Self {
            shared,
            options,
            first_seq: wal.last_seq(),
            base_number: wal.next_number().saturating_sub(segments),
            wal,
            leases,
            reuse: LeaseReuse::default(),
            started: now,
            preamble: Vec::new(),
            snapshot_bytes,
            snapshotting: None,
            retry_snapshot: now,
            last_sync: now,
            unsynced: 0,
            history: VecDeque::new(),
            trimming: false,
        }
    }

    /// Notes in the log that revisions up to `revision` may have been seen by someone before a crash.
    pub fn jump(&mut self, revision: Revision) {
        Record::Jump { revision }.encode(&mut self.preamble);
    }

    /// Runs until closed. Must have a thread of its own: it blocks.
    pub fn run(mut self) {
        self.note_size();
        if !self.preamble.is_empty() {
            // On a full disk it goes with the first write that fits.
            let payload = std::mem::take(&mut self.preamble);
            match self.wal.append(&payload, true).and_then(|()| self.wal.sync()) {
                Ok(()) => {}
                Err(AppendError::Full) => self.preamble = payload,
                Err(error) => drop(self.failed(error)),
            }
        }
        while let Some(requests) = self.next() {
            self.serve(requests);
            self.housekeeping();
        }
        self.end();
    }

    /// Waits for work or the next deadline; `None` when closed and done.
    fn next(&mut self) -> Option<VecDeque<Request>> {
        let deadline = self.deadline();
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue.lock();
        loop {
            if let Some(outcome) = queue.snapshot.take() {
                drop(queue);
                self.snapshot_done(outcome);
                return Some(VecDeque::new());
            }
            if !queue.requests.is_empty() {
                return Some(std::mem::take(&mut queue.requests));
            }
            if queue.closing && self.snapshotting.is_none() {
                return None;
            }
            match deadline {
                Some(at) if shared.wake.wait_until(&mut queue, at).timed_out() => {
                    return Some(VecDeque::new());
                }
                Some(_) => {}
                None => shared.wake.wait(&mut queue),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let sync = self.wal.unsynced().then(|| self.last_sync + self.options.relaxed_sync);
        let compact = self.history.front().map(|(at, _)| *at + self.options.history);
        let trim = self.trimming.then(Instant::now);
        [sync, compact, trim, self.leases.next_expiry()].into_iter().flatten().min()
    }

    fn serve(&mut self, mut requests: VecDeque<Request>) {
        while !requests.is_empty() {
            let (answers, committed) = self.batch(&requests);
            if matches!(committed, Err(Error::NoSpace { .. })) && answers.len() > 1 {
                // One by one: deletes still fit where the rest does not.
                for request in requests.drain(..answers.len()).collect::<Vec<_>>() {
                    let alone = VecDeque::from([request]);
                    let (answers, committed) = self.batch(&alone);
                    respond(alone, answers, &committed);
                }
            } else {
                let rest = requests.split_off(answers.len());
                respond(std::mem::replace(&mut requests, rest), answers, &committed);
            }
        }
    }

    /// Evaluates and commits as many requests as fit one frame.
    fn batch(&mut self, requests: &VecDeque<Request>) -> (Vec<Result<Reply>>, Result<()>) {
        let now = Instant::now();
        let clock = now - self.started;
        let shared = Arc::clone(&self.shared);
        let state = shared.state.read();
        let mut batch = Batch::new(&state, &self.leases, now);
        let mut answers = Vec::with_capacity(requests.len());
        let mut strict = false;
        let mut renewed = Vec::new();
        for request in requests {
            let before = batch.size();
            if let Op::KeepAlive { id } = request.op {
                renewed.push(id);
            }
            answers.push(evaluate(&mut batch, &request.op, &self.leases, &mut self.reuse, now, clock));
            strict |= batch.size() > before && !relaxed(&request.op, &self.options);
            if batch.size() > BATCH_BYTES {
                break;
            }
        }
        let effects = batch.finish();
        drop(state);
        let committed = self.commit(effects, strict, now);
        // Renewal changes no durable state; it comes last because the batch may have made the lease.
        for id in renewed {
            let ttl = self.leases.renew(id, now);
            answers.iter_mut().for_each(|answer| fill_ttl(answer, id, ttl));
        }
        (answers, committed)
    }

    /// Durable, then visible.
    fn commit(&mut self, mut effects: Effects, strict: bool, now: Instant) -> Result<()> {
        if effects.is_empty() {
            return Ok(());
        }
        if let Some(why) = self.shared.broken.get() {
            return Err(Error::Unavailable(why.clone()));
        }
        let changes = Revision::try_from(effects.events.len()).unwrap_or(MAX_UNSYNCED);
        let sync = strict || self.unsynced + changes > MAX_UNSYNCED;
        if let Err(error) = self.write(&effects, sync, now) {
            self.reuse = LeaseReuse::default();
            return Err(self.failed(error));
        }
        self.note_size();
        self.unsynced = if sync { 0 } else { self.unsynced + changes };
        effects.apply_leases(&mut self.leases, now);
        let revision = self.publish(effects);
        if self.history.back().is_none_or(|(at, _)| now > *at + self.options.history / 10) {
            self.history.push_back((now, revision));
        }
        Ok(())
    }

    fn write(&mut self, effects: &Effects, sync: bool, now: Instant) -> Result<(), AppendError> {
        if self.preamble.is_empty() {
            self.wal.append(&effects.payload, effects.shrinks)?;
        } else {
            let mut payload = self.preamble.clone();
            payload.extend_from_slice(&effects.payload);
            self.wal.append(&payload, effects.shrinks)?;
            self.preamble.clear();
        }
        if sync {
            self.wal.sync()?;
            self.last_sync = now;
        }
        Ok(())
    }

    fn publish(&mut self, effects: Effects) -> Revision {
        let keys: Vec<_> = effects.events.iter().map(|event| event.kv.key.clone()).collect();
        let revision = {
            let mut state = self.shared.state.write();
            state.apply(effects.events);
            if let Some(revision) = effects.compact {
                state.compact(revision);
                self.trimming = true;
            }
            state.current()
        };
        self.shared.watchers.wake(&keys);
        revision
    }

    fn failed(&self, error: AppendError) -> Error {
        match error {
            AppendError::Full => Error::NoSpace { path: self.options.dir.display().to_string() },
            AppendError::Broken(why) => {
                let text = format!(
                    "writing to {} failed: {why}. Writes are refused until a restart, which will tell what is durable",
                    self.options.dir.display()
                );
                tracing::error!("{text}");
                let _ = self.shared.broken.set(text.clone());
                Error::Unavailable(text)
            }
        }
    }

    /// What is due: sync, leases, compaction, snapshot.
    fn housekeeping(&mut self) {
        let now = Instant::now();
        if self.wal.unsynced() && now >= self.last_sync + self.options.relaxed_sync {
            self.sync_relaxed(now);
        }
        while let Some(id) = self.leases.expired(now) {
            if !self.expire(id, now) {
                // Refused (full or broken disk): later, without spinning.
                self.leases.renew(id, now);
            }
        }
        self.compact_history(now);
        if self.trimming {
            self.trimming = self.shared.state.write().trim(TRIM);
        }
        self.start_snapshot(now);
    }

    fn sync_relaxed(&mut self, now: Instant) {
        self.last_sync = now;
        match self.wal.sync() {
            Ok(()) => self.unsynced = 0,
            Err(error) => drop(self.failed(error)),
        }
    }

    fn expire(&mut self, id: i64, now: Instant) -> bool {
        let shared = Arc::clone(&self.shared);
        let state = shared.state.read();
        let mut batch = Batch::new(&state, &self.leases, now);
        batch.revoke(id);
        let effects = batch.finish();
        drop(state);
        self.commit(effects, false, now).is_ok()
    }

    /// Forgets history by age, count and bytes. Not logged: a restart forgets more than this anyway.
    fn compact_history(&mut self, now: Instant) {
        let mut to = None;
        while let Some((at, revision)) =
            self.history.front().copied().filter(|(at, _)| now >= *at + self.options.history)
        {
            let _ = at;
            to = Some(revision);
            self.history.pop_front();
        }
        let state = self.shared.state.upgradable_read();
        let (events, bytes) = state.history();
        if events > self.options.history_events || bytes > self.options.history_bytes {
            to = to.max(Some(state.revision_back(events / 2)));
        }
        if let Some(to) = to {
            parking_lot::RwLockUpgradableReadGuard::upgrade(state).compact(to);
            self.trimming = true;
        }
    }

    fn start_snapshot(&mut self, now: Instant) {
        let large = self.wal.bytes() > self.options.log_bytes.max(self.snapshot_bytes);
        let due = large || self.wal.next_number() > self.base_number + MAX_SEGMENTS;
        if !due
            || self.snapshotting.is_some()
            || now < self.retry_snapshot
            || self.shared.broken.get().is_some()
        {
            return;
        }
        if let Err(error) = self.wal.rotate() {
            drop(self.failed(error));
            return;
        }
        self.unsynced = 0;
        let revision = {
            let mut state = self.shared.state.write();
            let revision = state.current();
            state.pin(Some(revision));
            revision
        };
        let job = Job {
            dir: self.options.dir.clone(),
            number: self.wal.next_number(),
            seq: self.wal.last_seq(),
            revision,
            leases: self.leases.list(now),
        };
        let (covered, number) = (self.wal.bytes(), job.number);
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new().name("storage-snapshot".into()).spawn(move || {
            let outcome = snapshot::write(&job, &shared.state);
            shared.queue.lock().snapshot = Some(outcome);
            shared.wake.notify_one();
        });
        match spawned {
            Ok(_) => self.snapshotting = Some((covered, number)),
            Err(error) => {
                tracing::warn!(%error, "cannot start a thread for the snapshot; trying again in a minute");
                self.retry_snapshot = now + Duration::from_secs(60);
                self.shared.state.write().pin(None);
            }
        }
    }

    fn snapshot_done(&mut self, outcome: Result<u64>) {
        self.shared.state.write().pin(None);
        self.trimming = true;
        let (covered, number) = self.snapshotting.take().unwrap_or((0, self.base_number));
        match outcome {
            Ok(size) => {
                self.snapshot_bytes = size;
                self.base_number = number;
                self.wal.forget(covered);
            }
            Err(error) => {
                tracing::error!(%error, "the storage snapshot failed; the log keeps growing, next attempt in a minute");
                self.retry_snapshot = Instant::now() + Duration::from_secs(60);
            }
        }
        self.note_size();
    }

    fn note_size(&self) {
        let size = self.snapshot_bytes + self.wal.bytes();
        self.shared.size.store(size, std::sync::atomic::Ordering::Relaxed);
    }

    /// Marks the log as complete.
    fn end(mut self) {
        self.shared.watchers.wake_all();
        if self.shared.broken.get().is_some() || self.wal.last_seq() == self.first_seq {
            return;
        }
        let mut payload = std::mem::take(&mut self.preamble);
        Record::Closed.encode(&mut payload);
        if let Err(error) = self.wal.append(&payload, true).and_then(|()| self.wal.rotate()) {
            tracing::warn!(
                ?error,
                "the storage log could not be closed; the next start treats this as a crash"
            );
        }
    }
}

fn evaluate(
    batch: &mut Batch<'_>,
    op: &Op,
    leases: &Leases,
    reuse: &mut LeaseReuse,
    now: Instant,
    clock: Duration,
) -> Result<Reply> {
    let lease = |batch: &Batch<'_>, id, ttl, left, keys| {
        Ok(Reply::Lease { revision: batch.current(), id, ttl, left, keys })
    };
    match op {
        Op::Txn(txn) => batch.txn(txn, reuse, clock).map(Reply::Txn),
        Op::Grant { id, .. } if *id != 0 && batch.has_lease(*id) => {
            Err(Error::Invalid("lease already exists".into()))
        }
        Op::Grant { id, ttl } => {
            let id = batch.grant(*id, *ttl);
            lease(batch, id, *ttl, *ttl, Vec::new())
        }
        Op::Revoke { id } if !batch.revoke(*id) => Err(Error::Invalid("requested lease not found".into())),
        Op::Revoke { id } => lease(batch, *id, 0, 0, Vec::new()),
        Op::KeepAlive { id } => lease(batch, *id, -1, -1, Vec::new()),
        Op::Lease { id } => {
            let (ttl, left, keys) = leases.get(*id, now).unwrap_or((-1, -1, Vec::new()));
            lease(batch, *id, ttl, left, keys)
        }
        Op::Leases => Ok(Reply::Leases(leases.list(now).into_iter().map(|(id, _, _)| id).collect())),
        Op::Compact(revision) => batch.compact(*revision).map(|()| Reply::Compacted(batch.current())),
    }
}

fn respond(requests: VecDeque<Request>, answers: Vec<Result<Reply>>, committed: &Result<()>) {
    for (request, answer) in requests.into_iter().zip(answers) {
        let answer = match committed {
            // What a request saw may have been part of what could not be committed.
            Err(error) if !matches!(answer, Err(Error::Invalid(_))) => Err(error.clone()),
            _ => answer,
        };
        // The caller may have gone away; the write stands.
        let _ = request.reply.send(answer);
    }
}

fn fill_ttl(answer: &mut Result<Reply>, renewed: i64, granted: Option<i64>) {
    if let Ok(Reply::Lease { id, ttl, left, .. }) = answer
        && *id == renewed
        && *ttl == -1
    {
        *ttl = granted.unwrap_or(-1);
        *left = *ttl;
    }
}

/// Whether everything the operation may write is of the relaxed class.
fn relaxed(op: &Op, options: &Options) -> bool {
    let Op::Txn(txn) = op else { return false };
    let covered =
        |key: &[u8]| options.relaxed_prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
    txn.then.iter().chain(&txn.otherwise).all(|step| match step {
        Step::Put { key, .. } => covered(key),
        Step::Delete(range) => covered(&range.start) && range.end.len() == range.start.len() + 1,
        Step::Range(..) => true,
    })
}
