//! The lease reconciler: the addresses of `default/kubernetes` are those of the servers that hold a lease.
//!
//! [`decide`] compares the Endpoints with the leases; [`Lease`] reads both and does what was decided, one run at a time.
//! Upstream: `leaseEndpointReconciler` of `pkg/controlplane/reconcilers/lease.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use storage::Store;

use super::masterleases::MasterLeases;
use super::{Error, SERVICE, found};
use crate::local::{Gvr, Local};

/// Keeps the controller manager from mirroring the Endpoints; this server does.
pub(super) const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

/// What one run is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim<'a> {
    /// The ports every address has.
    pub(super) ports: &'a [EndpointPort],
    /// Whether ports that differ are put right. Otherwise they are only where the Endpoints are made anew.
    pub(super) ports_too: bool,
    /// This server ends: it may take out the last address.
    pub(super) stopping: bool,
}

/// What is to be done about the Endpoints.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// There are none, and a server that ends makes none.
    Nothing,
    /// They are right; the slice may not be.
    Mirror(Endpoints),
    Create(Endpoints),
    Update(Endpoints),
}

/// Compares the Endpoints that were found with the addresses of the leases.
///
/// # Errors
/// [`Error::NoLeases`] when there is no lease, unless this server ends.
pub(super) fn decide(found: Option<Endpoints>, leases: &[String], aim: Aim<'_>) -> Result<Step, Error> {
    let create = found.is_none();
    if create && aim.stopping {
        return Ok(Step::Nothing);
    }
    if leases.is_empty() && !aim.stopping {
        return Err(Error::NoLeases);
    }
    let mut endpoints = found.unwrap_or_else(unnamed);
    let labels = endpoints.metadata.labels.get_or_insert_default();
    let skipped = labels.insert(SKIP_MIRROR.to_owned(), "true".to_owned());
    let subset = match endpoints.subsets.as_deref() {
        Some([one]) => Some(one),
        _ => None,
    };
    let addresses_right = subset.is_some_and(|subset| same_addresses(subset, leases));
    let ports_right = subset
        .is_some_and(|subset| !aim.ports_too || subset.ports.as_deref().unwrap_or_default() == aim.ports);
    if skipped.as_deref() == Some("true") && addresses_right && ports_right {
        return Ok(Step::Mirror(endpoints));
    }
    let mut subset = subset
        .cloned()
        .unwrap_or_else(|| EndpointSubset { ports: Some(aim.ports.to_vec()), ..EndpointSubset::default() });
    let mut subsets = if addresses_right {
        vec![subset]
    } else {
        let address = |ip: &String| EndpointAddress { ip: ip.clone(), ..EndpointAddress::default() };
        subset.addresses = Some(leases.iter().map(address).collect());
        repack(subset)
    };
    if let Some(first) = subsets.first_mut().filter(|_| !ports_right) {
        first.ports = Some(aim.ports.to_vec());
    }
    endpoints.subsets = Some(subsets);
    Ok(if create { Step::Create(endpoints) } else { Step::Update(endpoints) })
}

pub(super) fn unnamed() -> Endpoints {
    let mut endpoints = Endpoints::default();
    endpoints.metadata.name = Some(SERVICE.to_owned());
    endpoints.metadata.namespace = Some("default".to_owned());
    endpoints
}

/// Whether a subset has just these addresses, each once.
fn same_addresses(subset: &EndpointSubset, leases: &[String]) -> bool {
    let present = subset.addresses.as_deref().unwrap_or_default();
    let mut expected: BTreeSet<&str> = leases.iter().map(String::as_str).collect();
    present.len() == leases.len() && present.iter().all(|address| expected.remove(address.ip.as_str()))
}

/// The canonical form of one subset: addresses once and in the order of their text, none without addresses. An address
/// that is not ready somewhere is not ready. Ports stay in their order; upstream's is that of a hash, which differs only
/// for several ports that somebody else wrote. Upstream: `RepackSubsets` of `pkg/api/v1/endpoints/util.go`.
pub(super) fn repack(subset: EndpointSubset) -> Vec<EndpointSubset> {
    let mut all: BTreeMap<(String, String), (EndpointAddress, bool)> = BTreeMap::new();
    let ready = subset.addresses.into_iter().flatten().map(|address| (address, true));
    let unready = subset.not_ready_addresses.into_iter().flatten().map(|address| (address, false));
    for (address, ready) in ready.chain(unready) {
        let uid = address.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
        let entry = all.entry((address.ip.clone(), uid)).or_insert((address, ready));
        entry.1 &= ready;
    }
    if all.is_empty() {
        return Vec::new();
    }
    let of = |wanted: bool| -> Option<Vec<EndpointAddress>> {
        let some: Vec<_> =
            all.values().filter(|(_, ready)| *ready == wanted).map(|(a, _)| a.clone()).collect();
        (!some.is_empty()).then_some(some)
    };
    vec![EndpointSubset { addresses: of(true), not_ready_addresses: of(false), ports: subset.ports }]
}

/// The reconciler of one server.
pub(crate) struct Lease {
    local: Local,
    leases: MasterLeases,
    stopping: AtomicBool,
    /// Held over a run: renewing must not come between removing the lease and removing the address.
    running: tokio::sync::Mutex<()>,
}

impl Lease {
    pub(super) fn new(local: Local, store: Arc<dyn Store>, prefix: &str) -> Self {
        Self {
            local,
            leases: MasterLeases::new(store, prefix),
            stopping: AtomicBool::new(false),
            running: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) async fn reconcile(
        &self,
        ip: IpAddr,
        ports: &[EndpointPort],
        ports_too: bool,
    ) -> Result<(), Error> {
        if self.stopping() {
            return Ok(());
        }
        let _running = self.running.lock().await;
        // First and whatever happens below: then at least the other servers list this one.
        self.leases.renew(ip).await?;
        self.run(ports, ports_too).await
    }

    pub(super) async fn remove(&self, ip: IpAddr, ports: &[EndpointPort]) -> Result<(), Error> {
        let _running = self.running.lock().await;
        self.leases.remove(ip).await?;
        self.run(ports, true).await
    }

    async fn run(&self, ports: &[EndpointPort], ports_too: bool) -> Result<(), Error> {
        let local = &self.local;
        let found = found::<Endpoints>(local, Gvr::ENDPOINTS).await?;
        let leases = self.leases.list().await?;
        let aim = Aim { ports, ports_too, stopping: self.stopping() };
        let step = decide(found, &leases, aim)?;
        if matches!(step, Step::Create(_) | Step::Update(_)) {
            tracing::warn!(service = SERVICE, addresses = leases.join(","), "Resetting endpoints");
        }
        Ok(super::apply(local, step).await?)
    }
}
