//! The latest status of each pod, and what of it the API server is sent.
//!
//! Pure: it holds statuses and compares; sending is the manager's part.
//! Upstream: pkg/kubelet/status/status_manager.go, v1.37.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus as ApiPodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::conditions;
use crate::allocation::conditions::{IN_PROGRESS, PENDING};
use crate::metrics::pods;
use crate::pod::restart;
use crate::pod::view::{PodView, init_containers, is_sidecar};

/// The latest status of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What the API server is to show. Shared: readers ask often, and it is large.
    pub status: Arc<ApiPodStatus>,
    /// Grows with every change.
    pub version: u64,
    /// True once the pod's containers, volumes and cgroups are gone.
    pub finished: bool,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Since when the API server has not been told; absent once it has been.
    pub waits_since: Option<Timestamp>,
}

/// Latest statuses by pod id.
#[derive(Debug, Default)]
pub struct StatusCache {
    entries: HashMap<String, Entry>,
}

/// Most bytes of all termination messages of one pod together.
const MESSAGES_LIMIT: usize = 12 << 10;

impl StatusCache {
    /// The latest status of a pod.
    pub fn get(&self, uid: &str) -> Option<&Entry> {
        self.entries.get(uid)
    }

    /// The API server has been told of a version; since when it had not been.
    pub fn told(&mut self, uid: &str, version: u64) -> Option<Timestamp> {
        let entry = self.entries.get_mut(uid)?;
        if entry.version == version { entry.waits_since.take() } else { entry.waits_since }
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    /// Forgets pods that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|uid, _| keep(uid));
    }

    /// Forgets one pod.
    pub fn remove(&mut self, uid: &str) {
        self.entries.remove(uid);
    }

    /// Takes a new status; true if it differs from the last one. `mirror` is the status of the pod's mirror, if it has one.
    pub fn set(
        &mut self,
        pod: &Pod,
        mut status: ApiPodStatus,
        mirror: Option<&ApiPodStatus>,
        now: Timestamp,
    ) -> bool {
        status.observed_generation = pod.metadata.generation;
        self.update(pod, status, mirror, now, false, false)
    }

    /// Marks a pod as gone from the node: whatever was not seen to end is reported as failed.
    pub fn terminate(&mut self, pod: &Pod, mirror: Option<&ApiPodStatus>, now: Timestamp) -> bool {
        let last = self.entries.get(pod.uid()).map_or(pod.api_status(), |e| &e.status);
        let status = terminated(pod, last.clone());
        self.update(pod, status, mirror, now, true, true)
    }

    fn update(
        &mut self,
        pod: &Pod,
        mut status: ApiPodStatus,
        mirror: Option<&ApiPodStatus>,
        now: Timestamp,
        force: bool,
        finished: bool,
    ) -> bool {
        let cached = self.entries.get(pod.uid());
        let old = cached.map_or_else(|| mirror.unwrap_or(pod.api_status()), |e| &e.status);
        let finished = finished || cached.is_some_and(|e| e.finished);
        if illegal_transition(pod, old, &status) {
            tracing::error!(pod = pod.log_name(), "Status update on pod aborted");
            return false;
        }
        transition_times(&mut status, old, now);
        status.start_time = old.start_time.clone().or(status.start_time).or(Some(Time(now)));
        status.observed_generation = status.observed_generation.max(old.observed_generation);
        normalize(pod, &mut status);
        if !force && cached.is_some_and(|e| *e.status == status) {
            return false;
        }
        let entry = Entry {
            status: Arc::new(status),
            version: cached.map_or(1, |e| e.version + 1),
            finished,
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            waits_since: cached.and_then(|e| e.waits_since).or(Some(now)),
        };
        pods::status_changed(old, &entry.status);
        self.entries.insert(pod.uid().to_owned(), entry);
        true
    }
}

/// True if a container that ended for good would come back to life.
fn illegal_transition(pod: &Pod, old: &ApiPodStatus, new: &ApiPodStatus) -> bool {
    let spec = pod.spec();
    if matches!(spec.restart_policy.as_deref(), None | Some("Always")) || restart::could_restart_all(spec) {
        return false;
    }
    let revived = |old: &Option<Vec<ContainerStatus>>, new: &Option<Vec<ContainerStatus>>| {
        old.iter().flatten().any(|was| {
            let Some(end) = was.state.as_ref().and_then(|s| s.terminated.as_ref()) else { return false };
            let mut containers = init_containers(spec).iter().chain(&spec.containers);
            let Some(container) = containers.find(|c| c.name == was.name) else { return false };
            if is_sidecar(container) || restart::restarts_after(container, spec, end.exit_code) {
                return false;
            }
            (new.iter().flatten().find(|s| s.name == was.name))
                .is_some_and(|s| s.state.as_ref().is_none_or(|state| state.terminated.is_none()))
        })
    };
    revived(&old.container_statuses, &new.container_statuses)
        || revived(&old.init_container_statuses, &new.init_container_statuses)
}

