//! POST of a new object.

use std::sync::Arc;

use auth::{API_SERVER_USER, SYSTEM_PRIVILEGED_GROUP, UserInfo};
use machinery::Value;

use super::before;
use crate::admission::{Attributes, Operation};
use crate::api::{Body, FieldValidation, MediaType, RequestContext, RequestInfo, Warnings};
use crate::core::Core;
use crate::errors::ApiError;
use crate::managed_fields;
use crate::meta;
use crate::spans;
use crate::store_errors;
use crate::strategy::Call;

/// Attempts with fresh generated names before giving up (upstream's `maxNameGenerationCreateAttempts`).
const NAME_ATTEMPTS: usize = 8;

/// Decodes, admits, validates and stores a new object; answers with it as stored.
pub async fn create(call: &Call<'_>, body: &Body) -> Result<Value, ApiError> {
    let mut object = call.resource.decode_sent(call.request, body)?;
    meta::wipe_system_fields(&mut object);
    before::ensure_namespace(&mut object, expected_namespace(call))?;
    before::dedup_owners(call, &mut object, false);
    create_object(call, object).await
}

/// Creates an object of the server's own making, of a resource that is in no namespace, by the whole way a request takes.
///
/// # Errors
/// As of a request.
pub async fn by_server(
    core: &Core,
    group: &str,
    resource: &str,
    object: &serde_json::Value,
) -> Result<(), ApiError> {
    let resource = core.any_version(group, resource)?;
    let kind = resource.row.kind;
    let info = RequestInfo {
        is_resource_request: true,
        verb: "create".to_owned(),
        api_prefix: if kind.group.is_empty() { "api" } else { "apis" }.to_owned(),
        api_group: kind.group.to_owned(),
        api_version: kind.version.to_owned(),
        resource: resource.row.resource.to_owned(),
        ..RequestInfo::default()
    };
    let request = RequestContext {
        user: Arc::new(UserInfo::new(API_SERVER_USER, &[SYSTEM_PRIVILEGED_GROUP])),
        info: Arc::new(info),
        dry_run: false,
        field_manager: "kube-apiserver".to_owned(),
        field_validation: FieldValidation::Strict,
        user_agent: "kube-apiserver".to_owned(),
        audit_id: String::new(),
        warnings: Warnings::default(),
        audit: Default::default(),
    };
    let bytes = serde_json::to_vec(object).map_err(ApiError::internal)?;
    let body = Body { media_type: MediaType::Json, bytes: bytes.into() };
    let call = Call { request: &request, resource, subresource: "", now: core.now(), core };
    create(&call, &body).await.map(drop)
}

/// A namespace object is admitted "in" itself but lives in none.
fn expected_namespace<'a>(call: &Call<'a>) -> &'a str {
    if call.resource.row.namespaced { &call.request.info.namespace } else { "" }
}

/// Creates a decoded object on behalf of the request.
pub async fn create_object(call: &Call<'_>, mut object: Value) -> Result<Value, ApiError> {
    managed_fields::on_create(call, &mut object)?;
    admit(call, &mut object).await?;
    before::dedup_owners(call, &mut object, true);
    match store_with_names(call, &object).await {
        Err(error) if error.is_too_large() && !managed_fields::is_empty(&object) => {
            managed_fields::clear(&mut object);
            store_with_names(call, &object).await
        }
        result => result,
    }
}

async fn admit(call: &Call<'_>, object: &mut Value) -> Result<(), ApiError> {
    let mut attributes = Attributes::new(call, Operation::Create, Some(std::mem::take(object)), None);
    let admitted = call.core.admission.admit(&mut attributes).await;
    *object = attributes.object.unwrap_or_default();
    admitted
}

async fn store_with_names(call: &Call<'_>, object: &Value) -> Result<Value, ApiError> {
    let generated = meta::name(object).is_empty() && !meta::generate_name(object).is_empty();
    let attempts = if generated { NAME_ATTEMPTS } else { 1 };
    let mut result = Err(ApiError::internal("no attempt was made"));
    for _ in 0..attempts {
        result = store_one(call, object.clone()).await;
        match &result {
            Err(error) if error.reason == "AlreadyExists" => {}
            _ => break,
        }
    }
    result
}

