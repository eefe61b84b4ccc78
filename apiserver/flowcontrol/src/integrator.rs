//! Time-weighted statistics of a number that changes now and then.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/integrator.go`.

use std::time::Duration;

/// Sums the powers of a value over time.
#[derive(Debug, Clone)]
pub struct Integrator {
    last: Duration,
    value: f64,
    /// Integrals of 1, x and x².
    moments: [f64; 3],
    max: f64,
}

/// Statistics of a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Seconds.
    pub duration: f64,
    /// Time-weighted; NaN without duration.
    pub average: f64,
    /// Standard deviation; NaN without duration.
    pub deviation: f64,
    /// The largest value.
    pub max: f64,
}

impl Integrator {
    /// Starts at zero.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { last: now, value: 0.0, moments: [0.0; 3], max: 0.0 }
    }

    /// The value changes.
    pub fn set(&mut self, now: Duration, value: f64) {
        self.pass(now);
        self.value = value;
        self.max = self.max.max(value);
    }

    fn pass(&mut self, now: Duration) {
        let span = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        let mut power = span;
        for moment in &mut self.moments {
            *moment += power;
            power *= self.value;
        }
    }

    /// Statistics until now; a new period begins.
    pub fn reset(&mut self, now: Duration) -> Statistics {
        self.pass(now);
        let [duration, x, xx] = std::mem::take(&mut self.moments);
        let average = x / duration;
        let deviation = (xx / duration - average * average).sqrt();
        let max = std::mem::replace(&mut self.max, self.value);
        Statistics { duration, average, deviation, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step() {
        let at = Duration::from_secs;
        let mut integrator = Integrator::new(at(0));
        integrator.set(at(1), 4.0);
        integrator.set(at(2), 2.0);
        let seen = integrator.reset(at(4));
        assert_eq!((seen.duration, seen.average, seen.max), (4.0, 2.0, 4.0));
        assert!((seen.deviation - 2f64.sqrt()).abs() < 1e-9);
        assert_eq!(integrator.reset(at(4)).max, 2.0);
    }
}
