//! Small things that several controllers need.

pub mod backoff;
pub mod node_fit;
pub mod own_writes;
pub mod pace;
pub mod pod_changes;
pub mod pod_control;
pub mod revisions;
pub mod scales;
pub mod template_hash;

use client::Meta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::labels::{Error, Selector};

/// Namespace and name, as informers key their objects.
pub fn key<K: Meta>(object: &K) -> String {
    let meta = object.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    match meta.namespace.as_deref() {
        None | Some("") => name.to_string(),
        Some(namespace) => format!("{namespace}/{name}"),
    }
}

/// A number, or a percentage of `total`. Upstream: intstr.GetScaledValueFromIntOrPercent.
///
/// # Errors
/// The text is no percentage.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Result<i32, String> {
    let text = match value {
        IntOrString::Int(number) => return Ok(*number),
        IntOrString::String(text) => text,
    };
    let invalid = |why: &str| format!("invalid value for IntOrString: invalid type: {why}");
    let percent = text.strip_suffix('%').ok_or_else(|| invalid("string is not a percentage"))?;
    let percent: i64 = percent.parse().map_err(|_| invalid("string is not a percentage"))?;
    let product = percent * i64::from(total);
    let share = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
    i32::try_from(share).map_err(|_| invalid("percentage out of range"))
}

/// A count as the API writes it.
pub fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A LabelSelector, ready to match. Upstream: metav1.LabelSelectorAsSelector.
///
/// # Errors
/// The expression that is malformed.
pub fn selector(selector: &LabelSelector) -> Result<Selector, Error> {
    let labels = selector.match_labels.iter().flatten().map(|(k, v)| (k.as_str(), v.as_str()));
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        let values = e.values.iter().flatten().map(|v| v.as_str().into()).collect();
        (e.key.as_str(), e.operator.as_str(), values)
    });
    Selector::from_parts(labels, expressions)
}

/// Writing what becomes of a pod that the control plane ends.
pub mod fail_pod {
    use client::{Api, Meta, Patch, PatchParams};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    /// Writes phase and conditions, whatever else has changed meanwhile; the uid guards against a namesake.
    ///
    /// # Errors
    /// The call's.
    pub async fn patch_status(api: &Api<Pod>, pod: &Pod) -> client::Result<()> {
        let status = pod.status.clone().unwrap_or_default();
        let mut changes =
            json!({"conditions": status.conditions, "observedGeneration": pod.metadata.generation});
        if let Some(phase) = status.phase {
            changes["phase"] = json!(phase);
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": changes}));
        api.patch_status(pod.name(), &patch, &PatchParams::default()).await.map(drop)
    }
}
