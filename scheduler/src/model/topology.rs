//! Values of the topology keys that terms and constraints speak of, as small numbers: a row knows its domain of each
//! key, counts are arrays over domains.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::node_labels::NodeLabels;

type Hash = foldhash::fast::RandomState;

/// Number of a topology key.
pub type KeyId = usize;
/// Number of a value of a key; those of values that no node has any more are used again.
pub type Domain = u32;
/// The node lacks the label.
pub const NOWHERE: Domain = Domain::MAX;

/// Domains of one row, by key.
pub type Domains = SmallVec<[Domain; 4]>;

#[derive(Clone, Debug)]
struct Key {
    name: Arc<str>,
    numbers: HashMap<String, Domain, Hash>,
    /// How many rows have a value, and its text.
    values: Vec<(u32, String)>,
    free: Vec<Domain>,
    /// Rows that have the label.
    rows: usize,
}

impl Key {
    fn enter(&mut self, value: &str) -> Domain {
        self.rows += 1;
        if let Some(&known) = self.numbers.get(value) {
            self.values[known as usize].0 += 1;
            return known;
        }
        let number = match self.free.pop() {
            Some(number) => {
                self.values[number as usize] = (1, value.to_string());
                number
            }
            None => {
                self.values.push((1, value.to_string()));
                Domain::try_from(self.values.len() - 1).unwrap_or(NOWHERE)
            }
        };
        self.numbers.insert(value.to_string(), number);
        number
    }

    fn leave(&mut self, domain: Domain) {
        self.rows -= 1;
        let (rows, value) = &mut self.values[domain as usize];
        *rows -= 1;
        if *rows == 0 {
            self.numbers.remove(value.as_str());
            self.free.push(domain);
        }
    }
}

/// All keys.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    keys: Vec<Key>,
    by_name: HashMap<Arc<str>, KeyId, Hash>,
}

impl Topology {
    pub fn key(&self, name: &str) -> Option<KeyId> {
        self.by_name.get(name).copied()
    }

    pub fn add_key(&mut self, name: &str) -> KeyId {
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), self.keys.len());
        self.keys.push(Key {
            name,
            numbers: HashMap::default(),
            values: Vec::new(),
            free: Vec::new(),
            rows: 0,
        });
        self.keys.len() - 1
    }

    /// How many rows have a value of a key.
    pub fn rows(&self, key: KeyId) -> usize {
        self.keys[key].rows
    }

    /// How many rows have each value of a key, by its number.
    pub fn rows_by_domain(&self, key: KeyId) -> impl Iterator<Item = u32> {
        self.keys[key].values.iter().map(|(rows, _)| *rows)
    }

    /// Length of an array over the domains of a key.
    pub fn size(&self, key: KeyId) -> usize {
        self.keys[key].values.len()
    }

    /// Enters the row's value of one key.
    pub fn enter(&mut self, key: KeyId, labels: &NodeLabels) -> Domain {
        let key = &mut self.keys[key];
        labels.get(&key.name).map_or(NOWHERE, |value| key.enter(value))
    }

    /// Enters a row's values of all keys.
    pub fn enter_all(&mut self, labels: &NodeLabels) -> Domains {
        (0..self.keys.len()).map(|key| self.enter(key, labels)).collect()
    }

    /// Domains of a row without a node.
    pub fn enter_none(&self) -> Domains {
        (0..self.keys.len()).map(|_| NOWHERE).collect()
    }

    pub fn leave_all(&mut self, domains: &Domains) {
        for (key, domain) in self.keys.iter_mut().zip(domains) {
            if *domain != NOWHERE {
                key.leave(*domain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn numbers_are_used_again() {
        let mut topology = Topology::default();
        let zone = topology.add_key("zone");
        let labels = |v: &str| NodeLabels::from(BTreeMap::from([("zone".to_string(), v.to_string())]));
        let (a, b) = (topology.enter_all(&labels("a")), topology.enter_all(&labels("b")));
        assert_eq!((a[zone], b[zone]), (0, 1));
        assert_eq!(topology.enter_all(&labels("a"))[zone], 0);
        assert_eq!(topology.enter_all(&NodeLabels::default())[zone], NOWHERE);
        topology.leave_all(&b);
        assert_eq!(topology.enter_all(&labels("c"))[zone], 1);
        assert_eq!(topology.size(zone), 2);
        // Two with "a", one with "c".
        assert_eq!((topology.rows(zone), topology.rows_by_domain(zone).collect::<Vec<_>>()), (3, vec![2, 1]));
    }
}
