//! Fields of features that are off by default: dropped from what is written, unless the stored object uses them.
//! Upstream: `pkg/api/pod/util.go` `DropDisabledPodFields`, `dropDisabledPodStatusFields`; `pkg/api/job/util.go`
//! `DropDisabledFields`.

use machinery::Value;

use crate::gates::Gates;
use crate::strategy::Call;

/// Where the fields of one feature are; `*` stands for every item of a list.
type Feature = &'static [&'static str];

const STOP_SIGNAL: Feature = &["{containers}/lifecycle/stopSignal"];

/// Of a pod specification.
const SPEC: &[Feature] = &[
    STOP_SIGNAL,
    // H2CContainerProbe
    &[
        "{containers}/livenessProbe/httpGet/protocol",
        "{containers}/readinessProbe/httpGet/protocol",
        "{containers}/startupProbe/httpGet/protocol",
        "{containers}/lifecycle/postStart/httpGet/protocol",
        "{containers}/lifecycle/preStop/httpGet/protocol",
    ],
    // GRPCContainerProbeTLS
    &[
        "{containers}/livenessProbe/grpc/mode",
        "{containers}/readinessProbe/grpc/mode",
        "{containers}/startupProbe/grpc/mode",
    ],
    // VolumeBindMountOptions
    &["{containers}/volumeMounts/*/bindMountOptions"],
    // EmptyDirVolumeMode
    &["volumes/*/emptyDir/mode"],
    // AtomicWriteVolumeUserFields
    &[
        "volumes/*/secret/defaultUser",
        "volumes/*/secret/items/*/user",
        "volumes/*/configMap/defaultUser",
        "volumes/*/configMap/items/*/user",
        "volumes/*/downwardAPI/defaultUser",
        "volumes/*/downwardAPI/items/*/user",
        "volumes/*/projected/defaultUser",
        "volumes/*/projected/sources/*/secret/items/*/user",
        "volumes/*/projected/sources/*/downwardAPI/items/*/user",
        "volumes/*/projected/sources/*/configMap/items/*/user",
        "volumes/*/projected/sources/*/serviceAccountToken/user",
        "volumes/*/projected/sources/*/clusterTrustBundle/user",
        "volumes/*/projected/sources/*/podCertificate/user",
    ],
    GROUP,
    RESPONDERS,
];

/// GenericWorkload
const GROUP: Feature = &["schedulingGroup"];

/// EvictionRequestAPI
const RESPONDERS: Feature = &["evictionResponders"];

/// Of the status of a pod.
const STATUS: &[Feature] = &[
    // ImageVolumeWithDigest
    &[
        "containerStatuses/*/volumeMounts/*/volumeStatus",
        "initContainerStatuses/*/volumeMounts/*/volumeStatus",
        "ephemeralContainerStatuses/*/volumeMounts/*/volumeStatus",
    ],
    // DRANodeAllocatableResources
    &["nodeAllocatableResourceClaimStatuses"],
    // CSIVolumeHealth
    &["volumeHealth"],
];

/// WorkloadWithJob, of the specification of a job.
const SCHEDULING: Feature = &["scheduling"];

const CONTAINERS: &[&str] = &["containers", "initContainers", "ephemeralContainers"];

/// Annotations that once held init containers.
const INIT_CONTAINERS: &[&str] = &[
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// Drops the fields from a pod, or from a pod template at a path of the object.
pub fn drop_from_pod(call: &Call<'_>, object: &mut Value, old: Option<&Value>, template: &[&str]) {
    drop_disabled(&call.core.settings.gates, object, old, template);
}

fn drop_disabled(gates: &Gates, object: &mut Value, old: Option<&Value>, template: &[&str]) {
    let old = old.and_then(|o| o.get_path(template)).and_then(|t| t.get("spec"));
    let Some(pod) = object.get_path_mut(template) else { return };
    if let Some(Value::Map(annotations)) = pod.get_path_mut(&["metadata", "annotations"]) {
        INIT_CONTAINERS.iter().for_each(|key| drop(annotations.remove(key)));
    }
    let Some(spec) = pod.get_mut("spec") else { return };
    let signals = uses(spec, STOP_SIGNAL);
    let off = |feature: &&Feature| match **feature {
        GROUP => !gates.generic_workload,
        RESPONDERS => !gates.eviction_request_api,
        _ => true,
    };
    drop_unused(spec, old, SPEC.iter().filter(off));
    if signals && !uses(spec, STOP_SIGNAL) {
        drop_empty_lifecycles(spec);
    }
}

/// Drops the fields from the status of a pod.
pub fn drop_from_pod_status(pod: &mut Value, old: &Value) {
    if let Some(status) = pod.get_mut("status") {
        drop_unused(status, old.get("status"), STATUS.iter());
    }
}

/// Drops what else belongs to a job at a path of the object.
pub fn drop_from_job(object: &mut Value, old: Option<&Value>, spec: &[&str]) {
    let old = old.and_then(|o| o.get_path(spec));
    if let Some(spec) = object.get_path_mut(spec) {
        drop_unused(spec, old, std::iter::once(&SCHEDULING));
    }
}

fn drop_unused<'f>(new: &mut Value, old: Option<&Value>, features: impl Iterator<Item = &'f Feature>) {
    for feature in features {
        if uses(new, feature) && old.is_none_or(|old| !uses(old, feature)) {
            each(feature, &mut |steps| remove(new, steps));
        }
    }
}

