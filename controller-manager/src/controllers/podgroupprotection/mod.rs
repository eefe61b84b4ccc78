//! PodGroup protection: a group does not go while pods of it have not ended.
//!
//! Does not put the finalizer on: the admission plugin PodGroupProtection does.
//! Upstream: pkg/controller/scheduling/podgroupprotection/podgroup_protection_controller.go.

#[cfg(test)]
mod tests;

use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options};
use k8s_openapi::api::scheduling::v1beta1::PodGroup as Group;

use super::protection::{Plan, plan, write};
use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";
/// Pods that have not ended, by the keys of their groups.
const BY_GROUP: &str = "activePodSchedulingGroup";

/// Key of a pod's group.
fn group(pod: &Pod) -> Option<String> {
    let name = pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_ref()?;
    Some(format!("{}/{name}", pod.namespace()))
}

fn by_group(pod: &Pod) -> Vec<String> {
    group(pod).filter(|_| !pods::is_terminal(pod)).into_iter().collect()
}

/// Decides about a group. Pure.
fn plan_group(group: &Group, is_used: bool) -> Plan {
    match plan(&group.metadata, FINALIZER) {
        Plan::RemoveIfUnused if !is_used => Plan::RemoveIfUnused,
        _ => Plan::Nothing,
    }
}

/// The groups that may be free to go after a change of a pod. An update can hide that another pod took the name.
fn freed(event: &Event<Pod>) -> Vec<String> {
    let all = match event {
        Event::Added(pod) => [Some(pod).filter(|p| pods::is_terminal(p)), None],
        Event::Deleted(pod) => [Some(pod), None],
        Event::Updated { old, new } => {
            [Some(new).filter(|p| pods::is_terminal(p)), Some(old).filter(|p| p.uid() != new.uid())]
        }
    };
    all.into_iter().flatten().filter_map(|p| group(p)).collect()
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let groups = context.factory.informer::<Group>(Options::default());
    let all_pods = context.factory.informer::<Pod>(Options::default().index(BY_GROUP, by_group));
    let queue: WorkQueue<String> = WorkQueue::new("podgroupprotection");
    let to = queue.clone();
    groups.subscribe(move |event| {
        if let Event::Added(group) | Event::Updated { new: group, .. } = event
            && plan(&group.metadata, FINALIZER) == Plan::RemoveIfUnused
        {
            to.add(key(&*group));
        }
    });
    let to = queue.clone();
    all_pods.subscribe(move |event| freed(&event).into_iter().for_each(|group| to.add(group)));
    let (client, token) = (context.client(), context.token.clone());
    Ok(Box::pin(async move {
        if !(groups.wait_synced(&token).await && all_pods.wait_synced(&token).await) {
            return;
        }
        let (groups, all_pods) = (groups.store(), all_pods.store());
        queue
            .run(1, &token, move |of: String| {
                let group = groups.get(&of);
                let used = !all_pods.index_keys(BY_GROUP, &of).is_empty();
                let client = client.clone();
                async move {
                    let Some(group) = group else { return Ok(None) };
                    write(&client, &*group, FINALIZER, plan_group(&group, used)).await.map(|()| None)
                }
            })
            .await;
    }))
}
