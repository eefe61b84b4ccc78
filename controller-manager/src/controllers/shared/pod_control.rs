//! Creating and deleting pods for an owner, with the events that tell of it.
//! Upstream: pkg/controller/controller_utils.go RealPodControl.

use client::{Client, DeleteParams, Kept, Object, Receipt, Result};
use controller::{EventRecorder, NORMAL, WARNING, reference};
use k8s_openapi::api::core::v1::Pod;

/// Writes pods as one controller.
#[derive(Clone)]
pub struct PodControl {
    pub client: Client,
    pub recorder: EventRecorder,
}

impl PodControl {
    /// Creates a pod in the owner's namespace. A namespace that is being removed is no news.
    pub async fn create<K: Object>(&self, owner: &K, pod: &Pod) -> Result<Receipt> {
        let made = self.client.namespaced::<Pod>(owner.namespace()).create_for_receipt(pod).await;
        let (kind, reason, message) = match &made {
            Ok(made) => (NORMAL, "SuccessfulCreate", format!("Created pod: {}", made.named().name)),
            Err(error) if error.is_namespace_terminating() => return made,
            Err(error) => (WARNING, "FailedCreate", format!("Error creating: {error}")),
        };
        self.recorder.event(&reference(owner), kind, reason, &message);
        made
    }

    /// Deletes a pod of the owner's namespace. That it is gone already is no news.
    pub async fn delete<K: Object>(&self, owner: &K, name: &str) -> Result<()> {
        let api = self.client.namespaced::<Pod>(owner.namespace());
        let gone = api.delete(name, &DeleteParams::default()).await;
        let (kind, reason, message) = match &gone {
            Ok(()) => (NORMAL, "SuccessfulDelete", format!("Deleted pod: {name}")),
            Err(error) if error.is_not_found() => return gone,
            Err(error) => (WARNING, "FailedDelete", format!("Error deleting: {error}")),
        };
        self.recorder.event(&reference(owner), kind, reason, &message);
        gone
    }
}
