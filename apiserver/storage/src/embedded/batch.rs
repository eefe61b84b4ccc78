//! Evaluating a batch of operations against the visible state plus what earlier operations of the batch will change.
//!
//! Pure: the writer makes the outcome durable, then visible, then known to the callers, in that order; when it cannot,
//! it drops the outcome and no revision has been used.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::index::{KeyRange, Select, State};
use super::leases::Leases;
use super::record::Record;
use super::replay::tombstone;
use crate::error::{Error, Result};
use crate::lease::{LeaseChoice, LeaseReuse};
use crate::store::{Event, EventKind, KeyValue, Page, Revision};

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until deleted.
    Endless,
    /// As long as this lease, which must exist.
    Lease(i64),
    /// About this many seconds, on a lease shared with other keys.
    Seconds(i64),
}

/// What a compare looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Revision of the last change; 0 when the key does not exist.
    Mod(Revision),
    /// Revision of the creation; 0 when the key does not exist.
    Create(Revision),
    /// Count of changes; 0 when the key does not exist.
    Version(i64),
    /// The lease; 0 for none.
    Lease(i64),
    /// The value; a key that does not exist fails every value compare.
    Value(Bytes),
}

/// A condition on one key: `key.target <ordering> value`.
#[derive(Clone, Debug)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// What must hold between the stored and the given.
    pub relation: Relation,
    /// The given.
    pub target: Target,
}

/// The relation of a compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Stored equals given.
    Equal,
    /// Stored differs from given.
    NotEqual,
    /// Stored is greater.
    Greater,
    /// Stored is less.
    Less,
}

/// One step of a transaction.
#[derive(Clone, Debug)]
pub enum Step {
    /// Write a key.
    Put {
        /// The key.
        key: Bytes,
        /// The value; `None` keeps the present one.
        value: Option<Bytes>,
        /// The key's life; `None` keeps the present lease.
        life: Option<Life>,
    },
    /// Delete a range.
    Delete(KeyRange),
    /// Read a range.
    Range(KeyRange, Select),
}

/// What a step has done.
#[derive(Clone, Debug)]
pub enum Done {
    /// Written; the version before.
    Put(Option<KeyValue>),
    /// Deleted; the versions before.
    Delete(Vec<KeyValue>),
    /// Read.
    Range(Page),
}

/// All compares decide which steps run; they share one revision.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// The conditions.
    pub compares: Vec<Compare>,
    /// The steps if all hold.
    pub then: Vec<Step>,
    /// The steps otherwise.
    pub otherwise: Vec<Step>,
}

/// The answer to a transaction.
#[derive(Clone, Debug)]
pub struct TxnDone {
    /// Whether all compares held.
    pub succeeded: bool,
    /// The store's revision after the transaction.
    pub revision: Revision,
    /// One per step.
    pub steps: Vec<Done>,
}

/// A change to the leases, applied with the batch.
#[derive(Clone, Debug)]
enum LeaseChange {
    Grant { id: i64, ttl: i64 },
    Revoke(i64),
    Attach { key: Bytes, from: i64, to: i64 },
}

/// A batch under evaluation.
pub struct Batch<'a> {
    state: &'a State,
    leases: &'a Leases,
    now: Instant,
    /// New versions by key; `None` for deleted.
    pending: BTreeMap<Bytes, Option<KeyValue>>,
    effects: Effects,
}

/// What a batch does when it is made durable.
#[derive(Debug, Default)]
pub struct Effects {
    /// The records for the log.
    pub payload: Vec<u8>,
    /// The changes to make visible.
    pub events: Vec<Event>,
    /// Compact to here.
    pub compact: Option<Revision>,
    /// Whether only deletions are in it.
    pub shrinks: bool,
    leases: Vec<LeaseChange>,
    current: Revision,
}

impl<'a> Batch<'a> {
    /// An empty batch.
    pub fn new(state: &'a State, leases: &'a Leases, now: Instant) -> Self {
        let effects = Effects { current: state.current(), shrinks: true, ..Effects::default() };
        Self { state, leases, now, pending: BTreeMap::new(), effects }
    }

    /// The effects.
    pub fn finish(self) -> Effects {
        self.effects
    }

    /// Bytes of log so far.
    pub fn size(&self) -> usize {
        self.effects.payload.len()
    }

    /// The revision after the operations so far.
    pub fn current(&self) -> Revision {
        self.effects.current
    }

    fn latest(&self, key: &[u8]) -> Option<KeyValue> {
        match self.pending.get(key) {
            Some(pending) => pending.clone(),
            None => self.state.latest(key),
        }
    }

