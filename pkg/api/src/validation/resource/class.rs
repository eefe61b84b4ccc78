//! Device classes.

use machinery::Value;

use super::{CONFIG_MAX, Compile, configuration, few, list, selectors};
use crate::validation::field::{Error, Path};

/// `validateDeviceClassSpec`. Expressions and parameters that did not change were good once.
pub fn validate_spec(class: &Value, old: Option<&Value>, compile: Compile<'_>) -> Vec<Error> {
    let path = Path::new("spec");
    let same = |field: &str| {
        let of = |v: &Value| v.get_path(&["spec", field]).cloned().unwrap_or_default();
        old.is_some_and(|old| of(old).semantic_eq(&of(class)))
    };
    let all = list(class, &["spec", "selectors"]);
    let mut errors = selectors(all, same("selectors"), compile, &path.child("selectors"));
    for (i, config) in few(list(class, &["spec", "config"]), CONFIG_MAX) {
        errors.extend(configuration(config, same("config"), &path.child("config").index(i)));
    }
    errors
}
