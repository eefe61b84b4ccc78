//! One HTTP GET to a container, for probes and hooks.
//!
//! Certificates are not checked: the kubelet cannot know the container's authority, and nothing secret is sent.
//! Upstream: pkg/probe/http and pkg/kubelet/lifecycle/handlers.go, v1.37.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Most of an answer's body that is read.
const BODY_LIMIT: usize = 10 << 10;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The beginning of the body.
    pub body: String,
    /// Where a redirect leads.
    pub location: Option<String>,
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Port(String),
    #[error("Get {url:?}: {reason}")]
    Failed { url: String, reason: String },
    #[error("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Timeout { url: String },
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainAnswer { url: String },
}

/// Number of a port that is given by number or by the name of one of the container's ports.
///
/// # Errors
/// If there is no such port, or the number is out of range.
pub fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, Error> {
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            match named {
                Some(port) => i64::from(port.container_port),
                None => name.parse().map_err(|_| {
                    Error::Port(format!("couldn't find port: {name:?} in {:?}", container.name))
                })?,
            }
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| Error::Port(format!("invalid port number: {number}")))
}

/// A request ready to be sent.
#[derive(Clone, Debug)]
pub struct Get {
    /// `http` or `https`.
    pub scheme: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers, in the user's order.
    pub headers: Vec<(String, String)>,
}

impl Get {
    /// From the API's form. `kind` names the asker in the user agent (`probe`, `lifecycle`).
    ///
    /// # Errors
    /// If the port is unknown.
    pub fn new(
        action: &HTTPGetAction,
        container: &Container,
        pod_ip: &str,
        kind: &str,
    ) -> Result<Self, Error> {
        let port = resolve_port(&action.port, container)?;
        let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        let path = action.path.clone().unwrap_or_default();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let mut headers: Vec<(String, String)> =
            action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
        let has = |headers: &[(String, String)], name: &str| {
            headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        if !has(&headers, "user-agent") {
            headers.push(("User-Agent".into(), format!("kube-{kind}/1.37")));
        }
        if !has(&headers, "accept") {
            headers.push(("Accept".into(), "*/*".into()));
        }
        // An empty value means: do not send it at all.
        headers.retain(|(name, value)| {
            !(value.is_empty() && matches!(name.to_ascii_lowercase().as_str(), "accept" | "user-agent"))
        });
        let scheme = action.scheme.clone().unwrap_or_else(|| "HTTP".into()).to_lowercase();
        Ok(Self { scheme, host, port, path, headers })
    }

    /// The address.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, address(&self.host, self.port), self.path)
    }

    /// Sends the request and reads the beginning of the answer.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub async fn send(&self, limit: Duration) -> Result<Answer, Error> {
        match tokio::time::timeout(limit, self.exchange()).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { url: self.url() }),
        }
    }

    async fn exchange(&self) -> Result<Answer, Error> {
        let failed = |reason: String| Error::Failed { url: self.url(), reason };
        let host = self.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.port)).await.map_err(|e| {
            failed(format!("dial tcp {}: connect: {}", address(host, self.port), io_text(&e)))
        })?;
        if self.scheme != "https" {
            return self.over(stream).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|e| failed(e.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(TLS.clone());
        let stream = connector.connect(name, stream).await.map_err(|e| {
            // The first bytes of a plain answer are no record of the protocol.
            if e.to_string().contains("InvalidContentType") {
                Error::PlainAnswer { url: self.url() }
            } else {
                failed(e.to_string())
            }
        })?;
        self.over(stream).await
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Answer, Error> {
        let failed = |reason: String| Error::Failed { url: self.url(), reason };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(e.to_string()))?;
        let exchange = async {
            let mut request = http::Request::builder().method("GET").uri(&self.path);
            let mut host_given = false;
            for (name, value) in &self.headers {
                host_given |= name.eq_ignore_ascii_case("host");
                request = request.header(name, value);
            }
            if !host_given {
                request = request.header("Host", address(self.host.trim_matches(['[', ']']), self.port));
            }
            let request = request
                .header("Connection", "close")
                .body(Empty::<Bytes>::new())
                .map_err(|e| failed(e.to_string()))?;
            let answer = sender.send_request(request).await.map_err(|e| failed(error_text(&e)))?;
            let status = answer.status().as_u16();
            let location = answer.headers().get("location").and_then(|v| v.to_str().ok()).map(str::to_owned);
            // A longer body is cut off; its size is the container's choice.
            let body = match Limited::new(answer.into_body(), BODY_LIMIT).collect().await {
                Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
                Err(_) => String::new(),
            };
            Ok(Answer { status, body, location })
        };
        tokio::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        let mut closed = false;
        loop {
            tokio::select! {
                answer = &mut exchange => return answer,
                _ = &mut connection, if !closed => closed = true,
            }
        }
    }
}

/// Host and port as they stand in an address.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The words that Go uses for common errors; users search for them.
pub fn io_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "connection refused".into(),
        Some(libc::EHOSTUNREACH) => "no route to host".into(),
        Some(libc::ENETUNREACH) => "network is unreachable".into(),
        Some(libc::ETIMEDOUT) => "connection timed out".into(),
        _ => error.to_string(),
    }
}

fn error_text(error: &hyper::Error) -> String {
    if error.is_incomplete_message() { "EOF".to_owned() } else { error.to_string() }
}

static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = client::tls::provider();
    let verifier = client::tls::AcceptAny::new(provider.clone());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
        .expect("the provider supports both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
});
