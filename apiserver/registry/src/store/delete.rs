//! DELETE of one object and of a collection: preconditions, finalizers, propagation, grace periods.
//! Upstream: `Store.Delete` and `DeleteCollection` in `pkg/registry/generic/registry/store.go`, `rest/delete.go`.

use ::api::resources::GcPolicy;
use ::api::validation::field::{Error as FieldError, Path};
use jiff::{SignedDuration, Timestamp};
use machinery::Value;
use storage::store::KeyValue;

use std::sync::Arc;

use super::read;
use super::update::{Outcome, precondition_failed};
use crate::admission::{Attributes, Operation};
use crate::api::{DeleteOptions, List, ListOptions, RequestContext};
use crate::errors::ApiError;
use crate::meta;
use crate::object::Owned;
use crate::spans;
use crate::store_errors;
use crate::strategy::{Call, DeleteStep as Step};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Objects listed at a time by a delete of a collection without limit.
const COLLECTION_PAGE: i64 = 10_000;

/// The result of a delete.
pub struct Deleted {
    /// The object in its last state.
    pub object: Value,
    /// Whether it is gone.
    pub gone: bool,
    /// Whether the client gets the object rather than a Status.
    pub returns_object: bool,
}

/// `ValidateDeleteOptions`.
pub fn validate_options(options: &DeleteOptions) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let path = Path::new("propagationPolicy");
    if let Some(policy) = options.propagation_policy.as_deref() {
        if options.orphan_dependents.is_some() {
            errors.push(FieldError::invalid(
                &path,
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if !matches!(policy, "Foreground" | "Background" | "Orphan") {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported(&path, policy, &supported));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_fields("meta.k8s.io", "DeleteOptions", "", &errors))
}

/// Deletes the named object.
pub async fn delete(call: &Call<'_>, name: &str, options: &DeleteOptions) -> Result<Deleted, ApiError> {
    let row = call.resource.row;
    let key = call.core.key(row, &call.request.info.namespace, name)?;
    let mut options = options.clone();
    let got = spans::get(call, &key).run(call.stored(call.core.store.get(&key, 0))).await;
    let mut current = got.map_err(|e| store_errors::delete(e, row, name))?.kv;
    let mut marked: Option<Value> = None;
    loop {
        let Some(kv) = current.take() else {
            // Someone else finished what we began.
            return match marked {
                Some(object) => finalize(call, object, true).await,
                None => Err(ApiError::not_found(row.kind.group, row.resource, name)),
            };
        };
        let old = call.core.decode(call.resource, &kv)?;
        refuse_to_ignore(call, name, &key, &options)?;
        check_preconditions(call, &old, &key, &options, marked.is_some())?;
        let step = decide(call, &old, &mut options)?;
        if !matches!(step, Step::Pending) && marked.is_none() {
            admit(call, &old, &options).await?;
        }
        match step {
            Step::Pending => return Ok(pending(old)),
            Step::Mark { object, then_delete } => match mark(call, &key, &kv, object).await? {
                Ok(object) if !then_delete => return Ok(pending(object)),
                Ok(object) if call.request.dry_run => return finalize(call, object, false).await,
                Ok(object) => {
                    options.resource_version = None;
                    marked = Some(object);
                    current = reread(call, &key, name).await?;
                }
                Err(now) => current = now,
            },
            Step::Remove => match remove(call, &key, &kv, &old).await? {
                Ok(object) => return finalize(call, object, !call.request.dry_run).await,
                Err(now) => current = now,
            },
        }
    }
}

/// Errors on reading the stored object are only ignored where there are some (`corruptObjectDeleter`).
fn refuse_to_ignore(call: &Call<'_>, name: &str, key: &str, options: &DeleteOptions) -> Result<(), ApiError> {
    if options.ignore_store_read_error != Some(true) {
        return Ok(());
    }
    let row = call.resource.row;
    let why = "unsafe deletion is not allowed because the object is decodable from storage".to_owned();
    Err(precondition_failed(row.kind.group, row.resource, name, key, why))
}

async fn reread(call: &Call<'_>, key: &str, name: &str) -> Result<Option<KeyValue>, ApiError> {
    let got = spans::get(call, key).run(call.stored(call.core.store.get(key, 0))).await;
    Ok(got.map_err(|e| store_errors::delete(e, call.resource.row, name))?.kv)
}

async fn admit(call: &Call<'_>, old: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let mut attributes = Attributes::new(call, Operation::Delete, None, Some(old.clone()));
    attributes.delete_options = Some(options.clone());
    call.core.admission.admit(&mut attributes).await?;
    call.core.admission.validate(&attributes).await
}

fn check_preconditions(
    call: &Call<'_>,
    old: &Value,
    key: &str,
    options: &DeleteOptions,
    in_store: bool,
) -> Result<(), ApiError> {
    let kind = crate::conversion::hub(call.resource.row.kind);
    let (uid, version) = (meta::uid(old), meta::resource_version(old));
    let name = meta::name(old);
    if let Some(wanted) = options.uid.as_deref().filter(|w| *w != uid) {
        if in_store {
            let why =
                format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
            return Err(precondition_failed(kind.group, call.resource.row.resource, name, key, why));
        }
        return Err(ApiError::conflict(
            kind.group,
            kind.kind,
            name,
            format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            ),
        ));
    }
    if let Some(wanted) = options.resource_version.as_deref().filter(|w| *w != version) {
        return Err(ApiError::conflict(
            kind.group,
            kind.kind,
            name,
            format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
            ),
        ));
    }
    Ok(())
}

