//! The watch cache of one resource: lists, gets and watches served from memory without decoding anything per request.
//!
//! Fed by one watch on the store ([`feed`]). The current objects are an immutable ordered tree ([`tree`]) that lists
//! walk without locks; recent changes are a [`ring`] from which watches start in the past and lists at a past revision
//! are reconstructed. A watch ([`watch`]) has a bounded queue and, when it falls behind, a cursor into the ring, so it
//! falls behind alone. Rules R1 to R14 of the API's list/watch contract are tested in `tests/cacher.rs`.
//!
//! Nothing runs until the first use. After upstream's `pkg/storage/cacher`.

mod direct;
pub mod error;
mod feed;
mod list;
pub mod object;
pub mod request;
mod ring;
pub mod token;
pub mod tree;
pub mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch as channel;

pub use self::error::Error;
pub use self::list::{Found, ListResult};
pub use self::object::{Decode, Decoded, Encodings, Filter, Format, Header, Object};
pub use self::request::{At, ListRequest, Scope, WatchRequest, parse_revision};
pub use self::watch::{WatchEvent, WatchKind, WatchStream};

use self::error::{Result, retry_after};
use self::ring::Ring;
use self::tree::Tree;
use self::watch::Dispatch;
use crate::store::{ProgressHandle, Revision, Store};

/// How long a read waits for the cache to catch up before it goes to the store or fails.
const CATCH_UP: Duration = Duration::from_secs(3);
/// How long a request waits for a cache that is being filled for the first time.
const FIRST_FILL: Duration = Duration::from_secs(30);

/// What a cache is made of.
#[derive(Clone)]
pub struct Config {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The resource's key prefix with a slash at the end: `/registry/pods/`.
    pub prefix: String,
    /// Turns stored bytes into what is kept.
    pub decode: Decode,
    /// The position in [`Header::fields`] of the field by which many watches select one value each (a pod's node);
    /// upstream's indexer of the resource.
    pub index: Option<usize>,
    /// How often a watch that takes bookmarks gets one: upstream's minute.
    pub bookmark_every: Duration,
    /// Whether objects are kept at all. Without, every request goes to the store: for resources that are written much
    /// and read little (events, as upstream's default sizes have it).
    pub cached: bool,
}

impl Config {
    /// A cache without index field.
    pub fn new(store: Arc<dyn Store>, prefix: impl Into<String>, decode: Decode) -> Self {
        Self {
            store,
            prefix: prefix.into(),
            decode,
            index: None,
            bookmark_every: Duration::from_secs(60),
            cached: true,
        }
    }
}

/// The current objects and the recent changes.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) tree: Tree<Object>,
    pub(crate) ring: Ring,
    /// Everything up to this revision is in.
    pub(crate) revision: Revision,
}

#[derive(Clone, Debug)]
enum Phase {
    Idle,
    Filling { since: Instant, why: Option<Arc<str>> },
    Ready,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) state: RwLock<State>,
    pub(crate) dispatch: Dispatch,
    /// Everything up to this revision has been handed to the watches.
    pub(crate) dispatched: AtomicI64,
    phase: channel::Sender<Phase>,
    /// Announces [`State::revision`].
    fresh: channel::Sender<Revision>,
    progress: Mutex<Option<ProgressHandle>>,
    last_request: Mutex<Option<Instant>>,
    /// Recent snapshots that a client may still page through.
    pub(crate) pages: Mutex<Vec<(Revision, Instant, Tree<Object>)>>,
}

/// The watch cache of one resource. Cheap to clone; the last clone's drop ends the feed.
#[derive(Clone)]
pub struct Cacher {
    shared: Arc<Shared>,
    feed: Arc<Feed>,
}

struct Feed(Mutex<Option<tokio::task::AbortHandle>>);

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(task) = self.0.lock().take() {
            task.abort();
        }
    }
}

impl Cacher {
    /// A cache that does nothing until it is used.
    pub fn new(config: Config) -> Self {
        let shared = Shared {
            config,
            state: RwLock::default(),
            dispatch: Dispatch::default(),
            dispatched: AtomicI64::new(0),
            phase: channel::Sender::new(Phase::Idle),
            fresh: channel::Sender::new(0),
            progress: Mutex::new(None),
            last_request: Mutex::new(None),
            pages: Mutex::new(Vec::new()),
        };
        Self { shared: Arc::new(shared), feed: Arc::new(Feed(Mutex::new(None))) }
    }

    /// Starts filling the cache, unless that has happened. Every read does it; a server calls it for what it wants ready
    /// before the first request. Must be called on a runtime.
    pub fn start(&self) {
        if !self.shared.config.cached || !matches!(*self.shared.phase.borrow(), Phase::Idle) {
            return;
        }
        let mut task = self.feed.0.lock();
        if task.is_none() {
            self.shared.phase.send_replace(Phase::Filling { since: Instant::now(), why: None });
            *task = Some(tokio::spawn(feed::run(Arc::clone(&self.shared))).abort_handle());
        }
    }

    /// Whether the cache is filled: upstream's readiness of the storage.
    pub fn is_ready(&self) -> bool {
        matches!(*self.shared.phase.borrow(), Phase::Ready)
    }

    /// The object the cache has for a key, however old: the suggestion for an update.
    pub fn peek(&self, key: &[u8]) -> Option<Arc<Object>> {
        self.shared.state.read().tree.get(key).cloned()
    }

