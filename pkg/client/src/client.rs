//! The client: sends requests with credentials, rate limit, retries and time limit, and turns failures into errors.
//!
//! Retries follow client-go: an answer 429 or 5xx with `Retry-After` is tried again for every method (the server did not
//! act), a lost connection only for GET. Upstream: client-go/rest (request.go, with_retry.go).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request as HttpRequest, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::config::{Config, ConfigError};
use crate::error::{Error, Result, generic_status};
use crate::identity::{Identity, header};
use crate::limiter::RateLimiter;
use crate::metrics;
use crate::spans::Tracer;
use crate::transport::{Body, Transport, TransportError};

/// Upstream: client-go/rest NewRequest, maxRetries.
const MAX_RETRIES: u32 = 10;
/// Pause after a lost connection, in seconds; upstream pretends that the server asked for one.
const LOST_RETRY_SECS: u64 = 1;
/// More than any list that a daemon can use: a bound against broken or hostile servers.
const MAX_BODY: usize = 1 << 31;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Calls per second; 0 means 5, negative means no limit (as client-go).
    pub qps: f32,
    /// Calls in a row; 0 means 10.
    pub burst: u32,
    /// `User-Agent`; see [`user_agent`].
    pub user_agent: String,
    /// Limit of a whole call, none for watches; zero means no limit.
    pub timeout: Duration,
    /// Media type for objects; JSON where the server or a kind has nothing else.
    pub content_type: ContentType,
}

/// Wire format of typed objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`.
    Json,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            qps: 0.0,
            burst: 0,
            user_agent: user_agent("corten", "v1.37.2", "unknown"),
            timeout: Duration::ZERO,
            content_type: crate::codec::DEFAULT,
        }
    }
}

/// `name/version (os/arch) kubernetes/commit`, as every upstream component says.
/// Upstream: client-go/rest/config.go buildUserAgent.
pub fn user_agent(component: &str, version: &str, commit: &str) -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let commit: String = commit.chars().take(7).collect();
    format!("{component}/{version} ({}/{arch}) kubernetes/{commit}", std::env::consts::OS)
}

/// A call, before credentials and retries.
#[derive(Debug, Clone)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Path and query.
    pub url: String,
    /// Value of `Accept`.
    pub accept: Cow<'static, str>,
    /// Media type of the body, "" if there is none.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// Additional headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Time limit of this call; `None` takes the client's.
    pub timeout: Option<Duration>,
    /// Watches are neither limited in rate nor compressed.
    pub streaming: bool,
}

impl Request {
    /// A request without body that accepts JSON.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            accept: "application/json".into(),
            content_type: "",
            body: Bytes::new(),
            headers: Vec::new(),
            timeout: None,
            streaming: false,
        }
    }

    /// A GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.content_type = content_type;
        self.body = body.into();
        self
    }
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body, uncompressed.
    pub body: Bytes,
}

impl Answer {
    /// Media type of the body, without parameters.
    pub fn media_type(&self) -> &str {
        let value = self.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        value.split(';').next().unwrap_or("").trim()
    }
}

struct Shared {
    transport: Transport,
    prefix: String,
    identity: Identity,
    namespace: String,
    gzip: bool,
    host: String,
}

/// A server, seen by one component. Cloning is cheap; clones share connections and rate limit.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    limiter: Option<Arc<RateLimiter>>,
    user_agent: HeaderValue,
    timeout: Duration,
    content_type: ContentType,
    tracer: Option<Tracer>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.shared.host)
    }
}

impl Client {
    /// Checks the configuration; connects when the first call is made.
    pub fn new(config: Config, options: Options) -> Result<Self, ConfigError> {
        let uri: http::Uri = config
            .server
            .parse()
            .map_err(|e| ConfigError::Invalid(format!("server URL {:?}: {e}", config.server)))?;
        let identity = Identity::new(&config)?;
        let transport = Transport::new(&config, &uri, identity.client_cert().cloned())?;
        let loopback = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let shared = Shared {
            host: transport.server().to_string(),
            transport,
            prefix: uri.path().trim_end_matches('/').to_string(),
            identity,
            namespace: config.namespace.clone(),
            // Between neighbours compression costs both sides more than it saves.
            gzip: !config.disable_compression && !loopback,
        };
        Ok(Self {
            shared: Arc::new(shared),
            limiter: limiter(&options),
            user_agent: header(&options.user_agent, "user agent")?,
            timeout: options.timeout,
            content_type: options.content_type,
            tracer: None,
        })
    }

