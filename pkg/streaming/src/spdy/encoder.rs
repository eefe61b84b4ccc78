//! Writes frames.

use bytes::{BufMut, BytesMut};

use super::headers::Deflater;
use super::{
    CONTROL, Control, DATA, Error, FIN, GO_AWAY, HEADERS, Headers, OPEN, PING, REPLY, RESET, Stream, VERSION,
    WINDOW,
};

/// One direction of a connection.
#[derive(Debug)]
pub struct Encoder(Deflater);

impl Encoder {
    /// Before the first frame.
    ///
    /// # Errors
    /// The library refuses the dictionary; it never does.
    pub fn new() -> Result<Self, Error> {
        Deflater::new().map(Self)
    }

    /// Appends a control frame.
    ///
    /// # Errors
    /// Headers that are too long, and kinds that are only read.
    pub fn control(&mut self, frame: &Control, out: &mut BytesMut) -> Result<(), Error> {
        let words = |kind, words: &[u32], out: &mut BytesMut| {
            let mut payload = BytesMut::new();
            words.iter().for_each(|word| payload.put_u32(*word));
            put(kind, 0, &payload, out)
        };
        match frame {
            // No associated stream, the highest priority, no slot: as spdystream sends it.
            Control::Open { stream, last, headers } => {
                self.headed((OPEN, *last), (*stream, &[0; 6]), headers, out)
            }
            Control::Reply { stream, last, headers } => {
                self.headed((REPLY, *last), (*stream, &[]), headers, out)
            }
            Control::Headers { stream, last, headers } => {
                self.headed((HEADERS, *last), (*stream, &[]), headers, out)
            }
            Control::Reset { stream, status } => words(RESET, &[*stream, *status], out),
            Control::Ping(id) => words(PING, &[*id], out),
            Control::GoAway { stream, status } => words(GO_AWAY, &[*stream, *status], out),
            Control::Window { stream, more } => words(WINDOW, &[*stream, *more], out),
            Control::Other(kind) => Err(Error::Length(*kind)),
        }
    }

    fn headed(
        &mut self,
        (kind, last): (u16, bool),
        (stream, more): (Stream, &[u8]),
        headers: &Headers,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let mut payload = BytesMut::new();
        payload.put_u32(stream);
        payload.put_slice(more);
        self.0.write(headers, &mut payload)?;
        put(kind, if last { FIN } else { 0 }, &payload, out)
    }

    /// Appends data of a stream; at most [`DATA`] bytes of it, the number of which is returned.
    pub fn data(stream: Stream, bytes: &[u8], last: bool, out: &mut BytesMut) -> usize {
        let length = bytes.len().min(DATA);
        let (part, _) = bytes.split_at(length);
        let flags = if last && length == bytes.len() { FIN } else { 0 };
        out.put_u32(stream & 0x7fff_ffff);
        out.put_u32(u32::from(flags) << 24 | u32::try_from(length).unwrap_or_default());
        out.put_slice(part);
        length
    }
}

fn put(kind: u16, flags: u8, payload: &[u8], out: &mut BytesMut) -> Result<(), Error> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if payload.len() > CONTROL {
        return Err(Error::Long(payload.len()));
    }
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length);
    out.put_slice(payload);
    Ok(())
}
