//! PodTolerationRestriction: a namespace's pods get its default tolerations, and have none that it does not allow.
//! Upstream: `plugin/pkg/admission/podtolerationrestriction/admission.go`, `pkg/util/tolerations/tolerations.go`.

use ::api::validation::core::pod::validate_template;
use ::api::validation::field::{Error, Path};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec, Toleration};
use machinery::Value;
use serde::Deserialize;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;
use crate::qos;

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

/// The plugin's configuration: for namespaces without the annotations.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// What pods tolerate besides their own.
    pub default: Vec<Toleration>,
    /// What pods may tolerate; everything where it is empty.
    #[serde(rename = "whitelist")]
    pub allowed: Vec<Toleration>,
}

impl Configuration {
    /// # Errors
    /// Upstream's text.
    pub fn check(&self) -> Result<(), String> {
        let mut errors = check_list(&self.default, "podtolerationrestriction.default");
        errors.extend(check_list(&self.allowed, "podtolerationrestriction.whitelist"));
        if errors.is_empty() {
            return Ok(());
        }
        // As Go prints a list of errors.
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Err(format!("invalid config: [{}]", texts.join(" ")))
    }
}

/// What a pod could not tolerate either.
fn check_list(tolerations: &[Toleration], name: &str) -> Vec<Error> {
    let spec = PodSpec { tolerations: Some(tolerations.to_vec()), ..PodSpec::default() };
    let template = PodTemplateSpec { spec: Some(spec), ..PodTemplateSpec::default() };
    let errors = validate_template(&template, None, &Path::ROOT);
    let of_list = errors.into_iter().filter_map(|mut error| {
        error.field = format!("{name}{}", error.field.strip_prefix("spec.tolerations")?);
        Some(error)
    });
    of_list.collect()
}

/// The plugin.
#[derive(Debug, Default)]
pub struct PodTolerationRestriction(pub Configuration);

#[async_trait]
impl Plugin for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        let namespace = namespace(a).await?;
        let Some(pod) = a.object.as_mut() else { return Ok(()) };
        let mut more = Vec::new();
        if a.operation == Operation::Create {
            more = annotated(&namespace, DEFAULTS)?.unwrap_or_else(|| self.0.default.clone());
        }
        if qos::class(pod) != "BestEffort" {
            more.push(Toleration {
                key: Some("node.kubernetes.io/memory-pressure".to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoSchedule".to_owned()),
                ..Toleration::default()
            });
        }
        if !more.is_empty() {
            let merged = merge(of_pod(pod)?, more);
            let merged = machinery::value::to_value(&merged).map_err(ApiError::internal)?;
            pod.set_path(&["spec", "tolerations"], merged).map_err(ApiError::internal)?;
        }
        self.check(pod, &namespace)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(pod) = a.object.as_ref().filter(|_| a.is("", "pods")) else { return Ok(()) };
        self.check(pod, &namespace(a).await?)
    }
}

impl PodTolerationRestriction {
    fn check(&self, pod: &Value, namespace: &Value) -> Result<(), ApiError> {
        let tolerations = of_pod(pod)?;
        if tolerations.is_empty() {
            return Ok(());
        }
        let (allowed, scope) = match annotated(namespace, ALLOWED)? {
            Some(allowed) => (allowed, "namespace"),
            None => (self.0.allowed.clone(), "cluster"),
        };
        if allowed.is_empty() || tolerations.iter().all(|t| allowed.iter().any(|a| covers(a, t))) {
            return Ok(());
        }
        Err(plain(format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        )))
    }
}

/// An error without a status of its own.
fn plain(text: String) -> ApiError {
    ApiError::new(500, "", text)
}

async fn namespace(a: &Attributes<'_>) -> Result<Value, ApiError> {
    let found = a.call.core.find("", "namespaces", "", &a.namespace).await?;
    found.ok_or_else(|| ApiError::not_found("", "namespaces", &a.namespace))
}

fn of_pod(pod: &Value) -> Result<Vec<Toleration>, ApiError> {
    match pod.get_path(&["spec", "tolerations"]) {
        Some(list) => machinery::value::from_value(list).map_err(ApiError::internal),
        None => Ok(Vec::new()),
    }
}

/// The tolerations of an annotation; `None` without it, none for an empty one.
fn annotated(namespace: &Value, key: &str) -> Result<Option<Vec<Toleration>>, ApiError> {
    match meta::annotation(namespace, key) {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(text) => serde_json::from_str(text).map(Some).map_err(|e| plain(e.to_string())),
    }
}

