//! The read-change-write loop behind PUT, PATCH and every subresource that writes its parent.
//!
//! [`Source`] computes the wanted object from the present one and may be asked again when another writer was faster.
//! Upstream: `Store.Update` in `pkg/registry/generic/registry/store.go`, handlers `update.go` and `patch.go`.

use ::api::validation::field::{Error as FieldError, Path};
use auth::authorizer::{Attributes as AuthzAttributes, Decision};
use machinery::Value;
use storage::store::KeyValue;

use super::{before, create, delete};
use crate::admission::{Attributes, Operation};
use crate::api::Body;
use crate::errors::ApiError;
use crate::managed_fields;
use crate::meta;
use crate::spans;
use crate::store_errors::{self, OPTIMISTIC_LOCK};
use crate::strategy::Call;

/// Computes the wanted object.
pub trait Source: Send + Sync {
    /// The uid the stored object must have, if the client named one.
    fn uid(&self) -> Option<&str> {
        None
    }

    /// Whether a missing object is created whatever the resource says (server-side apply).
    fn creates(&self) -> bool {
        false
    }

    /// The wanted object, in the hub version. `current` is `None` when there is no stored object.
    fn wanted(&self, call: &Call<'_>, current: Option<&Value>) -> Result<Value, ApiError>;
}

/// The result of an update.
pub struct Outcome {
    /// The object as stored now.
    pub object: Value,
    /// Whether it was created.
    pub created: bool,
}

/// PUT: the decoded body replaces what is there.
struct Replace {
    object: Value,
}

impl Source for Replace {
    fn uid(&self) -> Option<&str> {
        Some(meta::uid(&self.object)).filter(|u| !u.is_empty())
    }

    fn wanted(&self, call: &Call<'_>, current: Option<&Value>) -> Result<Value, ApiError> {
        let mut object = self.object.clone();
        match current {
            Some(old) => {
                object.share(old);
                managed_fields::on_update(call, &mut object, old)?;
            }
            None => managed_fields::on_create(call, &mut object)?,
        }
        Ok(object)
    }
}

/// PUT of the resource or its status-like subresource.
pub async fn replace(call: &Call<'_>, body: &Body) -> Result<Outcome, ApiError> {
    let mut object = call.resource.decode_sent(call.request, body)?;
    let info = &call.request.info;
    let namespace = if call.resource.row.namespaced { info.namespace.as_str() } else { "" };
    before::ensure_namespace(&mut object, namespace)?;
    check_name(&object, &info.name)?;
    before::dedup_owners(call, &mut object, false);
    update(call, &Replace { object }).await
}

/// The name in the body must be the one in the path.
pub fn check_name(object: &Value, name: &str) -> Result<(), ApiError> {
    let own = meta::name(object);
    if own.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if own != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}

/// Runs the loop.
pub async fn update(call: &Call<'_>, source: &dyn Source) -> Result<Outcome, ApiError> {
    let span = spans::write("GuaranteedUpdate etcd3", call, &call.request.info.name);
    match span.run(attempt_all(call, source, true)).await {
        Err(error) if error.is_too_large() => span.run(attempt_all(call, source, false)).await,
        result => result,
    }
}

async fn attempt_all(call: &Call<'_>, source: &dyn Source, track: bool) -> Result<Outcome, ApiError> {
    let row = call.resource.row;
    let name = &call.request.info.name;
    let key = call.core.key(row, &call.request.info.namespace, name)?;
    let read = async || {
        let got = call.stored(call.core.store.get(&key, 0)).await;
        got.map(|got| got.kv).map_err(|e| store_errors::get(e, row, name))
    };
    let mut current = read().await?;
    loop {
        match attempt(call, source, &key, current.take(), track).await? {
            Attempt::Done(outcome) => return Ok(outcome),
            Attempt::Lost(now) => {
                current = match now {
                    Some(kv) => Some(kv),
                    None => read().await?,
                };
            }
        }
    }
}

enum Attempt {
    Done(Outcome),
    /// Another writer was faster; the version it wrote, if known.
    Lost(Option<KeyValue>),
}

async fn attempt(
    call: &Call<'_>,
    source: &dyn Source,
    key: &str,
    current: Option<KeyValue>,
    track: bool,
) -> Result<Attempt, ApiError> {
    let row = call.resource.row;
    let name = &call.request.info.name;
    let Some(kv) = current else {
        if !(row.create_on_update || source.creates()) || source.uid().is_some() && !source.creates() {
            return Err(missing(call, source));
        }
        return create_instead(call, source).await;
    };
    let old = call.core.decode(call.resource, &kv)?;
    check_uid(call, source, &old, key)?;
    let mut object = wanted(call, source, &old).await?;
    if !track {
        managed_fields::clear(&mut object);
    }
    settle_resource_version(call, &mut object, &old)?;
    let finish = call.resource.strategy.begin_update(call, &mut object, &old).await?;
    let result = validate_and_write(call, key, &kv, object, &old).await;
    if let Some(finish) = finish {
        let stored = matches!(&result, Ok(Attempt::Done(_))) && !call.request.dry_run;
        finish.finish(stored).await;
    }
    result.map_err(|mut error| {
        // Conflicts name the object even when the store only knew the key.
        if error.reason == "Conflict" && error.details.is_none() {
            error = ApiError::conflict(row.kind.group, row.resource, name, OPTIMISTIC_LOCK);
        }
        error
    })
}

/// A PUT that names a uid meets nothing: the precondition fails rather than the name being missing.
fn missing(call: &Call<'_>, source: &dyn Source) -> ApiError {
    let row = call.resource.row;
    let name = &call.request.info.name;
    match source.uid() {
        Some(uid) if row.create_on_update => ApiError::conflict(
            row.kind.group,
            row.resource,
            name,
            format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            ),
        ),
        _ => ApiError::not_found(row.kind.group, row.resource, name),
    }
}

