//! Counters, gauges, histograms, and families of them by label values.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hashbrown::HashMap;
use parking_lot::RwLock;

use super::collect::{Collect, Kind, Metrics, Sample, Value};
use super::registry::Shared;
use super::{Opts, Registry};

/// What a family holds one of per label set.
pub trait Child: Send + Sync + 'static {
    /// Type in the text formats.
    const KIND: Kind;
    /// A fresh child; `buckets` matters to histograms only.
    fn create(buckets: &Arc<[f64]>) -> Self;
    /// Current value.
    fn value(&self) -> Value;
}

fn add_float(cell: &AtomicU64, delta: f64) {
    let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
        Some((f64::from_bits(bits) + delta).to_bits())
    });
}

/// Grows only.
#[derive(Debug, Default)]
pub struct Counter {
    whole: AtomicU64,
    /// Fractions, which are rare.
    parts: AtomicU64,
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds a whole number.
    pub fn add(&self, count: u64) {
        self.whole.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds a fraction; negative values are ignored.
    pub fn add_float(&self, value: f64) {
        if value > 0.0 {
            add_float(&self.parts, value);
        }
    }

    /// Current value.
    pub fn get(&self) -> f64 {
        self.whole.load(Ordering::Relaxed) as f64 + f64::from_bits(self.parts.load(Ordering::Relaxed))
    }
}

impl Child for Counter {
    const KIND: Kind = Kind::Counter;
    fn create(_: &Arc<[f64]>) -> Self {
        Counter::default()
    }
    fn value(&self) -> Value {
        Value::Number(self.get())
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds, possibly a negative value.
    pub fn add(&self, delta: f64) {
        add_float(&self.0, delta);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.add(-1.0);
    }

    /// Current value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Child for Gauge {
    const KIND: Kind = Kind::Gauge;
    fn create(_: &Arc<[f64]>) -> Self {
        Gauge::default()
    }
    fn value(&self) -> Value {
        Value::Number(self.get())
    }
}

/// Observations by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: Arc<[f64]>,
    /// Per bound, and one more for the rest; not cumulative.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram at one moment, for controllers of their own behaviour and tests.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSnapshot {
    /// Observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Histogram {
    /// Records one observation.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(cell) = self.counts.get(at) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        add_float(&self.sum, value);
    }

    /// Records a span in seconds.
    pub fn observe_duration(&self, span: Duration) {
        self.observe(span.as_secs_f64());
    }

    /// Count and sum.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let count = self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum();
        HistogramSnapshot { count, sum: f64::from_bits(self.sum.load(Ordering::Relaxed)) }
    }
}

impl Child for Histogram {
    const KIND: Kind = Kind::Histogram;
    fn create(bounds: &Arc<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds: bounds.clone(), counts, sum: AtomicU64::new(0) }
    }
    fn value(&self) -> Value {
        let mut count = 0;
        let mut cumulative = self.counts.iter().map(|c| {
            count += c.load(Ordering::Relaxed);
            count
        });
        let buckets = self.bounds.iter().copied().zip(cumulative.by_ref()).collect();
        cumulative.for_each(drop);
        Value::Histogram { buckets, count, sum: f64::from_bits(self.sum.load(Ordering::Relaxed)) }
    }
}

/// Label values of a child.
#[derive(PartialEq, Eq)]
struct Key(Box<[Box<str>]>);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|v| v.hash(state));
    }
}

/// Label values as given, to find a child without building a [`Key`].
struct Borrowed<'a>(&'a [&'a str]);

impl Hash for Borrowed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|v| v.hash(state));
    }
}

impl hashbrown::Equivalent<Key> for Borrowed<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0.len() == key.0.len() && self.0.iter().zip(&key.0).all(|(a, b)| **a == **b)
    }
}

type Children<C> = HashMap<Key, Arc<C>, foldhash::fast::RandomState>;

struct Inner<C> {
    opts: Opts,
    bounds: Arc<[f64]>,
    children: RwLock<Children<C>>,
    shared: ArcSwapOption<Shared>,
}

/// A metric by label values. Cheap to clone; without labels it has one child, [`Family::one`].
pub struct Family<C: Child>(Arc<Inner<C>>);

impl<C: Child> Clone for Family<C> {
    fn clone(&self) -> Self {
        Family(self.0.clone())
    }
}

