//! Plugins that complete pods: DefaultTolerationSeconds, Priority, RuntimeClass, PodTopologyLabels.
//! Upstream: `plugin/pkg/admission/{defaulttolerationseconds,priority,runtimeclass,podtopologylabels}`.

use async_trait::async_trait;
use machinery::{List, Map, Quantity, Value};
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

fn write(object: &mut Value, path: &[&str], value: impl Into<Value>) -> Result<(), ApiError> {
    object.set_path(path, value).map(|_| ()).map_err(ApiError::internal)
}

/// Pods tolerate an unready or unreachable node for five minutes unless they say otherwise.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        let (not_ready, unreachable) = a.call.core.settings.default_tolerations;
        let Some(pod) = a.object.as_mut() else { return Ok(()) };
        let mut tolerations: List = pod.list_at(&["spec", "tolerations"]).cloned().unwrap_or_default();
        let before = tolerations.len();
        for (key, seconds) in
            [("node.kubernetes.io/not-ready", not_ready), ("node.kubernetes.io/unreachable", unreachable)]
        {
            let covered = tolerations.iter().any(|t| {
                let text = |f: &str| t.str_at(&[f]).unwrap_or("");
                (text("key") == key || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
            });
            if !covered {
                tolerations.push(Value::from(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})));
            }
        }
        if tolerations.len() > before {
            write(pod, &["spec", "tolerations"], tolerations)?;
        }
        Ok(())
    }
}

/// Turns a priority class name into the number the scheduler uses.
pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        match a.operation {
            Operation::Create => set_priority(a).await,
            Operation::Update => {
                // What was found out on creation stays, when clients do not know it.
                for path in [["spec", "priority"], ["spec", "preemptionPolicy"]] {
                    let old = a.old.as_ref().and_then(|o| o.get_path(&path)).filter(|v| !v.is_null());
                    if let (Some(pod), Some(old)) = (a.object.as_mut(), old.cloned())
                        && pod.get_path(&path).is_none_or(Value::is_null)
                    {
                        write(pod, &path, old)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("scheduling.k8s.io", "priorityclasses") || a.operation == Operation::Delete {
            return Ok(());
        }
        let Some(class) = a.object.as_ref().filter(|c| c.bool_at(&["globalDefault"]) == Some(true)) else {
            return Ok(());
        };
        let all = a.call.core.find_all("scheduling.k8s.io", "priorityclasses", "").await?;
        let other = all
            .iter()
            .find(|c| c.bool_at(&["globalDefault"]) == Some(true) && meta::name(c) != meta::name(class));
        match other {
            Some(other) => Err(a.forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta::name(other)
            ))),
            None => Ok(()),
        }
    }
}

