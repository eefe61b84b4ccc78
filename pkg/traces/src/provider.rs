//! The exporter's start and end, and the spans that begin without another one around them.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Poller, Poll};
use std::time::{Duration, SystemTime};

use http::Uri;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::export::{Bounded, QUEUE, Queue, Reporting};
use crate::span::{self, Scope, Span};
use crate::{Configuration, Target, propagate};

/// How long one connection attempt and one batch may take. Upstream: `DefaultTimeout` of otlptracegrpc.
const CONNECT: Duration = Duration::from_secs(5);
const SEND: Duration = Duration::from_secs(10);
/// Where the collector is when nothing says otherwise.
const DEFAULT: &str = "localhost:4317";

/// Why traces cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The endpoint names no server.
    #[error("tracing: {0}")]
    Endpoint(String),
    /// The exporter refuses what it is told, by the environment for instance.
    #[error("tracing: exporting to {0}")]
    Exporter(String, #[source] opentelemetry_otlp::ExporterBuildError),
}

/// Whether this process has ever started traces: what all spans but these look at first.
pub(crate) static ON: AtomicBool = AtomicBool::new(false);

/// The traces of one daemon. Clones share the queue.
#[derive(Clone)]
pub struct Traces(Arc<Inner>);

pub(crate) struct Inner {
    provider: SdkTracerProvider,
    tracers: [SdkTracer; Scope::ALL.len()],
    queue: Arc<Queue>,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traces")
    }
}

impl Traces {
    /// Starts the exporter, with what every span says of this process. Must be called in the runtime; connects when there is
    /// something to send.
    ///
    /// # Errors
    /// The endpoint cannot be used.
    pub fn start(config: &Configuration, resource: &[(&'static str, &str)]) -> Result<Self, StartError> {
        let endpoint = config.endpoint.clone();
        let mut exporter = SpanExporter::builder().with_tonic();
        if let Some(endpoint) = &endpoint {
            exporter = exporter.with_channel(channel(endpoint).map_err(StartError::Endpoint)?);
        }
        let collector = endpoint.unwrap_or_else(|| DEFAULT.to_owned());
        let exporter = exporter.build().map_err(|e| StartError::Exporter(collector.clone(), e))?;
        let queue = Arc::new(Queue::default());
        let exporter = Reporting::new(exporter, queue.clone(), collector);
        let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        let inner = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        // What is told of the process itself goes before what the environment adds, as upstream; nothing else is told.
        let attributes = resource.iter().map(|(key, value)| KeyValue::new(*key, (*value).to_owned()));
        let resource = Resource::builder_empty()
            .with_detector(Box::new(EnvResourceDetector::new()))
            .with_attributes(attributes)
            .build();
        let own = match config.ratio() {
            none if none <= 0.0 => Sampler::AlwaysOff,
            ratio => Sampler::TraceIdRatioBased(ratio),
        };
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(own)))
            .with_span_processor(Bounded { inner, queue: queue.clone() })
            .with_resource(resource)
            .build();
        let tracers = Scope::ALL.map(|scope| provider.tracer(scope.name()));
        ON.store(true, Ordering::Relaxed);
        Ok(Self(Arc::new(Inner { provider, tracers, queue })))
    }

