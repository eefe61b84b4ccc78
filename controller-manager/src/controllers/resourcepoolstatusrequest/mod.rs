//! Resource pool status: answers requests that ask what is left of a driver's pools of devices, once, and deletes requests
//! whose time has passed.
//!
//! Off by default (feature DRAResourcePoolStatus, alpha). Start reading at [`plan`]; [`views`] has the parts about devices
//! that share counters or capacity. Upstream: pkg/controller/resourcepoolstatusrequest.
//!
//! Differs: a request about a pool whose slices are not all there is looked at again when slices of its driver change;
//! upstream tries five times within a fifth of a second and then leaves it unanswered until it is deleted.

mod metrics;
mod plan;
#[cfg(test)]
mod tests;
mod views;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta};
use component::app::Error;
use component::features::{self, Gate};
use controller::WorkQueue;
use informer::{Event, Informer, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{
    DeviceTaintRule as Rule, ResourceClaim as Claim, ResourceSlice as Slice,
};
use k8s_openapi::api::resource::v1alpha3::ResourcePoolStatusRequest as Request;
use tokio::time::Instant;

use self::plan::{Plan, View};
use super::devicetainteviction::plan::allocated;
use crate::context::Context;
use crate::descriptor::Running;

/// Slices by their driver, claims by the drivers whose devices they have, unanswered requests by the driver they ask about.
const BY_DRIVER: &str = "device-driver";

struct Shell {
    client: Client,
    requests: Store<Request>,
    slices: Store<Slice>,
    claims: Store<Claim>,
    /// None where the feature DRADeviceTaintRules is off.
    rules: Option<Store<Rule>>,
    queue: WorkQueue<String>,
}

fn drivers_of_claim(claim: &Claim) -> Vec<String> {
    let mut all: Vec<String> = allocated(claim).map(|a| a.driver.clone()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn driver_of_pending(request: &Request) -> Vec<String> {
    request.status.is_none().then(|| request.spec.driver.clone()).into_iter().collect()
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let factory = &context.factory;
    let requests = factory.informer::<Request>(Options::default().index(BY_DRIVER, driver_of_pending));
    let slices = factory
        .informer::<Slice>(Options::default().index(BY_DRIVER, |s: &Slice| vec![s.spec.driver.clone()]));
    let claims = factory.informer::<Claim>(Options::default().index(BY_DRIVER, drivers_of_claim));
    let rules =
        features::enabled(Gate::DRADeviceTaintRules).then(|| factory.informer::<Rule>(Options::default()));
    let shell = Arc::new(Shell {
        client: context.client(),
        requests: requests.store(),
        slices: slices.store(),
        claims: claims.store(),
        rules: rules.as_ref().map(Informer::store),
        queue: WorkQueue::new("resourcepoolstatusrequest"),
    });
    shell.follow(&requests, &slices);
    let token = context.token.clone();
    Ok(Box::pin(async move {
        let mut synced = requests.wait_synced(&token).await
            && slices.wait_synced(&token).await
            && claims.wait_synced(&token).await;
        if let Some(rules) = &rules {
            synced = synced && rules.wait_synced(&token).await;
        }
        if !synced {
            return;
        }
        let queue = shell.queue.clone();
        queue
            .run(1, &token, move |name: String| {
                let shell = shell.clone();
                async move { shell.sync(&name).await }
            })
            .await;
    }))
}

impl Shell {
    fn follow(self: &Arc<Self>, requests: &Informer<Request>, slices: &Informer<Slice>) {
        let to = self.clone();
        requests.subscribe(move |event| {
            if let Event::Added(request) | Event::Updated { new: request, .. } = event {
                to.queue.add(request.name().to_owned());
            }
        });
        let to = self.clone();
        slices.subscribe(move |event| {
            let driver = &event.object().spec.driver;
            to.requests.index_keys(BY_DRIVER, driver).iter().for_each(|name| to.queue.add(name.to_string()));
        });
    }

    async fn sync(&self, name: &str) -> Result<Option<Duration>, String> {
        let started = Instant::now();
        let Some(request) = self.requests.get(name) else { return Ok(None) };
        let driver = &request.spec.driver;
        let view = View {
            request: &request,
            slices: &self.slices.by_index(BY_DRIVER, driver),
            claims: &self.claims.by_index(BY_DRIVER, driver),
            rules: &self.rules.as_ref().map(Store::list).unwrap_or_default(),
        };
        let api = self.client.all::<Request>();
        match plan::plan(&view, Timestamp::now()) {
            Plan::Keep(left) | Plan::Incomplete(left) => Ok(Some(left)),
            Plan::Delete => match api.delete(name, &DeleteParams::with_uid(request.uid())).await {
                Err(e) if !e.is_not_found() => Err(format!("deleting expired request {name}: {e}")),
                _ => Ok(None),
            },
            Plan::Answer(status) => {
                let written =
                    api.replace_status(&Request { status: Some(*status), ..(*request).clone() }).await;
                metrics::processed(driver, written.is_ok(), started.elapsed());
                written.map(|_| None).map_err(|e| format!("failed to update status for request {name}: {e}"))
            }
        }
    }
}
