//! Rules about failed pods: which end the job or an index, which do not count. Pure.
//! Upstream: pkg/controller/job/pod_failure_policy.go.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};

use crate::kept::{ContainerStatus, Pod};

/// What a policy makes of a failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No rule matched: it counts.
    NoRule,
    Count,
    Ignore,
    FailIndex,
    /// With the message for the job's condition.
    FailJob(String),
}

impl Verdict {
    /// The failure counts towards limits.
    pub fn counts(&self) -> bool {
        *self != Verdict::Ignore
    }

    /// The rule's action, as metrics name it.
    pub fn action(&self) -> Option<&'static str> {
        match self {
            Verdict::NoRule => None,
            Verdict::Count => Some("Count"),
            Verdict::Ignore => Some("Ignore"),
            Verdict::FailIndex => Some("FailIndex"),
            Verdict::FailJob(_) => Some("FailJob"),
        }
    }
}

/// Judges a failed pod by the first rule that matches it.
pub fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    for (at, rule) in policy.into_iter().flat_map(|p| p.rules.iter().enumerate()) {
        if let Some(cause) = cause(rule, pod) {
            match rule.action.as_str() {
                "Ignore" => return Verdict::Ignore,
                "FailIndex" => return Verdict::FailIndex,
                "Count" => return Verdict::Count,
                "FailJob" => return Verdict::FailJob(format!("{cause} matching FailJob rule at index {at}")),
                _ => {}
            }
        }
    }
    Verdict::NoRule
}

/// Why the rule matches.
fn cause(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let (namespace, name) = (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    let status = pod.status.as_ref()?;
    if let Some(wanted) = &rule.on_exit_codes {
        let all =
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        let (container, code) =
            all.filter_map(|c| Some((c, exit_code(c)?))).find(|(c, code)| matches(wanted, c, *code))?;
        let container = &container.name;
        return Some(format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code}"
        ));
    }
    let patterns = rule.on_pod_conditions.as_ref()?;
    let found = status.conditions.iter().flatten().find(|c| {
        patterns.iter().any(|p| p.type_ == c.type_ && c.status == p.status.as_deref().unwrap_or("True"))
    })?;
    Some(format!("Pod {namespace}/{name} has condition {}", found.type_))
}

/// The code of a container that ended badly.
fn exit_code(container: &ContainerStatus) -> Option<i32> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    Some(ended.exit_code).filter(|code| *code != 0)
}

fn matches(wanted: &PodFailurePolicyOnExitCodesRequirement, container: &ContainerStatus, code: i32) -> bool {
    wanted.container_name.as_ref().is_none_or(|name| *name == container.name)
        && match wanted.operator.as_str() {
            "In" => wanted.values.contains(&code),
            "NotIn" => !wanted.values.contains(&code),
            _ => false,
        }
}
