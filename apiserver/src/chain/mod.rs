//! The filter chain: every request passes these steps, in upstream's order.
//!
//! ```text
//! audit id → panic → request info → cache control, HSTS, GOAWAY → shutdown gate → deadline and timeout → warnings
//!   → CORS → authentication → audit → impersonation → priority and fairness → authorization → endpoint
//! ```
//! Upstream: `k8s.io/apiserver/pkg/server/config.go` `DefaultBuildHandlerChain`.
pub(crate) mod audit;
pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod cors;
mod deadline;
pub(crate) mod http_log;
pub(crate) mod impersonate;
pub(crate) mod in_flight;
pub(crate) mod spans;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName, RETRY_AFTER,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Body;
use hyper::body::Incoming;
use registry::api::{RequestInfo, Warnings};
use registry::audit::Layer;
use registry::errors::ApiError;

use crate::endpoints;
use crate::flowcontrol::filter;
use crate::lifecycle::{Asked, Refusal};
use crate::metrics::Labels;
use crate::server::{Call, Connection, Limiter, Server};
use crate::web::negotiate::JSON;
use crate::web::query::Query;
use crate::web::{Response, Upload, body, info, respond};

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Answers one request.
pub(crate) async fn serve(
    server: Arc<Server>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response {
    let audit_id = audit_id(&request);
    let path = request.uri().path().to_owned();
    // Panics are bugs, yet one request's bug must not take the process; the hook has logged where it happened.
    let guarded = AssertUnwindSafe(resolve(server, connection, request, audit_id.clone())).catch_unwind();
    let mut response = guarded.await.unwrap_or_else(|_| {
        tracing::error!(%path, audit_id, "request handler panicked");
        let text = "This request caused apiserver to panic. Look in the logs for details.";
        respond::plain(StatusCode::INTERNAL_SERVER_ERROR, text)
    });
    if let Ok(value) = HeaderValue::from_str(&audit_id) {
        response.headers_mut().insert(AUDIT_ID.clone(), value);
    }
    response
}

/// The client's `Audit-ID` (first 64 characters are meaningful upstream), or a new one.
fn audit_id(request: &Request<Incoming>) -> String {
    let sent = request.headers().get(&AUDIT_ID).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if sent.is_empty() { uuid::Uuid::new_v4().to_string() } else { sent.to_owned() }
}

/// Request info, headers common to all responses, shutdown gate, deadline.
async fn resolve(
    server: Arc<Server>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
    audit_id: String,
) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let body = Upload::new(body);
    if let Some(response) = refused_by_http(&parts) {
        return response;
    }
    let head = parts.method == Method::HEAD;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = match info::resolve(&parts.method, parts.uri.path(), &query) {
        Ok(info) => Arc::new(info),
        Err(error) => return internal(&parts.uri, format!("failed to create RequestInfo: {error}")),
    };
    let long_running = is_long_running(&info);
    let deadline = match deadline::of(&query, long_running, started, server.limits.request_timeout) {
        Ok(deadline) => deadline,
        Err(error) => return respond::error(&error, &parts.headers, &query),
    };
    let call = Call {
        parts,
        query,
        long_running,
        claim: Default::default(),
        info,
        user: Arc::default(),
        audit_id,
        audit: Default::default(),
        recorded: None,
        started,
        warnings: Warnings::default(),
        deadline,
        connection,
    };
    let apply = call.header(http::header::CONTENT_TYPE).starts_with("application/apply-patch");
    let dry_run = call.query.get("dryRun").is_some();
    let labels = Labels::of(&call.info, &call.parts.method, apply, dry_run);
    let http2 = call.parts.version == http::Version::HTTP_2;
    let warnings = call.warnings.clone();
    let line = http_log::Line::of(&call, labels.verb());
    let mut response = gate(&server, call, body).await;
    let headers = response.headers_mut();
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    if let Some(hsts) = server.limits.hsts.as_deref().and_then(|h| HeaderValue::from_str(h).ok()) {
        headers.insert("strict-transport-security", hsts);
    }
    if http2 && server.limits.goaway_chance > 0.0 && rand::random::<f64>() < server.limits.goaway_chance {
        // Go's HTTP/2 server turns this header into GOAWAY; so does `component::serving`.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    labels.finished(&response, started.elapsed(), long_running);
    if let Some(line) = line {
        response = line.finish(response);
    }
    if head {
        response = without_body(response);
    }
    let headers = response.headers_mut();
    for text in warnings.take() {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {}", quote(&text))) {
            headers.append("warning", value);
        }
    }
    response
}

