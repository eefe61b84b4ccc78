//! Keeps the kernel's rules equal to the model: one task per address family.
//!
//! Changes arrive in the [`Inbox`] and are taken together, at most once per minimum period. What failed is tried again
//! after the sync period, as a full load. Start reading at [`Proxier::run`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backend::{Backend, NeedsFull, Work};
use crate::conntrack::{self, Frontends};
use crate::health_check::{self, HealthChecks};
use crate::kept::{EndpointSlice, Service};
use crate::model::Family;
use crate::model::table::{Changes, Table};
use crate::program::Result;
use crate::settings::Settings;
use crate::status::Status;
use crate::turn;

/// A full load is due this often even if nothing failed. Upstream: proxyutil.FullSyncPeriod.
const FULL_PERIOD: Duration = Duration::from_secs(3600);

/// Where informers leave what they see. Cheap to write to; the proxier reads it when it is its time.
pub struct Inbox {
    table: Mutex<Table>,
    wake: Notify,
    status: Arc<Status>,
}

impl Inbox {
    /// An inbox for one family.
    pub fn new(table: Table, status: Arc<Status>) -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(table), wake: Notify::new(), status })
    }

    /// A Service is so now; none = it is gone.
    pub fn service(&self, key: &str, service: Option<&Service>) {
        self.status.service_changed();
        self.change(|table| table.set_service(key, service));
    }

    /// A slice is so now.
    pub fn slice(&self, slice: &Arc<EndpointSlice>) {
        self.status.endpoints_changed();
        self.change(|table| table.set_slice(slice));
    }

    /// A slice is gone.
    pub fn slice_removed(&self, slice: &EndpointSlice) {
        self.status.endpoints_changed();
        self.change(|table| table.remove_slice(slice));
    }

    fn change(&self, change: impl FnOnce(&mut Table) -> bool) {
        let mut table = self.table.lock();
        if change(&mut table) {
            self.status.queued(table.family(), Timestamp::now());
            self.wake.notify_one();
        }
    }

    /// Looks at the table.
    pub fn with<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table.lock())
    }
}

/// How often the kernel is written.
#[derive(Clone, Copy, Debug)]
pub struct Periods {
    /// Between two loads, at least.
    pub min: Duration,
    /// Between checks that the rules are still there, and before what failed is tried again.
    pub sync: Duration,
}

/// One family's rules.
pub struct Proxier {
    pub inbox: Arc<Inbox>,
    pub backend: Backend,
    /// Changes when the node's labels or addresses do.
    pub settings: tokio::sync::watch::Receiver<Settings>,
    /// Keeps the other end alive when nobody else does.
    pub keep: tokio::sync::watch::Sender<Settings>,
    pub periods: Periods,
    pub status: Arc<Status>,
    pub health_checks: HealthChecks,
    /// Flows may lead to endpoints that are gone.
    pub flows_due: bool,
}

/// Why the proxier woke up.
enum Wake {
    Ended,
    Changed,
    /// The kernel's rules may differ from what was last written.
    Unknown,
}

/// What the next load has to be.
#[derive(Clone)]
enum Due {
    /// Everything: the kernel's state is unknown or old.
    Full,
    /// What changed; the kernel has the rest.
    Incremental { full_at: Instant },
}