/// `updateForGracefulDeletionAndFinalizers` as a decision.
fn decide(call: &Call<'_>, old: &Value, options: &mut DeleteOptions) -> Result<Step, ApiError> {
    if let Some(step) = call.resource.strategy.decide_delete(call, old, options) {
        return Ok(step);
    }
    let mut object = old.clone();
    let graceful = before_delete(call, &mut object, options)?;
    if graceful == Grace::Pending {
        return Ok(Step::Pending);
    }
    let finalizers = garbage_collection_finalizers(call.resource.row.gc, &object, options);
    if let Some(finalizers) = finalizers {
        meta::set_finalizers(&mut object, finalizers);
    }
    let pending_finalizers = !meta::finalizers(&object).is_empty();
    if graceful == Grace::Marked {
        let seconds = options.grace_period_seconds.unwrap_or(0);
        return Ok(Step::Mark { object, then_delete: !pending_finalizers && seconds == 0 });
    }
    if pending_finalizers {
        mark_as_deleting(&mut object, call.now);
        return Ok(Step::Mark { object, then_delete: false });
    }
    Ok(Step::Remove)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grace {
    /// Not deleted gracefully.
    None,
    /// Marked with a deletion timestamp and grace period now.
    Marked,
    /// Marked before, and nothing to shorten.
    Pending,
}

/// `rest.BeforeDelete` without the preconditions: may write deletion timestamp and grace period to the object.
fn before_delete(
    call: &Call<'_>,
    object: &mut Value,
    options: &mut DeleteOptions,
) -> Result<Grace, ApiError> {
    if options.grace_period_seconds.is_some_and(|s| s < 0) {
        options.grace_period_seconds = Some(1);
    }
    if !call.resource.row.graceful {
        return Ok(Grace::None);
    }
    if meta::deletion_grace_period_seconds(object).is_some_and(|s| s < 0) {
        meta::set(object, "deletionGracePeriodSeconds", 1_i64);
    }
    if !meta::deletion_timestamp(object).is_empty() {
        return Ok(shorten(call.now, object, options));
    }
    if !call.resource.strategy.check_graceful_delete(call, object, options) {
        return Ok(Grace::None);
    }
    let Some(seconds) = options.grace_period_seconds else {
        return Err(ApiError::internal("options.GracePeriodSeconds should not be nil"));
    };
    let at = call.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    meta::set(object, "deletionTimestamp", meta::rfc3339(at));
    meta::set(object, "deletionGracePeriodSeconds", seconds);
    if meta::generation(object) > 0 {
        let next = meta::generation(object) + 1;
        meta::set(object, "generation", next);
    }
    Ok(Grace::Marked)
}

/// A second delete may only shorten the grace period, and not into the past.
fn shorten(now: Timestamp, object: &mut Value, options: &mut DeleteOptions) -> Grace {
    let current = match meta::deletion_grace_period_seconds(object) {
        None | Some(0) => return Grace::None,
        Some(seconds) => seconds,
    };
    let Some(mut period) = options.grace_period_seconds else {
        options.grace_period_seconds = Some(current);
        return Grace::Pending;
    };
    if period >= current {
        return Grace::Pending;
    }
    let marked: Timestamp = meta::deletion_timestamp(object).parse().unwrap_or(now);
    let mut at = marked.saturating_add(SignedDuration::from_secs(period - current)).unwrap_or(now);
    if at < now {
        at = now;
        if period != 0 {
            period = 1;
        }
    }
    meta::set(object, "deletionTimestamp", meta::rfc3339(at));
    meta::set(object, "deletionGracePeriodSeconds", period);
    Grace::Marked
}

/// `deletionFinalizersForGarbageCollection`: the new finalizers, or `None` when they stay as they are.
fn garbage_collection_finalizers(
    policy: GcPolicy,
    object: &Value,
    options: &DeleteOptions,
) -> Option<Vec<String>> {
    let present = meta::finalizers(object);
    let wanted = if policy == GcPolicy::Unsupported {
        None
    } else if let Some(orphan) = options.orphan_dependents {
        orphan.then_some(ORPHAN)
    } else {
        match options.propagation_policy.as_deref() {
            Some("Orphan") => Some(ORPHAN),
            Some("Foreground") => Some(FOREGROUND),
            Some(_) => None,
            None => present
                .iter()
                .find(|f| **f == ORPHAN || **f == FOREGROUND)
                .copied()
                .or((policy == GcPolicy::Orphan).then_some(ORPHAN)),
        }
    };
    let mut next: Vec<&str> = present.iter().copied().filter(|f| *f != ORPHAN && *f != FOREGROUND).collect();
    next.extend(wanted);
    let same = next.len() == present.len() && next.iter().all(|f| present.contains(f));
    (!same).then(|| next.into_iter().map(str::to_owned).collect())
}

/// `markAsDeleting`.
fn mark_as_deleting(object: &mut Value, now: Timestamp) {
    let at = meta::deletion_timestamp(object).to_owned();
    if at.is_empty() && meta::generation(object) > 0 {
        let next = meta::generation(object) + 1;
        meta::set(object, "generation", next);
    }
    if at.parse::<Timestamp>().map_or(true, |t| t > now) {
        meta::set(object, "deletionTimestamp", meta::rfc3339(now));
    }
    meta::set(object, "deletionGracePeriodSeconds", 0_i64);
}

/// Writes a marked object; `Err` carries the version of a faster writer.
async fn mark(
    call: &Call<'_>,
    key: &str,
    kv: &KeyValue,
    mut object: Value,
) -> Result<Result<Value, Option<KeyValue>>, ApiError> {
    let row = call.resource.row;
    let bytes = call.core.encode_stored(call.resource, &object)?;
    if call.request.dry_run || bytes == kv.value {
        return Ok(Ok(object));
    }
    let span = spans::write("GuaranteedUpdate etcd3", call, meta::name(&object));
    match span.run(call.stored(call.core.store.update(key, bytes, kv.mod_revision, None))).await {
        Ok(revision) => {
            meta::set(&mut object, "resourceVersion", revision.to_string());
            Ok(Ok(object))
        }
        Err(storage::Error::Conflict { current, .. }) => Ok(Err(current.map(|kv| *kv))),
        Err(storage::Error::NotFound { .. }) => Ok(Err(None)),
        Err(error) => Err(store_errors::update(error, row, meta::name(&object))),
    }
}

async fn remove(
    call: &Call<'_>,
    key: &str,
    kv: &KeyValue,
    old: &Value,
) -> Result<Result<Value, Option<KeyValue>>, ApiError> {
    let mut object = old.clone();
    if call.request.dry_run {
        return Ok(Ok(object));
    }
    match call.stored(call.core.store.delete(key, kv.mod_revision)).await {
        Ok(revision) => {
            meta::set(&mut object, "resourceVersion", revision.to_string());
            Ok(Ok(object))
        }
        Err(storage::Error::Conflict { current, .. }) => Ok(Err(current.map(|kv| *kv))),
        Err(storage::Error::NotFound { .. }) => Ok(Err(None)),
        Err(error) => Err(store_errors::delete(error, call.resource.row, meta::name(old))),
    }
}

fn pending(object: Value) -> Deleted {
    Deleted { object, gone: false, returns_object: true }
}

async fn finalize(call: &Call<'_>, object: Value, hooks: bool) -> Result<Deleted, ApiError> {
    if hooks {
        call.resource.strategy.after_delete(call, &object).await;
    }
    Ok(Deleted { object, gone: true, returns_object: call.resource.row.returns_deleted })
}

/// Whether an update took the last finalizer from an object that waits to go (`ShouldDeleteDuringUpdate`).
pub(super) fn finished_by_update(call: &Call<'_>, object: &Value, old: &Value) -> bool {
    meta::finalizers(object).is_empty()
        && !meta::deletion_timestamp(old).is_empty()
        && meta::deletion_grace_period_seconds(old).is_none_or(|s| s == 0)
        && call.resource.strategy.should_delete_during_update(object, old)
}

/// Deletes an object whose last finalizer an update removed; the client gets the object it sent.
pub(super) async fn delete_after_update(
    call: &Call<'_>,
    key: &str,
    kv: &KeyValue,
    object: Value,
) -> Result<Outcome, ApiError> {
    if !call.request.dry_run {
        match call.stored(call.core.store.delete(key, kv.mod_revision)).await {
            Ok(_) | Err(storage::Error::NotFound { .. }) => {}
            Err(error) => return Err(store_errors::delete(error, call.resource.row, meta::name(&object))),
        }
        call.resource.strategy.after_delete(call, &object).await;
    }
    Ok(Outcome { object, created: false })
}

/// Deletes everything a list selects, a page at a time, and answers with that list. Not atomic: the first failure
/// ends it, and what was deleted before stays deleted.
pub async fn delete_collection(
    call: &Call<'_>,
    options: &DeleteOptions,
    list: &ListOptions,
) -> Result<List, ApiError> {
    use futures::{TryStreamExt, stream};
    let mut page_options = list.clone();
    let single_page = list.limit > 0;
    if !single_page {
        page_options.limit = COLLECTION_PAGE;
    }
    let kind = call.resource.row.kind;
    let mut answer: Option<List> = None;
    loop {
        let (items, page) = read::list(call, &page_options).await?;
        let next = page.continue_token.clone();
        let handles: Vec<_> = items.iter().map(|v| Owned::handle(v.clone(), kind)).collect();
        match &mut answer {
            Some(all) => all.items.extend(handles),
            None => answer = Some(List { items: handles, ..page }),
        }
        let workers = call.core.settings.delete_collection_workers.max(1);
        stream::iter(items.iter().map(Ok::<_, ApiError>))
            .try_for_each_concurrent(workers, |item| delete_item(call, item, options))
            .await?;
        if single_page || next.is_empty() {
            break;
        }
        page_options.continue_token = next;
        page_options.resource_version.clear();
        page_options.resource_version_match.clear();
    }
    let mut list = answer.ok_or_else(|| ApiError::internal("the list had no page"))?;
    if !single_page {
        list.continue_token.clear();
        list.remaining_item_count = None;
    }
    Ok(list)
}

/// Deletes one listed object in the namespace of the request; one that went meanwhile is fine. A collection that spans
/// all namespaces (the path has an empty one) is listed, but nothing of it is deleted.
async fn delete_item(call: &Call<'_>, item: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let mut info = (*call.request.info).clone();
    info.name = meta::name(item).to_owned();
    let request = RequestContext { info: Arc::new(info), ..call.request.clone() };
    let call = Call { request: &request, ..*call };
    match delete(&call, meta::name(item), options).await {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(finalizers: &[&str], policy: Option<&str>, gc: GcPolicy, want: Option<&[&str]>) {
        let object = Value::from(json!({"metadata": {"finalizers": finalizers}}));
        let options = DeleteOptions { propagation_policy: policy.map(Into::into), ..Default::default() };
        let got = garbage_collection_finalizers(gc, &object, &options);
        let want = want.map(|w| w.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        assert_eq!(got, want, "{finalizers:?} {policy:?}");
    }

    #[test]
    fn propagation_sets_finalizers() {
        check(&[], None, GcPolicy::Delete, None);
        check(&[], None, GcPolicy::Orphan, Some(&["orphan"]));
        check(&[], Some("Foreground"), GcPolicy::Orphan, Some(&["foregroundDeletion"]));
        check(&["a", "orphan"], Some("Background"), GcPolicy::Delete, Some(&["a"]));
        check(&["orphan"], None, GcPolicy::Delete, None);
        check(&[], Some("Orphan"), GcPolicy::Unsupported, None);
    }

    #[test]
    fn grace_period_only_shrinks() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let object = |grace: i64| {
            Value::from(json!({"metadata": {
                "deletionTimestamp": "2030-01-01T00:00:20Z", "deletionGracePeriodSeconds": grace}}))
        };
        let mut longer = DeleteOptions { grace_period_seconds: Some(60), ..Default::default() };
        assert_eq!(shorten(now, &mut object(30), &mut longer), Grace::Pending);
        let mut shorter = DeleteOptions { grace_period_seconds: Some(20), ..Default::default() };
        let mut pod = object(30);
        assert_eq!(shorten(now, &mut pod, &mut shorter), Grace::Marked);
        assert_eq!(meta::deletion_timestamp(&pod), "2030-01-01T00:00:10Z");
        let mut past = DeleteOptions { grace_period_seconds: Some(5), ..Default::default() };
        let mut pod = object(30);
        assert_eq!(shorten(now, &mut pod, &mut past), Grace::Marked);
        assert_eq!(meta::deletion_timestamp(&pod), "2030-01-01T00:00:00Z");
        assert_eq!(meta::deletion_grace_period_seconds(&pod), Some(1));
    }
}
