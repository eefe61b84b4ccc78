//! Leader election on a Lease.
//!
//! Times are judged by the local monotonic clock from the moment a change of the lease was seen, never by comparing
//! clocks of machines. Being leader is a hint, not a guarantee: writes are fenced by resource versions.
//! Upstream: client-go/tools/leaderelection (leaderelection.go, resourcelock/leaselock.go).

use std::sync::Arc;
use std::time::Duration;

use client::{Api, Client, Error};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::events::{EventRecorder, NORMAL, reference};
use crate::metrics;

/// Upstream: JitterFactor.
const JITTER: f64 = 1.2;

/// Who wants to lead what.
#[derive(Clone)]
pub struct LeaderConfig {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// This candidate, unique: host name, underscore, uuid.
    pub identity: String,
    /// Others wait this long after the last renewal.
    pub lease_duration: Duration,
    /// The leader gives up after trying to renew for so long.
    pub renew_deadline: Duration,
    /// Pause between tries.
    pub retry_period: Duration,
    /// Give the lease back at the end.
    pub release_on_cancel: bool,
    /// Where "became leader" and "stopped leading" are recorded.
    pub recorder: Option<EventRecorder>,
}

impl LeaderConfig {
    /// Upstream's times: 15 s, 10 s, 2 s.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release_on_cancel: false,
            recorder: None,
        }
    }

    /// Upstream: NewLeaderElector.
    pub fn validate(&self) -> Result<(), String> {
        if self.lease_duration <= self.renew_deadline {
            return Err("leaseDuration must be greater than renewDeadline".into());
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            return Err("renewDeadline must be greater than retryPeriod*JitterFactor".into());
        }
        if self.lease_duration.is_zero() || self.renew_deadline.is_zero() || self.retry_period.is_zero() {
            return Err("leaseDuration, renewDeadline and retryPeriod must be greater than zero".into());
        }
        if self.identity.is_empty() {
            return Err("Lock identity is empty".into());
        }
        Ok(())
    }
}

/// How an election ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The token ended.
    Cancelled,
    /// The lease was lost while leading.
    Lost,
}

/// What is known about the lease.
#[derive(Debug, Clone, Default)]
struct Observed {
    lease: Option<Lease>,
    at: Option<Instant>,
}

impl Observed {
    fn spec(&self) -> Option<&LeaseSpec> {
        self.lease.as_ref()?.spec.as_ref()
    }
    fn holder(&self) -> &str {
        self.spec().and_then(|s| s.holder_identity.as_deref()).unwrap_or("")
    }
    fn valid(&self, now: Instant) -> bool {
        let seconds = self.spec().and_then(|s| s.lease_duration_seconds).unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.at.is_some_and(|at| now < at + duration)
    }
}

/// The spec a candidate writes. Pure. Upstream: tryAcquireOrRenew steps 1 and 4.
fn wanted(config: &LeaderConfig, old: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let leading = old.is_some_and(|o| o.holder_identity.as_deref() == Some(config.identity.as_str()));
    let transitions = old.and_then(|o| o.lease_transitions).unwrap_or(0);
    let acquired = if leading { old.and_then(|o| o.acquire_time.clone()) } else { None };
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(config.lease_duration.as_secs()).unwrap_or(i32::MAX)),
        renew_time: Some(MicroTime(now)),
        acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
        lease_transitions: Some(match old {
            Some(_) if !leading => transitions.saturating_add(1),
            _ => transitions,
        }),
        ..LeaseSpec::default()
    }
}

/// A candidate.
pub struct LeaderElector {
    api: Api<Lease>,
    config: LeaderConfig,
    observed: Arc<Mutex<Observed>>,
}

impl LeaderElector {
    /// Checks the configuration. The client should have a time limit of half the renew deadline.
    pub fn new(client: &Client, config: LeaderConfig) -> Result<Self, String> {
        config.validate()?;
        let api = client.namespaced::<Lease>(&config.namespace);
        metrics::get().leader.with(&[&config.name]).set(0.0);
        Ok(Self { api, config, observed: Arc::default() })
    }

