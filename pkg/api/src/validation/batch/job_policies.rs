//! When a job's failed pods count, when it has succeeded early, and how its pods are replaced.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule,
};

use super::indexes;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::validate_nonnegative;
use crate::validation::{content, items, refusals, supported, text};

/// Rules that both list numbers at most.
const MOST_RULES: usize = 20;

/// `podFailurePolicy`, `successPolicy`, `podReplacementPolicy`.
pub(super) fn validate(spec: &JobSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(policy) = &spec.pod_failure_policy {
        let at = path.child("podFailurePolicy");
        let list = at.child("rules");
        if policy.rules.len() > MOST_RULES {
            errors.push(Error::too_many(&list, policy.rules.len(), MOST_RULES));
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            errors.extend(failure_rule(spec, rule, &list.index(i)));
        }
    }
    errors.extend(success(spec, &path.child("successPolicy")));
    if let Some(policy) = spec.pod_replacement_policy.as_deref() {
        let known: &[&str] =
            if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        errors.extend(supported(policy, known, &path.child("podReplacementPolicy")));
    }
    errors
}

/// A value that is required and one of a set, which the error names in Go's form of a list.
fn one_of_listed(value: &str, known: &[&str], path: &Path) -> Option<Error> {
    if value.is_empty() {
        let quoted: Vec<String> = known.iter().map(|k| format!("\"{k}\"")).collect();
        return Some(Error::required(path, format!("valid values: [{}]", quoted.join(" "))));
    }
    supported(value, known, path)
}

fn failure_rule(spec: &JobSpec, rule: &PodFailurePolicyRule, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("action");
    match rule.action.as_str() {
        "FailIndex" if spec.backoff_limit_per_index.is_none() => {
            errors.push(Error::invalid(&at, "FailIndex", "requires the backoffLimitPerIndex to be set"));
        }
        action => errors.extend(one_of_listed(action, &["Count", "FailIndex", "FailJob", "Ignore"], &at)),
    }
    if let Some(codes) = &rule.on_exit_codes {
        errors.extend(exit_codes(spec, codes, &path.child("onExitCodes")));
    }
    let conditions = items(&rule.on_pod_conditions);
    let list = path.child("onPodConditions");
    if conditions.len() > MOST_RULES {
        errors.push(Error::too_many(&list, conditions.len(), MOST_RULES));
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let at = list.index(i);
        let kind = pattern.type_.as_str();
        errors.extend(refusals(&at.child("type"), kind, content::qualified_name(kind)));
        let status = text(&pattern.status);
        errors.extend(one_of_listed(status, &["False", "True", "Unknown"], &at.child("status")));
    }
    let detail = match (rule.on_exit_codes.is_some(), !conditions.is_empty()) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return errors,
    };
    errors.push(Error::invalid(path, Bad::Omitted, detail));
    errors
}

fn exit_codes(spec: &JobSpec, on: &PodFailurePolicyOnExitCodesRequirement, path: &Path) -> Vec<Error> {
    let mut errors: Vec<Error> =
        one_of_listed(&on.operator, &["In", "NotIn"], &path.child("operator")).into_iter().collect();
    if let Some(name) = on.container_name.as_deref() {
        let pod = spec.template.spec.as_ref();
        let mut all = pod.into_iter().flat_map(|p| p.containers.iter().chain(items(&p.init_containers)));
        if !all.any(|c| c.name == name) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.push(Error::invalid(&path.child("containerName"), name, detail));
        }
    }
    let (at, values) = (path.child("values"), &on.values);
    if values.is_empty() {
        errors.push(Error::invalid(&at, Bad::json(values), "at least one value is required"));
    } else if values.len() > 255 {
        errors.push(Error::too_many(&at, values.len(), 255));
    }
    for (i, value) in values.iter().enumerate() {
        if on.operator == "In" && *value == 0 {
            errors.push(Error::invalid(&at.index(i), 0, "must not be 0 for the In operator"));
        }
        if values[..i].contains(value) {
            errors.push(Error::duplicate(&at.index(i), *value));
        }
    }
    if !values.is_sorted() {
        errors.push(Error::invalid(&at, Bad::json(values), "must be ordered"));
    }
    errors
}

fn success(spec: &JobSpec, path: &Path) -> Vec<Error> {
    let Some(policy) = &spec.success_policy else { return Vec::new() };
    if text(&spec.completion_mode) != "Indexed" {
        return vec![Error::invalid(path, Bad::json(policy), "requires indexed completion mode")];
    }
    let mut errors = Vec::new();
    let list = path.child("rules");
    if policy.rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&list, detail));
    }
    if policy.rules.len() > MOST_RULES {
        errors.push(Error::too_many(&list, policy.rules.len(), MOST_RULES));
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        errors.extend(success_rule(rule, spec.completions.unwrap_or(0), &list.index(i)));
    }
    errors
}

fn success_rule(rule: &SuccessPolicyRule, completions: i32, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut listed = 0;
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, detail));
    }
    if let Some(list) = rule.succeeded_indexes.as_deref() {
        let at = path.child("succeededIndexes");
        if list.len() > 64 * 1024 {
            errors.push(Error::too_long(&at, 64 * 1024));
        }
        match indexes::count(list, completions) {
            Ok(n) => listed = n,
            Err(why) => {
                errors.push(Error::invalid(&at, list, format!("error parsing succeededIndexes: {why}")))
            }
        }
    }
    if let Some(count) = rule.succeeded_count {
        let at = path.child("succeededCount");
        errors.extend(validate_nonnegative(i64::from(count), &at));
        if count > completions {
            let detail =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(Error::invalid(&at, count, detail));
        }
        if rule.succeeded_indexes.is_some() && count > listed {
            let detail = format!(
                "must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(Error::invalid(&at, count, detail));
        }
    }
    errors
}
