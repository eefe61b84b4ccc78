//! Pods that wait: ready ones by priority, those in backoff, those that nothing has changed for, gated ones.
//!
//! Time is an argument. A cycle runs while the owner of the queue holds its lock, so no change can slip between a
//! verdict and the pod's way back into the queue. Pods of a group wait and are taken together: `groups.rs`.
//! Upstream: pkg/scheduler/backend/queue/scheduling_queue.go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use component::features::{self, Gate};
use hashbrown::HashMap;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::model::forest::Forest;
use crate::model::{GroupKey, PodInfo, Uid};

mod groups;
mod making_room;
#[cfg(test)]
mod tests;

pub use groups::{Ended, PoppedGroup};
use groups::{Group, GroupPlace, Who};
use making_room::MakingRoom;

type Hash = foldhash::fast::RandomState;
type ActiveKey = (Reverse<i32>, Instant, u64);
type BackoffKey = (Instant, u64);

/// Names of the plugins that refused a pod.
pub type RefusedBy = BTreeSet<&'static str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active(ActiveKey),
    Backoff(BackoffKey),
    Unschedulable(Instant),
    Gated,
    InFlight,
    /// Where its group is.
    Member,
    /// Its group is not known yet.
    Incomplete,
    /// Its group is being tried; then it joins.
    Pending,
}

#[derive(Debug)]
struct Entry {
    info: Arc<PodInfo>,
    attempts: u32,
    /// Failures since it was last let go by a plugin; decides how long it backs off.
    failures: u32,
    first_added: Option<Instant>,
    last_tried: Instant,
    /// When it came, or came back.
    stamp: Instant,
    /// The attempt failed for no fault of the pod: then it must wait its backoff in full.
    by_error: bool,
    refused_by: RefusedBy,
    place: Place,
    /// The topmost group that it waits with.
    with: Option<GroupKey>,
    /// The last attempts: when, and what came of it.
    history: VecDeque<(Timestamp, String)>,
}

/// Attempts remembered per pod.
const HISTORY: usize = 3;

/// A pod to be tried.
#[derive(Clone, Debug)]
pub struct Popped {
    pub info: Arc<PodInfo>,
    pub attempts: u32,
    pub first_added: Option<Instant>,
}

/// What is tried next.
#[derive(Debug)]
pub enum Next {
    Pod(Popped),
    Group(PoppedGroup),
}

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub struct Periods {
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    /// Longest stay among the unschedulable.
    pub max_unschedulable: Duration,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    periods: Periods,
    /// Whether pods of a group wait together; off with the gate GenericWorkload.
    grouping: bool,
    /// Whether a pod in backoff may be taken when none is ready; off with the gate SchedulerPopFromBackoffQ.
    pops_backoff: bool,
    entries: HashMap<Uid, Entry, Hash>,
    groups: HashMap<GroupKey, Group, Hash>,
    forest: Forest,
    /// Groups that a plugin keeps from being tried.
    gated_groups: BTreeSet<GroupKey>,
    active: BTreeMap<ActiveKey, Who>,
    backoff: BTreeMap<BackoffKey, Who>,
    /// Waiting for a change, oldest first is not needed: looked through when something changes.
    unschedulable: BTreeSet<Uid>,
    gated: BTreeSet<Uid>,
    making_room: MakingRoom,
    sequence: u64,
    next_flush: Option<Instant>,
    /// How many pods came into which queue after which event, since last taken.
    incoming: BTreeMap<(&'static str, &'static str), u64>,
}

/// Upstream's name of the event that a pod which waits is new.
pub const ADDED: &str = "UnscheduledPodAdd";

/// Whether it waits with its group. One that runs and is to grow waits alone. Upstream: isPodGroupMember.
fn grouped(pod: &PodInfo) -> bool {
    pod.group.is_some() && !pod.deferred()
}

/// How often the unschedulable are looked through for ones that stayed too long.
const FLUSH: Duration = Duration::from_secs(30);

impl Queue {
    /// `grouping`: pods of a group wait together; `nested`: groups of groups do.
    pub fn new(periods: Periods, grouping: bool, nested: bool) -> Self {
        Self {
            periods,
            grouping,
            pops_backoff: features::enabled(Gate::SchedulerPopFromBackoffQ),
            entries: HashMap::default(),
            groups: HashMap::default(),
            forest: Forest::new(nested),
            gated_groups: BTreeSet::new(),
            active: BTreeMap::new(),
            backoff: BTreeMap::new(),
            unschedulable: BTreeSet::new(),
            gated: BTreeSet::new(),
            making_room: MakingRoom::default(),
            sequence: 0,
            next_flush: None,
            incoming: BTreeMap::new(),
        }
    }

