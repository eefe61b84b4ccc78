//! The messages of `v5.channel.k8s.io`: a channel's number, then its bytes; or 255 and a channel that is closed.
//! Upstream: k8s.io/streaming/pkg/httpstream/wsstream/conn.go `handle`, v1.37.

use bytes::Bytes;

/// Input of the command.
pub const STDIN: u8 = 0;
/// Output of the command.
pub const STDOUT: u8 = 1;
/// Its other output.
pub const STDERR: u8 = 2;
/// How it ended.
pub const ERROR: u8 = 3;
/// Sizes of the terminal.
pub const RESIZE: u8 = 4;

/// Says that a channel is closed.
const CLOSE: u8 = 255;
const CHANNELS: u8 = 5;

/// What a client says in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Bytes of a channel.
    Data(u8, Bytes),
    /// No more bytes of a channel.
    Closed(u8),
    /// Nothing, or something about a channel that there is not.
    Nothing,
    /// What ends the connection.
    Broken(&'static str),
}

/// Reads a message.
pub fn read(mut message: Bytes) -> Said {
    let Some(channel) = message.first().copied() else { return Said::Nothing };
    let bytes = message.split_off(1);
    match (channel, bytes.as_ref()) {
        (CLOSE, [closed]) if *closed < CHANNELS => Said::Closed(*closed),
        (CLOSE, [_]) => Said::Broken("a channel is closed that there is not"),
        (CLOSE, _) => Said::Broken("one channel follows the signal that it is closed"),
        (channel, _) if channel < CHANNELS => Said::Data(channel, bytes),
        _ => Said::Nothing,
    }
}

/// Writes a message.
pub fn write(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    message.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let data = |channel, bytes: &'static [u8]| Said::Data(channel, Bytes::from_static(bytes));
        for (message, want) in [
            (&b""[..], Said::Nothing),
            (b"\0", data(STDIN, b"")),
            (b"\0ab", data(STDIN, b"ab")),
            (b"\x04{}", data(RESIZE, b"{}")),
            (b"\x05x", Said::Nothing),
            (b"\xff\0", Said::Closed(STDIN)),
            (b"\xff\x04", Said::Closed(RESIZE)),
        ] {
            assert_eq!(read(Bytes::from_static(message)), want, "{message:?}");
        }
        for broken in [&b"\xff"[..], b"\xff\x05", b"\xff\0\0"] {
            assert!(matches!(read(Bytes::copy_from_slice(broken)), Said::Broken(_)), "{broken:?}");
        }
        assert_eq!(write(STDOUT, b"x"), Bytes::from_static(b"\x01x"));
    }
}
