//! Pods of a group wait together, as one thing with one priority and one backoff, and are taken together.
//!
//! Every pod keeps its own entry; its group knows who queued with it. A pod whose group is not known is
//! incomplete, one that comes while its group is tried is pending until that attempt has ended.
//! Upstream: scheduling_queue.go addPodGroupMember, AddAttemptedPodGroupIfNeeded, AddPodGroup; framework/types.go
//! QueuedPodGroupInfo. One thing differs: plugins that may keep a group back are asked when it is taken instead of when
//! it becomes ready, so that whatever happened in between counts.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{ADDED, ActiveKey, BackoffKey, Place, Popped, Queue, RefusedBy};
use crate::model::{GroupKey, GroupObject, PodInfo, Tree, Uid};

/// Who is in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Pod(Uid),
    Group(GroupKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupPlace {
    /// None of its pods waits.
    Idle,
    Active(ActiveKey),
    Backoff(BackoffKey),
    /// The plugin keeps it from being tried.
    Gated(&'static str),
    InFlight,
}

/// A topmost group that pods or the API server speak of.
#[derive(Debug)]
pub(super) struct Group {
    object: Option<GroupObject>,
    /// Pods that are taken with it.
    members: BTreeSet<Uid>,
    /// Pods that wait for the group to be known, or for the end of the attempt under way.
    waiting: BTreeSet<Uid>,
    /// Pods of the attempt under way.
    tried: BTreeSet<Uid>,
    place: GroupPlace,
    stamp: Option<Instant>,
    failures: u32,
    errors: u32,
    /// Pods are on their way out to make room for it.
    victims: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            object: None,
            members: BTreeSet::new(),
            waiting: BTreeSet::new(),
            tried: BTreeSet::new(),
            place: GroupPlace::Idle,
            stamp: None,
            failures: 0,
            errors: 0,
            victims: false,
        }
    }
}

impl Group {
    /// A pod goes. The place comes back that the group has to be taken from: none of its pods waits any more.
    pub(super) fn leave(&mut self, uid: &Uid) -> GroupPlace {
        self.waiting.remove(uid);
        if !self.members.remove(uid) || !self.members.is_empty() || self.place == GroupPlace::InFlight {
            return GroupPlace::Idle;
        }
        self.start_afresh();
        std::mem::replace(&mut self.place, GroupPlace::Idle)
    }

    /// Nobody speaks of it.
    pub(super) fn is_nothing(&self) -> bool {
        self.object.is_none() && self.waiting.is_empty() && self.place == GroupPlace::Idle
    }

    fn start_afresh(&mut self) {
        (self.stamp, self.failures, self.errors, self.victims) = (None, 0, 0, false);
    }

    /// Whether it may be taken before its backoff is over. Not while victims go: it would find nothing new.
    pub(super) fn hasty(&self) -> bool {
        self.errors == 0 && !self.victims
    }
}

/// A group to be tried.
#[derive(Debug)]
pub struct PoppedGroup {
    pub key: GroupKey,
    pub tree: Tree,
    /// In the order in which they are placed.
    pub pods: Vec<Popped>,
}

/// How an attempt to place a group ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Placed,
    /// It fits nowhere; `victims`: pods go to make room for it.
    Refused {
        victims: bool,
    },
    Failed,
}

impl Queue {
    /// A pod that is nowhere joins its group. A group of which no pod waits begins to, at `from` at the earliest.
    pub(super) fn join(&mut self, uid: &Uid, now: Instant, from: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let Some(own) = entry.info.group.clone() else { return };
        let root = self.forest.root_of(&own);
        let complete = root.is_some();
        let key = root.unwrap_or(own);
        entry.with = Some(key.clone());
        let group = self.groups.entry(key.clone()).or_default();
        if !complete {
            entry.place = Place::Incomplete;
            group.waiting.insert(uid.clone());
            return self.count("incomplete", ADDED);
        }
        if group.place == GroupPlace::InFlight {
            entry.place = Place::Pending;
            group.waiting.insert(uid.clone());
            return self.count("pending", ADDED);
        }
        entry.place = Place::Member;
        group.members.insert(uid.clone());
        if group.place == GroupPlace::Idle {
            group.start_afresh();
            group.stamp = Some(entry.stamp);
            match from > now {
                true => self.back_off_group(&key, from),
                false => self.activate_group(&key, ADDED),
            }
        }
    }

