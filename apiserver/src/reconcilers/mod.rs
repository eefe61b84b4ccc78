//! Endpoint reconcilers: who keeps the addresses behind the Service `default/kubernetes`, and how.
//!
//! [`Reconciler::Lease`] lists every API server that holds a lease in the store: several servers, ours and upstream's
//! mixed, agree on one list. [`Reconciler::MasterCount`] is the old way without leases, [`Reconciler::None`] leaves the
//! addresses to somebody else.
//!
//! Start reading at [`lease::decide`], which says what is to be done; [`masterleases`] keeps the leases,
//! [`endpointsadapter`] the slice beside the Endpoints. Upstream: `pkg/controlplane/reconcilers`.

mod endpointsadapter;
mod instancecount;
mod lease;
mod masterleases;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use api::validation::core::ip::validate_endpoint_ip;
use api::validation::field::{Path, aggregate};
use k8s_openapi::api::core::v1::{EndpointPort, Endpoints};
use machinery::value::from_value;
use registry::errors::ApiError;
use serde::de::DeserializeOwned;
use storage::Store;

use crate::local::{Gvr, Local};

pub(crate) use instancecount::MasterCount;
pub(crate) use lease::Lease;
use lease::Step;

/// Name of the Service, of its Endpoints and of their slice; all live in the namespace `default`.
pub(crate) const SERVICE: &str = "kubernetes";

/// Why the addresses could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The leases could not be read or written; not found when there is no own lease to remove.
    #[error(transparent)]
    Leases(#[from] storage::Error),
    /// The Endpoints or their slice could not be read or written.
    #[error(transparent)]
    Objects(#[from] ApiError),
    /// Nobody has a lease, though the own one was just written: rather a fault of the store than the truth.
    #[error(
        "no API server IP addresses were listed in storage, refusing to erase all endpoints for the kubernetes Service"
    )]
    NoLeases,
}

impl Error {
    /// Whether there was no lease to remove.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Leases(error) if error.is_not_found())
    }
}

/// The object of the Service's name, if there is one.
async fn found<T: DeserializeOwned>(local: &Local, gvr: Gvr) -> Result<Option<T>, ApiError> {
    let found = local.get(gvr, "default", SERVICE).await?;
    found.map(|value| from_value(&value).map_err(ApiError::internal)).transpose()
}

/// `--endpoint-reconciler-type`
pub(crate) enum Reconciler {
    /// `lease`: the addresses of all servers with a lease.
    Lease(Box<Lease>),
    /// `master-count`: so many addresses.
    MasterCount(Box<MasterCount>),
    /// `none`: nothing is written.
    None,
}

impl Reconciler {
    /// The one of that name; keys of the store begin with `prefix`, and `count` servers are expected.
    pub(crate) fn of(name: &str, count: usize, local: &Local, store: Arc<dyn Store>, prefix: &str) -> Self {
        match name {
            "none" => Self::None,
            "master-count" => Self::MasterCount(Box::new(MasterCount::new(local.clone(), count))),
            _ => Self::Lease(Box::new(Lease::new(local.clone(), store, prefix))),
        }
    }

    /// Whether others could reach an endpoint of this address.
    ///
    /// # Errors
    /// Upstream's text for an address that Endpoints cannot have.
    pub(crate) fn validate_ip(&self, ip: IpAddr) -> Result<(), String> {
        if matches!(self, Self::None) {
            return Ok(());
        }
        let problems = validate_endpoint_ip(&ip.to_string(), &Path::ROOT);
        if problems.is_empty() { Ok(()) } else { Err(aggregate(&problems)) }
    }

    /// Renews the own lease and brings the addresses up to date.
    ///
    /// # Errors
    /// What the store or the registry says; the lease may have been renewed all the same.
    pub(crate) async fn reconcile(&self, ip: IpAddr, ports: &[EndpointPort]) -> Result<(), Error> {
        match self {
            Self::Lease(lease) => lease.reconcile(ip, ports, false).await,
            Self::MasterCount(all) => all.reconcile(ip, ports, false).await,
            Self::None => Ok(()),
        }
    }

    /// Gives the own lease up and takes the address out.
    ///
    /// # Errors
    /// As [`Reconciler::reconcile`], and not found when there was no lease.
    pub(crate) async fn remove(&self, ip: IpAddr, ports: &[EndpointPort]) -> Result<(), Error> {
        match self {
            Self::Lease(lease) => lease.remove(ip, ports).await,
            Self::MasterCount(all) => all.remove(ip).await,
            Self::None => Ok(()),
        }
    }

    /// From now on [`Reconciler::reconcile`] does nothing.
    pub(crate) fn stop(&self) {
        match self {
            Self::Lease(lease) => lease.stop(),
            Self::MasterCount(all) => all.stop(),
            Self::None => {}
        }
    }
}

/// Does what was decided about the Endpoints, and mirrors them.
async fn apply(local: &Local, step: Step) -> Result<(), ApiError> {
    let body = |endpoints: &Endpoints| serde_json::to_value(endpoints).map_err(ApiError::internal);
    let endpoints = match step {
        Step::Nothing => return Ok(()),
        Step::Mirror(endpoints) => endpoints,
        Step::Create(endpoints) => {
            match local.create(Gvr::ENDPOINTS, "default", &body(&endpoints)?).await {
                // Another server was faster; the next run compares with what it wrote.
                Err(error) if error.reason == "AlreadyExists" => return Ok(()),
                created => created?,
            }
            endpoints
        }
        Step::Update(endpoints) => {
            local.update(Gvr::ENDPOINTS, "default", &body(&endpoints)?).await?;
            endpoints
        }
    };
    endpointsadapter::mirror(local, &endpoints).await
}
