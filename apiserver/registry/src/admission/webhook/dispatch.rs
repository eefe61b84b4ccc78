//! Calls the webhooks of a phase: mutating ones in turn, each on what the one before made; validating ones together.
//! Upstream: `plugin/webhook/{mutating,validating}/dispatcher.go`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use machinery::Value;

use super::super::Attributes;
use super::super::reinvocation::Who;
use super::annotations::Place;
use super::hook::{Hook, Invocation};
use super::review::{self, StatusIn, Unusable, Verdict, Version};
use super::versioned::View;
use super::{Backend, Ended, Observation, Phase};
use crate::api::FieldValidation;
use crate::errors::ApiError;
use crate::spans;

/// How a call can fail to let the request pass.
enum Refused {
    /// The webhook said no.
    ByWebhook(ApiError),
    /// The call failed: what is told, and the status that metrics count.
    Call { why: String, code: u16 },
    /// Anything else, which no failure policy covers.
    Own(ApiError),
}

/// What a webhook that allows the request returns.
enum Allowed {
    AsIs,
    Changed(Value),
}

fn failed(why: impl std::fmt::Display) -> Refused {
    Refused::Call { why: format!("failed to call webhook: {why}"), code: 503 }
}

/// Runs the mutating webhooks on `a.object`.
pub async fn mutate(
    a: &mut Attributes<'_>,
    hooks: &[Arc<Hook>],
    backend: &dyn Backend,
) -> Result<(), ApiError> {
    a.reinvocation.begin(Who::Webhooks, a.object.as_ref());
    let result = mutate_in_turn(a, hooks, backend).await;
    a.reinvocation.end(Who::Webhooks, a.object.as_ref());
    result
}

async fn mutate_in_turn(
    a: &mut Attributes<'_>,
    hooks: &[Arc<Hook>],
    backend: &dyn Backend,
) -> Result<(), ApiError> {
    for (index, hook) in hooks.iter().enumerate() {
        let Some(invocation) = hook.invocation(a).await? else { continue };
        if !hook.conditions_hold(a, &invocation)? {
            backend.excluded(&hook.name, Phase::Mutating, a.operation);
            continue;
        }
        if !a.reinvocation.calls(Who::Webhooks, &hook.uid) {
            continue;
        }
        let place = Place { phase: Phase::Mutating, round: a.reinvocation.round(), index };
        let outcome = call_and_count(a, &invocation, place, backend).await;
        let changed = match &outcome {
            Ok(Allowed::Changed(object)) => {
                a.object.as_ref().is_none_or(|before| !before.semantic_eq(object))
            }
            Ok(Allowed::AsIs) | Err(_) => false,
        };
        place.mutated(&a.call.request.audit, hook, changed);
        if let Allowed::Changed(object) = outcome? {
            a.object = Some(object);
        }
        a.reinvocation.called(Who::Webhooks, &hook.uid, changed, hook.reinvocable);
    }
    Ok(())
}

/// Asks all validating webhooks at once; the first refusal to come in is the answer, once all have come in.
pub async fn validate(
    a: &Attributes<'_>,
    hooks: &[Arc<Hook>],
    backend: &dyn Backend,
) -> Result<(), ApiError> {
    let mut invocations = Vec::new();
    for hook in hooks {
        let Some(invocation) = hook.invocation(a).await? else { continue };
        if hook.conditions_hold(a, &invocation)? {
            invocations.push(invocation);
        } else {
            backend.excluded(&hook.name, Phase::Validating, a.operation);
        }
    }
    let mut calls: FuturesUnordered<_> = invocations
        .iter()
        .enumerate()
        .map(|(index, i)| {
            let place = Place { phase: Phase::Validating, round: 0, index };
            call_and_count(a, i, place, backend)
        })
        .collect();
    let mut first = Ok(());
    while let Some(outcome) = calls.next().await {
        if let (Ok(()), Err(error)) = (&first, outcome) {
            first = Err(error);
        }
    }
    first
}

/// One call, its failure policy, its metrics.
async fn call_and_count(
    a: &Attributes<'_>,
    invocation: &Invocation<'_>,
    place: Place,
    backend: &dyn Backend,
) -> Result<Allowed, ApiError> {
    let phase = place.phase;
    let started = Instant::now();
    let hook = invocation.hook;
    let result = call(a, invocation, place, backend).await;
    let ignored = hook.ignores_failures;
    let ended = match &result {
        Ok(_) => Ended::Allowed,
        Err(Refused::ByWebhook(error)) => Ended::Rejected(error.code),
        Err(Refused::Call { code, .. }) => Ended::Failed { code: *code, ignored },
        Err(Refused::Own(_)) => Ended::Internal,
    };
    let (webhook, operation, took) = (hook.name.as_str(), a.operation, started.elapsed());
    backend.observe(Observation { webhook, phase, operation, took, ended });
    match result {
        Ok(allowed) => Ok(allowed),
        Err(Refused::ByWebhook(error) | Refused::Own(error)) => Err(error),
        Err(Refused::Call { why, .. }) => {
            let text = format!("failed calling webhook {webhook:?}: {why}");
            let configuration = hook.configuration.as_str();
            if ignored {
                tracing::warn!(webhook, configuration, err = text, "Failed calling webhook, failing open");
                place.failed_open(&a.call.request.audit, hook);
                return Ok(Allowed::AsIs);
            }
            tracing::warn!(webhook, configuration, err = text, "Failed calling webhook, failing closed");
            Err(ApiError::internal(text))
        }
    }
}

