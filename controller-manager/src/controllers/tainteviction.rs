//! Taint eviction: deletes pods that do not tolerate the NoExecute taints of their node, at once or in time.
//!
//! Start reading at [`verdict`]. Upstream: pkg/controller/tainteviction/taint_eviction.go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta};
use component::app::Error;
use controller::{EventRecorder, NORMAL, WorkQueue};
use informer::{Event, Name, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod as WholePod, PodCondition, Taint, Toleration};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::nodelifecycle::{BY_NODE, taints::NO_EXECUTE};
use super::shared::{fail_pod, key, node_fit::tolerates};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const WORKERS: usize = 8;

/// How long a pod may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stays,
    /// This long from when the taints were met.
    For(Duration),
    Goes,
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|t| t.effect == NO_EXECUTE)
}

fn is_tainted(node: &Node) -> bool {
    taints(node).next().is_some()
}

fn no_execute(node: &Node) -> Vec<Taint> {
    taints(node).cloned().collect()
}

/// Judges a pod by the NoExecute taints of its node. Each taint counts by the first toleration that covers it; the
/// shortest time of these counts.
fn verdict(taints: &[Taint], tolerations: &[Toleration]) -> Verdict {
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|t| tolerates(t, taint)) else {
            return Verdict::Goes;
        };
        if let Some(seconds) = toleration.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
        }
    }
    match shortest.map(u64::try_from) {
        None => Verdict::Stays,
        Some(Ok(seconds)) if seconds > 0 => Verdict::For(Duration::from_secs(seconds)),
        Some(_) => Verdict::Goes,
    }
}

struct Shell {
    client: Client,
    nodes: Store<Node>,
    pods: Store<Pod>,
    recorder: EventRecorder,
    /// Since when pods are tolerated for a time.
    since: Mutex<HashMap<String, Instant>>,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let nodes = context.factory.informer::<Node>(Options::default());
    let all_pods = context.factory.informer::<Pod>(Options::default().index(BY_NODE, pods::node_index));
    let shell = Arc::new(Shell {
        client: context.client(),
        nodes: nodes.store(),
        pods: all_pods.store(),
        recorder: context.recorder("taint-eviction-controller"),
        since: Mutex::default(),
    });
    let queue: WorkQueue<String> = WorkQueue::new("noexec_taint_pod");
    let (to, pods_of) = (queue.clone(), all_pods.store());
    nodes.subscribe(move |event| {
        let (old, new) = match &event {
            Event::Added(node) => (Vec::new(), no_execute(node)),
            Event::Updated { old, new } => (no_execute(old), no_execute(new)),
            Event::Deleted(_) => return,
        };
        if old != new {
            pods_of.index_keys(BY_NODE, event.object().name()).iter().for_each(|k| to.add(k.to_string()));
        }
    });
    let (to, of) = (queue.clone(), shell.clone());
    all_pods.subscribe(move |event| {
        fn settings(pod: &Pod) -> Option<(Option<&Name>, Option<&Vec<Toleration>>)> {
            pod.spec.as_ref().map(|s| (s.node_name.as_ref(), s.tolerations.as_ref()))
        }
        if let Event::Updated { old, new } = &event
            && settings(old) == settings(new)
        {
            return;
        }
        if of.concerns(event.object()) {
            to.add(key(&**event.object()));
        }
    });
    let token = context.token.clone();
    Ok(Box::pin(async move {
        if !(nodes.wait_synced(&token).await && all_pods.wait_synced(&token).await) {
            return;
        }
        queue
            .run(WORKERS, &token, move |pod: String| {
                let shell = shell.clone();
                async move { shell.sync(&pod).await }
            })
            .await;
    }))
}

impl Shell {
    /// A pod on a node without taints may stay, and nothing has to be taken back. If its node is tainted later, or is seen
    /// later than the pod, the node's event brings the pod up.
    fn concerns(&self, pod: &Pod) -> bool {
        let tainted = self.nodes.get(pods::node_name(pod)).is_some_and(|node| is_tainted(&node));
        let since = self.since.lock();
        tainted || (!since.is_empty() && since.contains_key(&key(pod)))
    }