impl Proxier {
    /// Runs until cancelled. Rules stay in the kernel afterwards: connections outlive this process.
    pub async fn run(mut self, token: CancellationToken) {
        let mut due = Due::Full;
        let mut settings = self.settings.borrow_and_update().clone();
        let mut check = tokio::time::interval(self.periods.sync);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        check.tick().await;
        loop {
            let began = Instant::now();
            due = self.attempt(&settings, due).await;
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep_until(began + self.periods.min) => {}
            }
            match self.wait(&token, &mut check, &settings, &due).await {
                Wake::Ended => return,
                Wake::Changed => {}
                Wake::Unknown => due = Due::Full,
            }
            settings.clone_from(&self.settings.borrow_and_update());
        }
    }

    /// Waits for something to do.
    async fn wait(
        &mut self,
        token: &CancellationToken,
        check: &mut tokio::time::Interval,
        settings: &Settings,
        due: &Due,
    ) -> Wake {
        loop {
            tokio::select! {
                () = token.cancelled() => return Wake::Ended,
                () = self.inbox.wake.notified() => return Wake::Changed,
                changed = self.settings.changed() => return if changed.is_ok() { Wake::Unknown } else { Wake::Ended },
                _ = check.tick() => match due {
                    Due::Full => return Wake::Unknown,
                    Due::Incremental { full_at } if Instant::now() >= *full_at => return Wake::Unknown,
                    Due::Incremental { .. } if !self.intact(settings).await => {
                        info!(family = self.family().as_str(), "Somebody changed the rules, writing them again");
                        return Wake::Unknown;
                    }
                    Due::Incremental { .. } => self.tidy().await,
                },
            }
        }
    }

    fn family(&self) -> Family {
        self.backend.common.family
    }

    async fn intact(&mut self, settings: &Settings) -> bool {
        // What is being written looks like somebody else's change.
        let _turn = turn::take().await;
        self.backend.intact(settings, &self.inbox).await
    }

    async fn tidy(&mut self) {
        if let Err(error) = self.backend.tidy(Instant::now().into_std()).await {
            debug!(family = self.family().as_str(), %error, "Removing stale chains failed; the next full sync repeats it");
            self.status.tidying_failed(self.family());
        }
    }

    async fn attempt(&mut self, settings: &Settings, due: Due) -> Due {
        let family = self.family();
        match self.sync(settings, &due).await {
            Ok(next) => {
                self.status.synced(family, Timestamp::now());
                let (internal, external) = self.backend.without_local();
                self.status.without_local(family, internal, external);
                self.clean_flows().await;
                next
            }
            Err(error) => {
                let error = error.to_string();
                // The same trouble every period is said once.
                if self.status.failed(family, matches!(due, Due::Full), &error) {
                    warn!(family = family.as_str(), error, retry = ?self.periods.sync, "Sync failed");
                }
                Due::Full
            }
        }
    }

    async fn sync(&mut self, settings: &Settings, due: &Due) -> Result<Due> {
        let began = Instant::now();
        let _turn = turn::take().await;
        self.tidy().await;
        let (mut full, mut changes) = (matches!(due, Due::Full), Changes::default());
        let mut work = Work::default();
        if !full {
            let mut table = self.inbox.table.lock();
            changes = table.take_changes();
            if changes.before.is_empty() {
                return Ok(due.clone());
            }
            match self.backend.incremental(settings, &table, &changes.before, began.into_std()) {
                Ok(incremental) => work = incremental,
                Err(NeedsFull) => full = true,
            }
        }
        if full {
            let kernel = self.backend.look().await?;
            let mut table = self.inbox.table.lock();
            let more = table.take_changes();
            changes.udp |= more.udp;
            changes.triggered.extend(more.triggered);
            changes.before.extend(more.before);
            work = self.backend.full(settings, &table, &kernel, began.into_std());
        }
        self.flows_due |= changes.udp;
        self.backend.load(&work, full).await?;
        self.status.measured(self.family(), full, began.elapsed(), self.backend.rules(), work.written);
        self.status.programmed(self.family(), &changes.triggered, Timestamp::now());
        self.update_health_checks(&changes, full);
        debug!(family = self.family().as_str(), full, size = work.size(), "Rules loaded");
        Ok(match due {
            Due::Incremental { .. } if !full => due.clone(),
            _ => Due::Incremental { full_at: Instant::now() + FULL_PERIOD },
        })
    }

    fn update_health_checks(&mut self, changes: &Changes, full: bool) {
        let table = self.inbox.table.lock();
        // After a failure, Services that changed then are not known any more.
        let all = table.iter().filter(|_| full).map(|(key, _)| key);
        let keys: std::collections::BTreeSet<_> = all.chain(changes.before.keys()).cloned().collect();
        let wanted = keys.into_iter().map(|key| {
            let wanted = health_check::wanted(&table, &key, table.get(&key));
            (key, wanted)
        });
        let wanted = wanted.collect();
        drop(table);
        self.health_checks.update(wanted, full);
    }

    /// Removes flows to endpoints that are gone. What fails is said and tried with the next change.
    async fn clean_flows(&mut self) {
        if !std::mem::take(&mut self.flows_due) {
            return;
        }
        let frontends = Frontends::new(&self.inbox.table.lock());
        if frontends.is_empty() {
            return;
        }
        let (family, began) = (self.family(), Instant::now());
        let work = move || conntrack::netlink::delete(family, |flow| frontends.is_stale(flow));
        let deleted = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(deleted)) => deleted,
            Ok(Err(error)) => {
                warn!(family = family.as_str(), %error, "Removing stale UDP flows failed; it is tried again with the next change");
                self.flows_due = true;
                0
            }
            // The runtime ends.
            Err(_) => return,
        };
        self.status.flows_cleaned(family, began.elapsed(), deleted);
    }
}

#[cfg(test)]
mod tests;
