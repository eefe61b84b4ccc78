//! Which sockets there are, who registered at which, and what is to be done next. Upstream: cache and reconciler, and
//! pkg/util/goroutinemap for the pauses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::PluginInfo;

/// First pause after a registration that failed.
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(122);

/// Tells one socket from another one at the same path: its inode and when it was made.
pub type Identity = (u64, i64, i64);

/// Something to do with a socket; the next one waits for its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask who listens, and register it.
    Register(PathBuf),
    /// Who registered here is gone.
    Deregister(PathBuf, PluginInfo),
}

#[derive(Debug, Default)]
struct Socket {
    /// What is there now.
    wanted: Option<Identity>,
    /// Who registered, and at which socket.
    actual: Option<(Identity, PluginInfo)>,
    /// The socket that a step under way began with.
    busy: Option<Option<Identity>>,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Socket {
    fn next(&self, path: &Path, now: Instant) -> Option<Step> {
        if self.busy.is_some() {
            return None;
        }
        match (&self.actual, self.wanted) {
            (Some((at, _)), Some(wanted)) if *at == wanted => None,
            (Some((_, plugin)), _) => Some(Step::Deregister(path.to_owned(), plugin.clone())),
            (None, Some(_)) if self.not_before.is_none_or(|at| at <= now) => {
                Some(Step::Register(path.to_owned()))
            }
            (None, _) => None,
        }
    }
}

/// All sockets, by path.
#[derive(Debug, Default)]
pub struct Sockets(BTreeMap<PathBuf, Socket>);

impl Sockets {
    /// There is a socket. Seen twice it is the same; one in the place of another is tried at once.
    pub fn found(&mut self, path: &Path, identity: Identity) {
        let socket = self.0.entry(path.to_owned()).or_default();
        if socket.wanted != Some(identity) {
            socket.wanted = Some(identity);
            (socket.pause, socket.not_before) = (Duration::ZERO, None);
        }
    }

    /// There is none any more at this path, or below it.
    pub fn gone(&mut self, path: &Path) {
        for (_, socket) in self.0.iter_mut().filter(|(at, _)| at.starts_with(path)) {
            socket.wanted = None;
        }
    }

    /// There are these and no others.
    pub fn only(&mut self, all: &BTreeMap<PathBuf, Identity>) {
        for (path, socket) in &mut self.0 {
            socket.wanted = socket.wanted.filter(|_| all.contains_key(path));
        }
        all.iter().for_each(|(path, identity)| self.found(path, *identity));
    }

    /// What is to be done now. Each step must end with [`Self::registered`], [`Self::failed`] or [`Self::deregistered`].
    pub fn steps(&mut self, now: Instant) -> Vec<Step> {
        self.0.retain(|_, s| s.wanted.is_some() || s.actual.is_some() || s.busy.is_some());
        let mut steps = Vec::new();
        for (path, socket) in &mut self.0 {
            if let Some(step) = socket.next(path, now) {
                socket.busy = Some(socket.wanted);
                steps.push(step);
            }
        }
        // Who is gone makes room first.
        steps.sort_by_key(|step| matches!(step, Step::Register(_)));
        steps
    }

    /// When there may be something to do although nothing happened.
    pub fn wake_at(&self) -> Option<Instant> {
        let waits = |s: &&Socket| s.busy.is_none() && s.actual.is_none() && s.wanted.is_some();
        self.0.values().filter(waits).filter_map(|s| s.not_before).min()
    }

    /// Somebody registered.
    pub fn registered(&mut self, path: &Path, plugin: PluginInfo) {
        let Some(socket) = self.0.get_mut(path) else { return };
        let began = socket.busy.take().flatten();
        socket.actual = began.map(|identity| (identity, plugin));
        (socket.pause, socket.not_before) = (Duration::ZERO, None);
    }

    /// Registration failed; it is tried again later, unless there is another socket by now.
    pub fn failed(&mut self, path: &Path, now: Instant) {
        let Some(socket) = self.0.get_mut(path) else { return };
        if socket.busy.take().flatten() == socket.wanted {
            socket.pause = if socket.pause.is_zero() { FIRST } else { (socket.pause * 2).min(LONGEST) };
            socket.not_before = now.checked_add(socket.pause);
        }
    }

