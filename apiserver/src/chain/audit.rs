//! Records requests: an event when one is received, one when its response starts (long-running ones) and one when it
//! ends. What is recorded is the policy's to say; the crate `audit` writes it.
//!
//! The last event of a request that is not long-running is written before its answer. A request whose client went
//! away, and a stream, have theirs when the last of what serves them is dropped: see [`Open`].
//! Upstream: `k8s.io/apiserver/pkg/endpoints/filters/{audit,authn_audit}.go`, `pkg/audit/request.go`.

use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::event::{AuthenticationMetadata, ObjectReference, Status as EventStatus, User};
use audit::{Auditor, Event, Level, Settled, Stage};
use bytes::Bytes;
use component::duration::GoDuration;
use futures::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use registry::audit::{Audit, Layer};
use registry::errors::ApiError;
use serde_json::value::RawValue;

use super::authorize;
use crate::server::{Call, Server};
use crate::web::{Response, body, respond};

/// A `Status` that is the body of a response, as JSON; for the event, not for the client.
#[derive(Debug, Clone)]
pub(crate) struct StatusDocument(pub(crate) Bytes);

const MAX_USER_AGENT: usize = 1024;

/// A recorded request whose last event is still to come. Whatever serves the request keeps a clone; the last event is
/// made when it is said to be complete, or else when the last clone is dropped.
pub(crate) struct Open {
    auditor: Arc<Auditor>,
    settled: Settled,
    audit: Audit,
    event: Mutex<Event>,
    complete: std::sync::atomic::AtomicBool,
}

/// Runs the rest of the chain for an authenticated request, and records it.
pub(super) async fn recorded<F>(
    server: &Arc<Server>,
    mut call: Call,
    authentication: Duration,
    rest: impl FnOnce(Call) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let Some(open) = begin(server, &call, true) else { return rest(call).await };
    open.audit.took(Layer::Authentication, authentication);
    if !open.stage(Stage::RequestReceived).await {
        audit::rejected();
        return super::internal(&call.parts.uri, "failed to store audit event".to_owned());
    }
    call.audit = open.audit.clone();
    call.recorded = Some(open.clone());
    let long_running = call.long_running;
    let response = match AssertUnwindSafe(rest(call)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            open.panicked(&text.unwrap_or_else(|| "unknown".to_owned())).await;
            std::panic::resume_unwind(panic);
        }
    };
    open.answered(&response);
    if !long_running {
        open.complete().await;
        return response;
    }
    open.stage(Stage::ResponseStarted).await;
    response.map(|inner| body::held(inner, open))
}

/// Records a request that could not be authenticated.
pub(super) async fn unauthenticated(server: &Arc<Server>, call: &Call, response: Response) -> Response {
    let Some(open) = begin(server, call, false) else { return response };
    open.answered(&response);
    open.stage(Stage::ResponseStarted).await;
    // Nothing says more of it.
    open.complete.store(true, std::sync::atomic::Ordering::Release);
    response
}

/// The event of a request so far; `None` for requests that are not recorded.
fn begin(server: &Arc<Server>, call: &Call, authenticated: bool) -> Option<Arc<Open>> {
    let auditor = server.auditor.as_ref()?;
    let attributes = authorize::attributes(call);
    let user = authenticated.then_some(&*call.user);
    let settled = auditor.policy().evaluate(&attributes, user).cloned().unwrap_or_default();
    audit::observe_level(settled.level);
    if settled.level == Level::None {
        return None;
    }
    let level = settled.level;
    let audit = Audit::recording(
        level >= Level::Request,
        level >= Level::RequestResponse,
        settled.omit_managed_fields,
    );
    let event = Mutex::new(event(call, level, authenticated));
    Some(Arc::new(Open { auditor: auditor.clone(), settled, audit, event, complete: false.into() }))
}

fn event(call: &Call, level: Level, authenticated: bool) -> Event {
    let info = &call.info;
    let mut user_agent = call.user_agent().to_owned();
    if user_agent.len() > MAX_USER_AGENT {
        user_agent.truncate(user_agent.floor_char_boundary(MAX_USER_AGENT));
        user_agent.push_str("...TRUNCATED");
    }
    let object_ref = info.is_resource_request.then(|| ObjectReference {
        resource: info.resource.clone(),
        namespace: info.namespace.clone(),
        name: info.name.clone(),
        api_group: info.api_group.clone(),
        api_version: info.api_version.clone(),
        subresource: info.subresource.clone(),
        ..ObjectReference::default()
    });
    Event {
        level,
        audit_id: call.audit_id.clone(),
        stage: Stage::RequestReceived,
        request_uri: call.parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        verb: info.verb.clone(),
        user: if authenticated { User::from(&*call.user) } else { User::default() },
        impersonated_user: None,
        authentication_metadata: None,
        source_ips: source_ips(call),
        user_agent,
        object_ref,
        response_status: None,
        request_object: None,
        response_object: None,
        request_received_timestamp: received(call.started),
        stage_timestamp: Timestamp::now(),
        annotations: Default::default(),
    }
}

/// When the request came, by the wall clock.
fn received(started: Instant) -> Timestamp {
    let ago = jiff::SignedDuration::try_from(started.elapsed()).unwrap_or_default();
    Timestamp::now().checked_sub(ago).unwrap_or_else(|_| Timestamp::now())
}

/// Proxies that the request passed, and the peer. Upstream: `utilnet.SourceIPs`.
pub(super) fn source_ips(call: &Call) -> Vec<String> {
    let parse = |text: &str| text.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let mut ips: Vec<IpAddr> = call.header("x-forwarded-for").split(',').filter_map(parse).collect();
    if let Some(ip) = parse(call.header("x-real-ip")).filter(|ip| !ips.contains(ip)) {
        ips.push(ip);
    }
    let peer = call.connection.peer.ip().to_canonical();
    if ips.last() != Some(&peer) {
        ips.push(peer);
    }
    ips.iter().map(ToString::to_string).collect()
}

