//! Growing pauses between attempts, per key. Upstream: client-go/util/flowcontrol/backoff.go, v1.37.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

struct Entry {
    pause: Duration,
    updated: Timestamp,
}

/// Pauses by key: doubled at each failure, forgotten after a quiet time of twice the longest pause.
pub struct Backoff {
    initial: Duration,
    max: Duration,
    entries: HashMap<String, Entry>,
}

impl Backoff {
    /// Pauses from `initial` to `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, entries: HashMap::new() }
    }

    /// The present pause of a key; zero if it has none.
    pub fn get(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |e| e.pause)
    }

    /// Records an attempt at `at`: the first pause, or twice the last one.
    pub fn next(&mut self, key: &str, at: Timestamp) {
        let (initial, max) = (self.initial, self.max);
        match self.entries.get_mut(key) {
            Some(entry) if !expired(entry.updated, at, max) => {
                entry.pause = entry.pause.saturating_mul(2).min(max);
                entry.updated = at;
            }
            _ => drop(self.entries.insert(key.to_owned(), Entry { pause: initial, updated: at })),
        }
    }

    /// True while the pause after the event at `since` is not over.
    pub fn is_in_backoff_since(&self, key: &str, since: Timestamp, now: Timestamp) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        !expired(entry.updated, since, self.max) && elapsed(since, now) < entry.pause
    }

    /// True while the pause after the last recorded attempt is not over.
    pub fn is_in_backoff_since_update(&self, key: &str, now: Timestamp) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        !expired(entry.updated, now, self.max) && elapsed(entry.updated, now) < entry.pause
    }

    /// Forgets keys that have been quiet.
    pub fn collect(&mut self, now: Timestamp) {
        let max = self.max;
        self.entries.retain(|_, entry| !expired(entry.updated, now, max));
    }

    /// Forgets a key.
    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).try_into().unwrap_or_default()
}

fn expired(updated: Timestamp, event: Timestamp, max: Duration) -> bool {
    let quiet = SignedDuration::try_from(max.saturating_mul(2)).unwrap_or(SignedDuration::MAX);
    event.duration_since(updated) > quiet
}

/// Prints a pause as Go prints durations of whole seconds: `10s`, `1m20s`, `5m0s`.
pub fn go_seconds(pause: Duration) -> String {
    let seconds = pause.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_forgets() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
        assert!(!backoff.is_in_backoff_since("k", at(0), at(1)));
        backoff.next("k", at(0));
        assert!(backoff.is_in_backoff_since("k", at(0), at(9)));
        assert!(!backoff.is_in_backoff_since("k", at(0), at(10)));
        backoff.next("k", at(20));
        assert_eq!(backoff.get("k"), Duration::from_secs(20));
        for _ in 0..10 {
            backoff.next("k", at(30));
        }
        assert_eq!(backoff.get("k"), Duration::from_secs(300));
        backoff.next("k", at(1000));
        assert_eq!(backoff.get("k"), Duration::from_secs(10));
        backoff.collect(at(5000));
        assert_eq!(backoff.get("k"), Duration::ZERO);
    }

    #[test]
    fn prints() {
        assert_eq!([10, 80, 300].map(|s| go_seconds(Duration::from_secs(s))), ["10s", "1m20s", "5m0s"]);
    }
}
