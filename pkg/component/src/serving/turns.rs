//! A connection's task: the connection, its streams, and what they write.
//!
//! The streams of an HTTP/2 connection run in the task of the connection. In tasks of their own, as hyper has it, two
//! threads would hand each frame to each other, and wait for the lock on the connection's state. What handles a request has
//! a task of its own (see `drive`); here its answer is sent.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;

use super::gather::Turn;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;
type Failure = Box<dyn Error + Send + Sync>;

/// Where hyper puts the streams it begins.
#[derive(Clone, Default)]
pub(super) struct Streams {
    begun: Arc<Mutex<Vec<Stream>>>,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.begun.lock().push(Box::pin(stream));
    }
}

/// What happens in each turn of the task besides the connection itself.
pub(super) struct Turns {
    streams: Streams,
    running: FuturesUnordered<Stream>,
    turn: Option<Arc<Turn>>,
}

impl Turns {
    /// `turn` where writes wait for the end of a turn.
    pub(super) fn new(streams: Streams, turn: Option<Arc<Turn>>) -> Self {
        Self { streams, running: FuturesUnordered::new(), turn }
    }

    /// Runs the connection to its end. A turn that fails to send is the end, too.
    pub(super) async fn run<C, T, E>(&mut self, mut connection: Pin<&mut C>) -> Result<T, Failure>
    where
        C: Future<Output = Result<T, E>>,
        E: Into<Failure>,
    {
        let mut ended = None;
        poll_fn(|cx| {
            while ended.is_none() {
                self.advance(cx);
                if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                    ended = Some(result.map_err(Into::into));
                } else if self.streams.begun.lock().is_empty() {
                    break;
                }
            }
            match self.turn.as_ref().map_or(Poll::Ready(Ok(())), |turn| turn.send(cx)) {
                Poll::Ready(Ok(())) => ended.take().map_or(Poll::Pending, Poll::Ready),
                Poll::Ready(Err(error)) => Poll::Ready(ended.take().unwrap_or(Err(error.into()))),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Goes on with the streams; what they leave to write is written when the connection is polled next.
    fn advance(&mut self, cx: &mut Context<'_>) {
        self.running.extend(std::mem::take(&mut *self.streams.begun.lock()));
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {}
    }
}
