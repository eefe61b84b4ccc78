//! Plugins that complete pods: DefaultTolerationSeconds, RuntimeClass, PodTopologyLabels.
//! Upstream: `plugin/pkg/admission/{defaulttolerationseconds,runtimeclass,podtopologylabels}`.

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
