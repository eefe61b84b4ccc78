//! A runtime made of the codec, and a client: whole sessions through a small buffer.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::spdy::{Control, Decoder, Encoder, Event};

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };

/// The runtime's side.
struct Runtime {
    io: DuplexStream,
    decoder: Decoder,
    encoder: Encoder,
    input: BytesMut,
    kinds: Vec<String>,
}

impl Runtime {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decoder.next(&mut self.input).unwrap() {
                return Some(event);
            }
            if self.io.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn send(&mut self, frame: &Control) {
        let mut out = BytesMut::new();
        self.encoder.control(frame, &mut out).unwrap();
        self.io.write_all(&out).await.unwrap();
    }

    async fn data(&mut self, kind: &str, bytes: &[u8], last: bool) {
        let at = self.kinds.iter().position(|k| k == kind).unwrap();
        let mut out = BytesMut::new();
        Encoder::data(u32::try_from(at).unwrap() * 2 + 1, bytes, last, &mut out);
        self.io.write_all(&out).await.unwrap();
    }

    /// Takes all streams.
    async fn take(&mut self, count: usize) {
        while self.kinds.len() < count {
            let Some(Event::Control(Control::Open { stream, headers, .. })) = self.next().await else {
                panic!("no stream was opened")
            };
            assert_eq!(headers[0].0, "streamtype");
            self.kinds.push(headers[0].1.clone());
            self.send(&Control::Reply { stream, last: false, headers: vec![] }).await;
        }
    }

    /// The bytes of a stream up to its end.
    async fn input(&mut self, stream: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Some(Event::Data { stream: s, bytes, last }) if s == stream => {
                    all.extend_from_slice(&bytes);
                    if last {
                        return all;
                    }
                }
                Some(_) => {}
                None => panic!("the connection ended first"),
            }
        }
    }
}

struct Client(WebSocketStream<DuplexStream>);

impl Client {
    async fn say(&mut self, bytes: &[u8]) {
        self.0.send(Message::Binary(Bytes::copy_from_slice(bytes))).await.unwrap();
    }