    /// Runs a transaction. An error means that it did nothing.
    pub fn txn(&mut self, txn: &Txn, reuse: &mut LeaseReuse, clock: std::time::Duration) -> Result<TxnDone> {
        let succeeded = txn.compares.iter().all(|compare| holds(compare, self.latest(&compare.key).as_ref()));
        let steps = if succeeded { &txn.then } else { &txn.otherwise };
        self.check(steps)?;
        let revision = self.effects.current + 1;
        let mut done = Vec::with_capacity(steps.len());
        for step in steps {
            done.push(match step {
                Step::Put { key, value, life } => {
                    self.effects.shrinks = false;
                    let lease = self.lease_of(key, *life, reuse, clock);
                    Done::Put(self.put(revision, key, value.clone(), lease))
                }
                Step::Delete(range) => Done::Delete(self.delete_range(revision, range)?),
                Step::Range(range, select) => Done::Range(self.range(range, *select)?),
            });
        }
        Ok(TxnDone { succeeded, revision: self.effects.current, steps: done })
    }

    /// Refuses before anything is changed, so that an error leaves no half of a transaction.
    fn check(&self, steps: &[Step]) -> Result<()> {
        let mut written = std::collections::BTreeSet::new();
        for step in steps {
            let Step::Put { key, value, life } = step else { continue };
            if !written.insert(key) {
                return Err(Error::Invalid("duplicate key given in txn request".into()));
            }
            if let Some(Life::Lease(id)) = life
                && *id != 0
                && !self.lease_exists(*id)
            {
                return Err(Error::Invalid("requested lease not found".into()));
            }
            if (value.is_none() || life.is_none()) && self.latest(key).is_none() {
                return Err(Error::Invalid("key not found".into()));
            }
        }
        let deletes =
            steps.iter().filter_map(|step| if let Step::Delete(range) = step { Some(range) } else { None });
        if deletes.into_iter().any(|range| written.iter().any(|key| range.contains(key))) {
            return Err(Error::Invalid("duplicate key given in txn request".into()));
        }
        for step in steps {
            if let Step::Range(_, Select { revision, .. }) = step
                && *revision != 0
            {
                self.state.get(b"", (*revision).min(self.effects.current))?;
            }
        }
        Ok(())
    }

    fn lease_exists(&self, id: i64) -> bool {
        let staged = self.effects.leases.iter().rev().find_map(|change| match change {
            LeaseChange::Grant { id: other, .. } if *other == id => Some(true),
            LeaseChange::Revoke(other) if *other == id => Some(false),
            _ => None,
        });
        staged.unwrap_or_else(|| self.leases.contains(id))
    }

    fn lease_of(
        &mut self,
        key: &Bytes,
        life: Option<Life>,
        reuse: &mut LeaseReuse,
        clock: std::time::Duration,
    ) -> i64 {
        match life {
            None => self.latest(key).map_or(0, |kv| kv.lease),
            Some(Life::Endless) => 0,
            Some(Life::Lease(id)) => id,
            Some(Life::Seconds(ttl)) => match reuse.choose(ttl, clock) {
                LeaseChoice::Use(id) if self.lease_exists(id) => id,
                LeaseChoice::Use(_) | LeaseChoice::Grant(_) => {
                    let seconds = LeaseReuse::granted_seconds(ttl);
                    let id = self.grant(0, seconds);
                    reuse.granted(id, seconds, clock);
                    id
                }
            },
        }
    }

    fn put(&mut self, revision: Revision, key: &Bytes, value: Option<Bytes>, lease: i64) -> Option<KeyValue> {
        let prev = self.latest(key);
        let value = value.or_else(|| prev.as_ref().map(|kv| kv.value.clone())).unwrap_or_default();
        let kv = KeyValue {
            // The key's allocation is shared by all its versions.
            key: prev.as_ref().map_or_else(|| key.clone(), |kv| kv.key.clone()),
            value,
            mod_revision: revision,
            create_revision: prev.as_ref().map_or(revision, |kv| kv.create_revision),
            version: prev.as_ref().map_or(1, |kv| kv.version + 1),
            lease,
        };
        Record::Put { revision, key: kv.key.clone(), value: kv.value.clone(), lease }
            .encode(&mut self.effects.payload);
        self.change(Event { kind: EventKind::Put, kv, prev: prev.clone() });
        prev
    }

    fn delete(&mut self, revision: Revision, prev: KeyValue) {
        Record::Delete { revision, key: prev.key.clone() }.encode(&mut self.effects.payload);
        self.change(Event {
            kind: EventKind::Delete,
            kv: tombstone(prev.key.clone(), revision),
            prev: Some(prev),
        });
    }

    fn change(&mut self, event: Event) {
        self.effects.current = event.revision();
        let from = event.prev.as_ref().map_or(0, |kv| kv.lease);
        if from != event.kv.lease {
            let key = event.kv.key.clone();
            self.effects.leases.push(LeaseChange::Attach { key, from, to: event.kv.lease });
        }
        let value = (event.kind == EventKind::Put).then(|| event.kv.clone());
        self.pending.insert(event.kv.key.clone(), value);
        self.effects.events.push(event);
    }

    fn delete_range(&mut self, revision: Revision, range: &KeyRange) -> Result<Vec<KeyValue>> {
        let found = self.range(range, Select::default())?.kvs;
        found.iter().for_each(|kv| self.delete(revision, kv.clone()));
        Ok(found)
    }