/// One attempt: system metadata, name, strategy, validating admission, store.
async fn store_one(call: &Call<'_>, mut object: Value) -> Result<Value, ApiError> {
    meta::fill_system_fields(&mut object, call.now);
    let base = meta::generate_name(&object).to_owned();
    if meta::name(&object).is_empty() && !base.is_empty() {
        meta::set(&mut object, "name", meta::generated_name(&base));
    }
    let finish = call.resource.strategy.begin_create(call, &mut object).await?;
    let stored = validate_and_store(call, object).await;
    if let Some(finish) = finish {
        finish.finish(stored.is_ok() && !call.request.dry_run).await;
    }
    stored
}

async fn validate_and_store(call: &Call<'_>, mut object: Value) -> Result<Value, ApiError> {
    before::before_create(call, &mut object)?;
    let attributes = Attributes::new(call, Operation::Create, Some(object.clone()), None);
    call.core.admission.validate(&attributes).await?;
    let span = spans::write("Create etcd3", call, meta::name(&object));
    span.run(store_new(call, object)).await
}

/// Whether a resource version says anything: what is no number is taken for none, and so is 0.
/// Upstream: `Create` of apiserver/pkg/storage/etcd3/store.go, `ObjectResourceVersion` of apiserver/pkg/storage.
fn states_version(text: &str) -> bool {
    text.parse::<u64>().is_ok_and(|version| version != 0)
}

/// Stores a new object that passed everything.
pub(super) async fn store_new(call: &Call<'_>, mut object: Value) -> Result<Value, ApiError> {
    let row = call.resource.row;
    let name = meta::name(&object).to_owned();
    let key = call.core.key(row, meta::namespace(&object), &name)?;
    if !call.request.dry_run && states_version(meta::resource_version(&object)) {
        return Err(ApiError::internal_plain("resourceVersion should not be set on objects to be created"));
    }
    let bytes = call.core.encode_stored(call.resource, &object)?;
    let written = if call.request.dry_run {
        let got = call.core.store.get(&key, 0).await.map_err(|e| store_errors::get(e, row, &name))?;
        match got.kv {
            Some(current) => {
                Err(storage::Error::AlreadyExists { key: key.clone(), current: Box::new(current) })
            }
            None => Ok(None),
        }
    } else {
        let ttl = call.core.ttl(row);
        call.stored(call.core.store.create(&key, bytes, ttl)).await.map(Some)
    };
    match written {
        Ok(Some(revision)) => meta::set(&mut object, "resourceVersion", revision.to_string()),
        Ok(None) => {}
        Err(error) => return Err(explain(call, &object, error)),
    }
    call.resource.strategy.decorate(&mut object);
    Ok(object)
}

/// Words a failed create: generated names and objects on their way out get their own texts.
fn explain(call: &Call<'_>, object: &Value, error: storage::Error) -> ApiError {
    let row = call.resource.row;
    let name = meta::name(object);
    let current = match &error {
        storage::Error::AlreadyExists { current, .. } => call.core.decode(call.resource, current).ok(),
        _ => None,
    };
    let exists = error.is_already_exists();
    let mut status = store_errors::create(error, row, name);
    if exists && !meta::generate_name(object).is_empty() {
        status.message.push_str(", the server was not able to generate a unique name for the object");
        if let Some(details) = status.details.as_mut() {
            details.retry_after_seconds = 1;
        }
    }
    if current.is_some_and(|c| !meta::deletion_timestamp(&c).is_empty()) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_versions_of_new_objects() {
        for (text, want) in
            [("", false), ("0", false), ("5", true), ("x", false), ("-1", false), ("1x", false)]
        {
            assert_eq!(states_version(text), want, "{text}");
        }
    }
}
