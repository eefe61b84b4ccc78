//! What is told of a pod.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The pod with the status that the kubelet found out. Before it has, the API server's counts, but for being ready, which
/// nobody has looked at yet. Upstream: getEffectivePodStatus.
pub fn current(pod: &Pod, known: Option<&PodStatus>) -> Pod {
    let status = known.cloned().unwrap_or_else(|| {
        let mut status = pod.status.clone().unwrap_or_default();
        if status.phase.as_deref().unwrap_or_default().is_empty() {
            status.phase = Some("Pending".to_owned());
        }
        let ready =
            |c: &&mut k8s_openapi::api::core::v1::PodCondition| c.type_ == "Ready" && c.status == "True";
        if let Some(condition) = status.conditions.iter_mut().flatten().find(ready) {
            condition.status = "False".to_owned();
            condition.reason = Some("ContainersNotReady".to_owned());
            condition.message = Some("Kubelet is initializing pod containers".to_owned());
        }
        status
    });
    Pod { metadata: pod.metadata.clone(), spec: pod.spec.clone(), status: Some(status) }
}

/// What is told of a pod of which nothing is left.
pub fn name_only(pod: &Pod) -> Pod {
    let metadata = ObjectMeta {
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectMeta::default()
    };
    Pod { metadata, ..Pod::default() }
}

/// True if two versions of a pod differ in more than the status and what belongs to every write.
pub fn differs(a: &Pod, b: &Pod) -> bool {
    let (of_a, of_b) = (&a.metadata, &b.metadata);
    a.spec != b.spec
        || of_a.labels != of_b.labels
        || of_a.annotations != of_b.annotations
        || of_a.finalizers != of_b.finalizers
        || of_a.deletion_timestamp != of_b.deletion_timestamp
}

/// A pod as a message of its own, without the envelope that says what it is.
pub fn message(pod: &Pod) -> Result<Vec<u8>, String> {
    let table = api::types();
    let id = api::codec::type_id::<Pod>().ok_or("the table of types has no pods")?;
    let tree = machinery::value::to_value(pod).map_err(|e| e.to_string())?;
    Ok(machinery::proto::encode_message(table, id, &tree))
}
