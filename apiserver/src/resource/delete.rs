//! Delete and deletecollection. Upstream: `k8s.io/apiserver/pkg/endpoints/handlers/delete.go`.

use bytes::Bytes;
use http::StatusCode;
use registry::api::{DeleteOptions, Deleted, DeletionState, MediaType, RequestContext};
use registry::errors::{ApiError, Cause};

use super::{Target, context, encode, read_body};
use crate::chain::{audit, spans};
use crate::server::{Call, Server};
use crate::web::{Response, Upload, negotiate, query, respond};

/// Delete options from the body if there is one, else from the query.
async fn options(server: &Server, call: &Call, body: Upload) -> Result<(DeleteOptions, bool), ApiError> {
    let bytes = read_body(server, body).await?;
    if bytes.is_empty() {
        return query::delete_options(&call.query);
    }
    let media = negotiate::input(&call.parts.headers, true)?;
    if call.audit.wants_request() {
        call.audit.request_document(document(&crate::web::yaml::delete_options(media, &bytes)?).into());
    }
    decode(media, &bytes)
}

/// `DeleteOptions` as JSON, fields in Go's order.
fn document(tree: &machinery::Value) -> Vec<u8> {
    const FIELDS: [&str; 6] = [
        "gracePeriodSeconds",
        "preconditions",
        "orphanDependents",
        "propagationPolicy",
        "dryRun",
        "ignoreStoreReadErrorWithClusterBreakingPotential",
    ];
    // What upstream's decoder takes options without a version for.
    const INTERNAL: &str = "meta.k8s.io/__internal";
    let version = tree.str_at(&["apiVersion"]).filter(|v| !v.is_empty()).unwrap_or(INTERNAL);
    let mut out = format!("{{\"kind\":\"DeleteOptions\",\"apiVersion\":{version:?}").into_bytes();
    for field in FIELDS {
        if let Some(value) = tree.get(field).filter(|v| !v.is_null()) {
            out.extend_from_slice(format!(",\"{field}\":").as_bytes());
            out.extend_from_slice(&machinery::json::encode_any(value));
        }
    }
    out.push(b'}');
    out
}

/// Decodes `DeleteOptions`; the second result is dry run.
fn decode(media: MediaType, bytes: &Bytes) -> Result<(DeleteOptions, bool), ApiError> {
    let tree = crate::web::yaml::delete_options(media, bytes)?;
    let text = |path: &[&str]| tree.str_at(path).map(str::to_owned);
    let options = DeleteOptions {
        grace_period_seconds: tree.i64_at(&["gracePeriodSeconds"]),
        propagation_policy: text(&["propagationPolicy"]),
        orphan_dependents: tree.bool_at(&["orphanDependents"]),
        uid: text(&["preconditions", "uid"]),
        resource_version: text(&["preconditions", "resourceVersion"]),
        ignore_store_read_error: tree.bool_at(&["ignoreStoreReadErrorWithClusterBreakingPotential"]),
    };
    let dry_run: Vec<&str> =
        tree.list_at(&["dryRun"]).map(|l| l.iter().filter_map(|v| v.as_str()).collect()).unwrap_or_default();
    let mut causes = Vec::new();
    if dry_run.iter().any(|v| *v != "All") {
        causes.push(Cause {
            reason: "FieldValueNotSupported".into(),
            message: format!("Unsupported value: {dry_run:?}: supported values: \"All\""),
            field: "dryRun".into(),
        });
    }
    query::check_delete(&options, causes)?;
    Ok((options, !dry_run.is_empty()))
}

/// `DELETE` of one object.
pub(super) async fn one(
    server: &Server,
    call: &Call,
    target: &Target,
    body: Upload,
) -> Result<Response, ApiError> {
    let output = negotiate::output(&call.parts.headers, &call.query, target.restrictions(), false)?;
    let (options, dry_run) = options(server, call, body).await?;
    let orphan = options.orphan_dependents;
    let context = RequestContext { dry_run, ..context(call) };
    traces::event("About to delete object from database", Vec::new);
    let deleted = server.registry.delete(&context, options).await?;
    traces::event("Object deleted from database", Vec::new);
    match deleted {
        Deleted::Object(object, state) => {
            let accepted = state == DeletionState::Pending && orphan == Some(false);
            let code = if accepted { StatusCode::ACCEPTED } else { StatusCode::OK };
            encode::object(code, call, &output, &object)
        }
        Deleted::Status { name, uid, kind, group } => {
            traces::event("About to write a response", Vec::new);
            let span = spans::response("SerializeObject", call, output.content_type());
            let bytes = success(output.media, &name, &group, &kind, &uid);
            let response = respond::document(StatusCode::OK, &output, &call.parts.headers, vec![bytes]);
            spans::wrote(&span, &response);
            drop(span);
            traces::event("Writing http response done", Vec::new);
            if !call.audit.enabled() {
                return Ok(response);
            }
            Ok(audit::with_status(response, success(MediaType::Json, &name, &group, &kind, &uid)))
        }
    }
}

/// The `Status` of a completed deletion.
fn success(media: MediaType, name: &str, group: &str, kind: &str, uid: &str) -> Bytes {
    let status = registry::errors::Success { name, group, kind, uid };
    if media == MediaType::Protobuf { status.to_protobuf().into() } else { status.to_json().into() }
}

/// `DELETE` of a collection.
pub(super) async fn collection(
    server: &Server,
    call: &Call,
    target: &Target,
    body: Upload,
) -> Result<Response, ApiError> {
    let output = negotiate::output(&call.parts.headers, &call.query, target.restrictions(), false)?;
    let list_options = query::collection_options(&call.query)?;
    server.registry.check_selectors(&context(call), &list_options)?;
    let (options, dry_run) = options(server, call, body).await?;
    query::check_delete_collection(&options)?;
    let context = RequestContext { dry_run, ..context(call) };
    let list = server.registry.delete_collection(&context, options, &list_options).await?;
    traces::event("About to write a response", Vec::new);
    let response = encode::list(call, &output, list);
    traces::event("Writing http response done", Vec::new);
    response
}
