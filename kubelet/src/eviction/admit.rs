//! Which pods a node that is short of something still takes. Upstream: Admit in pkg/kubelet/eviction/eviction_manager.go.

use k8s_openapi::api::core::v1::{Pod, Taint};

use crate::admission::{Rejection, tolerates};
use crate::node::status::Pressure;
use crate::pod::qos::{QosClass, qos_class};
use crate::pod::view::PodView;

const MEMORY_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// Whether the node takes the pod.
///
/// # Errors
/// What the node is short of.
pub fn admit(pod: &Pod, pressure: Pressure) -> Result<(), Rejection> {
    let all =
        [("MemoryPressure", pressure.memory), ("DiskPressure", pressure.disk), ("PIDPressure", pressure.pid)];
    let conditions: Vec<&str> = all.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
    if conditions.is_empty() || pod.is_critical() {
        return Ok(());
    }
    // Who asked for memory gets it; evictions take those first who did not.
    let only_memory = conditions == ["MemoryPressure"];
    if only_memory && (qos_class(pod) != QosClass::BestEffort || is_tolerated(pod)) {
        return Ok(());
    }
    let message = format!("The node had condition: [{}]. ", conditions.join(" "));
    Err(Rejection { reason: "Evicted".to_owned(), message })
}

fn is_tolerated(pod: &Pod) -> bool {
    let taint = Taint { key: MEMORY_TAINT.into(), effect: "NoSchedule".into(), ..Taint::default() };
    tolerates(pod.spec().tolerations.as_deref().unwrap_or_default(), &taint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, memory: bool, disk: bool) -> Option<String> {
        let pod = serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": spec})).unwrap();
        let rejection = admit(&pod, Pressure { memory, disk, pid: false }).err()?;
        assert_eq!(rejection.reason, "Evicted");
        Some(rejection.message)
    }

    #[test]
    fn pods_that_ask_for_memory_get_it() {
        let best_effort = || json!({"containers": [{"name": "c"}]});
        let burstable = || json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
        let critical = || json!({"containers": [], "priority": 2_000_000_000});
        let memory = Some("The node had condition: [MemoryPressure]. ".to_owned());
        let both = Some("The node had condition: [MemoryPressure DiskPressure]. ".to_owned());
        assert_eq!(check(best_effort(), false, false), None);
        assert_eq!(check(best_effort(), true, false), memory);
        assert_eq!(check(burstable(), true, false), None);
        assert_eq!(check(burstable(), true, true), both);
        assert_eq!(check(critical(), true, true), None);
        let tolerant =
            |toleration: Value| check(json!({"containers": [], "tolerations": [toleration]}), true, false);
        assert_eq!(tolerant(json!({"operator": "Exists"})), None);
        assert_eq!(tolerant(json!({"key": MEMORY_TAINT, "effect": "NoSchedule"})), None);
        let others = [
            json!({"key": MEMORY_TAINT, "operator": "Exists", "effect": "NoExecute"}),
            json!({"key": MEMORY_TAINT, "value": "x"}),
            json!({"key": MEMORY_TAINT, "operator": "Gt", "value": "1"}),
            json!({"key": "node.kubernetes.io/disk-pressure", "operator": "Exists"}),
        ];
        others.into_iter().for_each(|other| assert_eq!(tolerant(other), memory));
    }
}
