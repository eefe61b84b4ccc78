//! Before a pod with resource claims is bound: writes devices and reservations to its claims, and waits until drivers
//! have made ready what must be. Upstream: plugins/dynamicresources/dynamicresources.go PreBind, bindClaim, Unreserve.

use std::sync::Arc;
use std::time::Duration;

use client::{DeleteParams, Meta, Patch, PatchParams};
use component::features::{self, Gate};
use controller::NORMAL;
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::actions;
use crate::model::{PodInfo, SeenPod};
use crate::plugins::dynamic_resources::{
    Allotment, Extended, Free, is_ready, is_reserved_for, timed_out, waits,
};
use crate::plugins::extended_devices;
use crate::scheduler::Scheduler;

/// Keeps a claim until its devices are given back. Upstream: resourceapi.Finalizer.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Upstream: retry.DefaultRetry.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// Writes and waits. The error is upstream's text.
pub async fn bind_claims(
    scheduler: &Scheduler,
    pod: &PodInfo,
    node: &str,
    allotments: &[Allotment],
) -> Result<(), String> {
    let mut written = Vec::with_capacity(allotments.len());
    for allotment in allotments {
        if is_reserved(&allotment.claim, pod) {
            written.push(allotment.claim.clone());
            continue;
        }
        let claim = match &allotment.extended {
            Some(extended) => make(scheduler, pod, allotment, extended).await?,
            None => {
                let from = ResourceClaim::clone(&allotment.claim);
                let claim = Arc::new(write(scheduler, pod, allotment, from).await?);
                let mut state = scheduler.state.lock();
                state.assumed.claim_written(&scheduler.listers.resource_claims, claim.clone());
                claim
            }
        };
        written.push(claim);
    }
    let takes: Vec<_> = allotments.iter().filter_map(|a| a.takes.as_ref()).collect();
    if !takes.is_empty() {
        let status = json!({ "nodeAllocatableResourceClaimStatuses": takes });
        let patched = actions::patch_status(scheduler, pod, status).await;
        let key = pod.key();
        patched.map_err(|e| format!("updating pod {key} NodeAllocatableResourceClaimStatuses: {e}"))?;
    }
    if !must_be_made_ready() || !written.iter().any(|c| waits(c)) {
        return Ok(());
    }
    let note = format!("waiting for binding conditions for device on node {node}");
    actions::event(scheduler, pod, NORMAL, "BindingConditionsPending", "Scheduling", &note);
    wait(scheduler, pod, &written).await
}

/// Whether a pod may use a claim, for itself or because its group may.
fn is_reserved(claim: &ResourceClaim, pod: &PodInfo) -> bool {
    is_reserved_for(claim, pod, features::enabled(Gate::DRAWorkloadResourceClaims))
}

/// Whether devices can have conditions to wait for.
fn must_be_made_ready() -> bool {
    features::enabled(Gate::DRADeviceBindingConditions)
        && features::enabled(Gate::DRAResourceClaimDeviceStatus)
}

/// Makes the claim that stands for extended resources, and says in the pod which container uses what of it.
/// Upstream: bindClaim, createExtendedResourceClaimInAPI, patchPodExtendedResourceClaimStatus.
async fn make(
    scheduler: &Scheduler,
    pod: &PodInfo,
    allotment: &Allotment,
    extended: &Extended,
) -> Result<Arc<ResourceClaim>, String> {
    let api = scheduler.client.namespaced::<ResourceClaim>(&pod.namespace);
    let created = api.create(&extended_devices::to_create(&allotment.claim)).await;
    let created =
        created.map_err(|e| format!("create claim for extended resources {}: {e}", allotment.claim.key()))?;
    // Known from now on, so that it can be taken away again.
    let _ = extended.created.set(Arc::new(created.clone()));
    let claim = Arc::new(write(scheduler, pod, allotment, created).await?);
    {
        let mut state = scheduler.state.lock();
        state.assumed.claim_made(&scheduler.listers.resource_claims, allotment, claim.clone());
    }
    let status = json!({ "extendedResourceClaimStatus": {
        "requestMappings": extended.made.mappings,
        "resourceClaimName": claim.name(),
    } });
    let patched = actions::patch_status(scheduler, pod, status).await;
    patched.map_err(|e| format!("update pod {} ExtendedResourceClaimStatus: {e}", pod.key()))?;
    Ok(claim)
}

