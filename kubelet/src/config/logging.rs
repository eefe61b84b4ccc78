//! The `logging` part of the configuration under the "Logs" flags. Upstream: component-base/logs/api/v1, v1.37.

use component::features::{Gate, Gates};
use component::flags::FlagSet;
use component::logs;
use serde_json::Value;

/// Reads it; a flag that is given wins.
///
/// # Errors
/// Upstream's texts for what is not supported, and unknown fields.
pub fn read(document: &Value, flags: &FlagSet, gates: &Gates) -> Result<logs::Options, Vec<String>> {
    let mut options = logs::Options::from_flags(flags, gates)?;
    let mut problems = Vec::new();
    let Some(fields) = document.as_object() else { return Ok(options) };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("format", Value::String(text)) if !flags.changed("logging-format") => match text.as_str() {
                "" | "text" => options.format = logs::Format::Text,
                "json" if gates.enabled(Gate::LoggingBetaOptions) => options.format = logs::Format::Json,
                "json" => problems.push(
                    "logging.format: Forbidden: Log format json is disabled, see LoggingBetaOptions feature"
                        .to_owned(),
                ),
                other => {
                    problems.push(format!("logging.format: Invalid value: {other:?}: Unsupported log format"))
                }
            },
            ("verbosity", Value::Number(level)) if !flags.changed("v") => {
                options.verbosity = level.as_i64().and_then(|v| i32::try_from(v).ok()).unwrap_or(i32::MAX);
            }
            ("vmodule", Value::Array(rules)) if !flags.changed("vmodule") => {
                let text = |rule: &Value, key: &str| match rule.get(key) {
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                let rule = |r: &Value| format!("{}={}", text(r, "filePattern"), text(r, "verbosity"));
                options.vmodule = rules.iter().map(rule).collect::<Vec<_>>().join(",");
            }
            ("options", Value::Object(inner)) => {
                let split = |kind: &str| {
                    inner.get(kind).and_then(|o| o.get("splitStream")) == Some(&Value::Bool(true))
                };
                if (split("text") || split("json")) && !gates.enabled(Gate::LoggingAlphaOptions) {
                    problems.push(
                        "logging.options: Forbidden: Feature LoggingAlphaOptions is disabled".to_owned(),
                    );
                } else if split("text") || split("json") {
                    options.output = logs::Output::Split;
                }
            }
            // Lines are written at once, so there is nothing to flush.
            ("flushFrequency" | "format" | "verbosity" | "vmodule", _) => {}
            (other, _) => problems.push(format!("strict decoding error: unknown field \"logging.{other}\"")),
        }
    }
    if problems.is_empty() { Ok(options) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(document: &Value, args: &[&str]) -> Result<logs::Options, Vec<String>> {
        let mut flags = crate::options::COMMAND.flag_set();
        flags.parse(args.iter().map(|a| (*a).to_owned())).unwrap();
        read(document, &flags, &Gates::default())
    }

    #[test]
    fn reads() {
        let found =
            with(&json!({"format": "json", "verbosity": 4, "flushFrequency": 5000000000i64}), &[]).unwrap();
        assert!(matches!(found.format, logs::Format::Json));
        assert_eq!(found.verbosity, 4);
        assert_eq!(with(&json!({"verbosity": 4}), &["-v=2"]).unwrap().verbosity, 2);
        let rules = json!({"vmodule": [{"filePattern": "a*", "verbosity": 3}]});
        assert_eq!(with(&rules, &[]).unwrap().vmodule, "a*=3");
        assert_eq!(with(&json!({"format": "xml", "bogus": 1}), &[]).unwrap_err().len(), 2);
    }
}
