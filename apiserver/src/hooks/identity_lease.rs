//! The lease by which the API servers of a cluster are known: one per host in `kube-system`, renewed every [`RENEW`] while the
//! server runs. What an earlier server of the host left is deleted at the start, the own one at the end; those that nobody
//! renewed for as long as they say go every [`COLLECT`].
//!
//! Not done: the address for peers (this server takes no requests from them: `--peer-ca-file` is refused). Upstream:
//! `pkg/controlplane/apiserver/server.go`, `pkg/controlplane/controller/apiserverleasegc`, component-helpers
//! `apimachinery/lease/controller.go`.

use std::sync::Arc;
use std::time::Duration;

use component::app::Tasks;
use jiff::{SignedDuration, Timestamp};
use machinery::Value;
use rand::RngExt as _;
use registry::errors::ApiError;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::run;
use crate::endpoints::health::Health;
use crate::local::{Gvr, Local};

/// Between two renewals, up to 4% more.
const RENEW: Duration = Duration::from_secs(10);
/// How long the lease says that it counts, in seconds.
const DURATION_SECONDS: i64 = 3600;
/// Between two looks for leases that have run out.
const COLLECT: Duration = Duration::from_secs(3600);
/// How long the end of the server waits for the deletion.
const PATIENCE: Duration = Duration::from_secs(5);

const NAMESPACE: &str = "kube-system";
const COMPONENT: &str = "apiserver.kubernetes.io/identity";
const SERVER: &str = "kube-apiserver";

/// Keeps the lease of this server.
pub(crate) struct IdentityLease {
    local: Local,
    host: String,
    name: String,
    holder: String,
    /// Whether the lease was deleted for good; held while it is written.
    over: Mutex<bool>,
}

impl IdentityLease {
    /// For the server on `host`.
    pub(crate) fn new(local: &Local, host: String) -> Self {
        let name = identity(&host);
        let holder = format!("{name}_{}", uuid::Uuid::new_v4());
        Self { local: local.clone(), host, name, holder, over: Mutex::new(false) }
    }

    /// Makes the lease and renews it until shutdown; collects those of servers that are gone.
    pub(super) fn start(self: Arc<Self>, tasks: &Tasks, health: &Health) {
        let (first, every, stop) = (self.clone(), self.clone(), tasks.shutdown().clone());
        run(tasks, health, "start-kube-apiserver-identity-lease-controller", move || {
            let lease = first.clone();
            async move { lease.take_over().await }
        });
        tasks.spawn("identity-lease", async move {
            loop {
                let pause = RENEW.mul_f64(1.0 + 0.04 * rand::rng().random::<f64>());
                tokio::select! { () = tokio::time::sleep(pause) => {}, () = stop.cancelled() => return }
                if let Err(error) = every.renew().await {
                    tracing::error!(err = %error, lease = every.name, "the lease of this API server could not be renewed, will retry");
                }
            }
        });
        let collector = "start-kube-apiserver-identity-lease-garbage-collector";
        health.hook(collector).finish();
        let stop = tasks.shutdown().clone();
        tasks.spawn(collector, async move {
            loop {
                if let Err(error) = self.collect().await {
                    tracing::error!(err = %error, "leases of API servers that are gone could not be removed");
                }
                tokio::select! { () = tokio::time::sleep(COLLECT) => {}, () = stop.cancelled() => return }
            }
        });
    }

    async fn take_over(&self) -> Result<(), ApiError> {
        let over = self.over.lock().await;
        if *over {
            return Ok(());
        }
        self.local.delete(Gvr::LEASES, NAMESPACE, &self.name).await?;
        self.write().await
    }

    async fn renew(&self) -> Result<(), ApiError> {
        let over = self.over.lock().await;
        if *over { Ok(()) } else { self.write().await }
    }