    fn lift(&mut self, uid: &Uid) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(uid)?;
        match entry.place {
            Place::Active(key) => drop(self.active.remove(&key)),
            Place::Backoff(key) => drop(self.backoff.remove(&key)),
            Place::Unschedulable(_) => drop(self.unschedulable.remove(uid)),
            Place::Gated => drop(self.gated.remove(uid)),
            Place::InFlight => {}
            Place::Member | Place::Incomplete | Place::Pending => {
                let key = entry.with.as_ref()?;
                match self.groups.get_mut(key)?.leave(uid) {
                    GroupPlace::Active(key) => drop(self.active.remove(&key)),
                    GroupPlace::Backoff(key) => drop(self.backoff.remove(&key)),
                    GroupPlace::Gated(_) => drop(self.gated_groups.remove(key)),
                    GroupPlace::Idle | GroupPlace::InFlight => {}
                }
                if self.groups.get(key).is_some_and(Group::is_nothing) {
                    self.groups.remove(key);
                }
            }
        }
        Some(entry)
    }

    fn activate(&mut self, uid: &Uid, now: Instant) {
        self.sequence += 1;
        let sequence = self.sequence;
        let Some(entry) = self.lift(uid) else { return };
        let key = (Reverse(entry.info.priority), now, sequence);
        entry.first_added.get_or_insert(now);
        entry.place = Place::Active(key);
        self.active.insert(key, Who::Pod(uid.clone()));
    }

    fn back_off(&mut self, uid: &Uid, until: Instant) {
        self.sequence += 1;
        let key = (until, self.sequence);
        let Some(entry) = self.lift(uid) else { return };
        entry.place = Place::Backoff(key);
        self.backoff.insert(key, Who::Pod(uid.clone()));
    }

    fn park(&mut self, uid: &Uid, now: Instant) {
        let Some(entry) = self.lift(uid) else { return };
        entry.place = Place::Unschedulable(now);
        self.unschedulable.insert(uid.clone());
        self.next_flush.get_or_insert(now + FLUSH);
    }

    /// When a pod may be tried again.
    fn ready_at(&self, entry: &Entry) -> Instant {
        entry.last_tried + self.wait(entry.failures, 1)
    }

    /// How long something of `size` pods backs off that failed so often. Upstream: calculateBackoffDuration.
    fn wait(&self, failures: u32, size: usize) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doublings = failures.saturating_sub(1).min(20);
        #[expect(clippy::cast_precision_loss, reason = "few pods")]
        let longest = self.periods.max_backoff.mul_f64((size.max(1) as f64).sqrt());
        self.periods.initial_backoff.saturating_mul(1 << doublings).min(longest)
    }

    fn count(&mut self, queue: &'static str, event: &'static str) {
        *self.incoming.entry((queue, event)).or_default() += 1;
    }

    /// How many pods came into which queue after which event, since the last call.
    pub fn take_incoming(&mut self) -> BTreeMap<(&'static str, &'static str), u64> {
        std::mem::take(&mut self.incoming)
    }

    /// To the ready ones, or into backoff while that lasts; one that makes room stays.
    fn requeue(&mut self, uid: &Uid, now: Instant, event: &'static str) {
        if self.making_room.holds(uid) {
            return;
        }
        let Some(entry) = self.entries.get(uid) else { return };
        let ready = self.ready_at(entry);
        if ready <= now {
            self.count("active", event);
            self.activate(uid, now);
        } else {
            self.count("backoff", event);
            self.back_off(uid, ready);
        }
    }

    /// A new pod. With `gate`, the plugin that keeps it from being tried.
    pub fn add(&mut self, info: Arc<PodInfo>, gate: Option<&'static str>, now: Instant) {
        let uid = info.uid.clone();
        self.remove(&uid);
        let entry = Entry {
            info,
            attempts: 0,
            failures: 0,
            first_added: None,
            last_tried: now,
            stamp: now,
            by_error: false,
            refused_by: gate.into_iter().collect(),
            place: Place::Gated,
            with: None,
            history: VecDeque::new(),
        };
        if self.grouping && grouped(&entry.info) {
            let entry = Entry { place: Place::InFlight, refused_by: RefusedBy::new(), ..entry };
            self.entries.insert(uid.clone(), entry);
            self.join(&uid, now, now);
            return;
        }
        self.entries.insert(uid.clone(), entry);
        if gate.is_none() {
            self.count("active", ADDED);
            self.activate(&uid, now);
        } else {
            self.gated.insert(uid);
            self.count("gated", ADDED);
        }
    }

    /// A waiting pod changed. `useful`: given who refused it, whether the change may help.
    pub fn update(
        &mut self,
        info: Arc<PodInfo>,
        gate: Option<&'static str>,
        now: Instant,
        useful: impl FnOnce(&RefusedBy) -> bool,
    ) {
        let uid = info.uid.clone();
        let Some(entry) = self.entries.get_mut(&uid) else { return self.add(info, gate, now) };
        entry.info = info;
        match (entry.place, gate) {
            (Place::InFlight | Place::Incomplete | Place::Pending, _) => {}
            (Place::Member, _) => {
                let helped = useful(&entry.refused_by);
                let key = entry.with.clone().filter(|k| helped && self.gated_groups.contains(k));
                if let Some(key) = key {
                    self.requeue_group(&key, now, "TargetPodUpdate");
                }
            }
            (_, Some(gate)) => {
                entry.refused_by = [gate].into();
                if let Some(entry) = self.lift(&uid) {
                    entry.place = Place::Gated;
                    self.gated.insert(uid);
                }
            }
            (Place::Gated, None) => {
                entry.refused_by.clear();
                self.count("active", "TargetPodUpdate");
                self.activate(&uid, now);
            }
            // The priority may have changed.
            (Place::Active((_, since, _)), None) => self.activate(&uid, since),
            (Place::Backoff(_), None) => {}
            (Place::Unschedulable(_), None) => {
                if useful(&entry.refused_by) {
                    self.requeue(&uid, now, "TargetPodUpdate");
                }
            }
        }
    }

    pub fn remove(&mut self, uid: &Uid) {
        self.making_room.end(uid);
        if self.lift(uid).is_some() {
            self.entries.remove(uid);
        }
    }

    pub fn contains(&self, uid: &Uid) -> bool {
        self.entries.contains_key(uid)
    }

    /// A waiting pod by its name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<&Arc<PodInfo>> {
        self.entries.values().map(|e| &e.info).find(|i| &*i.namespace == namespace && &*i.name == name)
    }

    /// Where a pod is and who refused it.
    pub fn describe(&self, uid: &Uid) -> serde_json::Value {
        let Some(entry) = self.entries.get(uid) else { return serde_json::Value::Null };
        let place = self.place_name(entry);
        let history = entry
            .history
            .iter()
            .map(|(at, text)| serde_json::json!({ "at": at.to_string(), "result": text }));
        serde_json::json!({
            "place": place,
            "attempts": entry.attempts,
            "refusedBy": entry.refused_by,
            "lastAttempts": history.collect::<Vec<_>>(),
        })
    }

    /// Plugins that refused a pod.
    pub fn refused_by(&self, uid: &Uid) -> RefusedBy {
        self.entries.get(uid).map(|e| e.refused_by.clone()).unwrap_or_default()
    }

    /// Remembers what came of an attempt.
    pub fn note(&mut self, uid: &Uid, at: Timestamp, result: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            if entry.history.len() >= HISTORY {
                entry.history.pop_front();
            }
            entry.history.push_back((at, result.to_string()));
        }
    }

    /// The next pod or group to try. With no ready one, one in backoff: waiting would only waste time. Whether a plugin
    /// (`gate` names it) keeps a group from being tried is asked last, when all that led here is known.
    pub fn pop(&mut self, now: Instant, gate: impl Fn(&PodInfo) -> Option<&'static str>) -> Option<Next> {
        loop {
            let who = match self.active.first_key_value() {
                Some((_, who)) => who.clone(),
                None => self.early()?,
            };
            match who {
                Who::Pod(uid) => return self.take(&uid, now).map(Next::Pod),
                Who::Group(key) => {
                    if let Some(group) = self.take_group(&key, now, &gate) {
                        return Some(Next::Group(group));
                    }
                }
            }
        }
    }

    fn take(&mut self, uid: &Uid, now: Instant) -> Option<Popped> {
        let entry = self.lift(uid)?;
        entry.place = Place::InFlight;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.last_tried = now;
        Some(Popped { info: entry.info.clone(), attempts: entry.attempts, first_added: entry.first_added })
    }

    /// Among those in backoff that no error put there, the first to become ready.
    fn early(&self) -> Option<Who> {
        if !self.pops_backoff {
            return None;
        }
        let hasty = |who: &&Who| match who {
            Who::Pod(uid) => self.entries.get(uid).is_some_and(|e| !e.by_error),
            Who::Group(key) => self.groups.get(key).is_some_and(Group::hasty),
        };
        self.backoff.values().find(hasty).cloned()
    }

    /// A tried pod fits nowhere.
    pub fn refused(&mut self, uid: &Uid, by: RefusedBy, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.failures = entry.failures.saturating_add(1);
        entry.by_error = false;
        entry.refused_by = by;
        entry.stamp = now;
        if self.grouping && grouped(&entry.info) {
            return self.join(uid, now, now);
        }
        self.count("unschedulable", "ScheduleAttemptFailure");
        self.park(uid, now);
    }

    /// An attempt failed for another reason: it is made again after a while.
    pub fn failed(&mut self, uid: &Uid, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.failures = entry.failures.saturating_add(1);
        entry.by_error = true;
        entry.last_tried = now;
        entry.refused_by.clear();
        entry.stamp = now;
        let grouped = self.grouping && grouped(&entry.info);
        let until = self.entries.get(uid).map_or(now, |e| self.ready_at(e));
        if grouped {
            return self.join(uid, now, until);
        }
        self.count("backoff", "ScheduleAttemptFailure");
        self.back_off(uid, until);
    }

    /// Something changed: those whom it may help go on.
    pub fn wake(&mut self, now: Instant, event: &'static str, helps: impl Fn(&PodInfo, &RefusedBy) -> bool) {
        let chosen = self
            .unschedulable
            .iter()
            .filter(|uid| !self.making_room.holds(uid))
            .filter(|uid| self.entries.get(*uid).is_some_and(|e| helps(&e.info, &e.refused_by)));
        for uid in chosen.cloned().collect::<Vec<_>>() {
            self.requeue(&uid, now, event);
        }
    }

    /// Something changed: pods go on that no plugin (`gate` names it) keeps from being tried any more.
    pub fn release(
        &mut self,
        now: Instant,
        event: &'static str,
        gate: impl Fn(&PodInfo) -> Option<&'static str>,
    ) {
        let free =
            self.gated.iter().filter(|u| self.entries.get(*u).is_some_and(|e| gate(&e.info).is_none()));
        for uid in free.cloned().collect::<Vec<_>>() {
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.refused_by.clear();
            }
            self.count("active", event);
            self.activate(&uid, now);
        }
    }

    /// Victims of a pod are about to be sent away.
    pub fn makes_room(&mut self, uid: &Uid) {
        self.making_room.begin(uid);
    }

    /// Of a pod's victims only this one is left.
    pub fn last_victim(&mut self, uid: &Uid, victim: &Uid) {
        self.making_room.last(uid, victim);
    }

    /// A placed pod ends or is gone.
    pub fn going(&mut self, victim: &Uid) {
        self.making_room.going(victim);
    }

    /// The victims of a pod were told to go. With `wake` no deletion may be seen any more, so that it goes on at once.
    pub fn made_room(&mut self, uid: &Uid, wake: bool, now: Instant) {
        self.making_room.end(uid);
        if wake && self.unschedulable.contains(uid) {
            self.requeue(uid, now, "ForceActivate");
        }
    }

    /// Moves those whose time has come.
    pub fn flush(&mut self, now: Instant) {
        while let Some((&(until, _), who)) = self.backoff.first_key_value()
            && until <= now
        {
            match who.clone() {
                Who::Pod(uid) => {
                    self.count("active", "BackoffComplete");
                    self.activate(&uid, now);
                }
                Who::Group(key) => self.activate_group(&key, "BackoffComplete"),
            }
        }
        if self.next_flush.is_none_or(|at| at > now) {
            return;
        }
        let limit = self.periods.max_unschedulable;
        let old = self.unschedulable.iter().filter(|uid| {
            matches!(self.entries.get(*uid).map(|e| e.place), Some(Place::Unschedulable(since)) if since + limit <= now)
        });
        for uid in old.cloned().collect::<Vec<_>>() {
            self.requeue(&uid, now, "UnschedulableTimeout");
        }
        self.next_flush = (!self.unschedulable.is_empty()).then_some(now + FLUSH);
    }

    /// When [`Queue::flush`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        let backoff = self.backoff.first_key_value().map(|((until, _), _)| *until);
        [backoff, self.next_flush].into_iter().flatten().min()
    }

    /// Numbers of pods by where they are.
    pub fn sizes(&self) -> [(&'static str, usize); 6] {
        let mut sizes = [
            ("active", 0),
            ("backoff", 0),
            ("unschedulable", 0),
            ("gated", 0),
            ("incomplete", 0),
            ("pending", 0),
        ];
        for entry in self.entries.values() {
            let name = self.place_name(entry);
            sizes.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, size)| *size += 1);
        }
        sizes
    }

    fn place_name(&self, entry: &Entry) -> &'static str {
        match entry.place {
            Place::Active(_) => "active",
            Place::Backoff(_) => "backoff",
            Place::Unschedulable(_) => "unschedulable",
            Place::Gated => "gated",
            Place::InFlight => "inFlight",
            Place::Member => self.place_of_group(entry.with.as_ref()),
            Place::Incomplete => "incomplete",
            Place::Pending => "pending",
        }
    }
}
