//! TTL: annotates each node with the seconds for which its kubelet may keep Secrets and ConfigMaps: the more nodes
//! there are, the longer. Upstream: pkg/controller/ttl/ttl_controller.go.

use std::sync::Arc;

use client::{Client, Patch, PatchParams};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options, Store};
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;

use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// From how many nodes a step is left downwards, up to how many it holds, and its seconds. The steps overlap, so that
/// a cluster whose size swings does not have all its nodes rewritten again and again.
const STEPS: &[(usize, usize, u32)] =
    &[(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The step after `step` in a cluster of this size.
fn next(mut step: usize, nodes: usize) -> usize {
    while step + 1 < STEPS.len() && nodes > STEPS[step].1 {
        step += 1;
    }
    while step > 0 && nodes < STEPS[step].0 {
        step -= 1;
    }
    step
}

fn is_annotated(node: &Node, seconds: u32) -> bool {
    let value = node.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION));
    value.is_some_and(|v| v.parse() == Ok(seconds))
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let nodes = context.factory.informer::<Node>(Options::default());
    let queue: WorkQueue<String> = WorkQueue::new("ttlcontroller");
    let step = Arc::new(Mutex::new(0));
    let (to, current, store) = (queue.clone(), step.clone(), nodes.store());
    nodes.subscribe(move |event| {
        let changed = {
            let mut step = current.lock();
            let new = next(*step, store.len());
            std::mem::replace(&mut *step, new) != new
        };
        if changed {
            store.keys().iter().for_each(|k| to.add(k.to_string()));
        } else if !matches!(event, Event::Deleted(_)) {
            to.add(key(&**event.object()));
        }
    });
    let (client, store, token) = (context.client(), nodes.store(), context.token.clone());
    Ok(Box::pin(async move {
        if !nodes.wait_synced(&token).await {
            return;
        }
        queue
            .run(5, &token, move |name: String| {
                let (client, store, seconds) = (client.clone(), store.clone(), STEPS[*step.lock()].2);
                async move { annotate(&client, &store, &name, seconds).await.map(|()| None) }
            })
            .await;
    }))
}

async fn annotate(client: &Client, nodes: &Store<Node>, name: &str, seconds: u32) -> Result<(), String> {
    if nodes.get(name).is_none_or(|n| is_annotated(&n, seconds)) {
        return Ok(());
    }
    let patch = Patch::Strategic(json!({"metadata": {"annotations": {ANNOTATION: seconds.to_string()}}}));
    match client.all::<Node>().patch(name, &patch, &PatchParams::default()).await {
        Err(error) if !error.is_not_found() => Err(format!("annotating node {name}: {error}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("ttl/testdata", |given| {
            let (mut step, mut out) = (0, String::new());
            for nodes in given.setting::<Vec<usize>>("sizes").expect("sizes") {
                step = next(step, nodes);
                out.push_str(&format!("{nodes} nodes: {} s\n", STEPS[step].2));
            }
            for node in given.all::<Node>() {
                let what = if is_annotated(&node, STEPS[step].2) { "is annotated" } else { "annotate" };
                out.push_str(&format!("{} {what}\n", key(&node)));
            }
            out
        });
    }

    fn check(seconds_before: u32, nodes: usize, expected: u32) {
        let step = STEPS.iter().position(|s| s.2 == seconds_before).expect("a step");
        assert_eq!(STEPS[next(step, nodes)].2, expected, "{seconds_before} s, {nodes} nodes");
    }

    #[test]
    fn more_nodes_keep_secrets_longer() {
        check(0, 1, 0);
        check(0, 100, 0);
        check(0, 101, 15);
        check(0, 5000, 300);
        check(15, 95, 15);
        check(15, 89, 0);
        check(300, 0, 0);
    }

    #[test]
    fn an_annotation_counts_by_its_number() {
        let mut node = Node::default();
        assert!(!is_annotated(&node, 0));
        node.metadata.annotations = Some([(ANNOTATION.to_string(), "15".to_string())].into());
        assert!(is_annotated(&node, 15));
        assert!(!is_annotated(&node, 0));
    }

    proptest! {
        /// One look at a size is enough, and what holds for it is within its step.
        #[test]
        fn a_size_settles(step in 0..STEPS.len(), nodes in 0usize..20_000) {
            let settled = next(step, nodes);
            prop_assert_eq!(next(settled, nodes), settled);
            prop_assert!(nodes >= STEPS[settled].0 && nodes <= STEPS[settled].1);
        }

        /// A node that has the number of its cluster's size is left alone; one that has another is not.
        #[test]
        fn a_satisfied_view_needs_nothing(step in 0..STEPS.len(), other in 0..STEPS.len()) {
            let mut node = Node::default();
            node.metadata.annotations = Some([(ANNOTATION.to_string(), STEPS[step].2.to_string())].into());
            prop_assert_eq!(is_annotated(&node, STEPS[other].2), step == other);
        }
    }
}
