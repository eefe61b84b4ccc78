//! What the status of a namespace in deletion says. Pure.
//! Upstream: pkg/controller/namespace/deletion/status_condition_utils.go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What one round of deletion found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Group versions whose resources could not be found out, with the reason.
    pub undiscovered: Vec<String>,
    /// What could not be deleted.
    pub failures: Vec<String>,
    /// Objects left, by `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    /// Objects left, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

/// Type, then reason and message when all is well, in the order in which they appear.
const KINDS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

impl Findings {
    /// Reason and message of a condition that is true.
    fn problem(&self, kind: &str) -> Option<(&'static str, String)> {
        let listed = |map: &BTreeMap<String, usize>, text: fn(&str, usize) -> String| {
            let mut texts: Vec<String> =
                map.iter().filter(|(_, n)| **n > 0).map(|(k, n)| text(k, *n)).collect();
            texts.sort();
            texts.join(", ")
        };
        match kind {
            "NamespaceDeletionDiscoveryFailure" if !self.undiscovered.is_empty() => {
                let groups = self.undiscovered.join(", ");
                let count = self.undiscovered.len();
                let message = format!(
                    "Discovery failed for some groups, {count} failing: unable to retrieve the complete list of server APIs: {groups}"
                );
                Some(("DiscoveryFailed", message))
            }
            "NamespaceDeletionContentFailure" if !self.failures.is_empty() => {
                let mut failures = self.failures.clone();
                failures.sort();
                let (count, all) = (failures.len(), failures.join(", "));
                Some((
                    "ContentDeletionFailed",
                    format!("Failed to delete all resource types, {count} remaining: {all}"),
                ))
            }
            "NamespaceContentRemaining" if !self.remaining.is_empty() => {
                let all = listed(&self.remaining, |k, n| format!("{k} has {n} resource instances"));
                Some(("SomeResourcesRemain", format!("Some resources are remaining: {all}")))
            }
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => {
                let all = listed(&self.finalizers, |k, n| format!("{k} in {n} resource instances"));
                let message = format!("Some content in the namespace has finalizers remaining: {all}");
                Some(("SomeFinalizersRemain", message))
            }
            _ => None,
        }
    }
}

/// The conditions after a round; true when they say something new.
pub fn update(conditions: &mut Vec<NamespaceCondition>, findings: &Findings, now: Timestamp) -> bool {
    let mut changed = false;
    for (kind, good_reason, good_message) in KINDS {
        let (status, reason, message) = match findings.problem(kind) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", good_reason, good_message.to_string()),
        };
        let new = NamespaceCondition {
            type_: kind.to_string(),
            status: status.to_string(),
            reason: Some(reason.to_string()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => {
                conditions.push(new);
                changed = true;
            }
            Some(old) if old.status != new.status => {
                *old = new;
                changed = true;
            }
            Some(old) if old.reason != new.reason || old.message != new.message => {
                (old.reason, old.message) = (new.reason, new.message);
                changed = true;
            }
            Some(_) => {}
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_left_and_rests_when_nothing_changes() {
        let (mut conditions, now) = (Vec::new(), Timestamp::UNIX_EPOCH);
        let findings = Findings {
            remaining: BTreeMap::from([("pods.".to_string(), 2)]),
            finalizers: BTreeMap::from([("x/y".to_string(), 1)]),
            failures: vec!["b".into(), "a".into()],
            ..Findings::default()
        };
        assert!(update(&mut conditions, &findings, now));
        assert!(!update(&mut conditions, &findings, now));
        let texts: Vec<_> =
            conditions.iter().map(|c| (c.status.as_str(), c.message.as_deref().unwrap_or(""))).collect();
        assert_eq!(texts[2], ("True", "Failed to delete all resource types, 2 remaining: a, b"));
        assert_eq!(texts[3], ("True", "Some resources are remaining: pods. has 2 resource instances"));
        assert_eq!(
            texts[4],
            ("True", "Some content in the namespace has finalizers remaining: x/y in 1 resource instances")
        );
        assert!(update(&mut conditions, &Findings::default(), now));
        assert!(conditions.iter().all(|c| c.status == "False"));
    }
}
