//! ServiceCIDRs: each says when it is ready, and does not go while it is the only one to hold an address in use.
//!
//! Does not allocate addresses: that is the API server's. Upstream: pkg/controller/servicecidrs/servicecidrs_controller.go.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Meta, Patch, PatchParams};
use component::app::Error;
use controller::{EventRecorder, WARNING, WorkQueue, reference};
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::json;

use self::plan::{FINALIZER, Plan, View, contains, is_allocated, overlaps};
use crate::context::Context;
use crate::descriptor::Running;

const MANAGER: &str = "service-cidr-controller";

struct Shell {
    client: Client,
    cidrs: Store<ServiceCIDR>,
    addresses: Store<IPAddress>,
    queue: WorkQueue<String>,
    recorder: EventRecorder,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let cidrs = context.factory.informer::<ServiceCIDR>(Options::default());
    let addresses = context.factory.informer::<IPAddress>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        cidrs: cidrs.store(),
        addresses: addresses.store(),
        queue: WorkQueue::new("ipaddresses"),
        recorder: context.recorder(MANAGER),
    });
    let to = shell.clone();
    cidrs.subscribe(move |event| {
        let cidr = event.object();
        to.queue.add(cidr.name().to_string());
        // Another one may be free to go, or may be no more.
        if !matches!(event, Event::Updated { .. }) {
            let others = to.cidrs.list();
            others.iter().filter(|o| overlaps(o, cidr)).for_each(|o| to.queue.add(o.name().to_string()));
        }
    });
    let to = shell.clone();
    addresses.subscribe(move |event| {
        let Some(address) = is_allocated(event.object()) else { return };
        if !matches!(event, Event::Updated { .. }) {
            let all = to.cidrs.list();
            all.iter().filter(|c| contains(c, address)).for_each(|c| to.queue.add(c.name().to_string()));
        }
    });
    let token = context.token.clone();
    Ok(Box::pin(async move {
        if !(cidrs.wait_synced(&token).await && addresses.wait_synced(&token).await) {
            return;
        }
        let queue = shell.queue.clone();
        // Five, as upstream's shell has it.
        queue
            .run(5, &token, move |name: String| {
                let shell = shell.clone();
                async move { shell.sync(&name).await }
            })
            .await;
    }))
}

impl Shell {
    async fn sync(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(cidr) = self.cidrs.get(name) else { return Ok(None) };
        let (all, addresses) = (self.cidrs.list(), self.addresses.list());
        let plan = plan::plan(&View { cidr: &cidr, all: &all, addresses: &addresses }, Timestamp::now());
        let api = self.client.all::<ServiceCIDR>();
        let done = match plan {
            Plan::Nothing => Ok(()),
            Plan::Wait(pause) => return Ok(Some(pause)),
            Plan::Guard => {
                let patch = Patch::Strategic(json!({"metadata": {"finalizers": [FINALIZER]}}));
                api.patch(name, &patch, &PatchParams::default()).await.map(drop)
            }
            Plan::LetGo => {
                let patch = Patch::Strategic(
                    json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}),
                );
                api.patch(name, &patch, &PatchParams::default()).await.map(drop)
            }
            Plan::Tell(condition) => {
                let ready = condition.status == "True";
                let patch = Patch::Apply(json!({
                    "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
                    "status": {"conditions": [condition]},
                }));
                let params =
                    PatchParams { field_manager: MANAGER.to_string(), force: true, ..PatchParams::default() };
                let told = api.patch_status(name, &patch, &params).await.map(drop);
                if told.is_err() && ready {
                    let message = "The ServiceCIDR Status can not be set to Ready=True";
                    self.recorder.event(&reference(&*cidr), WARNING, "KubernetesServiceCIDRError", message);
                }
                told
            }
        };
        match done {
            Err(error) if !error.is_not_found() => Err(format!("ServiceCIDR {name}: {error}")),
            _ => Ok(None),
        }
    }
}
