//! A socket whose writes wait for the end of the connection's turn.
//!
//! HTTP/2 flushes after each frame, which makes a system call for every stream that has something to say. What one turn of
//! the connection's task writes is gathered here instead and sent when the turn ends, or earlier when it is much; what is
//! long already is not copied. Flushing does nothing therefore: whoever drives the connection calls [`Turn::send`] after
//! each poll.
//!
//! What it does not do: delay anything beyond the turn, or reading.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A turn that wrote more sends it at once: what a slow reader leaves is held by the kernel, not here.
const LIMIT: usize = 32 << 10;
/// A system call for so many bytes costs less than copying them: a full record of TLS goes out as it is.
const LONG: usize = 12 << 10;

/// The socket, for the connection.
pub(super) struct Gather {
    turn: Arc<Turn>,
    /// Whether writes wait. They do not before somebody ends the turns.
    gathering: bool,
}

/// The socket, for whoever ends the turns.
pub(super) struct Turn {
    socket: TcpStream,
    written: Mutex<BytesMut>,
}

impl Gather {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { turn: Arc::new(Turn { socket, written: Mutex::default() }), gathering: false }
    }

    /// Lets writes wait from now on.
    pub(super) fn begin(&mut self) -> Arc<Turn> {
        self.gathering = true;
        Arc::clone(&self.turn)
    }
}

impl Turn {
    /// Sends what the turn wrote; ready when nothing is left.
    pub(super) fn send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = self.written.lock();
        while !written.is_empty() {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write(&written) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(sent) => written.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // Most connections are at rest most of the time.
        *written = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gather {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.turn.socket.poll_read_ready(cx))?;
            match self.turn.socket.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Gather {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = data.iter().map(|part| part.len()).sum();
        let long = !self.gathering || len >= LONG;
        if long || self.turn.written.lock().len() >= LIMIT {
            ready!(self.turn.send(cx))?;
        }
        if long {
            return self.turn.write(cx, data);
        }
        let mut written = self.turn.written.lock();
        written.reserve(len);
        data.iter().for_each(|part| written.extend_from_slice(part));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.turn.send(cx))?;
        Poll::Ready(shutdown(self.turn.socket.as_raw_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

impl Turn {
    fn write(&self, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write_vectored(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}
