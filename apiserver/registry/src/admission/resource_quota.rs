//! ResourceQuota: what a namespace may hold in sum. The last plugin, because it writes: usage is charged to the quota's
//! status by a conditional update before the object is stored; the quota controller corrects what was not stored.
//! Upstream: `apiserver/pkg/admission/plugin/resourcequota`, evaluators in `pkg/quota/v1/evaluator/core`.

use std::collections::BTreeSet;

use ::api::validation::field::{Error, Path, aggregate};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::ScopedResourceSelectorRequirement;
use machinery::{Map, Quantity, Value};
use serde::Deserialize;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::pod_resources::{self, Amounts};
use crate::store::write_back;
use crate::strategy::Call;

/// The plugin's configuration: what may be used under a quota only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Configuration {
    /// All of it.
    pub limited_resources: Vec<LimitedResource>,
}

/// What of a resource may be used under a quota only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LimitedResource {
    /// Its group.
    pub api_group: String,
    /// Its plural name.
    pub resource: String,
    /// Parts of the names of what is used.
    pub match_contains: Vec<String>,
    /// Scopes of pods.
    pub match_scopes: Vec<ScopedResourceSelectorRequirement>,
}

impl Configuration {
    /// # Errors
    /// Upstream's text.
    pub fn check(&self) -> Result<(), String> {
        let root = Path::new("limitedResources");
        let unnamed =
            self.limited_resources.iter().enumerate().filter(|(_, limited)| limited.resource.is_empty());
        let errors: Vec<Error> =
            unnamed.map(|(index, _)| Error::required(&root.index(index).child("resource"), "")).collect();
        if errors.is_empty() { Ok(()) } else { Err(aggregate(&errors)) }
    }

    /// Refuses what must be under a quota and is under none of these.
    fn check_covered(&self, a: &Attributes<'_>, object: &Value, quotas: &[Value]) -> Result<(), ApiError> {
        if self.limited_resources.is_empty() {
            return Ok(());
        }
        let used = grown(a, object);
        if used.values().all(|amount| amount.sign() <= 0) {
            return Ok(());
        }
        let covered: BTreeSet<String> = quotas
            .iter()
            .filter(|quota| in_scope(quota, a, object))
            .flat_map(|quota| hard(quota, "status").into_keys())
            .collect();
        let open: Vec<String> = self.limited(a, &usage(a, object)).difference(&covered).cloned().collect();
        if !open.is_empty() {
            return Err(a.forbidden(format!("insufficient quota to consume: {}", open.join(","))));
        }
        let of_quotas: BTreeSet<String> = quotas
            .iter()
            .flat_map(scopes)
            .filter(|(scope, operator, values)| matches_scope(object, scope, operator, values))
            .map(|(scope, _, _)| scope)
            .collect();
        let open: Vec<String> = self
            .limited_scopes(a, object)
            .filter(|required| !of_quotas.contains(&required.scope_name))
            .map(|r| {
                format!(
                    "{{{} {} [{}]}}",
                    r.scope_name,
                    r.operator,
                    r.values.as_deref().unwrap_or_default().join(" ")
                )
            })
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        // An error without a status of its own.
        let why = format!("insufficient quota to match these scopes: [{}]", open.join(" "));
        Err(ApiError::new(500, "", why))
    }

    /// The names of what is used that must be under a quota.
    fn limited(&self, a: &Attributes<'_>, used: &Amounts) -> BTreeSet<String> {
        let of = self.limited_resources.iter().filter(|l| a.is_resource(&l.api_group, &l.resource));
        let parts: Vec<&String> = of.flat_map(|limited| &limited.match_contains).collect();
        let used = used.iter().filter(|(_, amount)| amount.sign() > 0).map(|(name, _)| name);
        used.filter(|name| parts.iter().any(|part| name.contains(part.as_str()))).cloned().collect()
    }

