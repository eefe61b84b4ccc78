//! A cycle with extenders: filters, then the extenders' filters, then scores, then the extenders' scores. The lock is
//! not held while an extender is asked, but no other pod is taken meanwhile, as upstream.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::cycle::{self, Decision, Explored, Scene};
use crate::extender::{Extender, Filtered};
use crate::framework::{Nominated, Reject};
use crate::model::PodInfo;
use crate::queue::Popped;
use crate::scheduler::{Outcome, Scheduler, State};

/// In place of a plugin's name. Upstream: framework.ExtenderName.
const NAME: &str = "Extender";

/// Decides about a pod that extenders have a say about.
pub async fn decide(scheduler: &Scheduler, popped: &Popped, now: Instant) -> Outcome {
    let pod = &popped.info;
    let mut explored = {
        let mut state = scheduler.state.lock();
        let running = match scheduler.checked(&mut state, popped) {
            Ok(running) => running,
            Err(outcome) => return outcome,
        };
        let (scene, memory) = scene(scheduler, &mut state);
        match cycle::explore(&running.profile, scene, pod, memory) {
            Ok(explored) => explored,
            Err(decision) => return scheduler.apply(&mut state, running, popped, decision, now),
        }
    };
    let decision = match ask(scheduler, pod, &mut explored).await {
        Ok(extra) => Ok(extra),
        Err(message) => Err(Decision::Failed { plugin: NAME, message }),
    };
    let mut state = scheduler.state.lock();
    let running = match scheduler.checked(&mut state, popped) {
        Ok(running) => running,
        Err(outcome) => return outcome,
    };
    let decision = decision.map_or_else(
        |failed| failed,
        |extra| {
            let State { cache, nominated, assumed, rng, .. } = &mut *state;
            let scene = Scene { cache, listers: &scheduler.listers, nominated, assumed };
            cycle::settle(&running.profile, scene, pod, explored, &extra, rng)
        },
    );
    scheduler.apply(&mut state, running, popped, decision, now)
}

fn scene<'a>(scheduler: &'a Scheduler, state: &'a mut State) -> (Scene<'a>, &'a mut cycle::Memory) {
    let State { cache, nominated, assumed, memory, .. } = state;
    let nominated: &Nominated = nominated;
    (Scene { cache, listers: &scheduler.listers, nominated, assumed }, memory)
}

/// Asks the extenders: some nodes go, the others get scores.
async fn ask(
    scheduler: &Scheduler,
    pod: &Arc<PodInfo>,
    explored: &mut Explored,
) -> Result<BTreeMap<String, i64>, String> {
    let api = scheduler.client.namespaced::<Pod>(&pod.namespace);
    let full = api.get(&pod.name).await.map_err(|e| e.to_string())?;
    let interested = || scheduler.extenders.iter().filter(|e| e.interested(pod));
    for extender in interested() {
        if explored.nodes.is_empty() {
            break;
        }
        match extender.filter(&full, explored.nodes.clone(), &scheduler.full_nodes).await {
            Ok(filtered) => leave(explored, filtered),
            Err(error) if extender.ignorable() => {
                tracing::info!(
                    err = error,
                    "Skipping extender as it returned error and has ignorable flag set"
                );
            }
            Err(error) => return Err(error),
        }
    }
    let mut extra = BTreeMap::new();
    if explored.nodes.len() > 1 {
        for extender in interested() {
            add(&mut extra, extender, &full, explored, scheduler).await;
        }
    }
    Ok(extra)
}

fn leave(explored: &mut Explored, filtered: Filtered) {
    let Filtered { nodes, mut failed, unresolvable } = filtered;
    if nodes.len() != explored.nodes.len() {
        explored.diagnosis.plugins.insert(NAME);
    }
    for (node, reason) in unresolvable {
        failed.remove(&node);
        explored.refused.push((node, Reject::unresolvable(NAME, reason)));
    }
    let more = failed.into_iter().map(|(node, reason)| (node, Reject::unschedulable(NAME, reason)));
    explored.refused.extend(more);
    explored.nodes = nodes;
}

async fn add(
    extra: &mut BTreeMap<String, i64>,
    extender: &Extender,
    pod: &Pod,
    explored: &Explored,
    scheduler: &Scheduler,
) {
    match extender.prioritize(pod, &explored.nodes, &scheduler.full_nodes).await {
        Ok(scores) => scores.into_iter().for_each(|(node, score)| *extra.entry(node).or_default() += score),
        // Upstream lets the others decide.
        Err(error) => tracing::debug!(err = error, "Failed to run extender's priority function"),
    }
}

/// The extender that binds a pod, if one does.
pub fn binder<'a>(scheduler: &'a Scheduler, pod: &PodInfo) -> Option<&'a Extender> {
    scheduler.extenders.iter().find(|e| e.binds() && e.interested(pod))
}
