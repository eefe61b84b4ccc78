//! API aggregation: group-versions that other API servers serve, behind this one.
//!
//! An APIService names a group-version and the service that serves it, or no service for what this server serves
//! itself. [`services`] is the state made of them, [`proxy`] passes requests on, [`availability`] keeps their condition,
//! [`registration`] creates the objects of what this server serves, [`discovery`] and [`openapi`] fetch the documents that
//! are merged with this server's own. Upstream: `k8s.io/kube-aggregator`.
mod availability;
mod discovery;
mod metrics;
mod openapi;
mod priority;
mod proxy;
mod registration;
mod services;

use std::path::PathBuf;
use std::sync::Arc;

use client::ClientCert;
use component::app::Tasks;
use tokio::sync::watch;

use crate::endpoints::health::Hook;
use crate::local::{Gvr, Local};
use crate::outbound::resolve::Resolver;
use crate::server::Call;
use crate::web::{Response, Upload};

use discovery::Documents;
pub(crate) use openapi::merge;
pub(crate) use priority::or_custom as priority;
use services::{Remote, Service, Services};

/// What the flags say.
pub(crate) struct Options {
    /// `--proxy-client-cert-file` and `--proxy-client-key-file`
    pub(crate) proxy_client: Option<(PathBuf, PathBuf)>,
    /// `--aggregator-reject-forwarding-redirect`
    pub(crate) reject_redirects: bool,
}

/// The aggregator: state for requests, and where its tasks meet.
pub(crate) struct Aggregator {
    /// What the APIServices say.
    pub(crate) services: Services,
    /// Discovery documents of other servers.
    pub(crate) documents: Documents,
    /// OpenAPI documents of other servers.
    pub(crate) specs: openapi::Specs,
    reject_redirects: bool,
    /// Grows with every change of `services`.
    changed: watch::Sender<u64>,
}

impl Aggregator {
    /// Starts following APIServices and everything that depends on them; `registered` finishes when the APIServices of what
    /// this server serves itself are there.
    ///
    /// # Errors
    /// When the front-proxy client certificate cannot be used.
    pub(crate) fn start(
        local: &Local,
        tasks: &Tasks,
        resolver: Resolver,
        options: Options,
        registered: Hook,
    ) -> Result<Arc<Self>, String> {
        use client::kubeconfig::Source;
        let identity = match options.proxy_client {
            Some((certificate, key)) => {
                let pair = ClientCert::from_sources(Source::File(certificate), Source::File(key));
                Some(pair.map_err(|e| e.to_string())?)
            }
            None => None,
        };
        let aggregator = Arc::new(Self {
            services: Services::new(resolver, identity),
            documents: Documents::default(),
            specs: openapi::Specs::default(),
            reject_redirects: options.reject_redirects,
            changed: watch::Sender::new(0),
        });
        if !local.serves(Gvr::API_SERVICES) {
            registered.finish();
            return Ok(aggregator);
        }
        let stop = tasks.shutdown().clone();
        let own = aggregator.clone();
        let sink = move |change| {
            own.services.apply(change);
            own.changed.send_modify(|n| *n += 1);
        };
        let each = || (local.clone(), aggregator.clone(), tasks.shutdown().clone());
        tasks.spawn("api-service-follower", local.clone().follow(Gvr::API_SERVICES, stop, || {}, sink));
        let (local, own, stop) = each();
        tasks.spawn("api-service-registration", registration::run(local, own, stop, registered));
        let (local, own, stop) = each();
        tasks.spawn("api-service-availability", availability::run(local, own, stop));
        let (_, own, stop) = each();
        tasks.spawn("api-service-discovery", discovery::run(own, stop));
        Ok(aggregator)
    }

    /// The APIService that a path belongs to, if another server serves it: requests of its group-version, and the OpenAPI
    /// document about it.
    pub(crate) fn target(&self, path: &str) -> Option<Arc<Service>> {
        if !self.services.any_remote() {
            return None;
        }
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut parts = path.strip_prefix('/')?.split('/');
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        self.services.remote(group, version)
    }

    /// Passes a request on.
    pub(crate) async fn serve(&self, service: &Arc<Service>, call: Call, body: Upload) -> Response {
        proxy::serve(self, service, call, body).await
    }
}
