//! Requests to API resources: verbs to registry operations, and their results to responses.
//!
//! Read paths move the registry's encoded bytes; nothing is decoded here except delete options.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/{installer.go,handlers}`.
mod delete;
mod encode;
mod framing;
mod route;
mod stream;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use registry::api::{Body, RequestContext, ResourceRow, Written};
use registry::errors::ApiError;
use traces::Span;

use crate::chain::{audit, spans};
use crate::server::{Call, Server};
use crate::web::negotiate::{self, Restrictions};
use crate::web::query::{self, Write};
use crate::web::{Response, Upload, respond};

/// Answers a resource request.
pub(crate) async fn serve(server: Arc<Server>, call: Call, body: Upload) -> Response {
    if call.info.path.starts_with("//") {
        return crate::endpoints::not_found();
    }
    if connects(&server, &call) {
        let (headers, query, context) = (call.parts.headers.clone(), call.query.clone(), context(&call));
        let audited = call.audit.enabled();
        let passed = crate::connect::serve(&server, call, context, body).await;
        return passed.unwrap_or_else(|error| {
            let response = respond::error(&error, &headers, &query);
            if audited { audit::with_status(response, error.to_json()) } else { response }
        });
    }
    match dispatch(&server, &call, body).await {
        Ok(response) => response,
        Err(error) if error.code == 404 && !route::is_routed(&call.info, &server.registry.resources()) => {
            crate::endpoints::not_found()
        }
        Err(error) => audit::error(&error, &call),
    }
}

/// Whether the request is to be passed on to a kubelet, pod or service.
fn connects(server: &Server, call: &Call) -> bool {
    let subresource = &call.info.subresource;
    find(server, call).is_ok_and(|target| crate::connect::is_connect(&target.row, subresource))
}

/// `ListMeta` of a list as JSON.
pub(crate) fn list_meta(list: &registry::api::List) -> String {
    framing::json_list_meta(list)
}

/// `PartialObjectMetadata` of an object as JSON.
pub(crate) fn partial_json(object: &registry::api::ObjectRef, version: &str) -> Result<Bytes, ApiError> {
    encode::partial_json(object, version)
}

/// A resource and how the client wants it.
struct Target {
    row: Arc<ResourceRow>,
    /// Whether it has a protobuf form and strategic patches (everything but custom resources).
    built_in: bool,
    /// Whether it can be shown as a table: what is never listed, and bindings, evictions and tokens, cannot.
    table: bool,
}

impl Target {
    fn restrictions(&self) -> Restrictions {
        Restrictions::Resource { protobuf: self.built_in, table: self.table }
    }
}

fn find(server: &Server, call: &Call) -> Result<Target, ApiError> {
    let info = &call.info;
    let row = server
        .registry
        .lookup(&info.api_group, &info.api_version, &info.resource)
        .ok_or_else(ApiError::page_not_found)?;
    let scoped = route::names_namespace(info);
    if !route::is_served(info, &row, scoped) {
        return Err(ApiError::page_not_found());
    }
    let verbs = if info.subresource.is_empty() {
        &row.verbs
    } else {
        let sub = row.subresources.iter().find(|s| s.name == info.subresource);
        let missing = || match row.custom {
            Some(_) => ApiError::not_found(&info.api_group, &info.resource, &info.name),
            None => ApiError::page_not_found(),
        };
        &sub.ok_or_else(missing)?.verbs
    };
    // Custom resources have no routes: their handler goes by the request's verb alone.
    let verb = if row.custom.is_none() { route::verb(info) } else { info.verb.as_str() };
    let everywhere = matches!(verb, "list" | "watch");
    let method = &call.parts.method;
    let allowed = if info.subresource == "proxy" {
        route::passes_on(method)
    } else {
        verbs.iter().any(|v| v == verb) && route::takes_method(info, method)
    };
    if !allowed || (row.namespaced && !scoped && !everywhere) {
        return Err(method_not_allowed());
    }
    let built_in = server.registry.built_in(&row.gvk);
    if !crate::connect::is_connect(&row, &info.subresource) {
        route::check_content_type(&call.parts.headers, verb, built_in)?;
        route::check_accept(call.header(http::header::ACCEPT), everywhere)?;
    }
    let table = row.verbs.iter().any(|v| v == "list")
        && !matches!(info.subresource.as_str(), "binding" | "eviction" | "token");
    Ok(Target { row, built_in, table })
}

