//! The master-count reconciler: every server adds its own address, and takes out others above the number of servers that
//! the flag says. Addresses of servers that are gone stay until somebody takes their place: deprecated for `lease`.
//!
//! [`decide`] and [`without`] compare, [`MasterCount`] reads and does what was decided.
//! Upstream: `masterCountEndpointReconciler` of `pkg/controlplane/reconcilers/instancecount.go`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use registry::errors::ApiError;

use super::endpointsadapter::mirror;
use super::lease::{SKIP_MIRROR, Step, repack, unnamed};
use super::{Error, found};
use crate::local::{Gvr, Local};

/// Compares the Endpoints that were found with this server's address and the number of servers.
pub(super) fn decide(
    found: Option<Endpoints>,
    ip: &str,
    ports: &[EndpointPort],
    count: usize,
    ports_too: bool,
) -> Step {
    let own = || EndpointAddress { ip: ip.to_owned(), ..EndpointAddress::default() };
    let anew = || EndpointSubset {
        addresses: Some(vec![own()]),
        ports: Some(ports.to_vec()),
        ..EndpointSubset::default()
    };
    let create = found.is_none();
    let mut endpoints = found.unwrap_or_else(unnamed);
    let labels = endpoints.metadata.labels.get_or_insert_default();
    let skipped = labels.insert(SKIP_MIRROR.to_owned(), "true".to_owned()).as_deref() == Some("true");
    if create {
        endpoints.subsets = Some(vec![anew()]);
        return Step::Create(endpoints);
    }
    let Some([subset]) = endpoints.subsets.as_deref() else {
        endpoints.subsets = Some(vec![anew()]);
        return Step::Update(endpoints);
    };
    let mut subset = subset.clone();
    let present = subset.addresses.as_deref().unwrap_or_default();
    let ip_right = present.iter().any(|a| a.ip == ip) && present.len() <= count;
    let ports_right = !ports_too || subset.ports.as_deref().unwrap_or_default() == ports;
    if skipped && ip_right && ports_right {
        return Step::Mirror(endpoints);
    }
    let mut subsets = vec![subset.clone()];
    if !ip_right {
        subset.addresses.get_or_insert_default().push(own());
        subsets = repack(subset);
        if let Some(addresses) = subsets.first_mut().and_then(|first| first.addresses.as_mut()) {
            shorten(addresses, ip, count);
        }
    }
    if let Some(first) = subsets.first_mut().filter(|_| !ports_right) {
        first.ports = Some(ports.to_vec());
    }
    endpoints.subsets = Some(subsets);
    Step::Update(endpoints)
}

/// Takes out those after the own one, and from the beginning, until there are so many.
fn shorten(addresses: &mut Vec<EndpointAddress>, ip: &str, count: usize) {
    while addresses.len() > count.max(1) {
        let Some(own) = addresses.iter().position(|address| address.ip == ip) else { return };
        addresses.remove((own + 1) % addresses.len());
    }
}

/// The Endpoints without an address; `None` when there is nothing to take it out of.
pub(super) fn without(mut endpoints: Endpoints, ip: &str) -> Option<Endpoints> {
    let mut subset = endpoints.subsets.as_ref()?.first()?.clone();
    if let Some(addresses) = subset.addresses.as_mut() {
        addresses.retain(|address| address.ip != ip);
    }
    let rest = endpoints.subsets.take().into_iter().flatten().skip(1);
    endpoints.subsets = Some(repack(subset).into_iter().chain(rest).collect());
    Some(endpoints)
}

/// The reconciler of one server.
pub(crate) struct MasterCount {
    local: Local,
    count: usize,
    stopped: AtomicBool,
    /// Held over a run.
    running: tokio::sync::Mutex<()>,
}