    /// The scopes of a pod that must be those of a quota.
    fn limited_scopes<'a>(
        &'a self,
        a: &Attributes<'_>,
        object: &'a Value,
    ) -> impl Iterator<Item = &'a ScopedResourceSelectorRequirement> {
        let pods = a.is_resource("", "pods");
        let all = self.limited_resources.iter().flat_map(|limited| &limited.match_scopes);
        all.filter(move |r| {
            pods && matches_scope(object, &r.scope_name, &r.operator, r.values.as_deref().unwrap_or_default())
        })
    }
}

/// The plugin.
#[derive(Debug, Default)]
pub struct ResourceQuota(pub Configuration);

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let resize = a.is_resource("", "pods") && a.subresource() == "resize";
        if a.namespace.is_empty()
            || (!a.subresource().is_empty() && !resize)
            || a.is_resource("", "namespaces")
        {
            return Ok(());
        }
        // Only some kinds change what they use by an update.
        let grows =
            resize || matches!((a.group(), a.resource()), ("", "services" | "persistentvolumeclaims"));
        if a.operation == Operation::Update && !grows {
            return Ok(());
        }
        let Some(object) = a.object.as_ref() else { return Ok(()) };
        let quotas = a.call.core.find_all("", "resourcequotas", &a.namespace).await?;
        self.0.check_covered(a, object, &quotas)?;
        for quota in quotas {
            if !in_scope(&quota, a, object) {
                continue;
            }
            must_specify(a, &quota, object)?;
            charge(a, &quota, grown(a, object)).await?;
        }
        Ok(())
    }
}

/// What the object uses more than it did.
fn grown(a: &Attributes<'_>, object: &Value) -> Amounts {
    let mut delta = usage(a, object);
    if let Some(old) = a.old.as_ref().filter(|_| a.operation == Operation::Update) {
        for (name, amount) in usage(a, old) {
            delta.entry(name).or_insert_with(Quantity::zero).sub(&amount);
        }
    }
    delta
}

fn hard(quota: &Value, place: &str) -> Amounts {
    amounts(quota.map_at(&[place, "hard"]))
}

fn amounts(map: Option<&Map>) -> Amounts {
    map.into_iter()
        .flat_map(|m| m.iter())
        .filter_map(|(k, v)| Some((k.to_string(), Quantity::parse(v.as_str()?).ok()?)))
        .collect()
}

fn one() -> Quantity {
    Quantity::new(1, machinery::quantity::Format::DecimalSI)
}

/// What one object uses, under every name a quota may use for it.
fn usage(a: &Attributes<'_>, object: &Value) -> Amounts {
    let mut used = Amounts::new();
    let generic = match a.group() {
        "" => format!("count/{}", a.resource()),
        group => format!("count/{}.{group}", a.resource()),
    };
    used.insert(generic, one());
    match (a.group(), a.resource()) {
        ("", "pods") => used.extend(pod_usage(object)),
        ("", "services") => used.extend(service_usage(object)),
        ("", "persistentvolumeclaims") => used.extend(claim_usage(object)),
        ("", name @ ("configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas")) => {
            used.insert(name.to_owned(), one());
        }
        _ => {}
    }
    used
}

fn pod_usage(pod: &Value) -> Amounts {
    let mut used = Amounts::new();
    // A finished pod uses nothing any more, but counts as an object.
    if matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed")) {
        return used;
    }
    used.insert("pods".into(), one());
    for (name, amount) in pod_resources::total(pod, "requests") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            used.insert(name.clone(), amount.clone());
        }
        used.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_resources::total(pod, "limits") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), amount);
        }
    }
    used
}

fn service_usage(service: &Value) -> Amounts {
    let mut used = Amounts::from([("services".to_owned(), one())]);
    let ports = service.list_at(&["spec", "ports"]).map_or(0, |l| l.len());
    let count = |n: usize| {
        Quantity::new(i64::try_from(n).unwrap_or(i64::MAX), machinery::quantity::Format::DecimalSI)
    };
    match service.str_at(&["spec", "type"]) {
        Some("NodePort") => {
            used.insert("services.nodeports".into(), count(ports));
        }
        Some("LoadBalancer") => {
            used.insert("services.loadbalancers".into(), one());
            if service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false) {
                used.insert("services.nodeports".into(), count(ports));
            }
        }
        _ => {}
    }
    used
}