    async fn write(&self) -> Result<(), ApiError> {
        let known = self.local.get(Gvr::LEASES, NAMESPACE, &self.name).await?;
        let lease = self.lease(known.as_deref(), Timestamp::now());
        match known {
            Some(_) => self.local.update(Gvr::LEASES, NAMESPACE, &lease).await,
            None => self.local.create(Gvr::LEASES, NAMESPACE, &lease).await,
        }
    }

    /// The lease as renewed at `now`, from what is stored.
    fn lease(&self, known: Option<&Value>, now: Timestamp) -> serde_json::Value {
        let mut lease = match known {
            Some(known) => serde_json::to_value(known).unwrap_or_default(),
            None => json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.name, "namespace": NAMESPACE},
                "spec": {"holderIdentity": self.holder},
            }),
        };
        lease["spec"]["leaseDurationSeconds"] = json!(DURATION_SECONDS);
        lease["spec"]["renewTime"] = json!(now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
        lease["metadata"]["labels"][COMPONENT] = json!(SERVER);
        lease["metadata"]["labels"]["kubernetes.io/hostname"] = json!(self.host);
        lease
    }

    async fn collect(&self) -> Result<(), ApiError> {
        let selector = format!("{COMPONENT}={SERVER}");
        let now = Timestamp::now();
        for lease in self.local.list(Gvr::LEASES, NAMESPACE, &selector).await? {
            if has_run_out(&lease, now) {
                let uid = registry::meta::uid(&lease);
                let deleted =
                    self.local.delete_exact_in(Gvr::LEASES, NAMESPACE, registry::meta::name(&lease), uid);
                // Another server may have been faster, or the lease is another's by now.
                match deleted.await {
                    Err(error) if error.code != 404 && error.code != 409 => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Deletes the lease for good.
    pub(crate) async fn stop(&self) {
        let delete = async {
            *self.over.lock().await = true;
            self.local.delete(Gvr::LEASES, NAMESPACE, &self.name).await
        };
        match tokio::time::timeout(PATIENCE, delete).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(err = %error, lease = self.name, "Unable to delete lease"),
            Err(_) => tracing::error!(lease = self.name, "deleting the lease of this API server timed out"),
        }
    }
}

/// The server's name among API servers (`NewConfig` of apiserver/pkg/server/config.go): a hash of the host and of what it is,
/// each with its length before it.
pub(super) fn identity(host: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host, SERVER] {
        hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(part);
    }
    let text = data_encoding::BASE32_NOPAD.encode(&hash.finalize()[..16]);
    format!("apiserver-{}", text.to_lowercase())
}

/// Whether nobody renewed the lease for as long as it says; one that does not say counts as such.
fn has_run_out(lease: &Value, now: Timestamp) -> bool {
    let renewed = lease.str_at(&["spec", "renewTime"]).and_then(|text| text.parse::<Timestamp>().ok());
    let (Some(renewed), Some(seconds)) = (renewed, lease.i64_at(&["spec", "leaseDurationSeconds"])) else {
        return true;
    };
    renewed + SignedDuration::from_secs(seconds) < now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_named_as_upstreams_server_on_the_same_host() {
        // What upstream's v1.37.2 called itself on a host named so.
        assert_eq!(identity("vm"), "apiserver-wlv32tlttr4jl3gtroqexyxapa");
    }

    #[test]
    fn runs_out_when_it_is_not_renewed() {
        let lease = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        for (text, out) in [
            (r#"{"spec":{"renewTime":"2026-01-01T00:00:01.000000Z","leaseDurationSeconds":3600}}"#, false),
            (r#"{"spec":{"renewTime":"2025-12-31T23:59:59.999999Z","leaseDurationSeconds":3600}}"#, true),
            (r#"{"spec":{"renewTime":"2026-01-01T00:59:59.000000Z"}}"#, true),
            (r#"{"spec":{"leaseDurationSeconds":3600}}"#, true),
        ] {
            assert_eq!(has_run_out(&lease(text), now), out, "{text}");
        }
    }
}
