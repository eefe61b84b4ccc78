//! The annotation of client-side apply, kept in step so that users can move to server-side apply and back.
//!
//! Upstream: apimachinery util/managedfields/internal/lastapplied*.go. Only for the manager named kubectl.

use super::conflict::Conflict;
use super::schema::TypeRef;
use super::set::Set;
use super::typed::{self, Duplicates};
use super::updater::Updater;
use crate::value::{Map, Value};

pub(super) const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manager whose applies migrate the annotation.
pub(super) const MANAGER: &str = "kubectl";

/// The most bytes the annotations of an object may have.
const MAX_ANNOTATIONS: usize = 256 * 1024;

const PATH: [&str; 3] = ["metadata", "annotations", ANNOTATION];

/// The conflicts that remain when everything the annotation still describes may be taken. None if the annotation
/// does not help.
pub(super) fn remaining(
    updater: &Updater,
    live: &Value,
    version: &str,
    conflicts: &[Conflict],
) -> Option<Vec<Conflict>> {
    let allowed = allowed(updater, live, version)?;
    Some(conflicts.iter().filter(|c| !allowed.has(&c.path)).cloned().collect())
}

/// What client-side apply set and nobody changed since.
fn allowed(updater: &Updater, live: &Value, version: &str) -> Option<Set> {
    let text = live.str_at(&PATH).filter(|t| !t.is_empty())?;
    let applied = crate::json::parse(text.as_bytes()).ok()?;
    if applied.str_at(&["apiVersion"]) != Some(version) || applied.get("kind").is_none() {
        return None;
    }
    let ty: TypeRef = *updater.versions.get(version)?;
    typed::validate(&updater.schema, ty, live, Duplicates::Refused).ok()?;
    typed::validate(&updater.schema, ty, &applied, Duplicates::Refused).ok()?;
    let set = typed::to_set(&updater.schema, ty, &applied).ok()?;
    let changes = typed::compare(&updater.schema, ty, &applied, live).ok()?;
    Some(set.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
}

/// Renews the annotation of an object that has one, after its manager applied `config`.
pub(super) fn renew(object: &mut Value, config: &Value) {
    if object.str_at(&PATH).is_none_or(str::is_empty) {
        return;
    }
    let Some(text) = annotation(config) else { return };
    let Some(annotations) = object.get_path_mut(&PATH[..2]).and_then(Value::as_map_mut) else { return };
    annotations.insert(ANNOTATION, text);
    if size(annotations) > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}

fn size(annotations: &Map) -> usize {
    annotations.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum()
}

/// The configuration as the annotation records it: without the annotation, one line.
fn annotation(config: &Value) -> Option<String> {
    let mut config = config.clone();
    // Annotations that become empty stay, as upstream leaves them; what is no map of strings goes.
    match config.map_at(&PATH[..2]) {
        Some(m) if m.values().all(|v| v.as_str().is_some()) => drop(config.remove_path(&PATH)),
        _ => drop(config.remove_path(&PATH[..2])),
    }
    let mut out = Vec::new();
    crate::json::write_any(&config, &mut out);
    out.push(b'\n');
    String::from_utf8(out).ok()
}
