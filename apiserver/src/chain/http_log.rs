//! The line about a request at `-v=3`: `HTTP`, what was asked, how long it took, how it was classified, the outcome.
//!
//! Written when the answer is there; of long-running requests, when the last of the answer is. Not said: how long each
//! step of the chain took (`fl_*`), and stacks. Upstream: `k8s.io/apiserver/pkg/server/httplog/httplog.go`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::duration::GoDuration;
use flowcontrol::seats::Work;

use crate::flowcontrol::flow::Flow;
use crate::server::Call;
use crate::web::{Response, body};

/// Upstream: `withLoggingLevel`.
const LEVEL: i32 = 3;

/// How a request was classified, beside its response.
#[derive(Clone)]
pub(crate) struct Classified {
    pub(crate) flow: Arc<Flow>,
    pub(crate) work: Work,
    /// How long it ran; not known of watches.
    pub(crate) ran: Option<Duration>,
}

impl Classified {
    /// Leaves it for the line, if there is to be one.
    pub(crate) fn note(self, response: &mut Response) {
        if enabled() {
            response.extensions_mut().insert(self);
        }
    }
}

fn enabled() -> bool {
    component::logs::enabled(LEVEL, file!())
}

/// What is known before the request is handled.
pub(super) struct Line {
    verb: String,
    uri: String,
    started: Instant,
    user_agent: String,
    content_type: String,
    audit_id: String,
    peer: SocketAddr,
    long_running: bool,
    code: u16,
    classified: Option<Classified>,
}

impl Line {
    /// `None` when nothing is to be written.
    pub(super) fn of(call: &Call, verb: &str) -> Option<Self> {
        enabled().then(|| Self {
            verb: verb.to_owned(),
            uri: call.parts.uri.to_string(),
            started: call.started,
            user_agent: call.user_agent().to_owned(),
            content_type: call.header(http::header::CONTENT_TYPE).to_owned(),
            audit_id: call.audit_id.clone(),
            peer: call.connection.peer,
            long_running: call.long_running,
            code: 0,
            classified: None,
        })
    }

    /// Writes it, now or when the response ends.
    pub(super) fn finish(mut self, mut response: Response) -> Response {
        self.code = response.status().as_u16();
        self.classified = response.extensions_mut().remove::<Classified>();
        if self.long_running {
            return response.map(|inner| body::held(inner, AtEnd(self)));
        }
        self.write();
        response
    }

    fn write(&self) {
        let classified = self.classified.as_ref();
        let time = |time: Duration| GoDuration::from(time).to_string();
        component::v!(
            LEVEL,
            verb = self.verb,
            URI = self.uri,
            latency = time(self.started.elapsed()),
            userAgent = self.user_agent,
            contentType = self.content_type,
            "audit-ID" = self.audit_id,
            srcIP = %self.peer,
            apf_pl = classified.map(|c| c.flow.level.name.as_str()),
            apf_fs = classified.map(|c| c.flow.spec.name.as_str()),
            apf_iseats = classified.map(|c| c.work.initial),
            apf_fseats = classified.map(|c| c.work.last),
            apf_additionalLatency = classified.map(|c| time(c.work.linger)),
            apf_execution_time = classified.and_then(|c| c.ran).map(time),
            resp = self.code,
            "HTTP"
        );
    }
}

/// A line that is written when it is dropped, which the response's body does at its end.
struct AtEnd(Line);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.write();
    }
}
