//! Moves the bytes: what the client says to the runtime, what the runtime says to the client.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::inbound::{Action, Inbound};
use super::wire::Wire;
use super::{End, Wanted};
use crate::backend::Protocol;
use crate::channels::{self, Said};
use crate::spdy::{Control, Decoder, Event, Stream};
use crate::status::Verdict;

/// Keeps load balancers from closing silent connections. Upstream: `PingPeriod` of streamtranslator.go.
const PING: Duration = Duration::from_secs(5);

/// How long the runtime may take to accept a stream. Upstream: `createStreamResponseTimeout`.
const TAKEN: Duration = Duration::from_secs(30);

/// Bytes that are read at once.
const PART: usize = 32 << 10;

/// Answers to the runtime that wait to be written. A runtime that asks for more without reading gets fewer answers.
const ANSWERS: usize = 16;

/// When bytes moved last.
struct Activity(Mutex<Instant>);

impl Activity {
    fn touch(&self) {
        *self.0.lock() = Instant::now();
    }

    async fn idle(&self, limit: Duration) {
        loop {
            let end = *self.0.lock() + limit;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// The reading half of the connection to the runtime.
struct Reader<R> {
    io: R,
    decoder: Decoder,
    input: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// The next event; nothing when the runtime has closed the connection.
    async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.decoder.next(&mut self.input).map_err(io::Error::other)? {
                return Ok(Some(event));
            }
            self.input.reserve(PART);
            if self.io.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Opens the streams and moves bytes until the end.
pub(super) async fn run<C, B>(
    socket: &mut WebSocketStream<C>,
    backend: B,
    protocol: Protocol,
    wanted: Wanted,
    idle: Duration,
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |why: String| End::Verdict(Verdict::Failed(why));
    let (read, write) = tokio::io::split(backend);
    let mut reader = Reader { io: read, decoder: Decoder::default(), input: BytesMut::new() };
    let mut wire = match Wire::new(write) {
        Ok(wire) => wire,
        Err(error) => return failed(error.to_string()),
    };
    let mut inbound = Inbound::new(protocol, wanted);
    let end = match open(&mut wire, &mut reader, &mut inbound).await {
        Ok(early) => talk(socket, &mut wire, reader, &mut inbound, (early, protocol, idle)).await,
        Err(why) => failed(why),
    };
    let streams: Vec<Stream> = inbound.lanes().iter().map(|lane| lane.stream).collect();
    wire.close(&streams).await;
    end
}

/// Opens one stream after the other, each once the one before is taken. What comes early is kept, if it is little.
async fn open<R, W>(
    wire: &mut Wire<W>,
    reader: &mut Reader<R>,
    inbound: &mut Inbound,
) -> Result<Vec<Action>, String>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut early = Vec::new();
    for lane in inbound.lanes().to_vec() {
        let headers = vec![("streamtype".to_owned(), lane.kind.to_owned())];
        let frame = Control::Open { stream: lane.stream, last: false, headers };
        wire.control(&frame).await.map_err(|e| e.to_string())?;
        let taken = async {
            while !inbound.taken(lane.stream) {
                let event = reader.next().await.map_err(|e| e.to_string())?;
                match inbound.event(event.ok_or("the connection was closed")?) {
                    Action::Nothing => {}
                    Action::Fail(why) => return Err(why),
                    action if early.len() < ANSWERS => early.push(action),
                    _ => return Err("the server sends before all streams are open".to_owned()),
                }
                if inbound.gone() {
                    return Err("the connection was closed".to_owned());
                }
            }
            Ok(())
        };
        tokio::time::timeout(TAKEN, taken).await.map_err(|_| "Timeout occurred".to_owned())??;
    }
    Ok(early)
}

async fn talk<C, R, W>(
    socket: &mut WebSocketStream<C>,
    wire: &mut Wire<W>,
    reader: Reader<R>,
    inbound: &mut Inbound,
    (early, protocol, idle): (Vec<Action>, Protocol, Duration),
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let activity = Activity(Mutex::new(Instant::now()));
    let (sink, source) = socket.split();
    let (answers, to_write) = mpsc::channel(ANSWERS);
    let (unwanted, input) = watch::channel(false);
    let up = Up {
        source,
        wire,
        answers: to_write,
        unwanted: input,
        stdin: inbound.stream(channels::STDIN),
        resize: inbound.stream(channels::RESIZE),
        closes: protocol > Protocol::V1,
        activity: &activity,
    };
    let down = Down { reader, sink, inbound, answers, unwanted, activity: &activity };
    tokio::select! {
        // The verdict first: a client may leave as soon as it has it.
        biased;
        end = down.run(early) => end,
        () = up.run() => End::ClientLeft,
        () = activity.idle(idle) => End::ClientLeft,
    }
}

/// From the client to the runtime.
struct Up<'a, C, W> {
    source: SplitStream<&'a mut WebSocketStream<C>>,
    wire: &'a mut Wire<W>,
    answers: mpsc::Receiver<Control>,
    unwanted: watch::Receiver<bool>,
    stdin: Option<Stream>,
    resize: Option<Stream>,
    /// Input can be closed.
    closes: bool,
    activity: &'a Activity,
}

impl<C, W> Up<'_, C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Until the client leaves.
    async fn run(mut self) {
        if let Err(error) = self.copy().await {
            tracing::debug!(%error, "Input of a command ended");
        }
        // The command sees the end of its input, whatever else becomes of it.
        let _ = self.close_input().await;
    }

    async fn copy(&mut self) -> io::Result<()> {
        let mut pings = tokio::time::interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ping = 1;
        loop {
            tokio::select! {
                biased;
                Some(answer) = self.answers.recv() => self.wire.control(&answer).await?,
                Ok(()) = self.unwanted.changed() => self.close_input().await?,
                _ = pings.tick() => {
                    self.wire.control(&Control::Ping(ping)).await?;
                    ping = if ping > i32::MAX.unsigned_abs() - 2 { 1 } else { ping + 2 };
                }
                message = self.source.next() => {
                    self.activity.touch();
                    match message {
                        Some(Ok(Message::Binary(bytes))) => self.said(bytes).await?,
                        Some(Ok(Message::Text(text))) => self.said(text.into()).await?,
                        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                        Some(Ok(Message::Close(_))) | None => return Ok(()),
                        Some(Err(error)) => return Err(io::Error::other(error)),
                    }
                }
            }
        }
    }

    async fn said(&mut self, message: Bytes) -> io::Result<()> {
        match channels::read(message) {
            Said::Data(channels::STDIN, bytes) => match self.stdin {
                Some(stream) => self.wire.data(stream, &bytes).await,
                None => Ok(()),
            },
            Said::Data(channels::RESIZE, bytes) => match self.resize {
                Some(stream) => self.wire.data(stream, &bytes).await,
                None => Ok(()),
            },
            Said::Closed(channels::STDIN) => self.close_input().await,
            Said::Data(..) | Said::Closed(_) | Said::Nothing => Ok(()),
            Said::Broken(why) => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
        }
    }

    async fn close_input(&mut self) -> io::Result<()> {
        match self.stdin.take().filter(|_| self.closes) {
            Some(stream) => self.wire.last(stream).await,
            None => Ok(()),
        }
    }
}

/// From the runtime to the client.
struct Down<'a, C, R> {
    reader: Reader<R>,
    sink: SplitSink<&'a mut WebSocketStream<C>, Message>,
    inbound: &'a mut Inbound,
    answers: mpsc::Sender<Control>,
    unwanted: watch::Sender<bool>,
    activity: &'a Activity,
}

