//! pods/eviction: deletes a pod if its disruption budget allows.
//!
//! Upstream: `pkg/registry/core/pod/storage/eviction.go`. The budget's counter is decremented by a conditional write
//! before the pod is deleted, so that two evictions cannot both use the last disruption.

use ::api::resources::RowKind;
use jiff::Timestamp;
use machinery::{Value, labels};

use crate::admission::{Attributes, Operation};
use crate::api::{Body, DeleteOptions, RequestContext, Written};
use crate::codec;
use crate::conditions;
use crate::core::Resource;
use crate::errors::{ApiError, Cause};
use crate::meta;
use crate::store::{before, delete, read, write_back};
use crate::strategy::Call;

/// Attempts against a budget or pod that others change at the same time.
const ATTEMPTS: usize = 20;
/// Pods in `status.disruptedPods` above which upstream refuses (it stops the map from growing without bound).
const MAX_DISRUPTED_PODS: usize = 2000;

/// POST.
pub async fn create(call: &Call<'_>, body: &Body) -> Result<Written, ApiError> {
    let kind = super::body_kind(call)?;
    let eviction = admitted(call, kind, body).await?;
    let name = meta::name(&eviction).to_owned();
    if name != call.request.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let (options, dry_run) = delete_options(call, &eviction);
    let request = RequestContext { dry_run, ..call.request.clone() };
    let call = Call { request: &request, subresource: "", ..*call };
    if delete_without_budget(&call, &name, &options).await? {
        return Ok(super::success());
    }
    let pod = read::get(&call, "").await?;
    let mut options = options;
    let pinned = match budget_of(&call, &pod).await? {
        None => None,
        Some(budget) => match consult(&budget, &pod) {
            Verdict::Unhealthy => Some(meta::name(&budget).to_owned()),
            Verdict::Decrement => {
                decrement(&call, &pod, meta::name(&budget)).await?;
                None
            }
        },
    };
    let asked_version = options.resource_version.is_some();
    if pinned.is_some() {
        options.resource_version = Some(meta::resource_version(&pod).to_owned());
    }
    match mark_and_delete(&call, &name, &options).await {
        Err(error) if error.reason == "Conflict" && !asked_version && pinned.is_some() => {
            Err(too_many_requests(pinned.as_deref().unwrap_or("")))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(super::success()),
    }
}

async fn admitted(call: &Call<'_>, kind: RowKind, body: &Body) -> Result<Value, ApiError> {
    let mut eviction = codec::decode_sent(call.request, kind, body)?;
    meta::wipe_system_fields(&mut eviction);
    before::ensure_namespace(&mut eviction, &call.request.info.namespace)?;
    let mut attributes = Attributes::new(call, Operation::Create, Some(eviction), None).of_kind(kind);
    call.core.admission.admit(&mut attributes).await?;
    call.core.admission.validate(&attributes).await?;
    Ok(attributes.object.unwrap_or_default())
}

fn delete_options(call: &Call<'_>, eviction: &Value) -> (DeleteOptions, bool) {
    let at = |path: &[&str]| {
        let mut full = vec!["deleteOptions"];
        full.extend(path);
        eviction.get_path(&full)
    };
    let text = |path: &[&str]| at(path).and_then(Value::as_str).map(str::to_owned);
    let options = DeleteOptions {
        grace_period_seconds: at(&["gracePeriodSeconds"]).and_then(Value::as_i64),
        propagation_policy: text(&["propagationPolicy"]),
        orphan_dependents: at(&["orphanDependents"]).and_then(Value::as_bool),
        uid: text(&["preconditions", "uid"]),
        resource_version: text(&["preconditions", "resourceVersion"]),
        ignore_store_read_error: None,
    };
    let dry = at(&["dryRun"]).and_then(Value::as_list).is_some_and(|l| !l.is_empty());
    (options, dry || call.request.dry_run)
}

/// Pods that are over, not started or on their way out disturb nobody.
fn can_ignore_budget(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed" | "Pending"))
        || !meta::deletion_timestamp(pod).is_empty()
}

/// A pod that may still become ready must not change between the look and the delete.
fn must_not_change(pod: &Value) -> bool {
    !matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"))
        && meta::deletion_timestamp(pod).is_empty()
}

async fn delete_without_budget(
    call: &Call<'_>,
    name: &str,
    options: &DeleteOptions,
) -> Result<bool, ApiError> {
    let mut last = ApiError::internal("no attempt was made");
    for _ in 0..ATTEMPTS {
        let pod = read::get(call, "").await?;
        if !can_ignore_budget(&pod) {
            return Ok(false);
        }
        let mut attempt = options.clone();
        if must_not_change(&pod) && attempt.resource_version.is_none() {
            attempt.resource_version = Some(meta::resource_version(&pod).to_owned());
        }
        match mark_and_delete(call, name, &attempt).await {
            Err(error) if error.reason == "Conflict" && options.resource_version.is_none() => last = error,
            result => return result.map(|()| true),
        }
    }
    Err(last)
}

/// Marks the pod as disrupted, then deletes it.
async fn mark_and_delete(call: &Call<'_>, name: &str, options: &DeleteOptions) -> Result<(), ApiError> {
    let mut options = options.clone();
    if !call.request.dry_run {
        let now = meta::rfc3339(call.now);
        let pod = write_back::change(call, name, |pod| {
            precondition(name, "UID", options.uid.as_deref(), meta::uid(pod))?;
            let version = meta::resource_version(pod);
            precondition(name, "ResourceVersion", options.resource_version.as_deref(), version)?;
            let message = "Eviction API: evicting";
            conditions::set(pod, "DisruptionTarget", "True", "EvictionByEvictionAPI", message, &now);
            Ok(())
        })
        .await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(meta::resource_version(&pod).to_owned());
        }
    }
    delete::delete(call, name, &options).await.map(|_| ())
}