fn uses(value: &Value, feature: Feature) -> bool {
    feature.iter().any(|place| match place.strip_prefix("{containers}/") {
        None => is_set(value, place.split('/')),
        Some(below) => CONTAINERS.iter().any(|list| {
            let containers = value.list_at(&[list]).into_iter().flat_map(|l| l.iter());
            containers.into_iter().any(|c| is_set(c, below.split('/')))
        }),
    })
}

/// The places of a feature, as steps.
fn each(feature: Feature, tell: &mut dyn FnMut(&[&str])) {
    for place in feature {
        match place.strip_prefix("{containers}/") {
            None => tell(&place.split('/').collect::<Vec<_>>()),
            Some(below) => {
                for list in CONTAINERS {
                    let steps: Vec<&str> = [*list, "*"].into_iter().chain(below.split('/')).collect();
                    tell(&steps);
                }
            }
        }
    }
}

fn is_set(value: &Value, mut steps: std::str::Split<'_, char>) -> bool {
    match (steps.next(), value) {
        (None, Value::List(list)) => !list.is_empty(),
        (None, value) => !value.is_null(),
        (Some("*"), Value::List(list)) => list.iter().any(|item| is_set(item, steps.clone())),
        (Some(field), value) => value.get(field).is_some_and(|v| is_set(v, steps)),
    }
}

fn remove(value: &mut Value, steps: &[&str]) {
    match (steps, value) {
        (["*", rest @ ..], Value::List(list)) => list.iter_mut().for_each(|item| remove(item, rest)),
        ([field], Value::Map(map)) => drop(map.remove(field)),
        ([field, rest @ ..], value) => {
            if let Some(below) = value.get_mut(field) {
                remove(below, rest);
            }
        }
        ([], _) => {}
    }
}

/// A lifecycle of a stop signal alone goes with it.
fn drop_empty_lifecycles(spec: &mut Value) {
    for list in CONTAINERS {
        let Some(Value::List(containers)) = spec.get_mut(list) else { continue };
        for container in containers.iter_mut() {
            let empty = |l: &Value| l.as_map().is_some_and(|l| l.values().all(Value::is_null));
            if container.get("lifecycle").is_some_and(empty) {
                container.remove_path(&["lifecycle"]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Value {
        Value::from(serde_json::from_str::<serde_json::Value>(text).unwrap())
    }

    #[test]
    fn dropped_unless_in_use() {
        let pod = r#"{"spec":{"initContainers":[{"lifecycle":{"stopSignal":"SIGUSR1"}}],
            "volumes":[{"emptyDir":{"mode":1}},{"secret":{"items":[{"user":1}]}}]}}"#;
        let mut new = tree(pod);
        drop_disabled(&Gates::default(), &mut new, None, &[]);
        let left =
            tree(r#"{"spec":{"initContainers":[{}],"volumes":[{"emptyDir":{}},{"secret":{"items":[{}]}}]}}"#);
        assert_eq!(new, left);
        let mut new = tree(pod);
        drop_disabled(
            &Gates::default(),
            &mut new,
            Some(&tree(r#"{"spec":{"volumes":[{"emptyDir":{"mode":2}}]}}"#)),
            &[],
        );
        assert_eq!(new.get_path(&["spec", "volumes"]).map(|v| v.to_string().contains("mode")), Some(true));
        assert!(!new.to_string().contains("stopSignal"));
    }

    #[test]
    fn templates_and_jobs() {
        let mut cron = tree(
            r#"{"spec":{"jobTemplate":{"spec":{"scheduling":{},"template":{"metadata":{"annotations":
            {"pod.beta.kubernetes.io/init-containers":"[]"}},"spec":{"schedulingGroup":{}}}}}}}"#,
        );
        drop_from_job(&mut cron, None, &["spec", "jobTemplate", "spec"]);
        drop_disabled(&Gates::default(), &mut cron, None, &["spec", "jobTemplate", "spec", "template"]);
        let left =
            r#"{"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"annotations":{}},"spec":{}}}}}}"#;
        assert_eq!(cron, tree(left));
    }
}
