//! The frames in `testdata/frames.txt` are spdystream's own (`e2e/oracle/streaming frames`).

use bytes::{Bytes, BytesMut};

use super::*;

const FRAMES: &str = include_str!("../../testdata/frames.txt");

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn side(name: &str) -> Vec<Vec<u8>> {
    FRAMES.lines().filter_map(|line| line.strip_prefix(name)).map(hex).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn data(stream: Stream, bytes: &'static [u8], last: bool) -> Event {
    Event::Data { stream, bytes: Bytes::from_static(bytes), last }
}

/// All events, when the bytes come in pieces.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Event>, Error> {
    let (mut decoder, mut input, mut events) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        while let Some(event) = decoder.next(&mut input)? {
            events.push(event);
        }
    }
    Ok(events)
}

fn client() -> Vec<Event> {
    let open = |stream, headers: &[_]| {
        Event::Control(Control::Open { stream, last: false, headers: pairs(headers) })
    };
    vec![
        open(1, &[("streamtype", "error")]),
        open(3, &[("streamtype", "stdin")]),
        open(5, &[("port", "80"), ("requestid", "0"), ("streamtype", "data")]),
        data(3, b"hello", false),
        data(3, b"", true),
        Event::Control(Control::Ping(1)),
        Event::Control(Control::Reset { stream: 5, status: CANCEL }),
        Event::Control(Control::GoAway { stream: 0, status: 0 }),
    ]
}

fn server() -> Vec<Event> {
    let reply = |stream, headers: &[_]| {
        Event::Control(Control::Reply { stream, last: false, headers: pairs(headers) })
    };
    vec![
        reply(1, &[]),
        reply(3, &[("a", "b")]),
        data(5, &[b'x'; 300], false),
        Event::Control(Control::Ping(2)),
        Event::Control(Control::Headers { stream: 1, last: false, headers: pairs(&[("c", "d")]) }),
        Event::Control(Control::Window { stream: 1, more: 9 }),
        Event::Control(Control::Other(4)),
        Event::Control(Control::GoAway { stream: 5, status: 0 }),
    ]
}

/// Headers come in any order.
fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    for event in &mut events {
        if let Event::Control(Control::Open { headers, .. }) = event {
            headers.sort();
        }
    }
    events
}

#[test]
fn spdystreams_frames_are_read() {
    assert_eq!(sorted(read(&side("client ").concat(), usize::MAX).unwrap()), client());
    assert_eq!(read(&side("server ").concat(), usize::MAX).unwrap(), server());
}

#[test]
fn pieces_do_not_matter() {
    let bytes = side("server ").concat();
    for piece in [1, 7, 100] {
        // Data comes in pieces, too.
        let whole = read(&bytes, piece).unwrap().into_iter().filter(|e| matches!(e, Event::Control(_)));
        let want: Vec<Event> = server().into_iter().filter(|e| matches!(e, Event::Control(_))).collect();
        assert_eq!(whole.collect::<Vec<_>>(), want, "{piece}");
        let events = read(&bytes, piece).unwrap();
        let length = |event: &Event| if let Event::Data { bytes, .. } = event { bytes.len() } else { 0 };
        assert_eq!(events.iter().map(length).sum::<usize>(), 300);
    }
}

fn write(events: &[Event]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::new().unwrap(), BytesMut::new());
    for event in events {
        match event {
            Event::Control(frame) => encoder.control(frame, &mut out).unwrap(),
            Event::Data { stream, bytes, last } => {
                assert_eq!(Encoder::data(*stream, bytes, *last, &mut out), bytes.len());
            }
        }
    }
    out
}

#[test]
fn what_is_written_is_read() {
    let events = client();
    let out = write(&events);
    assert_eq!(read(&out, usize::MAX).unwrap(), events);
    // Frames without headers are spdystream's to the byte.
    assert_eq!(write(&events[3..]).as_ref(), side("client ")[3..].concat());
    let mut out = BytesMut::new();
    assert_eq!(Encoder::data(1, &vec![0; DATA + 1], true, &mut out), DATA);
    assert_eq!(out[4], 0, "the last byte is not in it");
}

#[test]
fn long_headers() {
    let headers = pairs(&[("a", &"x".repeat(30_000)), ("b", &"y".repeat(30_000))]);
    let events = [Event::Control(Control::Open { stream: 1, last: true, headers })];
    assert_eq!(read(&write(&events), 999).unwrap(), events);
    let too_long = Control::Open { stream: 1, last: false, headers: pairs(&[("a", &"x".repeat(70_000))]) };
    assert!(Encoder::new().unwrap().control(&too_long, &mut BytesMut::new()).is_err());
}

#[test]
fn a_bomb_is_refused() {
    // 1 MiB of zeros in a block that passes for short.
    let mut compress = flate2::Compress::new(flate2::Compression::best(), true);
    let mut block = Vec::with_capacity(4 << 10);
    compress.compress_vec(&vec![0; 1 << 20], &mut block, flate2::FlushCompress::Sync).unwrap();
    let length = u8::try_from((block.len() + 4) >> 8).unwrap();
    let mut frame =
        vec![0x80, 3, 0, 2, 0, 0, length, u8::try_from((block.len() + 4) & 0xff).unwrap(), 0, 0, 0, 1];
    frame.extend(block);
    assert_eq!(read(&frame, usize::MAX), Err(Error::Headers("too long")));
}

#[test]
fn what_is_not_spdy_is_refused() {
    for (bytes, want) in [
        ("8002000100000000", Error::Version(2)),
        ("0000000000000000", Error::Zero),
        ("8003000100ffffff", Error::Long(0x00ff_ffff)),
        ("8003000600000000", Error::Length(PING)),
        ("8003000600000004 00000000", Error::Zero),
        ("8003000300000008 00000000 00000001", Error::Zero),
        ("8003000300000004 00000001", Error::Length(RESET)),
        ("8003000100000004 00000001", Error::Length(OPEN)),
        ("8003000200000006 00000001 ffff", Error::Headers("not compressed as zlib does")),
        ("8003000200000004 00000001", Error::Headers("shorter than they say")),
    ] {
        assert_eq!(read(&hex(bytes), usize::MAX), Err(want), "{bytes}");
    }
    // HTTP, by mistake: as data of a stream, which nobody has.
    assert!(read(b"HTTP/1.1 400 Bad Request\r\n\r\n", usize::MAX).is_ok());
}
