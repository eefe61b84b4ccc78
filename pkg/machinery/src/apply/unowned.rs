//! Merging a partial object into another without anybody coming to own its fields, as mutating admission policies do.
//! Upstream: `k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch/smd.go`.

use super::path::{PathElement, display};
use super::schema::{Schema, TypeRef};
use super::typed::{Duplicates, merge, validate};
use crate::value::Value;

/// Merges `patch` into `live`, both of the type `tr` and canonical.
///
/// # Errors
/// When either does not fit the type, or when the patch holds something that is one value as a whole: a patch could only
/// replace it.
pub fn merge_unowned(schema: &Schema, tr: TypeRef, live: &Value, patch: &Value) -> Result<Value, String> {
    validate(schema, tr, patch, Duplicates::Refused)
        .map_err(|e| format!("failed to convert patch object to typed object: {e}"))?;
    let mut atomics = Vec::new();
    find_atomics(schema, tr, patch, &mut Vec::new(), &mut atomics);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"
        ));
    }
    validate(schema, tr, live, Duplicates::Allowed)
        .map_err(|e| format!("failed to convert original object to typed object: {e}"))?;
    merge(schema, tr, live, patch).map_err(|e| format!("failed to merge patch: {e}"))
}

fn find_atomics(schema: &Schema, tr: TypeRef, v: &Value, path: &mut Vec<PathElement>, out: &mut Vec<String>) {
    let Some(resolved) = schema.resolve(tr) else { return };
    match (v, &resolved.atom.map, &resolved.atom.list) {
        (Value::Map(entries), Some(map), _) => {
            if resolved.map_is_atomic(map) {
                out.push(display(path));
            }
            for (name, value) in entries {
                let Some(field) = map.field(name) else { continue };
                path.push(PathElement::Field(name.clone()));
                find_atomics(schema, field.ty, value, path, out);
                path.pop();
            }
        }
        (Value::List(items), _, Some(list)) => {
            if resolved.list_is_atomic(list) {
                out.push(display(path));
            }
            for (i, item) in (0_i64..).zip(items.iter()) {
                path.push(PathElement::Index(i));
                find_atomics(schema, list.element, item, path, out);
                path.pop();
            }
        }
        _ => {}
    }
}