/// A warning text as a quoted string. Upstream: `apimachinery/pkg/util/net.NewWarningHeader`.
fn quote(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", clean.replace('\\', r"\\").replace('"', "\\\""))
}

/// What Go's HTTP server answers before any handler: paths that do not decode, expectations nobody meets.
fn refused_by_http(parts: &Parts) -> Option<Response> {
    let expected = parts.headers.get(EXPECT).map_or(&b""[..], |v| v.as_bytes());
    let mut response = if !info::escapes_are_valid(parts.uri.path()) {
        respond::plain(StatusCode::BAD_REQUEST, "400 Bad Request")
    } else if !expected.is_empty() && !expected.eq_ignore_ascii_case(b"100-continue") {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::EXPECTATION_FAILED;
        response
    } else {
        return None;
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

/// The answer to `HEAD`: HTTP/2 would take its body for a violation of the protocol.
fn without_body(response: Response) -> Response {
    let length = response.body().size_hint().exact();
    let (mut parts, _) = response.into_parts();
    if let Some(length) = length.filter(|_| !parts.headers.contains_key(CONTENT_LENGTH)) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, body::empty())
}

/// Refuses new requests while draining, then runs the rest under the request's deadline.
async fn gate(server: &Arc<Server>, call: Call, body: Upload) -> Response {
    let asked = Asked {
        user_agent: call.user_agent(),
        path: call.parts.uri.path(),
        long_running: call.long_running,
        watch: matches!(call.info.verb.as_str(), "watch" | "watchlist"),
    };
    if let Some(refusal) = server.lifecycle.refuses(&asked) {
        return shutting_down(refusal);
    }
    let _open = (!call.long_running).then(|| server.lifecycle.requests.token());
    let (headers, query) = (call.parts.headers.clone(), call.query.clone());
    let long_running = call.long_running;
    let deadline = call.deadline;
    let work = admit(server.clone(), call, body);
    if long_running {
        return work.await;
    }
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| {
        let error = ApiError::timeout("request did not complete within the allotted timeout", 0);
        respond::error(&error, &headers, &query)
    })
}