    fn lift_group(&mut self, key: &GroupKey) -> Option<&mut Group> {
        let group = self.groups.get_mut(key)?;
        match group.place {
            GroupPlace::Active(at) => drop(self.active.remove(&at)),
            GroupPlace::Backoff(at) => drop(self.backoff.remove(&at)),
            GroupPlace::Gated(_) => drop(self.gated_groups.remove(key)),
            GroupPlace::Idle | GroupPlace::InFlight => {}
        }
        group.place = GroupPlace::Idle;
        Some(group)
    }

    /// To the ready ones.
    pub(super) fn activate_group(&mut self, key: &GroupKey, event: &'static str) {
        self.sequence += 1;
        let sequence = self.sequence;
        let Some(group) = self.lift_group(key) else { return };
        let Some(stamp) = group.stamp else { return };
        let at = (Reverse(group.object.as_ref().map_or(0, GroupObject::priority)), stamp, sequence);
        group.place = GroupPlace::Active(at);
        let pods = group.members.len();
        self.active.insert(at, Who::Group(key.clone()));
        (0..pods).for_each(|_| self.count("active", event));
    }

    fn back_off_group(&mut self, key: &GroupKey, until: Instant) {
        self.sequence += 1;
        let at = (until, self.sequence);
        let Some(group) = self.lift_group(key) else { return };
        group.place = GroupPlace::Backoff(at);
        let pods = group.members.len();
        self.backoff.insert(at, Who::Group(key.clone()));
        (0..pods).for_each(|_| self.count("backoff", "ScheduleAttemptFailure"));
    }

    /// To the ready ones, or into backoff while that lasts.
    pub(super) fn requeue_group(&mut self, key: &GroupKey, now: Instant, event: &'static str) {
        let Some(group) = self.groups.get(key) else { return };
        let Some(stamp) = group.stamp else { return };
        let times = if group.errors > 0 { group.errors } else { group.failures };
        let ready = stamp + self.wait(times, group.members.len());
        match ready > now {
            true => self.back_off_group(key, ready),
            false => self.activate_group(key, event),
        }
    }

