//! PodSecurity: pods of a namespace keep to the standard its labels name (privileged, baseline, restricted).
//!
//! [`policy`] reads labels and the configuration, [`checks`] holds a pod against a standard of a version, [`namespace`]
//! looks at the pods that a changed label concerns. Here is what follows for a request: pods are refused, workloads get
//! warnings. Not done: `pod_security_*` metrics. Upstream: `k8s.io/pod-security-admission/admission/admission.go`.

mod checks;
mod namespace;
mod policy;

use ::api::validation::field::Error as FieldError;
use async_trait::async_trait;
use machinery::Value;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;
use checks::{Finding, evaluate};
use policy::{Level, Policy, Standard};

pub use policy::{Configuration, Defaults, Exemptions};

/// What begins the keys of labels, and of annotations of audit events.
const PREFIX: &str = "pod-security.kubernetes.io/";

/// Subresources that change nothing of what is checked.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// The plugin.
pub struct PodSecurity {
    defaults: Policy,
    exemptions: Exemptions,
}

impl PodSecurity {
    /// # Errors
    /// Upstream's text for a configuration that cannot be.
    pub fn new(configuration: &Configuration) -> Result<Self, String> {
        let defaults = configuration.check()?;
        Ok(Self { defaults, exemptions: configuration.exemptions.clone() })
    }

