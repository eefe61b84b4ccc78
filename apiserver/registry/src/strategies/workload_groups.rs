//! scheduling.k8s.io: workloads, pod groups and composite pod groups.
//!
//! Fields of features that are off (topology, claims of groups, preemption policies, composite groups) are dropped where
//! the stored object does not use them.
//! Upstream: `pkg/registry/scheduling/{workload,podgroup,compositepodgroup}/strategy.go`.

use ::api::validation::field::{Error as FieldError, Path};
use ::api::validation::scheduling;
use machinery::{List, Value};

use super::{conditions, with_declared};
use crate::gates::Gates;
use crate::strategy::{
    Call, Strategy, generic_prepare_for_create, generic_prepare_for_update, reset_metadata_for_status,
    validate_kube_metadata,
};

const GROUPS: &str = "podGroupTemplates";
const COMPOSITES: &str = "compositePodGroupTemplates";

fn given(holder: Option<&Value>, field: &str) -> bool {
    match holder.and_then(|h| h.get(field)) {
        None | Some(Value::Null) => false,
        Some(Value::List(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

/// Fields of a feature, and whether it is on.
type Gated = (&'static str, fn(&Gates) -> bool);

const CONSTRAINTS: Gated = ("schedulingConstraints", |gates| gates.topology_aware_workload_scheduling);
const CLAIMS: Gated = ("resourceClaims", |gates| gates.dra_workload_resource_claims);
const PREEMPTION: Gated = ("preemptionPolicy", |gates| gates.pod_group_preemption_policy);
const PARENT: Gated = ("parentCompositePodGroupName", |gates| gates.composite_pod_group);
const NESTED: Gated = (COMPOSITES, |gates| gates.composite_pod_group);

/// Removes fields that the old holder does not have either.
fn drop_new(gates: &Gates, holder: &mut Value, old: Option<&Value>, fields: &[Gated]) {
    for (field, _) in fields.iter().filter(|(field, on)| !on(gates) && !given(old, field)) {
        holder.remove_path(&[*field]);
    }
}

fn gates<'c>(call: &Call<'c>) -> &'c Gates {
    &call.core.settings.gates
}

fn items(holder: Option<&Value>, field: &str) -> List {
    holder.and_then(|h| h.list_at(&[field])).cloned().unwrap_or_default()
}

/// Changes every item of a list of the holder.
fn each(holder: &mut Value, field: &str, mut change: impl FnMut(usize, &mut Value)) {
    if let Some(Value::List(list)) = holder.get_path_mut(&[field]) {
        list.iter_mut().enumerate().for_each(|(i, item)| change(i, item));
    }
}

/// `dropDisabledPodGroupTemplatesFields`: templates are told apart by their places.
fn drop_from_groups(gates: &Gates, holder: &mut Value, old: Option<&Value>) {
    let olds = items(old, GROUPS);
    each(holder, GROUPS, |i, template| {
        drop_new(gates, template, olds.get(i), &[CONSTRAINTS, CLAIMS, PREEMPTION]);
    });
}

/// `dropDisabledCompositePodGroupTemplatesFields`: templates are told apart by their names.
fn drop_from_composites(gates: &Gates, holder: &mut Value, old: Option<&Value>) {
    drop_new(gates, holder, old, &[NESTED]);
    let olds = items(old, COMPOSITES);
    each(holder, COMPOSITES, |_, template| {
        let name = template.str_at(&["name"]).unwrap_or("").to_owned();
        let old = olds.iter().rev().find(|o| o.str_at(&["name"]).unwrap_or("") == name);
        drop_new(gates, template, old, &[PREEMPTION]);
        drop_from_composites(gates, template, old);
        drop_from_groups(gates, template, old);
    });
}

fn with_spec(object: &mut Value, old: Option<&Value>, change: impl FnOnce(&mut Value, Option<&Value>)) {
    if let Some(spec) = object.get_path_mut(&["spec"]) {
        change(spec, old.and_then(|o| o.get("spec")));
    }
}

fn drop_from_workload(call: &Call<'_>, workload: &mut Value, old: Option<&Value>) {
    let gates = gates(call);
    with_spec(workload, old, |spec, old| {
        drop_from_groups(gates, spec, old);
        drop_from_composites(gates, spec, old);
    });
}

fn spec(object: &Value) -> Value {
    object.get("spec").cloned().unwrap_or_default()
}

/// Workloads.
pub struct Workloads;

impl Strategy for Workloads {
    fn prepare_for_create(&self, call: &Call<'_>, workload: &mut Value) {
        drop_from_workload(call, workload, None);
    }

    fn validate(&self, call: &Call<'_>, workload: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, workload, self.name_rule());
        errors.extend(scheduling::validate_workload_spec(&spec(workload), &Path::new("spec")));
        with_declared(call, errors, workload, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, workload: &mut Value, old: &Value) {
        drop_from_workload(call, workload, Some(old));
    }

    fn validate_update(&self, call: &Call<'_>, workload: &Value, old: &Value) -> Vec<FieldError> {
        let errors = scheduling::validate_workload_spec(&spec(workload), &Path::new("spec"));
        with_declared(call, errors, workload, Some(old))
    }
}

/// Pod groups.
pub struct PodGroups;

const OF_GROUP: &[Gated] = &[CONSTRAINTS, CLAIMS, PREEMPTION, PARENT];

impl Strategy for PodGroups {
    fn prepare_for_create(&self, call: &Call<'_>, group: &mut Value) {
        generic_prepare_for_create(call, group);
        with_spec(group, None, |spec, old| drop_new(gates(call), spec, old, OF_GROUP));
    }

    fn validate(&self, call: &Call<'_>, group: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, group, self.name_rule());
        errors.extend(scheduling::validate_pod_group_spec(&spec(group)));
        with_declared(call, errors, group, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, group: &mut Value, old: &Value) {
        generic_prepare_for_update(call, group, old);
        if !call.is_status() {
            with_spec(group, Some(old), |spec, old| drop_new(gates(call), spec, old, OF_GROUP));
            return;
        }
        reset_metadata_for_status(group, old);
        if !(gates(call).dra_workload_resource_claims || given(old.get("spec"), "resourceClaims")) {
            group.remove_path(&["status", "resourceClaimStatuses"]);
        }
    }

    fn validate_update(&self, call: &Call<'_>, group: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if call.is_status() {
            errors.extend(conditions(group));
            errors.extend(scheduling::validate_claim_statuses(group));
        }
        with_declared(call, errors, group, Some(old))
    }
}

/// Composite pod groups.
pub struct CompositePodGroups;

impl Strategy for CompositePodGroups {
    fn prepare_for_create(&self, call: &Call<'_>, group: &mut Value) {
        generic_prepare_for_create(call, group);
        with_spec(group, None, |spec, old| drop_new(gates(call), spec, old, &[PREEMPTION]));
    }

    fn validate(&self, call: &Call<'_>, group: &Value) -> Vec<FieldError> {
        with_declared(call, validate_kube_metadata(call, group, self.name_rule()), group, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, group: &mut Value, old: &Value) {
        generic_prepare_for_update(call, group, old);
        if call.is_status() {
            reset_metadata_for_status(group, old);
        } else {
            with_spec(group, Some(old), |spec, old| drop_new(gates(call), spec, old, &[PREEMPTION]));
        }
    }

    fn validate_update(&self, call: &Call<'_>, group: &Value, old: &Value) -> Vec<FieldError> {
        let errors = if call.is_status() { conditions(group) } else { Vec::new() };
        with_declared(call, errors, group, Some(old))
    }
}
