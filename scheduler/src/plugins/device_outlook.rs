//! What was found out about nodes for claims that ask for the same: whether a node has devices for them. It holds until the
//! node, what is held of its pools, or anything that drivers and administrators declare changes, so that a cycle looks
//! again only where something did. Which devices they would be is found anew for the one node that is chosen.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::devices::{Inventory, PoolId, Site, Supply, pools};
use crate::framework::Verdict;
use crate::model::{NodeRow, WireNode};

/// Kinds of claims remembered at a time.
const MOST: usize = 16;

/// What is known of all kinds.
#[derive(Default)]
pub struct Outlook(Mutex<Kinds>);

#[derive(Default)]
struct Kinds {
    list: Vec<Kind>,
    last: u64,
}

/// Claims that ask for the same.
struct Kind {
    id: u64,
    asks: Vec<u8>,
    inventory: Arc<Inventory>,
    used: u64,
    /// By [`NodeRow::at`].
    rows: Vec<Option<Known>>,
}

struct Known {
    /// The same node in the same state.
    node: Arc<WireNode>,
    /// Pools that have something for the node, and what was held of them.
    pools: Box<[(Arc<PoolId>, u64)]>,
    verdict: Verdict,
}

impl Known {
    fn holds(&self, supply: &Supply, row: &NodeRow) -> bool {
        row.node.as_ref().is_some_and(|node| Arc::ptr_eq(node, &self.node))
            && self.pools.iter().all(|(pool, state)| supply.taken.state_of(pool) == *state)
    }
}

impl Outlook {
    /// The number of a kind, by a text that says all that is asked for.
    pub fn kind(&self, asks: Vec<u8>, inventory: &Arc<Inventory>) -> u64 {
        let mut kinds = self.0.lock();
        kinds.last += 1;
        let now = kinds.last;
        let known = kinds.list.iter().position(|k| k.asks == asks && Arc::ptr_eq(&k.inventory, inventory));
        if let Some(kind) = known.and_then(|at| kinds.list.get_mut(at)) {
            kind.used = now;
            return kind.id;
        }
        // What was known of another inventory is of no use any more.
        kinds.list.retain(|k| k.asks != asks);
        if kinds.list.len() >= MOST
            && let Some(oldest) = (0..kinds.list.len()).min_by_key(|at| kinds.list[*at].used)
        {
            kinds.list.swap_remove(oldest);
        }
        kinds.list.push(Kind { id: now, asks, inventory: inventory.clone(), used: now, rows: Vec::new() });
        now
    }

    /// The verdict on a row, which `look` finds if it is not known, with whether it may be kept.
    pub fn verdict(
        &self,
        kind: u64,
        supply: &Supply,
        site: Site<'_>,
        row: &NodeRow,
        look: impl FnOnce() -> (Verdict, bool),
    ) -> Verdict {
        let known = |kinds: &Kinds| {
            let kind = kinds.list.iter().find(|k| k.id == kind)?;
            let known = kind.rows.get(row.at)?.as_ref().filter(|k| k.holds(supply, row))?;
            Some(known.verdict.clone())
        };
        if let Some(verdict) = known(&self.0.lock()) {
            return verdict;
        }
        let (verdict, keep) = look();
        if let Some(node) = row.node.clone().filter(|_| keep) {
            let pools = pools(supply, site).into_iter().map(|pool| {
                let state = supply.taken.state_of(&pool);
                (pool, state)
            });
            let known = Known { node, pools: pools.collect(), verdict: verdict.clone() };
            self.remember(kind, row.at, known);
        }
        verdict
    }

    fn remember(&self, kind: u64, at: usize, known: Known) {
        let mut kinds = self.0.lock();
        let Some(kind) = kinds.list.iter_mut().find(|k| k.id == kind) else { return };
        if kind.rows.len() <= at {
            kind.rows.resize_with(at + 1, || None);
        }
        kind.rows[at] = Some(known);
    }
}

#[cfg(test)]
mod tests {
    use component::features::Gates;
    use serde_json::{Value, json};

    use super::*;
    use crate::devices::{DeviceRef, Features, ResourceSlice, Taken};

    fn row(label: &str) -> NodeRow {
        let node = json!({ "metadata": { "name": "a", "labels": { "k": label } } });
        NodeRow::of(Arc::new(serde_json::from_value(node).unwrap()))
    }

    fn inventory() -> Arc<Inventory> {
        let slice = |pool: &str, node: Value| -> Arc<ResourceSlice> {
            let pool = json!({ "name": pool, "generation": 1, "resourceSliceCount": 1 });
            let spec = json!({ "driver": "d", "nodeName": node, "pool": pool, "devices": [{ "name": "0" }] });
            Arc::new(serde_json::from_value(json!({ "metadata": { "name": "s" }, "spec": spec })).unwrap())
        };
        Arc::new(Inventory::new(vec![slice("own", "a".into()), slice("other", "b".into())], vec![], vec![]))
    }

    #[test]
    fn a_verdict_holds_until_something_changes() {
        let (outlook, inventory) = (Outlook::default(), inventory());
        let supply = |taken: &Taken| Supply {
            features: Features::of(&Gates::default()),
            inventory: inventory.clone(),
            taken: Arc::new(taken.clone()),
            programs: Arc::default(),
            new_share: String::new,
        };
        let kind = outlook.kind(b"one".to_vec(), &inventory);
        let looked = |taken: &Taken, row: &NodeRow| {
            let (supply, mut looked) = (supply(taken), false);
            let site = Site { name: &row.name, labels: row.labels(), declared: &[] };
            let look = || {
                looked = true;
                (Ok(()), true)
            };
            outlook.verdict(kind, &supply, site, row, look).unwrap();
            looked
        };
        let (mut taken, same) = (Taken::default(), row("x"));
        assert!(looked(&taken, &same) && !looked(&taken, &same));
        taken.take(DeviceRef { driver: "d", pool: "other", device: "0" });
        assert!(!looked(&taken, &same), "nothing of the node");
        taken.take(DeviceRef { driver: "d", pool: "own", device: "0" });
        assert!(looked(&taken, &same) && !looked(&taken, &same));
        let mut copy = taken.clone();
        copy.take(DeviceRef { driver: "d", pool: "own", device: "1" });
        taken.take(DeviceRef { driver: "d", pool: "own", device: "2" });
        assert!(
            looked(&taken, &same) && looked(&copy, &same) && looked(&taken, &same),
            "copies go their ways"
        );
        assert!(looked(&Taken::default(), &same) && !looked(&Taken::default(), &same), "given back");
        assert!(looked(&Taken::default(), &row("y")), "another state of the node");
        assert_eq!(outlook.kind(b"one".to_vec(), &inventory), kind);
        assert_ne!(outlook.kind(b"two".to_vec(), &inventory), kind);
        assert_ne!(outlook.kind(b"one".to_vec(), &self::inventory()), kind);
    }
}
