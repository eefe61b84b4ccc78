//! Filling a cache and keeping it current: list everything, then follow the store's watch; again after an error.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::object::Object;
use super::ring::{Change, Ring};
use super::tree::Tree;
use super::{Phase, Shared};
use crate::store::{Event, EventKind, ListOptions, Revision, WatchItem, WatchOptions};

/// Keys per page when filling: upstream's maximum.
const PAGE: usize = 10_000;
/// The pause before a new attempt: upstream's.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until aborted.
pub async fn run(shared: Arc<Shared>) {
    loop {
        let started = Instant::now();
        let why = fill_and_follow(&shared).await;
        tracing::warn!(
            prefix = shared.config.prefix,
            why,
            "the watch cache lost the store; filling it again"
        );
        let since = match &*shared.phase.borrow() {
            Phase::Filling { since, .. } => *since,
            _ => Instant::now(),
        };
        shared.phase.send_replace(Phase::Filling { since, why: Some(why.into()) });
        *shared.progress.lock() = None;
        shared.dispatch.end_all();
        tokio::time::sleep(PAUSE.saturating_sub(started.elapsed())).await;
    }
}

/// The reason it ended.
async fn fill_and_follow(shared: &Shared) -> String {
    let (objects, revision) = match fill(shared).await {
        Ok(filled) => filled,
        Err(why) => return why,
    };
    let options = WatchOptions {
        prefix: shared.config.prefix.clone(),
        from: revision + 1,
        prev: false,
        progress: true,
    };
    let mut watch = match shared.config.store.watch(options).await {
        Ok(watch) => watch,
        Err(error) => return error.to_string(),
    };
    {
        let mut state = shared.state.write();
        let seq = state.ring.next_seq();
        state.tree = Tree::from_sorted(objects);
        state.ring = Ring::after_list(revision, seq);
        state.revision = revision;
        // Those that began since the last state was lost have seen the end of it.
        shared.dispatch.end_all();
        shared.dispatched.store(revision, Ordering::Release);
    }
    shared.pages.lock().clear();
    *shared.progress.lock() = Some(watch.progress());
    shared.fresh.send_replace(revision);
    shared.phase.send_replace(Phase::Ready);
    while let Some(item) = watch.next().await {
        let done = match item {
            Ok(WatchItem::Events(events)) => take(shared, events),
            Ok(WatchItem::Progress(revision)) => {
                shared.reached(revision);
                shared.announce(revision);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = done {
            return why;
        }
    }
    "the store's watch ended".into()
}

async fn fill(shared: &Shared) -> Result<(Vec<Arc<Object>>, Revision), String> {
    let mut objects = Vec::new();
    let mut options = ListOptions { limit: PAGE, ..ListOptions::prefix(shared.config.prefix.clone()) };
    loop {
        let page = shared.config.store.list(options.clone()).await.map_err(|error| error.to_string())?;
        if options.revision == 0 {
            options.revision = page.revision;
        }
        let next = page.next_start();
        objects.reserve(page.kvs.len());
        for kv in page.kvs {
            objects.push(Arc::new(decode(shared, kv)?));
        }
        match next {
            // Our keys are text; one that is not ends at the replacement, which sorts after it.
            Some(start) => options.start = Some(String::from_utf8_lossy(&start).into_owned()),
            None => return Ok((objects, options.revision)),
        }
        tokio::task::yield_now().await;
    }
}

fn decode(shared: &Shared, kv: crate::store::KeyValue) -> Result<Object, String> {
    let key = kv.key.clone();
    Object::decode(&shared.config.decode, kv).map_err(|why| {
        format!("unable to decode the object stored at {}: {why}", String::from_utf8_lossy(&key))
    })
}

/// Brings changes in: decoded first, then made visible together, then handed to the watches.
fn take(shared: &Shared, events: Vec<Event>) -> Result<(), String> {
    let mut decoded = Vec::with_capacity(events.len());
    for event in events {
        let object = match event.kind {
            EventKind::Put => Some(Arc::new(decode(shared, event.kv.clone())?)),
            EventKind::Delete => None,
        };
        decoded.push((event.kv.key, event.kv.mod_revision, object));
    }
    let now = Instant::now();
    let mut changes = Vec::with_capacity(decoded.len());
    let revision = {
        let mut state = shared.state.write();
        for (key, revision, object) in decoded {
            let change = match object {
                Some(object) => {
                    let previous = state.tree.insert(Arc::clone(&object));
                    Some((object, false, previous))
                }
                // Deleting what was never seen changes nothing.
                None => state.tree.remove(&key).map(|last| (Arc::new(last.at(revision)), true, Some(last))),
            };
            state.revision = state.revision.max(revision);
            if let Some((object, deleted, previous)) = change {
                let change = Change::new(state.ring.next_seq(), revision, object, deleted, previous, now);
                let change = Arc::new(change);
                state.ring.push(Arc::clone(&change));
                changes.push(change);
            }
        }
        state.revision
    };
    for change in &changes {
        shared.dispatch.send(change, shared.config.index);
    }
    shared.announce(revision);
    Ok(())
}