    /// What a request is let through for whatever it holds.
    fn exemption(&self, a: &Attributes<'_>) -> Option<&'static str> {
        let has = |list: &[String], name: &str| !name.is_empty() && list.iter().any(|n| n == name);
        if has(&self.exemptions.namespaces, &a.namespace) {
            Some("namespace")
        } else if has(&self.exemptions.usernames, &a.call.request.user.name) {
            Some("user")
        } else {
            None
        }
    }

    fn exempts_runtime_class(&self, pod: &Value) -> bool {
        let class = pod.str_at(&["spec", "runtimeClassName"]).filter(|class| !class.is_empty());
        class.is_some_and(|class| self.exemptions.runtime_classes.iter().any(|c| c == class))
    }

    async fn pod(&self, a: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
        if IGNORED.contains(&a.subresource()) {
            return Ok(());
        }
        if let Some(reason) = self.exemption(a) {
            annotate(a, "exempt", reason);
            return Ok(());
        }
        let Some(namespace) = a.call.core.find("", "namespaces", "", &a.namespace).await? else {
            let name = &a.namespace;
            let error = ApiError::internal(format!("failed to lookup namespace {name:?}"));
            annotate(a, "error", format!("{}: namespace {name:?} not found", error.message));
            return Err(error);
        };
        let (policy, errors) = self.defaults.of_labels(meta::labels(&namespace));
        if errors.is_empty() && policy.is_privileged() {
            annotate(a, "enforce-policy", Standard::PRIVILEGED.to_string());
            return Ok(());
        }
        let insignificant = a.old.as_ref().is_some_and(|old| !is_significant(object, old));
        if a.operation == Operation::Update && insignificant {
            return Ok(());
        }
        self.evaluate(a, &policy, &errors, object, true)
    }

    async fn workload(&self, a: &Attributes<'_>, template: Option<&Value>) -> Result<(), ApiError> {
        if let Some(reason) = self.exemption(a) {
            annotate(a, "exempt", reason);
            return Ok(());
        }
        let Some(namespace) = a.call.core.find("", "namespaces", "", &a.namespace).await? else {
            let name = &a.namespace;
            annotate(
                a,
                "error",
                format!("failed to lookup namespace {name:?}: namespace {name:?} not found"),
            );
            return Ok(());
        };
        let (policy, errors) = self.defaults.of_labels(meta::labels(&namespace));
        let silent = policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged;
        match template {
            Some(template) if !(errors.is_empty() && silent) => {
                self.evaluate(a, &policy, &errors, template, false)
            }
            _ => Ok(()),
        }
    }

    /// Holds a pod, or a template of pods, against what the namespace asks for.
    fn evaluate(
        &self,
        a: &Attributes<'_>,
        policy: &Policy,
        errors: &[FieldError],
        pod: &Value,
        enforce: bool,
    ) -> Result<(), ApiError> {
        if self.exempts_runtime_class(pod) {
            annotate(a, "exempt", "runtimeClass");
            return Ok(());
        }
        if !errors.is_empty() {
            let why = ::api::validation::field::aggregate(errors);
            annotate(a, "error", format!("Failed to parse policy: {why}"));
        }
        let mut refused = Ok(());
        if enforce {
            let standard = policy.enforce;
            annotate(a, "enforce-policy", standard.to_string());
            let found = evaluate(standard, pod);
            if !found.is_empty() {
                let why = format!("violates PodSecurity \"{standard}\": {}", details(&found));
                refused = Err(ApiError::forbidden(a.group(), a.resource(), &a.name, why));
            }
        }
        if a.call.request.audit.enabled() {
            let found = evaluate(policy.audit, pod);
            if !found.is_empty() {
                annotate(a, "audit-violations", would_violate(policy.audit, &found));
            }
        }
        refused?;
        let found = evaluate(policy.warn, pod);
        if !found.is_empty() {
            a.call.warn(would_violate(policy.warn, &found));
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(object) = a.object.as_ref() else { return Ok(()) };
        if a.is_resource("", "pods") {
            return self.pod(a, object).await;
        }
        if !a.subresource().is_empty() {
            return Ok(());
        }
        if a.is_resource("", "namespaces") {
            return self.namespace(a, object).await;
        }
        let template: &[&str] = match (a.group(), a.resource()) {
            ("", "replicationcontrollers")
            | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
            | ("batch", "jobs") => &["spec", "template"],
            ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
            ("", "podtemplates") => &["template"],
            _ => return Ok(()),
        };
        self.workload(a, object.get_path(template)).await
    }
}

fn annotate(a: &Attributes<'_>, key: &str, value: impl Into<String>) {
    let audit = &a.call.request.audit;
    if audit.enabled() {
        audit.annotate(&format!("{PREFIX}{key}"), value);
    }
}

fn would_violate(standard: Standard, found: &[Finding]) -> String {
    format!("would violate PodSecurity \"{standard}\": {}", details(found))
}

fn details(found: &[Finding]) -> String {
    found.iter().map(Finding::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether an update changes what is checked: only images and ephemeral containers of a pod can change.
/// Upstream: `isSignificantPodUpdate`.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let of = |pod: &Value, list: &str| pod.list_at(&["spec", list]).cloned().unwrap_or_default();
    let image = |container: &Value| container.str_at(&["image"]).unwrap_or_default().to_owned();
    let lists_differ = ["containers", "initContainers"].iter().any(|list| {
        let (new, old) = (of(pod, list), of(old, list));
        new.len() != old.len() || new.iter().zip(old.iter()).any(|(new, old)| image(new) != image(old))
    });
    let before = of(old, "ephemeralContainers");
    let is_new = |container: &Value| {
        let same = before.iter().find(|other| other.str_at(&["name"]) == container.str_at(&["name"]));
        same.is_none_or(|other| image(other) != image(container))
    };
    lists_differ || of(pod, "ephemeralContainers").iter().any(is_new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn significant_updates() {
        let pod = |containers: &[&str], debug: &[(&str, &str)]| {
            let images: Vec<_> = containers.iter().map(|image| json!({"image": image})).collect();
            let debug: Vec<_> =
                debug.iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
            Value::from(json!({"spec": {"containers": images, "ephemeralContainers": debug}}))
        };
        let old = pod(&["a", "b"], &[("x", "1")]);
        assert!(!is_significant(&old, &old));
        assert!(is_significant(&pod(&["a"], &[("x", "1")]), &old));
        assert!(is_significant(&pod(&["a", "c"], &[("x", "1")]), &old));
        assert!(is_significant(&pod(&["a", "b"], &[("x", "2")]), &old));
        assert!(is_significant(&pod(&["a", "b"], &[("x", "1"), ("y", "1")]), &old));
        assert!(!is_significant(&pod(&["a", "b"], &[]), &old));
    }
}
