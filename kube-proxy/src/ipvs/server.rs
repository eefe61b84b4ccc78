//! Virtual and real servers, as the kernel knows them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::Protocol;

/// Upstream: proxier.go defaultScheduler.
pub const DEFAULT_SCHEDULER: &str = "rr";
/// A client stays with its real server.
pub const PERSISTENT: u32 = 0x1;
/// The kernel's own, set on every server that it has.
pub const HASHED: u32 = 0x2;
/// The scheduler mh hashes ports too.
pub const SOURCE_HASH: u32 = 0x10;
/// Weight of a real server that takes connections; one with weight 0 keeps those it has.
pub const WEIGHT: u32 = 1;

/// What names a virtual server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub address: SocketAddr,
    pub protocol: Protocol,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol.as_str().to_uppercase())
    }
}

/// How a virtual server balances.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manner {
    pub scheduler: Arc<str>,
    pub flags: u32,
    /// Seconds of persistence; 0 = none.
    pub timeout: u32,
}

impl Manner {
    /// By scheduler and seconds of affinity.
    pub fn new(scheduler: &Arc<str>, affinity_seconds: Option<u32>) -> Self {
        let persistent = affinity_seconds.map_or(0, |_| PERSISTENT);
        let hash = if &**scheduler == "mh" { SOURCE_HASH } else { 0 };
        Self {
            scheduler: scheduler.clone(),
            flags: persistent | hash,
            timeout: affinity_seconds.unwrap_or_default(),
        }
    }
}

/// A virtual server that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    pub manner: Manner,
    /// Sorted; shared by the addresses of a service port.
    pub reals: Arc<[SocketAddr]>,
}

/// What the kernel says of a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Real {
    pub weight: u32,
    /// Connections it has, active and inactive.
    pub connections: u64,
}
