//! What is written to the runtime.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::spdy::{CANCEL, Control, Encoder, Stream};

/// Bytes of one frame, as of upstream's `io.Copy`.
const PART: usize = 32 << 10;

/// How long the end may take to be written; a runtime that does not read is left without it.
const FAREWELL: Duration = Duration::from_secs(1);

/// The writing half of the connection.
pub(super) struct Wire<W> {
    io: W,
    encoder: Encoder,
    frame: BytesMut,
    /// Not in the middle of a frame.
    whole: bool,
}

impl<W: AsyncWrite + Unpin> Wire<W> {
    pub(super) fn new(io: W) -> io::Result<Self> {
        let encoder = Encoder::new().map_err(io::Error::other)?;
        Ok(Self { io, encoder, frame: BytesMut::new(), whole: true })
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.whole = false;
        self.io.write_all(&self.frame).await?;
        self.io.flush().await?;
        self.whole = true;
        self.frame.clear();
        Ok(())
    }

    pub(super) async fn control(&mut self, frame: &Control) -> io::Result<()> {
        self.encoder.control(frame, &mut self.frame).map_err(io::Error::other)?;
        self.flush().await
    }

    pub(super) async fn data(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(PART) {
            Encoder::data(stream, part, false, &mut self.frame);
            self.flush().await?;
        }
        Ok(())
    }

    /// No more data of a stream.
    pub(super) async fn last(&mut self, stream: Stream) -> io::Result<()> {
        Encoder::data(stream, &[], true, &mut self.frame);
        self.flush().await
    }

    /// Ends the streams and the connection.
    pub(super) async fn close(mut self, streams: &[Stream]) {
        let farewell = async {
            if self.whole {
                for stream in streams {
                    self.control(&Control::Reset { stream: *stream, status: CANCEL }).await?;
                }
                self.control(&Control::GoAway { stream: 0, status: 0 }).await?;
            }
            self.io.shutdown().await
        };
        if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, farewell).await {
            tracing::debug!(%error, "Connection to the runtime ended first");
        }
    }
}
