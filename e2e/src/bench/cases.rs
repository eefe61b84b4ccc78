//! What is scheduled. The shapes are those of upstream's scheduler_perf.

use serde_json::{Value, json};

/// A case.
pub struct Case {
    pub name: &'static str,
    /// The measured pods.
    pub spec: fn() -> Value,
    /// Pods that are there before, by the number of nodes: how many, and their spec.
    pub before: fn(usize) -> (usize, Value),
}

/// What every measured pod has for itself, under its own name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Own {
    Nothing,
    /// A bound claim with a volume of a CSI driver.
    Volume,
    /// A claim for a device.
    Device,
}

impl Case {
    /// Read off the measured pods.
    pub fn own(&self) -> Own {
        let spec = (self.spec)();
        match (spec.get("volumes"), spec.get("resourceClaims")) {
            (Some(_), _) => Own::Volume,
            (_, Some(_)) => Own::Device,
            _ => Own::Nothing,
        }
    }
}

/// Gives a pod the claims of its name.
pub fn call(spec: &mut Value, name: &str) {
    if let Some(claim) = spec.pointer_mut("/volumes/0/persistentVolumeClaim/claimName") {
        *claim = name.into();
    }
    if let Some(claim) = spec.pointer_mut("/resourceClaims/0/resourceClaimName") {
        *claim = name.into();
    }
}

/// A pod that goes anywhere.
pub fn basic() -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{ "name": "c", "image": "pause", "resources": { "requests": { "cpu": "10m", "memory": "32Mi" } } }],
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut spec = basic();
    spec[key] = value;
    spec
}

fn like(key: &str) -> Value {
    json!({ "labelSelector": { "matchLabels": { "app": "bench" } }, "topologyKey": key })
}

fn affinity() -> Value {
    let terms = [like("topology.kubernetes.io/zone")];
    with("affinity", json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } }))
}

fn anti_affinity() -> Value {
    let terms = [like("kubernetes.io/hostname")];
    with(
        "affinity",
        json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } }),
    )
}

fn preferred_anti_affinity() -> Value {
    let terms = [json!({ "weight": 1, "podAffinityTerm": like("kubernetes.io/hostname") })];
    with(
        "affinity",
        json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": terms } }),
    )
}

fn spreading() -> Value {
    let mut constraint = like("topology.kubernetes.io/zone");
    constraint["maxSkew"] = 5.into();
    constraint["whenUnsatisfiable"] = "DoNotSchedule".into();
    with("topologySpreadConstraints", json!([constraint]))
}

fn preferred_spreading() -> Value {
    let mut constraint = like("topology.kubernetes.io/zone");
    constraint["maxSkew"] = 5.into();
    constraint["whenUnsatisfiable"] = "ScheduleAnyway".into();
    with("topologySpreadConstraints", json!([constraint]))
}

fn preempting() -> Value {
    let mut spec = with("priorityClassName", "system-cluster-critical".into());
    spec["containers"][0]["resources"]["requests"] = json!({ "cpu": "3" });
    spec
}

fn volume() -> Value {
    with("volumes", json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "" } }]))
}

fn device() -> Value {
    let mut spec = with("resourceClaims", json!([{ "name": "d", "resourceClaimName": "" }]));
    spec["containers"][0]["resources"]["claims"] = json!([{ "name": "d" }]);
    spec
}

fn nothing(_nodes: usize) -> (usize, Value) {
    (0, basic())
}

fn some(_nodes: usize) -> (usize, Value) {
    (1000, basic())
}

/// Every node full of pods that may go.
fn full(nodes: usize) -> (usize, Value) {
    let mut spec = basic();
    spec["containers"][0]["resources"]["requests"] = json!({ "cpu": "1800m" });
    (2 * nodes, spec)
}

/// All cases.
pub const ALL: &[Case] = &[
    Case { name: "basic", spec: basic, before: nothing },
    Case { name: "pod-affinity", spec: affinity, before: some },
    Case { name: "pod-anti-affinity", spec: anti_affinity, before: nothing },
    Case { name: "preferred-anti-affinity", spec: preferred_anti_affinity, before: some },
    Case { name: "spreading", spec: spreading, before: some },
    Case { name: "preferred-spreading", spec: preferred_spreading, before: some },
    Case { name: "preemption", spec: preempting, before: full },
    Case { name: "volumes", spec: volume, before: nothing },
    Case { name: "devices", spec: device, before: nothing },
];
