//! What becomes of what the runtime sends: pure, one event after the other.
//! Upstream: client-go/tools/remotecommand/{v1,v2,v3,v4,errorstream}.go, v1.37.

use bytes::Bytes;

use super::Wanted;
use crate::backend::Protocol;
use crate::channels;
use crate::spdy::{Control, Event, REFUSED, Stream};
use crate::status::Verdict;

/// The longest text on the error stream that is kept: a runtime's is a short `Status`.
const MESSAGE: usize = 1 << 20;

/// A stream, and the channel that it is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) stream: Stream,
    pub(super) channel: u8,
    pub(super) kind: &'static str,
    /// The runtime has taken it.
    pub(super) taken: bool,
    /// The runtime sends more.
    open: bool,
}

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// To the client.
    Deliver(u8, Bytes),
    /// Back to the runtime.
    Answer(Control),
    /// The command reads no more input.
    InputUnwanted,
    /// It cannot go on.
    Fail(String),
}

/// One session.
#[derive(Debug)]
pub(super) struct Inbound {
    protocol: Protocol,
    lanes: Vec<Lane>,
    message: Vec<u8>,
    gone: bool,
}

impl Inbound {
    pub(super) fn new(protocol: Protocol, wanted: Wanted) -> Self {
        let resize = wanted.tty && protocol >= Protocol::V3;
        let all = [
            (true, channels::ERROR, "error"),
            (wanted.stdin, channels::STDIN, "stdin"),
            (wanted.stdout, channels::STDOUT, "stdout"),
            (wanted.stderr && !wanted.tty, channels::STDERR, "stderr"),
            (resize, channels::RESIZE, "resize"),
        ];
        let wanted = all.into_iter().filter(|(wanted, ..)| *wanted);
        let lanes = wanted.zip((1..).step_by(2)).map(|((_, channel, kind), stream)| Lane {
            stream,
            channel,
            kind,
            taken: false,
            open: true,
        });
        Self { protocol, lanes: lanes.collect(), message: Vec::new(), gone: false }
    }

    /// All streams, in the order in which they are opened.
    pub(super) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The stream of a channel.
    pub(super) fn stream(&self, channel: u8) -> Option<Stream> {
        self.lanes.iter().find(|lane| lane.channel == channel).map(|lane| lane.stream)
    }

    /// Whether the runtime has taken a stream.
    pub(super) fn taken(&self, stream: Stream) -> bool {
        self.lanes.iter().any(|lane| lane.stream == stream && lane.taken)
    }

    fn lane(&mut self, stream: Stream) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.stream == stream)
    }

    pub(super) fn event(&mut self, event: Event) -> Action {
        match event {
            Event::Data { stream, bytes, last } => self.data(stream, bytes, last),
            Event::Control(Control::Reply { stream, last, .. }) => {
                if let Some(lane) = self.lane(stream) {
                    lane.taken = true;
                }
                if last { self.end(stream) } else { Action::Nothing }
            }
            Event::Control(Control::Headers { stream, last: true, .. }) => self.end(stream),
            Event::Control(Control::Reset { stream, .. }) => match self.lane(stream) {
                Some(lane) if !lane.taken => Action::Fail("Stream reset".to_owned()),
                _ => self.end(stream),
            },
            // Even numbers are the runtime's, the others are answers.
            Event::Control(ping @ Control::Ping(id)) if id % 2 == 0 => Action::Answer(ping),
            Event::Control(Control::Open { stream, .. }) => {
                Action::Answer(Control::Reset { stream, status: REFUSED })
            }
            Event::Control(Control::GoAway { .. }) => {
                self.leave();
                Action::Nothing
            }
            Event::Control(
                Control::Ping(_) | Control::Headers { .. } | Control::Window { .. } | Control::Other(_),
            ) => Action::Nothing,
        }
    }

    fn data(&mut self, stream: Stream, bytes: Bytes, last: bool) -> Action {
        let Some(lane) = self.lane(stream).copied().filter(|lane| lane.open && lane.taken) else {
            return Action::Nothing;
        };
        if lane.channel == channels::ERROR {
            self.message.extend_from_slice(&bytes);
            if self.message.len() > MESSAGE {
                return Action::Fail("error reading from error stream: too long".to_owned());
            }
        }
        let ended = if last { self.end(stream) } else { Action::Nothing };
        match lane.channel {
            channels::STDOUT | channels::STDERR if !bytes.is_empty() => Action::Deliver(lane.channel, bytes),
            _ => ended,
        }
    }

    fn end(&mut self, stream: Stream) -> Action {
        let Some(lane) = self.lane(stream) else { return Action::Nothing };
        lane.open = false;
        if lane.channel == channels::STDIN { Action::InputUnwanted } else { Action::Nothing }
    }

    /// Nothing more comes of anything.
    pub(super) fn leave(&mut self) {
        self.gone = true;
        self.lanes.iter_mut().for_each(|lane| lane.open = false);
    }

    /// Whether the connection is over.
    pub(super) fn gone(&self) -> bool {
        self.gone
    }

    /// How the command ended, once all of its output is here.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let open = |channel: u8| self.lanes.iter().any(|lane| lane.channel == channel && lane.open);
        let silent = !open(channels::STDOUT) && !open(channels::STDERR);
        let said = !open(channels::ERROR);
        let done = match self.protocol {
            // What goes wrong is told at once. What goes well is told by the end of the output, if any is wanted.
            Protocol::V1 if said && !self.message.is_empty() => true,
            Protocol::V1 => {
                silent
                    && (said
                        || self
                            .lanes
                            .iter()
                            .any(|l| l.channel == channels::STDOUT || l.channel == channels::STDERR))
            }
            _ => silent && said,
        };
        let message = if said { self.message.as_slice() } else { &[] };
        done.then(|| Verdict::read(self.protocol, message))
    }
}
