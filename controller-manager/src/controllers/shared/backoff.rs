//! Pauses that double with every failure of an item and are forgotten when it behaves.
//! Upstream: client-go/util/flowcontrol/backoff.go.

use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;

#[derive(Debug, Clone, Copy)]
struct Entry {
    pause: Duration,
    updated: Timestamp,
}

/// Pauses per item. Entries not touched for twice the longest pause count as absent.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    entries: HashMap<String, Entry>,
}

impl Backoff {
    /// Pauses from `first`, doubling, to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, entries: HashMap::new() }
    }

    fn live(&self, id: &str, now: Timestamp) -> Option<Entry> {
        let entry = self.entries.get(id)?;
        (now.duration_since(entry.updated).as_millis()
            <= i128::try_from(2 * self.longest.as_millis()).ok()?)
        .then_some(*entry)
    }

    /// The item's whole pause, while it is not over.
    pub fn waiting(&self, id: &str, now: Timestamp) -> Option<Duration> {
        let entry = self.live(id, now)?;
        let passed = Duration::try_from(now.duration_since(entry.updated)).unwrap_or_default();
        (passed < entry.pause).then_some(entry.pause)
    }

    /// The item failed: its next pause begins.
    pub fn next(&mut self, id: &str, now: Timestamp) {
        let pause = self.live(id, now).map_or(self.first, |e| (e.pause * 2).min(self.longest));
        self.entries.insert(id.to_string(), Entry { pause, updated: now });
    }

    /// Drops what counts as absent.
    pub fn forget_old(&mut self, now: Timestamp) {
        let horizon = i128::try_from(2 * self.longest.as_millis()).unwrap_or(i128::MAX);
        self.entries.retain(|_, e| now.duration_since(e.updated).as_millis() <= horizon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_are_forgotten() {
        let at = |s: i64| Timestamp::from_second(1_790_000_000 + s).expect("a time");
        let secs = Duration::from_secs;
        let mut backoff = Backoff::new(secs(1), secs(8));
        assert_eq!(backoff.waiting("a", at(0)), None);
        for (now, pause) in [(0, 1), (1, 2), (3, 4), (7, 8), (15, 8)] {
            backoff.next("a", at(now));
            assert_eq!(backoff.waiting("a", at(now)), Some(secs(pause)), "{now}");
            assert_eq!(backoff.waiting("a", at(now + i64::try_from(pause).expect("small"))), None);
        }
        backoff.next("a", at(15 + 17));
        assert_eq!(
            backoff.waiting("a", at(32)),
            Some(secs(1)),
            "after twice the longest pause it starts anew"
        );
        backoff.forget_old(at(60));
        assert!(backoff.entries.is_empty());
    }
}
