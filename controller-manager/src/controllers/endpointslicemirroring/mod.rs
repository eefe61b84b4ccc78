//! EndpointSlice mirroring: Endpoints that people or programs wrote for Services without selector, as slices.
//!
//! Does not touch Services with a selector: those have slices of their own. Start reading at [`plan`].
//! Upstream: pkg/controller/endpointslicemirroring/endpointslicemirroring_controller.go.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta, split_key};
use component::app::Error;
use controller::limiter::ItemExponential;
use controller::{EventRecorder, WARNING, WorkQueue, reference};
use informer::{Event, Informer, Options, Store};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use self::plan::{MANAGER, Plan, View, should_mirror};
use super::endpointslice::plan::{MANAGED_BY, SERVICE_NAME};
use super::endpointslice::tracker::Tracker;
use crate::context::Context;
use crate::descriptor::Running;

/// Slices by the Endpoints they mirror.
const BY_ENDPOINTS: &str = "mirrored-endpoints";

struct Shell {
    client: Client,
    endpoints: Store<Endpoints>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    queue: WorkQueue<String>,
    recorder: EventRecorder,
    written: Tracker,
    max_per_subset: usize,
}

/// `namespace/service` of a slice that we manage.
fn mirrored(slice: &EndpointSlice) -> Option<String> {
    let labels = slice.metadata.labels.as_ref()?;
    let name = labels.get(SERVICE_NAME).filter(|n| !n.is_empty())?;
    (labels.get(MANAGED_BY)? == MANAGER).then(|| format!("{}/{name}", slice.namespace()))
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let endpoints = context.factory.informer::<Endpoints>(Options::default());
    let services = context.factory.informer::<Service>(Options::default());
    let options =
        Options::default().index(BY_ENDPOINTS, |s: &EndpointSlice| mirrored(s).into_iter().collect());
    let slices = context.factory.informer::<EndpointSlice>(options);
    // As for slices of Services with a selector: from 1 s up to 100 s after failures.
    let limiter = ItemExponential::new(Duration::from_secs(1), Duration::from_secs(100));
    let max = context.flags.int("mirroring-max-endpoints-per-subset");
    let shell = Arc::new(Shell {
        client: context.client(),
        endpoints: endpoints.store(),
        services: services.store(),
        slices: slices.store(),
        queue: WorkQueue::with_limiter("endpoint_slice_mirroring", limiter),
        recorder: context.recorder("endpoint-slice-mirroring-controller"),
        written: Tracker::default(),
        max_per_subset: usize::try_from(max).unwrap_or(1000),
    });
    let batch = context.flags.duration("mirroring-endpointslice-updates-batch-period");
    shell.follow(&endpoints, &services, &slices, batch);
    let workers = context.workers("mirroring-concurrent-service-endpoint-syncs");
    let token = context.token.clone();
    Ok(Box::pin(async move {
        let synced = endpoints.wait_synced(&token).await
            && services.wait_synced(&token).await
            && slices.wait_synced(&token).await;
        if synced {
            let queue = shell.queue.clone();
            queue
                .run(workers, &token, move |key: String| {
                    let shell = shell.clone();
                    async move { shell.sync(&key).await.map(|()| None) }
                })
                .await;
        }
    }))
}

impl Shell {
    fn follow(
        self: &Arc<Self>,
        endpoints: &Informer<Endpoints>,
        services: &Informer<Service>,
        slices: &Informer<EndpointSlice>,
        batch: Duration,
    ) {
        let to = self.clone();
        endpoints.subscribe(move |event| {
            let before = matches!(&event, Event::Updated { old, .. } if should_mirror(old));
            if before || should_mirror(event.object()) {
                to.queue.add(event.object().key());
            }
        });
        let to = self.clone();
        services.subscribe(move |event| {
            let selects = |s: &Service| s.spec.as_ref().is_some_and(|s| s.selector.is_some());
            let matters = match &event {
                Event::Updated { old, new } => selects(old) != selects(new),
                Event::Added(service) | Event::Deleted(service) => !selects(service),
            };
            if matters {
                to.queue.add(event.object().key());
            }
        });
        let to = self.clone();
        slices.subscribe(move |event| {
            let before = if let Event::Updated { old, .. } = &event { mirrored(old) } else { None };
            let now = mirrored(event.object());
            // Taken away from us, or given to us, by a change of labels.
            if let Some(before) = before.filter(|b| now.as_ref() != Some(b)) {
                to.queue.add_after(before, batch);
            }
            if let Some(now) = now
                && to.written.is_foreign(&now, &event)
            {
                to.queue.add_after(now, batch);
            }
        });
    }

    async fn sync(&self, key: &str) -> Result<(), String> {
        let (endpoints, service) = (self.endpoints.get(key), self.services.get(key));
        let slices = self.slices.by_index(BY_ENDPOINTS, key);
        let view = View {
            endpoints: endpoints.as_deref(),
            service: service.as_deref(),
            slices: &slices,
            max_per_subset: self.max_per_subset,
        };
        if endpoints.is_none() {
            self.written.forget(key);
        } else if self.written.is_behind(key, &slices) {
            return Err("EndpointSlice informer cache is out of date".to_string());
        }
        let plan = plan::plan(&view);
        if let Some(endpoints) = &endpoints {
            self.warn(endpoints, &plan);
        }
        self.act(key, plan).await
    }

    fn warn(&self, endpoints: &Endpoints, plan: &Plan) {
        if plan.invalid > 0 {
            let message =
                format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", plan.invalid);
            self.recorder.event(&reference(endpoints), WARNING, "InvalidIPAddress", &message);
        }
        if plan.skipped > plan.invalid {
            let message = format!(
                "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                self.max_per_subset, plan.skipped
            );
            self.recorder.event(&reference(endpoints), WARNING, "TooManyAddressesToMirror", &message);
        }
    }

    async fn act(&self, key: &str, plan: Plan) -> Result<(), String> {
        let api = self.client.namespaced::<EndpointSlice>(split_key(key).0);
        for slice in &plan.create {
            match api.create(slice).await {
                Ok(made) => self.written.note(key, &made),
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                Err(error) => {
                    return Err(format!("failed to create EndpointSlice for Endpoints {key}: {error}"));
                }
            }
        }
        for slice in &plan.update {
            match api.replace(slice).await {
                Ok(made) => self.written.note(key, &made),
                Err(error) => {
                    let name = slice.name();
                    return Err(format!(
                        "failed to update {name} EndpointSlice for Endpoints {key}: {error}"
                    ));
                }
            }
        }
        for name in &plan.delete {
            match api.delete(name, &DeleteParams::default()).await {
                Err(error) if !error.is_not_found() => {
                    return Err(format!(
                        "failed to delete {name} EndpointSlice for Endpoints {key}: {error}"
                    ));
                }
                _ => self.written.note_deletion(key, name),
            }
        }
        Ok(())
    }
}
