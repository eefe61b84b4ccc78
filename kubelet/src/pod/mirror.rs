//! The API server's images of static pods. Upstream: pkg/kubelet/pod/mirror_client.go, v1.37.

use client::{Client, DeleteParams};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::store::is_mirror_of;
use super::view::{CONFIG_HASH_ANNOTATION, CONFIG_MIRROR_ANNOTATION, PodView};

/// Makes the API server hold the image of this version of the static pod.
///
/// # Errors
/// If the API server refuses; the text says why.
pub async fn reconcile(client: &Client, pod: &Pod, mirror: Option<&Pod>, node: &str) -> Result<(), String> {
    if let Some(mirror) = mirror {
        if is_mirror_of(mirror, pod) && !mirror.is_deleted() {
            return Ok(());
        }
        delete(client, mirror).await?;
    }
    if pod.is_deleted() {
        return Ok(());
    }
    let node = client.all::<Node>().get(node).await.map_err(|e| format!("cannot read node {node}: {e}"))?;
    let mut image = pod.clone();
    image.status = None;
    image.metadata.uid = None;
    let hash = pod.annotation(CONFIG_HASH_ANNOTATION).unwrap_or_default().to_owned();
    image.metadata.annotations.get_or_insert_default().insert(CONFIG_MIRROR_ANNOTATION.to_owned(), hash);
    image.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.unwrap_or_default(),
        uid: node.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    match client.namespaced::<Pod>(pod.namespace()).create(&image).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(format!("cannot create mirror pod {}: {error}", pod.log_name())),
    }
}

/// Removes a mirror at once; it has no processes of its own.
///
/// # Errors
/// If the API server refuses; a mirror that is gone is no error.
pub async fn delete(client: &Client, mirror: &Pod) -> Result<(), String> {
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::with_uid(mirror.uid()) };
    match client.namespaced::<Pod>(mirror.namespace()).delete(mirror.name(), &params).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(format!("cannot delete mirror pod {}: {error}", mirror.log_name())),
    }
}
