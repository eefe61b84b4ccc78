//! How long a failed item waits before the next try.
//! Upstream: client-go/util/workqueue/default_rate_limiters.go.

use std::hash::Hash;
use std::time::Duration;

use client::limiter::Bucket;
use hashbrown::HashMap;
use tokio::time::Instant;

/// Decides about retries.
pub trait RateLimiter<T>: Send {
    /// Pause before this try.
    fn when(&mut self, item: &T) -> Duration;
    /// The item succeeded or is given up.
    fn forget(&mut self, item: &T);
    /// Failures so far.
    fn requeues(&self, item: &T) -> u32;
}

/// `base * 2^failures`, up to `max`.
pub struct ItemExponential<T> {
    failures: HashMap<T, u32>,
    base: Duration,
    max: Duration,
}

impl<T> ItemExponential<T> {
    /// With these bounds.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { failures: HashMap::new(), base, max }
    }
}

impl<T: Clone + Eq + Hash + Send> RateLimiter<T> for ItemExponential<T> {
    fn when(&mut self, item: &T) -> Duration {
        let failures = self.failures.entry(item.clone()).or_insert(0);
        let exponent = *failures;
        *failures = failures.saturating_add(1);
        let factor = 1u32.checked_shl(exponent).filter(|_| exponent < 32);
        factor.and_then(|f| self.base.checked_mul(f)).map_or(self.max, |d| d.min(self.max))
    }
    fn forget(&mut self, item: &T) {
        self.failures.remove(item);
    }
    fn requeues(&self, item: &T) -> u32 {
        self.failures.get(item).copied().unwrap_or(0)
    }
}

/// The default of controllers: per item 5 ms to 1000 s, over all items 10 per second after 100 at once.
pub struct DefaultLimiter<T> {
    item: ItemExponential<T>,
    overall: Bucket,
    start: Instant,
}

impl<T> Default for DefaultLimiter<T> {
    fn default() -> Self {
        Self {
            item: ItemExponential::new(Duration::from_millis(5), Duration::from_secs(1000)),
            overall: Bucket::new(10.0, 100),
            start: Instant::now(),
        }
    }
}

impl<T: Clone + Eq + Hash + Send> RateLimiter<T> for DefaultLimiter<T> {
    fn when(&mut self, item: &T) -> Duration {
        self.item.when(item).max(self.overall.reserve(self.start.elapsed()))
    }
    fn forget(&mut self, item: &T) {
        self.item.forget(item);
    }
    fn requeues(&self, item: &T) -> u32 {
        self.item.requeues(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit() {
        let mut l = ItemExponential::new(Duration::from_millis(5), Duration::from_secs(1000));
        let pauses: Vec<_> = (0..40).map(|_| l.when(&"a")).collect();
        assert_eq!(pauses[0], Duration::from_millis(5));
        assert_eq!(pauses[10], Duration::from_millis(5120));
        assert_eq!(pauses[39], Duration::from_secs(1000));
        assert_eq!(l.requeues(&"a"), 40);
        l.forget(&"a");
        assert_eq!(l.when(&"a"), Duration::from_millis(5));
    }
}
