//! What a controller has done but not seen yet. While expectations are open, its view of the world is stale and it
//! must not create or delete again. Upstream: pkg/controller/controller_utils.go.

use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::time::Instant;

/// After this time lost events are assumed.
pub const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
struct Open {
    add: i64,
    del: i64,
    since: Instant,
}

/// Counts of expected additions and deletions, per controller object.
#[derive(Debug, Default)]
pub struct Expectations(Mutex<HashMap<String, Open>>);

impl Expectations {
    /// Nothing expected.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is expected for a key.
    pub fn set(&self, key: &str, add: usize, del: usize) {
        let count = |n| i64::try_from(n).unwrap_or(i64::MAX);
        let open = Open { add: count(add), del: count(del), since: Instant::now() };
        self.0.lock().insert(key.to_string(), open);
    }

    /// Expects additions only.
    pub fn expect_creations(&self, key: &str, adds: usize) {
        self.set(key, adds, 0);
    }

    /// Expects deletions only.
    pub fn expect_deletions(&self, key: &str, dels: usize) {
        self.set(key, 0, dels);
    }

    /// More is expected.
    pub fn raise(&self, key: &str, add: i64, del: i64) {
        if let Some(open) = self.0.lock().get_mut(key) {
            open.add = open.add.saturating_add(add);
            open.del = open.del.saturating_add(del);
        }
    }

    /// Less is expected.
    pub fn lower(&self, key: &str, add: i64, del: i64) {
        self.raise(key, -add, -del);
    }

    /// An addition was seen, or will not come.
    pub fn creation_observed(&self, key: &str) {
        self.lower(key, 1, 0);
    }

    /// A deletion was seen, or will not come.
    pub fn deletion_observed(&self, key: &str) {
        self.lower(key, 0, 1);
    }

    /// Whether nothing is open: all seen, nothing expected, or too old to wait for.
    pub fn satisfied(&self, key: &str) -> bool {
        match self.0.lock().get(key) {
            Some(open) => (open.add <= 0 && open.del <= 0) || open.since.elapsed() > TIMEOUT,
            None => true,
        }
    }

    /// What is open: (additions, deletions).
    pub fn get(&self, key: &str) -> Option<(i64, i64)> {
        self.0.lock().get(key).map(|o| (o.add, o.del))
    }

    /// The controller object is gone.
    pub fn delete(&self, key: &str) {
        self.0.lock().remove(key);
    }
}

/// Expectations that know which deletions are expected, so that a graceful deletion (an update first, a deletion later)
/// counts once. Upstream: UIDTrackingControllerExpectations.
#[derive(Debug, Default)]
pub struct UidExpectations {
    counts: Expectations,
    uids: Mutex<HashMap<String, HashSet<String>>>,
}

impl UidExpectations {
    /// Nothing expected.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counts underneath.
    pub fn counts(&self) -> &Expectations {
        &self.counts
    }

    /// Expects additions only.
    pub fn expect_creations(&self, key: &str, adds: usize) {
        self.counts.expect_creations(key, adds);
    }

    /// Expects the deletion of these objects only.
    pub fn expect_deletions<I: IntoIterator<Item = String>>(&self, key: &str, deleted: I) {
        let set: HashSet<String> = deleted.into_iter().collect();
        let mut uids = self.uids.lock();
        self.counts.expect_deletions(key, set.len());
        uids.insert(key.to_string(), set);
    }

    /// An addition was seen, or will not come.
    pub fn creation_observed(&self, key: &str) {
        self.counts.creation_observed(key);
    }

    /// The deletion of an object was seen, or will not come. Counts once per object.
    pub fn deletion_observed(&self, key: &str, deleted: &str) {
        let mut uids = self.uids.lock();
        if uids.get_mut(key).is_some_and(|set| set.remove(deleted)) {
            self.counts.deletion_observed(key);
        }
    }

    /// Whether nothing is open.
    pub fn satisfied(&self, key: &str) -> bool {
        self.counts.satisfied(key)
    }

    /// The controller object is gone.
    pub fn delete(&self, key: &str) {
        let mut uids = self.uids.lock();
        self.counts.delete(key);
        uids.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn open_until_seen_or_old() {
        let e = Expectations::new();
        assert!(e.satisfied("k"));
        e.set("k", 2, 1);
        e.creation_observed("k");
        e.deletion_observed("k");
        assert!(!e.satisfied("k"));
        tokio::time::advance(TIMEOUT).await;
        assert!(!e.satisfied("k"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(e.satisfied("k"));
        e.creation_observed("k");
        e.creation_observed("k");
        assert_eq!(e.get("k"), Some((-1, 0)));
    }

    #[tokio::test]
    async fn deletions_count_once() {
        let e = UidExpectations::new();
        e.expect_deletions("k", ["a".to_string(), "b".to_string()]);
        e.deletion_observed("k", "a");
        e.deletion_observed("k", "a");
        e.deletion_observed("k", "other");
        assert!(!e.satisfied("k"));
        e.deletion_observed("k", "b");
        assert!(e.satisfied("k"));
    }
}
