//! Real servers that take no new connections and wait for the end of those they have.
//! Upstream: graceful_termination.go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::server::{Key, Real};
use crate::model::Protocol;

/// Upstream: rsCheckDeleteInterval.
const INTERVAL: Duration = Duration::from_secs(60);

/// What becomes of a real server that is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Delete,
    /// Weight 0 until its connections have ended.
    Drain,
    /// It is gone.
    Gone,
}

/// Decides. Flows of UDP and SCTP end with the next packet, as the kernel is told so at start; others are waited for.
/// Upstream: deleteRsFunc, util/ipvs.go IsRsGracefulTerminationNeeded.
pub fn fate(protocol: Protocol, real: Option<&Real>) -> Fate {
    match real {
        None => Fate::Gone,
        Some(real) if protocol == Protocol::Tcp && real.connections != 0 => Fate::Drain,
        Some(_) => Fate::Delete,
    }
}

/// Those that wait.
#[derive(Default, Debug)]
pub struct Draining {
    servers: BTreeMap<Key, BTreeSet<SocketAddr>>,
    due: Option<Instant>,
}

impl Draining {
    /// It waits.
    pub fn has(&self, key: &Key, real: &SocketAddr) -> bool {
        self.servers.get(key).is_some_and(|reals| reals.contains(real))
    }

    /// From now on it waits.
    pub fn add(&mut self, key: Key, real: SocketAddr) {
        self.servers.entry(key).or_default().insert(real);
    }

    /// It does not wait any more.
    pub fn remove(&mut self, key: &Key, real: &SocketAddr) {
        if let Some(reals) = self.servers.get_mut(key) {
            reals.remove(real);
            if reals.is_empty() {
                self.servers.remove(key);
            }
        }
    }

    /// Its virtual server is gone.
    pub fn forget(&mut self, key: &Key) {
        self.servers.remove(key);
    }

    /// All, when it is time to look at their connections; at most once per minute.
    pub fn due(&mut self, now: Instant) -> Vec<(Key, SocketAddr)> {
        if self.servers.is_empty() {
            self.due = None;
            return Vec::new();
        }
        match self.due {
            Some(due) if now >= due => {
                self.due = Some(now + INTERVAL);
                self.servers.iter().flat_map(|(key, reals)| reals.iter().map(|real| (*key, *real))).collect()
            }
            Some(_) => Vec::new(),
            None => {
                self.due = Some(now + INTERVAL);
                Vec::new()
            }
        }
    }
}
