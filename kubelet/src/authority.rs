//! Lets programs call servers of the kubelet at unix sockets whatever authority they name.
//!
//! Go's library names the path of the socket where a program dials by it, as upstream's client of pod resources does. That
//! is no authority by RFC 3986, and h2 resets such a request (hyperium/h2#487). Here it is replaced, as the bytes come in,
//! by one that is; nothing looks at it. The entry that h2 keeps of it may be shorter than the caller's: then it keeps more
//! entries than the caller counts on, never fewer, and indices mean the same (RFC 7541, 2.3.3 and 4.1).

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Length, kind, flags and stream of a frame.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Longer frames are passed on as they are: h2 refuses them.
const LONGEST: usize = 1 << 16;
/// The value with its length in front, as it is written without Huffman's code.
const LOCALHOST: &[u8] = b"\x09localhost";
/// `:authority` in the table of names that every connection begins with.
const AUTHORITY: usize = 1;

/// A connection whose incoming requests all name `localhost`.
pub struct AnyAuthority<S> {
    inner: S,
    /// Came in, and is not understood yet.
    raw: BytesMut,
    /// Can be handed on.
    done: BytesMut,
    /// How much of `raw`, and of what follows, is handed on unseen.
    pass: usize,
}

impl<S> AnyAuthority<S> {
    /// Before anything has been read.
    pub fn new(inner: S) -> Self {
        Self { inner, raw: BytesMut::new(), done: BytesMut::new(), pass: PREFACE }
    }

    fn digest(&mut self) {
        loop {
            let passed = self.raw.split_to(self.pass.min(self.raw.len()));
            self.pass -= passed.len();
            self.done.extend_from_slice(&passed);
            let &[a, b, c, kind, ..] = self.raw.as_ref() else { return };
            if self.pass > 0 || self.raw.len() < HEAD {
                return;
            }
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if kind != HEADERS || length > LONGEST {
                self.pass = HEAD + length;
                continue;
            }
            if self.raw.len() < HEAD + length {
                return;
            }
            let frame = self.raw.split_to(HEAD + length);
            match rewritten(&frame) {
                Some(frame) => self.done.extend_from_slice(&frame),
                None => self.done.extend_from_slice(&frame),
            }
        }
    }
}

/// A frame of headers with another authority; `None` if it names none, or is not understood.
fn rewritten(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = frame.split_at_checked(HEAD)?;
    let flags = head[4];
    let padded = flags & PADDED != 0;
    let padding = if padded { usize::from(*payload.first()?) } else { 0 };
    let begin = usize::from(padded) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let end = payload.len().checked_sub(padding)?;
    let value = authority(payload.get(begin..end)?)?;
    let (before, after) = (&payload[..begin + value.start], &payload[begin + value.end..]);
    let length = u32::try_from(before.len() + LOCALHOST.len() + after.len()).ok()?.to_be_bytes();
    Some([&length[1..], &head[3..], before, LOCALHOST, after].concat())
}

/// Where the value of `:authority` is, with its length in front.
fn authority(block: &[u8]) -> Option<Range<usize>> {
    let mut at = 0;
    while let Some(first) = block.get(at) {
        let (bits, has_value) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let (name, mut next) = number(block, at, bits)?;
        if has_value {
            let begin = if name == 0 { text(block, next)? } else { next };
            next = text(block, begin)?;
            if name == AUTHORITY {
                return Some(begin..next);
            }
        }
        at = next;
    }
    None
}

/// The number whose first byte has this many bits for it, and where it ends. RFC 7541, 5.1.
fn number(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    let mut next = at + 1;
    if value < most {
        return Some((value, next));
    }
    for shift in (0..28).step_by(7) {
        let byte = *block.get(next)?;
        next += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, next));
        }
    }
    None
}

/// Where the text that begins here ends.
fn text(block: &[u8], at: usize) -> Option<usize> {
    let (length, begin) = number(block, at, 7)?;
    let end = begin + length;
    (end <= block.len()).then_some(end)
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.done.is_empty() {
            let mut chunk = [0; 4096];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // It ended amidst a frame, or between two.
                self.done = self.raw.split();
                break;
            }
            self.raw.extend_from_slice(read.filled());
            self.digest();
        }
        let count = self.done.len().min(out.remaining());
        out.put_slice(&self.done[..count]);
        self.done.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: Connected> Connected for AnyAuthority<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What comes out when it comes in by pieces of a size.
    async fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut near, far) = tokio::io::duplex(piece);
        let mut reader = AnyAuthority::new(far);
        let mut out = Vec::new();
        let write = async {
            near.write_all(bytes).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut out));
        read.unwrap();
        out
    }

    #[tokio::test]
    async fn a_path_becomes_a_name() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        // POST, http, a literal :path without an index of its own, then :authority, then a name of its own.
        let block =
            |value: &[u8]| [&b"\x83\x86\x44\x02/a\x41"[..], value, b"\x40\x01x\x01y\x0f\x0d\x011"].concat();
        let path = b"\x8a%2Fvar%2Fl"; // The bit of Huffman's code does not matter here.
        let settings = frame(4, 0, &[0; 6]);
        let data = frame(0, 1, &[7; 300]);
        let ways: [(u8, &[u8], &[u8]); 3] =
            [(4, b"", b""), (4 | PADDED, b"\x03", b"\0\0\0"), (4 | PRIORITY, b"\0\0\0\0\x05", b"")];
        for (flags, before, after) in ways {
            let with = |value: &[u8]| frame(HEADERS, flags, &[before, &block(value), after].concat());
            let all = |headers: Vec<u8>| [&preface[..], &settings, &headers, &data].concat();
            for piece in [1, 7, 4096] {
                assert_eq!(through(&all(with(path)), piece).await, all(with(LOCALHOST)), "{flags}");
            }
        }
    }

    #[tokio::test]
    async fn all_else_is_left_alone() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let blocks: [&[u8]; 6] = [
            b"\x83\x86\x84\x81",
            b"\x41\x7f",
            b"\x41\xff\xff\xff\xff\xff\xff",
            b"",
            b"\x7f",
            b"\x00\x01a\x01b\x3f\x01",
        ];
        for block in blocks {
            for flags in [4, 4 | PADDED, 4 | PRIORITY] {
                let bytes = [&preface[..], &frame(HEADERS, flags, block), b"\0\0"].concat();
                assert_eq!(through(&bytes, 5).await, bytes, "{block:?} {flags}");
            }
        }
    }
}
