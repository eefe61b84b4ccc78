//! The list/watch state machine: pure decisions, no I/O.
//!
//! Start at [`step`]. The reflector performs the [`Action`] and reports back an [`Input`].
//! Upstream: client-go/tools/cache/reflector.go. Differs: a watch that breaks after it worked is resumed from the last
//! version without a list, and a streaming list that breaks half-way starts over with back-off; both keep the store's
//! contents until a complete new state has arrived.

use std::time::Duration;

/// Where the reflector stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet, nothing is under way.
    Empty,
    /// A streaming list is under way (WatchList). Ends with the annotated bookmark, then the same stream is the watch.
    Streaming {
        /// The version asked for at least, "" for the newest.
        rv: String,
    },
    /// A list is under way, perhaps in pages. Ends with the last page.
    Listing {
        /// The version asked for.
        rv: String,
        /// Token of the next page, "" on the first.
        token: String,
    },
    /// The store is complete as of `rv`; a watch is open or being opened.
    Watching {
        /// Last version seen.
        rv: String,
        /// Whether the open stream has delivered anything.
        alive: bool,
    },
    /// Waiting before the next try.
    Backoff {
        /// What is tried after the pause.
        next: Next,
    },
}

/// What follows a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Get the whole state anew, at least as new as this.
    Relist {
        /// Version to ask for: "0" any, "" newest.
        rv: String,
    },
    /// Resume the watch.
    Rewatch {
        /// Version after which to resume.
        rv: String,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// First step.
    Start,
    /// A page of a list arrived.
    Page {
        /// The list's version.
        rv: String,
        /// Token of the next page, "" on the last.
        token: String,
    },
    /// An object event arrived.
    Event {
        /// The object's version.
        rv: String,
    },
    /// A bookmark arrived.
    Bookmark {
        /// Its version.
        rv: String,
        /// It ends the initial state.
        initial_end: bool,
    },
    /// The server closed the stream in order.
    Closed {
        /// The stream had been open for less than a second.
        short: bool,
    },
    /// A call or stream failed.
    Failed(Failure),
    /// The pause is over.
    Timer,
}

/// Kinds of failure that lead to different ways on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The version is no longer known (410).
    Expired,
    /// The version is not known yet (the server's cache is behind).
    TooNew,
    /// The server does not do what was asked (400, 404 of a feature, 422): not a streaming list, or not at all.
    Refused,
    /// The server met an error of its own (5xx, also inside a stream): another way of asking may succeed.
    Internal,
    /// Anything that a later try may cure: no connection, cut stream, 429, 5xx, 401, 403.
    Transient,
    /// The events do not make sense (decoding failed): only a new list helps.
    Garbled,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a streaming list.
    Stream {
        /// Version to ask for.
        rv: String,
    },
    /// Ask for a page.
    List {
        /// Version to ask for, unless there is a token.
        rv: String,
        /// Token of the page.
        token: String,
        /// Page size, 0 for everything at once.
        limit: u32,
    },
    /// Open a watch.
    Watch {
        /// Version after which to start.
        rv: String,
    },
    /// Go on reading the open stream.
    Read,
    /// Replace the store by what was collected, then go on reading the open stream.
    ReplaceAndRead,
    /// Replace the store by what was collected, then open a watch.
    ReplaceAndWatch {
        /// Version after which to start.
        rv: String,
    },
    /// Pause, then report [`Input::Timer`].
    Pause {
        /// At least this long, when the machine knows; the back-off decides otherwise.
        again_at_once: bool,
    },
}

/// What the machine remembers about the server and the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Where it stands.
    pub state: State,
    /// Streaming lists are tried.
    pub streaming: bool,
    /// Newest version that the store has reached, "" if none.
    pub synced_rv: String,
}

/// Pages when the watch cache cannot answer: as client-go's pager.
const PAGE: u32 = 500;

impl Machine {
    /// A machine that has seen nothing.
    pub fn new(streaming: bool) -> Self {
        Self { state: State::Empty, streaming, synced_rv: String::new() }
    }

    fn relist(&mut self, rv: String) -> Action {
        if self.streaming {
            self.state = State::Streaming { rv: rv.clone() };
            Action::Stream { rv }
        } else {
            self.list(rv)
        }
    }

    /// A list in pages, whatever is usually tried.
    fn list(&mut self, rv: String) -> Action {
        // Version "0" is served from the watch cache in one piece, so pages would only be refused there.
        let limit = if rv == "0" { 0 } else { PAGE };
        self.state = State::Listing { rv: rv.clone(), token: String::new() };
        Action::List { rv, token: String::new(), limit }
    }