fn claim_usage(claim: &Value) -> Amounts {
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), one())]);
    let class = claim.str_at(&["spec", "storageClassName"]).unwrap_or("");
    let by_class = |what: &str| format!("{class}.storageclass.storage.k8s.io/{what}");
    if !class.is_empty() {
        used.insert(by_class("persistentvolumeclaims"), one());
    }
    let asked = claim.str_at(&["spec", "resources", "requests", "storage"]);
    if let Some(amount) = asked.and_then(|t| Quantity::parse(t).ok()) {
        if !class.is_empty() {
            used.insert(by_class("requests.storage"), amount.clone());
        }
        used.insert("requests.storage".into(), amount);
    }
    used
}

/// Scopes narrow a quota to some pods.
fn in_scope(quota: &Value, a: &Attributes<'_>, object: &Value) -> bool {
    scopes(quota).iter().all(|(scope, operator, values)| {
        a.is_resource("", "pods") && matches_scope(object, scope, operator, values)
    })
}

/// The scopes of a quota: name, operator, values.
fn scopes(quota: &Value) -> Vec<(String, String, Vec<String>)> {
    let scopes = quota.list_at(&["spec", "scopes"]).into_iter().flat_map(|l| l.iter());
    let plain = scopes.filter_map(Value::as_str).map(|s| (s.to_owned(), "Exists".to_owned(), Vec::new()));
    let selector = quota.list_at(&["spec", "scopeSelector", "matchExpressions"]);
    let expressions = selector.into_iter().flat_map(|l| l.iter()).map(|e| {
        let values = e.list_at(&["values"]).into_iter().flat_map(|l| l.iter());
        let values: Vec<String> = values.filter_map(Value::as_str).map(str::to_owned).collect();
        let text = |f: &str| e.str_at(&[f]).unwrap_or("").to_owned();
        (text("scopeName"), text("operator"), values)
    });
    plain.chain(expressions).collect()
}

fn matches_scope(pod: &Value, scope: &str, operator: &str, values: &[String]) -> bool {
    let best_effort = || crate::qos::class(pod) == "BestEffort";
    let terminating = || pod.i64_at(&["spec", "activeDeadlineSeconds"]).is_some_and(|s| s >= 0);
    let present = |v: &Value, p: &[&str]| v.get_path(p).is_some_and(|v| !v.is_null());
    match scope {
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "Terminating" => terminating(),
        "NotTerminating" => !terminating(),
        "CrossNamespacePodAffinity" => present(pod, &["spec", "affinity"]),
        "PriorityClass" => {
            let class = pod.str_at(&["spec", "priorityClassName"]).unwrap_or("");
            match operator {
                "Exists" => !class.is_empty(),
                "DoesNotExist" => class.is_empty(),
                "In" => values.iter().any(|v| v == class),
                "NotIn" => !values.iter().any(|v| v == class),
                _ => false,
            }
        }
        _ => false,
    }
}

