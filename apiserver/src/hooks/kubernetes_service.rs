//! The Service `default/kubernetes` and the addresses behind it: how pods reach the API servers.
//!
//! The Service is made once it can be, before this server is ready. The addresses are the business of an endpoint
//! reconciler ([`crate::reconcilers`]), which runs from readiness to the end of the server every [`PERIOD`]: this is the
//! heartbeat that keeps the server's lease alive. Not done: putting a Service right that somebody changed; upstream does
//! not either. Upstream: `pkg/controlplane/controller/kubernetesservice`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use component::app::Tasks;
use k8s_openapi::api::core::v1::EndpointPort;
use registry::errors::ApiError;
use serde_json::{Value, json};
use storage::Store;
use tokio::time::MissedTickBehavior;

use crate::endpoints::health::Health;
use crate::local::{Gvr, Local};
use crate::options::Config;
use crate::reconcilers::{Reconciler, SERVICE};

/// Between two runs. Upstream: `DefaultEndpointReconcilerInterval`.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two looks at the own readiness. Upstream's `Run` has the same.
const LOOK: Duration = Duration::from_millis(100);

/// What the service is made of.
#[derive(Debug, Clone)]
struct Facts {
    /// First address of the first service range: the service is of one family.
    cluster_ip: Option<IpAddr>,
    address: IpAddr,
    port: u16,
    node_port: u16,
}

impl Facts {
    fn new(config: &Config, address: SocketAddr) -> Self {
        let first = |net: &ipnet::IpNet| match net.network() {
            IpAddr::V4(ip) => IpAddr::from((u32::from(ip) + 1).to_be_bytes()),
            IpAddr::V6(ip) => IpAddr::from((u128::from(ip) + 1).to_be_bytes()),
        };
        Self {
            cluster_ip: config.service_cidrs.first().map(first),
            address: address.ip(),
            port: address.port(),
            node_port: config.kubernetes_node_port,
        }
    }

    fn service(&self) -> Value {
        let ip = self.cluster_ip.map(|ip| ip.to_string());
        let mut port = json!({"name": "https", "protocol": "TCP", "port": 443, "targetPort": self.port});
        if self.node_port != 0 {
            port["nodePort"] = json!(self.node_port);
        }
        let kind = if self.node_port == 0 { "ClusterIP" } else { "NodePort" };
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": "default",
                "labels": {"provider": "kubernetes", "component": "apiserver"}},
            "spec": {"clusterIP": ip, "ports": [port], "sessionAffinity": "None", "type": kind,
                "ipFamilyPolicy": "SingleStack"},
        })
    }

    fn ports(&self) -> [EndpointPort; 1] {
        [EndpointPort {
            name: Some("https".to_owned()),
            port: self.port.into(),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]
    }
}

/// Keeps the Service and this server's place behind it.
pub(crate) struct KubernetesService {
    local: Local,
    facts: Facts,
    reconciler: Reconciler,
}

impl KubernetesService {
    /// For a server that others reach at `address`.
    ///
    /// # Errors
    /// When nobody else could reach it there.
    pub(crate) fn new(
        config: &Config,
        local: &Local,
        store: Arc<dyn Store>,
        address: SocketAddr,
    ) -> Result<Self, String> {
        let (name, count) = &config.endpoint_reconciler;
        let reconciler = Reconciler::of(name, *count, local, store, &config.prefix);
        let ip = address.ip();
        reconciler
            .validate_ip(ip)
            .map_err(|why| format!("cannot use public IP {ip} with endpoint reconciler: {why}"))?;
        Ok(Self { local: local.clone(), facts: Facts::new(config, address), reconciler })
    }

    /// Makes the Service, and takes out what this server's address left behind: it is not ready yet.
    ///
    /// # Errors
    /// When the Service cannot be made; the address is tried once.
    pub(super) async fn prepare(&self) -> Result<(), ApiError> {
        self.ensure_service().await?;
        match self.reconciler.remove(self.facts.address, &self.facts.ports()).await {
            // Only a lease says that there was something.
            Ok(()) if !matches!(self.reconciler, Reconciler::Lease(_)) => {}
            Ok(()) => tracing::error!(
                "Found stale data, removed previous endpoints on kubernetes service, apiserver didn't exit successfully previously"
            ),
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::error!(err = %error, "Error removing old endpoints from kubernetes service")
            }
        }
        Ok(())
    }

    /// Runs the reconciler from readiness until shutdown.
    pub(super) fn start(self: Arc<Self>, tasks: &Tasks, health: &Health) {
        let (health, stop) = (health.clone(), tasks.shutdown().clone());
        tasks.spawn("kubernetes-service", async move {
            while !health.ready().await {
                tokio::select! { () = tokio::time::sleep(LOOK) => {}, () = stop.cancelled() => return }
            }
            let mut period = tokio::time::interval(PERIOD);
            period.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! { _ = period.tick() => {}, () = stop.cancelled() => return }
                self.run().await;
            }
        });
    }

    async fn run(&self) {
        if let Err(error) = self.ensure_service().await {
            tracing::error!(err = %error, "unable to sync kubernetes service");
            return;
        }
        if let Err(error) = self.reconciler.reconcile(self.facts.address, &self.facts.ports()).await {
            tracing::error!(err = %error, "unable to sync kubernetes service");
        }
    }

    async fn ensure_service(&self) -> Result<(), ApiError> {
        self.local.ensure(Gvr::SERVICES, "default", &self.facts.service()).await.map(drop)
    }

    /// Takes this server out, so that nobody is sent to it while it drains. Waits for two periods at most: a store that
    /// does not answer must not hold up the end.
    pub(crate) async fn stop(&self) {
        self.reconciler.stop();
        let ports = self.facts.ports();
        let removed = tokio::time::timeout(2 * PERIOD, self.reconciler.remove(self.facts.address, &ports));
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(err = %error, "Unable to remove endpoints from kubernetes service");
            }
            Err(_) => tracing::warn!("RemoveEndpoints() timed out"),
        }
    }
}
