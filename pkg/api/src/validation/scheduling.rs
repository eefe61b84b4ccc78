//! scheduling.k8s.io: workloads and pod groups. What the types' own rules judge is judged there alone.
//!
//! Works on trees, whose templates nest; the tree of templates is walked no deeper than it may be.
//! Upstream: `pkg/apis/scheduling/validation/validation.go`.

use std::collections::HashSet;

use machinery::Value;

use super::field::{Bad, Error, Path};

/// `WorkloadMaxTemplateDepth`.
const MAX_DEPTH: usize = 4;
const GROUPS: &str = "podGroupTemplates";
const COMPOSITES: &str = "compositePodGroupTemplates";

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.list_at(&[field]).map_or(&[], |l| l.as_slice())
}

fn name(template: &Value) -> &str {
    template.str_at(&["name"]).unwrap_or("")
}

/// `ValidateWorkloadSpec`.
pub fn validate_workload_spec(spec: &Value, path: &Path) -> Vec<Error> {
    let mut names: HashSet<&str> = list(spec, GROUPS).iter().map(name).collect();
    let mut errors = Vec::new();
    composite_names(spec, path, &mut names, &mut errors);
    let (composites, at) = (list(spec, COMPOSITES), path.child(COMPOSITES));
    for (i, composite) in composites.iter().enumerate() {
        if !shallow(composite, 1) {
            let printed = composite.get(COMPOSITES).map_or_else(|| "null".into(), ToString::to_string);
            let detail = format!("maximum template hierarchy depth is {MAX_DEPTH}");
            errors.push(Error::invalid(&at.index(i), Bad::Raw(printed), detail));
        }
    }
    errors.extend(priorities(spec, path));
    for (i, composite) in composites.iter().enumerate() {
        childless(composite, &at.index(i), &mut errors);
    }
    errors
}

/// Names stand once in the whole tree; those of one list are judged by the list's own rules
/// (`validateCompositePodGroupTemplateListNames`).
fn composite_names<'v>(
    parent: &'v Value,
    path: &Path,
    names: &mut HashSet<&'v str>,
    errors: &mut Vec<Error>,
) {
    let (children, at) = (list(parent, COMPOSITES), path.child(COMPOSITES));
    repeated(children, &at, names, errors);
    for (i, child) in children.iter().enumerate() {
        let at = at.index(i);
        repeated(list(child, GROUPS), &at.child(GROUPS), names, errors);
        composite_names(child, &at, names, errors);
    }
}

fn repeated<'v>(templates: &'v [Value], at: &Path, names: &mut HashSet<&'v str>, errors: &mut Vec<Error>) {
    for (i, template) in templates.iter().enumerate() {
        if names.contains(name(template)) {
            errors.push(Error::duplicate(&at.index(i).child("name"), name(template)));
        }
    }
    names.extend(templates.iter().map(name));
}

fn shallow(composite: &Value, depth: usize) -> bool {
    depth < MAX_DEPTH && list(composite, COMPOSITES).iter().all(|child| shallow(child, depth + 1))
}

/// All templates have one priority (`validateWorkloadPriority`).
fn priorities(spec: &Value, path: &Path) -> Option<Error> {
    let of = |template: &Value| {
        let class = template.str_at(&["priorityClassName"]).unwrap_or("").to_owned();
        (class, template.i64_at(&["priority"]))
    };
    let mut first = None;
    let mut alike = |template: &Value| first.get_or_insert_with(|| of(template)) == &of(template);
    let wrong = |detail: &str| Some(Error::invalid(path, Bad::Raw("null".into()), detail));
    if !list(spec, GROUPS).iter().all(&mut alike) {
        return wrong("detected multiple priority configurations");
    }
    if !list(spec, COMPOSITES).iter().all(|composite| all_alike(composite, &mut alike)) {
        return wrong(
            "all priority and priorityClassName values must be identical, detected multiple values",
        );
    }
    None
}

fn all_alike(composite: &Value, alike: &mut dyn FnMut(&Value) -> bool) -> bool {
    alike(composite)
        && list(composite, COMPOSITES).iter().all(|child| all_alike(child, alike))
        && list(composite, GROUPS).iter().all(alike)
}

/// `validateCompositePodGroupTemplateHasAtLeastOneChild`.
fn childless(composite: &Value, path: &Path, errors: &mut Vec<Error>) {
    let children = list(composite, COMPOSITES);
    if list(composite, GROUPS).is_empty() && children.is_empty() {
        let detail = "must have at least one child PodGroupTemplate or CompositePodGroupTemplate";
        errors.push(Error::invalid(path, name(composite), detail));
    }
    for (i, child) in children.iter().enumerate() {
        childless(child, &path.child(COMPOSITES).index(i), errors);
    }
}

/// `ValidatePodGroup`, metadata apart.
pub fn validate_pod_group_spec(spec: &Value) -> Option<Error> {
    let given = |field: &str| spec.get(field).is_some_and(|v| !v.is_null());
    let lacks = given("parentCompositePodGroupName") && !given("workloadRef");
    let path = Path::new("spec");
    let at = path.child("workloadRef");
    lacks.then(|| Error::required(&at, "must be set when parentCompositePodGroupName is set"))
}

/// `validatePodGroupResourceClaimStatuses`.
pub fn validate_claim_statuses(group: &Value) -> Vec<Error> {
    let claims = group.list_at(&["spec", "resourceClaims"]).map_or(&[][..], |l| l.as_slice());
    let statuses = group.list_at(&["status", "resourceClaimStatuses"]).map_or(&[][..], |l| l.as_slice());
    let status = Path::new("status");
    let path = status.child("resourceClaimStatuses");
    let unknown = |status: &Value| !claims.iter().any(|claim| name(claim) == name(status));
    let detail = "must match the name of an entry in `spec.resourceClaims`";
    (statuses.iter().enumerate().filter(|(_, status)| unknown(status)))
        .map(|(i, status)| Error::invalid(&path.index(i).child("name"), name(status), detail))
        .collect()
}