    /// What comes on each channel, to the end.
    async fn hear(&mut self) -> [Vec<u8>; 4] {
        let mut all = <[Vec<u8>; 4]>::default();
        while let Some(Ok(message)) = self.0.next().await {
            match message {
                Message::Binary(bytes) => all[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
                Message::Close(frame) => assert_eq!(frame.unwrap().code, CloseCode::Normal),
                _ => {}
            }
        }
        all
    }
}

async fn session(wanted: Wanted, protocol: Protocol) -> (Client, Runtime, JoinHandle<u16>) {
    // Smaller than what is sent: whoever does not read stops the other.
    let (client, near) = tokio::io::duplex(4 << 10);
    let (far, io) = tokio::io::duplex(4 << 10);
    let task = tokio::spawn(async move { serve(near, wanted, async { Ok((far, protocol)) }).await });
    let mut client = Client(WebSocketStream::from_raw_socket(client, Role::Client, None).await);
    let first = client.0.next().await.unwrap().unwrap();
    assert_eq!(first.into_data().len(), 1, "an empty message says that the connection stands");
    let runtime = Runtime {
        io,
        decoder: Decoder::default(),
        encoder: Encoder::new().unwrap(),
        input: BytesMut::new(),
        kinds: vec![],
    };
    (client, runtime, task)
}

fn big() -> Vec<u8> {
    (0..300_000_u32).map(|n| n.to_be_bytes()[3]).collect()
}

#[tokio::test]
async fn input_ends_and_output_comes_back() {
    let (mut client, mut runtime, task) = session(ALL, Protocol::V4).await;
    let echo = tokio::spawn(async move {
        runtime.take(4).await;
        assert_eq!(runtime.kinds, ["error", "stdin", "stdout", "stderr"]);
        let all = runtime.input(3).await;
        runtime.data("stdout", &all, true).await;
        runtime.data("stderr", b"complaint", true).await;
        runtime.data("error", br#"{"metadata":{},"status":"Success"}"#, true).await;
        while runtime.next().await.is_some() {}
    });
    client.say(&[&[0][..], &big()].concat()).await;
    client.say(&[255, 0]).await;
    let [_, stdout, stderr, verdict] = client.hear().await;
    assert_eq!((stdout == big(), stderr.as_slice()), (true, &b"complaint"[..]));
    assert_eq!(verdict, br#"{"metadata":{},"status":"Success"}"#);
    drop(client);
    assert_eq!(task.await.unwrap(), 200);
    echo.await.unwrap();
}

#[tokio::test]
async fn terminals() {
    let wanted = Wanted { stderr: true, tty: true, ..ALL };
    let (mut client, mut runtime, task) = session(wanted, Protocol::V4).await;
    client.say(b"\x04{\"Width\":80,\"Height\":24}\n").await;
    client.say(b"\x00ls\n").await;
    runtime.take(4).await;
    assert_eq!(runtime.kinds, ["error", "stdin", "stdout", "resize"]);
    let said = [runtime.next().await.unwrap(), runtime.next().await.unwrap()];
    let data = |stream, bytes| Event::Data { stream, bytes: Bytes::from_static(bytes), last: false };
    assert_eq!(said, [data(7, b"{\"Width\":80,\"Height\":24}\n"), data(3, b"ls\n")]);
    runtime.data("stdout", b"x", true).await;
    let exit = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
    runtime.data("error", exit.as_bytes(), true).await;
    let [.., verdict] = client.hear().await;
    assert!(String::from_utf8_lossy(&verdict).contains(r#""message":"7""#));
    drop(client);
    assert_eq!(task.await.unwrap(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_closes_input_and_connection() {
    let (client, mut runtime, task) = session(ALL, Protocol::V4).await;
    runtime.take(4).await;
    drop(client);
    assert_eq!(runtime.input(3).await, b"");
    while runtime.next().await.is_some() {}
    assert_eq!(task.await.unwrap(), 200);
}

#[tokio::test]
async fn input_that_is_not_read_does_not_hold_output() {
    let (mut client, mut runtime, task) = session(ALL, Protocol::V4).await;
    runtime.take(4).await;
    let talk = tokio::spawn(async move {
        // Longer than all buffers together: it cannot all be sent.
        let _ = client.0.feed(Message::Binary(channels::write(0, &vec![0; 1 << 20]))).await;
        client
    });
    runtime.data("stdout", b"enough", true).await;
    runtime.data("stderr", b"", true).await;
    runtime.data("error", b"", true).await;
    // The verdict is there before the client has sent all; it leaves then.
    talk.abort();
    drop(runtime);
    assert_eq!(task.await.unwrap(), 200);
}

#[tokio::test]
async fn pings_are_answered_and_streams_refused() {
    let (client, mut runtime, _task) = session(ALL, Protocol::V4).await;
    runtime.take(4).await;
    runtime.send(&Control::Ping(2)).await;
    assert_eq!(runtime.next().await, Some(Event::Control(Control::Ping(2))));
    runtime.send(&Control::Open { stream: 2, last: false, headers: vec![] }).await;
    let refused = Control::Reset { stream: 2, status: crate::spdy::REFUSED };
    assert_eq!(runtime.next().await, Some(Event::Control(refused)));
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn silence() {
    let (mut client, mut runtime, task) = session(ALL, Protocol::V4).await;
    runtime.take(4).await;
    // Pings are sent meanwhile, which are no activity.
    let pings = tokio::spawn(async move {
        let mut count = 0;
        while let Some(event) = runtime.next().await {
            count += usize::from(matches!(event, Event::Control(Control::Ping(_))));
        }
        count
    });
    let begin = tokio::time::Instant::now();
    client.hear().await;
    assert_eq!(begin.elapsed().as_secs() / 60, 4 * 60);
    assert!(pings.await.unwrap() > 1000);
    assert_eq!(task.await.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_taken() {
    let (mut client, mut runtime, task) = session(ALL, Protocol::V4).await;
    runtime.take(1).await;
    let [.., verdict] = client.hear().await;
    assert!(String::from_utf8_lossy(&verdict).contains("Internal error occurred: Timeout occurred"));
    drop(client);
    assert_eq!(task.await.unwrap(), 500);
}

#[tokio::test]
async fn a_runtime_that_cannot_be_reached() {
    let (client, near) = tokio::io::duplex(4 << 10);
    let refused = async { Err::<(DuplexStream, _), _>("no route".to_owned()) };
    let task = tokio::spawn(async move { serve(near, ALL, refused).await });
    let mut client = Client(WebSocketStream::from_raw_socket(client, Role::Client, None).await);
    let [.., verdict] = client.hear().await;
    assert!(String::from_utf8_lossy(&verdict).contains("Internal error occurred: no route"));
    drop(client);
    assert_eq!(task.await.unwrap(), 500);
}

#[tokio::test]
async fn the_oldest_protocol_cannot_close_input() {
    let (mut client, mut runtime, task) = session(ALL, Protocol::V1).await;
    runtime.take(4).await;
    client.say(b"\0x").await;
    client.say(&[255, 0]).await;
    let bytes = Bytes::from_static(b"x");
    assert_eq!(runtime.next().await, Some(Event::Data { stream: 3, bytes, last: false }));
    runtime.data("error", b"it broke", true).await;
    let [.., verdict] = client.hear().await;
    assert!(String::from_utf8_lossy(&verdict).contains("Error executing remote command: it broke"));
    drop(client);
    assert_eq!(task.await.unwrap(), 500);
}
