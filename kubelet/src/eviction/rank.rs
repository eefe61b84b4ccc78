//! Which pod goes first.
//!
//! Upstream: rankMemoryPressure, rankPIDPressure and rankDiskPressureFunc in pkg/kubelet/eviction/helpers.go, v1.37.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;

use super::Signal;
use crate::pod::resources::{Amounts, Quantities, has_pod_level, is_pod_level_resource, without_overhead};
use crate::pod::view::PodView;

/// A pod that could be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The pod's id.
    pub uid: String,
    /// Its priority.
    pub priority: i32,
    /// What it uses of the resource; absent if that is not known.
    pub usage: Option<i64>,
    /// What it asked for.
    pub request: i64,
    /// What is taken off its usage when pods of the same priority are compared.
    pub offset: i64,
}

impl Candidate {
    /// A pod that uses so much of what the signal is about.
    pub fn new(pod: &Pod, usage: Option<i64>, signal: Signal) -> Self {
        let storage = request(pod, "ephemeral-storage");
        let (request, offset) = match signal {
            Signal::Memory | Signal::AllocatableMemory => {
                let memory = request(pod, "memory");
                (memory, memory)
            }
            Signal::NodeSpace | Signal::ImageSpace => (storage, storage),
            // Nobody asks for inodes; upstream's `disk` takes bytes off them, so that who asked for storage goes last.
            Signal::NodeInodes | Signal::ImageInodes => (0, storage),
            Signal::Pids => (0, 0),
        };
        Self { uid: pod.uid().to_owned(), priority: pod.spec().priority.unwrap_or(0), usage, request, offset }
    }
}

/// What a pod asked for: as a whole if it asks as a whole for anything, else its containers. Overhead only adds to that.
/// Upstream: GetResourceRequestQuantity in pkg/api/v1/resource/helpers.go.
fn request(pod: &Pod, name: &str) -> i64 {
    let of = |list: Option<&Quantities>| Amounts::of(list).whole(name);
    let own = match &pod.spec().resources {
        Some(resources) if has_pod_level(pod) => {
            if is_pod_level_resource(name) {
                of(resources.requests.as_ref())
            } else {
                0
            }
        }
        _ => without_overhead(pod, false).whole(name),
    };
    if own == 0 { 0 } else { own.saturating_add(of(pod.spec().overhead.as_ref())) }
}

/// Orders candidates, the first to go first: those of which nothing is known, those above their request, those of lower
/// priority, those that use most beyond what they asked for. For process ids the priority alone comes first.
pub fn rank(candidates: &mut [Candidate], signal: Signal) {
    candidates.sort_by_cached_key(|c| {
        let known = c.usage.is_some();
        let within = c.usage.is_some_and(|usage| usage <= c.request);
        let excess = c.usage.map(|usage| Reverse(usage.saturating_sub(c.offset)));
        let first = if signal == Signal::Pids { (false, false) } else { (known, within) };
        (first, c.priority, known, excess, c.uid.clone())
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Pods as name/priority/usage, each with a request of ten bytes.
    fn order(pods: &str, signal: Signal) -> String {
        let one = |word: &str| {
            let fields: Vec<&str> = word.split('/').collect();
            let [name, priority, usage] = fields[..] else { panic!("{word}") };
            let resources = json!({"requests": {"memory": "10", "ephemeral-storage": "10"}});
            let pod = serde_json::from_value(json!({
                "metadata": {"uid": name},
                "spec": {"priority": priority.parse::<i32>().unwrap(), "containers": [{"name": "c", "resources": resources}]},
            }));
            Candidate::new(&pod.unwrap(), usage.parse().ok(), signal)
        };
        let mut all: Vec<Candidate> = pods.split(' ').map(one).collect();
        rank(&mut all, signal);
        all.into_iter().map(|c| c.uid).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn by_request_priority_and_excess() {
        let pods = "within/0/5 high/9/90 small/0/11 large/0/20 unknown/9/?";
        assert_eq!(order(pods, Signal::Memory), "unknown large small high within");
        assert_eq!(order(pods, Signal::ImageSpace), "unknown large small high within");
        assert_eq!(order("none/0/0 few/0/3 many/0/5 high/9/90", Signal::NodeInodes), "many few high none");
        assert_eq!(order(pods, Signal::Pids), "large small within unknown high");
    }
}
