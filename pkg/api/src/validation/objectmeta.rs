//! `metadata`, label selectors and conditions: what every kind shares.
//!
//! Upstream: `apimachinery/pkg/api/validation/objectmeta.go` and `pkg/apis/meta/v1/validation`. The name rule is an
//! argument because kinds differ in it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, LabelSelector, LabelSelectorRequirement, ManagedFieldsEntry, ObjectMeta, OwnerReference,
};

use super::content::{self, Refusals};
use super::field::{Bad, Error, Path, without_repeated};

/// A rule for names; `prefix` says the text is a generateName that will be completed.
pub type NameRule = fn(&str, bool) -> Refusals;

const ANNOTATIONS_MAX: usize = 256 * 1024;
const IMMUTABLE: &str = "field is immutable";

fn with_mask(rule: fn(&str) -> Refusals, name: &str, prefix: bool) -> Refusals {
    if prefix { rule(&content::mask_trailing_dash(name)) } else { rule(name) }
}

/// Most kinds: a DNS subdomain.
pub fn name_is_subdomain(name: &str, prefix: bool) -> Refusals {
    with_mask(content::dns_subdomain, name, prefix)
}

/// Namespaces: a DNS label.
pub fn name_is_label(name: &str, prefix: bool) -> Refusals {
    with_mask(content::dns_label, name, prefix)
}

/// Services: a DNS-1035 label.
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Refusals {
    with_mask(content::dns1035_label, name, prefix)
}

/// RBAC kinds: anything that fits in a path.
pub fn name_is_path_segment(name: &str, prefix: bool) -> Refusals {
    content::path_segment(name, prefix)
}

/// Kinds whose own rules judge the name too: a DNS subdomain, and what it is generated from is not looked at
/// (`ValidateObjectMetaWithOpts` with `validate.LongName`).
pub fn name_is_long(name: &str, prefix: bool) -> Refusals {
    if prefix { Vec::new() } else { super::declarative::format::refusals("k8s-long-name", name) }
}

/// [`validate_kube_object_meta`] of kinds with [`name_is_long`], whose own rules tell of the name where they can.
pub fn validate_long_named(meta: &ObjectMeta, namespaced: bool, path: &Path) -> Vec<Error> {
    let name = path.child("name").to_string();
    let errors = validate_kube_object_meta(meta, namespaced, name_is_long, path);
    let covered = errors.into_iter().map(|e| if e.field == name { e.covered() } else { e });
    ungenerated(meta, &path.child("name")).into_iter().chain(covered).collect()
}

/// Names are generated before validation; a change that leaves one to be generated comes too late
/// (`ValidateObjectMetaAccessorWithOpts`).
fn ungenerated(meta: &ObjectMeta, path: &Path) -> Option<Error> {
    let generate = meta.generate_name.as_deref().filter(|g| !g.is_empty())?;
    let detail =
        format!("generateName was specified ({}), but no name was generated", super::field::quote(generate));
    meta.name.as_deref().unwrap_or("").is_empty().then(|| Error::internal(path, detail))
}

/// Validates metadata of a new object as Kubernetes' own kinds do (`core/validation.ValidateObjectMeta`): finalizers
/// without a domain are from a short list.
pub fn validate_kube_object_meta(
    meta: &ObjectMeta,
    namespaced: bool,
    rule: NameRule,
    path: &Path,
) -> Vec<Error> {
    let mut errors = validate_object_meta(meta, namespaced, rule, path);
    errors.extend(validate_kube_finalizers(meta, path));
    errors
}

/// Finalizers without a domain are Kubernetes' own.
pub fn validate_kube_finalizers(meta: &ObjectMeta, path: &Path) -> Vec<Error> {
    let finalizers = meta.finalizers.iter().flatten().enumerate();
    finalizers.filter_map(|(i, f)| validate_kube_finalizer(f, &path.child("finalizers").index(i))).collect()
}