    /// Who leads, "" if unknown.
    pub fn leader(&self) -> String {
        self.observed.lock().holder().to_string()
    }

    /// Whether this candidate leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.observed.lock().holder() == self.config.identity
    }

    /// For health checks: a leader that has not renewed for longer than the lease and `tolerance` is stuck.
    pub fn check(&self, tolerance: Duration) -> Result<(), String> {
        let observed = self.observed.lock();
        let stuck = observed.holder() == self.config.identity
            && observed.at.is_some_and(|at| at.elapsed() > self.config.lease_duration + tolerance);
        if stuck {
            return Err(format!("failed election to renew leadership on lease {}", self.config.name));
        }
        Ok(())
    }

    /// Waits for the lease, runs `lead` while holding it, renews. `lead` gets a token that ends with the leadership.
    /// `new_leader` is told about every change of the holder.
    pub async fn run<F, R>(
        &self,
        token: &CancellationToken,
        mut new_leader: impl FnMut(&str),
        lead: F,
    ) -> Outcome
    where
        F: FnOnce(CancellationToken) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let mut reported = String::new();
        let mut report = |elector: &Self| {
            let holder = elector.leader();
            if holder != reported {
                new_leader(&holder);
                reported = holder;
            }
        };
        let lock = format!("{}/{}", self.config.namespace, self.config.name);
        tracing::info!(lock, "Attempting to acquire leader lease...");
        loop {
            let won = tokio::select! {
                won = self.try_acquire_or_renew() => won,
                () = token.cancelled() => return Outcome::Cancelled,
            };
            report(self);
            if won {
                break;
            }
            let pause = self.config.retry_period.mul_f64(1.0 + JITTER * rand::random::<f64>());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = token.cancelled() => return Outcome::Cancelled,
            }
        }
        self.event("became leader");
        self.metric(true);
        tracing::info!(lock, "Successfully acquired lease");
        let leading = token.child_token();
        let work = tokio::spawn(lead(leading.clone()));
        let outcome = self.renew(token, &mut report).await;
        leading.cancel();
        if self.config.release_on_cancel {
            // What the lease guards must be over before another may start.
            let _ = work.await;
            let _ = tokio::time::timeout(self.config.renew_deadline, self.release()).await;
        }
        self.metric(false);
        self.event("stopped leading");
        outcome
    }

    async fn renew(&self, token: &CancellationToken, report: &mut impl FnMut(&Self)) -> Outcome {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.config.retry_period) => {}
                () = token.cancelled() => return Outcome::Cancelled,
            }
            let renewal = async {
                while !self.try_acquire_or_renew().await {
                    tokio::time::sleep(self.config.retry_period).await;
                }
            };
            let renewed = tokio::select! {
                result = tokio::time::timeout(self.config.renew_deadline, renewal) => result.is_ok(),
                () = token.cancelled() => return Outcome::Cancelled,
            };
            report(self);
            if !renewed {
                tracing::info!(
                    lock = format!("{}/{}", self.config.namespace, self.config.name),
                    "Failed to renew lease: timed out waiting for the condition"
                );
                return Outcome::Lost;
            }
        }
    }

    async fn try_acquire_or_renew(&self) -> bool {
        match self.attempt().await {
            Ok(held) => held,
            Err(e) => {
                let lock = format!("{}/{}", self.config.namespace, self.config.name);
                tracing::error!(lock, error = %e, "Failed to acquire or renew lease");
                false
            }
        }
    }

    async fn attempt(&self) -> Result<bool, Error> {
        let known = self.observed.lock().clone();
        let leading = known.holder() == self.config.identity;
        // The leader knows the lease: no need to read it first.
        if leading && known.valid(Instant::now()) {
            match self.write(known.lease.clone()).await {
                Ok(()) => return Ok(true),
                Err(e) => tracing::debug!(error = %e, "optimistic renewal failed, reading the lease"),
            }
            metrics::get().slow_path.with(&[&self.config.name]).inc();
        }
        let current = match self.api.get(&self.config.name).await {
            Ok(lease) => lease,
            Err(e) if e.is_not_found() => {
                self.write(None).await?;
                return Ok(true);
            }
            Err(e) => return Err(e),
        };
        let known = self.observe(current);
        if !known.holder().is_empty() && known.holder() != self.config.identity && known.valid(Instant::now())
        {
            return Ok(false);
        }
        self.write(known.lease).await.map(|()| true)
    }

    /// Keeps what was read; the clock of the lease starts anew only if it changed.
    fn observe(&self, current: Lease) -> Observed {
        let mut observed = self.observed.lock();
        let changed = observed.lease.as_ref().map(|l| &l.spec) != Some(&current.spec);
        if changed {
            observed.at = Some(Instant::now());
        }
        observed.lease = Some(current);
        observed.clone()
    }

    async fn write(&self, old: Option<Lease>) -> Result<(), Error> {
        let spec = wanted(&self.config, old.as_ref().and_then(|l| l.spec.as_ref()), Timestamp::now());
        let lease = match old {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.api.replace(&lease).await?
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.config.name.clone()),
                    namespace: Some(self.config.namespace.clone()),
                    ..ObjectMeta::default()
                };
                self.api.create(&Lease { metadata, spec: Some(spec) }).await?
            }
        };
        *self.observed.lock() = Observed { lease: Some(lease), at: Some(Instant::now()) };
        Ok(())
    }

    /// Gives the lease back: no holder, one second. Upstream: tryRelease.
    async fn release(&self) -> Result<(), Error> {
        loop {
            let mut lease = self.api.get(&self.config.name).await?;
            let old = lease.spec.take().unwrap_or_default();
            if old.holder_identity.as_deref() != Some(self.config.identity.as_str()) {
                return Ok(());
            }
            let now = MicroTime(Timestamp::now());
            lease.spec = Some(LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                renew_time: Some(now.clone()),
                acquire_time: Some(now),
                lease_transitions: old.lease_transitions,
                ..LeaseSpec::default()
            });
            match self.api.replace(&lease).await {
                Ok(lease) => {
                    *self.observed.lock() = Observed { lease: Some(lease), at: Some(Instant::now()) };
                    return Ok(());
                }
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn event(&self, what: &str) {
        let lease = self.observed.lock().lease.clone();
        if let (Some(recorder), Some(lease)) = (&self.config.recorder, lease) {
            let message = format!("{} {what}", self.config.identity);
            recorder.event(&reference(&lease), NORMAL, "LeaderElection", &message);
        }
    }

    fn metric(&self, leading: bool) {
        metrics::get().leader.with(&[&self.config.name]).set(f64::from(u8::from(leading)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_follows_upstream() {
        let config = LeaderConfig::new("kube-system", "x", "me");
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let first = wanted(&config, None, at(10));
        assert_eq!((first.lease_transitions, first.lease_duration_seconds), (Some(0), Some(15)));
        let again = wanted(&config, Some(&first), at(12));
        assert_eq!(again.acquire_time, Some(MicroTime(at(10))));
        assert_eq!((again.renew_time.clone(), again.lease_transitions), (Some(MicroTime(at(12))), Some(0)));
        let other = LeaseSpec { holder_identity: Some("them".into()), ..again };
        let taken = wanted(&config, Some(&other), at(40));
        assert_eq!((taken.acquire_time, taken.lease_transitions), (Some(MicroTime(at(40))), Some(1)));
    }

    #[test]
    fn configuration_is_checked() {
        let mut c = LeaderConfig::new("ns", "x", "me");
        assert!(c.validate().is_ok());
        c.renew_deadline = Duration::from_secs(15);
        assert_eq!(c.validate().unwrap_err(), "leaseDuration must be greater than renewDeadline");
        c.renew_deadline = Duration::from_millis(2400);
        assert_eq!(c.validate().unwrap_err(), "renewDeadline must be greater than retryPeriod*JitterFactor");
    }
}
