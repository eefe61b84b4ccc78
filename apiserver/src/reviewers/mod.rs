//! Who is asking and what they may, by the word of others: a webhook that reviews tokens, one that reviews access, and
//! the lines of a policy file.
//!
//! [`config`] reads `--authorization-config`, [`access`] asks about permissions, [`tokens`] about tokens.
pub(crate) mod abac;
pub(crate) mod access;
pub(crate) mod config;
pub(crate) mod tokens;

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use client::Error;
use parking_lot::Mutex;

/// The wait after the first failed attempt. Upstream: `DefaultAuthWebhookRetryBackoff`.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Most answers that are remembered. Upstream: the size of the authorizer's cache.
const CAPACITY: usize = 8192;

/// Whether a failure may pass. Upstream: `webhook.DefaultShouldRetry`.
pub(crate) fn transient(error: &Error) -> bool {
    match error {
        Error::Transport { .. } => true,
        other => {
            other.is_internal()
                || other.is_timeout()
                || other.is_too_many_requests()
                || other.retry_after().is_some()
        }
    }
}

/// What the system says about a file, in Go's words.
pub(crate) fn io_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Answers that are good for a while.
struct Remembered<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, key: &K) -> Option<V> {
        let all = self.0.lock();
        all.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, value)| value.clone())
    }

    /// Remembers; the expired, and then all, make room.
    fn put(&self, key: K, value: V, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let (mut all, now) = (self.0.lock(), Instant::now());
        if all.len() >= CAPACITY {
            all.retain(|_, (until, _)| now < *until);
            if all.len() >= CAPACITY {
                all.clear();
            }
        }
        all.insert(key, (now + ttl, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_a_while() {
        let all = Remembered::new();
        all.put(1, "a", Duration::from_secs(60));
        all.put(2, "b", Duration::ZERO);
        assert_eq!((all.get(&1), all.get(&2)), (Some("a"), None));
        for key in 10..20_000 {
            all.put(key, "x", Duration::from_secs(60));
        }
        assert!(all.0.lock().len() <= CAPACITY);
    }
}
