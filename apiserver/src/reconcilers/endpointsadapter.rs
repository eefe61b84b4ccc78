//! The EndpointSlice beside the Endpoints of the Service `kubernetes`: this server mirrors them itself.
//!
//! One slice of one family: addresses of the other are left out, as upstream does.
//! Upstream: `pkg/controlplane/reconcilers/endpointsadapter.go`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use registry::errors::ApiError;

use super::{SERVICE, found};
use crate::local::{Gvr, Local};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is to be done about the slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Keep,
    Create,
    Update,
    /// The address type of a slice cannot change: deleted and made anew.
    Replace,
}

/// Makes the slice what the Endpoints say.
///
/// # Errors
/// What the registry says.
pub(super) async fn mirror(local: &Local, endpoints: &Endpoints) -> Result<(), ApiError> {
    let wanted = slice_of(endpoints);
    let present = found::<EndpointSlice>(local, Gvr::SLICES).await?;
    let step = decide(present.as_ref(), &wanted);
    let object = serde_json::to_value(&wanted).map_err(ApiError::internal)?;
    match step {
        Step::Keep => Ok(()),
        // Another server was faster.
        Step::Create => local.ensure(Gvr::SLICES, "default", &object).await.map(drop),
        Step::Update => local.update(Gvr::SLICES, "default", &object).await,
        Step::Replace => {
            local.delete(Gvr::SLICES, "default", SERVICE).await?;
            local.create(Gvr::SLICES, "default", &object).await
        }
    }
}

pub(super) fn decide(present: Option<&EndpointSlice>, wanted: &EndpointSlice) -> Step {
    fn all<T>(list: &Option<Vec<T>>) -> &[T] {
        list.as_deref().unwrap_or_default()
    }
    let Some(present) = present else { return Step::Create };
    if present.address_type != wanted.address_type {
        return Step::Replace;
    }
    let same = all(&present.endpoints) == all(&wanted.endpoints)
        && all(&present.ports) == all(&wanted.ports)
        && present.metadata.labels == wanted.metadata.labels;
    if same { Step::Keep } else { Step::Update }
}

/// The slice of the first subset.
pub(super) fn slice_of(endpoints: &Endpoints) -> EndpointSlice {
    let name = endpoints.metadata.name.clone();
    let mut slice = EndpointSlice::default();
    slice.metadata.namespace.clone_from(&endpoints.metadata.namespace);
    slice.metadata.labels = Some([(SERVICE_NAME.to_owned(), name.clone().unwrap_or_default())].into());
    slice.metadata.name = name;
    slice.address_type = "IPv4".to_owned();
    slice.endpoints = Some(Vec::new());
    let Some(subset) = endpoints.subsets.iter().flatten().next() else { return slice };
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_default()),
        ..EndpointPort::default()
    });
    slice.ports = Some(ports.collect());
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let all: Vec<(&EndpointAddress, bool)> = ready.chain(unready).collect();
    let v6 = !all.is_empty() && all.iter().all(|(address, _)| is_v6(&address.ip));
    if v6 {
        slice.address_type = "IPv6".to_owned();
    }
    let of_family = all.into_iter().filter(|(address, _)| is_v6(&address.ip) == v6);
    slice.endpoints = Some(of_family.map(|(address, ready)| endpoint(address, ready)).collect());
    slice
}

/// Go does not tell a mapped IPv4 address from the address itself.
fn is_v6(ip: &str) -> bool {
    ip.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_ipv6())
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
