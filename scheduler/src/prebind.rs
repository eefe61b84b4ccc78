//! Before a pod is bound its volumes must be: writes what was chosen, and waits until the volume controller and
//! provisioners have done their part. Upstream: plugins/volumebinding/binder.go BindPodVolumes.

use std::sync::Arc;
use std::time::Duration;

use client::Meta;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use tokio::time::timeout;

use crate::model::PodInfo;
use crate::plugins::volume_binding::{Bindings, SELECTED_NODE, affinity, fully_bound};
use crate::scheduler::Scheduler;

/// Writes and waits. The error is upstream's text.
pub async fn bind_volumes(
    scheduler: &Scheduler,
    pod: &PodInfo,
    node: &str,
    bindings: &Bindings,
    limit: Duration,
) -> Result<(), String> {
    let written = write(scheduler, bindings).await.map_err(|e| e.to_string())?;
    // Subscribed before the first look, so no change is missed.
    let mut changes = scheduler.storage.subscribe();
    let wait = async {
        loop {
            changes.borrow_and_update();
            if ready(scheduler, pod, node, &written)? {
                return Ok(());
            }
            if changes.changed().await.is_err() {
                return Err("scheduler is stopping".to_string());
            }
        }
    };
    let done = timeout(limit, wait).await.unwrap_or_else(|_| Err("context deadline exceeded".into()));
    done.map_err(|e| format!("binding volumes: {e}"))
}

async fn write(scheduler: &Scheduler, bindings: &Bindings) -> client::Result<Bindings> {
    let mut written = Bindings::default();
    for (volume, claim) in &bindings.fixed {
        let new = scheduler.client.all::<PersistentVolume>().replace(volume).await?;
        written.fixed.push((Arc::new(new), claim.clone()));
    }
    for claim in &bindings.provision {
        let api = scheduler.client.namespaced::<PersistentVolumeClaim>(claim.namespace());
        written.provision.push(Arc::new(api.replace(claim).await?));
    }
    Ok(written)
}

/// Whether the informer shows something older than what was written.
fn stale<K: Meta>(seen: &K, written: &K) -> bool {
    let version = |o: &K| o.resource_version().parse::<u64>().unwrap_or(0);
    version(seen) < version(written)
}

/// Upstream: checkBindings.
fn ready(scheduler: &Scheduler, pod: &PodInfo, node: &str, written: &Bindings) -> Result<bool, String> {
    let listers = &scheduler.listers;
    if !scheduler.state.lock().cache.is_assumed(&pod.uid) {
        return Err(format!("pod does not exist any more: pod {:?} not found", pod.name));
    }
    for (volume, claim) in &written.fixed {
        let seen = listers.volumes.get(volume.name());
        let seen =
            seen.ok_or_else(|| format!("failed to check binding: could not find pv {:?}", volume.name()))?;
        let own = listers.claims.get_by(claim.namespace(), claim.name());
        let own =
            own.ok_or_else(|| format!("failed to check binding: could not find pvc {:?}", claim.key()))?;
        if stale(&*seen, volume) {
            return Ok(false);
        }
        usable(scheduler, node, &seen)?;
        let reference = seen.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        if reference.is_none_or(|r| r.uid.as_deref().unwrap_or_default().is_empty()) {
            return Err(format!("ClaimRef got reset for pv {:?}", volume.name()));
        }
        if fully_bound(&own).is_none() {
            return Ok(false);
        }
    }
    for claim in &written.provision {
        let seen = listers.claims.get_by(claim.namespace(), claim.name());
        let seen = seen.ok_or_else(|| {
            format!("failed to check provisioning pvc: could not find pvc {:?}", claim.key())
        })?;
        if stale(&*seen, claim) {
            return Ok(false);
        }
        let selected = seen.metadata.annotations.as_ref().and_then(|a| a.get(SELECTED_NODE));
        if selected.is_none_or(|n| n != node) {
            return Err(format!("provisioning failed for PVC {:?}", claim.name()));
        }
        let Some(volume) = fully_bound(&seen) else { return Ok(false) };
        let Some(volume) = listers.volumes.get(volume) else { return Ok(false) };
        usable(scheduler, node, &volume)?;
    }
    Ok(true)
}

fn usable(scheduler: &Scheduler, node: &str, volume: &PersistentVolume) -> Result<(), String> {
    let state = scheduler.state.lock();
    let row = state
        .cache
        .row(node)
        .ok_or_else(|| format!("failed to get node {node:?}: node {node:?} not found"))?;
    if affinity(volume).is_none_or(|a| a.matches(row.labels(), "")) {
        return Ok(());
    }
    Err(format!(
        "pv {:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms",
        volume.name()
    ))
}
