//! Defaults of the built-in kinds, on the tree.
//!
//! Two sources, in upstream's order: the hand-written functions of a struct, then its declared defaults (`+default`
//! in the type table) and its members, in declaration order. One file per group holds the functions
//! (upstream: pkg/apis/<group>/<version>/defaults.go); [`walk`] finds out once which structs have any and visits
//! only those. Expects trees in canonical form; a struct that is not a pointer is created if something under it
//! has a default.
//!
//! Start at [`apply`]. Not here: defaults of custom resources (their schemas have them) and of configuration files.

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod autoscaling;
mod batch;
mod core;
mod discovery;
mod fields;
mod flowcontrol;
mod image;
mod networking;
mod rbac;
mod resource;
mod scheduling;
mod storage;
mod walk;

use machinery::{Map, Value};

pub use core::pod_level;

/// Feature gates that defaults depend on; [`Gates::default`] is upstream's default state.
#[derive(Clone, Debug)]
pub struct Gates {
    pub h2c_container_probe: bool,
    pub max_unavailable_stateful_set: bool,
    pub pod_group_preemption_policy: bool,
    pub pod_level_resources: bool,
    pub pod_level_resources_fix_defaulting: bool,
    pub pod_logs_query_split_streams: bool,
    pub volume_limit_scaling: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Gates {
            h2c_container_probe: false,
            max_unavailable_stateful_set: true,
            pod_group_preemption_policy: false,
            pod_level_resources: true,
            pod_level_resources_fix_defaulting: true,
            pod_logs_query_split_streams: false,
            volume_limit_scaling: true,
        }
    }
}

/// What defaults depend on besides the object.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub gates: Gates,
    /// The time of the request in RFC 3339 with seconds (device taints record it).
    pub now: &'a str,
}

/// A hand-written default function of a struct.
type Function = fn(&mut Map, &Context);

/// Sets the defaults of an object (or of each item of a list) of a built-in kind. Unknown kinds have none.
pub fn apply(object: &mut Value, api_version: &str, kind: &str, context: &Context) {
    let Some(id) = crate::types().kind(api_version, kind) else { return };
    if let Value::Map(m) = object {
        walk::apply(id, m, context);
    }
}

/// As [`apply`] for an object that was made of `known`, which has its defaults, by changing a part of it: what both
/// share in memory is not looked at.
pub fn apply_changed(object: &mut Value, known: &Value, api_version: &str, kind: &str, context: &Context) {
    let Some(id) = crate::types().kind(api_version, kind) else { return };
    if let (Value::Map(m), Value::Map(known)) = (object, known) {
        walk::apply_changed(id, m, known, context);
    }
}

/// Whether a kind has any defaults.
pub fn has_defaults(api_version: &str, kind: &str) -> bool {
    crate::types().kind(api_version, kind).is_some_and(walk::has_defaults)
}

fn functions() -> impl Iterator<Item = &'static (&'static str, Function)> {
    [
        core::FUNCTIONS,
        admissionregistration::FUNCTIONS,
        apiextensions::FUNCTIONS,
        apiregistration::FUNCTIONS,
        apps::FUNCTIONS,
        authentication::FUNCTIONS,
        autoscaling::FUNCTIONS,
        batch::FUNCTIONS,
        discovery::FUNCTIONS,
        flowcontrol::FUNCTIONS,
        networking::FUNCTIONS,
        rbac::FUNCTIONS,
        resource::FUNCTIONS,
        scheduling::FUNCTIONS,
        storage::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

/// The packages whose kinds upstream defaults. Others may hold structs with declared defaults that nobody sets.
const PACKAGES: [&str; 26] = [
    "admissionregistration/v1",
    "admissionregistration/v1alpha1",
    "admissionregistration/v1beta1",
    "apiextensions/v1",
    "apiextensions/v1beta1",
    "apiregistration/v1",
    "apps/v1",
    "authentication/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates/v1",
    "certificates/v1beta1",
    "core/v1",
    "discovery/v1",
    "flowcontrol/v1",
    "networking/v1",
    "rbac/v1",
    "resource/v1",
    "resource/v1alpha3",
    "resource/v1beta1",
    "resource/v1beta2",
    "scheduling/v1",
    "scheduling/v1alpha3",
    "scheduling/v1beta1",
    "storage/v1",
];