impl<C, R> Down<'_, C, R>
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    /// Until the command ends.
    async fn run(mut self, early: Vec<Action>) -> End {
        for action in early {
            if let Some(end) = self.act(action).await {
                return end;
            }
        }
        loop {
            if let Some(verdict) = self.inbound.verdict() {
                return End::Verdict(verdict);
            }
            let action = match self.reader.next().await {
                Ok(Some(event)) => self.inbound.event(event),
                ended => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "Connection to the runtime broke");
                    }
                    // As upstream's: streams without a connection have ended, and what they said counts.
                    self.inbound.leave();
                    Action::Nothing
                }
            };
            if let Some(end) = self.act(action).await {
                return end;
            }
            if self.inbound.gone() {
                let lost = || Verdict::Failed("the connection was closed".to_owned());
                return End::Verdict(self.inbound.verdict().unwrap_or_else(lost));
            }
        }
    }

    async fn act(&mut self, action: Action) -> Option<End> {
        match action {
            Action::Nothing => {}
            Action::Deliver(channel, bytes) => {
                let message = Message::Binary(channels::write(channel, &bytes));
                if self.sink.send(message).await.is_err() {
                    return Some(End::ClientLeft);
                }
                self.activity.touch();
            }
            Action::Answer(answer) => drop(self.answers.try_send(answer)),
            Action::InputUnwanted => drop(self.unwanted.send(true)),
            Action::Fail(why) => return Some(End::Verdict(Verdict::Failed(why))),
        }
        None
    }
}
