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

use client::Kept;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::labels::{Error, Selector};

/// Namespace and name, as informers key their objects.
pub fn key<K: Kept>(object: &K) -> String {
    object.named().key()
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

/// Writing what becomes of a pod that the control plane ends or marks.
pub mod fail_pod {
    use client::{Api, Meta, Patch, PatchParams};
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::{Pod as WholePod, PodCondition};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use crate::kept::Pod;
    use crate::pods;

    /// Writes phase and conditions, whatever else has changed meanwhile; the uid guards against a namesake.
    ///
    /// # Errors
    /// The call's.
    pub async fn patch_status(api: &Api<WholePod>, pod: &WholePod) -> client::Result<()> {
        let status = pod.status.clone().unwrap_or_default();
        let mut changes =
            json!({"conditions": status.conditions, "observedGeneration": pod.metadata.generation});
        if let Some(phase) = status.phase {
            changes["phase"] = json!(phase);
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": changes}));
        api.patch_unread(pod.name(), "status", &patch, &PatchParams::default()).await
    }

    /// A condition for a patch of the pod's conditions, in place of the one of its type; nothing if the pod has it
    /// already. The transition time moves only with the status. Upstream: UpdatePodCondition.
    pub fn condition(pod: &Pod, mut new: PodCondition, now: Timestamp) -> Option<Value> {
        let old = pods::condition(pod, &new.type_);
        let same = old.filter(|c| c.status == new.status);
        if same.is_some_and(|c| c.reason.as_deref() == new.reason.as_deref()) {
            return None;
        }
        new.last_transition_time = match same {
            Some(old) => old.last_transition_time.map(|since| Time(since.at())),
            None => Some(Time(now)),
        };
        let mut whole = json!(new);
        // What the patch does not name would stay.
        for field in ["reason", "message", "lastProbeTime", "observedGeneration"] {
            if old.is_some() && whole.get(field).is_none() {
                whole[field] = Value::Null;
            }
        }
        Some(whole)
    }

    /// Writes changes of the status. The uid guards against a namesake, the version, where it is to, against changes that
    /// the cache does not show.
    ///
    /// # Errors
    /// The call's.
    pub async fn patch(api: &Api<Pod>, pod: &Pod, changes: Value, as_seen: bool) -> client::Result<()> {
        let version = pod.metadata.resource_version.as_deref().filter(|_| as_seen);
        let mut metadata = json!({"uid": pod.uid()});
        if let Some(version) = version {
            metadata["resourceVersion"] = json!(version);
        }
        let patch = Patch::Strategic(json!({"metadata": metadata, "status": changes}));
        api.patch_unread(pod.name(), "status", &patch, &PatchParams::default()).await
    }
}
