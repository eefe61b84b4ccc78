//! Rules by which a job has succeeded before all of its indexes have. Pure.
//! Upstream: pkg/controller/job/success_policy.go.

use k8s_openapi::api::batch::v1::SuccessPolicy;

use super::indexes::Indexes;

/// The message about the first rule that is met.
pub fn met(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let rules = policy.into_iter().flat_map(|p| p.rules.iter());
    for (at, rule) in rules.enumerate() {
        let is_met = match (&rule.succeeded_indexes, rule.succeeded_count) {
            (Some(wanted), count) => {
                let wanted = Indexes::parse(wanted, completions);
                let done = wanted.in_common(succeeded);
                !wanted.is_empty() && (done == wanted.count() || count.is_some_and(|count| done >= count))
            }
            (None, Some(count)) => succeeded.count() >= count,
            (None, None) => false,
        };
        if is_met {
            return Some(format!("Matched rules at index {at}"));
        }
    }
    None
}