/// A pod under a compute quota says what it needs of it, in every container.
fn must_specify(a: &Attributes<'_>, quota: &Value, object: &Value) -> Result<(), ApiError> {
    if !a.is_resource("", "pods") || a.operation != Operation::Create {
        return Ok(());
    }
    let mut missing: Vec<String> = Vec::new();
    let mut who: Vec<String> = Vec::new();
    let pod_level = |list: &str, name: &str| object.get_path(&["spec", "resources", list, name]).is_some();
    for field in ["containers", "initContainers"] {
        for container in object.list_at(&["spec", field]).into_iter().flat_map(|l| l.iter()) {
            for key in hard(quota, "spec").keys() {
                let (list, name) = match key.as_str() {
                    "cpu" | "memory" => ("requests", key.as_str()),
                    k => match k.split_once('.') {
                        Some(("requests", name @ ("cpu" | "memory"))) => ("requests", name),
                        Some(("limits", name @ ("cpu" | "memory"))) => ("limits", name),
                        _ => continue,
                    },
                };
                let said = container.get_path(&["resources", list, name]).is_some() || pod_level(list, name);
                if !said {
                    let entry = container.str_at(&["name"]).unwrap_or("").to_owned();
                    if !missing.contains(key) {
                        missing.push(key.clone());
                    }
                    if !who.contains(&entry) {
                        who.push(entry);
                    }
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort();
    let per: Vec<String> = missing.iter().map(|m| format!("{m} for: {}", who.join(","))).collect();
    Err(a.forbidden(format!("failed quota: {}: must specify {}", crate::meta::name(quota), per.join("; "))))
}

fn text(amounts: &Amounts, names: &[&String]) -> String {
    let part = |n: &&String| format!("{n}={}", amounts.get(*n).map_or("0".to_owned(), ToString::to_string));
    names.iter().map(part).collect::<Vec<_>>().join(",")
}

/// Checks a quota against the change and writes the new usage into its status.
async fn charge(a: &Attributes<'_>, quota: &Value, delta: Amounts) -> Result<(), ApiError> {
    let tracked: Amounts = delta
        .into_iter()
        .filter(|(name, d)| hard(quota, "spec").contains_key(name) && d.sign() != 0)
        .collect();
    if tracked.values().all(|d| d.sign() <= 0) {
        return Ok(());
    }
    let name = crate::meta::name(quota).to_owned();
    let quotas = a.call.core.any_version("", "resourcequotas")?.clone();
    let call = Call { resource: &quotas, subresource: "status", ..*a.call };
    let changed = write_back::change(&call, &name, |quota| {
        let (hard, used) = (hard(quota, "status"), amounts(quota.map_at(&["status", "used"])));
        let unknown: Vec<&String> = tracked.keys().filter(|n| !hard.contains_key(*n)).collect();
        if !unknown.is_empty() {
            let list: Vec<&str> = unknown.iter().map(|n| n.as_str()).collect();
            return Err(
                a.forbidden(format!("status unknown for quota: {name}, resources: {}", list.join(",")))
            );
        }
        let mut next = used.clone();
        pod_resources::add(&mut next, &tracked);
        let exceeded: Vec<&String> = tracked
            .iter()
            .filter(|(n, d)| d.sign() > 0 && pod_resources::greater(&next[*n], &hard[*n]))
            .map(|(n, _)| n)
            .collect();
        if !exceeded.is_empty() {
            return Err(a.forbidden(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                text(&tracked, &exceeded),
                text(&used, &exceeded),
                text(&hard, &exceeded)
            )));
        }
        for (resource, amount) in &next {
            let path = ["status", "used", resource.as_str()];
            quota.set_path(&path, amount.canonical()).map_err(ApiError::internal)?;
        }
        Ok(())
    })
    .await;
    match changed {
        // The quota went away meanwhile: nothing limits any more.
        Err(error) if error.code == 404 => Ok(()),
        result => result.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usage_of_kinds() {
        let pod = Value::from(json!({"spec": {"containers": [
            {"resources": {"requests": {"cpu": "1", "example.com/x": "2"}, "limits": {"cpu": "2"}}}]}}));
        let used = pod_usage(&pod);
        let check = |name: &str, want: &str| assert_eq!(used[name].to_string(), want, "{name}");
        check("pods", "1");
        check("cpu", "1");
        check("requests.cpu", "1");
        check("limits.cpu", "2");
        check("requests.example.com/x", "2");
        assert!(matches_scope(&pod, "NotBestEffort", "Exists", &[]));
        assert!(!matches_scope(&pod, "Terminating", "Exists", &[]));
        let service = Value::from(json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}));
        assert_eq!(service_usage(&service)["services.nodeports"].to_string(), "2");
    }
}
