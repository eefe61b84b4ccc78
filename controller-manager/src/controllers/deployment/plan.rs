//! What a Deployment needs next. Pure: the plan is worked out on copies, and says what to write in which order.
//!
//! One round either makes the new set, or grows it, or shrinks old ones; the next round follows when the sets changed.
//! Upstream: pkg/controller/deployment/sync.go, rolling.go, recreate.go.

use std::sync::Arc;
use std::time::Duration;

use controller::controller_ref;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::revision::{self, HASH_LABEL, REVISION};
use super::size::{self, available, replicas, total, wanted};
use super::status;
use crate::controllers::shared::template_hash::template_hash;

/// Everything a decision depends on.
pub struct View<'a> {
    pub deployment: &'a Deployment,
    /// The Deployment's own sets.
    pub sets: &'a [Arc<ReplicaSet>],
    /// Pods of old sets are still there (only asked for by the strategy Recreate).
    pub old_pods_running: bool,
}

/// A write to a set.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A name that is taken by a set with another template is a collision.
    Create(ReplicaSet),
    /// The event tells of a changed size.
    Update { set: ReplicaSet, event: Option<String> },
    /// By name.
    Delete(String),
}

/// What to do.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// The status afterwards.
    pub status: DeploymentStatus,
    /// The Deployment's revision afterwards.
    pub revision: Option<String>,
    pub look_again: Option<Duration>,
}

/// The state a plan is worked out on.
struct Draft<'a> {
    deployment: &'a Deployment,
    status: DeploymentStatus,
    revision: Option<String>,
    /// Oldest first.
    old: Vec<ReplicaSet>,
    new: Option<ReplicaSet>,
    actions: Vec<Action>,
    now: Timestamp,
}

/// Decides.
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut draft = Draft::new(view, now);
    let deployment = view.deployment;
    if deployment.metadata.deletion_timestamp.is_some() {
        let status = draft.counted();
        return draft.finish(status);
    }
    draft.note_pause();
    let paused = deployment.spec.paused.unwrap_or(false);
    if !paused && super::rollback::wanted(deployment).is_some() && draft.new.is_none() {
        draft.find_new_set(true);
        let status = draft.counted();
        return draft.finish(status);
    }
    if paused || draft.was_rescaled() {
        draft.find_new_set(false);
        draft.rescale();
        if paused {
            draft.clean_up();
        }
        let status = draft.counted();
        return draft.finish(status);
    }
    if size::is_rolling(deployment) {
        draft.roll()
    } else {
        draft.recreate(view.old_pods_running)
    }
    let status = draft.rolled_out();
    draft.finish(status)
}

impl<'a> Draft<'a> {
    fn new(view: &View<'a>, now: Timestamp) -> Self {
        let mut sets: Vec<&Arc<ReplicaSet>> = view.sets.iter().collect();
        sets.sort_by_key(|s| (s.metadata.creation_timestamp.as_ref().map(|t| t.0), s.metadata.name.clone()));
        let template = template(view.deployment);
        let current = sets
            .iter()
            .position(|s| s.spec.template.as_ref().is_some_and(|t| revision::same_template(t, &template)));
        let new = current.map(|at| (**sets.remove(at)).clone());
        Self {
            deployment: view.deployment,
            status: view.deployment.status.clone().unwrap_or_default(),
            revision: None,
            old: sets.into_iter().map(|s| (**s).clone()).collect(),
            new,
            actions: Vec::new(),
            now,
        }
    }

    fn finish(self, status: DeploymentStatus) -> Plan {
        let look_again = status::next_check(self.deployment, &status, self.now);
        Plan { actions: self.actions, status, revision: self.revision, look_again }
    }

    /// The Deployment as the conditions so far leave it.
    fn noted(&self) -> Deployment {
        Deployment { status: Some(self.status.clone()), ..self.deployment.clone() }
    }

    fn counted(&self) -> DeploymentStatus {
        status::counts(&self.noted(), &self.old.iter().collect::<Vec<_>>(), self.new.as_ref(), self.now)
    }

    fn rolled_out(&self) -> DeploymentStatus {
        status::rollout(&self.noted(), &self.old.iter().collect::<Vec<_>>(), self.new.as_ref(), self.now)
    }

    /// A paused roll-out must not run into its deadline.
    fn note_pause(&mut self) {
        let current =
            status::find_progressing(&self.status).and_then(|c| c.reason.as_deref()).unwrap_or_default();
        if status::deadline(self.deployment).is_none() || current == "ProgressDeadlineExceeded" {
            return;
        }
        let paused = self.deployment.spec.paused.unwrap_or(false);
        let told = match (paused, current == "DeploymentPaused") {
            (true, false) => Some(("DeploymentPaused", "Deployment is paused")),
            (false, true) => Some(("DeploymentResumed", "Deployment is resumed")),
            _ => None,
        };
        if let Some((reason, message)) = told {
            status::set(
                &mut self.status,
                status::progressing("Unknown", reason, message.to_string(), self.now),
            );
        }
    }