    /// Takes a group with all its pods, unless a plugin keeps one of them back.
    pub(super) fn take_group(
        &mut self,
        key: &GroupKey,
        now: Instant,
        gate: &impl Fn(&PodInfo) -> Option<&'static str>,
    ) -> Option<PoppedGroup> {
        let group = self.lift_group(key)?;
        let members = group.members.clone();
        let tree = self.forest.tree(key)?;
        let mut gated = None;
        let mut pods = Vec::with_capacity(members.len());
        for uid in &members {
            let Some(entry) = self.entries.get_mut(uid) else { continue };
            if let Some(plugin) = gate(&entry.info) {
                entry.refused_by.insert(plugin);
                gated = Some(plugin);
            }
            let order = (Reverse(entry.info.priority), Reverse(entry.attempts), entry.stamp);
            pods.push((order, entry.info.clone()));
        }
        let group = self.groups.get_mut(key)?;
        if let Some(plugin) = gated {
            group.place = GroupPlace::Gated(plugin);
            self.gated_groups.insert(key.clone());
            return None;
        }
        group.place = GroupPlace::InFlight;
        group.members.clear();
        group.tried = members;
        // Upstream: PodGroupMemberPodsOrderingFunc.
        pods.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name.cmp(&other.name)));
        let taken = pods.into_iter().filter_map(|(_, info)| {
            let entry = self.entries.get_mut(&info.uid)?;
            entry.place = Place::InFlight;
            entry.attempts = entry.attempts.saturating_add(1);
            entry.last_tried = now;
            let first_added = Some(*entry.first_added.get_or_insert(now));
            Some(Popped { info, attempts: entry.attempts, first_added })
        });
        Some(PoppedGroup { key: key.clone(), tree, pods: taken.collect() })
    }

    /// The attempt is over: pods that are left, and those that came meanwhile, wait together again.
    pub fn finish_group(&mut self, key: &GroupKey, ended: Ended, now: Instant) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let tried = std::mem::take(&mut group.tried);
        group.place = GroupPlace::Idle;
        if group.object.is_none() {
            if group.is_nothing() {
                self.groups.remove(key);
            }
            return;
        }
        group.members = std::mem::take(&mut group.waiting);
        if group.members.is_empty() {
            return group.start_afresh();
        }
        group.victims = false;
        match ended {
            Ended::Placed => (group.failures, group.errors) = (0, 0),
            Ended::Refused { victims } => {
                (group.failures, group.errors, group.victims) =
                    (group.failures.saturating_add(1), 0, victims);
            }
            Ended::Failed => group.errors = group.errors.saturating_add(1),
        }
        // What is left of a group that was placed keeps its turn: it is to make room soon.
        if ended != Ended::Placed || group.members.is_disjoint(&tried) {
            group.stamp = Some(now);
        }
        group.stamp.get_or_insert(now);
        for uid in &group.members {
            if let Some(entry) = self.entries.get_mut(uid) {
                entry.place = Place::Member;
            }
        }
        match ended {
            Ended::Placed => self.activate_group(key, "ScheduleAttemptFailure"),
            _ => self.requeue_group(key, now, "ScheduleAttemptFailure"),
        }
    }

    /// A group came, changed or went (`None`): pods wait with the topmost group, once all on the way to it are known.
    pub fn set_group(&mut self, key: &GroupKey, object: Option<GroupObject>, now: Instant) {
        let mut touched = self.forest.leaves(key);
        touched.extend(self.forest.root_of(key));
        self.forest.set(key, object);
        touched.extend(self.forest.leaves(key));
        touched.extend(self.forest.root_of(key));
        touched.insert(key.clone());
        let mut pods = Vec::new();
        for key in &touched {
            let topmost = self.forest.root_of(key).is_some_and(|root| root == *key);
            let object = self.forest.get(key).filter(|_| topmost).cloned();
            if object.is_none() && !self.groups.contains_key(key) {
                continue;
            }
            let group = self.groups.entry(key.clone()).or_default();
            group.object = object;
            pods.extend(group.members.iter().chain(&group.waiting).cloned());
        }
        pods.iter().for_each(|uid| self.regroup(uid, now));
        for key in touched {
            if self.groups.get(&key).is_some_and(|g| g.members.is_empty() && g.is_nothing()) {
                self.groups.remove(&key);
            }
        }
    }

    /// A pod leaves the group that it waits with if that is not its topmost any more, or is known by now.
    fn regroup(&mut self, uid: &Uid, now: Instant) {
        let Some(entry) = self.entries.get(uid) else { return };
        let root = entry.info.group.as_ref().and_then(|own| self.forest.root_of(own));
        let stays = match entry.place {
            Place::Member | Place::Pending => root.is_some() && root == entry.with,
            Place::Incomplete => root.is_none(),
            _ => true,
        };
        if !stays {
            self.lift(uid);
            self.join(uid, now, now);
        }
    }

    /// Something changed: groups go on that it may help. `interested`: whether a plugin that keeps a pod back looks at
    /// such changes. With `only`, the change concerns no other group.
    pub fn wake_groups(
        &mut self,
        now: Instant,
        event: &'static str,
        only: Option<&GroupKey>,
        interested: impl Fn(&PodInfo, &'static str) -> bool,
        helps: impl Fn(&PodInfo, &RefusedBy) -> bool,
    ) {
        let helped = |key: &&GroupKey| {
            let Some(group) = self.groups.get(*key) else { return false };
            let GroupPlace::Gated(plugin) = group.place else { return false };
            let mut pods = group.members.iter().filter_map(|uid| self.entries.get(uid)).peekable();
            let first = pods.peek().is_some_and(|e| interested(&e.info, plugin));
            first && pods.any(|e| e.refused_by.is_empty() || helps(&e.info, &e.refused_by))
        };
        let keys: Vec<GroupKey> = match only {
            Some(key) => self.gated_groups.get(key).filter(helped).cloned().into_iter().collect(),
            None => self.gated_groups.iter().filter(helped).cloned().collect(),
        };
        keys.iter().for_each(|key| self.requeue_group(key, now, event));
    }

    /// A pod that was in the way is gone: groups that wait for that may be taken early.
    pub fn victims_went(&mut self) {
        self.groups.values_mut().for_each(|g| g.victims = false);
    }

    /// A group goes on whatever refused it.
    pub fn wake_group(&mut self, key: &GroupKey) {
        let place = self.groups.get(key).map(|g| g.place);
        if matches!(place, Some(GroupPlace::Backoff(_) | GroupPlace::Gated(_))) {
            self.activate_group(key, "ForceActivate");
        }
    }

    pub(super) fn place_of_group(&self, key: Option<&GroupKey>) -> &'static str {
        let group = key.and_then(|k| self.groups.get(k));
        match group.map(|g| g.place) {
            Some(GroupPlace::Active(_)) => "active",
            Some(GroupPlace::Backoff(_)) => "backoff",
            Some(GroupPlace::Gated(_)) => "gated",
            Some(GroupPlace::InFlight) => "inFlight",
            Some(GroupPlace::Idle) | None => "unschedulable",
        }
    }
}
