//! Request bodies that are read to their end, within reason, even when nobody wants them.
//!
//! A connection on which the client still sends when the answer has been written is closed by hyper (HTTP/1) or has its
//! stream reset (HTTP/2), and the client may lose the answer. So whoever drops an [`Upload`] leaves its rest to a task
//! that reads on while the answer goes out. Go's server does the same: `net/http` `finishRequest`, `bodyEOFSignal`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// What is read of a body that nobody wants, and how long. Upstream: `maxPostHandlerReadBytes`, `rstAvoidanceDelay`.
const MOST: usize = 256 << 10;
const LONGEST: Duration = Duration::from_millis(500);

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Upload<B = Incoming>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    /// `None` when it has been read to its end or failed.
    rest: Option<B>,
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Upload<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { rest: Some(body) }
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Body for Upload<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(rest) = self.rest.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(rest).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.rest = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Drop for Upload<B> {
    fn drop(&mut self) {
        let rest = self.rest.take().filter(|rest| !rest.is_end_stream());
        if let (Some(rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            // Ends by itself: with the body, the limit or the connection.
            runtime.spawn(tokio::time::timeout(LONGEST, drain(rest)));
        }
    }
}

async fn drain<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > MOST {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body_util::StreamBody;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    /// A body of `chunks` times 64 KiB, how much of it was taken, and a sign that it was let go.
    fn body(
        chunks: usize,
    ) -> (Upload<impl Body<Data = Bytes> + Unpin + Send + 'static>, Arc<AtomicUsize>, Arc<Notify>) {
        struct Gone(Arc<Notify>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let (taken, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, guard) = (Arc::clone(&taken), Gone(Arc::clone(&gone)));
        let frames = stream::iter((0..chunks).map(move |_| {
            let _held = &guard;
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[b'['; 64 << 10])))
        }));
        (Upload::new(StreamBody::new(frames)), taken, gone)
    }

    #[tokio::test]
    async fn unwanted_bodies_are_read_within_reason() {
        for (chunks, wanted, want) in [(3, 0, 3), (3, 1, 3), (3, 4, 3), (100, 0, 5), (100, 2, 7)] {
            let (mut upload, taken, gone) = body(chunks);
            for _ in 0..wanted {
                upload.frame().await;
            }
            drop(upload);
            gone.notified().await;
            assert_eq!(taken.load(Ordering::Relaxed), want, "{wanted} of {chunks}");
        }
    }
}