async fn call(
    a: &Attributes<'_>,
    invocation: &Invocation<'_>,
    place: Place,
    backend: &dyn Backend,
) -> Result<Allowed, Refused> {
    let phase = place.phase;
    let hook = invocation.hook;
    if a.call.request.dry_run {
        check_dry_run(hook)?;
    }
    let Some(version) = Version::chosen(&hook.review_versions) else {
        let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Refused::Call { why: why.to_owned(), code: 400 });
    };
    let view = View::new(a, &invocation.resource);
    let uid = uuid::Uuid::new_v4().to_string();
    let question = review::question(a, &view, invocation, version, &uid).map_err(Refused::Own)?;
    let name = match phase {
        Phase::Mutating => "Call mutating webhook",
        Phase::Validating => "Call validating webhook",
    };
    let span = spans::webhook(name, a, &hook.configuration, &hook.name, &uid);
    let body = match span.run(backend.call(&hook.client, question, hook.timeout)).await {
        Ok(body) => body,
        Err(e) => {
            return Err(Refused::Call { why: e.why, code: e.code });
        }
    };
    span.event("Request completed", Vec::new);
    let answer = review::answer(&body, version, &uid, phase == Phase::Mutating).map_err(|e| match e {
        Unusable::Body(why) => failed(why),
        Unusable::Review(why) => {
            Refused::Call { why: format!("received invalid webhook response: {why}"), code: 503 }
        }
    })?;
    let audit = &a.call.request.audit;
    for (key, value) in answer.audit_annotations {
        audit.annotate_admission(&format!("{}/{key}", hook.name), value);
    }
    answer.warnings.into_iter().for_each(|w| a.call.warn(w));
    match answer.verdict {
        Verdict::Allowed => Ok(Allowed::AsIs),
        Verdict::Refused(status) => Err(refused(hook, status)),
        Verdict::Patched(patch, kind) => {
            let allowed = patched(a, hook, &view, patch.clone(), &kind)?;
            span.event("Patch applied", Vec::new);
            if matches!(allowed, Allowed::Changed(_)) {
                place.patched(audit, hook, &patch);
            }
            Ok(allowed)
        }
    }
}

fn refused(hook: &Hook, status: Option<StatusIn>) -> Refused {
    Refused::ByWebhook(review::refusal(&hook.name, status))
}

/// Webhooks with side effects stop a dry run.
fn check_dry_run(hook: &Hook) -> Result<(), Refused> {
    match hook.dry_run {
        Some(true) => Ok(()),
        Some(false) => Err(Refused::Own(ApiError::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            hook.name
        )))),
        None => Err(Refused::Call { why: "Webhook SideEffects is nil".to_owned(), code: 400 }),
    }
}

fn patched(
    a: &Attributes<'_>,
    hook: &Hook,
    view: &View<'_>,
    patch: Bytes,
    kind: &str,
) -> Result<Allowed, Refused> {
    let undecodable = |why: String| Refused::Call {
        why: format!("received undecodable patch in webhook response: {why}"),
        code: 503,
    };
    machinery::json::parse(&patch).map_err(|e| undecodable(e.to_string()))?;
    let operations: Vec<serde::de::IgnoredAny> =
        serde_json::from_slice(&patch).map_err(|e| undecodable(e.to_string()))?;
    if operations.is_empty() {
        return Ok(Allowed::AsIs);
    }
    let Some(object) = &a.object else {
        return Err(Refused::Own(ApiError::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        ))));
    };
    if kind != review::JSON_PATCH {
        return Err(Refused::Call { why: format!("unsupported patch type {kind:?}"), code: 400 });
    }
    let document = view.encode(object).map_err(Refused::Own)?;
    let changed =
        machinery::patch::json_patch(&document, &patch).map_err(|e| Refused::Own(ApiError::internal(e)))?;
    // Unknown fields are dropped as the server's own reader drops them, without a word.
    view.decode(changed, object, FieldValidation::Ignore).map(Allowed::Changed).map_err(Refused::Own)
}