    /// A client whose requests are told as spans; so are those of all clients made of it.
    #[must_use]
    pub fn traced(&self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self.clone() }
    }

    /// The same connections with other limits and another name: one daemon's clients share what can be shared.
    pub fn with_options(&self, options: &Options) -> Result<Self, ConfigError> {
        Ok(Self {
            shared: self.shared.clone(),
            limiter: limiter(options),
            user_agent: header(&options.user_agent, "user agent")?,
            timeout: options.timeout,
            content_type: options.content_type,
            tracer: self.tracer.clone(),
        })
    }

    /// A client whose user agent ends in `/suffix`, with a rate limit of its own switched off or kept.
    /// Upstream: client-go/rest AddUserAgent.
    #[must_use]
    pub fn named(&self, suffix: &str) -> Self {
        let mut copy = self.clone();
        let text = format!("{}/{suffix}", self.user_agent.to_str().unwrap_or(""));
        if let Ok(value) = HeaderValue::from_str(&text) {
            copy.user_agent = value;
        }
        copy
    }

    /// A client whose calls are limited to `timeout` each.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Default namespace of the configuration, "" if none.
    pub fn default_namespace(&self) -> &str {
        &self.shared.namespace
    }

    /// `host:port` of the server.
    pub fn server(&self) -> &str {
        &self.shared.host
    }

    /// Format for typed objects.
    pub(crate) fn content_type(&self) -> ContentType {
        self.content_type
    }

    /// Closes all connections, so that the next calls authenticate anew.
    pub fn close_connections(&self) {
        self.shared.transport.close_all();
    }

    /// Makes a call and reads the whole answer; a failure of the server is an error.
    pub async fn call(&self, request: &Request) -> Result<Answer> {
        let limit = request.timeout.unwrap_or(self.timeout);
        if limit.is_zero() {
            return self.call_unlimited(request).await;
        }
        tokio::time::timeout(limit, self.call_unlimited(request)).await.unwrap_or_else(|_| {
            Err(Error::Timeout { verb: request.method.to_string(), url: request.url.clone(), after: limit })
        })
    }

    async fn call_unlimited(&self, request: &Request) -> Result<Answer> {
        let mut attempt = 0;
        loop {
            let response = self.open(request, &mut attempt).await?;
            let (parts, body) = response.into_parts();
            match collect(body, &parts.headers).await {
                Ok(body) => return Ok(Answer { status: parts.status, headers: parts.headers, body }),
                Err(Broken::Lost(_)) if request.method == Method::GET && attempt < MAX_RETRIES => {
                    attempt += 1;
                    tokio::time::sleep(Duration::from_secs(LOST_RETRY_SECS)).await;
                }
                Err(Broken::Lost(reason)) => return Err(lost(request, reason)),
                Err(Broken::Malformed(reason)) => {
                    return Err(Error::Decode { what: request.url.clone(), reason });
                }
            }
        }
    }

    /// Makes a call and hands back the body as it comes in; a failure of the server is an error.
    /// The client's time limit does not apply. The stream ends when the last clone of the client is dropped.
    pub async fn stream(&self, request: &Request) -> Result<Response<Body>> {
        self.open(request, &mut 0).await
    }

    /// Sends, and again while upstream's rules allow it, until there is a successful head.
    async fn open(&self, request: &Request, attempt: &mut u32) -> Result<Response<Body>> {
        loop {
            if let Some(limiter) = self.limiter.as_ref().filter(|_| !request.streaming) {
                let waited = limiter.wait().await;
                metrics::get().rate_limited(request.method.as_str(), &self.shared.host, waited);
            }
            let response = match self.once(request).await {
                Ok(response) => response,
                Err(e) => {
                    let again = request.method == Method::GET && !request.streaming && *attempt < MAX_RETRIES;
                    if !(again && matches!(e, Error::Transport { .. })) {
                        return Err(e);
                    }
                    *attempt += 1;
                    metrics::get().retried(&self.shared.host, request.method.as_str(), "<error>");
                    tokio::time::sleep(Duration::from_secs(LOST_RETRY_SECS)).await;
                    continue;
                }
            };
            if response.status().is_success() {
                return Ok(response);
            }
            if let Some(pause) = retry_after(&response).filter(|_| *attempt < MAX_RETRIES) {
                *attempt += 1;
                metrics::get().retried(
                    &self.shared.host,
                    request.method.as_str(),
                    response.status().as_str(),
                );
                drop(response);
                tokio::time::sleep(pause).await;
                continue;
            }
            return Err(self.failure(request, response).await);
        }
    }

    /// Makes a call once and hands back the answer as it comes in, a failure of the server included.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn once(&self, request: &Request) -> Result<Response<Body>> {
        let mut http = self.build(request).await?;
        let mut span = self.tracer.as_ref().map(|tracer| {
            let url = format!("{}://{}{}", self.shared.transport.scheme(), self.shared.host, http.uri());
            tracer(&request.method, &url, http.headers_mut())
        });
        let started = tokio::time::Instant::now();
        let result = self.shared.transport.send(http).await;
        let verb = request.method.as_str();
        metrics::get().latency(verb, &self.shared.host, started.elapsed());
        match result {
            Ok(response) => {
                metrics::get().result(response.status().as_str(), verb, &self.shared.host);
                if response.status() == StatusCode::UNAUTHORIZED {
                    self.shared.identity.refused();
                }
                if let Some(span) = &mut span {
                    span.answered(response.status().as_u16());
                }
                Ok(response.map(|body| body.spanned(span)))
            }
            Err(e) => {
                metrics::get().result("<error>", verb, &self.shared.host);
                let error = self.transport_error(request, e);
                if let Some(span) = &mut span {
                    span.failed(&error.to_string());
                }
                Err(error)
            }
        }
    }

    fn transport_error(&self, request: &Request, e: TransportError) -> Error {
        match e {
            TransportError::Connect(reason) => Error::Connect {
                verb: request.method.to_string(),
                url: request.url.clone(),
                server: self.shared.host.clone(),
                reason,
            },
            TransportError::Lost(reason) => lost(request, reason),
        }
    }

    /// Sends a request that asks for a protocol switch, over a HTTP/1.1 connection of its own. An answer other than
    /// 101 is an error.
    pub async fn upgrade(&self, request: &Request) -> Result<(http::HeaderMap, hyper::upgrade::Upgraded)> {
        let http = self.build(request).await?;
        let sent = self.shared.transport.send_upgrade(http).await;
        let response = sent.map_err(|e| self.transport_error(request, e))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let code = response.status().as_u16();
            let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            return Err(Error::Api(Box::new(status_of(code, request.method.as_str(), "", &body, None))));
        }
        let headers = response.headers().clone();
        let io =
            hyper::upgrade::on(response).await.map_err(|e| lost(request, crate::transport::describe(&e)))?;
        Ok((headers, io))
    }

    async fn failure(&self, request: &Request, response: Response<Body>) -> Error {
        let (parts, body) = response.into_parts();
        let retry = retry_seconds(&parts.headers);
        let body = collect(body, &parts.headers).await.unwrap_or_default();
        let media = parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let status = status_of(parts.status.as_u16(), request.method.as_str(), media, &body, retry);
        Error::Api(Box::new(status))
    }

    async fn build(&self, request: &Request) -> Result<HttpRequest<Bytes>> {
        let uri = match self.shared.prefix.as_str() {
            "" => request.url.clone(),
            prefix => format!("{prefix}{}", request.url),
        };
        let mut http = HttpRequest::builder()
            .method(request.method.clone())
            .uri(uri)
            .body(request.body.clone())
            .map_err(|e| Error::Invalid(format!("{} {}: {e}", request.method, request.url)))?;
        let headers = http.headers_mut();
        headers.insert(http::header::USER_AGENT, self.user_agent.clone());
        let accept = match &request.accept {
            Cow::Borrowed(text) => HeaderValue::from_static(text),
            Cow::Owned(text) => {
                HeaderValue::from_str(text).map_err(|e| Error::Invalid(format!("accept {text:?}: {e}")))?
            }
        };
        headers.insert(http::header::ACCEPT, accept);
        if self.shared.gzip && !request.streaming {
            headers.insert(http::header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if !request.content_type.is_empty() {
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(request.content_type));
        }
        self.shared.identity.apply(headers).await?;
        for (name, value) in &request.headers {
            headers.append(name.clone(), value.clone());
        }
        Ok(http)
    }
}

