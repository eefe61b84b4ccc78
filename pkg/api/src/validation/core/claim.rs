//! Persistent volume claims, and the claim templates of pods and stateful sets.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate, VolumeHealthCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::Quantity;

use super::resources::{Amounts, amount, validate_amount};
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{
    name_is_label, name_is_subdomain, validate_annotations, validate_kube_object_meta,
    validate_label_selector, validate_labels,
};
use crate::validation::{
    content, dns_subdomain, immutable, items, refusals, required, semantic_eq, supported, text,
};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// A new claim.
pub fn validate_claim(claim: &PersistentVolumeClaim) -> Vec<Error> {
    validate(claim, &Leniency::default())
}

fn validate(claim: &PersistentVolumeClaim, leniency: &Leniency) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&claim.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let none = PersistentVolumeClaimSpec::default();
    errors.extend(validate_spec(claim.spec.as_ref().unwrap_or(&none), leniency, &Path::new("spec")));
    errors
}

/// What an old claim had, so that a changed one may keep it.
#[derive(Default)]
struct Leniency {
    selector: bool,
    api_group: bool,
}

/// A claim template: labels and annotations are all the metadata it may have.
pub(super) fn validate_template(template: &PersistentVolumeClaimTemplate, path: &Path) -> Vec<Error> {
    let none = ObjectMeta::default();
    let metadata = template.metadata.as_ref().unwrap_or(&none);
    let at = path.child("metadata");
    let mut errors = validate_annotations(metadata.annotations.as_ref(), &at.child("annotations"));
    errors.extend(validate_labels(metadata.labels.as_ref(), &at.child("labels")));
    let set = [
        ("name", metadata.name.as_ref().is_some_and(|n| !n.is_empty())),
        ("generateName", metadata.generate_name.as_ref().is_some_and(|n| !n.is_empty())),
        ("namespace", metadata.namespace.as_ref().is_some_and(|n| !n.is_empty())),
        ("selfLink", metadata.self_link.as_ref().is_some_and(|n| !n.is_empty())),
        ("uID", metadata.uid.as_ref().is_some_and(|n| !n.is_empty())),
        ("resourceVersion", metadata.resource_version.as_ref().is_some_and(|n| !n.is_empty())),
        ("generation", metadata.generation.is_some_and(|g| g != 0)),
        ("creationTimestamp", metadata.creation_timestamp.is_some()),
        ("deletionTimestamp", metadata.deletion_timestamp.is_some()),
        ("deletionGracePeriodSeconds", metadata.deletion_grace_period_seconds.is_some()),
        ("ownerReferences", metadata.owner_references.is_some()),
        ("finalizers", metadata.finalizers.is_some()),
        ("managedFields", metadata.managed_fields.is_some()),
    ];
    errors
        .extend(set.iter().filter(|(_, s)| *s).map(|(f, _)| Error::forbidden(&at.child(f), "cannot be set")));
    errors.extend(validate_spec(&template.spec, &Leniency::default(), &path.child("spec")));
    errors
}