async fn set_priority(a: &mut Attributes<'_>) -> Result<(), ApiError> {
    let pod = a.object.clone().unwrap_or_default();
    let asked = pod.str_at(&["spec", "priorityClassName"]).unwrap_or("");
    let class = if asked.is_empty() {
        let all = a.call.core.find_all("scheduling.k8s.io", "priorityclasses", "").await?;
        // Of several defaults (they can slip in at the same time) the lowest counts.
        all.into_iter()
            .filter(|c| c.bool_at(&["globalDefault"]) == Some(true))
            .min_by_key(|c| c.i64_at(&["value"]).unwrap_or(0))
    } else {
        let found = a.call.core.find("scheduling.k8s.io", "priorityclasses", "", asked).await?;
        Some(found.ok_or_else(|| a.forbidden(format!("no PriorityClass with name {asked} was found")))?)
    };
    let value = class.as_ref().and_then(|c| c.i64_at(&["value"])).unwrap_or(0);
    let policy = class.as_ref().and_then(|c| c.str_at(&["preemptionPolicy"]));
    let policy = policy.unwrap_or("PreemptLowerPriority").to_owned();
    if let Some(sent) = pod.i64_at(&["spec", "priority"]).filter(|p| *p != value) {
        return Err(a.forbidden(format!(
            "the integer value of priority ({sent}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    if let Some(sent) = pod.str_at(&["spec", "preemptionPolicy"]).filter(|p| *p != policy) {
        return Err(a.forbidden(format!(
            "the string value of PreemptionPolicy ({sent}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    let Some(pod) = a.object.as_mut() else { return Ok(()) };
    if let Some(class) = &class {
        write(pod, &["spec", "priorityClassName"], meta::name(class))?;
    }
    write(pod, &["spec", "priority"], value)?;
    write(pod, &["spec", "preemptionPolicy"], policy)
}

/// Copies overhead and scheduling rules of a pod's runtime class into the pod.
pub struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        let Some(class) = class_of(a).await? else { return Ok(()) };
        let selector = class.map_at(&["scheduling", "nodeSelector"]).cloned().unwrap_or_default();
        let mut merged: Map = match a.object.as_ref().and_then(|p| p.map_at(&["spec", "nodeSelector"])) {
            Some(own) => own.clone(),
            None => Map::new(),
        };
        for (key, value) in selector.iter() {
            if merged.get(key).is_some_and(|v| v != value) {
                return Err(a.forbidden(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    value.as_str().unwrap_or(""),
                    merged.get(key).and_then(Value::as_str).unwrap_or("")
                )));
            }
            merged.insert(key.clone(), value.clone());
        }
        let Some(pod) = a.object.as_mut() else { return Ok(()) };
        if let Some(overhead) = class.map_at(&["overhead", "podFixed"]) {
            write(pod, &["spec", "overhead"], overhead.clone())?;
        }
        if !merged.is_empty() {
            write(pod, &["spec", "nodeSelector"], merged)?;
        }
        let mut tolerations: List = pod.list_at(&["spec", "tolerations"]).cloned().unwrap_or_default();
        for toleration in class.list_at(&["scheduling", "tolerations"]).into_iter().flat_map(|l| l.iter()) {
            if !tolerations.contains(toleration) {
                tolerations.push(toleration.clone());
            }
        }
        if !tolerations.is_empty() {
            write(pod, &["spec", "tolerations"], tolerations)?;
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        let class = class_of(a).await?;
        let sent =
            a.object.as_ref().and_then(|p| p.map_at(&["spec", "overhead"])).cloned().unwrap_or_default();
        let wanted =
            class.as_ref().and_then(|c| c.map_at(&["overhead", "podFixed"])).cloned().unwrap_or_default();
        let same = sent.len() == wanted.len()
            && sent.iter().all(|(k, v)| {
                let amount =
                    |v: Option<&Value>| v.and_then(Value::as_str).and_then(|t| Quantity::parse(t).ok());
                amount(Some(v)).is_some() && amount(Some(v)) == amount(wanted.get(k))
            });
        match (same, class) {
            (true, _) => Ok(()),
            (false, None) => Err(a.forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            (false, Some(_)) => {
                Err(a.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
            }
        }
    }
}

async fn class_of(a: &Attributes<'_>) -> Result<Option<Value>, ApiError> {
    if !a.is("", "pods") {
        return Ok(None);
    }
    let Some(name) = a.object.as_ref().and_then(|p| p.str_at(&["spec", "runtimeClassName"])) else {
        return Ok(None);
    };
    let found = a.call.core.find("node.k8s.io", "runtimeclasses", "", name).await?;
    found.map(Some).ok_or_else(|| a.forbidden(format!("pod rejected: RuntimeClass {name:?} not found")))
}

/// A bound pod learns its node's zone and region.
pub struct PodTopologyLabels;

const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        let binding = a.kind.kind == "Binding";
        let bound_pod = a.is("", "pods");
        let target = if binding { &["target", "name"][..] } else { &["spec", "nodeName"][..] };
        let Some(node) = a.object.as_ref().and_then(|o| o.str_at(target)).filter(|n| !n.is_empty()) else {
            return Ok(());
        };
        if !binding && !bound_pod {
            return Ok(());
        }
        let Some(node) = a.call.core.find("", "nodes", "", node).await? else { return Ok(()) };
        let found: Vec<(&str, String)> =
            TOPOLOGY.iter().filter_map(|k| Some((*k, meta::label(&node, k)?.to_owned()))).collect();
        let Some(object) = a.object.as_mut().filter(|_| !found.is_empty()) else { return Ok(()) };
        let mut labels: Map = meta::labels(object).cloned().unwrap_or_default();
        for (key, value) in found {
            labels.insert(key, value);
        }
        meta::set(object, "labels", labels);
        Ok(())
    }
}
