//! From a claim of a pod to the persistent volume behind it.
//!
//! What was found stays for as long as the pod does: a bound claim never points elsewhere.
//! Upstream: pkg/kubelet/volumemanager/populator/desired_state_of_world_populator.go, v1.37.

use std::collections::HashMap;
use std::sync::Arc;

use client::Client;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use parking_lot::Mutex;

use crate::pod::view::PodView;

const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// A reference to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The claim's name in the pod's namespace.
    pub name: String,
    /// True if the pod must not write to the volume.
    pub read_only: bool,
    /// True if the claim was made for this pod and goes with it.
    pub ephemeral: bool,
}

/// The claim that a volume refers to, if it does.
pub fn reference(pod: &Pod, volume: &Volume) -> Option<Reference> {
    if let Some(claim) = &volume.persistent_volume_claim {
        let read_only = claim.read_only.unwrap_or(false);
        return Some(Reference { name: claim.claim_name.clone(), read_only, ephemeral: false });
    }
    volume.ephemeral.as_ref()?;
    Some(Reference { name: format!("{}-{}", pod.name(), volume.name), read_only: false, ephemeral: true })
}

/// Name of the volume behind a claim that the pod may use.
///
/// # Errors
/// Why it may not.
pub fn volume_name<'a>(
    claim: &'a PersistentVolumeClaim,
    pod: &Pod,
    reference: &Reference,
) -> Result<&'a str, String> {
    let protected = claim.metadata.finalizers.iter().flatten().any(|f| f == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() && !protected {
        return Err("PVC is being deleted".to_owned());
    }
    if claim.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound".to_owned());
    }
    let owned = claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|o| o.uid == pod.uid() && o.controller == Some(true));
    if reference.ephemeral && !owned {
        return Err(format!(
            "PVC {}/{} was not created for pod {}/{} (pod is not owner)",
            pod.namespace(),
            reference.name,
            pod.namespace(),
            pod.name()
        ));
    }
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).filter(|name| !name.is_empty());
    name.ok_or_else(|| "PVC has empty pvc.Spec.VolumeName".to_owned())
}

/// Checks that the volume belongs to the claim.
///
/// # Errors
/// If it belongs to another one or to none.
pub fn check_owner(volume: &PersistentVolume, claim_uid: &str) -> Result<(), String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let owner = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let Some(owner) = owner else {
        return Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    let uid = owner.uid.as_deref().unwrap_or_default();
    if uid == claim_uid {
        return Ok(());
    }
    Err(format!(
        "found PV object {name} but its pv.Spec.ClaimRef.UID {uid} does not point to claim.UID {claim_uid}"
    ))
}

/// Checks that the containers use the volume as what it is.
///
/// # Errors
/// If one mounts a device or opens a file system as a device.
pub fn check_mode(pod: &Pod, name: &str, volume: &PersistentVolume) -> Result<(), String> {
    let mode = volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref()).unwrap_or("Filesystem");
    let (mut mounted, mut opened) = (false, false);
    for container in pod.all_containers() {
        let container = container.to_container();
        mounted |= container.volume_mounts.iter().flatten().any(|m| m.name == name);
        opened |= container.volume_devices.iter().flatten().any(|d| d.name == name);
    }
    if mounted && mode != "Filesystem" {
        return Err(format!("volume {name} has volumeMode {mode}, but is specified in volumeMounts"));
    }
    if opened && mode != "Block" {
        return Err(format!("volume {name} has volumeMode {mode}, but is specified in volumeDevices"));
    }
    Ok(())
}

/// Finds volumes of claims.
pub struct Claims {
    client: Option<Client>,
    /// By the pod's id and the name of its volume.
    known: Mutex<HashMap<(String, String), Arc<PersistentVolume>>>,
}

impl Claims {
    /// Asks the API server, if there is one.
    pub fn new(client: Option<Client>) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// The persistent volume behind a volume of the pod.
    ///
    /// # Errors
    /// If there is none, or the pod must not use it.
    pub async fn find(
        &self,
        pod: &Pod,
        volume: &str,
        reference: &Reference,
    ) -> Result<Arc<PersistentVolume>, String> {
        let key = (pod.uid().to_owned(), volume.to_owned());
        if let Some(known) = self.known.lock().get(&key).cloned() {
            return Ok(known);
        }
        let found = self.ask(pod, reference).await;
        let found =
            found.map_err(|e| format!("error processing PVC {}/{}: {e}", pod.namespace(), reference.name))?;
        check_mode(pod, volume, &found)?;
        let found = Arc::new(found);
        self.known.lock().insert(key, found.clone());
        Ok(found)
    }

    async fn ask(&self, pod: &Pod, reference: &Reference) -> Result<PersistentVolume, String> {
        let client = self.client.as_ref().ok_or("no API server is configured, so there are no claims")?;
        let claims = client.namespaced::<PersistentVolumeClaim>(pod.namespace());
        let claim = claims
            .get(&reference.name)
            .await
            .map_err(|e| format!("failed to fetch PVC from API server: {e}"))?;
        let name = volume_name(&claim, pod, reference)?;
        let volume = client.all::<PersistentVolume>().get(name).await;
        let volume = volume.map_err(|e| format!("failed to fetch PV {name} from API server: {e}"))?;
        check_owner(&volume, claim.metadata.uid.as_deref().unwrap_or_default())?;
        Ok(volume)
    }

    /// Forgets what was found for a pod.
    pub fn forget(&self, uid: &str) {
        self.known.lock().retain(|(pod, _), _| pod != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn names_of_claims() {
        let pod = pod(json!({"containers": []}));
        let of = |volume: Value| {
            reference(&pod, &serde_json::from_value(volume).unwrap())
                .map(|r| (r.name, r.read_only, r.ephemeral))
        };
        assert_eq!(of(json!({"name": "v", "emptyDir": {}})), None);
        let claim = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}});
        assert_eq!(of(claim), Some(("c".into(), true, false)));
        assert_eq!(of(json!({"name": "v", "ephemeral": {}})), Some(("p-v".into(), false, true)));
    }

    #[test]
    fn usable_claims() {
        let pod = pod(json!({"containers": []}));
        let check = |claim: Value, ephemeral| {
            let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
            let reference = Reference { name: "c".into(), read_only: false, ephemeral };
            volume_name(&claim, &pod, &reference).map(str::to_owned)
        };
        let bound = json!({"metadata": {}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
        assert_eq!(check(bound.clone(), false), Ok("pv".into()));
        assert!(check(bound.clone(), true).unwrap_err().contains("pod is not owner"));
        let mut going = bound.clone();
        going["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(check(going.clone(), false).unwrap_err(), "PVC is being deleted");
        going["metadata"]["finalizers"] = json!([PROTECTION]);
        assert_eq!(check(going, false), Ok("pv".into()));
        assert_eq!(
            check(json!({"metadata": {}, "status": {"phase": "Pending"}}), false).unwrap_err(),
            "PVC is not bound"
        );
    }

    #[test]
    fn volumes_belong_to_one_claim_and_have_one_mode() {
        let volume: PersistentVolume = serde_json::from_value(
            json!({"metadata": {"name": "pv"}, "spec": {"volumeMode": "Block", "claimRef": {"uid": "a"}}}),
        )
        .unwrap();
        assert_eq!(check_owner(&volume, "a"), Ok(()));
        assert!(check_owner(&volume, "b").unwrap_err().ends_with("does not point to claim.UID b"));
        let pod =
            pod(json!({"containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}));
        assert_eq!(
            check_mode(&pod, "v", &volume).unwrap_err(),
            "volume v has volumeMode Block, but is specified in volumeMounts"
        );
    }
}
