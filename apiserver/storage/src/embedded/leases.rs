//! Leases: which keys end with them, and when. Monotonic time; a restart gives every lease what a snapshot or its grant
//! said was left, as etcd does, so that a stopped server's data does not vanish at its start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// One lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Seconds granted.
    pub ttl: i64,
    expires: Instant,
    keys: BTreeSet<Bytes>,
}

/// All leases.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    by_id: HashMap<i64, Lease>,
    by_expiry: BTreeMap<(Instant, i64), ()>,
}

impl Leases {
    /// Begins a lease of `ttl` seconds of which `remaining` are left at `now`.
    pub fn grant(&mut self, id: i64, ttl: i64, remaining: i64, now: Instant) {
        self.remove(id);
        let expires = now + seconds(remaining);
        self.by_expiry.insert((expires, id), ());
        self.by_id.insert(id, Lease { ttl, expires, keys: BTreeSet::new() });
    }

    /// Gives a lease its full time again; its TTL, or `None` when it does not exist.
    pub fn renew(&mut self, id: i64, now: Instant) -> Option<i64> {
        let lease = self.by_id.get_mut(&id)?;
        self.by_expiry.remove(&(lease.expires, id));
        lease.expires = now + seconds(lease.ttl);
        self.by_expiry.insert((lease.expires, id), ());
        Some(lease.ttl)
    }

    /// Ends a lease; what happens to its keys is up to the caller.
    pub fn remove(&mut self, id: i64) {
        if let Some(lease) = self.by_id.remove(&id) {
            self.by_expiry.remove(&(lease.expires, id));
        }
    }

    /// Moves a key from one lease to another; 0 stands for none.
    pub fn attach(&mut self, key: &Bytes, from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.by_id.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.by_id.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }

    /// Whether the lease exists.
    pub fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// A lease with seconds left at `now` and its keys.
    pub fn get(&self, id: i64, now: Instant) -> Option<(i64, i64, Vec<Bytes>)> {
        let lease = self.by_id.get(&id)?;
        Some((lease.ttl, left(lease, now), lease.keys.iter().cloned().collect()))
    }

    /// Every lease: id, TTL, seconds left.
    pub fn list(&self, now: Instant) -> Vec<(i64, i64, i64)> {
        let mut all: Vec<_> =
            self.by_id.iter().map(|(id, lease)| (*id, lease.ttl, left(lease, now))).collect();
        all.sort_unstable();
        all
    }

    /// The lease that ends first, when it has ended at `now`.
    pub fn expired(&self, now: Instant) -> Option<i64> {
        let ((expires, id), ()) = self.by_expiry.first_key_value()?;
        (*expires <= now).then_some(*id)
    }

    /// When the next lease ends.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first_key_value().map(|((expires, _), ())| *expires)
    }
}

fn left(lease: &Lease, now: Instant) -> i64 {
    let left = lease.expires.saturating_duration_since(now);
    i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// A century is as good as for ever, and far from the end of `Instant`.
fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0).min(100 * 365 * 86_400))
}
