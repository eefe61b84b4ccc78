//! Endpoints: the addresses behind each Service with a selector, in the old form of one object per Service.
//!
//! Does not touch Services without selector: others write their Endpoints. Start reading at [`plan`].
//! Upstream: pkg/controller/endpoint/endpoints_controller.go.

mod plan;
pub mod subsets;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta, split_key};
use component::app::Error;
use controller::{EventRecorder, WARNING, WorkQueue, reference};
use hashbrown::HashMap;
use informer::{Event, NAMESPACE_INDEX, Options, Store};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use machinery::labels::Selector;
use parking_lot::Mutex;

use self::plan::{Plan, View};
use super::endpointslice::{namespaces, pod_matters, selector_of};
use super::triggertime::Tracker;
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;

/// On objects that elect leaders; these have no Service and are not ours.
pub const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Shell {
    client: Client,
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
    queue: WorkQueue<String>,
    recorder: EventRecorder,
    triggers: Tracker,
    /// Versions that were replaced: a cache that still shows one is behind.
    replaced: Mutex<HashMap<String, String>>,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let services = context.factory.informer::<Service>(Options::default().index(NAMESPACE_INDEX, namespaces));
    let pods = context.factory.informer::<Pod>(Options::default());
    let endpoints = context.factory.informer::<Endpoints>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        services: services.store(),
        pods: pods.store(),
        endpoints: endpoints.store(),
        queue: WorkQueue::new("endpoint"),
        recorder: context.recorder("endpoint-controller"),
        triggers: Tracker::default(),
        replaced: Mutex::default(),
    });
    let batch = context.flags.duration("endpoint-updates-batch-period");
    let to = shell.clone();
    services.subscribe(move |event| to.queue.add(event.object().key()));
    let to = shell.clone();
    pods.subscribe(move |event| to.pod_changed(&event, batch));
    let to = shell.clone();
    endpoints.subscribe(move |event| {
        if let Event::Deleted(object) = event {
            to.queue.add(object.key());
        }
    });
    let (workers, token) = (context.workers("concurrent-endpoint-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        let synced = services.wait_synced(&token).await
            && pods.wait_synced(&token).await
            && endpoints.wait_synced(&token).await;
        if !synced {
            return;
        }
        shell.queue_leftovers();
        let queue = shell.queue.clone();
        queue
            .run(workers, &token, move |key: String| {
                let shell = shell.clone();
                async move { shell.sync(&key).await.map(|()| None) }
            })
            .await;
    }))
}

impl Shell {
    /// Endpoints whose Service went while nobody looked.
    fn queue_leftovers(&self) {
        self.endpoints.for_each(|key, object| {
            if !object.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER)) {
                self.queue.add(key.to_string());
            }
        });
    }

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
                self.queue.add_after(service.key(), batch);
            }
        }
    }

    async fn sync(&self, key: &str) -> Result<(), String> {
        let (namespace, name) = split_key(key);
        let Some(service) = self.services.get(key) else {
            self.triggers.forget(key);
            self.replaced.lock().remove(key);
            if self.endpoints.get(key).is_none() {
                return Ok(());
            }
            let api = self.client.namespaced::<Endpoints>(namespace);
            return match api.delete(name, &DeleteParams::default()).await {
                Err(error) if !error.is_not_found() => {
                    Err(format!("failed to delete endpoints {key} of a service that is gone: {error}"))
                }
                _ => Ok(()),
            };
        };
        if !plan::is_ours(&service) {
            return Ok(());
        }
        let pods = self.selected(&service, namespace);
        let triggered = self.triggers.observe(key, &service, &pods);
        let current = self.endpoints.get(key);
        if let Some(current) = &current
            && self.replaced.lock().get(key).is_some_and(|old| old == current.resource_version())
        {
            return Err(format!(
                "endpoints informer cache is out of date, resource version {} already processed for endpoints {key}",
                current.resource_version()
            ));
        }
        let view = View { service: &service, pods: &pods, current: current.as_deref(), triggered };
        self.act(key, &service, plan::plan(&view), current.as_deref()).await
    }

    fn selected(&self, service: &Service, namespace: &str) -> Vec<Arc<Pod>> {
        let Some(selector) = selector_of(service) else { return Vec::new() };
        let mut pods = self.pods.list_namespace(namespace);
        pods.retain(|p| Selector::matches(&selector, &p.metadata.labels.as_ref()));
        pods
    }

    async fn act(
        &self,
        key: &str,
        service: &Service,
        plan: Plan,
        current: Option<&Endpoints>,
    ) -> Result<(), String> {
        let api = self.client.namespaced::<Endpoints>(service.namespace());
        match plan {
            Plan::Nothing => Ok(()),
            Plan::Create(new) => match api.create(&new).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_namespace_terminating() => Ok(()),
                Err(error) => {
                    let message = format!("Failed to create endpoint for service {key}: {error}");
                    self.recorder.event(&reference(&*new), WARNING, "FailedToCreateEndpoint", &message);
                    Err(message)
                }
            },
            Plan::Update(new) => match api.replace(&new).await {
                Ok(written) => {
                    let before = current.map(Meta::resource_version).unwrap_or_default();
                    // A write that changed nothing keeps the version, and the cache is not behind.
                    if written.resource_version() != before {
                        self.replaced.lock().insert(key.to_string(), before.to_string());
                    }
                    Ok(())
                }
                Err(error) => {
                    let message = format!("Failed to update endpoint {key}: {error}");
                    self.recorder.event(&reference(&*new), WARNING, "FailedToUpdateEndpoint", &message);
                    Err(message)
                }
            },
        }
    }
}
