//! When a refused client should come back: later, the more are refused.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/dropped_requests_tracker.go`.

use std::collections::VecDeque;

/// The longest wait, in seconds.
const MOST: u64 = 32;

/// The refused requests of one level.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// Second and requests refused in it; at most as many as matter.
    history: VecDeque<(u64, u64)>,
    second: u64,
    count: u64,
    retry_after: u64,
    raised_at: u64,
}

impl Default for Dropped {
    fn default() -> Self {
        Self { history: VecDeque::new(), second: 0, count: 0, retry_after: 1, raised_at: 0 }
    }
}

impl Dropped {
    /// A request is refused in a second.
    pub fn record(&mut self, second: u64) {
        if second == self.second {
            self.count += 1;
            return;
        }
        self.history.push_back((self.second, self.count));
        let kept = (2 * self.retry_after).min(MOST);
        while self.history.front().is_some_and(|(at, _)| self.second.saturating_sub(*at) > kept) {
            self.history.pop_front();
        }
        (self.second, self.count) = (second, 1);
        self.adjust(second);
    }

    /// Doubles the wait, at most once per wait, when three times as many requests as it has seconds were refused within
    /// it; shortens it when fewer than that were.
    fn adjust(&mut self, second: u64) {
        let wait = self.retry_after;
        let recent = self.history.iter().filter(|(at, _)| *at < second && second - at <= wait);
        let dropped: u64 = recent.map(|(_, count)| count).sum();
        if second.saturating_sub(self.raised_at) >= wait && dropped >= 3 * wait {
            self.retry_after = (2 * wait).min(MOST);
            self.raised_at = second;
        } else if dropped < wait && wait > 1 {
            self.retry_after -= 1;
        }
    }

    /// Seconds to wait.
    #[must_use]
    pub fn retry_after(&self) -> u64 {
        self.retry_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds, refusals in them, and the wait after: the case table of upstream's `TestDroppedRequestsTracker`.
    #[test]
    fn rises_and_falls() {
        let table = [
            (0u64, 5u64, 1u64),
            (1, 11, 2),
            (2, 1, 2),
            (3, 11, 4),
            (4, 1, 4),
            (7, 1, 8),
            (11, 1, 8),
            (15, 1, 7),
            (17, 1, 6),
            (21, 14, 5),
            (22, 1, 10),
        ];
        let mut tracker = Dropped::default();
        for (at, count, wait) in table {
            for _ in 0..count {
                tracker.record(1_000 + at);
            }
            assert_eq!(tracker.retry_after(), wait, "second {at}");
        }
    }
}
