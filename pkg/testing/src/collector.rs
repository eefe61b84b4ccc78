//! A collector of traces in the process: an OTLP server that keeps what it is sent.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as Wire;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status};

/// How long a test waits for spans.
const PATIENCE: Duration = Duration::from_secs(20);

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span {
    /// `key=value` of the process, in order of the alphabet.
    pub resource: Vec<String>,
    /// What made it.
    pub scope: String,
    /// `internal`, `server`, `client`.
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// Trace, id and parent's id in hexadecimal; "" for no parent.
    pub trace: String,
    /// Id.
    pub id: String,
    /// The parent's id.
    pub parent: String,
    /// `key=value`.
    pub attributes: Vec<String>,
    /// Names of events.
    pub events: Vec<String>,
    /// `trace/id` of links.
    pub links: Vec<String>,
    /// `unset`, `ok`, or `error: text`.
    pub status: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn shown(attributes: &[KeyValue]) -> Vec<String> {
    let value = |kv: &KeyValue| match kv.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|kv| format!("{}={}", kv.key, value(kv))).collect()
}

impl Span {
    fn of(resource: &[String], scope: &str, wire: &Wire) -> Self {
        let status = wire.status.clone().unwrap_or_default();
        Self {
            resource: resource.to_vec(),
            scope: scope.to_owned(),
            kind: match wire.kind {
                1 => "internal",
                2 => "server",
                3 => "client",
                _ => "other",
            },
            name: wire.name.clone(),
            trace: hex(&wire.trace_id),
            id: hex(&wire.span_id),
            parent: hex(&wire.parent_span_id),
            attributes: shown(&wire.attributes),
            events: wire.events.iter().map(|e| e.name.clone()).collect(),
            links: wire.links.iter().map(|l| format!("{}/{}", hex(&l.trace_id), hex(&l.span_id))).collect(),
            status: match status.code {
                0 => "unset".to_owned(),
                1 => "ok".to_owned(),
                _ => format!("error: {}", status.message),
            },
        }
    }

    /// The keys of its attributes, in order of the alphabet.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> =
            self.attributes.iter().filter_map(|kv| kv.split_once('=').map(|(key, _)| key)).collect();
        keys.sort_unstable();
        keys
    }
}

#[derive(Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<Span>>>,
    news: Arc<Notify>,
}

impl Kept {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = TraceServiceServer::new(self);
        let answer = service_fn(move |request| service.clone().call(request));
        let connection =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
        // A client that leaves is no error of the test.
        let _ = connection.await;
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock();
        for of_resource in request.into_inner().resource_spans {
            let mut resource = of_resource.resource.map(|r| shown(&r.attributes)).unwrap_or_default();
            resource.sort_unstable();
            for of_scope in of_resource.scope_spans {
                let scope = of_scope.scope.map(|s| s.name).unwrap_or_default();
                spans.extend(of_scope.spans.iter().map(|span| Span::of(&resource, &scope, span)));
            }
        }
        drop(spans);
        self.news.notify_waiters();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A running collector; it ends when it is dropped.
pub struct Collector {
    /// Where it listens, as a tracing configuration names it.
    pub endpoint: String,
    kept: Kept,
    task: AbortHandle,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    /// Listens on a free port of this host.
    ///
    /// # Panics
    /// Without a port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = listener.local_addr().expect("an address").to_string();
        let kept = Kept::default();
        let service = kept.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(service.clone().serve(stream));
            }
        });
        Self { endpoint, kept, task: task.abort_handle() }
    }

    /// Listens on a socket.
    ///
    /// # Panics
    /// If the socket cannot be made.
    pub fn on_socket(path: &std::path::Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let kept = Kept::default();
        let service = kept.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(service.clone().serve(stream));
            }
        });
        Self { endpoint: format!("unix://{}", path.display()), kept, task: task.abort_handle() }
    }

    /// What has come so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().clone()
    }

    /// What has come once it is enough.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn until(&self, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let waiting = async {
            loop {
                let news = self.kept.news.notified();
                tokio::pin!(news);
                // Before the look, so that nothing is missed between it and the wait.
                news.as_mut().enable();
                let spans = self.spans();
                if enough(&spans) {
                    return spans;
                }
                news.await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, waiting).await.ok();
        came.unwrap_or_else(|| unreachable!("spans did not come; there are {:#?}", self.spans()))
    }
}
