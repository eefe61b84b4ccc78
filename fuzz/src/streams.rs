//! What the kubelet and the API server read of runtimes and of clients over WebSockets.

use bytes::{Bytes, BytesMut};
use streaming::channels;
use streaming::spdy::{Decoder, Encoder, Event};

/// What is read in one piece is read in two; and written, it is read as the same. The first byte says where it is cut.
pub fn spdy(data: &[u8]) {
    let _ = channels::read(Bytes::copy_from_slice(data));
    let Some((cut, data)) = data.split_first() else { return };
    let (head, tail) = data.split_at(usize::from(*cut).min(data.len()));
    let whole = read(&[data]);
    let halves = read(&[head, tail]);
    assert_eq!(whole.1, halves.1);
    assert_eq!(joined(&whole.0), joined(&halves.0));
    let Ok(mut encoder) = Encoder::new() else { return };
    let mut out = BytesMut::new();
    let mut written = Vec::new();
    for event in whole.0 {
        let done = match &event {
            Event::Control(frame) => encoder.control(frame, &mut out).is_ok(),
            Event::Data { stream, bytes, last } => {
                Encoder::data(*stream, bytes, *last, &mut out) == bytes.len()
            }
        };
        if done {
            written.push(event);
        }
    }
    assert_eq!(joined(&read(&[&out]).0), joined(&written));
}

/// The events, and whether all was well.
fn read(parts: &[&[u8]]) -> (Vec<Event>, bool) {
    let (mut decoder, mut input, mut events) = (Decoder::default(), BytesMut::new(), Vec::new());
    for part in parts {
        input.extend_from_slice(part);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return (events, false),
            }
        }
    }
    (events, true)
}

/// Data that comes in parts is one.
fn joined(events: &[Event]) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    for event in events {
        match (all.last_mut(), event) {
            (
                Some(Event::Data { stream, bytes, last: before }),
                Event::Data { stream: next, bytes: more, last },
            ) if stream == next && !*before => {
                *bytes = [bytes.as_ref(), more.as_ref()].concat().into();
                *before = *last;
            }
            _ => all.push(event.clone()),
        }
    }
    all
}