fn check_uid(call: &Call<'_>, source: &dyn Source, old: &Value, key: &str) -> Result<(), ApiError> {
    let row = call.resource.row;
    match source.uid() {
        Some(uid) if uid != meta::uid(old) => Err(precondition_failed(
            row.kind.group,
            row.resource,
            &call.request.info.name,
            key,
            format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(old)
            ),
        )),
        _ => Ok(()),
    }
}

/// The 409 of a failed uid or resourceVersion precondition in the store, which prints the whole store error.
pub(super) fn precondition_failed(
    group: &str,
    resource: &str,
    name: &str,
    key: &str,
    why: String,
) -> ApiError {
    ApiError::conflict(
        group,
        resource,
        name,
        format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"
        ),
    )
}

/// The wanted object after mutating admission.
async fn wanted(call: &Call<'_>, source: &dyn Source, old: &Value) -> Result<Value, ApiError> {
    let object = source.wanted(call, Some(old))?;
    let mut attributes = Attributes::new(call, Operation::Update, Some(object), Some(old.clone()));
    let admitted = call.core.admission.admit(&mut attributes).await;
    let mut object = attributes.object.unwrap_or_default();
    admitted?;
    before::dedup_owners(call, &mut object, true);
    Ok(object)
}

/// An update without resourceVersion takes the stored one where the resource allows it; any other must match.
fn settle_resource_version(call: &Call<'_>, object: &mut Value, old: &Value) -> Result<(), ApiError> {
    let row = call.resource.row;
    let name = &call.request.info.name;
    let sent = meta::resource_version(object);
    let stored = meta::resource_version(old);
    if sent.is_empty() || sent == "0" {
        if row.rv_required {
            let error = FieldError::invalid(
                &Path::new("metadata").child("resourceVersion"),
                "0x0",
                "must be specified for an update",
            );
            let error = FieldError { bad: ::api::validation::field::Bad::Raw("0".into()), ..error };
            return Err(ApiError::invalid_fields(row.kind.group, row.resource, name, &[error]));
        }
        let stored = stored.to_owned();
        meta::set(object, "resourceVersion", stored);
        return Ok(());
    }
    if sent.parse::<u64>().is_err() {
        return Err(ApiError::internal(format!("strconv.ParseUint: parsing {sent:?}: invalid syntax")));
    }
    if sent != stored {
        return Err(ApiError::conflict(row.kind.group, row.resource, name, OPTIMISTIC_LOCK));
    }
    Ok(())
}

