//! Whether a volume can be provisioned for a node. Upstream: plugins/volumebinding/binder.go checkVolumeProvisions,
//! hasEnoughCapacity.

use client::Meta;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use machinery::quantity::Quantity;

use super::volume_match::storage_request;
use crate::framework::View;
use crate::listers::claim_class;
use crate::model::{NodeRow, label_selector};

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub enum Provision {
    /// With how much there is, if the driver says so.
    Possible(Option<i64>),
    Impossible,
    NoSpace,
    Error(String),
}

pub fn check(view: View<'_>, claim: &PersistentVolumeClaim, row: &NodeRow) -> Provision {
    let name = claim_class(claim);
    if name.is_empty() {
        return Provision::Error(format!("no class for claim {:?}", claim.key()));
    }
    let Some(class) = view.listers.classes.get(name) else {
        return Provision::Error(format!("failed to find storage class {name:?}"));
    };
    if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER || !allowed(&class, row) {
        return Provision::Impossible;
    }
    match enough(view, claim, &class, row) {
        Some(capacity) => Provision::Possible(capacity),
        None => Provision::NoSpace,
    }
}

/// Upstream: v1helper.MatchTopologySelectorTerms.
fn allowed(class: &StorageClass, row: &NodeRow) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty()
        || terms.iter().any(|term| {
            let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
            !expressions.is_empty()
                && expressions
                    .iter()
                    .all(|e| row.labels().get(&e.key).is_some_and(|v| e.values.iter().any(|e| e == v)))
        })
}

/// `None` if there is not enough; otherwise how much there is, if anybody knows.
fn enough(
    view: View<'_>,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    row: &NodeRow,
) -> Option<Option<i64>> {
    let Some(wanted) = storage_request(claim).and_then(|q| Quantity::parse(&q).ok()) else {
        return Some(None);
    };
    let driver = view.listers.csi_drivers.get(&class.provisioner);
    if driver.is_none_or(|d| d.spec.storage_capacity != Some(true)) {
        return Some(None);
    }
    let mut all = view.listers.capacities.list();
    all.sort_by(|a, b| (a.namespace(), a.name()).cmp(&(b.namespace(), b.name())));
    let found = all.into_iter().find(|capacity| {
        capacity.storage_class_name == class.name()
            && limit(capacity).is_some_and(|l| l >= wanted.value())
            && capacity.node_topology.is_some()
            && label_selector(capacity.node_topology.as_ref()).matches(row.labels())
    })?;
    let there = found.capacity.as_ref().and_then(|q| Quantity::parse(&q.0).ok()).map(|q| q.value());
    Some(Some(there.unwrap_or(0)))
}

/// Upstream: volumeLimit.
fn limit(capacity: &CSIStorageCapacity) -> Option<i64> {
    let text = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref())?;
    Quantity::parse(&text.0).ok().map(|q| q.value())
}

/// Whether a larger volume can be had now.
pub fn grew(old: Option<&CSIStorageCapacity>, new: &CSIStorageCapacity) -> bool {
    match (old.map(limit), limit(new)) {
        (None, _) => true,
        (Some(None), new) => new.is_some(),
        (Some(Some(old)), new) => new.is_some_and(|n| n > old),
    }
}