    fn first_rv(&self) -> String {
        match (self.synced_rv.as_str(), self.streaming) {
            ("", true) => String::new(),
            ("", false) => "0".to_string(),
            (rv, _) => rv.to_string(),
        }
    }

    fn watch(&mut self, rv: String) -> Action {
        self.state = State::Watching { rv: rv.clone(), alive: false };
        Action::Watch { rv }
    }

    fn pause(&mut self, next: Next, again_at_once: bool) -> Action {
        self.state = State::Backoff { next };
        Action::Pause { again_at_once }
    }

    /// The next action. An input that does not fit the state (a reflector's mistake) leads to a new list.
    pub fn step(&mut self, input: Input) -> Action {
        match (std::mem::replace(&mut self.state, State::Empty), input) {
            (State::Backoff { next: Next::Relist { rv } }, Input::Timer) => self.relist(rv),
            (State::Backoff { next: Next::Rewatch { rv } }, Input::Timer) => self.watch(rv),
            (State::Listing { rv: asked, .. }, Input::Page { rv, token }) => self.page(asked, rv, token),
            (State::Streaming { rv }, input) => self.streaming(rv, input),
            (State::Watching { rv, alive }, input) => self.watching(rv, alive, input),
            (State::Listing { rv, token }, Input::Failed(failure)) => self.list_failed(rv, &token, failure),
            (_, _) => {
                let rv = self.first_rv();
                self.relist(rv)
            }
        }
    }

    fn page(&mut self, asked: String, rv: String, token: String) -> Action {
        if token.is_empty() {
            self.synced_rv.clone_from(&rv);
            self.state = State::Watching { rv: rv.clone(), alive: false };
            return Action::ReplaceAndWatch { rv };
        }
        self.state = State::Listing { rv: asked.clone(), token: token.clone() };
        Action::List { rv: asked, token, limit: PAGE }
    }

    fn list_failed(&mut self, rv: String, token: &str, failure: Failure) -> Action {
        match failure {
            // A token that expired, or a version nobody has: the newest state always exists.
            Failure::Expired | Failure::TooNew if !rv.is_empty() || !token.is_empty() => {
                self.pause(Next::Relist { rv: String::new() }, true)
            }
            _ => self.pause(Next::Relist { rv }, false),
        }
    }

    fn streaming(&mut self, rv: String, input: Input) -> Action {
        match input {
            Input::Bookmark { rv: now, initial_end: true } => {
                self.synced_rv.clone_from(&now);
                self.state = State::Watching { rv: now, alive: true };
                Action::ReplaceAndRead
            }
            Input::Event { .. } | Input::Bookmark { .. } => {
                self.state = State::Streaming { rv };
                Action::Read
            }
            Input::Failed(Failure::Refused) => {
                self.streaming = false;
                let rv = self.first_rv();
                self.relist(rv)
            }
            Input::Failed(Failure::Expired | Failure::TooNew) if !rv.is_empty() => {
                self.pause(Next::Relist { rv: String::new() }, true)
            }
            // A server on an old etcd offers streaming lists and then cannot serve them.
            // Upstream: reflector.go ListAndWatch falls back to a list after any error of a watch list.
            Input::Failed(Failure::Internal) => self.list(rv),
            _ => self.pause(Next::Relist { rv }, false),
        }
    }

    fn watching(&mut self, rv: String, alive: bool, input: Input) -> Action {
        match input {
            Input::Event { rv: now } | Input::Bookmark { rv: now, .. } => {
                let now = if now.is_empty() { rv } else { now };
                self.synced_rv.clone_from(&now);
                self.state = State::Watching { rv: now, alive: true };
                Action::Read
            }
            Input::Closed { short } if short && !alive => self.pause(Next::Rewatch { rv }, false),
            Input::Closed { .. } => self.watch(rv),
            // The cache may still have what the event log has not: ask for at least the version we know.
            Input::Failed(Failure::Expired) => {
                let from = if self.streaming { String::new() } else { rv };
                self.pause(Next::Relist { rv: from }, true)
            }
            Input::Failed(Failure::Refused | Failure::Garbled) => {
                self.pause(Next::Relist { rv: String::new() }, false)
            }
            // A stream that worked is resumed at once; one that never did waits.
            Input::Failed(Failure::Transient | Failure::Internal | Failure::TooNew) => {
                self.pause(Next::Rewatch { rv }, alive)
            }
            Input::Start | Input::Timer | Input::Page { .. } => {
                let rv = self.first_rv();
                self.relist(rv)
            }
        }
    }
}

