//! A cycle with extenders: filters, then the extenders' filters, then scores, then the extenders' scores. The lock is
//! not held while an extender is asked, but no other pod is taken meanwhile, as upstream.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::cycle::{self, Decision, Explored};
use crate::extender::{Extender, Filtered, Left};
use crate::framework::{Diagnosis, Profile, Reject};
use crate::group::Ground;
use crate::model::PodInfo;
use crate::plugins::dynamic_resources::Freeable;
use crate::preemption::{self, Candidate, Preemption};
use crate::queue::Popped;
use crate::scheduler::{Outcome, Scheduler};

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
        let (scene, memory, _) = state.scene(&scheduler.listers);
        match cycle::explore(&running.profile, scene, pod, memory) {
            Ok(explored) => explored,
            Err(decision) => return scheduler.apply(&mut state, running, popped, decision, now),
        }
    };
    let extra = ask(scheduler, pod, &mut explored).await;
    let (mut diagnosis, candidates, free) = match settle(scheduler, popped, explored, extra, now) {
        Settled::Done(outcome) => return outcome,
        Settled::Ask(diagnosis, candidates, free) => (diagnosis, candidates, free),
    };
    let preemption = ask_for_victims(scheduler, pod, candidates).await.unwrap_or_else(Preemption::Broken);
    diagnosis.post_filter = cycle::afterwards(free.first.as_ref(), &preemption);
    let mut state = scheduler.state.lock();
    match scheduler.checked(&mut state, popped) {
        Ok(running) => {
            let decision = Decision::Unfit { diagnosis, preemption, free };
            scheduler.apply(&mut state, running, popped, decision, now)
        }
        Err(outcome) => outcome,
    }
}

/// How far an attempt has come.
enum Settled {
    Done(Outcome),
    /// Extenders choose among the candidates for preemption.
    Ask(Diagnosis, Vec<Candidate>, Box<Freeable>),
}

/// What is decided once extenders have said which nodes do.
fn settle(
    scheduler: &Scheduler,
    popped: &Popped,
    explored: Explored,
    extra: Result<BTreeMap<String, i64>, String>,
    now: Instant,
) -> Settled {
    let pod = &popped.info;
    let mut state = scheduler.state.lock();
    let running = match scheduler.checked(&mut state, popped) {
        Ok(running) => running,
        Err(outcome) => return Settled::Done(outcome),
    };
    let decision = match extra {
        Ok(extra) => {
            let asked = scheduler.extenders.iter().any(|e| e.preempts() && e.interested(pod));
            let (scene, _, rng) = state.scene(&scheduler.listers);
            cycle::settle(&running.profile, scene, pod, explored, &extra, asked, rng)
        }
        Err(message) => Decision::Failed { plugin: NAME, message },
    };
    match decision {
        Decision::Unfit { diagnosis, preemption: Preemption::Ask(candidates), free } => {
            Settled::Ask(diagnosis, candidates, free)
        }
        decision => Settled::Done(scheduler.apply(&mut state, running, popped, decision, now)),
    }
}

/// Has extenders choose among the nodes where pods could make room. The error is upstream's text.
/// Upstream: framework/preemption/preemption.go callExtenders.
async fn ask_for_victims(
    scheduler: &Scheduler,
    pod: &Arc<PodInfo>,
    mut candidates: Vec<Candidate>,
) -> Result<Preemption, String> {
    let api = scheduler.client.namespaced::<Pod>(&pod.namespace);
    let own = api.get(&pod.name).await.map_err(|e| e.to_string())?;
    let mut full = BTreeMap::new();
    for extender in scheduler.extenders.iter().filter(|e| e.preempts() && e.interested(pod)) {
        if extender.wants_nodes() {
            for victim in candidates.iter().flat_map(|c| &c.victims) {
                if !full.contains_key(&*victim.uid) {
                    let api = scheduler.client.namespaced::<Pod>(&victim.namespace);
                    let victim_pod = api.get(&victim.name).await.map_err(|e| e.to_string())?;
                    full.insert(victim.uid.to_string(), victim_pod);
                }
            }
        }
        let answer = extender.preempt(&own, &candidates, &full).await;
        match answer.and_then(|left| understood(scheduler, extender, left)) {
            Ok(left) => candidates = left,
            Err(error) if extender.ignorable() => {
                tracing::info!(
                    err = error,
                    "Skipped extender as it returned error and has ignorable flag set"
                );
            }
            Err(error) => return Err(error),
        }
        if candidates.is_empty() {
            break;
        }
    }
    Ok(preemption::choose(candidates))
}

/// An extender's answer as candidates. Upstream: convertToVictims.
fn understood(scheduler: &Scheduler, extender: &Extender, left: Vec<Left>) -> Result<Vec<Candidate>, String> {
    let state = scheduler.state.lock();
    let mut candidates = Vec::new();
    for Left { node, uids, violations } in left {
        if uids.is_empty() {
            if extender.ignorable() {
                continue;
            }
            return Err(format!("expected at least one victim pod on node {node:?}"));
        }
        let row = state.cache.row(&node);
        let row = row.ok_or_else(|| format!("nodeinfo not found for node name {node:?}"))?;
        let find = |uid: &String| {
            row.pods.iter().find(|p| *p.uid == **uid).cloned().ok_or_else(|| {
                format!(
                    "extender: {} claims to preempt pod (UID: &{{{uid}}}) on node: {node}, but the pod is not found on that node",
                    extender.url()
                )
            })
        };
        let victims = uids.iter().map(find).collect::<Result<_, _>>()?;
        candidates.push(Candidate { node, victims, violations });
    }
    Ok(candidates)
}

/// Finds a node for a pod of a group. Preemption is the group's to do.
pub async fn place(
    scheduler: &Scheduler,
    ground: &mut impl Ground,
    profile: &Profile,
    pod: &Arc<PodInfo>,
) -> Decision {
    let found = ground.with(|state, listers| {
        let (scene, memory, rng) = state.scene(listers);
        match scheduler.extenders.iter().any(|e| e.interested(pod)) {
            true => cycle::explore(profile, scene, pod, memory),
            false => Err(cycle::schedule(profile, scene, pod, memory, rng)),
        }
    });
    let mut explored = match found {
        Ok(explored) => explored,
        Err(decision) => return decision,
    };
    match ask(scheduler, pod, &mut explored).await {
        Ok(extra) => ground.with(|state, listers| {
            let (scene, _, rng) = state.scene(listers);
            cycle::settle(profile, scene, pod, explored, &extra, false, rng)
        }),
        Err(message) => Decision::Failed { plugin: NAME, message },
    }
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