/// A condition's time changes when its status does.
fn transition_times(status: &mut ApiPodStatus, old: &ApiPodStatus, now: Timestamp) {
    for condition in status.conditions.iter_mut().flatten() {
        let shared = condition.type_ == "DisruptionTarget";
        if !shared && !conditions::OWNED.contains(&condition.type_.as_str()) {
            continue;
        }
        let before = old.conditions.iter().flatten().find(|c| c.type_ == condition.type_);
        if matches!(condition.type_.as_str(), PENDING | IN_PROGRESS) {
            // Its times are its own; that it was looked at again is nothing new.
            let said = |c: &PodCondition| (c.reason.clone(), c.message.clone(), c.observed_generation);
            if let Some(before) = before.filter(|before| said(before) == said(condition)) {
                *condition = before.clone();
            }
            continue;
        }
        condition.last_transition_time = match before.filter(|c| c.status == condition.status) {
            Some(same) => same.last_transition_time.clone(),
            None => Some(Time(now)),
        };
    }
}

/// Brings a status into the form in which it comes back from the API server, so that the two are equal once they are the
/// same: whole seconds, bounded messages, states that are empty rather than absent.
fn normalize(pod: &Pod, status: &mut ApiPodStatus) {
    let limit = MESSAGES_LIMIT / pod.all_containers().count().max(1);
    let whole = |time: &mut Option<Time>| {
        if let Some(Time(at)) = time
            && let Ok(second) = Timestamp::from_second(at.as_second())
        {
            *at = second;
        }
    };
    whole(&mut status.start_time);
    for condition in status.conditions.iter_mut().flatten() {
        whole(&mut condition.last_transition_time);
        whole(&mut condition.last_probe_time);
    }
    let lists = [
        &mut status.container_statuses,
        &mut status.init_container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    for container in lists.into_iter().flat_map(|list| list.iter_mut().flatten()) {
        for state in [&mut container.state, &mut container.last_state] {
            let state = state.get_or_insert_default();
            if let Some(running) = &mut state.running {
                whole(&mut running.started_at);
            }
            if let Some(end) = &mut state.terminated {
                whole(&mut end.started_at);
                whole(&mut end.finished_at);
                if let Some(message) = &mut end.message {
                    message.truncate(message.floor_char_boundary(limit));
                }
            }
        }
    }
}

/// The status of a pod that is gone from the node.
fn terminated(pod: &Pod, mut status: ApiPodStatus) -> ApiPodStatus {
    let lost = |statuses: &mut [ContainerStatus]| {
        for status in statuses {
            if status.state.as_ref().is_none_or(|s| s.terminated.is_none()) {
                let end = ContainerStateTerminated {
                    reason: Some("ContainerStatusUnknown".to_owned()),
                    message: Some(
                        "The container could not be located when the pod was terminated".to_owned(),
                    ),
                    exit_code: 137,
                    ..ContainerStateTerminated::default()
                };
                status.state = Some(ContainerState { terminated: Some(end), ..ContainerState::default() });
            }
        }
    };
    if was_initialized(pod) {
        lost(status.container_statuses.as_deref_mut().unwrap_or_default());
    }
    let init = status.init_container_statuses.as_deref_mut().unwrap_or_default();
    let begun = |s: &ContainerStatus| {
        s.state.as_ref().is_some_and(|s| s.waiting.is_none())
            || s.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
    };
    // At least the first one counts as begun: the pod did end.
    let until = init.iter().rposition(begun).map_or(usize::from(!init.is_empty()), |at| at + 1);
    if let Some(begun) = init.get_mut(..until) {
        lost(begun);
    }
    if !pod.is_static() && !matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        status.phase = Some("Failed".to_owned());
    }
    status
}

fn was_initialized(pod: &Pod) -> bool {
    let init = init_containers(pod.spec());
    let Some(last) = init.last() else { return true };
    let status = pod.api_status();
    let exited = |state: &Option<ContainerState>| state.as_ref().and_then(|s| s.terminated.as_ref()).cloned();
    let moved = |s: &ContainerStatus| {
        exited(&s.last_state).is_some() || s.state.as_ref().is_none_or(|s| s.waiting.is_none())
    };
    if status.container_statuses.iter().flatten().any(moved) {
        return true;
    }
    let Some(found) = status.init_container_statuses.iter().flatten().find(|s| s.name == last.name) else {
        return false;
    };
    if is_sidecar(last) {
        return found.started == Some(true) && found.state.as_ref().is_some_and(|s| s.running.is_some());
    }
    [&found.last_state, &found.state].iter().any(|s| exited(s).is_some_and(|t| t.exit_code == 0))
}

