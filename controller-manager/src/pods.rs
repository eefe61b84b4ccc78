//! Questions about pods that several controllers ask.
//! Upstream: pkg/api/v1/pod/util.go, pkg/controller/controller_utils.go, component-helpers.

use std::cmp::Ordering;
use std::time::Duration;

use client::Object;
use controller::{controller_of, controller_ref};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod as WholePod, PodCondition as WholeCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use crate::kept::{Pod, PodCondition, Second};

/// Index over pods by the node they are bound to.
pub const NODE_INDEX: &str = "spec.nodeName";
/// Index over pods by namespace and controller: see [`controller_key`].
pub const CONTROLLER_INDEX: &str = "podController";

/// `status.phase`, "" when unset.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("")
}

/// `spec.nodeName`, "" when unset.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or("")
}

/// The pod has ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Deletion has been asked for.
pub fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The pod counts for its controller: neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleted(pod)
}

/// The pod is being deleted and has not ended.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && is_deleted(pod)
}

/// A condition by type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// Condition `Ready` is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|c| c.status == "True")?.last_transition_time.map(Second::at)
}

/// Ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    min_ready_seconds <= 0
        || ready_since(pod).is_some_and(|since| elapsed(since, now) >= seconds(min_ready_seconds))
}

/// How long until a ready pod becomes available; `None` if it is, or is not ready.
/// Upstream: nextPodAvailabilityCheck.
pub fn until_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return None;
    }
    let since = ready_since(pod)?;
    seconds(min_ready_seconds).checked_sub(elapsed(since, now)).filter(|d| !d.is_zero())
}

fn seconds(n: i32) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// Sets a condition; says whether anything changed. The transition time moves only with the status.
/// Upstream: UpdatePodCondition.
pub fn set_condition(pod: &mut WholePod, mut new: WholeCondition, now: Timestamp) -> bool {
    let status = pod.status.get_or_insert_default();
    let all = status.conditions.get_or_insert_default();
    match all.iter_mut().find(|c| c.type_ == new.type_) {
        None => {
            new.last_transition_time = Some(Time(now));
            all.push(new);
            true
        }
        Some(old) => {
            new.last_transition_time =
                if old.status == new.status { old.last_transition_time.clone() } else { Some(Time(now)) };
            let changed = *old != new;
            *old = new;
            changed
        }
    }
}

/// Both references say the same. Those of two states of a pod are usually one part, which need not be compared.
pub fn is_same_owner(was: Option<&OwnerReference>, is: Option<&OwnerReference>) -> bool {
    was.map(std::ptr::from_ref) == is.map(std::ptr::from_ref) || was == is
}

/// Key of [`CONTROLLER_INDEX`]: namespace, kind, uid. Upstream: PodControllerIndexKey.
pub fn controller_key(namespace: &str, kind: &str, name: &str, uid: &str) -> String {
    [namespace, kind, name, uid].join("/")
}

/// Values of [`CONTROLLER_INDEX`]: the controller, or the namespace's orphans.
pub fn controller_index(pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    vec![match controller_of(&pod.metadata) {
        Some(o) => controller_key(namespace, &o.kind, &o.name, &o.uid),
        None => namespace.to_string(),
    }]
}

/// Values of [`NODE_INDEX`].
pub fn node_index(pod: &Pod) -> Vec<String> {
    match node_name(pod) {
        "" => Vec::new(),
        node => vec![node.to_string()],
    }
}

/// Prefix of generated pod names. Upstream: getPodsPrefix (drops the dash if the result were no valid name).
pub fn name_prefix(controller: &str) -> String {
    let prefix = format!("{controller}-");
    if prefix.len() > 253 { controller.to_string() } else { prefix }
}