fn lost(request: &Request, reason: String) -> Error {
    Error::Transport { verb: request.method.to_string(), url: request.url.clone(), reason }
}

fn limiter(options: &Options) -> Option<Arc<RateLimiter>> {
    let qps = if options.qps == 0.0 { 5.0 } else { options.qps };
    let burst = if options.burst == 0 { 10 } else { options.burst };
    (qps > 0.0).then(|| Arc::new(RateLimiter::new(f64::from(qps), burst)))
}

fn retry_seconds(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// Upstream: client-go/rest checkWait and retryAfterSeconds.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let status = response.status();
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
        return None;
    }
    retry_seconds(response.headers()).map(Duration::from_secs)
}

/// The `Status` of a failed answer: the server's own, if it sent one.
fn status_of(code: u16, verb: &str, media: &str, body: &[u8], retry: Option<u64>) -> Status {
    let parsed = crate::codec::status(media, body).filter(|s| s.status.as_deref() == Some("Failure"));
    match parsed {
        Some(mut status) => {
            if status.code.unwrap_or(0) == 0 {
                status.code = Some(i32::from(code));
            }
            status
        }
        None => {
            let text: String = String::from_utf8_lossy(body).trim().chars().take(2048).collect();
            generic_status(code, verb, &text, retry)
        }
    }
}

enum Broken {
    Lost(String),
    Malformed(String),
}

async fn collect(body: Body, headers: &http::HeaderMap) -> Result<Bytes, Broken> {
    let limited = http_body_util::Limited::new(body, MAX_BODY);
    // A body of one part is not copied.
    let bytes =
        limited.collect().await.map_err(|e| Broken::Lost(crate::transport::describe(&*e)))?.to_bytes();
    let gzip = headers.get(http::header::CONTENT_ENCODING).is_some_and(|v| v.as_bytes() == b"gzip");
    if !gzip {
        return Ok(bytes);
    }
    use std::io::Read;
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(4).min(MAX_BODY));
    let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]).take(MAX_BODY as u64);
    reader.read_to_end(&mut out).map_err(|e| Broken::Malformed(format!("gzip: {e}")))?;
    Ok(out.into())
}