    /// Sends what waits, for at most `limit`, and ends the exporter.
    pub async fn finish(&self, limit: Duration) {
        let provider = self.0.provider.clone();
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit)).await;
        let (dropped, lost) = self.0.queue.losses();
        match ended {
            Ok(Ok(())) if dropped + lost == 0 => {}
            Ok(Ok(())) => tracing::warn!(dropped, lost, "Some traces were not sent"),
            Ok(Err(error)) => {
                tracing::warn!(err = %error, dropped, lost, "Traces could not be sent to the end")
            }
            Err(error) => tracing::error!(err = %error, "failed to shut down tracer provider"),
        }
    }

    /// Spans dropped because the queue was full, and spans that the collector did not take.
    pub fn losses(&self) -> (u64, u64) {
        self.0.queue.losses()
    }

    /// Work that nothing else began: the root of a trace.
    pub fn work(
        &self,
        scope: Scope,
        name: impl Into<Cow<'static, str>>,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Span {
        let builder = SpanBuilder::from_name(name).with_attributes(attributes());
        self.begin(&self.empty(), scope, builder)
    }

    /// A call to another server: below the current span, or the root of a trace.
    pub fn call(
        &self,
        scope: Scope,
        name: impl Into<Cow<'static, str>>,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Span {
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Client).with_attributes(attributes());
        Context::map_current(|current| match current.get::<Traces>() {
            Some(_) => self.begin(current, scope, builder),
            None => self.begin(&self.empty(), scope, builder),
        })
    }

    /// A request that came in at `began`. Below the client's span, when `trusted` and the headers name one, or below the
    /// current one; that of a client that is not trusted is only linked to.
    /// Upstream: otelhttp `serveHTTP` with `WithPublicEndpointFn`.
    pub fn request(&self, incoming: Incoming<'_>) -> Span {
        let Incoming { scope, name, headers, trusted, began, attributes } = incoming;
        let mut builder =
            SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
        builder.start_time = began;
        let remote = headers.map(|headers| propagate::extract(&self.incoming(), headers));
        let named = remote.as_ref().filter(|remote| remote.span().span_context().is_valid());
        if trusted {
            return match named {
                Some(remote) => self.begin(remote, scope, builder),
                None => Context::map_current(|current| match current.get::<Traces>() {
                    Some(_) => self.begin(&current.with_value(crate::http::Read::default()), scope, builder),
                    None => self.begin(remote.as_ref().unwrap_or(&self.incoming()), scope, builder),
                }),
            };
        }
        if let Some(remote) = named {
            let link = Link::new(remote.span().span_context().clone(), Vec::new(), 0);
            builder = builder.with_links(vec![link]);
        }
        self.begin(&self.incoming(), scope, builder)
    }

    /// No span, but these traces and room for what is read.
    fn incoming(&self) -> Context {
        self.empty().with_value(crate::http::Read::default())
    }

    /// No span, but these traces.
    fn empty(&self) -> Context {
        Context::new().with_value(self.clone())
    }

    pub(crate) fn begin(&self, parent: &Context, scope: Scope, builder: SpanBuilder) -> Span {
        let Some(tracer) = self.0.tracers.get(scope as usize) else { return Span::none() };
        let mut span = tracer.build_with_context(builder, parent);
        // A root in a process that is ending has no identity; nothing can be below it.
        if !span.span_context().is_valid() {
            span.end();
            return Span::none();
        }
        span::Span::of(parent.with_span(span))
    }
}

/// A request that came in.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// What made the span.
    pub scope: Scope,
    /// The span's name.
    pub name: String,
    /// Where the client may name its span; `None` where nobody looks.
    pub headers: Option<&'a http::HeaderMap>,
    /// Whether the client may say what the span belongs to.
    pub trusted: bool,
    /// When it came in, if that is not now.
    pub began: Option<SystemTime>,
    /// What is known of it.
    pub attributes: Vec<KeyValue>,
}

/// A connection that opens when it is used, and again after it broke.
fn channel(endpoint: &str) -> Result<Channel, String> {
    let target = Target::parse(endpoint)?;
    let uri = match &target {
        Target::Tcp(address) => format!("http://{address}"),
        Target::Unix(_) => "http://localhost".to_owned(),
    };
    let server = Endpoint::from_shared(uri).map_err(|e| format!("endpoint {endpoint:?}: {e}"))?;
    let server = server.connect_timeout(CONNECT).timeout(SEND);
    Ok(match target {
        Target::Tcp(_) => server.connect_lazy(),
        Target::Unix(path) => server.connect_with_connector_lazy(Socket(path)),
    })
}

/// Connects to a socket's path.
#[derive(Clone)]
struct Socket(String);

impl Service<Uri> for Socket {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}
