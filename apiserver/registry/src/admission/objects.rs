//! Small plugins that complete or check other objects: TaintNodesByCondition, StorageObjectInUseProtection,
//! DefaultStorageClass, DefaultIngressClass, PersistentVolumeClaimResize. Upstream: `plugin/pkg/admission/...`.

use async_trait::async_trait;
use machinery::{List, Quantity, Value};
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

fn write(object: &mut Value, path: &[&str], value: impl Into<Value>) -> Result<(), ApiError> {
    object.set_path(path, value).map(|_| ()).map_err(ApiError::internal)
}

/// New nodes get nothing scheduled until their conditions were seen.
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "nodes") {
            return Ok(());
        }
        let Some(node) = a.object.as_mut() else { return Ok(()) };
        let mut taints: List = node.list_at(&["spec", "taints"]).cloned().unwrap_or_default();
        let key = "node.kubernetes.io/not-ready";
        let has = taints
            .iter()
            .any(|t| t.str_at(&["key"]) == Some(key) && t.str_at(&["effect"]) == Some("NoSchedule"));
        if !has {
            taints.push(Value::from(json!({"key": key, "effect": "NoSchedule"})));
            write(node, &["spec", "taints"], taints)?;
        }
        Ok(())
    }
}

/// Volumes, claims and attribute classes are not removed while in use: a controller takes the finalizer off.
pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        let finalizer = match (a.group(), a.resource(), a.subresource()) {
            ("", "persistentvolumes", "") => "kubernetes.io/pv-protection",
            ("", "persistentvolumeclaims", "") => "kubernetes.io/pvc-protection",
            ("storage.k8s.io", "volumeattributesclasses", "") => "kubernetes.io/vac-protection",
            _ => return Ok(()),
        };
        let Some(object) = a.object.as_mut() else { return Ok(()) };
        let mut finalizers: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|f| f == finalizer) {
            finalizers.push(finalizer.to_owned());
            meta::set_finalizers(object, finalizers);
        }
        Ok(())
    }
}

/// The newest class that carries the annotation, by name among equals.
async fn default_class(
    a: &Attributes<'_>,
    group: &str,
    resource: &str,
    annotation: &[&str],
) -> Result<Option<String>, ApiError> {
    let all = a.call.core.find_all(group, resource, "").await?;
    let mut defaults: Vec<_> = all
        .iter()
        .filter(|c| annotation.iter().any(|k| meta::annotation(c, k) == Some("true")))
        .map(|c| {
            let created = c.str_at(&["metadata", "creationTimestamp"]).unwrap_or("").to_owned();
            (std::cmp::Reverse(created), meta::name(c).to_owned())
        })
        .collect();
    defaults.sort();
    Ok(defaults.into_iter().next().map(|(_, name)| name))
}

/// Claims without a class get the default one.
pub struct DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let Some(claim) = a.object.as_ref() else { return Ok(()) };
        let named = claim.get_path(&["spec", "storageClassName"]).is_some_and(|c| !c.is_null())
            || meta::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
        if named {
            return Ok(());
        }
        let keys = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        let class = default_class(a, "storage.k8s.io", "storageclasses", &keys).await?;
        if let (Some(class), Some(claim)) = (class, a.object.as_mut()) {
            write(claim, &["spec", "storageClassName"], class)?;
        }
        Ok(())
    }
}

/// Ingresses without a class get the default one.
pub struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let Some(ingress) = a.object.as_ref() else { return Ok(()) };
        let named = ingress.get_path(&["spec", "ingressClassName"]).is_some_and(|c| !c.is_null())
            || meta::annotation(ingress, "kubernetes.io/ingress.class").is_some();
        if named {
            return Ok(());
        }
        let keys = ["ingressclass.kubernetes.io/is-default-class"];
        let class = default_class(a, "networking.k8s.io", "ingressclasses", &keys).await?;
        if let (Some(class), Some(ingress)) = (class, a.object.as_mut()) {
            write(ingress, &["spec", "ingressClassName"], class)?;
        }
        Ok(())
    }
}

/// Only bound claims of an expandable class grow.
pub struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let (Some(claim), Some(old)) = (&a.object, &a.old) else { return Ok(()) };
        let amount = |v: &Value| {
            Quantity::parse(v.str_at(&["spec", "resources", "requests", "storage"]).unwrap_or("0")).ok()
        };
        let (Some(mut new), Some(before)) = (amount(claim), amount(old)) else { return Ok(()) };
        new.sub(&before);
        if new.sign() <= 0 {
            return Ok(());
        }
        if old.str_at(&["status", "phase"]) != Some("Bound") {
            return Err(a.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = match old.str_at(&["spec", "storageClassName"]).filter(|c| !c.is_empty()) {
            Some(name) => a.call.core.find("storage.k8s.io", "storageclasses", "", name).await?,
            None => None,
        };
        if class.is_some_and(|c| c.bool_at(&["allowVolumeExpansion"]) == Some(true)) {
            return Ok(());
        }
        Err(a.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ))
    }
}