    /// The revision up to which the cache knows everything.
    pub fn revision(&self) -> Revision {
        self.shared.state.read().revision
    }

    /// The number of objects and of recent changes held.
    pub fn size(&self) -> (usize, usize) {
        let state = self.shared.state.read();
        (state.tree.len(), state.ring.len())
    }

    /// The average size of the stored objects in bytes, by the first thousand of them; 0 without any.
    pub fn average_size(&self) -> u64 {
        let tree = self.shared.state.read().tree.clone();
        let (mut count, mut bytes) = (0, 0);
        for object in tree.iter().take(1000) {
            count += 1;
            bytes += object.payload.len() as u64;
        }
        bytes / count.max(1)
    }

    /// Whether objects are kept; see [`Config::cached`].
    pub fn is_cached(&self) -> bool {
        self.shared.config.cached
    }

    /// Whether a watch can be answered from memory. One that starts with the objects there are must show all that was
    /// acknowledged before, which the cache cannot know of a store whose progress it cannot ask for: writes elsewhere
    /// move the store's revision on, and the cache would wait for news of its own resource.
    pub fn can_watch(&self, request: &WatchRequest) -> bool {
        let listing = request.send_initial_events == Some(true);
        self.is_cached() && (!listing || self.shared.config.store.progress_interval().is_some())
    }

    /// Forgets encodings that nobody has asked for since the last sweep; the bytes of encodings that stay.
    pub fn sweep_encodings(&self) -> usize {
        let tree = self.shared.state.read().tree.clone();
        tree.iter_from(b"").map(|object| object.encodings.sweep()).sum()
    }

    /// The number of running watches.
    pub fn watchers(&self) -> usize {
        self.shared.dispatch.count()
    }

    /// A digest of keys and revisions with the revision it is of, for comparing the cache with the store (rule R14).
    pub fn digest(&self) -> (Revision, u64) {
        let (tree, revision) = {
            let state = self.shared.state.read();
            (state.tree.clone(), state.revision)
        };
        (revision, digest(tree.iter().map(|object| (&object.key[..], object.revision))))
    }

    /// Waits until the cache is filled; starts it.
    pub(crate) async fn ready(&self) -> Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        self.start();
        let mut phase = self.shared.phase.subscribe();
        let settled = |phase: &Phase| matches!(phase, Phase::Ready | Phase::Filling { why: Some(_), .. });
        let waited = tokio::time::timeout(FIRST_FILL, phase.wait_for(settled)).await;
        let now = match waited {
            Ok(Ok(phase)) => phase.clone(),
            Ok(Err(_)) | Err(_) => self.shared.phase.borrow().clone(),
        };
        match now {
            Phase::Ready => Ok(()),
            Phase::Idle => Err(Error::NotReady { why: None, retry_after: 1 }),
            Phase::Filling { since, why } => {
                Err(Error::NotReady { why, retry_after: retry_after(since.elapsed()) })
            }
        }
    }

    /// Waits until the cache is at `revision`, asking the store for progress meanwhile. Whether it got there.
    pub(crate) async fn caught_up(&self, revision: Revision) -> bool {
        if self.shared.state.read().revision >= revision {
            return true;
        }
        let mut fresh = self.shared.fresh.subscribe();
        let interval = self.shared.config.store.progress_interval();
        let until = tokio::time::Instant::now() + CATCH_UP;
        loop {
            let wait = match interval {
                Some(interval) => self.shared.request_progress(interval),
                None => CATCH_UP,
            };
            let step = until.min(tokio::time::Instant::now() + wait);
            match tokio::time::timeout_at(step, fresh.wait_for(|current| *current >= revision)).await {
                Ok(outcome) => return outcome.is_ok(),
                Err(_) if tokio::time::Instant::now() >= until => return false,
                Err(_) => {}
            }
        }
    }
}

impl Shared {
    /// Asks the store for progress, together with everyone who asks within the same interval; when to ask again.
    fn request_progress(&self, interval: Duration) -> Duration {
        let now = Instant::now();
        let mut last = self.last_request.lock();
        if let Some(next) = last.map(|at| at + interval).filter(|next| *next > now) {
            return next - now;
        }
        *last = Some(now);
        if let Some(progress) = &*self.progress.lock() {
            progress.request();
        }
        // An answer that got lost is asked for again at upstream's pace.
        interval.max(Duration::from_millis(100))
    }

    /// Asks for progress on behalf of bookmarks, without hurry.
    pub(crate) fn nudge(&self) {
        if let Some(progress) = &*self.progress.lock() {
            progress.request();
        }
    }

    /// Notes that nothing more comes up to `revision`.
    pub(crate) fn reached(&self, revision: Revision) {
        let mut state = self.state.write();
        state.revision = state.revision.max(revision);
    }

    pub(crate) fn announce(&self, revision: Revision) {
        self.fresh.send_if_modified(|current| {
            let newer = revision > *current;
            *current = revision.max(*current);
            newer
        });
        self.dispatched.fetch_max(revision, Ordering::AcqRel);
    }
}

/// A hash over keys and revisions in order.
pub fn digest<'a>(items: impl Iterator<Item = (&'a [u8], Revision)>) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::quality::FixedState::default().build_hasher();
    for (key, revision) in items {
        hasher.write(key);
        hasher.write_u8(0xff);
        hasher.write_i64(revision);
    }
    hasher.finish()
}
