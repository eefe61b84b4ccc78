//! What the proxiers did lately, for health checks and metrics. Upstream: pkg/proxy/healthcheck/proxy_health.go.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::metrics::Metrics;
use crate::model::Family;

/// One family's state.
#[derive(Clone, Debug, Default)]
struct Last {
    synced: Option<Timestamp>,
    /// Since when there is a change that the kernel does not have.
    waiting_since: Option<Timestamp>,
    error: Option<String>,
}

/// Shared by the proxiers, the informers and the health server.
pub struct Status {
    families: Mutex<BTreeMap<&'static str, Last>>,
    metrics: Metrics,
    /// A change that waits longer than this means that rules are no longer kept up.
    timeout: Duration,
}

/// The answer of `/livez`, and of `/healthz` with [`Health::node_eligible`].
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Of the most recently updated family; the current time when all is well.
    pub last_updated: Timestamp,
    pub current_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_eligible: Option<bool>,
    pub healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<&'static str, FamilyHealth>,
}

/// One family's part of it.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct FamilyHealth {
    pub last_updated: Timestamp,
    pub healthy: bool,
}

impl Status {
    /// A status in which nothing has happened.
    pub fn new(metrics: Metrics, timeout: Duration) -> Self {
        Self { families: Mutex::default(), metrics, timeout }
    }

    /// There is a change to write.
    pub fn queued(&self, family: Family, now: Timestamp) {
        self.metrics.sync_queued.with(&[family.as_str()]).set(seconds(now));
        self.families.lock().entry(family.as_str()).or_default().waiting_since.get_or_insert(now);
    }

    /// The kernel has everything.
    pub fn synced(&self, family: Family, now: Timestamp) {
        self.metrics.last_sync.with(&[family.as_str()]).set(seconds(now));
        let mut families = self.families.lock();
        *families.entry(family.as_str()).or_default() =
            Last { synced: Some(now), waiting_since: None, error: None };
    }

    /// A load failed. Tells whether it is news.
    pub fn failed(&self, family: Family, full: bool, error: &str) -> bool {
        self.metrics.failures.with(&[family.as_str()]).inc();
        if let Some(partial) = self.metrics.partial_failures.as_ref().filter(|_| !full) {
            partial.with(&[family.as_str()]).inc();
        }
        let mut families = self.families.lock();
        let known = families.entry(family.as_str()).or_default().error.replace(error.to_string());
        known.as_deref() != Some(error)
    }

    /// Removing chains that nobody uses failed.
    pub fn tidying_failed(&self, family: Family) {
        if let Some(counter) = &self.metrics.cleanup_failures {
            counter.with(&[family.as_str()]).inc();
        }
    }

    /// A Service was seen.
    pub fn service_changed(&self) {
        self.metrics.service_changes.inc();
    }

    /// A slice was seen.
    pub fn endpoints_changed(&self) {
        self.metrics.endpoint_changes.inc();
    }

    /// Changes that began at these times are in the kernel.
    pub fn programmed(&self, family: Family, triggered: &[Timestamp], now: Timestamp) {
        for time in triggered {
            self.metrics
                .programming
                .with(&[family.as_str()])
                .observe_duration(now.duration_since(*time).unsigned_abs());
        }
    }

    /// UDP flows were looked through.
    pub fn flows_cleaned(&self, family: Family, took: Duration, deleted: usize) {
        self.metrics.flows_duration.with(&[family.as_str()]).observe_duration(took);
        self.metrics.flows_deleted.with(&[family.as_str()]).add(deleted as u64);
    }

    /// A load succeeded, so long; `rules` and `written` count filter and nat, in the mode that has them.
    pub fn measured(
        &self,
        family: Family,
        full: bool,
        took: Duration,
        rules: Option<(usize, usize)>,
        written: Option<(usize, usize)>,
    ) {
        let label = [family.as_str()];
        self.metrics.sync_duration.with(&label).observe_duration(took);
        let kind = if full { &self.metrics.full_duration } else { &self.metrics.partial_duration };
        kind.with(&label).observe_duration(took);
        for (gauge, counted) in [(&self.metrics.rules, rules), (&self.metrics.rules_last, written)] {
            let (Some(gauge), Some((filter, nat))) = (gauge, counted) else { continue };
            for (table, count) in [("filter", filter), ("nat", nat)] {
                let count = u32::try_from(count).map_or(f64::MAX, f64::from);
                gauge.with(&[table, family.as_str()]).set(count);
            }
        }
    }

    /// Service ports whose Local policy finds nothing on this node.
    pub fn without_local(&self, family: Family, internal: usize, external: usize) {
        for (policy, count) in [("internal", internal), ("external", external)] {
            let count = u32::try_from(count).map_or(f64::MAX, f64::from);
            self.metrics.no_local.with(&[policy, family.as_str()]).set(count);
        }
    }

    /// Why the last load of a family failed.
    pub fn error(&self, family: Family) -> Option<String> {
        self.families.lock().get(family.as_str()).and_then(|last| last.error.clone())
    }

    /// The health now.
    pub fn health(&self, now: Timestamp) -> Health {
        let families = self.families.lock();
        let late = |last: &Last| {
            last.waiting_since.is_some_and(|since| now.duration_since(since).unsigned_abs() >= self.timeout)
        };
        let status: BTreeMap<_, _> = families
            .iter()
            .filter_map(|(name, last)| {
                let family = FamilyHealth { last_updated: last.synced?, healthy: !late(last) };
                Some((*name, family))
            })
            .collect();
        let healthy = status.values().all(|f| f.healthy);
        let newest = status.values().map(|f| f.last_updated).max().unwrap_or_default();
        Health { last_updated: newest, current_time: now, node_eligible: None, healthy, status }
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}