fn validate_kube_finalizer(name: &str, path: &Path) -> Option<Error> {
    let known = matches!(name, "kubernetes" | "orphan" | "foregroundDeletion");
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    (!known && !name.contains('/')).then(|| Error::invalid(path, name, detail))
}

/// One finalizer of Kubernetes' own kinds (`core/validation.validateFinalizerName`).
pub fn validate_finalizer_name(name: &str, path: &Path) -> Vec<Error> {
    let mut errors: Vec<Error> =
        content::qualified_name(name).into_iter().map(|m| Error::invalid(path, name, m)).collect();
    errors.extend(validate_kube_finalizer(name, path));
    errors
}

/// Validates metadata of a new object (`ValidateObjectMeta`).
pub fn validate_object_meta(
    meta: &ObjectMeta,
    namespaced: bool,
    rule: impl Fn(&str, bool) -> Refusals,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(generate) = meta.generate_name.as_deref().filter(|g| !g.is_empty()) {
        let at = path.child("generateName");
        errors.extend(rule(generate, true).into_iter().map(|m| Error::invalid(&at, generate, m)));
    }
    let at = path.child("name");
    match meta.name.as_deref().filter(|n| !n.is_empty()) {
        None => errors.push(Error::required(&at, "name or generateName is required")),
        Some(name) => errors.extend(rule(name, false).into_iter().map(|m| Error::invalid(&at, name, m))),
    }
    let namespace = meta.namespace.as_deref().unwrap_or("");
    let at = path.child("namespace");
    if namespaced && namespace.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if namespaced {
        errors.extend(content::dns_label(namespace).into_iter().map(|m| Error::invalid(&at, namespace, m)));
    } else if !namespace.is_empty() {
        errors.push(Error::forbidden(&at, "not allowed on this type"));
    }
    errors.extend(validate_nonnegative(meta.generation.unwrap_or(0), &path.child("generation")));
    errors.extend(validate_labels(meta.labels.as_ref(), &path.child("labels")));
    errors.extend(validate_annotations(meta.annotations.as_ref(), &path.child("annotations")));
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    errors.extend(validate_owner_references(owners, &path.child("ownerReferences")));
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    errors.extend(validate_finalizers(finalizers, &path.child("finalizers")));
    let managed = meta.managed_fields.as_deref().unwrap_or_default();
    errors.extend(validate_managed_fields(managed, &path.child("managedFields")));
    errors
}

/// Metadata of a new object of a kind without declarative validation of its own (`ValidateObjectMetaDeclaratively`): the
/// declarative rules of metadata are all alpha and tell nothing, but on their way repeated errors are told once.
pub fn validate_new_meta_once(
    meta: &ObjectMeta,
    namespaced: bool,
    rule: impl Fn(&str, bool) -> Refusals,
    path: &Path,
) -> Vec<Error> {
    without_repeated(validate_object_meta(meta, namespaced, rule, path))
}

