//! Fields of the configuration that this kubelet does not act upon: refused, or without effect for a reason.
//!
//! Every other field of [`super::table`] is read into [`super::Settings`]; a test keeps the two lists complete, so that no
//! field is accepted and then forgotten. The same for flags that belong to no field.

use serde_json::Value;

use super::load::get;

/// What becomes of a field.
#[derive(Clone, Copy, Debug)]
pub enum Support {
    /// Accepted; the reason why there is nothing to do. Values other than the default are logged once.
    NoEffect(&'static str),
    /// Values (as JSON) other than these are refused; absent and empty ones are always fine. Then what to do instead.
    Only(&'static [&'static str], &'static str),
}

use Support::{NoEffect, Only};

const GO: &str = "there is no Go runtime to profile";

/// Fields, by path.
pub const FIELDS: &[(&str, Support)] = &[
    ("enableContentionProfiling", NoEffect(GO)),
    ("enableProfilingHandler", NoEffect(GO)),
    ("hairpinMode", NoEffect("the container runtime's network plugin decides, upstream too since 1.24")),
    ("runOnce", Only(&["false"], "Runonce mode has been deprecated and should not be set")),
    ("iptablesMasqueradeBit", NoEffect("no rules are made with it, upstream neither since 1.28")),
    ("iptablesDropBit", NoEffect("no rules are made with it, upstream neither since 1.28")),
    ("containerLogMaxWorkers", NoEffect("logs are rotated one after the other, which is within every limit")),
    (
        "volumePluginDir",
        NoEffect("flexVolume plugins are not supported; pods with such volumes wait with FailedMount"),
    ),
];

/// Flags that belong to no field and that nothing reads.
pub const FLAGS: &[(&str, Support)] = &[
    ("cloud-provider", Only(&["", "external"], "in-tree cloud providers are gone; use external")),
    ("housekeeping-interval", NoEffect("containers are measured when somebody asks")),
];

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Fields that ask for what this kubelet does not do.
pub fn problems(document: &Value) -> Vec<String> {
    let one = |(path, support): &(&str, Support)| {
        let Only(accepted, instead) = support else { return None };
        let value = get(document, path).filter(|value| !is_empty(value))?;
        let fine = accepted.iter().any(|text| serde_json::from_str::<Value>(text).is_ok_and(|v| v == *value));
        (!fine).then(|| format!("invalid configuration: {path}: {value}: {instead}"))
    };
    FIELDS.iter().filter_map(one).collect()
}

/// Flags that ask for what this kubelet does not do.
pub fn flag_problems(flags: &component::flags::FlagSet) -> Vec<String> {
    let one = |(name, support): &(&str, Support)| {
        let Only(accepted, instead) = support else { return None };
        let value = flags.rendered().remove(*name).filter(|_| flags.changed(name))?;
        (!accepted.contains(&value.as_str())).then(|| format!("--{name}={value}: {instead}"))
    };
    FLAGS.iter().filter_map(one).collect()
}

/// Says once what was set without effect.
pub fn remark(document: &Value, flags: &component::flags::FlagSet) {
    for (path, support) in FIELDS {
        let NoEffect(why) = support else { continue };
        let default = super::table::ROWS.iter().find(|row| row.path == *path).and_then(|row| row.default);
        let default =
            default.and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or(Value::Null);
        if let Some(value) =
            get(document, path).filter(|v| !is_empty(v) && **v != default && **v != Value::Bool(false))
        {
            tracing::warn!(field = path, %value, why, "A field of the configuration has no effect");
        }
    }
    for (name, support) in FLAGS {
        if let (NoEffect(why), true) = (support, flags.changed(name)) {
            tracing::warn!(flag = name, why, "A flag has no effect");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::ROWS;
    use super::*;
    use crate::config::Settings;
    use serde_json::json;

    fn has(document: &Value, path: &str) -> bool {
        path.split('.').try_fold(document, |at, key| at.get(key)).is_some()
    }

    /// A field is read, or refused, or explained; none is forgotten.
    #[test]
    fn every_field_is_dealt_with() {
        let read = serde_json::to_value(Settings::default()).unwrap();
        for row in ROWS {
            let listed = FIELDS.iter().filter(|(path, _)| *path == row.path).count();
            let settings = usize::from(has(&read, row.path));
            assert_eq!(listed + settings, 1, "{}", row.path);
        }
        assert!(FIELDS.iter().all(|(path, _)| ROWS.iter().any(|row| row.path == *path)));
    }

    #[test]
    fn every_flag_is_dealt_with() {
        let own = include_str!("../options.rs");
        let shared = [
            "help",
            "version",
            "config",
            "config-dir",
            "v",
            "vmodule",
            "log-flush-frequency",
            "logging-format",
            "log-json-info-buffer-size",
            "log-json-split-stream",
            "log-text-info-buffer-size",
            "log-text-split-stream",
            "feature-gates",
        ];
        for flag in crate::flags::SECTIONS.iter().flat_map(|s| s.flags) {
            let known = shared.contains(&flag.name)
                || ROWS.iter().any(|row| row.flag == Some(flag.name))
                || FLAGS.iter().any(|(name, _)| *name == flag.name)
                || own.contains(&format!("\"{}\"", flag.name));
            assert!(known, "--{}", flag.name);
        }
    }

    #[test]
    fn refuses_clearly() {
        assert_eq!(problems(&json!({"runOnce": false})), [""; 0]);
        let found = problems(&json!({"runOnce": true}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("invalid configuration: runOnce: true: Runonce mode has"), "{found:?}");
    }
}
