//! Client-side rate limit: a token bucket as `golang.org/x/time/rate` keeps it.
//!
//! Callers reserve in order of arrival: the bucket may go into debt, and each caller waits for its own share, so nobody starves.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Pure bucket; `now` is the time since some fixed start.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    last: Duration,
}

impl Bucket {
    /// A full bucket: `rate` tokens per second, at most `burst` saved.
    pub fn new(rate: f64, burst: u32) -> Self {
        Self { rate, burst: f64::from(burst), tokens: f64::from(burst), last: Duration::ZERO }
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
    }

    /// Takes one token and says how long to wait until it is really there.
    pub fn reserve(&mut self, now: Duration) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        if self.rate <= 0.0 {
            return Duration::MAX;
        }
        Duration::try_from_secs_f64(-self.tokens / self.rate).unwrap_or(Duration::MAX)
    }

    /// Takes one token if there is one now.
    pub fn try_take(&mut self, now: Duration) -> bool {
        self.refill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

/// Bucket on the runtime's clock.
#[derive(Debug)]
pub struct RateLimiter {
    start: Instant,
    bucket: Mutex<Bucket>,
}

impl RateLimiter {
    /// Upstream: client-go/util/flowcontrol NewTokenBucketRateLimiter.
    pub fn new(qps: f64, burst: u32) -> Self {
        Self { start: Instant::now(), bucket: Mutex::new(Bucket::new(qps, burst)) }
    }

    /// Waits for the caller's turn. Cancel safety: a cancelled wait has spent its token.
    pub async fn wait(&self) -> Duration {
        let delay = self.bucket.lock().reserve(self.start.elapsed());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_waits_its_share() {
        let mut b = Bucket::new(2.0, 2);
        let at = |ms| Duration::from_millis(ms);
        let cases =
            [(0, 0), (0, 0), (0, 500), (0, 1000), (1000, 500), (10_000, 0), (10_000, 0), (10_000, 500)];
        for (i, (now, want)) in cases.into_iter().enumerate() {
            assert_eq!(b.reserve(at(now)), at(want), "case {i}");
        }
    }
}