    /// The Deployment's size differs from the one its sets were last given.
    fn was_rescaled(&self) -> bool {
        let want = wanted(self.deployment);
        let active = self.old.iter().chain(&self.new).filter(|s| replicas(s) > 0);
        active.filter_map(|s| size::annotation(s, size::DESIRED_REPLICAS)).any(|noted| noted != want)
    }

    /// Brings the new set up to date, or makes it when `create` says so. False while there is none.
    fn find_new_set(&mut self, create: bool) -> bool {
        let newest =
            self.old.iter().map(|s| revision::of(s.metadata.annotations.as_ref())).max().unwrap_or(0);
        let next = newest + 1;
        let min_ready = self.deployment.spec.min_ready_seconds;
        match &mut self.new {
            Some(set) => {
                let mut changed = revision::annotate(self.deployment, set, next, true);
                if set.spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                    set.spec.min_ready_seconds = min_ready;
                    changed = true;
                }
                if changed {
                    self.actions.push(Action::Update { set: set.clone(), event: None });
                }
                self.revision = set.metadata.annotations.as_ref().and_then(|a| a.get(REVISION)).cloned();
                let name = set.metadata.name.clone().unwrap_or_default();
                if status::find_progressing(&self.status).is_none() {
                    self.tell_progress("FoundNewReplicaSet", format!("Found new replica set \"{name}\""));
                }
            }
            None if create => self.make_new_set(next),
            None => return false,
        }
        true
    }

    fn tell_progress(&mut self, reason: &str, message: String) {
        if status::deadline(self.deployment).is_some() {
            status::set(&mut self.status, status::progressing("True", reason, message, self.now));
        }
    }

    fn make_new_set(&mut self, number: i64) {
        let mut template = template(self.deployment);
        let hash = template_hash(&template, self.status.collision_count);
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_string(), hash.clone());
        let spec = &self.deployment.spec;
        let mut selector = spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_string(), hash.clone());
        let name = set_name(self.deployment.metadata.name.as_deref().unwrap_or_default(), &hash);
        let size = size::new_set_size(self.deployment, &self.old, 0);
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels.clone()),
                owner_references: Some(vec![controller_ref(self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(size),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        };
        revision::annotate(self.deployment, &mut set, number, false);
        self.revision = Some(number.to_string());
        self.tell_progress("NewReplicaSetCreated", format!("Created new replica set \"{name}\""));
        self.actions.push(Action::Create(set.clone()));
        self.new = Some(set);
    }

    /// Gives a set another size. True when the size changed.
    fn scale_set(&mut self, which: Which, to: i32) -> bool {
        let want = wanted(self.deployment);
        let max = want + size::max_surge(self.deployment);
        let Some(set) = self.set_mut(which) else { return false };
        let from = replicas(set);
        set.spec.replicas = Some(to);
        let noted = revision::set_counts(set.metadata.annotations.get_or_insert_default(), want, max);
        let resized = from != to;
        if resized || noted {
            let direction = if from < to { "up" } else { "down" };
            let name = set.metadata.name.as_deref().unwrap_or_default();
            let event = resized.then(|| format!("Scaled {direction} replica set {name} from {from} to {to}"));
            let set = set.clone();
            self.actions.push(Action::Update { set, event });
        }
        resized
    }

    fn set_mut(&mut self, which: Which) -> Option<&mut ReplicaSet> {
        match which {
            Which::New => self.new.as_mut(),
            Which::Old(at) => self.old.get_mut(at),
        }
    }

    fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    fn roll(&mut self) {
        let existed = self.new.is_some();
        if !self.find_new_set(true) || !existed {
            // The new set's pods come with its creation: the next round sees them.
            return;
        }
        if !self.grow_new_set()
            && !self.shrink_old_sets()
            && status::is_complete(self.deployment, &self.status)
        {
            self.clean_up();
        }
    }

    fn grow_new_set(&mut self) -> bool {
        let want = wanted(self.deployment);
        let current = self.new.as_ref().map_or(0, replicas);
        if current == want {
            return false;
        }
        let to = if current > want { want } else { size::new_set_size(self.deployment, self.all(), current) };
        if to == current { false } else { self.scale_set(Which::New, to) }
    }

    /// First pods that serve nobody, then as many as the new ones allow.
    fn shrink_old_sets(&mut self) -> bool {
        if total(&self.old, replicas) == 0 {
            return false;
        }
        let least = wanted(self.deployment) - size::max_unavailable(self.deployment);
        let missing_new = self.new.as_ref().map_or(0, |s| replicas(s) - available(s));
        let may_go = total(self.all(), replicas) - least - missing_new;
        if may_go <= 0 {
            return false;
        }
        let mut gone = 0;
        for at in 0..self.old.len() {
            let (size, up) = (replicas(&self.old[at]), available(&self.old[at]));
            if gone >= may_go || size == 0 || size == up {
                continue;
            }
            let drop = (may_go - gone).min(size - up);
            self.scale_set(Which::Old(at), size - drop);
            gone += drop;
        }
        let spare = total(self.all(), available) - least;
        let mut moved = 0;
        for at in 0..self.old.len() {
            let size = replicas(&self.old[at]);
            if moved >= spare || size == 0 {
                continue;
            }
            let drop = size.min(spare - moved);
            self.scale_set(Which::Old(at), size - drop);
            moved += drop;
        }
        gone + moved > 0
    }

    /// All old pods end before the first new one starts.
    fn recreate(&mut self, old_pods_running: bool) {
        let existed = self.find_new_set(false);
        let mut scaled = false;
        for at in 0..self.old.len() {
            if replicas(&self.old[at]) > 0 {
                scaled |= self.scale_set(Which::Old(at), 0);
            }
        }
        let still_there = total(&self.old, |s| s.status.as_ref().map_or(0, |s| s.replicas)) > 0;
        if scaled || still_there || old_pods_running {
            return;
        }
        if !existed {
            self.find_new_set(true);
            return;
        }
        let want = wanted(self.deployment);
        if self.new.as_ref().map(replicas) != Some(want) {
            self.scale_set(Which::New, want);
        }
        if status::is_complete(self.deployment, &self.status) {
            self.clean_up();
        }
    }

    /// Spreads a changed size over the sets. Upstream: sync.go scale.
    fn rescale(&mut self) {
        let want = wanted(self.deployment);
        let active: Vec<Which> = self.active();
        let only = match active.as_slice() {
            [] if self.new.is_some() => Some(Which::New),
            [] if !self.old.is_empty() => Some(Which::Old(self.old.len() - 1)),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(which) = only {
            if self.set_mut(which).map(|s| replicas(s)) != Some(want) {
                self.scale_set(which, want);
            } else if self.was_rescaled() {
                // Only what is noted on the set is out of date.
                self.scale_set(which, want);
            }
            return;
        }
        if self.new.as_ref().is_some_and(|new| size::is_saturated(self.deployment, new)) {
            for at in 0..self.old.len() {
                if replicas(&self.old[at]) > 0 {
                    self.scale_set(Which::Old(at), 0);
                }
            }
        } else if size::is_rolling(self.deployment) {
            self.rescale_proportionally(active);
        }
    }

    fn active(&self) -> Vec<Which> {
        let old = (0..self.old.len()).filter(|at| replicas(&self.old[*at]) > 0).map(Which::Old);
        old.chain(self.new.as_ref().filter(|s| replicas(s) > 0).map(|_| Which::New)).collect()
    }

    fn rescale_proportionally(&mut self, mut active: Vec<Which>) {
        let want = wanted(self.deployment);
        let allowed = if want > 0 { want + size::max_surge(self.deployment) } else { 0 };
        let sum: i32 = active.iter().filter_map(|w| self.get(*w)).map(replicas).sum();
        let to_add = allowed - sum;
        // Larger sets first; of equals the newer ones when growing, the older ones when shrinking.
        let created = |draft: &Self, w: Which| {
            draft.get(w).and_then(|s| s.metadata.creation_timestamp.as_ref().map(|t| t.0))
        };
        active.sort_by(|a, b| {
            let by_size = self.get(*b).map(replicas).cmp(&self.get(*a).map(replicas));
            let by_age = created(self, *a).cmp(&created(self, *b));
            by_size.then(if to_add > 0 { by_age.reverse() } else { by_age })
        });
        let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
        let mut added = 0;
        for which in &active {
            let Some(set) = self.get(*which) else { continue };
            let part = size::proportion(set, self.deployment, to_add, added);
            sizes.push(replicas(set) + part);
            added += part;
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (which, to) in active.into_iter().zip(sizes) {
            self.scale_set(which, to);
        }
    }

    fn get(&self, which: Which) -> Option<&ReplicaSet> {
        match which {
            Which::New => self.new.as_ref(),
            Which::Old(at) => self.old.get(at),
        }
    }

    /// Removes the oldest of the empty sets beyond the limit.
    fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.revision_history_limit else {
            return;
        };
        if limit == i32::MAX {
            return;
        }
        let mut alive: Vec<&ReplicaSet> =
            self.old.iter().filter(|s| s.metadata.deletion_timestamp.is_none()).collect();
        let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        alive.sort_by_key(|s| {
            (
                revision::of(s.metadata.annotations.as_ref()),
                s.metadata.creation_timestamp.as_ref().map(|t| t.0),
            )
        });
        let settled = |s: &&ReplicaSet| {
            let status = s.status.clone().unwrap_or_default();
            status.replicas == 0 && replicas(s) == 0 && status.observed_generation >= s.metadata.generation
        };
        let names: Vec<String> =
            alive.into_iter().take(surplus).filter(settled).filter_map(|s| s.metadata.name.clone()).collect();
        self.actions.extend(names.into_iter().map(Action::Delete));
    }
}

/// One of a draft's sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    New,
    Old(usize),
}

fn template(deployment: &Deployment) -> PodTemplateSpec {
    deployment.spec.template.clone()
}

/// Deployment's name, dash, hash; the name is cut where it would be too long.
fn set_name(deployment: &str, hash: &str) -> String {
    let room = 253 - 1 - hash.len();
    let name: String = deployment.chars().take(room).collect();
    format!("{name}-{hash}")
}
