//! Conversions between versions of a kind. Nearly all are wire-identical, so only the label changes; the few real
//! ones are in the modules below. Upstream: `pkg/apis/*/v*/conversion.go`.

use api::resources::RowKind;
use machinery::Value;

use crate::errors::ApiError;

/// The version strategies work in for a kind served in `kind`.
pub fn hub(kind: RowKind) -> RowKind {
    match (kind.group, kind.kind) {
        ("events.k8s.io", "Event") => RowKind { group: "", version: "v1", kind: "Event" },
        ("autoscaling", "HorizontalPodAutoscaler") => RowKind { version: "v2", ..kind },
        ("resource.k8s.io", "ResourceClaim" | "ResourceClaimTemplate" | "ResourceSlice")
            if kind.version == "v1beta1" =>
        {
            RowKind { version: "v1", ..kind }
        }
        // The older version has two fields more.
        ("certificates.k8s.io", "PodCertificateRequest") => RowKind { version: "v1beta1", ..kind },
        _ => kind,
    }
}

/// The paths of pod specs in the kinds that have one.
fn pod_spec_path(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "Pod" => &["spec"],
        "PodTemplate" => &["template", "spec"],
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            &["spec", "template", "spec"]
        }
        "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => return None,
    })
}

/// `serviceAccount` is the old name of `serviceAccountName`; both always say the same
/// (`Convert_v1_PodSpec_To_core_PodSpec` and back).
fn sync_service_account(object: &mut Value, kind: RowKind) {
    let Some(spec) = pod_spec_path(kind.kind).and_then(|p| object.get_path_mut(p)) else { return };
    let text = |field: &str| spec.str_at(&[field]).unwrap_or("").to_owned();
    let (new, old) = (text("serviceAccountName"), text("serviceAccount"));
    let name = if new.is_empty() { old.clone() } else { new.clone() };
    if let (true, Value::Map(map)) = (new != name || old != name, spec) {
        map.insert("serviceAccountName", name.as_str());
        map.insert("serviceAccount", name.as_str());
    }
}

/// Claim templates of stateful sets say what they are (`Convert_apps_StatefulSetSpec_To_v1_StatefulSetSpec`).
fn name_claim_templates(object: &mut Value, kind: RowKind) {
    if kind.kind != "StatefulSet" {
        return;
    }
    let Some(Value::List(templates)) = object.get_path_mut(&["spec", "volumeClaimTemplates"]) else { return };
    for template in templates.iter_mut() {
        if let Value::Map(map) = template {
            map.insert("apiVersion", "v1");
            map.insert("kind", "PersistentVolumeClaim");
        }
    }
}

/// The annotation that carries a field upstream's internal type has and the served one has not. Rows of tables and bare
/// metadata are made of the internal object, which is without it
/// (`Convert_v1_DaemonSet_To_apps_DaemonSet`, `Convert_v1_Deployment_To_apps_Deployment`).
pub fn carrier(kind: RowKind) -> Option<&'static str> {
    match (kind.group, kind.kind) {
        ("apps", "DaemonSet") => Some("deprecated.daemonset.template.generation"),
        ("apps", "Deployment") => Some("deprecated.deployment.rollback.to"),
        _ => None,
    }
}

/// Request version to hub.
pub fn to_hub(object: &mut Value, from: RowKind) -> Result<(), ApiError> {
    sync_service_account(object, from);
    name_claim_templates(object, from);
    if from.kind == "HorizontalPodAutoscaler" && from.version == "v2" {
        crate::conversions::autoscaler::drop_annotations(object);
    }
    convert(object, from, hub(from))
}

/// Hub to request version.
pub fn from_hub(object: &mut Value, to: RowKind) -> Result<(), ApiError> {
    convert(object, hub(to), to)
}

/// Stored version to the hub of a row.
pub fn stored_to_hub(object: &mut Value, stored: RowKind, served: RowKind) -> Result<(), ApiError> {
    name_claim_templates(object, stored);
    convert(object, stored, hub(served))
}

/// The hub of a row to its stored version.
pub fn hub_to_stored(object: &mut Value, served: RowKind, stored: RowKind) -> Result<(), ApiError> {
    convert(object, hub(served), stored)
}

/// Whether messages of a stored kind can be served as another as they are: only the label differs.
pub fn same_wire(stored: RowKind, served: RowKind) -> bool {
    let moved = served.kind == "CustomResourceDefinition";
    let renamed = moved || stored.group != hub(served).group || hub(served) != served;
    // On nothing, a conversion can only refuse or be none at all.
    !renamed && convert(&mut Value::Null, stored, served).is_ok()
}

fn convert(object: &mut Value, from: RowKind, to: RowKind) -> Result<(), ApiError> {
    if from == to {
        return Ok(());
    }
    match (from.group, from.version, to.group, to.version, to.kind) {
        ("events.k8s.io", _, "", _, "Event") => crate::conversions::event::to_core(object),
        ("", _, "events.k8s.io", _, "Event") => crate::conversions::event::from_core(object),
        ("apiextensions.k8s.io", "v1", _, "v1beta1", "CustomResourceDefinition") => {
            crate::conversions::definition::to_stored(object)?;
        }
        ("apiextensions.k8s.io", "v1beta1", _, "v1", "CustomResourceDefinition") => {
            crate::conversions::definition::from_stored(object)?;
        }
        ("autoscaling", "v2", _, "v1", "HorizontalPodAutoscaler") => {
            crate::conversions::autoscaler::to_v1(object)?;
        }
        ("autoscaling", "v1", _, "v2", "HorizontalPodAutoscaler") => {
            crate::conversions::autoscaler::from_v1(object)?;
        }
        ("resource.k8s.io", "v1beta1", _, "v1" | "v1beta2", kind) => {
            crate::conversions::devices::from_v1beta1(object, kind);
        }
        ("resource.k8s.io", "v1" | "v1beta2", _, "v1beta1", kind) => {
            crate::conversions::devices::to_v1beta1(object, kind);
        }
        ("certificates.k8s.io", "v1beta1", _, "v1", "PodCertificateRequest") => {
            object.remove_path(&["spec", "pkixPublicKey"]);
            object.remove_path(&["spec", "proofOfPossession"]);
        }
        // The other pairs have the same fields; the caller writes the label.
        _ => {}
    }
    if let Value::Map(map) = object {
        map.insert("apiVersion", to.api_version());
        map.insert("kind", to.kind);
    }
    Ok(())
}
