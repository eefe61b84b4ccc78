//! Who a stateful set's pods are: names with ordinals, labels, host names, volumes. Pure.
//! Upstream: pkg/controller/statefulset/stateful_set_utils.go.

use std::collections::BTreeMap;

use client::{Kept, Meta};
use controller::{HasRelations, Related};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod as WholePod, PodTemplateSpec, Volume,
};

use crate::kept::Pod;
use crate::pods;

/// Label with a pod's own name.
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// Label with a pod's ordinal.
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
/// Label with the name of a pod's revision.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// A pod's name in parts: the set's name and the ordinal, which is `None` when it is no 32-bit number.
/// Upstream: getParentNameAndOrdinal.
pub fn parts(pod: &str) -> Option<(&str, Option<i32>)> {
    let (set, digits) = pod.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| (set, digits.parse().ok()))
}

pub fn ordinal(pod: &impl Kept) -> Option<i32> {
    parts(pod.named().name)?.1
}

/// The pod's name is one that the set would give.
pub fn is_member(set: &StatefulSet, pod: &impl Kept) -> bool {
    let parent = parts(pod.named().name).map(|(set, _)| set);
    parent.unwrap_or_default() == set_name(set)
}

fn set_name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The first ordinal.
pub fn start(set: &StatefulSet) -> i32 {
    set.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
}

/// The pod's ordinal is among the wanted ones.
pub fn is_wanted(set: &StatefulSet, pod: &impl Kept) -> bool {
    let first = i64::from(start(set));
    ordinal(pod).is_some_and(|o| (first..first + i64::from(replicas(set))).contains(&i64::from(o)))
}

pub fn revision(pod: &impl HasRelations) -> &str {
    pod.relations().labels().label(REVISION_LABEL).unwrap_or_default()
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.volume_claim_templates.as_deref().unwrap_or_default()
}

/// Name of the claim of a template for an ordinal.
fn claim_name(template: &PersistentVolumeClaim, set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.metadata.name.as_deref().unwrap_or_default(), set_name(set))
}

/// Names of a pod's claims, in the order of the templates; none without an ordinal.
pub fn claim_names(set: &StatefulSet, pod: &impl Kept) -> Vec<String> {
    let Some(ordinal) = ordinal(pod) else { return Vec::new() };
    templates(set).iter().map(|t| claim_name(t, set, ordinal)).collect()
}

/// A pod's claims as they are made. Upstream: getPersistentVolumeClaims.
pub fn claims(set: &StatefulSet, pod: &impl Kept) -> Vec<PersistentVolumeClaim> {
    let selected = set.spec.selector.match_labels.clone().unwrap_or_default();
    let made = |(template, name): (&PersistentVolumeClaim, String)| {
        let mut claim = template.clone();
        claim.metadata.name = Some(name);
        claim.metadata.namespace = set.metadata.namespace.clone();
        claim.metadata.labels.get_or_insert_default().extend(selected.clone());
        claim
    };
    templates(set).iter().zip(claim_names(set, pod)).map(made).collect()
}

/// The pod has the identity that its name claims. Upstream: identityMatches.
pub fn identity_matches(set: &StatefulSet, pod: &impl HasRelations) -> bool {
    let (named, relations) = (pod.named(), pod.relations());
    let Some((parent, Some(ordinal))) = parts(named.name) else { return false };
    parent == set_name(set)
        && named.name == format!("{parent}-{ordinal}")
        && named.namespace == set.namespace()
        && relations.labels().label(NAME_LABEL) == Some(named.name)
}

/// The pod's volumes are the set's claims. Upstream: storageMatches.
pub fn storage_matches(set: &StatefulSet, pod: &Pod) -> bool {
    let Some(ordinal) = ordinal(pod) else { return false };
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    templates(set).iter().all(|template| {
        let volume = volumes.iter().rev().find(|v| template.metadata.name.as_deref() == Some(&*v.name));
        let claim = volume.and_then(|v| v.persistent_volume_claim.as_ref());
        claim.is_some_and(|c| c.claim_name == claim_name(template, set, ordinal))
    })
}

/// Gives the pod the identity of its ordinal. Upstream: updateIdentity.
pub fn set_identity(set: &StatefulSet, pod: &mut WholePod) {
    let ordinal = ordinal(pod).unwrap_or(-1);
    let name = format!("{}-{ordinal}", set_name(set));
    pod.metadata.name = Some(name.clone());
    pod.metadata.namespace = set.metadata.namespace.clone();
    let labels: &mut BTreeMap<String, String> = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_string(), name);
    labels.insert(INDEX_LABEL.to_string(), ordinal.to_string());
}

/// Makes the pod use the set's claims; they win over the template's volumes. Upstream: updateStorage.
pub fn set_storage(set: &StatefulSet, pod: &mut WholePod) {
    let names = claim_names(set, pod);
    let volumes: Vec<Volume> = templates(set)
        .iter()
        .zip(names)
        .map(|(template, claim_name)| Volume {
            name: template.metadata.name.clone().unwrap_or_default(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: None }),
            ..Volume::default()
        })
        .collect();
    let spec = pod.spec.get_or_insert_default();
    let mut others = spec.volumes.take().unwrap_or_default();
    others.retain(|v| !volumes.iter().any(|c| c.name == v.name));
    spec.volumes = Some(volumes.into_iter().chain(others).collect());
}

/// The pod of an ordinal, not made yet: its phase is empty. Upstream: newStatefulSetPod.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> WholePod {
    let mut pod = pods::from_template(template, set);
    pod.metadata.name = Some(format!("{}-{ordinal}", set_name(set)));
    set_identity(set, &mut pod);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = pod.metadata.name.clone();
    spec.subdomain = set.spec.service_name.clone().filter(|s| !s.is_empty());
    set_storage(set, &mut pod);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_string(), revision.to_string());
    pod
}