    /// A read inside a transaction sees the batch so far.
    fn range(&self, range: &KeyRange, select: Select) -> Result<Page> {
        if select.revision != 0 && select.revision <= self.state.current() {
            let mut page = self.state.range(range, select)?;
            page.revision = self.effects.current;
            return Ok(page);
        }
        if let Some(one) = single_key(range) {
            let kvs: Vec<_> = self.latest(one).into_iter().collect();
            return Ok(trimmed(kvs, select, self.effects.current));
        }
        let visible = self.state.range(range, Select::default())?.kvs;
        let mut merged: BTreeMap<Bytes, KeyValue> =
            visible.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        for (key, pending) in self.pending.iter().filter(|(key, _)| range.contains(key)) {
            match pending {
                Some(kv) => drop(merged.insert(key.clone(), kv.clone())),
                None => drop(merged.remove(key)),
            }
        }
        Ok(trimmed(merged.into_values().collect(), select, self.effects.current))
    }

    /// Grants a lease; `id` 0 chooses one.
    pub fn grant(&mut self, id: i64, ttl: i64) -> i64 {
        let mut chosen = id;
        while chosen == 0 || (id == 0 && self.lease_exists(chosen)) {
            chosen = rand::random::<i64>() & i64::MAX;
        }
        Record::Grant { id: chosen, ttl, remaining: ttl }.encode(&mut self.effects.payload);
        self.effects.leases.push(LeaseChange::Grant { id: chosen, ttl });
        self.effects.shrinks = false;
        chosen
    }

    /// Whether a lease exists after the operations so far.
    pub fn has_lease(&self, id: i64) -> bool {
        self.lease_exists(id)
    }

    /// Ends a lease and deletes its keys. Each deletion has a revision of its own: an API watch can be resumed only
    /// between revisions, so a group under one could lose its second half.
    pub fn revoke(&mut self, id: i64) -> bool {
        if !self.lease_exists(id) {
            return false;
        }
        let attached = self.leases.get(id, self.now).map(|(_, _, keys)| keys).unwrap_or_default();
        let staged = self.effects.leases.iter().filter_map(|change| match change {
            LeaseChange::Attach { key, to, .. } if *to == id => Some(key.clone()),
            _ => None,
        });
        let keys: std::collections::BTreeSet<Bytes> = attached.into_iter().chain(staged).collect();
        for kv in
            keys.iter().filter_map(|key| self.latest(key)).filter(|kv| kv.lease == id).collect::<Vec<_>>()
        {
            self.delete(self.effects.current + 1, kv);
        }
        Record::Revoke { id }.encode(&mut self.effects.payload);
        self.effects.leases.push(LeaseChange::Revoke(id));
        true
    }

    /// Compacts.
    pub fn compact(&mut self, revision: Revision) -> Result<()> {
        let oldest = self.state.oldest().max(self.effects.compact.unwrap_or(0));
        if revision <= oldest {
            return Err(Error::Compacted { requested: revision, oldest });
        }
        if revision > self.effects.current {
            return Err(Error::FutureRevision { requested: revision, current: self.effects.current });
        }
        Record::Compact { revision }.encode(&mut self.effects.payload);
        self.effects.compact = Some(revision);
        Ok(())
    }
}

impl Effects {
    /// Whether there is anything to write.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Applies the lease changes.
    pub fn apply_leases(&mut self, leases: &mut Leases, now: Instant) {
        for change in self.leases.drain(..) {
            match change {
                LeaseChange::Grant { id, ttl } => leases.grant(id, ttl, ttl, now),
                LeaseChange::Revoke(id) => leases.remove(id),
                LeaseChange::Attach { key, from, to } => leases.attach(&key, from, to),
            }
        }
    }
}

fn single_key(range: &KeyRange) -> Option<&[u8]> {
    let (last, key) = range.end.split_last()?;
    (*last == 0 && key == &range.start[..]).then_some(key)
}

fn trimmed(mut kvs: Vec<KeyValue>, select: Select, revision: Revision) -> Page {
    let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
    if select.count_only {
        kvs.clear();
    } else if select.limit != 0 {
        kvs.truncate(select.limit);
    }
    if select.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    Page { kvs, count, revision }
}

fn holds(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    use std::cmp::Ordering;
    let order = match &compare.target {
        Target::Mod(n) => kv.map_or(0, |kv| kv.mod_revision).cmp(n),
        Target::Create(n) => kv.map_or(0, |kv| kv.create_revision).cmp(n),
        Target::Version(n) => kv.map_or(0, |kv| kv.version).cmp(n),
        Target::Lease(n) => kv.map_or(0, |kv| kv.lease).cmp(n),
        Target::Value(given) => match kv {
            Some(kv) => kv.value.cmp(given),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => order == Ordering::Equal,
        Relation::NotEqual => order != Ordering::Equal,
        Relation::Greater => order == Ordering::Greater,
        Relation::Less => order == Ordering::Less,
    }
}
