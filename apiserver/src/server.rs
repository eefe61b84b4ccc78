//! The server's parts, shared by every request. Assembled once in `app`; immutable afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auth::{Authorizer, UserInfo};
use registry::api::{Registry, RequestInfo, Warnings};
use rustls_pki_types::CertificateDer;

use crate::chain::authenticate::Authentication;
use crate::chain::in_flight::InFlight;
use crate::endpoints::health::Health;
use crate::flowcontrol::controller::Controller;
use crate::flowcontrol::filter::Claim;
use crate::lifecycle::Lifecycle;
use crate::web::query::Query;

/// Limits and times that flags set.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `--request-timeout`
    pub request_timeout: Duration,
    /// `--min-request-timeout`: shortest watch when the client does not say.
    pub min_request_timeout: Duration,
    /// Largest request body. Upstream: `MaxRequestBodyBytes`, 3 MiB.
    pub max_body_bytes: usize,
    /// `--goaway-chance`
    pub goaway_chance: f64,
    /// `--strict-transport-security-directives`, joined.
    pub hsts: Option<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            max_body_bytes: 3 << 20,
            goaway_chance: 0.0,
            hsts: None,
        }
    }
}

/// What limits the requests that are handled at once.
pub enum Limiter {
    /// `--enable-priority-and-fairness`: seats, levels and queues.
    Flows(Arc<Controller>),
    /// Without it: two counts.
    Counts(InFlight),
}

/// Everything a request needs.
pub struct Server {
    /// The resources.
    pub registry: Arc<dyn Registry>,
    /// Who is asking.
    pub authentication: Authentication,
    /// What is recorded of it; `None` for nothing.
    pub auditor: Option<Arc<audit::Auditor>>,
    /// Where spans of requests go; `None` for nowhere.
    pub traces: Option<traces::Traces>,
    /// May they.
    pub authorizer: Arc<dyn Authorizer>,
    /// `--cors-allowed-origins`
    pub cors: crate::chain::cors::Cors,
    /// How many requests are handled at once.
    pub limiter: Limiter,
    /// Named health checks.
    pub health: Health,
    /// Pages that every daemon has: metrics, flags, status.
    pub pages: component::serving::mux::Mux,
    /// `host:port` that clients are told to use.
    pub advertise: String,
    /// `--feature-gates`
    pub gates: component::features::Gates,
    /// Connections to kubelets, pods and services.
    pub dialer: crate::connect::Dialer,
    /// Discovery of the service account issuer.
    pub openid: crate::endpoints::openid::OpenId,
    /// Other API servers behind this one.
    pub(crate) aggregator: Arc<crate::aggregator::Aggregator>,
    /// OpenAPI documents.
    pub openapi: crate::openapi::Documents,
    /// Limits and times.
    pub limits: Limits,
    /// Life stages.
    pub lifecycle: Lifecycle,
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    /// Certificates of the TLS handshake, leaf first, unverified.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// The last verified identity of this connection.
    pub(crate) verified: parking_lot::Mutex<Option<crate::chain::authenticate::CachedIdentity>>,
}

impl Connection {
    pub(crate) fn new(info: &component::serving::ConnInfo) -> Self {
        let certificates = info.tls.as_ref().map(|t| t.peer_certificates.clone()).unwrap_or_default();
        Self { peer: info.remote, certificates, verified: parking_lot::Mutex::default() }
    }
}

/// One request on its way through the chain.
pub(crate) struct Call {
    pub(crate) parts: http::request::Parts,
    pub(crate) query: Query,
    pub(crate) info: Arc<RequestInfo>,
    pub(crate) user: Arc<UserInfo>,
    pub(crate) audit_id: String,
    /// What is contributed to the audit event.
    pub(crate) audit: registry::audit::Audit,
    /// The audit event, of requests that are recorded.
    pub(crate) recorded: Option<Arc<crate::chain::audit::Open>>,
    pub(crate) started: Instant,
    pub(crate) warnings: Warnings,
    pub(crate) long_running: bool,
    /// Seats of a watch until its first events are sent.
    pub(crate) claim: Claim,
    pub(crate) deadline: Instant,
    pub(crate) connection: Arc<Connection>,
}

impl Call {
    /// A request header as text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// `User-Agent`.
    pub(crate) fn user_agent(&self) -> &str {
        self.header(http::header::USER_AGENT)
    }
}
