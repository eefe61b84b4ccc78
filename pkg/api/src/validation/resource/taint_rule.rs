//! Rules that taint devices. Upstream: `pkg/apis/resource/validation/validation.go` `ValidateDeviceTaintRule`.

use machinery::Value;

use super::{device, given, label, pool_name, text};
use crate::validation::core::volume_source::driver_name;
use crate::validation::field::{Bad, Error, Path};

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];
/// `resource.DeviceTaintRuleStatusMaxConditions`.
pub const CONDITIONS_MAX: usize = 8;

/// What is tainted and how. An effect that did not change was good once.
pub fn validate_spec(rule: &Value, old: Option<&Value>) -> Vec<Error> {
    let spec = Path::new("spec");
    let (selector, path) = (given(rule, &["spec", "deviceSelector"]), spec.child("deviceSelector"));
    let part = |name: &str| selector.and_then(|s| given(s, &[name])).and_then(Value::as_str);
    let mut errors = Vec::new();
    if let Some(driver) = part("driver") {
        errors.extend(driver_name(driver, &path.child("driver")));
    }
    if let Some(pool) = part("pool") {
        errors.extend(pool_name(pool, &path.child("pool")));
    }
    if let Some(device) = part("device") {
        errors.extend(label(device, &path.child("device")));
    }
    let taint = |rule: &Value| rule.get_path(&["spec", "taint"]).cloned().unwrap_or_default();
    let (new, path) = (taint(rule), spec.child("taint"));
    errors.extend(device::validate_taint(&new, &path));
    let effect = text(&new, "effect");
    let at = path.child("effect");
    match effect {
        effect if old.is_some_and(|old| text(&taint(old), "effect") == effect) => {}
        "" => errors.push(Error::required(&at, "").covered()),
        effect if EFFECTS.contains(&effect) => {}
        effect => errors.push(Error::not_supported(&at, Bad::enumerated(effect), EFFECTS).covered()),
    }
    errors
}
