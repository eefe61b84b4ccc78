//! What a scrape sees: families of samples.

/// Prometheus' metric types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Prometheus' own names")]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One series' value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Counter or gauge.
    Number(f64),
    /// Cumulative counts per upper bound (without +Inf), total count, sum.
    Histogram {
        /// Upper bound and observations at or below it.
        buckets: Vec<(f64, u64)>,
        /// All observations.
        count: u64,
        /// Their sum.
        sum: f64,
    },
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Label pairs.
    pub labels: Vec<(String, String)>,
    /// Value.
    pub value: Value,
    /// Milliseconds since 1970, for metrics that state when they were measured.
    pub timestamp_ms: Option<i64>,
}

impl Sample {
    /// A number with labels.
    pub fn number(labels: &[(&str, &str)], value: f64) -> Self {
        let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Sample { labels, value: Value::Number(value), timestamp_ms: None }
    }
}

/// All series of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Full name.
    pub name: String,
    /// Help with the stability mark.
    pub help: String,
    /// Type.
    pub kind: Kind,
    /// Series.
    pub samples: Vec<Sample>,
}

/// A source of families, asked at each scrape.
pub trait Collect: Send + Sync {
    /// Appends current families.
    fn collect(&self, out: &mut Vec<Metrics>);
}

impl<F: Fn(&mut Vec<Metrics>) + Send + Sync> Collect for F {
    fn collect(&self, out: &mut Vec<Metrics>) {
        self(out);
    }
}