async fn write(
    scheduler: &Scheduler,
    pod: &PodInfo,
    allotment: &Allotment,
    mut claim: ResourceClaim,
) -> Result<ResourceClaim, String> {
    let api = scheduler.client.namespaced::<ResourceClaim>(&pod.namespace);
    let (key, name, uid) = (claim.key(), claim.name().to_string(), claim.uid().to_string());
    let mut pause = PAUSE;
    for _ in 0..TRIES {
        match write_once(scheduler, pod, allotment, claim, &uid).await {
            Ok(written) => return Ok(written),
            Err(Failed::Conflict) => {}
            Err(Failed::Other(text)) => return Err(text),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        let latest = api.get(&name).await;
        claim = latest.map_err(|e| format!("get updated claim {key} after conflict: {e}"))?;
    }
    Err(format!("claim {key} changed again and again"))
}

enum Failed {
    Conflict,
    Other(String),
}

fn failed(what: String) -> impl FnOnce(client::Error) -> Failed {
    move |e| if e.is_conflict() { Failed::Conflict } else { Failed::Other(format!("{what}: {e}")) }
}

async fn write_once(
    scheduler: &Scheduler,
    pod: &PodInfo,
    allotment: &Allotment,
    mut claim: ResourceClaim,
    uid: &str,
) -> Result<ResourceClaim, Failed> {
    let api = scheduler.client.namespaced::<ResourceClaim>(&pod.namespace);
    let key = claim.key();
    let other = |why: &str| Err(Failed::Other(format!("claim {key} got {why} in the meantime")));
    if claim.uid() != uid || claim.metadata.deletion_timestamp.is_some() {
        return other("deleted");
    }
    let has = claim.status.as_ref().is_some_and(|s| s.allocation.is_some());
    // Another pod of the group was faster.
    let shared = has && pod.group.is_some() && allotment.gives_what_is_in(&claim);
    if shared && is_reserved(&claim, pod) {
        return Ok(claim);
    }
    let new = allotment.allocation.as_ref().filter(|_| !shared);
    if new.is_some() {
        if has {
            return other("allocated elsewhere");
        }
        let finalizers = claim.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
            claim = api.replace(&claim).await.map_err(failed(format!("add finalizer to claim {key}")))?;
        }
    } else if !has && must_be_made_ready() {
        return other("deallocated elsewhere");
    }
    let status = claim.status.get_or_insert_default();
    if let Some(allocation) = new {
        status.allocation = Some(allocation.clone());
    }
    if let Some(allocation) = status.allocation.as_mut().filter(|_| must_be_made_ready()) {
        allocation.allocation_timestamp.get_or_insert_with(|| Time(Timestamp::now()));
    }
    let pod_itself = || ResourceClaimConsumerReference {
        api_group: None,
        name: pod.name.to_string(),
        resource: "pods".into(),
        uid: pod.uid.to_string(),
    };
    let holder = allotment.holder.clone().unwrap_or_else(pod_itself);
    status.reserved_for.get_or_insert_default().push(holder);
    let what = if new.is_some() { "allocation and reservation" } else { "reservation" };
    api.replace_status(&claim).await.map_err(failed(format!("add {what} to claim {key}")))
}

/// Waits for the conditions of devices. Every change of a claim makes it look again.
async fn wait(scheduler: &Scheduler, pod: &PodInfo, claims: &[Arc<ResourceClaim>]) -> Result<(), String> {
    let limit = scheduler.running(pod).map_or(Duration::ZERO, |r| r.profile.device_timeout);
    let mut changes = scheduler.storage.subscribe();
    let ready = async {
        loop {
            changes.borrow_and_update();
            if all_ready(scheduler, claims, limit)? {
                return Ok(());
            }
            if changes.changed().await.is_err() {
                return Err("scheduler is stopping".to_string());
            }
        }
    };
    let late = || Err("device binding timeout: context deadline exceeded".to_string());
    tokio::time::timeout(limit, ready).await.unwrap_or_else(|_| late())
}

