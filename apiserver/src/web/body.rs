//! Response bodies: whole, spliced from shared pieces, or streamed; optionally gzipped on the way out.

use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};

/// Any failure while producing a body; the connection is cut, as nothing else can be said after the headers.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A response body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;
/// A response.
pub(crate) type Response = http::Response<Body>;

/// How much is copied into one frame of a spliced body. Large enough that framing costs nothing, small enough that a
/// slow reader holds little.
const CHUNK: usize = 64 << 10;
/// Responses above this are compressed for clients that accept gzip. Upstream: `defaultGzipThresholdBytes`.
pub(crate) const GZIP_THRESHOLD: usize = 128 << 10;

/// A body that is already complete.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body without content.
pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// A body produced by a stream of chunks.
pub(crate) fn stream<S>(chunks: S) -> Body
where
    S: Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
{
    use futures::StreamExt;
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// A body that holds a value as long as it lives: to its end, or until the client leaves.
pub(crate) fn held<T: Send + Unpin + 'static>(inner: Body, held: T) -> Body {
    Held { inner, _held: held }.boxed_unsync()
}

struct Held<T> {
    inner: Body,
    _held: T,
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// A body made of shared pieces, copied out in frames of [`CHUNK`] bytes as the client reads.
pub(crate) struct Splice {
    pieces: VecDeque<Bytes>,
    remaining: usize,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Splice {
    /// A body of `pieces`, compressed if asked and worth it.
    pub(crate) fn new(pieces: Vec<Bytes>, gzip: bool) -> (Self, bool) {
        let remaining = pieces.iter().map(Bytes::len).sum();
        let gzip = gzip && remaining > GZIP_THRESHOLD;
        // Level 1 as upstream (`defaultGzipContentEncodingLevel`): lists compress well, CPU is what is scarce.
        let encoder = gzip.then(|| GzEncoder::new(Vec::with_capacity(CHUNK), Compression::new(1)));
        (Self { pieces: pieces.into(), remaining, gzip: encoder }, gzip)
    }

    fn plain_chunk(&mut self) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        if first.len() >= CHUNK {
            self.remaining -= first.len();
            return Some(first);
        }
        let mut chunk = BytesMut::with_capacity(CHUNK.min(self.remaining));
        chunk.extend_from_slice(&first);
        while let Some(next) = self.pieces.front() {
            if chunk.len() + next.len() > CHUNK {
                break;
            }
            chunk.extend_from_slice(next);
            self.pieces.pop_front();
        }
        self.remaining -= chunk.len();
        Some(chunk.freeze())
    }

    fn gzip_chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        while let Some(mut encoder) = self.gzip.take() {
            match self.plain_chunk() {
                None => {
                    let rest = encoder.finish()?;
                    return Ok((!rest.is_empty()).then(|| rest.into()));
                }
                Some(chunk) => {
                    encoder.write_all(&chunk)?;
                    let out = std::mem::take(encoder.get_mut());
                    self.gzip = Some(encoder);
                    if !out.is_empty() {
                        return Ok(Some(out.into()));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl http_body::Body for Splice {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let compressing = self.gzip.is_some();
        let next = if compressing { self.gzip_chunk().transpose() } else { self.plain_chunk().map(Ok) };
        Poll::Ready(next.map(|chunk| chunk.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.gzip.is_none() && self.pieces.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.gzip {
            Some(_) => http_body::SizeHint::default(),
            None => http_body::SizeHint::with_exact(self.remaining as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    async fn collect(splice: Splice) -> Vec<u8> {
        splice.collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn splices_in_order() {
        let pieces = vec![Bytes::from_static(b"a"), Bytes::from(vec![b'b'; CHUNK]), Bytes::from_static(b"c")];
        let want: Vec<u8> = pieces.iter().flatten().copied().collect();
        let (splice, gzip) = Splice::new(pieces, true);
        assert!(!gzip);
        assert_eq!(collect(splice).await, want);
    }

    #[tokio::test]
    async fn compresses_large() {
        let pieces = vec![Bytes::from(vec![b'x'; GZIP_THRESHOLD]), Bytes::from_static(b"tail")];
        let want: Vec<u8> = pieces.iter().flatten().copied().collect();
        let (splice, gzip) = Splice::new(pieces, true);
        assert!(gzip);
        let mut got = Vec::new();
        flate2::read::GzDecoder::new(&collect(splice).await[..]).read_to_end(&mut got).unwrap();
        assert_eq!(got, want);
    }
}
