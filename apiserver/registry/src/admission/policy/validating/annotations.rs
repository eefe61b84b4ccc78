//! What audit events tell of validating policies: validations that failed, and what the policies themselves say.
//! Upstream: `plugin/policy/validating/dispatcher.go` (`publishValidationFailureAnnotations`, `auditAnnotationCollector`).

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::common::Binding;
use crate::audit::Audit;

const KEY: &str = "validation.policy.admission.k8s.io/validation_failure";
/// Most failures that one event tells of.
const MAX_FAILURES: usize = 50;
/// The longest value of one annotation, in bytes, before values are joined.
const MAX_VALUE: usize = 10 * 1024;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    message: String,
    policy: String,
    binding: String,
    expression_index: usize,
    validation_actions: Vec<&'static str>,
}

/// The failures that bindings want recorded.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Failure>);

impl Failures {
    /// Adds a failure, while there is room.
    pub(super) fn add(&mut self, policy: &str, binding: &Binding, index: usize, message: &str) {
        if self.0.len() >= MAX_FAILURES {
            return;
        }
        self.0.push(Failure {
            message: message.to_owned(),
            policy: policy.to_owned(),
            binding: binding.name.clone(),
            expression_index: index,
            validation_actions: binding.actions.iter().map(|a| a.text()).collect(),
        });
    }

    pub(super) fn publish(self, audit: &Audit) {
        if self.0.is_empty() {
            return;
        }
        let Ok(text) = serde_json::to_vec(&self.0) else { return };
        let mut out = Vec::with_capacity(text.len());
        machinery::json::write_compact(&text, &mut out);
        if let Ok(value) = String::from_utf8(out) {
            audit.annotate_admission(KEY, value);
        }
    }
}

/// What one policy says, by all its bindings and parameters: values of one key in the order they came, each once.
#[derive(Debug, Default)]
pub(super) struct Annotations(BTreeMap<String, Vec<String>>);

impl Annotations {
    pub(super) fn add(&mut self, key: String, mut value: String) {
        if value.len() > MAX_VALUE {
            value.truncate(value.floor_char_boundary(MAX_VALUE));
        }
        let values = self.0.entry(key).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }

    pub(super) fn publish(self, policy: &str, audit: &Audit) {
        for (key, values) in self.0 {
            audit.annotate_admission(&format!("{policy}/{key}"), values.join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_joined_once_each() {
        let audit = Audit::recording(false, false, false);
        let mut all = Annotations::default();
        for value in ["b", "a", "b"] {
            all.add("k".to_owned(), value.to_owned());
        }
        all.add("not a name".to_owned(), "x".to_owned());
        all.publish("p.example.com", &audit);
        let want = [("p.example.com/k".to_owned(), "b, a".to_owned())];
        assert_eq!(audit.recorded().annotations, want.into());
    }
}
