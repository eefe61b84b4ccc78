//! LimitRanger: defaults and bounds of what containers, pods and claims ask for, per namespace.
//! Upstream: `plugin/pkg/admission/limitranger/admission.go`.

use async_trait::async_trait;
use machinery::{Quantity, Value};

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;
use crate::pod_resources::{self, Amounts};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
pub struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        for range in ranges(a).await? {
            if let (true, Some(pod)) = (a.is("", "pods"), a.object.as_mut()) {
                set_defaults(pod, &range)?;
            }
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        for range in ranges(a).await? {
            let Some(object) = a.object.as_ref() else { continue };
            let problems =
                if a.resource() == "pods" { check_pod(object, &range) } else { check_claim(object, &range) };
            match problems.as_slice() {
                [] => {}
                [one] => return Err(a.forbidden(one)),
                many => return Err(a.forbidden(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// The limit ranges that apply; none for objects on their way out.
async fn ranges(a: &Attributes<'_>) -> Result<Vec<Value>, ApiError> {
    let applies = matches!(
        (a.group(), a.resource(), a.subresource(), a.operation),
        ("", "pods", "resize", Operation::Update)
            | ("", "pods", "", Operation::Create)
            | ("", "persistentvolumeclaims", "", _)
    );
    let going = a.old.as_ref().is_some_and(|o| !meta::deletion_timestamp(o).is_empty());
    if !applies || going {
        return Ok(Vec::new());
    }
    a.call.core.find_all("", "limitranges", &a.namespace).await
}

fn limits_of<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let limits = range.list_at(&["spec", "limits"]).into_iter().flat_map(|l| l.iter());
    limits.filter(move |l| l.str_at(&["type"]) == Some(kind))
}

fn amounts(limit: &Value, field: &str) -> Amounts {
    let map = limit.map_at(&[field]);
    map.into_iter()
        .flat_map(|m| m.iter())
        .filter_map(|(k, v)| Some((k.to_string(), Quantity::parse(v.as_str()?).ok()?)))
        .collect()
}

fn set_defaults(pod: &mut Value, range: &Value) -> Result<(), ApiError> {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for limit in limits_of(range, "Container") {
        requests.extend(amounts(limit, "defaultRequest"));
        limits.extend(amounts(limit, "default"));
    }
    let mut notes = Vec::new();
    for (field, word) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(Value::List(containers)) = pod.get_path_mut(&["spec", field]) else { continue };
        for container in containers.iter_mut() {
            let name = container.str_at(&["name"]).unwrap_or("").to_owned();
            for (list, defaults, what) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let mut set = Vec::new();
                for (resource, amount) in defaults {
                    let path = ["resources", list, resource.as_str()];
                    if container.get_path(&path).is_none() {
                        container.set_path(&path, amount.to_string()).map_err(ApiError::internal)?;
                        set.push(resource.as_str());
                    }
                }
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.set_path(&["metadata", "annotations", ANNOTATION], text).map_err(ApiError::internal)?;
    }
    Ok(())
}

fn check_pod(pod: &Value, range: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for limit in limits_of(range, "Container") {
        for field in ["containers", "initContainers"] {
            for container in pod.list_at(&["spec", field]).into_iter().flat_map(|l| l.iter()) {
                let requests = pod_resources::list(container, "requests");
                let limits = pod_resources::list(container, "limits");
                problems.extend(check(limit, "Container", &requests, &limits));
            }
        }
    }
    for limit in limits_of(range, "Pod") {
        let requests = pod_resources::total(pod, "requests");
        let limits = pod_resources::total(pod, "limits");
        problems.extend(check(limit, "Pod", &requests, &limits));
    }
    problems
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, bound) in amounts(limit, "min") {
        problems.extend(below_minimum(kind, &name, &bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in amounts(limit, "max") {
        problems.extend(above_maximum(kind, &name, &bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in amounts(limit, "maxLimitRequestRatio") {
        problems.extend(above_ratio(kind, &name, &bound, requests.get(&name), limits.get(&name)));
    }
    problems
}

fn below_minimum(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(r), _) if pod_resources::greater(bound, r) => Some(format!("{head}, but request is {r}")),
        (_, Some(l)) if pod_resources::greater(bound, l) => Some(format!("{head}, but limit is {l}")),
        _ => None,
    }
}

fn above_maximum(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Some(format!("{head}.  No limit is specified")),
        (_, Some(l)) if pod_resources::greater(l, bound) => Some(format!("{head}, but limit is {l}")),
        (Some(r), _) if pod_resources::greater(r, bound) => Some(format!("{head}, but request is {r}")),
        _ => None,
    }
}

fn above_ratio(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = request.filter(|r| !r.is_zero()) else {
        return Some(format!("{head}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|l| !l.is_zero()) else {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.as_f64() / request.as_f64();
    (ratio > bound.as_f64()).then(|| format!("{head}, but provided ratio is {ratio:.6}"))
}

fn check_claim(claim: &Value, range: &Value) -> Vec<String> {
    let kind = "PersistentVolumeClaim";
    let requests = claim.get("spec").map(|s| pod_resources::list(s, "requests")).unwrap_or_default();
    let mut problems = Vec::new();
    for limit in limits_of(range, kind) {
        for (name, bound) in amounts(limit, "min") {
            problems.extend(below_minimum(kind, &name, &bound, requests.get(&name), None));
        }
        for (name, bound) in amounts(limit, "max") {
            let head = format!("maximum {name} usage per {kind} is {bound}");
            match requests.get(&name) {
                None => problems.push(format!("{head}.  No request is specified")),
                Some(r) if pod_resources::greater(r, &bound) => {
                    problems.push(format!("{head}, but request is {r}"));
                }
                Some(_) => {}
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_then_bounds() {
        let range = Value::from(json!({"spec": {"limits": [{"type": "Container",
            "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}, "min": {"cpu": "50m"}}]}}));
        let mut pod = Value::from(json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}}));
        set_defaults(&mut pod, &range).unwrap();
        assert_eq!(
            meta::annotation(&pod, ANNOTATION),
            Some("LimitRanger plugin set: cpu request for container a; cpu limit for container a")
        );
        assert!(check_pod(&pod, &range).is_empty());
        let big = Value::from(json!({"spec": {"containers": [{"resources": {
            "requests": {"cpu": "2"}, "limits": {"cpu": "2"}}}]}}));
        assert_eq!(check_pod(&big, &range), ["maximum cpu usage per Container is 1, but limit is 2"]);
    }
}