fn method_not_allowed() -> ApiError {
    ApiError::of_route(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    )
}

/// Kinds whose use is discouraged, with upstream's words. Upstream: `apiserver/pkg/endpoints/deprecation`.
fn warn_deprecated(call: &Call, row: &ResourceRow) {
    let text = match (row.gvk.group.as_str(), row.gvk.version.as_str(), row.gvk.kind.as_str()) {
        ("", "v1", "ComponentStatus") => "v1 ComponentStatus is deprecated in v1.19+",
        ("", "v1", "Endpoints") => {
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
        }
        _ => return,
    };
    call.warnings.add(text);
    call.audit.annotate("k8s.io/deprecated", "true");
}

async fn dispatch(server: &Arc<Server>, call: &Call, body: Upload) -> Result<Response, ApiError> {
    let target = find(server, call)?;
    warn_deprecated(call, &target.row);
    let verb = route::verb(&call.info);
    route::check_name(&call.info, verb)?;
    let span = span(call, verb);
    let work = act(server, call, &target, verb, body);
    let result = span.run(work).await;
    if result.is_err() && span.is_recording() {
        // Upstream makes the refusal a response below the verb; here the caller does, and it takes no time.
        let _current = span.enter();
        drop(spans::response("SerializeObject", call, negotiate::JSON));
    }
    result
}

/// The span of a verb. A watch has one when it begins with the objects there are. Upstream: endpoints/handlers.
fn span(call: &Call, verb: &str) -> Span {
    if !traces::is_on() {
        return Span::none();
    }
    let name = match verb {
        "get" => "Get",
        "list" => "List",
        "watch" if call.query.flag("sendInitialEvents") == Some(true) => "WatchList",
        "create" => "Create",
        "update" => "Update",
        "patch" => "Patch",
        "delete" | "deletecollection" => "Delete",
        _ => return Span::none(),
    };
    spans::verb(name, call)
}

async fn act(
    server: &Arc<Server>,
    call: &Call,
    target: &Target,
    verb: &str,
    body: Upload,
) -> Result<Response, ApiError> {
    match verb {
        "get" => get(server, call, target).await,
        "list" | "watch" => watch::list_or_watch(server, call, target).await,
        "create" => create(server, call, target, body).await,
        "update" => update(server, call, target, body).await,
        "patch" => patch(server, call, target, body).await,
        "delete" => delete::one(server, call, target, body).await,
        "deletecollection" => delete::collection(server, call, target, body).await,
        _ => Err(method_not_allowed()),
    }
}

/// A number of bytes, for a span.
fn bytes_of(bytes: &Bytes) -> Vec<traces::KeyValue> {
    vec![traces::KeyValue::new("len", i64::try_from(bytes.len()).unwrap_or(i64::MAX))]
}

/// The context of a request without write options.
fn context(call: &Call) -> RequestContext {
    RequestContext {
        user: call.user.clone(),
        info: call.info.clone(),
        dry_run: false,
        field_manager: String::new(),
        field_validation: Default::default(),
        user_agent: call.user_agent().to_owned(),
        audit_id: call.audit_id.clone(),
        warnings: call.warnings.clone(),
        audit: call.audit.clone(),
    }
}

fn write_context(call: &Call, write: Write) -> Result<(RequestContext, Option<bool>), ApiError> {
    let options = query::write_options(&call.query, write, call.user_agent())?;
    let context = RequestContext {
        dry_run: options.dry_run,
        field_manager: options.field_manager,
        field_validation: options.field_validation,
        ..context(call)
    };
    Ok((context, options.force))
}

