//! A bounded cache of answers that expire. Upstream: apimachinery/pkg/util/cache LRUExpireCache, token/cache.

use std::hash::Hash;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Most answers kept; as upstream's SubjectAccessReview cache.
const CAPACITY: usize = 8192;

/// Keys to answers with an end.
#[derive(Debug)]
pub(super) struct ExpiringCache<K, V> {
    entries: Mutex<HashMap<K, (V, Instant), foldhash::fast::RandomState>>,
    capacity: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> ExpiringCache<K, V> {
    pub(super) fn new() -> Self {
        ExpiringCache { entries: Mutex::default(), capacity: CAPACITY }
    }

    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        self.entries.lock().get(key).filter(|(_, end)| *end > now).map(|(value, _)| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V, ttl: Duration, now: Instant) {
        if ttl.is_zero() {
            return;
        }
        let mut entries = self.entries.lock();
        if entries.len() >= self.capacity && !entries.contains_key(&key) {
            entries.retain(|_, (_, end)| *end > now);
            if entries.len() >= self.capacity {
                // Full of live answers: the one that ends first goes.
                let first = entries.iter().min_by_key(|(_, (_, end))| *end).map(|(k, _)| k.clone());
                if let Some(first) = first {
                    entries.remove(&first);
                }
            }
        }
        entries.insert(key, (value, now + ttl));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_and_stays_bounded() {
        let cache = ExpiringCache { entries: Mutex::default(), capacity: 2 };
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        cache.put("a", 1, Duration::from_secs(10), start);
        cache.put("b", 2, Duration::from_secs(20), start);
        assert_eq!(cache.get(&"a", later(9)), Some(1));
        assert_eq!(cache.get(&"a", later(10)), None);
        cache.put("c", 3, Duration::from_secs(30), later(1));
        assert_eq!(cache.get(&"a", later(1)), None, "ended first and went");
        assert_eq!((cache.get(&"b", later(1)), cache.get(&"c", later(1))), (Some(2), Some(3)));
        cache.put("d", 4, Duration::ZERO, start);
        assert_eq!(cache.get(&"d", start), None);
    }
}