/// What the API server's status becomes: conditions and fields of others stay, and a pod that may still have running
/// containers is not yet reported as ended.
pub fn merge(pod: &Pod, new: &ApiPodStatus, may_run: bool) -> ApiPodStatus {
    let old = pod.api_status();
    let owned = |kind: &str| conditions::OWNED.contains(&kind);
    let ended = |s: &ApiPodStatus| matches!(s.phase.as_deref(), Some("Failed" | "Succeeded"));
    let ending = !ended(old) && ended(new);
    let mut merged = new.clone();
    let mut list: Vec<_> = old.conditions.iter().flatten().filter(|c| !owned(&c.type_)).cloned().collect();
    for condition in new.conditions.iter().flatten() {
        if owned(&condition.type_) {
            list.push(condition.clone());
        } else if condition.type_ == "DisruptionTarget" && ending && !may_run {
            list.retain(|c| c.type_ != condition.type_);
            list.push(condition.clone());
        }
    }
    merged.resource_claim_statuses.clone_from(&old.resource_claim_statuses);
    merged.extended_resource_claim_status.clone_from(&old.extended_resource_claim_status);
    merged.nominated_node_name.clone_from(&old.nominated_node_name);
    if ending && may_run {
        merged.phase.clone_from(&old.phase);
        merged.reason.clone_from(&old.reason);
        merged.message.clone_from(&old.message);
    }
    if ended(&merged) {
        for end in conditions::ended(pod, merged.phase.as_deref().unwrap_or_default()) {
            for condition in list.iter_mut().filter(|c| c.type_ == end.type_ && c.status == "True") {
                let at = condition.last_transition_time.clone();
                *condition = end.clone();
                condition.last_transition_time = at;
            }
        }
    }
    merged.conditions = Some(list);
    merged
}

/// True if the API server's object may be removed: it is marked for deletion, has ended, and nothing is left here.
pub fn can_be_deleted(pod: &Pod, finished: bool) -> bool {
    pod.is_deleted() && !pod.is_mirror() && pod.is_api_terminal() && finished
}

/// The strategic merge patch from one status to another, bound to the pod's id; `None` if they are equal.
pub fn patch(uid: &str, old: &ApiPodStatus, new: &ApiPodStatus) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Ok(Value::Object(old)), Ok(Value::Object(new))) =
        (serde_json::to_value(old), serde_json::to_value(new))
    else {
        return None;
    };
    let mut out = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        out.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let before = old.get(&key);
        if before == Some(&value) {
            continue;
        }
        match (key.as_str(), &value) {
            ("conditions", Value::Array(list)) => {
                let (changes, order) = condition_changes(before, list);
                out.insert("$setElementOrder/conditions".to_owned(), order);
                if !changes.is_empty() {
                    out.insert(key, Value::Array(changes));
                }
            }
            ("podIPs" | "hostIPs", Value::Array(list)) => {
                let replace = std::iter::once(json!({"$patch": "replace"}));
                out.insert(key, replace.chain(list.iter().cloned()).collect());
            }
            // Of what the API server does not have yet, a directive would leave nothing.
            (_, Value::Object(map)) if before.is_some() => {
                let mut map = map.clone();
                map.insert("$patch".to_owned(), json!("replace"));
                out.insert(key, Value::Object(map));
            }
            _ => drop(out.insert(key, value)),
        }
    }
    (!out.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": out}))
}

