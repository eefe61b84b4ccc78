//! EndpointSlice: the addresses behind each Service with a selector, in slices of bounded size.
//!
//! Does not touch slices of Services without selector, nor those that others manage. Not there yet: topology-aware
//! hints by the old annotation, and the trigger-time annotation. Start reading at [`plan`].
//! Upstream: pkg/controller/endpointslice/endpointslice_controller.go.

mod endpoints;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams};
use component::app::Error;
use controller::limiter::ItemExponential;
use controller::{EventRecorder, WARNING, WorkQueue, reference};
use hashbrown::HashMap;
use informer::{Event, Options, Store};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery::labels::Selector;
use parking_lot::Mutex;

use self::plan::{MANAGED_BY, MANAGER, Plan, SERVICE_NAME, View};
use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;

/// Slices by the Service they are of.
const BY_SERVICE: &str = "service";

struct Shell {
    client: Client,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    queue: WorkQueue<String>,
    recorder: EventRecorder,
    /// Versions of slices as last written, by name: a cache that is behind them is not acted upon.
    written: Mutex<HashMap<String, BTreeMap<String, i64>>>,
    max_per_slice: usize,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let services = context.factory.informer::<Service>(Options::default());
    let pods = context.factory.informer::<Pod>(Options::default());
    let nodes = context.factory.informer::<Node>(Options::default());
    let slices = context.factory.informer::<EndpointSlice>(
        Options::default().index(BY_SERVICE, |slice: &EndpointSlice| service_of(slice).into_iter().collect()),
    );
    // A Service whose pods change all the time must not be written each time: from 1 s up to 1000 s after failures.
    let limiter = ItemExponential::new(Duration::from_secs(1), Duration::from_secs(1000));
    let shell = Arc::new(Shell {
        client: context.client(),
        services: services.store(),
        pods: pods.store(),
        nodes: nodes.store(),
        slices: slices.store(),
        queue: WorkQueue::with_limiter("endpoint_slice", limiter),
        recorder: context.recorder("endpoint-slice-controller"),
        written: Mutex::default(),
        max_per_slice: usize::try_from(context.flags.int("max-endpoints-per-slice")).unwrap_or(100),
    });
    let batch = context.flags.duration("endpointslice-updates-batch-period");
    let to = shell.clone();
    services.subscribe(move |event| to.queue.add(key(&**event.object())));
    let to = shell.clone();
    pods.subscribe(move |event| to.pod_changed(&event, batch));
    let to = shell.clone();
    slices.subscribe(move |event| to.slice_changed(&event));
    let to = shell.clone();
    nodes.subscribe(move |event| to.node_changed(&event));
    let (workers, token) = (context.workers("concurrent-service-endpoint-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        let synced = services.wait_synced(&token).await
            && pods.wait_synced(&token).await
            && nodes.wait_synced(&token).await
            && slices.wait_synced(&token).await;
        if synced {
            let queue = shell.queue.clone();
            queue
                .run(workers, &token, move |service: String| {
                    let shell = shell.clone();
                    async move { shell.sync(&service).await.map(|()| None) }
                })
                .await;
        }
    }))
}

/// `namespace/service` of a slice that we manage.
fn service_of(slice: &EndpointSlice) -> Option<String> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
        return None;
    }
    let name = labels.get(SERVICE_NAME)?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or_default()))
}

