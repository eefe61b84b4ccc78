//! A small map that forgets what was not used for longest. Its keys are hashes of what they stand for: texts as keys would
//! take ten times the memory of what is remembered under them.

use hashbrown::HashMap;
use std::collections::VecDeque;

pub(crate) struct Lru<V> {
    bound: usize,
    entries: HashMap<u64, (V, u64)>,
    /// Uses in order; entries with an older number are stale.
    uses: VecDeque<(u64, u64)>,
    clock: u64,
}

impl<V> Lru<V> {
    pub fn new(bound: usize) -> Self {
        Self { bound, entries: HashMap::new(), uses: VecDeque::new(), clock: 0 }
    }

    /// The value of a key, which counts as a use.
    pub fn get(&mut self, key: u64) -> Option<&mut V> {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.entries.get_mut(&key)?;
        entry.1 = clock;
        self.uses.push_back((key, clock));
        self.trim();
        self.entries.get_mut(&key).map(|e| &mut e.0)
    }

    pub fn put(&mut self, key: u64, value: V) {
        self.clock += 1;
        self.entries.insert(key, (value, self.clock));
        self.uses.push_back((key, self.clock));
        self.trim();
    }

    fn trim(&mut self) {
        while self.entries.len() > self.bound || self.uses.len() > 2 * self.bound {
            let Some((key, number)) = self.uses.pop_front() else { return };
            if self.entries.get(&key).is_some_and(|e| e.1 == number) {
                if self.entries.len() > self.bound {
                    self.entries.remove(&key);
                } else {
                    self.uses.push_back((key, number));
                    self.uses.make_contiguous().sort_by_key(|u| u.1);
                    let entries = &self.entries;
                    self.uses.retain(|(k, n)| entries.get(k).is_some_and(|e| e.1 == *n));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_least_used() {
        let mut l = Lru::new(2);
        l.put(10, 1);
        l.put(20, 2);
        for _ in 0..10 {
            assert!(l.get(10).is_some());
        }
        l.put(30, 3);
        assert!(l.get(20).is_none());
        assert_eq!((l.get(10).copied(), l.get(30).copied()), (Some(1), Some(3)));
        assert!(l.uses.len() <= 4);
    }
}
