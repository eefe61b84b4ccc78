//! Post-start hooks: what the server itself must create before the cluster is usable.
//!
//! Each hook is a task that retries until it has succeeded; its health check fails until then. Hooks never block each
//! other. Upstream: `pkg/controlplane/instance.go` and the packages named in each file.
mod authentication_config;
mod identity_lease;
mod kubernetes_service;
mod namespaces;
mod presence;
mod priority_classes;
pub(crate) mod rbac;
mod service_cidr;

use std::future::Future;
use std::time::Duration;

use auth::rbac::Rbac;
use component::app::Tasks;
use registry::errors::ApiError;

use crate::endpoints::health::Health;
use crate::local::Local;
use crate::options::Config;

pub(crate) use authentication_config::Bundles;
pub(crate) use presence::{Presence, identity};

/// Runs `work` until it succeeds or the server stops.
fn run<F, Fut>(tasks: &Tasks, health: &Health, name: &'static str, work: F)
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), ApiError>> + Send,
{
    let (hook, stop) = (health.hook(name), tasks.shutdown().clone());
    tasks.spawn(name, async move {
        // Hooks depend on each other's objects (namespaces first), so the first tries come quickly.
        let mut pause = Duration::from_millis(50);
        loop {
            let result = tokio::select! { result = work() => result, () = stop.cancelled() => return };
            match result {
                Ok(()) => {
                    hook.finish();
                    return;
                }
                Err(error) => tracing::info!(hook = name, err = %error, "post-start hook failed, will retry"),
            }
            tokio::select! { () = tokio::time::sleep(pause) => {}, () = stop.cancelled() => return }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    });
}

/// Starts all hooks.
pub(crate) fn start(
    tasks: &Tasks,
    health: &Health,
    local: &Local,
    config: &Config,
    rbac: Option<Rbac>,
    bundles: Bundles,
    presence: &Presence,
) {
    let each = || local.clone();
    let (a, b) = (each(), each());
    run(tasks, health, "start-system-namespaces-controller", move || namespaces::ensure(a.clone()));
    run(tasks, health, "scheduling/bootstrap-system-priority-classes", move || {
        priority_classes::ensure(b.clone())
    });
    if let Some(authorizer) = rbac {
        let (local, gates) = (each(), config.gates);
        run(tasks, health, "rbac/bootstrap-roles", move || {
            let (local, authorizer) = (local.clone(), authorizer.clone());
            async move { rbac::establish(local, &gates, authorizer).await }
        });
    }
    let (local, cidrs) = (each(), config.service_cidrs.clone());
    run(tasks, health, "start-kubernetes-service-cidr-controller", move || {
        service_cidr::ensure(local.clone(), cidrs.clone())
    });
    let local = each();
    let front_proxy = config.front_proxy.clone();
    run(tasks, health, "start-cluster-authentication-info-controller", move || {
        authentication_config::ensure(local.clone(), bundles.clone(), front_proxy.clone())
    });
    presence.start(tasks, health);
}
