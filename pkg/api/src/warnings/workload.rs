//! Workloads and quotas. Upstream: `pkg/api/job/warnings.go`, `pkg/registry/{apps,batch}/*/strategy.go`,
//! `pkg/registry/core/resourcequota/strategy.go`.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::ResourceQuota;

use super::{pod, storage};
use crate::validation::core::resources::{amount, compare};
use crate::validation::field::Path;
use crate::validation::items;

/// With more completions and more parallel pods, failed indexes may become too many to be told.
const COMPLETIONS: i32 = 100_000;
const PARALLELISM: i32 = 10_000;

/// About a job, or the job of a cron job.
pub fn job_spec(spec: &JobSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let many = spec.completions.is_some_and(|c| c > COMPLETIONS)
        && spec.parallelism.is_some_and(|p| p > PARALLELISM);
    if many && spec.completion_mode.as_deref() == Some("Indexed") {
        warnings.push(format!("{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"));
    }
    warnings.extend(pod::template(&spec.template, &path.child("template")));
    warnings
}

/// About the claims and the history of a stateful set. The path of a changed one's claims is upstream's.
pub fn stateful_set(set: &StatefulSet, new: bool) -> Vec<String> {
    let (mut warnings, spec) = (Vec::new(), &set.spec);
    let path = Path::new("spec.volumeClaimTemplates");
    for (i, claim) in items(&spec.volume_claim_templates).iter().enumerate() {
        let at = path.index(i);
        let at = if new { at } else { at.child("Spec") };
        warnings.extend(claim.spec.iter().flat_map(|spec| storage::claim_spec(spec, &at)));
    }
    if spec.revision_history_limit.is_some_and(|n| n < 0) {
        warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
    }
    warnings
}

/// About a new quota.
pub fn quota(quota: &ResourceQuota) -> Vec<String> {
    let Some(hard) = quota.spec.as_ref().and_then(|s| s.hard.as_ref()) else { return Vec::new() };
    let mut warnings = Vec::new();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let mut request = format!("requests.{name}");
        if !hard.contains_key(&request) && matches!(name, "cpu" | "memory") {
            request = name.to_owned();
        }
        let limit = format!("limits.{name}");
        let (Some(low), Some(high)) = (hard.get(&request), hard.get(&limit)) else { continue };
        let (low, high) = (amount(low), amount(high));
        if compare(&low, &high) > 0 {
            let (low, high) = (low.canonical(), high.canonical());
            warnings.push(format!("ResourceQuota {request} ({low}) should be less than {limit} ({high})"));
        }
    }
    warnings
}