/// Upstream: `WithRetryAfter`, `waitGroupWriteRetryAfterToResponse` of apiserver/pkg/server/filters.
fn shutting_down(refusal: Refusal) -> Response {
    match refusal {
        Refusal::TooManyRequests => {
            let text = "The apiserver is shutting down, please try again later.";
            let mut response = respond::plain(StatusCode::TOO_MANY_REQUESTS, text);
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        Refusal::Unavailable => {
            let mut json = ApiError::service_unavailable("apiserver is shutting down").to_json();
            while json.last() == Some(&b'\n') {
                json.pop();
            }
            json.extend_from_slice(b"\n\n");
            let mut response = Response::new(body::full(json));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
            response
        }
    }
}

/// Cross-origin requests: answers preflights, and tells browsers that they may show the rest.
async fn admit(server: Arc<Server>, call: Call, body: Upload) -> Response {
    let Some(origin) = server.cors.origin(&call.parts.headers) else {
        return identified(server, call, body).await;
    };
    let mut response = match cors::preflight(&call.parts.method) {
        Some(response) => response,
        None => identified(server, call, body).await,
    };
    cors::allow(&mut response, origin);
    response
}

/// Authentication, and the rest, in spans of their own if there are traces.
async fn identified(server: Arc<Server>, call: Call, body: Upload) -> Response {
    if server.traces.is_none() {
        return known(server, call, body).await;
    }
    // Boxed, so that requests without traces keep no room for it.
    let span = spans::authentication(&server);
    let work: BoxFuture<'static, Response> = Box::pin(known(server, call, body));
    span.run(work).await
}

/// Authentication, then the rest under the eyes of the auditor.
async fn known(server: Arc<Server>, mut call: Call, body: Upload) -> Response {
    let started = Instant::now();
    let Some(user) = server.authentication.authenticate(&mut call).await else {
        let error = ApiError::unauthorized();
        let response = respond::error(&error, &call.parts.headers, &call.query);
        let response = audit::with_status(response, error.to_json());
        return audit::unauthenticated(&server, &call, response).await;
    };
    let authentication = started.elapsed();
    call.user = user;
    let Some(traces) = &server.traces else {
        let rest = |call| permitted(server.clone(), call, body);
        return audit::recorded(&server, call, authentication, rest).await;
    };
    let span = spans::request(traces, &call);
    let work: BoxFuture<'_, Response> = Box::pin(traced(&server, call, body, authentication));
    let response = span.run(work).await;
    spans::end(response, span)
}

/// The rest under the eyes of the auditor, in the spans of the next two steps.
async fn traced(server: &Arc<Server>, call: Call, body: Upload, authentication: Duration) -> Response {
    let rest = |call| async move {
        let work = permitted(server.clone(), call, body);
        spans::step("constrainedimpersonation").run(work).await
    };
    spans::step("audit").run(audit::recorded(server, call, authentication, rest)).await
}

/// Impersonation, then the rest.
async fn permitted(server: Arc<Server>, mut call: Call, body: Upload) -> Response {
    if let Err(error) = impersonate::apply(&server, &mut call).await {
        return audit::error(&error, &call);
    }
    let span = spans::step("priorityandfairness");
    span.run(admitted(server, call, body)).await
}

/// Priority and fairness (or requests in flight), then the rest.
async fn admitted(server: Arc<Server>, call: Call, body: Upload) -> Response {
    match server.limiter {
        Limiter::Flows(ref controller) => match filter::enter(controller, &server, &call).await {
            Err(refused) => {
                let mut response = too_many(refused.retry_after);
                refused.mark().on(&mut response, None);
                response
            }
            Ok(None) => authorized(server, call, body).await,
            Ok(Some(admitted)) => {
                let mark = admitted.mark();
                let begun = Instant::now();
                let (mut response, ran) = if call.long_running {
                    call.claim.put(admitted);
                    (authorized(server, call, body).await, None)
                } else {
                    let response = authorized(server.clone(), call, body).await;
                    drop(admitted);
                    (response, Some(begun.elapsed()))
                };
                mark.on(&mut response, ran);
                response
            }
        },
        Limiter::Counts(ref counts) => {
            let Ok(_seat) = counts.enter(&call) else { return too_many(1) };
            authorized(server.clone(), call, body).await
        }
    }
}

fn too_many(retry_after: u64) -> Response {
    let text = "Too many requests, please try again later.";
    let mut response = respond::plain(StatusCode::TOO_MANY_REQUESTS, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

/// Authorization, endpoint, in a span of their own.
async fn authorized(server: Arc<Server>, call: Call, body: Upload) -> Response {
    spans::step("authorization").run(allowed(server, call, body)).await
}

/// Authorization, endpoint.
async fn allowed(server: Arc<Server>, call: Call, body: Upload) -> Response {
    match call.audit.timed(Layer::Authorization, authorize::check(&server, &call)).await {
        Ok(()) => endpoints::route(server.clone(), call, body).await,
        Err(authorize::Refusal::Forbidden(error)) => {
            let _span = spans::response("SerializeObject", &call, JSON);
            audit::error(&error, &call)
        }
        Err(authorize::Refusal::Failed(why)) => internal(&call.parts.uri, why),
    }
}

/// Upstream: `responsewriters.InternalError`.
fn internal(uri: &http::Uri, why: String) -> Response {
    let text = authorize::sanitize(&format!(
        "Internal Server Error: {:?}: {why}",
        uri.path_and_query().map_or("", |p| p.as_str())
    ));
    respond::plain(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Requests that may run as long as they like. Upstream: `controlplane/apiserver.BuildGenericConfig`,
/// `BasicLongRunningRequestCheck`.
fn is_long_running(info: &RequestInfo) -> bool {
    if matches!(info.verb.as_str(), "watch" | "proxy") {
        return true;
    }
    if info.is_resource_request {
        return matches!(info.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward");
    }
    info.path.starts_with("/debug/pprof/")
}
