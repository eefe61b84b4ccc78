//! flowcontrol.apiserver.k8s.io/v1. Upstream: `pkg/apis/flowcontrol/validation/validation.go`.

pub mod flow_schema;
pub mod priority_level;

use super::field::{Error, Path};

/// Condition types stand once, and are not empty.
fn conditions<'a>(types: impl Iterator<Item = &'a str>) -> Vec<Error> {
    let status = Path::new("status");
    let path = status.child("conditions");
    let mut errors = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (i, kind) in types.enumerate() {
        let at = path.index(i);
        let at = at.child("type");
        if !seen.insert(kind) {
            errors.push(Error::duplicate(&at, kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&at, ""));
        }
    }
    errors
}