/// Metadata of a changed object of such a kind.
pub fn validate_changed_meta_once(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> Vec<Error> {
    without_repeated(validate_object_meta_update(new, old, path))
}

/// Validates metadata of a changed object against the stored one (`ValidateObjectMetaUpdate`).
pub fn validate_object_meta_update(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if old.deletion_timestamp.is_some() {
        errors.extend(validate_no_new_finalizers(new, old, &path.child("finalizers")));
    }
    if new.resource_version.as_deref().unwrap_or("").is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = new.generation.unwrap_or(0);
    let at = path.child("generation");
    errors.extend(validate_nonnegative(generation, &at));
    if generation < old.generation.unwrap_or(0) {
        errors.push(Error::invalid(&at, generation, "must not be decremented"));
    }
    errors.extend(immutable_text(new.name.as_ref(), old.name.as_ref(), &path.child("name")));
    errors.extend(immutable_text(new.namespace.as_ref(), old.namespace.as_ref(), &path.child("namespace")));
    errors.extend(immutable_text(new.uid.as_ref(), old.uid.as_ref(), &path.child("uid")));
    errors.extend(validate_immutable(
        &new.creation_timestamp,
        &old.creation_timestamp,
        &path.child("creationTimestamp"),
    ));
    errors.extend(validate_immutable(
        &new.deletion_timestamp,
        &old.deletion_timestamp,
        &path.child("deletionTimestamp"),
    ));
    errors.extend(validate_immutable(
        &new.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
        &path.child("deletionGracePeriodSeconds"),
    ));
    errors.extend(validate_labels(new.labels.as_ref(), &path.child("labels")));
    errors.extend(validate_annotations(new.annotations.as_ref(), &path.child("annotations")));
    let owners = new.owner_references.as_deref().unwrap_or_default();
    errors.extend(validate_owner_references(owners, &path.child("ownerReferences")));
    let managed = new.managed_fields.as_deref().unwrap_or_default();
    errors.extend(validate_managed_fields(managed, &path.child("managedFields")));
    errors
}

fn immutable_text(new: Option<&String>, old: Option<&String>, path: &Path) -> Option<Error> {
    let (new, old) = (new.map_or("", String::as_str), old.map_or("", String::as_str));
    (new != old).then(|| Error::invalid(path, new, IMMUTABLE))
}

/// Two values must be equal (`ValidateImmutableField`).
pub fn validate_immutable<T: PartialEq + serde::Serialize>(new: &T, old: &T, path: &Path) -> Option<Error> {
    if new == old {
        return None;
    }
    let bad = match serde_json::to_value(new) {
        Ok(serde_json::Value::String(text)) => Bad::Text(text),
        Ok(value) => Bad::json(&value),
        Err(_) => Bad::Omitted,
    };
    Some(Error::invalid(path, bad, IMMUTABLE))
}

/// A number that may not be negative.
pub fn validate_nonnegative(value: i64, path: &Path) -> Option<Error> {
    (value < 0).then(|| Error::invalid(path, value, "must be greater than or equal to 0"))
}

/// Metadata of an object that is made later from a template: labels and annotations, and nothing else
/// (`core/validation.ValidateTemplateObjectMeta`).
pub fn validate_template_object_meta(meta: &ObjectMeta, path: &Path) -> Vec<Error> {
    let mut errors = validate_annotations(meta.annotations.as_ref(), &path.child("annotations"));
    errors.extend(validate_labels(meta.labels.as_ref(), &path.child("labels")));
    let said = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    // Upstream makes these names of its own fields' names.
    for (set, name) in [
        (said(&meta.name), "name"),
        (said(&meta.generate_name), "generateName"),
        (said(&meta.namespace), "namespace"),
        (said(&meta.self_link), "selfLink"),
        (said(&meta.uid), "uID"),
        (said(&meta.resource_version), "resourceVersion"),
        (meta.generation.is_some_and(|n| n != 0), "generation"),
        (meta.creation_timestamp.is_some(), "creationTimestamp"),
        (meta.deletion_timestamp.is_some(), "deletionTimestamp"),
        (meta.deletion_grace_period_seconds.is_some(), "deletionGracePeriodSeconds"),
        (meta.owner_references.is_some(), "ownerReferences"),
        (meta.finalizers.is_some(), "finalizers"),
        (meta.managed_fields.is_some(), "managedFields"),
    ] {
        if set {
            errors.push(Error::forbidden(&path.child(name), "cannot be set"));
        }
    }
    errors
}

/// Label keys and values.
pub fn validate_labels(labels: Option<&BTreeMap<String, String>>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        errors.extend(validate_label_name(key, path));
        errors.extend(content::label_value(value).into_iter().map(|m| Error::invalid(path, value, m)));
    }
    errors
}

/// A label key.
pub fn validate_label_name(key: &str, path: &Path) -> Vec<Error> {
    content::qualified_name(key).into_iter().map(|m| Error::invalid(path, key, m)).collect()
}