/// Reads a whole body, up to the limit.
async fn read_body(server: &Server, body: Upload) -> Result<Bytes, ApiError> {
    let limit = server.limits.max_body_bytes;
    match Limited::new(body, limit).collect().await {
        Ok(collected) => {
            let bytes = collected.to_bytes();
            traces::http::read(bytes.len());
            traces::event("limitedReadBody succeeded", || bytes_of(&bytes));
            Ok(bytes)
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::request_entity_too_large(format!("limit is {limit}")))
        }
        Err(error) => Err(ApiError::bad_request(format!("failed to read the request body: {error}"))),
    }
}

async fn get(server: &Server, call: &Call, target: &Target) -> Result<Response, ApiError> {
    let output = negotiate::output(&call.parts.headers, &call.query, target.restrictions(), false)?;
    if call.query.flag("export") == Some(true) {
        let text = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(ApiError::bad_request(text));
    }
    traces::event("About to Get from storage", Vec::new);
    let object = server.registry.get(&context(call), &call.query.text("resourceVersion")).await?;
    encode::object(StatusCode::OK, call, &output, &object)
}

async fn create(server: &Server, call: &Call, target: &Target, body: Upload) -> Result<Response, ApiError> {
    let bytes = read_body(server, body).await?;
    let sent = bytes.clone();
    let output = negotiate::output(&call.parts.headers, &call.query, target.restrictions(), false)?;
    let media_type = negotiate::input(&call.parts.headers, target.built_in)?;
    let (context, _) = write_context(call, Write::Create)?;
    traces::event("About to store object in database", Vec::new);
    let written = server.registry.create(&context, Body { media_type, bytes }).await;
    let written = stored(&sent, written)?;
    encode::object(StatusCode::CREATED, call, &output, &written.object)
}

/// Tells the verb's span how a write ended.
fn stored(body: &Bytes, result: Result<Written, ApiError>) -> Result<Written, ApiError> {
    match &result {
        Ok(_) => traces::event("Write to database call succeeded", || bytes_of(body)),
        Err(error) => traces::event("Write to database call failed", || {
            let mut out = bytes_of(body);
            out.push(traces::KeyValue::new("err", traces::text(&error.message)));
            out
        }),
    }
    result
}

fn written(call: &Call, output: &negotiate::Output, written: &Written) -> Result<Response, ApiError> {
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    encode::object(code, call, output, &written.object)
}

async fn update(server: &Server, call: &Call, target: &Target, body: Upload) -> Result<Response, ApiError> {
    let bytes = read_body(server, body).await?;
    let sent = bytes.clone();
    let output = negotiate::output(&call.parts.headers, &call.query, target.restrictions(), false)?;
    let (context, _) = write_context(call, Write::Update)?;
    let media_type = negotiate::input(&call.parts.headers, target.built_in)?;
    traces::event("About to store object in database", Vec::new);
    let result = server.registry.update(&context, Body { media_type, bytes }).await;
    let result = stored(&sent, result)?;
    written(call, &output, &result)
}

async fn patch(server: &Server, call: &Call, target: &Target, body: Upload) -> Result<Response, ApiError> {
    let bytes = read_body(server, body).await?;
    let kind = negotiate::patch(&call.parts.headers, target.built_in)?;
    let output = negotiate::output(&call.parts.headers, &call.query, target.restrictions(), false)?;
    let write = if kind == registry::api::PatchType::Apply { Write::Apply } else { Write::Patch };
    let (context, force) = write_context(call, write)?;
    if write == Write::Patch && serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err() {
        return Err(ApiError::bad_request("invalid JSON patch"));
    }
    if call.audit.wants_request() {
        let json =
            if write == Write::Apply { machinery::yaml::to_json(&bytes).ok() } else { Some(bytes.to_vec()) };
        json.into_iter().for_each(|json| call.audit.request_document(json.into()));
    }
    let result = server.registry.patch(&context, registry::api::Patch { kind, bytes, force }).await?;
    traces::event("Object stored in database", Vec::new);
    written(call, &output, &result)
}