/// Both lists, without what others of the sum cover; of equal ones the first stays.
fn merge(first: Vec<Toleration>, second: Vec<Toleration>) -> Vec<Toleration> {
    let all: Vec<Toleration> = first.into_iter().chain(second).collect();
    let mut merged: Vec<Toleration> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let later = all.get(index + 1..).unwrap_or_default();
        let covered = merged.iter().any(|other| covers(other, one))
            || later.iter().any(|other| other != one && covers(other, one));
        if !covered {
            merged.push(one.clone());
        }
    }
    merged
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// Whether `big` tolerates all that `small` does.
fn covers(big: &Toleration, small: &Toleration) -> bool {
    if big == small {
        return true;
    }
    let any_key = text(&big.key).is_empty() && text(&big.operator) == "Exists";
    if text(&big.key) != text(&small.key) && !any_key {
        return false;
    }
    if !text(&big.effect).is_empty() && text(&big.effect) != text(&small.effect) {
        return false;
    }
    if text(&big.effect) == "NoExecute"
        && let Some(limit) = big.toleration_seconds
        && small.toleration_seconds.is_none_or(|seconds| seconds > limit)
    {
        return false;
    }
    match text(&big.operator) {
        "Equal" | "" => text(&small.operator) == "Equal" && text(&small.value) == text(&big.value),
        other => other == "Exists",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `key operator value effect seconds`, `-` for what is not there.
    fn toleration(line: &str) -> Toleration {
        let parts: Vec<Option<&str>> = line.split(' ').map(|p| (p != "-").then_some(p)).collect();
        let part = |index: usize| parts.get(index).copied().flatten().map(str::to_owned);
        Toleration {
            key: part(0),
            operator: part(1),
            value: part(2),
            effect: part(3),
            toleration_seconds: part(4).map(|seconds| seconds.parse().unwrap()),
        }
    }

    fn all(lines: &[&str]) -> Vec<Toleration> {
        lines.iter().map(|line| toleration(line)).collect()
    }

    /// From upstream's `TestIsSuperset`.
    #[test]
    fn supersets() {
        let (all_of, some) = ("- Exists - -", "foo Equal bar NoExecute 10");
        let cases = [
            (all_of, some, true),
            (some, all_of, false),
            (some, some, true),
            ("foo Exists - NoExecute 10", some, true),
            ("foo Equal bar - -", some, true),
            ("foo Equal bar NoExecute 20", some, true),
            ("foo Equal bar NoExecute 5", some, false),
            ("foo Equal bar NoExecute 20", "foo Equal bar NoExecute -", false),
            ("foo Equal bar NoSchedule -", some, false),
            ("foo Equal baz NoExecute 10", some, false),
            ("foo - bar NoExecute 10", some, true),
            ("baz Equal bar NoExecute 10", some, false),
            ("- Exists - NoExecute -", some, true),
            ("foo Gt 5 - -", "foo Gt 6 - -", false),
        ];
        for (big, small, want) in cases {
            assert_eq!(covers(&toleration(big), &toleration(small)), want, "{big} / {small}");
        }
    }

    #[test]
    fn merged() {
        let equal = "foo Equal bar NoSchedule -";
        let merge = |a: &[&str], b: &[&str]| merge(all(a), all(b));
        assert_eq!(merge(&[equal], &[equal]), all(&[equal]));
        assert_eq!(merge(&[equal], &["foo Exists - NoSchedule -"]), all(&["foo Exists - NoSchedule -"]));
        assert_eq!(merge(&["- Exists - - -"], &[equal]), all(&["- Exists - - -"]));
        assert_eq!(merge(&[equal], &["x Exists - - -"]), all(&[equal, "x Exists - - -"]));
    }

    #[test]
    fn namespaces_come_before_the_configuration() {
        let namespace =
            |annotations: serde_json::Value| Value::from(json!({"metadata": {"annotations": annotations}}));
        let pod = Value::from(json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}}));
        let plugin = PodTolerationRestriction(Configuration {
            allowed: all(&["b Exists - - -"]),
            ..Configuration::default()
        });
        let refused = |ns: &Value| plugin.check(&pod, ns).map_err(|e| e.message.contains("cluster"));
        assert_eq!(refused(&namespace(json!({}))), Err(true));
        assert_eq!(refused(&namespace(json!({ALLOWED: ""}))), Ok(()));
        assert_eq!(refused(&namespace(json!({ALLOWED: r#"[{"key":"a","operator":"Exists"}]"#}))), Ok(()));
        assert_eq!(refused(&namespace(json!({ALLOWED: r#"[{"key":"c"}]"#}))), Err(false));
        assert!(plugin.check(&pod, &namespace(json!({ALLOWED: "{"}))).is_err());
    }

    #[test]
    fn configurations_are_checked() {
        let config = Configuration { default: all(&["- Equal - - -"]), ..Configuration::default() };
        let text = config.check().unwrap_err();
        assert!(
            text.starts_with("invalid config: [podtolerationrestriction.default[0].operator: Invalid value"),
            "{text}"
        );
    }
}
