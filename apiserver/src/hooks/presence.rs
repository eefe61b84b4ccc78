//! By what others know this server while it runs: its address behind the Service `kubernetes`, and its lease.

use std::net::SocketAddr;
use std::sync::Arc;

use component::app::Tasks;
use component::features::Gate;
use storage::Store;

use super::identity_lease::{self, IdentityLease};
use super::kubernetes_service::KubernetesService;
use super::run;
use crate::endpoints::health::Health;
use crate::local::Local;
use crate::options::Config;

/// What is made when the server starts and taken back when it ends.
pub(crate) struct Presence {
    kubernetes: Arc<KubernetesService>,
    identity: Option<Arc<IdentityLease>>,
}

/// The host by whose name this server is told from others; `None` when servers have no identity.
fn host(config: &Config) -> Option<String> {
    config.gates.enabled(Gate::APIServerIdentity).then(|| {
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        host.unwrap_or_default()
    })
}

/// This server's name among API servers.
pub(crate) fn identity(config: &Config) -> Option<String> {
    host(config).map(|host| identity_lease::identity(&host))
}

impl Presence {
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
        let identity = host(config).map(|host| Arc::new(IdentityLease::new(local, host)));
        Ok(Self { kubernetes: Arc::new(KubernetesService::new(config, local, store, address)?), identity })
    }

    pub(super) fn start(&self, tasks: &Tasks, health: &Health) {
        if let Some(identity) = &self.identity {
            identity.clone().start(tasks, health);
        }
        let kubernetes = self.kubernetes.clone();
        kubernetes.clone().start(tasks, health);
        run(tasks, health, "bootstrap-controller", move || {
            let kubernetes = kubernetes.clone();
            async move { kubernetes.prepare().await }
        });
    }

    /// Takes this server out, so that nobody is sent to it while it drains.
    pub(crate) async fn stop(&self) {
        let gone = async {
            if let Some(identity) = &self.identity {
                identity.stop().await;
            }
        };
        tokio::join!(self.kubernetes.stop(), gone);
    }
}
