//! All of a gang or none of it: holds pods back until the gang is complete enough, and says whether the pods that a
//! group's attempt has placed so far are enough. Upstream: plugins/gangscheduling.
//!
//! Upstream's Permit has pods of a gang wait for one another before they are bound. Here a group's attempt places all
//! of them at once, so that whenever one is to be bound the others are placed, too: nothing ever waits there.

use client::Meta;

use crate::framework::{Change, Feasibility, GroupView, Plugin, Progress, Reject, Verdict};
use crate::listers::Listers;
use crate::model::groups::gang;
use crate::model::{GroupObject, Groups, PodInfo};

pub const NAME: &str = "GangScheduling";

pub struct GangScheduling;

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["UnscheduledPodAdd", "AssignedPodAdd", "PodGroupAdd", "PodGroupUpdate", "CompositePodGroupAdd"]
    }

    fn pre_enqueue(&self, _listers: &Listers, groups: &Groups, pod: &PodInfo) -> Verdict {
        let Some(key) = &pod.group else { return Ok(()) };
        let forest = groups.forest();
        if forest.get(key).is_none() {
            let name = key.split_once('/').map_or(&**key, |(_, name)| name);
            let reason = format!("waiting for pods's pod group {name:?} to appear in scheduling queue");
            return Err(Reject::unresolvable(NAME, reason));
        }
        let Some(tree) = forest.root_of(key).and_then(|root| forest.tree(&root)) else {
            return Err(Reject::unresolvable(NAME, "waiting for all groups that the pod group belongs to"));
        };
        if groups.ready(&tree) {
            return Ok(());
        }
        let reason = match &tree.object {
            GroupObject::Pods(_) => {
                "waiting for minCount pods from a gang to appear in scheduling queue".into()
            }
            GroupObject::Groups(group) => {
                format!("waiting for composite pod group {:?} tree to meet quorum", group.name())
            }
        };
        Err(Reject::unresolvable(NAME, reason))
    }

    fn placement_feasible(&self, group: &GroupView, progress: Progress) -> Feasibility {
        let Progress { scheduled, remaining } = progress;
        let fewest = group.fewest;
        if scheduled + remaining < fewest {
            return Feasibility::No(format!(
                "minCount ({fewest}) cannot be satisfied: {scheduled} scheduled, {remaining} remaining"
            ));
        }
        if scheduled < fewest {
            return Feasibility::NotYet(format!(
                "minCount ({fewest}) is not yet satisfied: {scheduled} scheduled, {remaining} remaining"
            ));
        }
        Feasibility::Yes
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, groups: &Groups) -> bool {
        let Some(key) = &pod.group else { return false };
        let related = |other: &str| groups.forest().related(key, other);
        match change {
            Change::PodWaiting(new) | Change::PodAssigned(new) => new.group.as_deref().is_some_and(related),
            Change::PodGroup { key: changed, old: None, .. } => related(changed),
            Change::PodGroup { key: changed, old: Some(old), new } => {
                let fewer = gang(&old.spec).zip(gang(&new.spec)).is_some_and(|(old, new)| new < old);
                related(changed) && fewer
            }
            Change::CompositePodGroup { key: changed, new: true } => related(changed),
            _ => false,
        }
    }
}