fn precondition(name: &str, label: &str, wanted: Option<&str>, own: &str) -> Result<(), ApiError> {
    match wanted {
        Some(wanted) if !wanted.is_empty() && wanted != own => Err(ApiError::conflict(
            "",
            "Pod",
            name,
            format!(
                "the {label} in the precondition ({wanted}) does not match the {label} in record ({own})"
            ),
        )),
        _ => Ok(()),
    }
}

/// The one budget that selects the pod.
async fn budget_of(call: &Call<'_>, pod: &Value) -> Result<Option<Value>, ApiError> {
    if meta::labels(pod).is_none_or(|l| l.is_empty()) {
        return Ok(None);
    }
    let empty = machinery::Map::new();
    let pod_labels = meta::labels(pod).unwrap_or(&empty);
    let all = call.core.find_all("policy", "poddisruptionbudgets", meta::namespace(pod)).await?;
    let mut matching = Vec::new();
    for budget in all {
        let Ok(selector) = labels::Selector::from_value(budget.get_path(&["spec", "selector"])) else {
            // Validation keeps such selectors out; upstream skips one it cannot read, too.
            continue;
        };
        if selector.matches(pod_labels) {
            matching.push(budget);
        }
    }
    if matching.len() > 1 {
        return Err(ApiError::new(
            500,
            "",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    Ok(matching.pop())
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The pod is not counted as healthy, so deleting it costs nothing, unless it becomes ready first.
    Unhealthy,
    /// A disruption must be taken from the budget.
    Decrement,
}

fn consult(budget: &Value, pod: &Value) -> Verdict {
    if conditions::status(pod, "Ready") == Some("True") {
        return Verdict::Decrement;
    }
    let count = |field: &str| budget.i64_at(&["status", field]).unwrap_or(0);
    let always = budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == Some("AlwaysAllow");
    let desired = count("desiredHealthy");
    if always || (count("currentHealthy") >= desired && desired > 0) {
        return Verdict::Unhealthy;
    }
    Verdict::Decrement
}

/// Takes one disruption from the budget, and notes the pod in it.
async fn decrement(call: &Call<'_>, pod: &Value, name: &str) -> Result<(), ApiError> {
    let budgets: std::sync::Arc<Resource> = call.core.any_version("policy", "poddisruptionbudgets")?.clone();
    let call = Call { resource: &budgets, ..*call };
    write_back::change(&call, name, |budget| take_disruption(budget, pod, call.now)).await.map(|_| ())
}

fn take_disruption(budget: &mut Value, pod: &Value, now: Timestamp) -> Result<(), ApiError> {
    let name = meta::name(budget).to_owned();
    let count = |field: &str| budget.i64_at(&["status", field]).unwrap_or(0);
    let allowed = count("disruptionsAllowed");
    if count("observedGeneration") < meta::generation(budget) {
        return Err(too_many_requests(&name));
    }
    let forbidden = |why: String| ApiError::forbidden("policy", "poddisruptionbudget", &name, why);
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative".into()));
    }
    if budget.map_at(&["status", "disruptedPods"]).is_some_and(|m| m.len() > MAX_DISRUPTED_PODS) {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller".into(),
        ));
    }
    if allowed == 0 {
        let message = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        );
        return Err(refused(&message));
    }
    let left = allowed - 1;
    let mut write =
        |path: &[&str], value: Value| budget.set_path(path, value).map(|_| ()).map_err(ApiError::internal);
    write(&["status", "disruptionsAllowed"], left.into())?;
    write(&["status", "disruptedPods", meta::name(pod)], meta::rfc3339(now).into())?;
    if left == 0 {
        let message = "";
        let now = meta::rfc3339(now);
        conditions::set(budget, "DisruptionAllowed", "False", "InsufficientPods", message, &now);
    }
    Ok(())
}

fn refused(cause: &str) -> ApiError {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut error = ApiError::too_many_requests(text, 0);
    if let Some(details) = error.details.as_mut() {
        details.causes.push(Cause {
            reason: "DisruptionBudget".into(),
            message: cause.into(),
            field: String::new(),
        });
    }
    error
}

fn too_many_requests(budget: &str) -> ApiError {
    let mut error =
        refused(&format!("The disruption budget {budget} is still being processed by the server."));
    if let Some(details) = error.details.as_mut() {
        details.retry_after_seconds = 10;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn budget(allowed: i64) -> Value {
        Value::from(json!({"metadata": {"name": "b", "generation": 1}, "spec": {}, "status": {
            "observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": 2}}))
    }

    #[test]
    fn budget_is_spent_once() {
        let pod = Value::from(json!({"metadata": {"name": "p"}}));
        let mut b = budget(1);
        take_disruption(&mut b, &pod, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(b.i64_at(&["status", "disruptionsAllowed"]), Some(0));
        assert_eq!(b.str_at(&["status", "disruptedPods", "p"]), Some("1970-01-01T00:00:00Z"));
        let error = take_disruption(&mut b, &pod, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.code, 429);
        let cause = &error.details.unwrap().causes[0].message;
        assert_eq!(cause, "The disruption budget b needs 2 healthy pods and has 2 currently");
    }

    #[test]
    fn unready_pods_cost_nothing_when_healthy() {
        let pod = |ready: &str| {
            Value::from(json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        };
        assert_eq!(consult(&budget(0), &pod("False")), Verdict::Unhealthy);
        assert_eq!(consult(&budget(0), &pod("True")), Verdict::Decrement);
    }
}
