//! Conditions of a definition's status, on its tree. Upstream: `apihelpers/helpers.go`, `controller/{establish,
//! nonstructuralschema,apiapproval}`.

use api::validation::field::{Error, Path, aggregate};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use machinery::{List, Map, Value};

use crate::definition::{self, APPROVED, Approval};
use crate::schema::{Schema, structural};

/// A condition as a controller wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`
    pub kind: &'static str,
    /// `status`
    pub status: &'static str,
    /// `reason`
    pub reason: &'static str,
    /// `message`
    pub message: String,
}

impl Condition {
    /// A condition.
    pub fn new(
        kind: &'static str,
        status: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Condition { kind, status, reason, message: message.into() }
    }

    /// Whether the definition has it already, whatever its time.
    pub fn holds(&self, object: &Value) -> bool {
        find(object, self.kind).is_some_and(|c| {
            let text = |field: &str| c.str_at(&[field]).unwrap_or_default();
            text("status") == self.status && text("reason") == self.reason && text("message") == self.message
        })
    }
}

/// A condition of a definition.
pub fn find<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.list_at(&["status", "conditions"])?;
    conditions.iter().find(|c| c.str_at(&["type"]) == Some(kind))
}

/// Whether a condition is `True`.
pub fn is_true(object: &Value, kind: &str) -> bool {
    find(object, kind).and_then(|c| c.str_at(&["status"])) == Some("True")
}

/// Sets a condition; its time changes with its status only. Upstream: `SetCRDCondition`.
pub fn set(object: &mut Value, condition: &Condition, now: &str) {
    let list = object.list_at(&["status", "conditions"]).cloned().unwrap_or_default();
    let mut conditions: Vec<Value> = list.into_vec();
    let at = conditions.iter().position(|c| c.str_at(&["type"]) == Some(condition.kind));
    let old = at.map(|at| conditions[at].clone()).unwrap_or_else(|| Value::Map(Map::new()));
    let time = old.str_at(&["lastTransitionTime"]).filter(|t| !t.is_empty());
    let same = old.str_at(&["status"]) == Some(condition.status);
    let mut new = old.as_map().cloned().unwrap_or_default();
    new.insert("type", condition.kind);
    new.insert("status", condition.status);
    new.insert("lastTransitionTime", time.filter(|_| same).unwrap_or(now));
    new.insert("reason", condition.reason);
    new.insert("message", condition.message.as_str());
    match at {
        Some(at) => conditions[at] = Value::Map(new),
        None => conditions.push(Value::Map(new)),
    }
    set_list(object, conditions);
}

/// Removes a condition.
pub fn remove(object: &mut Value, kind: &str) {
    let list = object.list_at(&["status", "conditions"]).cloned().unwrap_or_default();
    set_list(object, list.into_iter().filter(|c| c.str_at(&["type"]) != Some(kind)).collect());
}

fn set_list(object: &mut Value, conditions: Vec<Value>) {
    // A status that is no object does not pass decoding.
    let _ = object.set_path(&["status", "conditions"], List::from(conditions));
}

/// `Established` of a definition whose names were accepted; `None` where there is nothing to do.
/// Upstream: `establishing_controller.go`. `bad_bundle` says that the conversion webhook's CA bundle is no use.
pub fn established(object: &Value, bad_bundle: bool) -> Option<Condition> {
    if !is_true(object, "NamesAccepted") || is_true(object, "Established") {
        return None;
    }
    let condition = match bad_bundle {
        true => Condition::new(
            "Established",
            "False",
            "InvalidCABundle",
            "The conversion webhook CABundle is invalid",
        ),
        false => {
            let message = "the initial names have been accepted";
            Condition::new("Established", "True", "InitialNamesAccepted", message)
        }
    };
    (!condition.holds(object)).then_some(condition)
}

/// `NonStructuralSchema`, if a schema is not structural.
pub fn non_structural(definition: &CustomResourceDefinition) -> Option<Condition> {
    let (spec, versions) = (Path::new("spec"), &definition.spec.versions);
    let mut errors = Vec::new();
    if definition.spec.preserve_unknown_fields == Some(true) {
        errors.push(Error::invalid(&spec.child("preserveUnknownFields"), true, "must be false"));
    }
    let parent = spec.child("versions");
    for (index, version) in versions.iter().enumerate() {
        let Some(schema) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else {
            continue;
        };
        if let Err(why) = Schema::new(schema) {
            let text = format!("failed to check validation schema for version {}: {why}", version.name);
            return Some(Condition::new("NonStructuralSchema", "Unknown", "StructuralError", text));
        }
        let (at, schema_path);
        at = parent.index(index);
        schema_path = at.child("schema");
        errors.extend(structural::validate(&schema_path.child("openAPIV3Schema"), schema));
    }
    let message = aggregate(&errors);
    (!errors.is_empty()).then(|| Condition::new("NonStructuralSchema", "True", "Violations", message))
}

/// `KubernetesAPIApprovalPolicyConformant`, for definitions of protected groups.
pub fn approved(object: &Value) -> Option<Condition> {
    let group = object.str_at(&["spec", "group"]).unwrap_or_default();
    if !definition::is_protected_group(group) {
        return None;
    }
    let annotation = object.str_at(&["metadata", "annotations", APPROVED]).unwrap_or_default();
    let (state, message) = definition::approval(annotation);
    let (status, reason) = match state {
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Approved => ("True", "ApprovedAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
    };
    Some(Condition::new("KubernetesAPIApprovalPolicyConformant", status, reason, message))
}
