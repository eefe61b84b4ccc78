//! Reads frames, however the bytes of them arrive.

use bytes::{Buf, BytesMut};

use super::headers::Inflater;
use super::{
    CONTROL, Control, Error, Event, FIN, GO_AWAY, HEADERS, OPEN, PING, REPLY, RESET, VERSION, WINDOW,
};

/// Both kinds of frames begin with as much.
const HEAD: usize = 8;

/// Where in a frame the reader is.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a frame.
    Head,
    /// In a control frame, which is read as a whole.
    Control { kind: u16, flags: u8, length: usize },
    /// In data, which is handed on as it comes.
    Data { stream: u32, last: bool, left: usize },
    /// In a frame that nobody here needs.
    Skip { kind: u16, left: usize },
}

/// One direction of a connection. What it keeps is bounded: the headers' window of 32 KiB, and what its user has read
/// but not given it, which is less than [`CONTROL`] and one read. After an error nothing more can be read.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    inflater: Inflater,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Head, inflater: Inflater::new() }
    }
}

impl Decoder {
    /// Takes what it can of `input`; nothing when more bytes are needed first.
    ///
    /// # Errors
    /// Bytes that are not SPDY/3.1.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Error> {
        loop {
            match self.state {
                State::Head => {
                    let Some(head) = input.first_chunk::<HEAD>().copied() else { return Ok(None) };
                    input.advance(HEAD);
                    self.state = begin(head)?;
                }
                State::Control { kind, flags, length } => {
                    if input.len() < length {
                        return Ok(None);
                    }
                    let payload = input.split_to(length);
                    self.state = State::Head;
                    return self.control(kind, flags, &payload).map(|frame| Some(Event::Control(frame)));
                }
                State::Data { stream, last, left } => {
                    let here = left.min(input.len());
                    if here == 0 && left > 0 {
                        return Ok(None);
                    }
                    let left = left - here;
                    self.state = if left == 0 { State::Head } else { State::Data { stream, last, left } };
                    let bytes = input.split_to(here).freeze();
                    return Ok(Some(Event::Data { stream, bytes, last: last && left == 0 }));
                }
                State::Skip { kind, left } => {
                    let here = left.min(input.len());
                    input.advance(here);
                    if here < left {
                        self.state = State::Skip { kind, left: left - here };
                        return Ok(None);
                    }
                    self.state = State::Head;
                    return Ok(Some(Event::Control(Control::Other(kind))));
                }
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Control, Error> {
        let word = |at: usize| {
            let bytes = payload.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map(|b| u32::from_be_bytes(*b)).ok_or(Error::Length(kind))
        };
        let stream = || word(0).map(|w| w & 0x7fff_ffff);
        let last = flags & FIN != 0;
        let rest = |at: usize| payload.get(at..).ok_or(Error::Length(kind));
        let frame = match kind {
            OPEN => Control::Open { stream: stream()?, last, headers: self.inflater.read(rest(10)?)? },
            REPLY => Control::Reply { stream: stream()?, last, headers: self.inflater.read(rest(4)?)? },
            HEADERS => Control::Headers { stream: stream()?, last, headers: self.inflater.read(rest(4)?)? },
            RESET => Control::Reset { stream: stream()?, status: word(4)? },
            PING => Control::Ping(word(0)?),
            GO_AWAY => return Ok(Control::GoAway { stream: stream()?, status: word(4)? }),
            WINDOW => return Ok(Control::Window { stream: stream()?, more: word(4)? & 0x7fff_ffff }),
            other => return Ok(Control::Other(other)),
        };
        if word(0)? == 0 { Err(Error::Zero) } else { Ok(frame) }
    }
}

fn begin(head: [u8; HEAD]) -> Result<State, Error> {
    let [a, b, c, d, flags, e, f, g] = head;
    let length = usize::try_from(u32::from_be_bytes([0, e, f, g])).unwrap_or(usize::MAX);
    if a & 0x80 == 0 {
        let stream = u32::from_be_bytes([a, b, c, d]);
        let last = flags & FIN != 0;
        return if stream == 0 { Err(Error::Zero) } else { Ok(State::Data { stream, last, left: length }) };
    }
    let version = u16::from_be_bytes([a & 0x7f, b]);
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let kind = u16::from_be_bytes([c, d]);
    if !matches!(kind, OPEN | REPLY | RESET | PING | GO_AWAY | HEADERS | WINDOW) {
        return Ok(State::Skip { kind, left: length });
    }
    let fixed = match kind {
        PING => Some(4),
        RESET | GO_AWAY | WINDOW => Some(8),
        _ => None,
    };
    if fixed.is_some_and(|fixed| fixed != length) {
        return Err(Error::Length(kind));
    }
    if length > CONTROL { Err(Error::Long(length)) } else { Ok(State::Control { kind, flags, length }) }
}
