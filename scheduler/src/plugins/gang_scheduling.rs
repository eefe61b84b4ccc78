//! All of a gang or none of it: holds pods back until the gang is complete enough, and says whether the pods that a
//! group's attempt has placed so far are enough. Upstream: plugins/gangscheduling.
//!
//! Upstream's Permit has pods of a gang wait for one another before they are bound. Here a group's attempt places all
//! of them at once, so that whenever one is to be bound the others are placed, too: nothing ever waits there.

use crate::framework::{Change, Feasibility, GroupView, Plugin, Progress, Reject, Verdict};
use crate::listers::Listers;
use crate::model::groups::gang;
use crate::model::{Groups, PodInfo};

pub const NAME: &str = "GangScheduling";

pub struct GangScheduling;

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["UnscheduledPodAdd", "AssignedPodAdd", "PodGroupAdd", "PodGroupUpdate"]
    }

    fn pre_enqueue(&self, _listers: &Listers, groups: &Groups, pod: &PodInfo) -> Verdict {
        let Some(key) = &pod.group else { return Ok(()) };
        let group = groups.get(key);
        let Some((group, object)) = group.and_then(|g| Some((g, g.object.as_ref()?))) else {
            let name = key.split_once('/').map_or(&**key, |(_, name)| name);
            let reason = format!("waiting for pods's pod group {name:?} to appear in scheduling queue");
            return Err(Reject::unresolvable(NAME, reason));
        };
        if gang(&object.spec).is_some_and(|fewest| group.pods.len() < fewest) {
            let reason = "waiting for minCount pods from a gang to appear in scheduling queue";
            return Err(Reject::unresolvable(NAME, reason));
        }
        Ok(())
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

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo) -> bool {
        let Some(key) = &pod.group else { return false };
        match change {
            Change::PodWaiting(new) | Change::PodAssigned(new) => new.group.as_ref() == Some(key),
            Change::PodGroup { key: changed, old: None, .. } => *changed == key,
            Change::PodGroup { key: changed, old: Some(old), new } => {
                let fewer = gang(&old.spec).zip(gang(&new.spec)).is_some_and(|(old, new)| new < old);
                *changed == key && fewer
            }
            _ => false,
        }
    }
}