    /// Who was registered is no longer.
    pub fn deregistered(&mut self, path: &Path) {
        if let Some(socket) = self.0.get_mut(path) {
            (socket.busy, socket.actual) = (None, None);
        }
    }

    /// Sockets at which somebody registered, and those that there are.
    pub fn counts(&self) -> (Vec<&Path>, Vec<&Path>) {
        let of = |is: fn(&Socket) -> bool| {
            self.0.iter().filter(|(_, s)| is(s)).map(|(path, _)| path.as_path()).collect()
        };
        (of(|s| s.actual.is_some()), of(|s| s.wanted.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Identity = (1, 0, 0);
    const NEW: Identity = (2, 0, 0);

    fn plugin() -> PluginInfo {
        PluginInfo { kind: "DRAPlugin".into(), name: "d".into(), endpoint: "/e".into(), versions: Vec::new() }
    }

    /// A word per step, such as `register /r/a`.
    fn steps(sockets: &mut Sockets, now: Instant) -> Vec<String> {
        let show = |step: Step| match step {
            Step::Register(path) => format!("register {}", path.display()),
            Step::Deregister(path, plugin) => format!("deregister {} {}", path.display(), plugin.name),
        };
        sockets.steps(now).into_iter().map(show).collect()
    }

    #[test]
    fn comes_and_goes() {
        let (mut sockets, now, path) = (Sockets::default(), Instant::now(), Path::new("/r/a"));
        sockets.found(path, OLD);
        assert_eq!(steps(&mut sockets, now), ["register /r/a"]);
        assert!(steps(&mut sockets, now).is_empty(), "one step at a time");
        sockets.registered(path, plugin());
        sockets.found(path, OLD);
        assert!(steps(&mut sockets, now).is_empty(), "seen twice");
        sockets.found(path, NEW);
        assert_eq!(steps(&mut sockets, now), ["deregister /r/a d"]);
        sockets.deregistered(path);
        assert_eq!(steps(&mut sockets, now), ["register /r/a"]);
        sockets.gone(Path::new("/r"));
        sockets.registered(path, plugin());
        assert_eq!(steps(&mut sockets, now), ["deregister /r/a d"], "gone while it registered");
        sockets.deregistered(path);
        assert!(steps(&mut sockets, now).is_empty() && sockets.0.is_empty());
    }

    #[test]
    fn pauses_grow_until_there_is_another_socket() {
        let (mut sockets, mut now, path) = (Sockets::default(), Instant::now(), Path::new("/r/a"));
        sockets.found(path, OLD);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(steps(&mut sockets, now), ["register /r/a"]);
            sockets.failed(path, now);
            assert!(steps(&mut sockets, now).is_empty());
            let at = sockets.wake_at().unwrap();
            pauses.push(at.duration_since(now).as_millis());
            now = at;
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 122_000, 122_000]);
        assert_eq!(steps(&mut sockets, now), ["register /r/a"]);
        sockets.found(path, NEW);
        sockets.failed(path, now);
        assert_eq!(steps(&mut sockets, now), ["register /r/a"], "what failed is not what is there");
    }

    #[test]
    fn after_a_look_at_everything() {
        let (mut sockets, now) = (Sockets::default(), Instant::now());
        let at = |name: &str| PathBuf::from(format!("/r/{name}"));
        for name in ["a", "b"] {
            sockets.found(&at(name), OLD);
        }
        assert_eq!(steps(&mut sockets, now).len(), 2);
        for name in ["a", "b"] {
            sockets.registered(&at(name), plugin());
        }
        sockets.only(&[(at("b"), OLD), (at("c"), OLD)].into());
        assert_eq!(steps(&mut sockets, now), ["deregister /r/a d", "register /r/c"]);
        let (registered, there) = sockets.counts();
        assert_eq!((registered.len(), there), (2, vec![at("b").as_path(), at("c").as_path()]));
    }
}