fn version(slice: &EndpointSlice) -> i64 {
    slice.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl Shell {
    fn pod_changed(&self, event: &Event<Pod>, batch: Duration) {
        let (old, new) = match event {
            Event::Added(pod) | Event::Deleted(pod) => (None, pod),
            Event::Updated { old, new } => (Some(old), new),
        };
        let matters = old.is_none_or(|old| {
            old.metadata.labels != new.metadata.labels
                || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
                || old.spec.as_ref().map(|s| &s.node_name) != new.spec.as_ref().map(|s| &s.node_name)
                || facts(old) != facts(new)
        });
        if !matters {
            return;
        }
        let labels = [old.map(|o| o.metadata.labels.as_ref()), Some(new.metadata.labels.as_ref())];
        for service in self.services.list_namespace(new.metadata.namespace.as_deref().unwrap_or_default()) {
            let Some(selector) = selector_of(&service) else { continue };
            if labels.iter().flatten().any(|l| selector.matches(l)) {
                self.queue.add_after(key(&*service), batch);
            }
        }
    }

    /// Our own writes come back as events: only what differs from them calls for another look.
    fn slice_changed(&self, event: &Event<EndpointSlice>) {
        let slice = event.object();
        let Some(service) = service_of(slice) else { return };
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let known = self.written.lock().get(&service).and_then(|names| names.get(name).copied());
        let foreign = match event {
            Event::Deleted(_) => known.is_some(),
            _ => known != Some(version(slice)),
        };
        if foreign {
            self.queue.add(service);
        }
    }

    /// Pods that were left out for want of their node can be considered now.
    fn node_changed(&self, event: &Event<Node>) {
        let Event::Added(node) = event else { return };
        let name = node.metadata.name.as_deref();
        self.pods.for_each(|_, pod| {
            if pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == name {
                for service in
                    self.services.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default())
                {
                    if selector_of(&service).is_some_and(|s| s.matches(&pod.metadata.labels.as_ref())) {
                        self.queue.add(key(&*service));
                    }
                }
            }
        });
    }

    async fn sync(&self, service_key: &str) -> Result<(), String> {
        let Some(service) = self.services.get(service_key) else {
            // Its slices go with it, by their owner reference.
            self.written.lock().remove(service_key);
            return Ok(());
        };
        let Some(selector) = selector_of(&service) else { return Ok(()) };
        let slices: Vec<Arc<EndpointSlice>> = self
            .slices
            .by_index(BY_SERVICE, service_key)
            .into_iter()
            .filter(|s| s.metadata.deletion_timestamp.is_none())
            .collect();
        if self.is_behind(service_key, &slices) {
            return Err("EndpointSlice informer cache is out of date".to_string());
        }
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let mut pods = self.pods.list_namespace(namespace);
        pods.retain(|p| selector.matches(&p.metadata.labels.as_ref()));
        let view =
            View { service: &service, pods: &pods, slices: &slices, max_per_slice: self.max_per_slice };
        let plan = plan::plan(&view, |node| self.nodes.get(node));
        let left_out = plan.left_out.clone();
        if let Err(error) = self.act(service_key, namespace, plan).await {
            let message = format!("Error updating Endpoint Slices for Service {service_key}: {error}");
            self.recorder.event(&reference(&*service), WARNING, "FailedToUpdateEndpointSlices", &message);
            return Err(error);
        }
        match left_out.first() {
            Some(pod) => Err(format!("skipping Pod {pod} for Service {service_key}: its node is not known")),
            None => Ok(()),
        }
    }

    /// A slice we wrote is missing or older in the cache.
    fn is_behind(&self, service: &str, slices: &[Arc<EndpointSlice>]) -> bool {
        let mut written = self.written.lock();
        let Some(names) = written.get_mut(service) else { return false };
        let current: HashMap<&str, i64> =
            slices.iter().map(|s| (s.metadata.name.as_deref().unwrap_or_default(), version(s))).collect();
        // One that the cache never shows was deleted by somebody: it counts as behind once, then is forgotten.
        let missing: Vec<String> =
            names.keys().filter(|n| !current.contains_key(n.as_str())).cloned().collect();
        names.retain(|name, _| !missing.contains(name));
        !missing.is_empty()
            || names.iter().any(|(name, at)| current.get(name.as_str()).is_some_and(|v| v < at))
    }

    async fn act(&self, service: &str, namespace: &str, plan: Plan) -> Result<(), String> {
        let api = self.client.namespaced::<EndpointSlice>(namespace);
        for slice in &plan.create {
            match api.create(slice).await {
                Ok(made) => self.note(service, &made),
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                Err(error) => {
                    return Err(format!("failed to create EndpointSlice for Service {service}: {error}"));
                }
            }
        }
        for slice in &plan.update {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            match api.replace(slice).await {
                Ok(made) => self.note(service, &made),
                Err(error) => {
                    return Err(format!(
                        "failed to update {name} EndpointSlice for Service {service}: {error}"
                    ));
                }
            }
        }
        for name in &plan.delete {
            match api.delete(name, &DeleteParams::default()).await {
                Err(error) if !error.is_not_found() => {
                    return Err(format!(
                        "failed to delete {name} EndpointSlice for Service {service}: {error}"
                    ));
                }
                _ => {
                    if let Some(names) = self.written.lock().get_mut(service) {
                        names.remove(name);
                    }
                }
            }
        }
        Ok(())
    }

    fn note(&self, service: &str, slice: &EndpointSlice) {
        let name = slice.metadata.name.clone().unwrap_or_default();
        self.written.lock().entry(service.to_string()).or_default().insert(name, version(slice));
    }
}

/// What of a pod's state endpoints show.
fn facts(pod: &Pod) -> (Vec<&str>, bool, bool) {
    let ips = pod.status.iter().flat_map(|s| s.pod_ips.iter().flatten()).map(|ip| ip.ip.as_str()).collect();
    (ips, controller::pods::is_ready(pod), controller::pods::is_terminal(pod))
}

/// The selector of a Service; none for one without.
fn selector_of(service: &Service) -> Option<Selector> {
    let labels = service.spec.as_ref()?.selector.as_ref()?;
    Some(Selector::from_set(labels))
}