/// Access modes of claims and volumes.
pub(super) fn validate_access_modes(modes: &[String], path: &Path) -> Vec<Error> {
    let mut errors: Vec<Error> = modes.iter().filter_map(|m| supported(m, ACCESS_MODES, path)).collect();
    let alone = modes.iter().any(|m| m == "ReadWriteOncePod");
    let other = modes.iter().any(|m| m != "ReadWriteOncePod" && ACCESS_MODES.contains(&m.as_str()));
    if alone && other {
        errors.push(Error::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
    errors
}

/// `Block` or `Filesystem`.
pub(super) fn validate_mode(mode: Option<&str>, path: &Path) -> Option<Error> {
    mode.and_then(|m| supported(m, &["Block", "Filesystem"], path))
}

/// The spec of a claim template.
pub(crate) fn validate_claim_spec(spec: &PersistentVolumeClaimSpec, path: &Path) -> Vec<Error> {
    validate_spec(spec, &Leniency::default(), path)
}

fn validate_spec(spec: &PersistentVolumeClaimSpec, leniency: &Leniency, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("accessModes");
    let modes = items(&spec.access_modes);
    if modes.is_empty() {
        errors.push(Error::required(&at, "at least 1 access mode is required"));
    }
    if !leniency.selector {
        errors.extend(validate_label_selector(spec.selector.as_ref(), &path.child("selector")));
    }
    errors.extend(validate_access_modes(modes, &at));
    let resources = path.child("resources");
    let at = resources.key("storage");
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    match requests.and_then(|r| r.get("storage")) {
        None => errors.push(Error::required(&at, "")),
        Some(size) if amount(size).sign() <= 0 => {
            errors.push(Error::invalid(&at, amount(size).canonical(), "must be greater than zero"));
        }
        Some(size) => errors.extend(validate_amount("storage", size, &at)),
    }
    let class = text(&spec.storage_class_name);
    if !class.is_empty() {
        errors.extend(dns_subdomain(class, &path.child("storageClassName")));
    }
    errors.extend(validate_mode(spec.volume_mode.as_deref(), &path.child("volumeMode")));
    errors.extend(validate_sources(spec, leniency, path));
    let class = text(&spec.volume_attributes_class_name);
    if !class.is_empty() {
        errors.extend(dns_subdomain(class, &path.child("volumeAttributesClassName")));
    }
    errors
}

fn validate_sources(spec: &PersistentVolumeClaimSpec, leniency: &Leniency, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut reference = |field: &str, group: &Option<String>, kind: &str, name: &str| {
        let at = path.child(field);
        errors.extend(required(name, &at.child("name")));
        errors.extend(required(kind, &at.child("kind")));
        let group = text(group);
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(Error::invalid(&at, kind, detail));
        }
        if !group.is_empty() && !leniency.api_group {
            errors.extend(dns_subdomain(group, &at.child("apiGroup")));
        }
    };
    let (source, other) = (spec.data_source.as_ref(), spec.data_source_ref.as_ref());
    if let Some(s) = source {
        reference("dataSource", &s.api_group, &s.kind, &s.name);
    }
    if let Some(r) = other {
        reference("dataSourceRef", &r.api_group, &r.kind, &r.name);
    }
    let namespace = other.map_or("", |r| text(&r.namespace));
    if !namespace.is_empty() {
        let at = path.child("dataSourceRef");
        errors.extend(refusals(&at.child("namespace"), namespace, name_is_label(namespace, false)));
    }
    let Some((source, other)) = source.zip(other) else { return errors };
    // Upstream prints its path object where the value belongs.
    if !namespace.is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(Error::invalid(path, Bad::Raw("{}".into()), detail));
    } else if (&source.api_group, &source.kind, &source.name) != (&other.api_group, &other.kind, &other.name)
    {
        errors.push(Error::invalid(path, Bad::Raw("{}".into()), "must match dataSourceRef"));
    }
    errors
}

fn storage(amounts: Option<&Amounts>) -> Quantity {
    amounts.and_then(|a| a.get("storage")).map_or_else(Quantity::zero, amount)
}

fn at_most(a: &Quantity, b: &Quantity, or_equal: bool) -> bool {
    let mut difference = a.clone();
    difference.sub(b);
    if or_equal { difference.sign() <= 0 } else { difference.sign() < 0 }
}

/// A changed claim: bound once, grown, given another class of attributes; nothing else.
pub fn validate_claim_update(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> Vec<Error> {
    let none = PersistentVolumeClaimSpec::default();
    let (spec, before) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    let leniency = Leniency {
        selector: !validate_label_selector(before.selector.as_ref(), &Path::ROOT).is_empty(),
        api_group: before.data_source.as_ref().is_some_and(|s| s.api_group.is_some())
            || before.data_source_ref.as_ref().is_some_and(|s| s.api_group.is_some()),
    };
    let mut errors = validate(new, &leniency);
    let path = Path::new("spec");
    let (mut now, mut then) = (spec.clone(), before.clone());
    if text(&before.volume_name).is_empty() {
        then.volume_name.clone_from(&now.volume_name);
    }
    errors.extend(class_upgrade(new, old, &mut now, &then));
    let bound = new.status.as_ref().is_some_and(|s| text(&s.phase) == "Bound");
    if bound {
        if let Some(requests) = now.resources.as_mut().and_then(|r| r.requests.as_mut()) {
            let size = then.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("storage").cloned());
            requests.insert("storage".to_owned(), size.unwrap_or_default());
        }
        now.volume_attributes_class_name.clone_from(&then.volume_attributes_class_name);
    }
    if !semantic_eq(&now, &then) {
        errors.push(Error::forbidden(
            &path,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n",
        ));
    }
    let requests =
        |s: &PersistentVolumeClaimSpec| storage(s.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let capacity = storage(old.status.as_ref().and_then(|s| s.capacity.as_ref()));
    let size = requests(spec);
    if at_most(&size, &requests(before), false) && at_most(&size, &capacity, true) {
        let resources = path.child("resources");
        let at = resources.child("requests");
        let detail = "field can not be less than status.capacity";
        errors.push(Error::forbidden(&at.child("storage"), detail));
    }
    errors.extend(immutable(&spec.volume_mode, &before.volume_mode, &Path::new("volumeMode")));
    errors.extend(attributes_class(spec, old, &path.child("volumeAttributesClassName")));
    errors
}

/// A class may move from the old annotation to the field, or be set where there was none.
fn class_upgrade(
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
    now: &mut PersistentVolumeClaimSpec,
    then: &PersistentVolumeClaimSpec,
) -> Option<Error> {
    let annotation =
        |claim: &PersistentVolumeClaim| claim.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION).cloned();
    let (said, was) = (annotation(new), annotation(old));
    let (class, unset) = (now.storage_class_name.clone(), then.storage_class_name.is_none());
    if was.is_some() && unset && class == was && (said.is_none() || said == was) {
        now.storage_class_name = None;
        return None;
    }
    if class.is_some() && unset && (was.is_none() || class == was) {
        now.storage_class_name = None;
    }
    let (said, was) = (said.unwrap_or_default(), was.unwrap_or_default());
    (said != was).then(|| {
        let metadata = Path::new("metadata");
        let annotations = metadata.child("annotations");
        Error::invalid(&annotations.key(CLASS_ANNOTATION), said.as_str(), "field is immutable")
    })
}

