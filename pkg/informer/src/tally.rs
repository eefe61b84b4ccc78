//! Objects counted by what they have alike, in step with a store: whoever only needs to know how many there are of each sort
//! need not look at every one.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

type Hash = foldhash::fast::RandomState;
type Groups<M> = HashMap<String, Vec<(M, usize)>, Hash>;

/// Where an object counts, and as what; nothing if it does not.
type Sort<K, M> = Box<dyn for<'a> Fn(&'a K) -> Option<(&'a str, M)> + Send + Sync>;

/// Numbers of objects by group and sort; clones read the same ones.
pub struct Tally<M>(Arc<Mutex<Groups<M>>>);

impl<M> Clone for Tally<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Clone> Tally<M> {
    /// The sorts of a group, with how many there are of each.
    pub fn of(&self, group: &str) -> Vec<(M, usize)> {
        self.0.lock().get(group).cloned().unwrap_or_default()
    }
}

/// A tally of any sorts, as a store keeps it up.
pub(crate) trait Counting<K>: Send + Sync {
    fn update(&self, old: Option<&K>, new: Option<&K>);
}

pub(crate) struct Counter<K, M> {
    sort: Sort<K, M>,
    tally: Tally<M>,
}

impl<K, M> Counter<K, M> {
    pub fn new(sort: Sort<K, M>) -> (Self, Tally<M>) {
        let tally = Tally(Arc::default());
        (Self { sort, tally: tally.clone() }, tally)
    }
}

impl<K, M: PartialEq + Send + Sync> Counting<K> for Counter<K, M> {
    fn update(&self, old: Option<&K>, new: Option<&K>) {
        let (old, new) = (old.and_then(|o| (self.sort)(o)), new.and_then(|n| (self.sort)(n)));
        if old == new {
            return;
        }
        let mut groups = self.tally.0.lock();
        if let Some((group, sort)) = new {
            let sorts = groups.entry_ref(group).or_default();
            match sorts.iter_mut().find(|(s, _)| *s == sort) {
                Some((_, count)) => *count += 1,
                None => sorts.push((sort, 1)),
            }
        }
        if let Some((group, sort)) = old
            && let Some(sorts) = groups.get_mut(group)
        {
            if let Some(at) = sorts.iter().position(|(s, _)| *s == sort) {
                sorts[at].1 -= 1;
                if sorts[at].1 == 0 {
                    sorts.swap_remove(at);
                }
            }
            if sorts.is_empty() {
                groups.remove(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"group sort"`, "" for one that does not count.
    fn counter() -> (Counter<&'static str, String>, Tally<String>) {
        Counter::new(Box::new(|o: &&'static str| o.split_once(' ').map(|(g, s)| (g, s.to_string()))))
    }

    fn shown(tally: &Tally<String>, group: &str) -> String {
        let mut all: Vec<String> = tally.of(group).into_iter().map(|(s, n)| format!("{s}={n}")).collect();
        all.sort();
        all.join(" ")
    }

    #[test]
    fn counts_follow_changes() {
        let (counter, tally) = counter();
        counter.update(None, Some(&"a ready"));
        counter.update(None, Some(&"a ready"));
        counter.update(None, Some(&""));
        counter.update(Some(&"a ready"), Some(&"a waits"));
        assert_eq!(shown(&tally, "a"), "ready=1 waits=1");
        counter.update(Some(&"a ready"), Some(&"b ready"));
        assert_eq!((shown(&tally, "a").as_str(), shown(&tally, "b").as_str()), ("waits=1", "ready=1"));
        counter.update(Some(&"a waits"), None);
        counter.update(Some(&"b ready"), Some(&""));
        assert!(tally.0.lock().is_empty());
    }
}