/// Where the time of a slow request went. Upstream: `writeLatencyToAnnotation`.
fn slow(total: Duration, layers: &[(&'static str, Duration)]) -> Vec<(String, String)> {
    const SLOW: Duration = Duration::from_millis(500);
    if total <= SLOW || layers.is_empty() {
        return Vec::new();
    }
    let all = layers.iter().copied().chain([("total", total)]);
    all.map(|(layer, time)| (format!("apiserver.latency.k8s.io/{layer}"), GoDuration::from(time).to_string()))
        .collect()
}

/// JSON as it goes into the event.
fn raw(json: &[u8], without_managed_fields: bool) -> Option<Arc<RawValue>> {
    let text = std::str::from_utf8(json).ok()?;
    let bare = without_managed_fields.then(|| audit::strip::without_managed_fields(text)).flatten();
    RawValue::from_string(bare.unwrap_or_else(|| text.to_owned())).ok().map(Arc::from)
}

fn status_of(response: &Response) -> Option<EventStatus> {
    response.extensions().get::<StatusDocument>().map(|d| EventStatus::of_document(&d.0))
}

impl Open {
    /// Notes the user that the request acts as, and the verb that allows it.
    pub(super) fn impersonated(&self, user: &auth::UserInfo, constraint: Option<String>) {
        let mut event = self.event.lock();
        event.impersonated_user = Some(User::from(user));
        event.authentication_metadata =
            constraint.map(|impersonation_constraint| AuthenticationMetadata { impersonation_constraint });
    }

    /// Notes the outcome.
    fn answered(&self, response: &Response) {
        let mut event = self.event.lock();
        let mut status = event.response_status.take().or_else(|| status_of(response)).unwrap_or_default();
        status.code = i32::from(response.status().as_u16());
        event.response_status = Some(status);
        if let Some(document) = response.extensions().get::<StatusDocument>() {
            self.audit.response_document(document.0.clone());
        }
    }

    /// The event as it stands, for a stage.
    fn at(&self, stage: Stage) -> Event {
        let recorded = self.audit.recorded();
        let mut event = self.event.lock().clone();
        event.stage = stage;
        event.stage_timestamp = match stage {
            Stage::RequestReceived => event.request_received_timestamp,
            _ => Timestamp::now(),
        };
        if let Some(sent) = recorded.sent {
            let known = event.object_ref.get_or_insert_default();
            let fill = |field: &mut String, value: String| {
                if field.is_empty() {
                    *field = value;
                }
            };
            fill(&mut known.namespace, sent.namespace);
            fill(&mut known.name, sent.name);
            fill(&mut known.uid, sent.uid);
            fill(&mut known.resource_version, sent.resource_version);
        }
        event.request_object = recorded.request_object.and_then(|json| raw(&json, false));
        let bare = self.audit.omits_managed_fields();
        event.response_object = recorded.response_object.and_then(|json| raw(&json, bare));
        event.annotations = recorded.annotations;
        if stage == Stage::ResponseComplete {
            let total = event.stage_timestamp.duration_since(event.request_received_timestamp);
            event.annotations.extend(slow(total.unsigned_abs(), &self.audit.latencies()));
        }
        event
    }

    async fn stage(&self, stage: Stage) -> bool {
        self.auditor.record(&self.settled, self.at(stage)).await
    }

    async fn complete(&self) {
        if !self.complete.swap(true, std::sync::atomic::Ordering::AcqRel) {
            self.stage(Stage::ResponseComplete).await;
        }
    }

    async fn panicked(&self, text: &str) {
        self.event.lock().response_status = Some(EventStatus {
            status: "Failure".to_owned(),
            message: format!("APIServer panic'd: {text}"),
            reason: "InternalError".to_owned(),
            code: 500,
            ..EventStatus::default()
        });
        self.complete.store(true, std::sync::atomic::Ordering::Release);
        self.stage(Stage::Panic).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if *self.complete.get_mut() {
            return;
        }
        // Nothing was answered: the client is gone, or the time is over.
        self.event.get_mut().response_status.get_or_insert_with(|| EventStatus {
            status: "Success".to_owned(),
            message: "Connection closed early".to_owned(),
            code: 200,
            ..EventStatus::default()
        });
        self.auditor.record_later(&self.settled, self.at(Stage::ResponseComplete));
    }
}

/// An error as the answer to a request.
pub(crate) fn error(error: &ApiError, call: &Call) -> Response {
    let response = respond::error(error, &call.parts.headers, &call.query);
    if call.audit.enabled() { with_status(response, error.to_json()) } else { response }
}

/// Puts a status beside the response whose body it is, so that the event can show it.
pub(crate) fn with_status(mut response: Response, document: impl Into<Bytes>) -> Response {
    response.extensions_mut().insert(StatusDocument(document.into()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_requests_say_where() {
        let millis = Duration::from_millis;
        let layers = [("etcd", millis(450)), ("authorization", Duration::from_nanos(1500))];
        assert!(slow(millis(500), &layers).is_empty());
        assert!(slow(millis(501), &[]).is_empty());
        let texts: Vec<String> = slow(millis(501), &layers).iter().map(|(k, v)| format!("{k}={v}")).collect();
        let prefix = "apiserver.latency.k8s.io";
        assert_eq!(
            texts,
            [
                format!("{prefix}/etcd=450ms"),
                format!("{prefix}/authorization=1.5µs"),
                format!("{prefix}/total=501ms")
            ]
        );
    }
}
