//! Reads ahead of whoever asks for little at a time, and holds a buffer only while something in it is unread: a client
//! has a connection for each identity that it speaks for, and most of them rest.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that is read up to `at_once` bytes at a time; written as it is.
#[derive(Debug)]
pub(crate) struct Ahead<T> {
    stream: T,
    at_once: usize,
    unread: BytesMut,
}

impl<T> Ahead<T> {
    pub fn new(stream: T, at_once: usize) -> Self {
        Self { stream, at_once, unread: BytesMut::new() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Ahead<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let Self { stream, at_once, unread } = &mut *self;
        if unread.is_empty() {
            let mut fresh = BytesMut::with_capacity(*at_once);
            // At the end of the stream nothing is read, and nothing given.
            ready!(tokio_util::io::poll_read_buf(Pin::new(stream), cx, &mut fresh))?;
            *unread = fresh;
        }
        let n = unread.len().min(out.remaining());
        out.put_slice(&unread[..n]);
        unread.advance(n);
        if unread.is_empty() {
            *unread = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Ahead<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn small_reads_take_what_one_large_one_brought() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut near = Ahead::new(near, 8);
        far.write_all(b"0123456789").await.expect("room");
        let mut three = [0; 3];
        near.read_exact(&mut three).await.expect("bytes");
        assert_eq!((&three, &near.unread[..]), (b"012", &b"34567"[..]));
        near.read_exact(&mut three).await.expect("bytes");
        near.read_exact(&mut three[..2]).await.expect("bytes");
        assert_eq!((&three, near.unread.capacity()), (b"675", 0), "read up, and nothing held");
        drop(far);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.expect("an end");
        assert_eq!((&rest[..], near.unread.capacity()), (&b"89"[..], 0));
    }
}