/// Annotation keys and their total size.
pub fn validate_annotations(annotations: Option<&BTreeMap<String, String>>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        size += key.len() + value.len();
        let refusals = content::qualified_name(&key.to_lowercase());
        errors.extend(refusals.into_iter().map(|m| Error::invalid(path, key, m)));
    }
    if size > ANNOTATIONS_MAX {
        errors.push(Error::too_long(path, ANNOTATIONS_MAX));
    }
    errors
}

fn validate_owner_references(owners: &[OwnerReference], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for (i, owner) in owners.iter().enumerate() {
        errors.extend(validate_owner_reference(owner, &path.index(i)));
        if owner.controller == Some(true) {
            let current = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                Some(first) => errors.push(Error::invalid(
                    path,
                    Bad::json(&owners),
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"),
                )),
                None => controller = Some(current),
            }
        }
    }
    errors
}

fn validate_owner_reference(owner: &OwnerReference, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if owner.api_version.is_empty() {
        errors.push(Error::required(&path.child("apiVersion"), "must not be empty"));
    } else if owner.api_version.matches('/').count() > 1 || owner.api_version.ends_with('/') {
        errors.push(Error::invalid(
            &path.child("apiVersion"),
            &owner.api_version,
            "must be <group>/<version> or <version>",
        ));
    }
    for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.push(Error::required(&path.child(field), "must not be empty"));
        }
    }
    if owner.api_version == "v1" && owner.kind == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(Error::invalid(path, Bad::json(owner), detail));
    }
    errors
}

