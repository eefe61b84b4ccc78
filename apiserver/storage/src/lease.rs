//! Sharing leases between keys with a TTL, as upstream's lease manager does (`pkg/storage/etcd3/lease_manager.go`).
//!
//! A lease per Event object would cost the store more than the object. A lease is granted for somewhat longer than asked
//! and reused while its remaining life still covers what the next key asks for.

use std::time::Duration;

/// Reuse a lease for at most this many seconds...
const REUSE_SECONDS: i64 = 60;
/// ...or this percentage of the TTL, whichever is less.
const REUSE_PERCENT: i64 = 5;
/// Attach at most this many keys to one lease, to bound the work when it ends.
const MAX_KEYS: u64 = 1000;

/// The lease last granted, and when it may be used again. Pure: the caller grants and keeps time.
#[derive(Debug, Default)]
pub struct LeaseReuse {
    id: i64,
    /// Monotonic time at which the lease ends.
    expires: Duration,
    keys: u64,
}

/// What to do for a key with a TTL.
#[derive(Debug, PartialEq, Eq)]
pub enum LeaseChoice {
    /// Attach the key to this lease.
    Use(i64),
    /// Grant a lease of this many seconds and report it by [`LeaseReuse::granted`].
    Grant(i64),
}

impl LeaseReuse {
    /// Decides for a key with `ttl` seconds at monotonic time `now`.
    pub fn choose(&mut self, ttl: i64, now: Duration) -> LeaseChoice {
        let slack = Self::slack(ttl);
        let needed = now + seconds(ttl);
        let fits = self.id != 0 && self.expires >= needed && self.expires <= needed + seconds(slack);
        if fits && self.keys < MAX_KEYS {
            self.keys += 1;
            return LeaseChoice::Use(self.id);
        }
        LeaseChoice::Grant(Self::granted_seconds(ttl))
    }

    /// How long a lease to grant for keys with `ttl`.
    pub fn granted_seconds(ttl: i64) -> i64 {
        ttl.saturating_add(Self::slack(ttl))
    }

    /// Remembers a lease granted at `now` for `seconds_granted`, used by one key already.
    pub fn granted(&mut self, id: i64, seconds_granted: i64, now: Duration) {
        *self = Self { id, expires: now + seconds(seconds_granted), keys: 1 };
    }

    fn slack(ttl: i64) -> i64 {
        REUSE_SECONDS.min(ttl.saturating_mul(REUSE_PERCENT) / 100)
    }
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_shared_within_the_slack_only() {
        let mut reuse = LeaseReuse::default();
        let at = Duration::from_secs;
        assert_eq!(reuse.choose(3600, at(100)), LeaseChoice::Grant(3660));
        reuse.granted(7, 3660, at(100));
        assert_eq!(reuse.choose(3600, at(130)), LeaseChoice::Use(7));
        assert_eq!(reuse.choose(3600, at(160)), LeaseChoice::Use(7));
        assert_eq!(reuse.choose(3600, at(161)), LeaseChoice::Grant(3660), "too little life left");
        assert_eq!(reuse.choose(15, at(130)), LeaseChoice::Grant(15), "far too long a life for a short key");
    }

    #[test]
    fn a_lease_takes_a_thousand_keys() {
        let mut reuse = LeaseReuse::default();
        reuse.granted(7, 3660, Duration::ZERO);
        for _ in 1..MAX_KEYS {
            assert_eq!(reuse.choose(3600, Duration::ZERO), LeaseChoice::Use(7));
        }
        assert_eq!(reuse.choose(3600, Duration::ZERO), LeaseChoice::Grant(3660));
    }
}
