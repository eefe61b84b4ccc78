//! The configuration in force, and how it changes: with the objects, and as levels lend each other seats.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use flowcontrol::borrowing::{self, Party};
use flowcontrol::config::{self, CATCH_ALL, Config, LevelSpec, Limits};
use flowcontrol::estimate::Stored;
use flowcontrol::matching::Digest;
use flowcontrol::watches::{Scope, Watches};
use parking_lot::Mutex;
use registry::api::RequestInfo;
use tokio::sync::Notify;

use super::flow::Flow;
use super::level::Level;
use super::metrics::{Load, metrics};

/// How long the average size of a resource's objects is remembered. Upstream counts objects as often.
const SIZES: Duration = Duration::from_secs(60);

/// The flow schemas in the order they are tried, the last being the catch-all.
struct Table(Vec<Arc<Flow>>);

/// The average size of a resource's objects in bytes, and when it was asked for.
type Measured = (Instant, u64);

/// Limits the requests that are handled at once.
pub struct Controller {
    table: ArcSwap<Table>,
    levels: Mutex<BTreeMap<String, Arc<Level>>>,
    /// Seats of the server.
    seats: u64,
    epoch: Instant,
    /// Told when a level nobody wants is idle.
    pub(super) idle: Arc<Notify>,
    watches: Mutex<Watches>,
    /// By group and resource.
    sizes: Mutex<HashMap<String, HashMap<String, Measured>>>,
}

impl Controller {
    /// With the mandatory objects only, until others are known.
    pub fn new(seats: u64) -> Self {
        let controller = Self {
            table: ArcSwap::from_pointee(Table(Vec::new())),
            levels: Mutex::default(),
            seats,
            epoch: Instant::now(),
            idle: Arc::default(),
            watches: Mutex::default(),
            sizes: Mutex::default(),
        };
        controller.adopt(&config::digest([], []));
        controller
    }

    /// The flow of a request. The catch-all takes even what it does not match.
    pub(crate) fn classify(&self, digest: &Digest<'_>) -> Option<Arc<Flow>> {
        let table = self.table.load();
        let fallback = || table.0.iter().rfind(|f| f.spec.name == CATCH_ALL);
        table.0.iter().find(|f| f.spec.rules.matches(digest)).or_else(fallback).cloned()
    }

    /// Puts a configuration into force. Requests that wait or run are not disturbed; a level that is gone keeps its
    /// seats until it is idle.
    pub(super) fn adopt(&self, config: &Config) {
        let mut levels = self.levels.lock();
        let idle = |level: &Level| level.look(|state| state.set.is_idle());
        levels.retain(|name, level| {
            let wanted = config.levels.contains_key(name);
            level.quiescing.store(!wanted, Ordering::Relaxed);
            wanted || !idle(level)
        });
        let mut specs: Vec<LevelSpec> = config.levels.values().cloned().collect();
        let leaving = levels.iter().filter(|(name, _)| !config.levels.contains_key(*name));
        specs.extend(leaving.map(|(_, level)| level.look(|state| state.spec.clone())));
        let limits = config::limits(self.seats, &specs.iter().collect::<Vec<_>>());
        for (spec, limits) in specs.into_iter().zip(limits) {
            publish(&spec.name, &limits);
            match levels.get(&spec.name) {
                Some(level) => level.respecify(spec, limits),
                None => {
                    let level = Level::new(spec.clone(), limits, self.epoch, self.idle.clone());
                    levels.insert(spec.name, Arc::new(level));
                }
            }
        }
        Load::limits(
            config.levels.values().map(LevelSpec::room).sum(),
            levels.values().map(|level| level.look(|state| state.limits.nominal)).sum(),
        );
        let bind = |schema: &config::SchemaSpec| {
            Some(Arc::new(Flow::new(schema.clone(), levels.get(&schema.level)?.clone())))
        };
        self.table.store(Arc::new(Table(config.schemas.iter().filter_map(bind).collect())));
        self.divide(&levels);
    }

    /// Divides the seats anew by demand.
    pub(super) fn rebalance(&self) {
        self.divide(&self.levels.lock());
    }

    fn divide(&self, levels: &BTreeMap<String, Arc<Level>>) {
        let party = |level: &Arc<Level>| {
            let demand = level.measure();
            level.look(|state| Party {
                exempt: state.spec.is_exempt(),
                limits: state.limits,
                demand,
                current: state.set.limit(),
            })
        };
        let parties: Vec<Party> = levels.values().map(party).collect();
        let (shares, fraction) = borrowing::divide(&parties);
        let all = metrics();
        all.seat_fair_frac.one().set(fraction);
        for ((level, party), share) in levels.values().zip(&parties).zip(shares) {
            let set = |family: &component::metrics::Family<component::metrics::Gauge>, value: f64| {
                family.with(&[&level.name]).set(value);
            };
            set(&all.demand_seats_high_watermark, party.demand.high as f64);
            set(&all.demand_seats_average, party.demand.average);
            set(&all.demand_seats_stdev, party.demand.deviation);
            set(&all.demand_seats_smoothed, party.demand.smoothed);
            set(&all.target_seats, share.target);
            set(&all.current_limit_seats, share.current as f64);
            let without = (self.seats as f64 / 10.0).round().max(1.0);
            level.grant(share.current, if share.current > 0 { share.current as f64 } else { without });
        }
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The levels by name.
    pub(super) fn levels(&self) -> Vec<Arc<Level>> {
        self.levels.lock().values().cloned().collect()
    }

    /// The watches that see what a request changes.
    pub(crate) fn interested(&self, scope: Scope<'_>) -> usize {
        self.watches.lock().interested(scope)
    }

    /// Counts a watch while the returned value lives.
    pub(crate) fn watching(self: &Arc<Self>, info: &Arc<RequestInfo>) -> Watching {
        self.watches.lock().add(scope(info));
        Watching { controller: self.clone(), info: info.clone() }
    }

    /// What is stored of a resource, its average size remembered for a while.
    pub(crate) fn stored(
        &self,
        group: &str,
        resource: &str,
        count: u64,
        size: impl FnOnce() -> u64,
    ) -> Stored {
        let mut sizes = self.sizes.lock();
        let known = sizes.get(group).and_then(|of| of.get(resource));
        if let Some((_, average)) = known.filter(|(at, average)| *average > 0 && at.elapsed() <= SIZES) {
            return Stored { count, average_bytes: *average };
        }
        let average = size();
        let of_group = sizes.entry(group.to_owned()).or_default();
        of_group.insert(resource.to_owned(), (Instant::now(), average));
        Stored { count, average_bytes: average }
    }
}

fn publish(level: &str, limits: &Limits) {
    let all = metrics();
    all.nominal_limit_seats.with(&[level]).set(limits.nominal as f64);
    all.lower_limit_seats.with(&[level]).set(limits.min as f64);
    all.upper_limit_seats.with(&[level]).set(limits.max as f64);
}

/// What a request is about.
pub(super) fn scope(info: &RequestInfo) -> Scope<'_> {
    Scope { group: &info.api_group, resource: &info.resource, namespace: &info.namespace, name: &info.name }
}

/// A running watch.
pub(crate) struct Watching {
    controller: Arc<Controller>,
    info: Arc<RequestInfo>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.controller.watches.lock().remove(scope(&self.info));
    }
}