async fn validate_and_write(
    call: &Call<'_>,
    key: &str,
    kv: &KeyValue,
    mut object: Value,
    old: &Value,
) -> Result<Attempt, ApiError> {
    before::before_update(call, &mut object, old)?;
    managed_fields::ignore_timestamp_changes(&mut object, old);
    let attributes = Attributes::new(call, Operation::Update, Some(object.clone()), Some(old.clone()));
    call.core.admission.validate(&attributes).await?;
    if delete::finished_by_update(call, &object, old) {
        return delete::delete_after_update(call, key, kv, object).await.map(Attempt::Done);
    }
    write(call, key, kv, object).await
}

async fn write(call: &Call<'_>, key: &str, kv: &KeyValue, mut object: Value) -> Result<Attempt, ApiError> {
    let row = call.resource.row;
    let name = &call.request.info.name;
    let bytes = call.core.encode_stored(call.resource, &object)?;
    // The same object is written again where the store keeps it in a form that is to go.
    let same = bytes == kv.value && !call.core.store.is_stale(key).await.unwrap_or(false);
    if same || call.request.dry_run {
        call.resource.strategy.decorate(&mut object);
        return Ok(Attempt::Done(Outcome { object, created: false }));
    }
    // Events live for their TTL again after each update; nothing else has one.
    let written = call.core.store.update(key, bytes, kv.mod_revision, call.core.ttl(row));
    match call.stored(written).await {
        Ok(revision) => {
            meta::set(&mut object, "resourceVersion", revision.to_string());
            call.resource.strategy.decorate(&mut object);
            Ok(Attempt::Done(Outcome { object, created: false }))
        }
        Err(storage::Error::Conflict { current, .. }) => Ok(Attempt::Lost(current.map(|kv| *kv))),
        Err(storage::Error::NotFound { .. }) => Ok(Attempt::Lost(None)),
        Err(error) => Err(store_errors::update(error, row, name)),
    }
}

/// The create half of an update: authorized apart, because the client asked for an update.
async fn create_instead(call: &Call<'_>, source: &dyn Source) -> Result<Attempt, ApiError> {
    let mut object = source.wanted(call, None)?;
    let mut attributes = Attributes::new(call, Operation::Create, Some(object), None);
    let admitted = call.core.admission.admit(&mut attributes).await;
    object = attributes.object.unwrap_or_default();
    admitted?;
    before::dedup_owners(call, &mut object, true);
    if !meta::resource_version(&object).is_empty() {
        let row = call.resource.row;
        return Err(ApiError::conflict(
            row.kind.group,
            row.resource,
            &call.request.info.name,
            OPTIMISTIC_LOCK,
        ));
    }
    meta::wipe_system_fields(&mut object);
    meta::fill_system_fields(&mut object, call.now);
    let finish = call.resource.strategy.begin_create(call, &mut object).await?;
    let stored = authorize_and_create(call, object).await;
    if let Some(finish) = finish {
        finish.finish(stored.is_ok() && !call.request.dry_run).await;
    }
    match stored {
        Ok(object) => Ok(Attempt::Done(Outcome { object, created: true })),
        Err(error) if error.reason == "AlreadyExists" => Ok(Attempt::Lost(None)),
        Err(error) => Err(error),
    }
}

async fn authorize_and_create(call: &Call<'_>, mut object: Value) -> Result<Value, ApiError> {
    before::before_create(call, &mut object)?;
    authorize_create(call).await?;
    let attributes = Attributes::new(call, Operation::Create, Some(object.clone()), None);
    call.core.admission.validate(&attributes).await?;
    create::store_new(call, object).await
}

/// The user must be allowed to create what its update would create.
async fn authorize_create(call: &Call<'_>) -> Result<(), ApiError> {
    let info = &call.request.info;
    let attributes = AuthzAttributes {
        user: call.request.user.clone(),
        verb: "create".into(),
        namespace: info.namespace.clone(),
        api_group: info.api_group.clone(),
        api_version: info.api_version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        name: info.name.clone(),
        resource_request: true,
        path: info.path.clone(),
        ..AuthzAttributes::default()
    };
    let verdict = call.core.authorizer()?.authorize(&attributes).await;
    if verdict.decision == Decision::Allow {
        return Ok(());
    }
    match verdict.error {
        Some(error) => Err(ApiError::internal(error)),
        None => Err(ApiError::forbidden_request(&attributes, &verdict.reason)),
    }
}
