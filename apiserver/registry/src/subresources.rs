//! What is addressed below an object, and the resources that are answered but never stored. One file each.

mod binding;
mod eviction;
mod reviews;
pub(crate) mod scale;

pub use reviews::Tokens;

use std::sync::Arc;

use ::api::resources::RowKind;
use machinery::Value;
use serde_json::json;

use crate::admission::{Attributes, Operation};
use crate::api::{Body, Gvk, List, ObjectRef, Patch, Written};
use crate::codec;
use crate::core::Resource;
use crate::errors::ApiError;
use crate::object::Owned;
use crate::store;
use crate::strategy::Call;

/// Subresources that read and write the whole object; the strategy knows which part is theirs.
fn is_view(subresource: &str) -> bool {
    matches!(subresource, "" | "status" | "finalize" | "approval" | "ephemeralcontainers" | "resize")
}

/// Refuses what this server does not do yet, by name.
fn not_implemented(call: &Call<'_>) -> ApiError {
    let row = call.resource.row;
    let name = match call.subresource {
        "" => row.group_resource(),
        sub => format!("{}/{sub}", row.group_resource()),
    };
    ApiError::new(501, "", format!("{name} is not implemented by this server"))
}

/// GET.
pub async fn get(
    call: &Call<'_>,
    resource: &Arc<Resource>,
    resource_version: &str,
) -> Result<ObjectRef, ApiError> {
    if call.resource.row.stored.is_none() {
        return Err(not_implemented(call));
    }
    match call.subresource {
        "scale" => scale::get(call, resource_version).await,
        sub if is_view(sub) => store::read::get_handle(call, resource, resource_version).await,
        _ => Err(not_implemented(call)),
    }
}

/// LIST of a resource that is not stored: component statuses, which upstream probes and this server has none of.
pub fn list_unstored(call: &Call<'_>) -> Result<List, ApiError> {
    let kind = call.resource.row.kind;
    if kind.kind != "ComponentStatus" {
        return Err(not_implemented(call));
    }
    Ok(List {
        gvk: Gvk { group: String::new(), version: "v1".into(), kind: "ComponentStatusList".into() },
        resource_version: String::new(),
        continue_token: String::new(),
        remaining_item_count: None,
        items: Vec::new(),
        columns: None,
    })
}

/// POST.
pub async fn create(call: &Call<'_>, body: &Body) -> Result<Written, ApiError> {
    let row = call.resource.row;
    match (row.resource, call.subresource) {
        (_, "") if row.stored.is_some() => {
            let object = store::create::create(call, body).await?;
            Ok(Written { object: Owned::handle(object, row.kind), created: true })
        }
        ("bindings", "") | ("pods", "binding") => binding::create(call, body).await,
        ("pods", "eviction") => eviction::create(call, body).await,
        (_, "") => reviews::create(call, body).await,
        ("serviceaccounts", "token") => reviews::token(call, body).await,
        _ => Err(not_implemented(call)),
    }
}

/// PUT.
pub async fn update(call: &Call<'_>, body: &Body) -> Result<Written, ApiError> {
    match call.subresource {
        "scale" => scale::update(call, body).await,
        sub if is_view(sub) => written(call, store::update::replace(call, body).await?),
        _ => Err(not_implemented(call)),
    }
}

/// PATCH.
pub async fn patch(call: &Call<'_>, patch: &Patch) -> Result<Written, ApiError> {
    match call.subresource {
        "scale" => scale::patch(call, patch).await,
        sub if is_view(sub) => written(call, store::patch::patch(call, patch).await?),
        _ => Err(not_implemented(call)),
    }
}

fn written(call: &Call<'_>, outcome: store::update::Outcome) -> Result<Written, ApiError> {
    let object = Owned::handle(outcome.object, call.resource.row.kind);
    Ok(Written { object, created: outcome.created })
}

/// Admission of exec, attach, portforward and proxy, with their options.
pub async fn connect(call: &Call<'_>, options: &Body) -> Result<(), ApiError> {
    let kind = call.resource.row.subresource(call.subresource).ok_or_else(ApiError::page_not_found)?.kind;
    let object = if options.bytes.is_empty() {
        let mut object = Value::from(json!({}));
        codec::stamp(&mut object, kind);
        object
    } else {
        codec::decode_body(call.request, kind, options)?
    };
    let mut attributes = Attributes::new(call, Operation::Connect, Some(object), None).of_kind(kind);
    attributes.name = call.request.info.name.clone();
    call.core.admission.admit(&mut attributes).await?;
    call.core.admission.validate(&attributes).await
}

/// The kind of a subresource's body.
fn body_kind(call: &Call<'_>) -> Result<RowKind, ApiError> {
    let sub = call.resource.row.subresource(call.subresource).ok_or_else(ApiError::page_not_found)?;
    Ok(sub.kind)
}

const STATUS: RowKind = RowKind { group: "", version: "v1", kind: "Status" };

/// A success Status, as binding and eviction answer.
fn success() -> Written {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Written { object: Owned::handle(Value::from(status), STATUS), created: true }
}