fn all_ready(scheduler: &Scheduler, claims: &[Arc<ResourceClaim>], limit: Duration) -> Result<bool, String> {
    for written in claims {
        let seen = scheduler.listers.resource_claims.get_by(written.namespace(), written.name());
        let seen = seen.ok_or_else(|| format!("could not find ResourceClaim {:?}", written.key()))?;
        let claim = crate::assumed::newer(&*seen, &**written);
        if !is_ready(claim)? {
            if timed_out(claim, limit, Timestamp::now()) {
                return Err(format!("device binding timeout: claim={}", claim.name()));
            }
            return Ok(false);
        }
    }
    Ok(true)
}

/// The pod was not bound after all: others may use its claims. What they hold stays theirs.
pub async fn unreserve(scheduler: &Scheduler, pod: &PodInfo, allotments: &[Allotment]) {
    if allotments.iter().any(|a| a.takes.is_some()) {
        untake(scheduler, pod).await;
    }
    for allotment in allotments {
        let claim = &allotment.claim;
        if let Some(extended) = &allotment.extended {
            if let Some(created) = extended.created.get() {
                delete(scheduler, created).await;
                scheduler.state.lock().assumed.claim_unmade(created);
            }
            continue;
        }
        if is_reserved_for(claim, pod, false) {
            continue;
        }
        release(scheduler, claim, &pod.uid).await;
    }
}

/// What the pod says that its devices take is not so any more. An empty list says that it is meant so, where none may be
/// from a client that knows no such field.
async fn untake(scheduler: &Scheduler, pod: &PodInfo) {
    let api = scheduler.client.namespaced::<SeenPod>(&pod.namespace);
    let patch = Patch::Merge(json!({
        "metadata": { "uid": &*pod.uid },
        "status": { "nodeAllocatableResourceClaimStatuses": [] },
    }));
    if let Err(error) = api.patch_unread(&pod.name, "status", &patch, &PatchParams::default()).await
        && !error.is_not_found()
    {
        tracing::error!(pod = pod.key(), %error, "Failed to clear NodeAllocatableResourceClaimStatuses on Unreserve");
    }
}

/// A claim is not reserved for somebody any more.
async fn release(scheduler: &Scheduler, claim: &ResourceClaim, holder: &str) {
    let api = scheduler.client.namespaced::<ResourceClaim>(claim.namespace());
    let patch = Patch::Strategic(json!({
        "metadata": { "uid": claim.metadata.uid },
        "status": { "reservedFor": [{ "$patch": "delete", "uid": holder }] },
    }));
    if let Err(error) = api.patch_unread(claim.name(), "status", &patch, &PatchParams::default()).await
        && !error.is_not_found()
    {
        tracing::error!(claim = claim.key(), %error, "unreserve");
    }
}

/// Deletes a claim that was made for a pod's extended resources. Upstream: deleteClaim.
async fn delete(scheduler: &Scheduler, claim: &ResourceClaim) {
    let api = scheduler.client.namespaced::<ResourceClaim>(claim.namespace());
    let gone = async {
        for _ in 0..TRIES {
            let mut latest = api.get(claim.name()).await?;
            if latest.metadata.uid != claim.metadata.uid {
                return Ok(());
            }
            latest.metadata.finalizers.iter_mut().for_each(|f| f.retain(|f| f != FINALIZER));
            match api.replace(&latest).await {
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        api.delete(claim.name(), &DeleteParams::with_uid(claim.uid())).await
    };
    let gone: client::Result<()> = gone.await;
    if let Err(error) = gone
        && !error.is_not_found()
    {
        tracing::error!(claim = claim.key(), %error, "Cannot delete ResourceClaim");
    }
}

/// Gets a claim out of the way that keeps its pod from every node.
pub async fn free(scheduler: &Scheduler, free: &Free) {
    let mut claim = match free {
        Free::Deallocate(claim) => ResourceClaim::clone(claim),
        Free::Delete(claim) => return delete(scheduler, claim).await,
        Free::Unreserve(claim, holder) => return release(scheduler, claim, holder).await,
    };
    claim.status = Some(Default::default());
    let api = scheduler.client.namespaced::<ResourceClaim>(claim.namespace());
    if let Err(error) = api.replace_status(&claim).await {
        tracing::error!(claim = claim.key(), %error, "Cannot deallocate ResourceClaim");
    }
}