/// A pod from a template, controlled by `owner`. Upstream: GetPodFromTemplate.
pub fn from_template<K: Object>(template: &PodTemplateSpec, owner: &K) -> WholePod {
    let meta = template.metadata.clone().unwrap_or_default();
    WholePod {
        metadata: ObjectMeta {
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            generate_name: Some(name_prefix(owner.name())),
            owner_references: Some(vec![controller_ref(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Largest restart count of regular containers and of sidecars. Upstream: maxContainerRestarts.
pub fn max_restarts(pod: &Pod) -> (i32, i32) {
    let status = pod.status.as_ref();
    let regular = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    let regular = regular.map(|c| c.restart_count).max().unwrap_or(0);
    let sidecars: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten())
        .filter(|c| c.restart_policy.as_deref() == Some("Always"))
        .map(|c| c.name.as_str())
        .collect();
    let init = status.and_then(|s| s.init_container_statuses.as_ref()).into_iter().flatten();
    let sidecar = init.filter(|c| sidecars.contains(&c.name.as_str())).map(|c| c.restart_count).max();
    (regular, sidecar.unwrap_or(0))
}

/// Which of two active pods is deleted first (`Less`): unassigned, pending, unready, cheap to delete, on a crowded node
/// (`rank`), recently ready, restarting often, young. Ages are compared in powers of two, so that scaling down does not
/// always hit the newest node. Upstream: ActivePodsWithRanks.Less.
pub fn deletion_order(a: (&Pod, usize), b: (&Pod, usize), now: Timestamp) -> Ordering {
    let ((a, rank_a), (b, rank_b)) = (a, b);
    let unassigned = |p: &Pod| !node_name(p).is_empty();
    let by_phase = |p: &Pod| match phase(p) {
        "Pending" => 0,
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    };
    unassigned(a)
        .cmp(&unassigned(b))
        .then_with(|| by_phase(a).cmp(&by_phase(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| {
            if is_ready(a) && is_ready(b) {
                younger_first(ready_since(a), ready_since(b), now)
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| {
            let ((ra, sa), (rb, sb)) = (max_restarts(a), max_restarts(b));
            rb.cmp(&ra).then(sb.cmp(&sa))
        })
        .then_with(|| {
            let created = |p: &Pod| p.metadata.creation_timestamp.map(Second::at);
            younger_first(created(a), created(b), now)
        })
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

/// Annotation `controller.kubernetes.io/pod-deletion-cost`, 0 if absent or malformed.
pub fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|a| a.get("controller.kubernetes.io/pod-deletion-cost"));
    let well_formed =
        |t: &&str| !t.starts_with('+') && (*t == "0" || !t.trim_start_matches('-').starts_with('0'));
    text.filter(well_formed).and_then(|t| t.parse().ok()).unwrap_or(0)
}

fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => log_age(a, now).cmp(&log_age(b, now)),
    }
}

/// Upstream: logarithmicRankDiff.
fn log_age(t: Timestamp, now: Timestamp) -> i64 {
    let age = now.duration_since(t).as_nanos();
    if age <= 0 { -1 } else { i64::from(age.ilog2()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(v: serde_json::Value) -> Pod {
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn availability() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let p = pod(json!({"status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:50Z"}]}}));
        for (min, want, until) in
            [(0, true, None), (10, true, None), (11, false, Some(1)), (30, false, Some(20))]
        {
            assert_eq!(is_available(&p, min, now), want, "{min}");
            assert_eq!(until_available(&p, min, now), until.map(Duration::from_secs), "{min}");
        }
    }

    #[test]
    fn deletion_prefers_the_cheap() {
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let ready = |since: &str| {
            json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": since}]})
        };
        let mut pods = [
            (
                "old",
                json!({"metadata": {"uid": "1"}, "spec": {"nodeName": "n", "containers": []},
                "status": ready("2026-01-01T00:00:00Z")}),
            ),
            (
                "young",
                json!({"metadata": {"uid": "2"}, "spec": {"nodeName": "n", "containers": []},
                "status": ready("2026-01-01T09:59:00Z")}),
            ),
            (
                "cheap",
                json!({"metadata": {"uid": "3",
                "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}},
                "spec": {"nodeName": "n", "containers": []}, "status": ready("2026-01-01T00:00:00Z")}),
            ),
            (
                "unready",
                json!({"metadata": {"uid": "4"}, "spec": {"nodeName": "n", "containers": []},
                "status": {"phase": "Running"}}),
            ),
            (
                "pending",
                json!({"metadata": {"uid": "5"}, "spec": {"nodeName": "n", "containers": []},
                "status": {"phase": "Pending"}}),
            ),
            ("unassigned", json!({"metadata": {"uid": "6"}, "status": {"phase": "Pending"}})),
        ]
        .map(|(n, v)| (n, pod(v)));
        pods.sort_by(|a, b| deletion_order((&a.1, 0), (&b.1, 0), now));
        assert_eq!(pods.map(|p| p.0), ["unassigned", "pending", "unready", "cheap", "young", "old"]);
    }
}