/// Pauses between tries: 0.8 s doubling to 30 s, each stretched by up to its own length; two quiet minutes start over.
/// Upstream: client-go/tools/cache/reflector.go NewNamedReflector.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    last: Option<Duration>,
}

const FIRST: Duration = Duration::from_millis(800);
const LAST: Duration = Duration::from_secs(30);
const RESET: Duration = Duration::from_secs(120);

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST, last: None }
    }
}

impl Backoff {
    /// The pause; `now` is the time since some start, `jitter` is in 0..1.
    pub fn pause(&mut self, now: Duration, jitter: f64) -> Duration {
        if self.last.is_some_and(|last| now.saturating_sub(last) > RESET) {
            self.next = FIRST;
        }
        self.last = Some(now);
        let pause = self.next.mul_f64(1.0 + jitter.clamp(0.0, 1.0));
        self.next = (self.next * 2).min(LAST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(streaming: bool, script: &[(Input, Action)]) -> Machine {
        let mut machine = Machine::new(streaming);
        for (i, (input, want)) in script.iter().enumerate() {
            assert_eq!(&machine.step(input.clone()), want, "step {i}: {input:?}");
        }
        machine
    }

    fn event(rv: &str) -> Input {
        Input::Event { rv: rv.into() }
    }
    fn bookmark(rv: &str, initial_end: bool) -> Input {
        Input::Bookmark { rv: rv.into(), initial_end }
    }
    fn stream(rv: &str) -> Action {
        Action::Stream { rv: rv.into() }
    }
    fn watch(rv: &str) -> Action {
        Action::Watch { rv: rv.into() }
    }
    fn list(rv: &str, token: &str, limit: u32) -> Action {
        Action::List { rv: rv.into(), token: token.into(), limit }
    }
    fn page(rv: &str, token: &str) -> Input {
        Input::Page { rv: rv.into(), token: token.into() }
    }
    fn pause(again_at_once: bool) -> Action {
        Action::Pause { again_at_once }
    }

    #[test]
    fn streaming_list_becomes_watch_and_resumes() {
        let m = run(
            true,
            &[
                (Input::Start, stream("")),
                (event("5"), Action::Read),
                (bookmark("9", true), Action::ReplaceAndRead),
                (event("10"), Action::Read),
                (Input::Failed(Failure::Transient), pause(true)),
                (Input::Timer, watch("10")),
                (bookmark("20", false), Action::Read),
                (Input::Closed { short: false }, watch("20")),
                (Input::Closed { short: true }, pause(false)),
                (Input::Timer, watch("20")),
                (Input::Failed(Failure::Expired), pause(true)),
                (Input::Timer, stream("")),
            ],
        );
        assert_eq!(m.synced_rv, "20");
    }

    #[test]
    fn refusal_falls_back_to_pages() {
        run(
            true,
            &[
                (Input::Start, stream("")),
                (Input::Failed(Failure::Refused), list("0", "", 0)),
                (Input::Failed(Failure::TooNew), pause(true)),
                (Input::Timer, list("", "", 500)),
                (page("7", "t"), list("", "t", 500)),
                (Input::Failed(Failure::Expired), pause(true)),
                (Input::Timer, list("", "", 500)),
                (page("8", ""), Action::ReplaceAndWatch { rv: "8".into() }),
                (event("9"), Action::Read),
                (Input::Failed(Failure::Expired), pause(true)),
                (Input::Timer, list("9", "", 500)),
            ],
        );
    }

    #[test]
    fn a_server_that_cannot_stream_is_listed() {
        run(
            true,
            &[
                (Input::Start, stream("")),
                (Input::Failed(Failure::Internal), list("", "", 500)),
                (page("8", ""), Action::ReplaceAndWatch { rv: "8".into() }),
                (event("9"), Action::Read),
                (Input::Failed(Failure::Internal), pause(true)),
                (Input::Timer, watch("9")),
            ],
        );
    }

    #[test]
    fn backoff_grows_and_starts_over() {
        let mut b = Backoff::default();
        let s = Duration::from_secs_f64;
        for (now, jitter, want) in [(0.0, 0.0, 0.8), (1.0, 0.5, 2.4), (2.0, 0.0, 3.2), (300.0, 1.0, 1.6)] {
            assert_eq!(b.pause(s(now), jitter), s(want), "at {now}");
        }
    }
}
