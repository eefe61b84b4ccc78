//! Keeps the kernel's rules equal to the model: one task per address family.
//!
//! Changes arrive in the [`Inbox`] and are taken together, at most once per minimum period. What failed is tried again
//! after the sync period, as a full load. Start reading at [`Proxier::run`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::iptables::chain::CANARY;
use crate::iptables::command::{Iptables, Result};
use crate::iptables::render::Settings;
use crate::iptables::ruleset::{Common, Load, Ruleset, Saved};
use crate::model::table::Table;
use crate::status::Status;

/// Above this many endpoints rules carry no comments. Upstream: largeClusterEndpointsThreshold.
const LARGE_CLUSTER_ENDPOINTS: usize = 1000;
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
        self.change(|table| table.set_service(key, service));
    }

    /// A slice is so now.
    pub fn slice(&self, slice: &Arc<EndpointSlice>) {
        self.change(|table| table.set_slice(slice));
    }

    /// A slice is gone.
    pub fn slice_removed(&self, slice: &EndpointSlice) {
        self.change(|table| table.remove_slice(slice));
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut table = self.table.lock();
        change(&mut table);
        if table.is_changed() {
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
    pub iptables: Iptables,
    pub common: Common,
    /// Changes when the node's labels or addresses do.
    pub settings: tokio::sync::watch::Receiver<Settings>,
    /// Keeps the other end alive when nobody else does.
    pub keep: tokio::sync::watch::Sender<Settings>,
    pub periods: Periods,
    pub status: Arc<Status>,
    pub rules: Arc<Mutex<Ruleset>>,
}

/// Why the proxier woke up.
enum Wake {
    Ended,
    Changed,
    /// The kernel's rules may differ from what was last written.
    Unknown,
}

/// What the next load has to be.
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
            match self.wait(&token, &mut check, &due).await {
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
                    Due::Incremental { .. } if !self.canaries_sing().await => {
                        info!(family = self.iptables.family.as_str(), "Somebody flushed the rules, writing them again");
                        return Wake::Unknown;
                    }
                    Due::Incremental { .. } => self.status.synced(self.iptables.family, Timestamp::now()),
                },
            }
        }
    }

    async fn attempt(&self, settings: &Settings, due: Due) -> Due {
        let family = self.iptables.family;
        match self.sync(settings, &due).await {
            Ok(next) => {
                self.status.synced(family, Timestamp::now());
                let (internal, external) = self.rules.lock().without_local();
                self.status.without_local(family, internal, external);
                next
            }
            Err(error) => {
                warn!(family = family.as_str(), %error, retry = ?self.periods.sync, "Sync failed");
                self.status.failed(family, matches!(due, Due::Full), &error.to_string());
                Due::Full
            }
        }
    }

    async fn sync(&self, settings: &Settings, due: &Due) -> Result<Due> {
        let began = Instant::now();
        let full = matches!(due, Due::Full);
        let saved = if full { Some(Saved::parse(&self.iptables.save().await?)) } else { None };
        let load = self.compose(settings, saved.as_ref());
        if !load.text.is_empty() {
            self.iptables.restore(&load.text).await?;
        }
        if full {
            self.plant_canaries().await?;
        }
        self.status.measured(self.iptables.family, full, began.elapsed(), load.rules);
        debug!(family = self.iptables.family.as_str(), full, bytes = load.text.len(), "Rules loaded");
        Ok(match due {
            Due::Incremental { full_at } => Due::Incremental { full_at: *full_at },
            Due::Full => Due::Incremental { full_at: Instant::now() + FULL_PERIOD },
        })
    }

    /// Renders what changed and composes the load.
    fn compose(&self, settings: &Settings, saved: Option<&Saved>) -> Load {
        let mut table = self.inbox.table.lock();
        let mut rules = self.rules.lock();
        let settings =
            Settings { comments: table.endpoint_count() <= LARGE_CLUSTER_ENDPOINTS, ..settings.clone() };
        if saved.is_some() {
            table.touch_all();
        }
        let changed: BTreeSet<_> = table.take_changed();
        let before = rules.update(&settings, &table, &changed);
        match saved {
            Some(saved) => rules.full(&self.common, saved),
            None => rules.incremental(&before),
        }
    }

    /// Empty chains that vanish when somebody flushes the tables. Upstream: pkg/util/iptables Monitor.
    async fn plant_canaries(&self) -> Result<()> {
        let text: String = ["mangle", "nat", "filter"]
            .iter()
            .map(|t| format!("*{t}\n:{CANARY} - [0:0]\nCOMMIT\n"))
            .collect();
        self.iptables.restore(&text).await
    }

    async fn canaries_sing(&self) -> bool {
        for table in ["mangle", "nat", "filter"] {
            if self.iptables.call(&["-t", table, "-n", "-L", CANARY]).await.is_err() {
                return false;
            }
        }
        true
    }
}
