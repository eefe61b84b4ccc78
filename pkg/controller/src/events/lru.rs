//! A small map that forgets what was not used for longest. Its keys are hashes of what they stand for: texts as keys would
//! take ten times the memory of what is remembered under them.

use hashbrown::HashMap;
use std::collections::VecDeque;

/// Stale uses that are not worth looking for.
const SPARE: usize = 16;

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
        while self.entries.len() > self.bound
            && let Some((key, number)) = self.uses.pop_front()
        {
            if self.entries.get(&key).is_some_and(|e| e.1 == number) {
                self.entries.remove(&key);
            }
        }
        // Few entries that are used all the time leave as few numbers behind.
        if self.uses.len() > 2 * self.entries.len() + SPARE {
            let entries = &self.entries;
            self.uses.retain(|(key, number)| entries.get(key).is_some_and(|e| e.1 == *number));
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
    }

    #[test]
    fn few_entries_take_little_however_often_they_are_used() {
        let mut l = Lru::new(4096);
        l.put(10, 1);
        l.put(20, 2);
        for _ in 0..10_000 {
            assert!(l.get(10).is_some());
            assert!(l.uses.len() <= 4 + SPARE);
        }
        assert_eq!(l.uses.iter().filter(|u| u.0 == 20).count(), 1);
        assert!(l.uses.capacity() < 100, "{}", l.uses.capacity());
    }
}
