//! Events of a watch as they are on the wire, whole or in pieces: a length before each (protobuf) or a line each (JSON).
//! Pure; start reading at [`Frames`].

use bytes::{Buf, Bytes, BytesMut};

/// How events are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Four bytes, the most significant first. Upstream: apimachinery/pkg/util/framer.
    Length,
    Line,
}

impl Framing {
    /// Read off the media type of the answer.
    pub fn of(media_type: &str) -> Self {
        if media_type.contains("protobuf") { Self::Length } else { Self::Line }
    }
}

/// What has come of a watch and is not handed on.
#[derive(Debug)]
pub struct Frames {
    framing: Framing,
    buffer: BytesMut,
}

impl Frames {
    /// Nothing yet.
    pub fn new(framing: Framing) -> Self {
        Self { framing, buffer: BytesMut::new() }
    }

    /// Adds what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event with its framing.
    pub fn take(&mut self) -> Option<Bytes> {
        let length = match self.framing {
            Framing::Length => 4 + self.buffer.get(..4)?.get_u32() as usize,
            Framing::Line => self.buffer.iter().position(|b| *b == b'\n')? + 1,
        };
        (self.buffer.len() >= length).then(|| self.buffer.split_to(length).freeze())
    }
}

/// Whether an event tells of no object.
pub fn is_bookmark(frame: &[u8]) -> bool {
    // The type is the first field of either form.
    holds(&frame[..frame.len().min(40)], b"BOOKMARK")
}

/// Whether an event ends the initial state of a streaming list.
pub fn ends_initial(frame: &[u8]) -> bool {
    is_bookmark(frame) && holds(frame, b"k8s.io/initial-events-end")
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole() {
        let length = [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 1, b'c'];
        let line = b"ab\n\nc\n";
        for (framing, text, want) in [
            (Framing::Length, &length[..], vec![&length[..6], &length[6..10], &length[10..]]),
            (Framing::Line, &line[..], vec![&b"ab\n"[..], &b"\n"[..], &b"c\n"[..]]),
        ] {
            for size in 1..=text.len() {
                let mut frames = Frames::new(framing);
                let mut got = Vec::new();
                for piece in text.chunks(size) {
                    frames.push(piece);
                    got.extend(std::iter::from_fn(|| frames.take()));
                }
                assert_eq!(got, want, "{framing:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn bookmarks_are_known() {
        let end = br#"{"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert!(ends_initial(end));
        assert!(is_bookmark(b"\0\0\0\x09\x0a\x08BOOKMARK"));
        assert!(!is_bookmark(
            br#"{"type":"ADDED","object":{"metadata":{"name":"something-long","x":"BOOKMARK"}}}"#
        ));
    }
}