/// Finalizer names, and the two that exclude each other.
pub fn validate_finalizers(finalizers: &[String], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for finalizer in finalizers {
        let refusals = content::qualified_name(finalizer);
        errors.extend(refusals.into_iter().map(|m| Error::invalid(path, finalizer, m)));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.push(Error::invalid(
            path,
            Bad::json(&finalizers),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
    errors
}

fn validate_no_new_finalizers(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> Option<Error> {
    let old = old.finalizers.as_deref().unwrap_or_default();
    let mut extra: Vec<_> =
        new.finalizers.as_deref().unwrap_or_default().iter().filter(|f| !old.contains(f)).collect();
    if extra.is_empty() {
        return None;
    }
    extra.sort();
    extra.dedup();
    let quoted: Vec<_> = extra.iter().map(|f| super::field::quote(f)).collect();
    Some(Error::forbidden(
        path,
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            quoted.join(", ")
        ),
    ))
}

fn validate_managed_fields(entries: &[ManagedFieldsEntry], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let at = path.index(i);
        match entry.operation.as_deref().unwrap_or("") {
            "" => errors.push(Error::required(&at.child("operation"), "must not be empty")),
            "Apply" | "Update" => {}
            other => errors.push(Error::not_supported(
                &at.child("operation"),
                Bad::enumerated(other),
                &["Apply", "Update"],
            )),
        }
        if let Some(kind) = entry.fields_type.as_deref().filter(|t| !t.is_empty() && *t != "FieldsV1") {
            errors.push(Error::invalid(&at.child("fieldsType"), kind, "must be `FieldsV1`"));
        }
        errors.extend(validate_field_manager(entry.manager.as_deref().unwrap_or(""), &at.child("manager")));
        if entry.subresource.as_deref().unwrap_or("").len() > 256 {
            errors.push(Error::too_long(&at.child("subresource"), 256));
        }
    }
    errors
}

/// A field manager's name.
pub fn validate_field_manager(manager: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if manager.len() > 128 {
        errors.push(Error::too_long(path, 128));
    }
    for (i, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {i})", c as u32);
        errors.push(Error::invalid(path, manager, detail));
    }
    errors
}

/// A label selector.
pub fn validate_label_selector(selector: Option<&LabelSelector>, path: &Path) -> Vec<Error> {
    validate_label_selector_with(selector, false, path)
}

/// A label selector, whose expressions may have any values if `any_values` (`AllowInvalidLabelValueInSelector`).
pub fn validate_label_selector_with(
    selector: Option<&LabelSelector>,
    any_values: bool,
    path: &Path,
) -> Vec<Error> {
    let Some(selector) = selector else { return Vec::new() };
    let mut errors = validate_labels(selector.match_labels.as_ref(), &path.child("matchLabels"));
    let at = path.child("matchExpressions");
    for (i, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        errors.extend(validate_requirement(requirement, any_values, &at.index(i)));
    }
    errors
}

fn validate_requirement(requirement: &LabelSelectorRequirement, any_values: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => errors.push(Error::required(
            &path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(Error::forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(Error::invalid(
            &path.child("operator"),
            Bad::enumerated(other),
            "not a valid selector operator",
        )),
    }
    errors.extend(validate_label_name(&requirement.key, &path.child("key")));
    let at = path.child("values");
    for (i, value) in values.iter().enumerate().filter(|_| !any_values) {
        let at = at.index(i);
        errors.extend(content::label_value(value).into_iter().map(|m| Error::invalid(&at, value, m)));
    }
    errors
}

/// Standard conditions.
pub fn validate_conditions(conditions: &[Condition], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        if conditions[..i].iter().any(|c| c.type_ == condition.type_) {
            errors.push(Error::duplicate(&at, &condition.type_));
        }
        errors.extend(validate_condition(condition, &at));
    }
    errors
}

/// The first second of year 1, which an absent time is read as.
const ZERO_TIME: i64 = -62_135_596_800;

fn validate_condition(condition: &Condition, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if condition.type_.is_empty() {
        errors.push(Error::required(&path.child("type"), "is required"));
    } else {
        errors.extend(validate_label_name(&condition.type_, &path.child("type")));
    }
    match condition.status.as_str() {
        "" => errors.push(Error::required(&path.child("status"), "")),
        "True" | "False" | "Unknown" => {}
        other => {
            errors.push(Error::not_supported(
                &path.child("status"),
                Bad::enumerated(other),
                &["False", "True", "Unknown"],
            ));
        }
    }
    if let Some(generation) = condition.observed_generation.filter(|g| *g < 0) {
        let at = path.child("observedGeneration");
        errors.push(Error::invalid(&at, generation, "must be greater than or equal to zero"));
    }
    if condition.last_transition_time.0.as_second() == ZERO_TIME {
        errors.push(Error::required(&path.child("lastTransitionTime"), ""));
    }
    let at = path.child("reason");
    if condition.reason.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        let refusals = content::condition_reason(&condition.reason);
        errors.extend(refusals.into_iter().map(|m| Error::invalid(&at, &condition.reason, m)));
        if condition.reason.len() > 1024 {
            errors.push(Error::too_long(&at, 1024));
        }
    }
    if condition.message.len() > 32 * 1024 {
        errors.push(Error::too_long(&path.child("message"), 32 * 1024));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_errors_read_like_upstream() {
        let meta = ObjectMeta {
            name: Some("A".into()),
            namespace: Some("ns".into()),
            labels: Some([("x y".to_owned(), String::new())].into()),
            ..Default::default()
        };
        let errors = validate_object_meta(&meta, true, name_is_subdomain, &Path::new("metadata"));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2);
        assert!(
            texts[0].starts_with("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must")
        );
        assert!(texts[1].starts_with("metadata.labels: Invalid value: \"x y\": name part must consist of"));
    }

    #[test]
    fn updates_keep_identity() {
        let old = ObjectMeta { name: Some("a".into()), uid: Some("1".into()), ..Default::default() };
        let new = ObjectMeta { name: Some("a".into()), uid: Some("2".into()), ..Default::default() };
        let texts: Vec<_> = validate_object_meta_update(&new, &old, &Path::new("metadata"))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }
}
