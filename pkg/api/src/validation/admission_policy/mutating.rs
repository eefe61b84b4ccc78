//! Mutating admission policies.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicySpec, Mutation,
};

use super::super::field::{Error, Path};
use super::super::{items, supported, text};
use super::{
    Compiler, Role, static_name, validate_conditions, validate_constraints, validate_failure_policy,
    validate_metadata, validate_param_kind, validate_variable,
};

const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const PATCH_TYPES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];

/// `ValidateMutatingAdmissionPolicy` and, with `old`, its update.
pub fn validate(
    new: &MutatingAdmissionPolicy,
    old: Option<&MutatingAdmissionPolicy>,
    compiler: &mut dyn Compiler,
) -> Vec<Error> {
    let none = MutatingAdmissionPolicySpec::default();
    let mut errors = validate_metadata(&new.metadata);
    let spec = new.spec.as_ref().unwrap_or(&none);
    errors.extend(validate_spec(spec, old.and_then(|o| o.spec.as_ref()), compiler));
    if old.is_none() {
        errors.extend(static_name(text(&new.metadata.name)));
    }
    errors
}

fn validate_spec(
    spec: &MutatingAdmissionPolicySpec,
    before: Option<&MutatingAdmissionPolicySpec>,
    compiler: &mut dyn Compiler,
) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = validate_failure_policy(spec.failure_policy.as_deref(), &path);
    if let Some(kind) = &spec.param_kind {
        errors.extend(validate_param_kind(kind, &path.child("paramKind")));
    }
    errors.extend(validate_constraints(spec.match_constraints.as_ref(), &path));
    if let Some(constraints) = &spec.match_constraints {
        errors.extend(validate_operations(constraints, &path.child("matchConstraints")));
    }
    errors.extend(validate_conditions(
        (&spec.param_kind, &spec.match_conditions),
        before.map(|b| (&b.param_kind, &b.match_conditions)),
        compiler,
        &path,
    ));
    let at = path.child("variables");
    for (i, variable) in items(&spec.variables).iter().enumerate() {
        errors.extend(validate_variable(variable, false, compiler, &at.index(i)));
    }
    let at = path.child("mutations");
    if items(&spec.mutations).is_empty() {
        errors.push(Error::required(&at, "mutations must contain at least one item"));
    }
    let stored = before.map(|b| items(&b.mutations)).unwrap_or_default();
    for (i, mutation) in items(&spec.mutations).iter().enumerate() {
        errors.extend(validate_mutation(mutation, stored, compiler, &at.index(i)));
    }
    let at = path.child("reinvocationPolicy");
    match text(&spec.reinvocation_policy) {
        "" => errors.push(Error::required(&at, "")),
        policy => errors.extend(supported(policy, &["IfNeeded", "Never"], &at)),
    }
    errors
}

/// Only what has an object can be mutated.
pub(super) fn validate_operations(resources: &MatchResources, path: &Path) -> Vec<Error> {
    let rules = path.child("resourceRules");
    let at = rules.child("operations");
    let rules = items(&resources.resource_rules).iter();
    rules.flat_map(|r| items(&r.operations)).filter_map(|o| supported(o, &OPERATIONS, &at)).collect()
}

fn validate_mutation(
    mutation: &Mutation,
    before: &[Mutation],
    compiler: &dyn Compiler,
    path: &Path,
) -> Vec<Error> {
    let apply = mutation.apply_configuration.as_ref().map(|a| text(&a.expression));
    let patch = mutation.json_patch.as_ref().map(|p| text(&p.expression));
    let kind = mutation.patch_type.as_str();
    let (role, field, expression, other, other_field) = match kind {
        "" => return vec![Error::required(&path.child("patchType"), "")],
        "JSONPatch" => (Role::JsonPatch, "jsonPatch", patch, apply, "applyConfiguration"),
        "ApplyConfiguration" => (Role::ApplyConfiguration, "applyConfiguration", apply, patch, "jsonPatch"),
        _ => return supported(kind, &PATCH_TYPES, &path.child("patchType")).into_iter().collect(),
    };
    let mut errors = Vec::new();
    let at = path.child(field);
    match expression.map(|e| (e, e.trim())) {
        None => errors.push(Error::required(&at, format!("must be specified when patchType is {kind}"))),
        Some((_, "")) => errors.push(Error::required(&at.child("expression"), "")),
        Some((whole, trimmed)) => {
            // Upstream looks among stored configurations for expressions of both types (`validateJSONPatch`).
            let mut known = before.iter().filter_map(|m| m.apply_configuration.as_ref());
            let stored = known.any(|a| text(&a.expression) == whole);
            if let Err(why) = compiler.compile(role, trimmed, stored) {
                errors.push(Error::invalid(&at.child("expression"), trimmed, why));
            }
        }
    }
    if other.is_some() {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.push(Error::invalid(&path.child(other_field), format!("{{{other_field}}}"), detail));
    }
    errors
}
