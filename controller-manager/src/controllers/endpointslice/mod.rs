//! EndpointSlice: the addresses behind each Service with a selector, in slices of bounded size.
//!
//! Does not touch slices of Services without selector, nor those that others manage. Not there yet: topology-aware
//! hints by the old annotation. Start reading at [`plan`].
//! Upstream: pkg/controller/endpointslice/endpointslice_controller.go.

pub mod endpoints;
pub mod plan;
#[cfg(test)]
mod tests;
pub mod tracker;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams};
use component::app::Error;
use controller::limiter::ItemExponential;
use controller::{EventRecorder, WARNING, WorkQueue, reference};
use informer::{Event, NAMESPACE_INDEX, Options, Shared, Store};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery::labels::Selector;

use self::plan::{MANAGED_BY, MANAGER, Plan, SERVICE_NAME, View};
use self::tracker::Tracker;
use super::shared::key;
use super::triggertime;
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::{LabelSet, Pod};

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
    written: Tracker,
    triggers: triggertime::Tracker,
    max_per_slice: usize,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let services = context.factory.informer::<Service>(Options::default().index(NAMESPACE_INDEX, namespaces));
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
        written: Tracker::default(),
        triggers: triggertime::Tracker::default(),
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

impl Shell {
    fn pod_changed(&self, event: &Event<Pod>, batch: Duration) {
        // Most namespaces have no Service, and most changes of pods mean nothing to one.
        let services = self.services.list_namespace(event.object().namespace());
        if services.is_empty() {
            return;
        }
        let Some(labels) = pod_matters(event) else { return };
        for service in services {
            let Some(selector) = selector_of(&service) else { continue };
            if labels.iter().any(|l| selector.matches(l)) {
                self.queue.add_after(key(&*service), batch);
            }
        }
    }

    /// Our own writes come back as events: only what differs from them calls for another look.
    fn slice_changed(&self, event: &Event<EndpointSlice>) {
        let slice = event.object();
        let Some(service) = service_of(slice) else { return };
        if self.written.is_foreign(&service, event) {
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
            self.written.forget(service_key);
            self.triggers.forget(service_key);
            return Ok(());
        };
        let Some(selector) = selector_of(&service) else { return Ok(()) };
        let slices: Vec<Arc<EndpointSlice>> = self
            .slices
            .by_index(BY_SERVICE, service_key)
            .into_iter()
            .filter(|s| s.metadata.deletion_timestamp.is_none())
            .collect();
        if self.written.is_behind(service_key, &slices) {
            return Err("EndpointSlice informer cache is out of date".to_string());
        }
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let mut pods = self.pods.list_namespace(namespace);
        pods.retain(|p| selector.matches(&p.metadata.labels.as_ref()));
        let view = View {
            service: &service,
            pods: &pods,
            slices: &slices,
            max_per_slice: self.max_per_slice,
            triggered: self.triggers.observe(service_key, &service, &pods),
        };
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

    async fn act(&self, service: &str, namespace: &str, plan: Plan) -> Result<(), String> {
        let api = self.client.namespaced::<EndpointSlice>(namespace);
        for slice in &plan.create {
            match api.create(slice).await {
                Ok(made) => self.written.note(service, &made),
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                Err(error) => {
                    return Err(format!("failed to create EndpointSlice for Service {service}: {error}"));
                }
            }
        }
        for slice in &plan.update {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            match api.replace(slice).await {
                Ok(made) => self.written.note(service, &made),
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
                    self.written.note_deletion(service, name);
                }
            }
        }
        Ok(())
    }
}

/// What of a pod's state endpoints show.
fn facts(pod: &Pod) -> (Vec<&str>, bool, bool) {
    let ips = pod.status.iter().flat_map(|s| s.pod_ips.iter().flatten()).map(|ip| &*ip.ip).collect();
    (ips, crate::pods::is_ready(pod), crate::pods::is_terminal(pod))
}

/// The labels by which a changed pod is found, before and after; nothing if no endpoint shows the change.
pub fn pod_matters(event: &Event<Pod>) -> Option<Vec<Option<&Shared<LabelSet>>>> {
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
    let all = old.map(|o| o.metadata.labels.as_ref()).into_iter();
    matters.then(|| all.chain([new.metadata.labels.as_ref()]).collect())
}

/// Values of the index of Services by namespace.
pub fn namespaces(service: &Service) -> Vec<String> {
    service.metadata.namespace.clone().into_iter().collect()
}

/// The selector of a Service; none for one without.
pub fn selector_of(service: &Service) -> Option<Selector> {
    let labels = service.spec.as_ref()?.selector.as_ref()?;
    Some(Selector::from_set(labels))
}
