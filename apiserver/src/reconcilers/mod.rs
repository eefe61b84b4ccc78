//! Endpoint reconcilers: who keeps the addresses behind the Service `default/kubernetes`, and how.
//!
//! [`Reconciler::Lease`] lists every API server that holds a lease in the store: several servers, ours and upstream's
//! mixed, agree on one list. [`Reconciler::None`] leaves the addresses to somebody else. Not built: `master-count`, which
//! upstream keeps for old clusters; the flags refuse it.
//!
//! Start reading at [`lease::decide`], which says what is to be done; [`masterleases`] keeps the leases,
//! [`endpointsadapter`] the slice beside the Endpoints. Upstream: `pkg/controlplane/reconcilers`.

mod endpointsadapter;
mod lease;
mod masterleases;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use api::validation::core::ip::validate_endpoint_ip;
use api::validation::field::{Path, aggregate};
use k8s_openapi::api::core::v1::EndpointPort;
use registry::errors::ApiError;
use storage::Store;

use crate::local::Local;

pub(crate) use lease::Lease;

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

/// `--endpoint-reconciler-type`
pub(crate) enum Reconciler {
    /// `lease`: the addresses of all servers with a lease.
    Lease(Box<Lease>),
    /// `none`: nothing is written.
    None,
}

impl Reconciler {
    /// The one of that name; keys of the store begin with `prefix`.
    pub(crate) fn of(name: &str, local: &Local, store: Arc<dyn Store>, prefix: &str) -> Self {
        match name {
            "none" => Self::None,
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
            Self::None => Ok(()),
        }
    }

    /// From now on [`Reconciler::reconcile`] does nothing.
    pub(crate) fn stop(&self) {
        if let Self::Lease(lease) = self {
            lease.stop();
        }
    }
}