impl MasterCount {
    pub(super) fn new(local: Local, count: usize) -> Self {
        Self { local, count, stopped: AtomicBool::new(false), running: tokio::sync::Mutex::default() }
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(super) async fn reconcile(
        &self,
        ip: IpAddr,
        ports: &[EndpointPort],
        ports_too: bool,
    ) -> Result<(), Error> {
        let _running = self.running.lock().await;
        if self.stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        let step = decide(
            found::<Endpoints>(&self.local, Gvr::ENDPOINTS).await?,
            &ip.to_string(),
            ports,
            self.count,
            ports_too,
        );
        Ok(super::apply(&self.local, step).await?)
    }

    pub(super) async fn remove(&self, ip: IpAddr) -> Result<(), Error> {
        let _running = self.running.lock().await;
        let Some(endpoints) = found::<Endpoints>(&self.local, Gvr::ENDPOINTS)
            .await?
            .and_then(|found| without(found, &ip.to_string()))
        else {
            return Ok(());
        };
        let body = serde_json::to_value(&endpoints).map_err(ApiError::internal)?;
        self.local.update(Gvr::ENDPOINTS, "default", &body).await?;
        Ok(mirror(&self.local, &endpoints).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{addresses, endpoints, ports};
    use super::*;

    type Port = (&'static str, i32, &'static str);
    const FOO: &[Port] = &[("foo", 8080, "TCP")];
    const BAR: &[Port] = &[("foo", 8080, "TCP"), ("bar", 1000, "TCP")];

    /// Of upstream's `TestMasterCountEndpointReconciler`.
    #[test]
    fn every_server_adds_itself() {
        // Number of servers, whether ports are put right, found, then what and which.
        type Case = (usize, bool, &'static str, &'static [Port], &'static str, &'static str, &'static [Port]);
        let cases: [Case; 9] = [
            (1, true, "1.2.3.4", FOO, "mirror", "1.2.3.4", FOO),
            (1, true, "1.2.3.4 4.3.2.1", FOO, "update", "1.2.3.4", FOO),
            (
                3,
                true,
                "1.2.3.4 4.3.2.1 4.3.2.2 4.3.2.3 4.3.2.4",
                FOO,
                "update",
                "1.2.3.4 4.3.2.3 4.3.2.4",
                FOO,
            ),
            (3, true, "4.3.2.1 4.3.2.2 4.3.2.3 4.3.2.4", FOO, "update", "1.2.3.4 4.3.2.3 4.3.2.4", FOO),
            (2, true, "4.3.2.1", FOO, "update", "1.2.3.4 4.3.2.1", FOO),
            (1, true, "4.3.2.1", FOO, "update", "1.2.3.4", FOO),
            (1, true, "1.2.3.4", BAR, "update", "1.2.3.4", FOO),
            (1, false, "1.2.3.4", BAR, "mirror", "1.2.3.4", BAR),
            (1, false, "4.3.2.1", BAR, "update", "1.2.3.4", BAR),
        ];
        for (count, ports_too, found, of, what, then, then_ports) in cases {
            let step = decide(Some(endpoints(found, of)), "1.2.3.4", &ports(FOO), count, ports_too);
            let want = endpoints(then, then_ports);
            let want = if what == "mirror" { Step::Mirror(want) } else { Step::Update(want) };
            assert_eq!(step, want, "{count} {ports_too} {found}");
        }
        let made = Step::Create(endpoints("1.2.3.4", FOO));
        assert_eq!(decide(None, "1.2.3.4", &ports(FOO), 1, true), made);
        let empty = decide(Some(endpoints("", &[])), "1.2.3.4", &ports(FOO), 1, true);
        assert_eq!(empty, Step::Update(endpoints("1.2.3.4", FOO)));
    }

    #[test]
    fn a_server_leaves() {
        let left = |found| without(endpoints(found, FOO), "1.2.3.4");
        assert_eq!(left("1.2.3.4 4.3.2.1"), Some(endpoints("4.3.2.1", FOO)));
        let mut none = endpoints("1.2.3.4", FOO);
        none.subsets = Some(Vec::new());
        assert_eq!(left("1.2.3.4"), Some(none.clone()));
        assert_eq!(without(none, "1.2.3.4"), None);
        let mut long = addresses(&["a", "b", "c", "d"]);
        shorten(&mut long, "c", 2);
        assert_eq!(long, addresses(&["b", "c"]));
    }
}
