//! AppArmor profiles that a new pod names by annotations, as fields.
//! Upstream: `pkg/registry/core/pod/strategy.go` `applyAppArmorVersionSkew`.

use machinery::{Map, Value};

use crate::strategy::Call;

const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
/// `validation.MaxLocalhostProfileLength`.
const PROFILE_MAX: usize = 4095;

/// Gives containers the profiles of their annotations, with a warning for each that was told by annotation alone.
pub fn fields_from_annotations(call: &Call<'_>, pod: &mut Value) {
    let annotations = match pod.map_at(&["metadata", "annotations"]) {
        Some(annotations) if annotations.keys().any(|k| k.as_str().starts_with(ANNOTATION)) => {
            annotations.clone()
        }
        _ => return,
    };
    if pod.str_at(&["spec", "os", "name"]) == Some("windows") {
        return;
    }
    let own = pod.get_path(&["spec", "securityContext", "appArmorProfile"]).cloned().unwrap_or_default();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let Some(Value::List(containers)) = pod.get_path_mut(&["spec", list]) else { continue };
        for container in containers.iter_mut() {
            let key = format!("{ANNOTATION}{}", container.str_at(&["name"]).unwrap_or_default());
            let Some(said) = annotations.get(&key).and_then(Value::as_str) else { continue };
            if apply(container, said, &own) {
                call.warn(format!(
                    "metadata.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
                ));
            }
        }
    }
}

/// Whether the annotation of a container is worth a warning.
fn apply(container: &mut Value, said: &str, pod_profile: &Value) -> bool {
    let at = ["securityContext", "appArmorProfile"];
    if container.get_path(&at).is_some_and(|p| !p.is_null()) {
        return false;
    }
    let Some(profile) = profile(said) else { return true };
    if profile.semantic_eq(pod_profile) {
        return false;
    }
    // The shape was checked on decoding.
    let _ = container.set_path(&at, profile);
    true
}

/// The profile that an annotation names, if it is a valid one.
fn profile(said: &str) -> Option<Value> {
    let mut profile = Map::new();
    match said {
        "unconfined" => profile.insert("type", "Unconfined"),
        "runtime/default" => profile.insert("type", "RuntimeDefault"),
        _ => {
            let local = said.strip_prefix("localhost/")?;
            if local.trim() != local || local.is_empty() || local.len() > PROFILE_MAX {
                return None;
            }
            profile.insert("localhostProfile", local);
            profile.insert("type", "Localhost")
        }
    };
    Some(profile.into())
}
