//! Metrics under upstream's names: counters, gauges and histograms with bounded label sets.
//!
//! A metric is made from [`Opts`] and registered with a [`Registry`]; [`default_registry`] is what `/metrics` shows.
//! Changing a metric is an atomic operation on a child found once ([`Family::with`]); hot code keeps the child.
//! Label values beyond a family's bound fold into one series, so that no input can grow memory without end.
//! Does not do: native histograms, summaries, exemplars. Upstream: k8s.io/component-base/metrics.

mod children;
mod collect;
mod process;
mod registry;
pub mod rest_client;
mod serve;
pub mod slis;
mod text;

pub use children::{Child, Counter, Family, Gauge, Histogram, HistogramSnapshot};
pub use collect::{Collect, Kind, Metrics, Sample, Value};
pub use process::{register_process, tasks_alive};
pub use registry::{DuplicateName, Options, Registry, default_registry};
pub use serve::handler;

/// How far a metric's name and labels can be relied on; shown in its help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stability {
    /// No promise; help starts with `[ALPHA]`.
    #[default]
    Alpha,
    /// `[BETA]`.
    Beta,
    /// `[STABLE]`.
    Stable,
    /// `[INTERNAL]`.
    Internal,
    /// No mark: metrics that upstream takes from the Prometheus library as they are.
    None,
}

impl Stability {
    fn mark(self) -> &'static str {
        match self {
            Stability::Alpha => "[ALPHA] ",
            Stability::Beta => "[BETA] ",
            Stability::Stable => "[STABLE] ",
            Stability::Internal => "[INTERNAL] ",
            Stability::None => "",
        }
    }
}

/// What a metric is called and who may see it.
#[derive(Debug, Clone, Copy)]
pub struct Opts {
    /// Full name.
    pub name: &'static str,
    /// Help without the stability mark.
    pub help: &'static str,
    /// Stability.
    pub stability: Stability,
    /// Minor version (1.x) since which it is deprecated; hidden from the next on.
    pub deprecated_since: Option<u32>,
    /// Label names.
    pub labels: &'static [&'static str],
    /// Constant labels.
    pub constant: &'static [(&'static str, &'static str)],
    /// Most series before label values fold into `overflow`.
    pub max_series: usize,
}

/// Bound of a family unless it says otherwise: far above what a cluster's legitimate label values need.
const MAX_SERIES: usize = 20_000;

impl Opts {
    /// A metric without labels.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Opts {
            name,
            help,
            stability: Stability::Alpha,
            deprecated_since: None,
            labels: &[],
            constant: &[],
            max_series: MAX_SERIES,
        }
    }

    /// Sets label names.
    pub const fn labels(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    /// Sets stability.
    pub const fn stability(mut self, stability: Stability) -> Self {
        self.stability = stability;
        self
    }

    /// Marks as deprecated since 1.`minor`.
    pub const fn deprecated(mut self, minor: u32) -> Self {
        self.deprecated_since = Some(minor);
        self
    }

    /// Bounds the number of series.
    pub const fn max_series(mut self, bound: usize) -> Self {
        self.max_series = bound;
        self
    }

    /// Help as shown.
    fn shown_help(&self) -> String {
        let deprecated =
            self.deprecated_since.map(|minor| format!("(Deprecated since 1.{minor}.0) ")).unwrap_or_default();
        format!("{}{deprecated}{}", self.stability.mark(), self.help)
    }
}

/// `count` bounds starting at `start`, each `factor` times the one before. Upstream: prometheus.ExponentialBuckets.
pub fn exponential_buckets(start: f64, factor: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(start), |v| Some(v * factor)).take(count).collect()
}

/// `count` bounds starting at `start`, `width` apart. Upstream: prometheus.LinearBuckets.
pub fn linear_buckets(start: f64, width: f64, count: usize) -> Vec<f64> {
    // Added up, not multiplied, as upstream does: the printed bounds are the same then.
    std::iter::successors(Some(start), |v| Some(v + width)).take(count).collect()
}

/// Prometheus' default bounds.
pub const DEFAULT_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[cfg(test)]
mod tests;