impl<C: Child> std::fmt::Debug for Family<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Family").field(&self.0.opts.name).finish()
    }
}

impl Family<Counter> {
    /// A counter registered with the default registry.
    pub fn counter(opts: Opts) -> Self {
        Family::registered(opts, &[], super::default_registry())
    }
}

impl Family<Gauge> {
    /// A gauge registered with the default registry.
    pub fn gauge(opts: Opts) -> Self {
        Family::registered(opts, &[], super::default_registry())
    }
}

impl Family<Histogram> {
    /// A histogram registered with the default registry.
    pub fn histogram(opts: Opts, bounds: &[f64]) -> Self {
        Family::registered(opts, bounds, super::default_registry())
    }
}

impl<C: Child> Family<C> {
    /// A family nobody scrapes yet.
    pub fn new(opts: Opts, bounds: &[f64]) -> Self {
        let family = Family(Arc::new(Inner {
            opts,
            bounds: bounds.into(),
            children: RwLock::default(),
            shared: ArcSwapOption::empty(),
        }));
        if opts.labels.is_empty() {
            family.with(&[]);
        }
        family
    }

    /// Registers with a registry; a name that is taken logs an error and leaves the family unscraped.
    pub fn registered(opts: Opts, bounds: &[f64], registry: &Registry) -> Self {
        let family = Family::new(opts, bounds);
        if let Err(error) = registry.register(&family) {
            tracing::error!(metric = opts.name, err = %error, "Registering a metric failed");
        }
        family
    }

    pub(super) fn opts(&self) -> &Opts {
        &self.0.opts
    }

    pub(super) fn attach(&self, shared: Arc<Shared>) {
        self.0.shared.store(Some(shared));
    }

    /// The only child of a family without labels.
    pub fn one(&self) -> Arc<C> {
        self.with(&[])
    }

    /// The child of these label values, in the order of the label names; made if missing. Missing values count as
    /// empty, surplus ones are ignored.
    pub fn with(&self, values: &[&str]) -> Arc<C> {
        let inner = &*self.0;
        let shared = inner.shared.load();
        let allowed = shared.as_ref().filter(|s| s.has_allow_lists(inner.opts.name));
        let replaced: Vec<&str>;
        let values = match allowed {
            Some(shared) => {
                let check = |(label, value): (&&str, &&'_ str)| shared.allowed(inner.opts.name, label, value);
                let keep: Vec<bool> = inner.opts.labels.iter().zip(values).map(check).collect();
                replaced =
                    values.iter().zip(keep).map(|(v, ok)| if ok { *v } else { "unexpected" }).collect();
                &replaced[..]
            }
            None => values,
        };
        let values = &values[..values.len().min(inner.opts.labels.len())];
        if let Some(child) = inner.children.read().get(&Borrowed(values)) {
            return child.clone();
        }
        let mut children = inner.children.write();
        let full = children.len() >= inner.opts.max_series;
        let key = (0..inner.opts.labels.len())
            .map(|i| if full { "overflow" } else { values.get(i).copied().unwrap_or("") }.into())
            .collect();
        children.entry(Key(key)).or_insert_with(|| Arc::new(C::create(&inner.bounds))).clone()
    }

    /// Forgets one series.
    pub fn remove(&self, values: &[&str]) {
        self.0.children.write().remove(&Borrowed(values));
    }

    /// Forgets every series.
    pub fn reset(&self) {
        self.0.children.write().clear();
    }
}

impl<C: Child> Collect for Family<C> {
    fn collect(&self, out: &mut Vec<Metrics>) {
        let inner = &*self.0;
        let mut samples: Vec<Sample> = inner
            .children
            .read()
            .iter()
            .map(|(key, child)| {
                let own =
                    inner.opts.labels.iter().zip(key.0.iter()).map(|(n, v)| (n.to_string(), v.to_string()));
                let constant = inner.opts.constant.iter().map(|(n, v)| (n.to_string(), v.to_string()));
                let mut labels: Vec<_> = own.chain(constant).collect();
                labels.sort();
                Sample { labels, value: child.value(), timestamp_ms: None }
            })
            .collect();
        if samples.is_empty() {
            return;
        }
        samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        out.push(Metrics {
            name: inner.opts.name.into(),
            help: inner.opts.shown_help(),
            kind: C::KIND,
            samples,
        });
    }
}
