//! A watch as a stream of events. It only reads; starting again belongs to the reflector.

use std::sync::Arc;

use api::codec::ManagedFields;
use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::codec::{self, Frames};
use crate::error::{Error, Result};
use crate::object::{Earlier, Kept};
use crate::transport::Body;

/// One event of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent<K> {
    /// New, or part of the initial state.
    Added(K),
    /// Changed.
    Modified(K),
    /// Gone; carries the last state.
    Deleted(K),
    /// Everything up to this version has been sent.
    Bookmark {
        /// The version.
        resource_version: String,
        /// The initial state of a streaming list is complete.
        initial_events_end: bool,
    },
    /// The server ends the watch.
    Error(Box<Status>),
}

/// Marks the bookmark that ends the initial state.
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A frame longer than this is not an object (etcd stores 1.5 MiB, requests end at 3 MiB).
const MAX_FRAME: usize = 64 << 20;

/// An open watch. Dropping it closes the stream.
pub struct WatchStream<K> {
    url: String,
    body: Body,
    frames: Frames,
    /// What came last, and is to be read where it lies.
    part: Bytes,
    /// What came in several parts; before `part`.
    buffer: BytesMut,
    ended: bool,
    managed: ManagedFields,
    earlier: Option<Box<Earlier<K>>>,
}

impl<K: Kept> WatchStream<K> {
    pub(crate) fn new(url: &str, response: Response<Body>, managed: ManagedFields) -> Self {
        let frames = Frames::of(response.headers());
        let body = response.into_body();
        let (url, part, buffer) = (url.to_string(), Bytes::new(), BytesMut::new());
        Self { url, body, frames, part, buffer, ended: false, managed, earlier: None }
    }

    /// Tells where to find earlier states of the objects: what did not change is taken from them.
    #[must_use]
    pub fn with_earlier(
        self,
        earlier: impl Fn(&str, &str) -> Option<Arc<K>> + Send + Sync + 'static,
    ) -> Self {
        Self { earlier: Some(Box::new(earlier)), ..self }
    }

    /// The next event; `None` after a clean end. Cancel safety: safe, nothing is lost.
    pub async fn next(&mut self) -> Option<Result<WatchEvent<K>>> {
        loop {
            if let Some(event) = self.whole_event().or_else(|| self.joined_event()) {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.part = data;
                    }
                }
                Some(Err(e)) => {
                    self.ended = true;
                    self.buffer.clear();
                    return Some(Err(Error::Transport {
                        verb: "WATCH".into(),
                        url: self.url.clone(),
                        reason: crate::transport::describe(&*e),
                    }));
                }
            }
        }
    }

    /// An event that lies whole in what came last, as nearly all of a busy watch do.
    fn whole_event(&mut self) -> Option<Result<WatchEvent<K>>> {
        if self.frames != Frames::Length || !self.buffer.is_empty() {
            return None;
        }
        let frame = match length_prefixed(&self.part) {
            Ok(frame) => frame?,
            Err(e) => return Some(Err(e)),
        };
        let event = codec::event(self.frames, &self.url, frame, self.managed, self.earlier.as_deref());
        let length = PREFIX + frame.len();
        self.part.advance(length);
        Some(event)
    }

    fn joined_event(&mut self) -> Option<Result<WatchEvent<K>>> {
        self.buffer.extend_from_slice(&std::mem::take(&mut self.part));
        match self.frame() {
            Ok(frame) => {
                let earlier = self.earlier.as_deref();
                Some(codec::event(self.frames, &self.url, &frame?, self.managed, earlier))
            }
            Err(e) => Some(Err(e)),
        }
    }

    fn frame(&mut self) -> Result<Option<Bytes>> {
        let found = match self.frames {
            Frames::Lines => line(&mut self.buffer, self.ended),
            Frames::Length => match length_prefixed(&self.buffer)?.map(<[u8]>::len) {
                Some(length) => {
                    self.buffer.advance(PREFIX);
                    Some(self.buffer.split_to(length).freeze())
                }
                None => None,
            },
        };
        if found.is_none() && self.buffer.len() > MAX_FRAME {
            return Err(self.broken("event is too long"));
        }
        if found.is_none() && self.ended && !self.buffer.is_empty() {
            self.buffer.clear();
            return Err(self.broken("stream ends inside an event"));
        }
        Ok(found)
    }

    fn broken(&self, reason: &str) -> Error {
        Error::Transport { verb: "WATCH".into(), url: self.url.clone(), reason: reason.into() }
    }
}

fn line(buffer: &mut BytesMut, ended: bool) -> Option<Bytes> {
    loop {
        let Some(end) = buffer.iter().position(|b| *b == b'\n') else {
            let rest = ended && buffer.last() == Some(&b'}');
            return rest.then(|| buffer.split().freeze());
        };
        let line = buffer.split_to(end);
        buffer.advance(1);
        if !line.iter().all(u8::is_ascii_whitespace) {
            return Some(line.freeze());
        }
    }
}

/// Bytes of a length.
const PREFIX: usize = 4;

/// The frame that `from` begins with, without its length, if all of it is there.
fn length_prefixed(from: &[u8]) -> Result<Option<&[u8]>> {
    let Some((prefix, rest)) = from.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > MAX_FRAME {
        return Err(Error::Decode {
            what: "watch event".into(),
            reason: format!("length {length} is too large"),
        });
    }
    Ok(rest.get(..length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_newlines_only() {
        let mut b = BytesMut::from(&b"{\"a\":1}\n\n{\"b\""[..]);
        assert_eq!(line(&mut b, false).unwrap(), &b"{\"a\":1}"[..]);
        assert_eq!(line(&mut b, false), None);
        b.extend_from_slice(b":2}");
        assert_eq!(line(&mut b, true).unwrap(), &b"{\"b\":2}"[..]);
    }

    #[test]
    fn lengths_are_bounded() {
        let b = [0, 0, 0, 2, 7, 8, 0xff, 0, 0, 0];
        assert_eq!(length_prefixed(&b).unwrap(), Some(&b[4..6]));
        assert_eq!(length_prefixed(&b[..5]).unwrap(), None);
        assert_eq!(length_prefixed(&b[..3]).unwrap(), None);
        assert!(length_prefixed(&b[6..]).is_err());
    }
}