    async fn sync(&self, pod_key: &str) -> Result<Option<Duration>, String> {
        let pod = self.pods.get(pod_key);
        let node = pod.as_ref().and_then(|p| self.nodes.get(pods::node_name(p)));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.forgive(pod_key);
            return Ok(None);
        };
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        match verdict(&no_execute(&node), tolerations) {
            Verdict::Stays => {
                self.forgive(pod_key);
                Ok(None)
            }
            Verdict::For(time) => {
                let since = *self.since.lock().entry(pod_key.to_string()).or_insert_with(Instant::now);
                let left = time.saturating_sub(since.elapsed());
                if left.is_zero() { self.evict(&pod).await.map(|()| None) } else { Ok(Some(left)) }
            }
            Verdict::Goes => self.evict(&pod).await.map(|()| None),
        }
    }

    /// The pod may stay after all.
    fn forgive(&self, pod_key: &str) {
        if self.since.lock().remove(pod_key).is_some() {
            self.tell(pod_key, "Cancelling deletion of Pod");
        }
    }

    fn tell(&self, pod_key: &str, what: &str) {
        let (namespace, name) = client::split_key(pod_key);
        let object = ObjectReference {
            api_version: Some("v1".to_string()),
            kind: Some("Pod".to_string()),
            namespace: Some(namespace.to_string()),
            name: Some(name.to_string()),
            ..ObjectReference::default()
        };
        self.recorder.event(&object, NORMAL, "TaintManagerEviction", &format!("{what} {pod_key}"));
    }

    async fn evict(&self, known: &Pod) -> Result<(), String> {
        let pod_key = key(known);
        if known.metadata.deletion_timestamp.is_some() {
            self.since.lock().remove(&pod_key);
            return Ok(());
        }
        self.tell(&pod_key, "Marking for deletion Pod");
        let api = self.client.namespaced::<WholePod>(known.namespace());
        let evict = async {
            let Some(mut pod) = api.get_opt(known.name()).await? else { return Ok(()) };
            if pod.uid() != known.uid() {
                return Ok(());
            }
            let condition = PodCondition {
                type_: "DisruptionTarget".to_string(),
                status: "True".to_string(),
                reason: Some("DeletionByTaintManager".to_string()),
                message: Some("Taint manager: deleting due to NoExecute taint".to_string()),
                ..PodCondition::default()
            };
            if pods::set_condition(&mut pod, condition, Timestamp::now()) {
                fail_pod::patch_status(&api, &pod).await?;
            }
            api.delete(known.name(), &DeleteParams::with_uid(known.uid())).await
        };
        match evict.await {
            Err(error) if !error.is_not_found() => Err(format!("evicting pod {pod_key}: {error}")),
            _ => {
                self.since.lock().remove(&pod_key);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("tainteviction/testdata", |given| {
            let taints = no_execute(&given.one::<Node>());
            let line = |pod: &Pod| {
                let tolerations =
                    pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
                let what = match verdict(&taints, tolerations) {
                    Verdict::Stays => "stays".to_string(),
                    Verdict::Goes => "goes".to_string(),
                    Verdict::For(time) => format!("stays for {time:?}"),
                };
                format!("{} {what}\n", pod.name())
            };
            given.all::<Pod>().iter().map(line).collect()
        });
    }

    /// `"key=value"`.
    fn taints(all: &[&str]) -> Vec<Taint> {
        let taint = |text: &&str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            serde_json::from_value(json!({"key": key, "value": value, "effect": "NoExecute"}))
                .expect("a taint")
        };
        all.iter().map(taint).collect()
    }

    /// `"key=value for=10"`; without value: Exists; `"*"`: everything.
    fn tolerations(all: &[&str]) -> Vec<Toleration> {
        let toleration = |text: &&str| {
            let (what, time) =
                text.split_once(" for=").map_or((*text, None), |(w, t)| (w, t.parse::<i64>().ok()));
            let mut value = match what.split_once('=') {
                Some((key, value)) => json!({"key": key, "value": value}),
                None if what == "*" => json!({"operator": "Exists"}),
                None => json!({"key": what, "operator": "Exists"}),
            };
            value["tolerationSeconds"] = json!(time);
            serde_json::from_value(value).expect("a toleration")
        };
        all.iter().map(toleration).collect()
    }

    fn check(node: &[&str], pod: &[&str], expected: Verdict) {
        assert_eq!(verdict(&taints(node), &tolerations(pod)), expected, "{node:?} {pod:?}");
    }

    #[tokio::test]
    async fn pods_are_queued_only_if_taints_may_matter() {
        let node = |name: &str, taints: serde_json::Value| -> Node {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}}))
                .expect("a node")
        };
        let effect = |effect: &str| json!([{"key": "k", "effect": effect}]);
        let nodes = [
            node("clean", json!([])),
            node("other", effect("NoSchedule")),
            node("tainted", effect("NoExecute")),
        ];
        let server = testing::fake_api::FakeApi::new();
        let token = tokio_util::sync::CancellationToken::new();
        let context = crate::controllers::storm::context(&server, &token);
        let shell = Shell {
            client: context.client(),
            nodes: nodes.into_iter().collect(),
            pods: std::iter::empty().collect(),
            recorder: context.recorder("test"),
            since: Mutex::new([("n/waits".to_string(), Instant::now())].into()),
        };
        for (name, node, want) in [
            ("a", "clean", false),
            ("a", "other", false),
            ("a", "tainted", true),
            ("a", "unseen", false),
            ("a", "", false),
            ("waits", "clean", true),
        ] {
            let pod = json!({"metadata": {"namespace": "n", "name": name}, "spec": {"nodeName": node, "containers": []}});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(shell.concerns(&pod), want, "{name} on {node:?}");
        }
    }

    #[test]
    fn pods_go_stay_or_stay_for_a_time() {
        let seconds = |s| Verdict::For(Duration::from_secs(s));
        check(&[], &[], Verdict::Stays);
        check(&["a"], &[], Verdict::Goes);
        check(&["a"], &["b"], Verdict::Goes);
        check(&["a", "b"], &["a"], Verdict::Goes);
        check(&["a", "b"], &["*"], Verdict::Stays);
        check(&["a=1"], &["a=1"], Verdict::Stays);
        check(&["a=1"], &["a=2"], Verdict::Goes);
        check(&["a"], &["a for=300"], seconds(300));
        check(&["a", "b"], &["a for=300", "b for=30"], seconds(30));
        check(&["a", "b"], &["a", "b for=30"], seconds(30));
        check(&["a"], &["a for=0"], Verdict::Goes);
        check(&["a"], &["a for=-1"], Verdict::Goes);
        check(&["a"], &["b for=1", "*"], Verdict::Stays);
    }

    proptest! {
        /// A pod that tolerates everything stays whatever comes; on a node without taints every pod does.
        #[test]
        fn satisfied_pods_stay(keys in prop::collection::vec("[ab]", 0..4)) {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            prop_assert_eq!(verdict(&taints(&keys), &tolerations(&["*"])), Verdict::Stays);
            prop_assert_eq!(verdict(&[], &tolerations(&keys)), Verdict::Stays);
        }

        /// When all times are over and who has to go has gone, those are left that tolerate every taint for ever.
        #[test]
        fn plan_then_apply_settles(
            keys in prop::collection::vec("[ab]", 0..4),
            pods in prop::collection::vec(prop::collection::vec("[ab]( for=[0-9])?|[*]", 0..4), 0..6),
        ) {
            let node = taints(&keys.iter().map(String::as_str).collect::<Vec<_>>());
            let own = |all: &Vec<String>| tolerations(&all.iter().map(String::as_str).collect::<Vec<_>>());
            let for_ever = |all: &Vec<String>| {
                keys.iter().all(|key| {
                    let covers = |t: &&String| *t == "*" || t.split(' ').next() == Some(key.as_str());
                    all.iter().find(covers).is_some_and(|t| !t.contains("for="))
                })
            };
            let left: Vec<_> = pods.iter().filter(|p| verdict(&node, &own(p)) == Verdict::Stays).collect();
            let expected: Vec<_> = pods.iter().filter(|p| for_ever(p)).collect();
            prop_assert_eq!(left, expected);
        }

        /// Dropping the taints that a pod does not tolerate for ever lets it stay.
        #[test]
        fn taking_taints_off_settles(keys in prop::collection::vec("[abc]", 0..4)) {
            let own = tolerations(&["a", "b for=5"]);
            let mut left = taints(&keys.iter().map(String::as_str).collect::<Vec<_>>());
            left.retain(|t| verdict(std::slice::from_ref(t), &own) == Verdict::Stays);
            prop_assert_eq!(verdict(&left, &own), Verdict::Stays);
        }
    }
}
