//! Response bodies: whole, spliced from shared pieces, or streamed; optionally gzipped on the way out.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use component::serving::{Data, Pieces};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

/// Any failure while producing a body; the connection is cut, as nothing else can be said after the headers.
pub(crate) use component::serving::BoxError as BodyError;
pub(crate) use component::serving::body::{Body, boxed, empty, full};
/// A response.
pub(crate) type Response = http::Response<Body>;

/// How much goes into one frame: with the frame's head it is one record of TLS.
pub(crate) const FRAME: usize = (16 << 10) - 9;
/// What compressed bytes are collected in.
const CHUNK: usize = 64 << 10;
/// Responses above this are compressed for clients that accept gzip. Upstream: `defaultGzipThresholdBytes`.
pub(crate) const GZIP_THRESHOLD: usize = 128 << 10;

/// A body produced by a stream of chunks.
pub(crate) fn stream<S>(chunks: S) -> Body
where
    S: Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
{
    use futures::StreamExt;
    boxed(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))))
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
    type Data = Data;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, BodyError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// A body made of shared pieces, sent as they are.
pub(crate) struct Splice {
    pieces: Pieces,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Splice {
    /// A body of `pieces`, compressed if asked and worth it.
    pub(crate) fn new(from: Vec<Bytes>, gzip: bool) -> (Self, bool) {
        let mut pieces = Pieces::default();
        from.into_iter().for_each(|piece| pieces.push(piece));
        let gzip = gzip && pieces.len() > GZIP_THRESHOLD;
        // Level 1 as upstream (`defaultGzipContentEncodingLevel`): lists compress well, CPU is what is scarce.
        let encoder = gzip.then(|| GzEncoder::new(Vec::with_capacity(CHUNK), Compression::new(1)));
        (Self { pieces, gzip: encoder }, gzip)
    }

    fn plain(&mut self) -> Option<Data> {
        (!self.pieces.is_empty()).then(|| self.pieces.take(FRAME))
    }

    fn gzip_chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        while let Some(mut encoder) = self.gzip.take() {
            match self.plain() {
                None => {
                    let rest = encoder.finish()?;
                    return Ok((!rest.is_empty()).then(|| rest.into()));
                }
                Some(mut data) => {
                    while data.has_remaining() {
                        encoder.write_all(data.chunk())?;
                        data.advance(data.chunk().len());
                    }
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
    type Data = Data;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, BodyError>>> {
        if self.gzip.is_none() {
            return Poll::Ready(self.plain().map(|data| Ok(Frame::data(data))));
        }
        let next = self.gzip_chunk().transpose();
        Poll::Ready(next.map(|chunk| chunk.map(|bytes| Frame::data(Data::One(bytes))).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.gzip.is_none() && self.pieces.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.gzip {
            Some(_) => http_body::SizeHint::default(),
            None => http_body::SizeHint::with_exact(self.pieces.len() as u64),
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
