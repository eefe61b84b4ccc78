//! Histograms over time: as if a ratio were observed at the end of every nanosecond.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/metrics/timing_ratio_histogram.go`.

use std::sync::Arc;
use std::time::Instant;

use component::metrics::{Child, Kind, Value};
use parking_lot::Mutex;

/// One series.
pub(crate) struct TimingRatio {
    bounds: Arc<[f64]>,
    state: Mutex<State>,
}

struct State {
    since: Instant,
    ratio: f64,
    /// Nanoseconds per bound, and one more for the rest; not cumulative.
    spent: Box<[u64]>,
    sum: f64,
}

impl TimingRatio {
    /// The ratio changes.
    pub(crate) fn set(&self, now: Instant, ratio: f64) {
        let mut state = self.state.lock();
        if state.ratio != ratio {
            state.pass(now, &self.bounds);
            state.ratio = ratio;
        }
    }
}

impl State {
    fn pass(&mut self, now: Instant, bounds: &[f64]) {
        let span = now.saturating_duration_since(self.since);
        self.since = self.since.max(now);
        // More than five hundred years do not pass at once.
        let nanos = span.as_nanos() as u64;
        let at = bounds.partition_point(|bound| *bound < self.ratio);
        if let Some(cell) = self.spent.get_mut(at) {
            *cell += nanos;
        }
        self.sum += self.ratio * nanos as f64;
    }
}

impl Child for TimingRatio {
    const KIND: Kind = Kind::Histogram;

    fn create(bounds: &Arc<[f64]>) -> Self {
        let spent = vec![0; bounds.len() + 1].into();
        let state = State { since: Instant::now(), ratio: 0.0, spent, sum: 0.0 };
        Self { bounds: bounds.clone(), state: Mutex::new(state) }
    }

    fn value(&self) -> Value {
        let mut state = self.state.lock();
        state.pass(Instant::now(), &self.bounds);
        let mut count = 0;
        let mut cumulative = |spent: &u64| {
            count += spent;
            count
        };
        let all: Vec<u64> = state.spent.iter().map(&mut cumulative).collect();
        let buckets = self.bounds.iter().copied().zip(all.iter().copied()).collect();
        Value::Histogram { buckets, count: all.last().copied().unwrap_or(0), sum: state.sum }
    }
}
