//! The port (10257): health, metrics and the pages every daemon has, behind delegated authentication.
//! Upstream: cmd/kube-controller-manager/app/controllermanager.go Run, app/server.go BuildHandlerChain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::Client;
use component::app::{Error, Process};
use component::delegated::{AccessReviews, Authentication, AuthenticationOptions, Guard};
use component::health::Check;
use component::serving::{Mux, SecureServing};
use component::{health, zpages};
use controller::LeaderElector;

use crate::descriptor::{Descriptor, Running};
use crate::lagz::Lags;

/// How late a leader may be before it counts as stuck.
const LEADER_TOLERANCE: Duration = Duration::from_secs(20);

/// Notes which controllers ended although the process goes on.
#[derive(Clone, Default)]
pub struct Health(Arc<Vec<(&'static str, AtomicBool)>>);

impl Health {
    /// For these controllers, all well.
    pub fn new(controllers: &[Descriptor]) -> Self {
        Self(Arc::new(controllers.iter().map(|d| (d.name, AtomicBool::new(false))).collect()))
    }

    /// The work of a controller; when it ends or panics, its check fails.
    pub fn watch(&self, name: &'static str, work: Running) -> Running {
        let ended = Ended { health: self.clone(), name };
        Box::pin(async move {
            let _ended = ended;
            work.await;
        })
    }

    fn has_ended(&self, name: &str) -> bool {
        self.0.iter().any(|(n, ended)| *n == name && ended.load(Ordering::Relaxed))
    }

    fn checks(&self) -> Vec<Check> {
        let check = |name: &'static str| {
            let health = self.clone();
            Check::new(name, move || {
                if health.has_ended(name) { Err("the controller has ended".into()) } else { Ok(()) }
            })
        };
        self.0.iter().map(|(name, _)| check(name)).collect()
    }
}

struct Ended {
    health: Health,
    name: &'static str,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.health
            .0
            .iter()
            .filter(|(n, _)| *n == self.name)
            .for_each(|(_, e)| e.store(true, Ordering::Relaxed));
    }
}

fn reviewer(kubeconfig: &str) -> Result<Option<Client>, Error> {
    if kubeconfig.is_empty() {
        return Ok(None);
    }
    let config = client::Config::from_kubeconfig(kubeconfig)?;
    Ok(Some(Client::new(config, client::Options { qps: 50.0, burst: 100, ..client::Options::default() })?))
}

/// Opens the port and serves until the process ends. Nothing with `--secure-port=0`.
///
/// # Errors
/// The port cannot be bound, or a setting of authentication cannot be used.
pub async fn start(
    serving: &SecureServing,
    process: &Process,
    health: &Health,
    elector: Option<Arc<LeaderElector>>,
    lags: &Lags,
) -> Result<(), Error> {
    let Some(server) = serving.bind(&[])? else { return Ok(()) };
    let flags = &process.flags;
    let options = AuthenticationOptions::from_flags(flags);
    let own = reviewer(&options.kubeconfig)?;
    let authentication = Authentication::from_options(&options, own.as_ref()).await?;
    let follow = authentication.clone().follow(options, own, process.shutdown.clone());
    process.tasks.spawn("authentication-settings", follow);
    let reviews = reviewer(flags.string("authorization-kubeconfig"))?.map(|client| {
        let ttl = |flag: &str| flags.duration(&format!("authorization-webhook-cache-{flag}-ttl"));
        AccessReviews::new(&client, ttl("authorized"), ttl("unauthorized"))
    });
    let authorizer = AccessReviews::chain(reviews, flags.list("authorization-always-allow-paths"))?;
    let mut mux = Mux::default();
    let mut checks: Vec<Check> = Vec::new();
    if let Some(elector) = elector {
        checks.push(Check::new("leaderElection", move || elector.check(LEADER_TOLERANCE)));
    }
    checks.extend(health.checks());
    health::install(&mut mux, "/healthz", checks);
    lags.install(&mut mux);
    let pages = zpages::Pages { name: "kube-controller-manager", flags: process.flags.clone(), config: None };
    zpages::install(&mut mux, &pages);
    server.spawn(&process.tasks, Guard { authentication, authorizer }.service(Arc::new(mux)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_controller_that_ends_is_not_well() {
        let descriptor = crate::controllers::ALL[0];
        let health = Health::new(&[descriptor]);
        let work = health.watch(descriptor.name, Box::pin(async {}));
        assert!(!health.has_ended(descriptor.name));
        work.await;
        assert!(health.has_ended(descriptor.name));
    }
}