fn attributes_class(
    spec: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaim,
    path: &Path,
) -> Option<Error> {
    let before = old.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref());
    let current = old.status.as_ref().and_then(|s| s.current_volume_attributes_class_name.as_ref());
    if spec.volume_attributes_class_name.as_ref() == before || current.is_none() {
        return None;
    }
    let what = match spec.volume_attributes_class_name.as_deref() {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return None,
    };
    let detail =
        format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
    Some(Error::forbidden(path, detail))
}

/// A changed status.
pub fn validate_claim_status_update(new: &PersistentVolumeClaim) -> Vec<Error> {
    let mut errors = Vec::new();
    if text(&new.metadata.resource_version).is_empty() {
        errors.push(Error::required(&Path::new("resourceVersion"), ""));
    }
    if new.spec.as_ref().is_none_or(|s| items(&s.access_modes).is_empty()) {
        errors.push(Error::required(&Path::new("Spec").child("accessModes"), ""));
    }
    let Some(status) = &new.status else { return errors };
    let path = Path::new("status");
    for (name, size) in status.capacity.iter().flatten() {
        errors.extend(basic(&amount(size), &path.child("capacity").key(name)));
    }
    let health = status.health_status.as_ref().map(|h| items(&h.health_conditions)).unwrap_or_default();
    let at = path.child("healthStatus");
    errors.extend(validate_health(health, &at.child("healthConditions")));
    let at = path.child("allocatedResourceStatuses");
    for (name, state) in status.allocated_resource_statuses.iter().flatten() {
        errors.extend(resource_key(name, &at));
        let states = [
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
            "NodeResizePending",
        ];
        if !states.contains(&state.as_str()) {
            errors.push(Error::not_supported(&at, Bad::enumerated(name), &states));
        }
    }
    let at = path.child("allocatedResources");
    for (name, size) in status.allocated_resources.iter().flatten() {
        let key = resource_key(name, &at);
        if !key.is_empty() {
            errors.extend(key);
        } else if let Some(error) = basic(&amount(size), &at.key(name)) {
            errors.push(error);
        } else {
            errors.extend(validate_amount("storage", size, &at.key(name)));
        }
    }
    errors
}

/// An amount that is not negative once rounded up.
pub(super) fn basic(size: &Quantity, path: &Path) -> Option<Error> {
    (size.value() < 0).then(|| Error::invalid(path, size.value(), "must be a valid resource quantity"))
}

fn resource_key(name: &str, path: &Path) -> Vec<Error> {
    let texts = content::qualified_name(name);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if texts.is_empty() && native && name != "storage" {
        return vec![Error::not_supported(path, name, &["storage"])];
    }
    refusals(path, name, texts)
}

/// Reasons of health conditions.
pub(super) fn validate_health(conditions: &[VolumeHealthCondition], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let reason = condition.reason.as_str();
        if !reason.is_empty() {
            errors.extend(refusals(
                &path.index(i).child("reason"),
                reason,
                content::condition_reason(reason),
            ));
        }
    }
    errors
}
