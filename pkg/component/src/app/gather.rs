//! Lets work gather while a daemon is busy: a thread that wakes for every packet spends more on waking, on reading sockets and
//! on writing to them than on what the packets say.
//!
//! Once the thread has had to wait for less than a pause, it sleeps for the rest of a pause before it looks again, and meets in
//! one round what came meanwhile. A daemon that is woken rarely never sleeps so: it answers at once. Network cards moderate
//! their interrupts in the same way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When the thread last went to wait and was last woken, in nanoseconds since `start`.
pub(super) struct Gather {
    pause: Duration,
    start: Instant,
    waited: AtomicU64,
    woken: AtomicU64,
}

impl Gather {
    pub fn new(pause: Duration) -> Self {
        Self { pause, start: Instant::now(), waited: AtomicU64::new(0), woken: AtomicU64::new(0) }
    }

    /// Before the thread waits for work.
    pub fn before_waiting(&self) {
        let now = self.now();
        let (waited, woken) = (self.waited.load(Ordering::Relaxed), self.woken.load(Ordering::Relaxed));
        let rest = rest(self.pause, between(waited, woken), between(woken, now));
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
        self.waited.store(self.now(), Ordering::Relaxed);
    }

    /// When there is work.
    pub fn after_waiting(&self) {
        self.woken.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn between(from: u64, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}

/// How long a thread sleeps before it waits again, when the last time it `waited` so long and then `worked` so long.
fn rest(pause: Duration, waited: Duration, worked: Duration) -> Duration {
    if waited < pause { pause.saturating_sub(worked) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_busy_thread_rests() {
        for (waited, worked, want) in [
            (0, 0, 4),
            (0, 1, 3),
            (3, 1, 3),
            // As long as a pause: what came meanwhile is there already.
            (0, 4, 0),
            (0, 9, 0),
            // Nothing to do for a pause.
            (4, 0, 0),
            (1000, 1, 0),
        ] {
            let ms = Duration::from_millis;
            assert_eq!(rest(ms(4), ms(waited), ms(worked)), ms(want), "waited {waited}, worked {worked}");
        }
    }

    #[test]
    fn a_busy_thread_sleeps_before_it_waits_again() {
        let gather = Gather::new(Duration::from_millis(30));
        let rested = |gather: &Gather| {
            let start = Instant::now();
            gather.before_waiting();
            start.elapsed() >= Duration::from_millis(20)
        };
        gather.after_waiting();
        gather.waited.store(gather.now(), Ordering::Relaxed);
        gather.after_waiting();
        assert!(rested(&gather), "woken at once");
        gather.woken.store(gather.now() + 1_000_000_000, Ordering::Relaxed);
        assert!(!rested(&gather), "woken after a long time");
    }
}
