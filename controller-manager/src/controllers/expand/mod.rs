//! Volume expander: hands claims that ask for more to whoever can give it: an external resizer.
//!
//! Does not expand volumes itself. Of those that once were built in, the CSI driver that took over is told by an
//! annotation. Upstream: pkg/controller/volume/expand/expand_controller.go.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, Meta, Patch, PatchParams};
use component::app::Error;
use controller::{EventRecorder, NORMAL, WorkQueue, reference};
use informer::{Event, Options, Store};
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use machinery::quantity::Quantity;
use serde_json::json;

use super::persistentvolume::facts::{
    PRE_RESIZE_CAPACITY, annotation, claim_key, claim_phase, claim_uid, has, is_smaller, migrated, request,
    volume_name,
};
use crate::context::Context;
use crate::descriptor::Running;

const RESIZER: &str = "volume.kubernetes.io/storage-resizer";
/// As many as upstream has.
const WORKERS: usize = 10;

/// What to do about a claim.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// Tells that somebody else is waited for.
    Wait,
    /// Names the driver that took over from a plugin, unless it is named.
    Migrated {
        plugin: &'static str,
        driver: &'static str,
        name_it: bool,
    },
}

/// The plugin that a volume was of, before drivers took over.
fn plugin(volume: &Volume) -> Option<&'static str> {
    let spec = volume.spec.as_ref()?;
    let all = [
        (spec.aws_elastic_block_store.is_some(), "kubernetes.io/aws-ebs"),
        (spec.gce_persistent_disk.is_some(), "kubernetes.io/gce-pd"),
        (spec.cinder.is_some(), "kubernetes.io/cinder"),
        (spec.azure_disk.is_some(), "kubernetes.io/azure-disk"),
        (spec.azure_file.is_some(), "kubernetes.io/azure-file"),
        (spec.vsphere_volume.is_some(), "kubernetes.io/vsphere-volume"),
        (spec.portworx_volume.is_some(), "kubernetes.io/portworx-volume"),
    ];
    all.into_iter().find(|(is, _)| *is).map(|(_, name)| name)
}

fn capacity(claim: &Claim) -> Quantity {
    let list = claim.status.as_ref().and_then(|s| s.capacity.as_ref());
    list.and_then(|c| c.get("storage")).and_then(|q| Quantity::parse(&q.0).ok()).unwrap_or_default()
}

/// Decides.
///
/// # Errors
/// The volume is not the claim's.
fn plan(claim: &Claim, volume: &Volume) -> Result<Plan, String> {
    let namespace = claim_key(volume).and_then(|k| k.split_once('/').map(|(n, _)| n.to_string()));
    if namespace.as_deref() != Some(claim.namespace()) || claim_uid(volume) != claim.uid() {
        return Err(format!("persistent Volume is not bound to PVC being updated : {}", claim.key()));
    }
    if !is_smaller(&capacity(claim), &request(claim)) && !has(&volume.metadata, PRE_RESIZE_CAPACITY) {
        return Ok(Plan::Nothing);
    }
    Ok(match plugin(volume).and_then(|p| migrated(p).map(|d| (p, d))) {
        None => Plan::Wait,
        Some((plugin, driver)) => {
            Plan::Migrated { plugin, driver, name_it: annotation(&claim.metadata, RESIZER) != Some(driver) }
        }
    })
}

struct Shell {
    client: Client,
    claims: Store<Claim>,
    volumes: Store<Volume>,
    recorder: EventRecorder,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let claims = context.factory.informer::<Claim>(Options::default());
    let volumes = context.factory.informer::<Volume>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        claims: claims.store(),
        volumes: volumes.store(),
        recorder: context.recorder("volume_expand"),
    });
    let queue: WorkQueue<String> = WorkQueue::new("volume_expand");
    let to = queue.clone();
    claims.subscribe(move |event| {
        let matters = match &event {
            Event::Deleted(_) => false,
            Event::Added(_) => true,
            Event::Updated { old, new } => {
                is_smaller(&request(old), &request(new)) || is_smaller(&capacity(old), &capacity(new))
            }
        };
        if matters && claim_phase(event.object()) == "Bound" {
            to.add(event.object().key());
        }
    });
    let token = context.token.clone();
    Ok(Box::pin(async move {
        if !(claims.wait_synced(&token).await && volumes.wait_synced(&token).await) {
            return;
        }
        queue
            .run(WORKERS, &token, move |key: String| {
                let shell = shell.clone();
                async move { shell.sync(&key).await.map(|()| None) }
            })
            .await;
    }))
}

impl Shell {
    async fn sync(&self, key: &str) -> Result<(), String> {
        let Some(claim) = self.claims.get(key) else { return Ok(()) };
        let name = volume_name(&claim);
        let volume = match self.volumes.get(name) {
            Some(volume) => volume,
            // The cache may not know it yet.
            None => {
                let found = self.client.all::<Volume>().get(name).await;
                Arc::new(found.map_err(|e| format!("failed to get PV {name:?}: {e}"))?)
            }
        };
        match plan(&claim, &volume)? {
            Plan::Nothing => Ok(()),
            Plan::Wait => {
                self.tell(&claim, "waiting for an external controller to expand this PVC");
                Ok(())
            }
            Plan::Migrated { plugin, driver, name_it } => {
                let what = format!(
                    "CSI migration enabled for {plugin}; waiting for external resizer to expand the pvc"
                );
                self.tell(&claim, &what);
                if !name_it {
                    return Ok(());
                }
                let patch = json!({"metadata": {"uid": claim.uid(), "annotations": {(RESIZER): driver}}});
                let api = self.client.namespaced::<Claim>(claim.namespace());
                let done = api.patch(claim.name(), &Patch::Strategic(patch), &PatchParams::default()).await;
                done.map(drop)
                    .map_err(|e| format!("error setting resizer annotation to pvc {key}, with error {e}"))
            }
        }
    }

    fn tell(&self, claim: &Claim, message: &str) {
        self.recorder.event(&reference(claim), NORMAL, "ExternalExpanding", message);
    }
}
