//! Spans of gRPC calls: a channel whose calls are told. Upstream: otelgrpc v0.68.0, `NewClientHandler`.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::KeyValue;
use percent_encoding::percent_decode_str;
use tonic::Code;
use tower_service::Service;

use crate::{Scope, Span, Traces};

/// A channel. Without traces it is the inner one and a branch.
#[derive(Clone, Debug)]
pub struct Traced<S> {
    inner: S,
    told: Option<Arc<Told>>,
}

#[derive(Debug)]
struct Told {
    traces: Traces,
    /// `host:port` or a socket's path; "" where calls go to one of several servers.
    server: String,
}

impl<S> Traced<S> {
    /// The channel to `server`, with its calls told to `traces`.
    pub fn new(inner: S, traces: Option<&Traces>, server: &str) -> Self {
        let told = |traces: &Traces| Arc::new(Told { traces: traces.clone(), server: server.to_owned() });
        Self { inner, told: traces.map(told) }
    }
}

impl Told {
    fn begin(&self, path: &str, headers: &mut HeaderMap) -> Span {
        // `/package.Service/Method`
        let method = path.strip_prefix('/').unwrap_or(path);
        let span = self.traces.call(Scope::Grpc, method.to_owned(), || {
            let mut out = vec![
                KeyValue::new("rpc.method", method.to_owned()),
                KeyValue::new("rpc.system.name", "grpc"),
            ];
            match self.server.rsplit_once(':') {
                _ if self.server.is_empty() => {}
                Some((host, port)) if !self.server.starts_with('/') => {
                    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                    out.push(KeyValue::new("server.address", host));
                    out.extend(port.parse::<i64>().ok().map(|port| KeyValue::new("server.port", port)));
                }
                _ => out.push(KeyValue::new("server.address", self.server.clone())),
            }
            out
        });
        span.inject(headers);
        span
    }
}

impl<S, B, R> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Unpin,
    S::Error: Error + 'static,
    R: Body + Unpin,
{
    type Response = Response<Answer<R>>;
    type Error = S::Error;
    type Future = Calling<S::Future>;

    fn poll_ready(&mut self, poller: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(poller)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let end = self.told.as_ref().map(|told| {
            let path = request.uri().path().to_owned();
            End(told.begin(&path, request.headers_mut()), false)
        });
        Calling { work: self.inner.call(request), end }
    }
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Calling<F> {
    work: F,
    end: Option<End>,
}

impl<F, R, E> Future for Calling<F>
where
    F: Future<Output = Result<Response<R>, E>> + Unpin,
    E: Error + 'static,
{
    type Output = Result<Response<Answer<R>>, E>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.work).poll(poller));
        let end = self.end.take();
        Poll::Ready(match outcome {
            Ok(response) => {
                let (parts, inner) = response.into_parts();
                let end = end.and_then(|mut end| (!end.told_by(&parts.headers)).then_some(end));
                Ok(Response::from_parts(parts, Answer { inner, end }))
            }
            Err(error) => {
                if let Some(mut end) = end {
                    end.with(code_of(&error), &error.to_string());
                }
                Err(error)
            }
        })
    }
}

/// A call's span; one that is let go unfinished was cancelled.
#[derive(Debug)]
struct End(Span, bool);

impl End {
    /// Whether headers or trailers say how the call ended.
    fn told_by(&mut self, headers: &HeaderMap) -> bool {
        let Some(status) = headers.get("grpc-status") else { return false };
        let message = headers.get("grpc-message").and_then(|v| v.to_str().ok()).unwrap_or_default();
        self.with(Code::from_bytes(status.as_bytes()), &percent_decode_str(message).decode_utf8_lossy());
        true
    }

    fn with(&mut self, code: Code, message: &str) {
        self.1 = true;
        if code != Code::Ok {
            self.0.fail(|| message.to_owned());
        }
        self.0.set(|| vec![KeyValue::new("rpc.response.status_code", name(code))]);
        // What ends it must not wait for the owner of the answer.
        self.0 = Span::none();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.1 {
            self.with(Code::Cancelled, "context canceled");
        }
    }
}

/// The body of an answer; its trailers end the span.
#[derive(Debug)]
pub struct Answer<R> {
    inner: R,
    end: Option<End>,
}

impl<R: Body + Unpin> Body for Answer<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        poller: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(poller));
        if let Some(end) = &mut this.end {
            match &frame {
                Some(Ok(frame)) => {
                    if frame.trailers_ref().is_some_and(|trailers| end.told_by(trailers)) {
                        this.end = None;
                    }
                }
                // The connection broke, or the server forgot to say.
                Some(Err(_)) | None => {
                    end.with(Code::Unavailable, "the connection ended before the call did");
                    this.end = None;
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a failure without an answer is: a deadline of the channel, or no connection.
fn code_of(error: &(dyn Error + 'static)) -> Code {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<tonic::TimeoutExpired>() {
            return Code::DeadlineExceeded;
        }
        cause = error.source();
    }
    Code::Unavailable
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