/// Changed and removed conditions, and the order of all.
fn condition_changes(before: Option<&Value>, new: &[Value]) -> (Vec<Value>, Value) {
    let empty = Vec::new();
    let before = before.and_then(Value::as_array).unwrap_or(&empty);
    let find = |list: &[Value], kind: &Value| list.iter().find(|c| c.get("type") == Some(kind)).cloned();
    let kind = |condition: &Value| condition.get("type").cloned().unwrap_or_default();
    let mut changes = Vec::new();
    for condition in new {
        let was = find(before, &kind(condition));
        if was.as_ref() == Some(condition) {
            continue;
        }
        let mut change = condition.as_object().cloned().unwrap_or_default();
        for gone in was.iter().flat_map(|w| w.as_object().into_iter().flat_map(Map::keys)) {
            change.entry(gone.clone()).or_insert(Value::Null);
        }
        changes.push(Value::Object(change));
    }
    for gone in before.iter().filter(|c| find(new, &kind(c)).is_none()) {
        changes.push(json!({"$patch": "delete", "type": kind(gone)}));
    }
    let order = new.iter().map(|c| json!({"type": kind(c)})).collect();
    (changes, order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    fn status(value: Value) -> ApiPodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn times_change_with_the_status_only() {
        let pod =
            pod(json!({"metadata": {"uid": "u", "name": "p", "generation": 3}, "spec": {"containers": []}}));
        let mut cache = StatusCache::default();
        let at = |s| Timestamp::from_second(s).unwrap();
        let ready = |value: &str| status(json!({"conditions": [{"type": "Ready", "status": value}]}));
        assert!(cache.set(&pod, ready("False"), None, at(10)));
        assert!(!cache.set(&pod, ready("False"), None, at(20)));
        assert!(cache.set(&pod, ready("True"), None, at(30)));
        let entry = cache.get("u").unwrap();
        let condition = &entry.status.conditions.as_ref().unwrap()[0];
        assert_eq!(condition.last_transition_time, Some(Time(at(30))));
        assert_eq!(entry.status.start_time, Some(Time(at(10))));
        assert_eq!(entry.status.observed_generation, Some(3));
        assert_eq!(entry.version, 2);
    }

    #[test]
    fn what_comes_back_is_the_same() {
        let pod = pod(json!({"metadata": {"uid": "u"}, "spec": {"containers": [{"name": "c"}]}}));
        let with = |container: Value| {
            let mut whole =
                json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0});
            whole.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
            status(
                json!({"startTime": "2026-01-01T00:00:01Z", "containerStatuses": [whole], "conditions": []}),
            )
        };
        let sent = with(json!({"state": {"running": {"startedAt": "2026-01-01T00:00:01.5Z"}}}));
        // Neither state is a pointer at the API server, so both are there.
        let back =
            with(json!({"state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}}, "lastState": {}}));
        let mut cache = StatusCache::default();
        cache.set(&pod, sent, None, Timestamp::UNIX_EPOCH);
        let shown = Pod { status: Some(back.clone()), ..pod };
        let entry = cache.get("u").unwrap();
        assert_eq!(patch("u", &back, &merge(&shown, &entry.status, true)), None);
    }

    #[test]
    fn finished_containers_stay_finished() {
        let pod = pod(
            json!({"metadata": {"uid": "u"}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}),
        );
        let with = |state: Value| {
            status(
                json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}),
            )
        };
        let mut cache = StatusCache::default();
        assert!(cache.set(&pod, with(json!({"terminated": {"exitCode": 0}})), None, Timestamp::UNIX_EPOCH));
        assert!(!cache.set(&pod, with(json!({"running": {}})), None, Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn ending_waits_for_containers() {
        let pod =
            pod(json!({"metadata": {"uid": "u"}, "spec": {"containers": []}, "status": {"phase": "Running",
            "conditions": [{"type": "Gate", "status": "True"}, {"type": "Ready", "status": "True"}]}}));
        let new = status(
            json!({"phase": "Failed", "reason": "Evicted", "conditions": [{"type": "Ready", "status": "True"}]}),
        );
        let waiting = merge(&pod, &new, true);
        assert_eq!((waiting.phase.as_deref(), waiting.reason.as_deref()), (Some("Running"), None));
        let done = merge(&pod, &new, false);
        let conditions = done.conditions.unwrap();
        assert_eq!(conditions[0].type_, "Gate");
        assert_eq!(
            (conditions[1].status.as_str(), conditions[1].reason.as_deref()),
            ("False", Some("PodFailed"))
        );
    }

    #[test]
    fn patches() {
        let old = status(json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1.1.1.1"}],
            "conditions": [{"type": "A", "status": "False", "reason": "r"}, {"type": "B", "status": "True"}]}));
        let new = status(
            json!({"phase": "Running", "podIPs": [{"ip": "2.2.2.2"}], "conditions": [{"type": "A", "status": "True"}]}),
        );
        assert_eq!(patch("u", &old, &old), None);
        assert_eq!(
            patch("u", &old, &new),
            Some(json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running", "reason": null, "podIPs": [{"$patch": "replace"}, {"ip": "2.2.2.2"}],
                "$setElementOrder/conditions": [{"type": "A"}],
                "conditions": [{"type": "A", "status": "True", "reason": null}, {"$patch": "delete", "type": "B"}]}}))
        );
    }
}
