//! SPDY/3.1 as bytes: frames read and written, nothing that waits.
//!
//! What Kubernetes needs of it: streams, data, resets, pings and the end. Windows are read over, as the other side
//! (spdystream) keeps none; what is queued is bounded by who reads. Start reading at [`Decoder`].
//! Upstream: github.com/moby/spdystream; the draft "SPDY Protocol - Draft 3.1".

mod decoder;
mod encoder;
mod headers;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// A stream's number: odd ones are the client's.
pub type Stream = u32;

/// Names in lower case, and values.
pub type Headers = Vec<(String, String)>;

/// What a control frame may hold at most: the streams of Kubernetes have two short headers.
pub const CONTROL: usize = 64 << 10;

/// The length of data is written in 24 bits.
pub const DATA: usize = (1 << 24) - 1;

const VERSION: u16 = 3;
const FIN: u8 = 1;

const OPEN: u16 = 1;
const REPLY: u16 = 2;
const RESET: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW: u16 = 9;

/// Why a stream is reset: it was refused.
pub const REFUSED: u32 = 3;
/// Why a stream is reset: whoever opened it needs it no more.
pub const CANCEL: u32 = 5;

/// A control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// SYN_STREAM: a new stream.
    Open {
        /// Its number.
        stream: Stream,
        /// Nothing more comes on it.
        last: bool,
        /// What it is for.
        headers: Headers,
    },
    /// SYN_REPLY: a stream is taken.
    Reply {
        /// Which.
        stream: Stream,
        /// Nothing more comes on it.
        last: bool,
        /// Said about it.
        headers: Headers,
    },
    /// RST_STREAM: a stream is over in both directions.
    Reset {
        /// Which.
        stream: Stream,
        /// Why.
        status: u32,
    },
    /// PING: to be answered as it is, when it is the other side's.
    Ping(u32),
    /// GOAWAY: no new streams.
    GoAway {
        /// The last stream that was taken.
        stream: Stream,
        /// Why.
        status: u32,
    },
    /// HEADERS: more about a stream.
    Headers {
        /// Which.
        stream: Stream,
        /// Nothing more comes on it.
        last: bool,
        /// What.
        headers: Headers,
    },
    /// WINDOW_UPDATE: more may be sent.
    Window {
        /// Where.
        stream: Stream,
        /// How much.
        more: u32,
    },
    /// SETTINGS, and kinds that came later: read over.
    Other(u16),
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A control frame.
    Control(Control),
    /// Data of a stream; a long frame comes in parts.
    Data {
        /// Which.
        stream: Stream,
        /// The bytes.
        bytes: bytes::Bytes,
        /// Nothing more comes on it.
        last: bool,
    },
}

/// Bytes that are not SPDY/3.1, or ask for more than is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another version.
    #[error("a SPDY frame of version {0}; only version 3 is spoken")]
    Version(u16),
    /// More than [`CONTROL`].
    #[error("a SPDY control frame of {0} bytes is too long")]
    Long(usize),
    /// Not as long as its kind is.
    #[error("a SPDY control frame of kind {0} has the wrong length")]
    Length(u16),
    /// About no stream.
    #[error("a SPDY frame about stream 0")]
    Zero,
    /// Headers that cannot be read.
    #[error("the headers of a SPDY frame: {0}")]
    Headers(&'static str),
}

#[cfg(test)]
mod tests;
