//! What a quota's status should say. Pure. Upstream: resource_quota_controller.go syncResourceQuota, CalculateUsage.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};
use machinery::quantity::{Format, Quantity};

use super::evaluators::{Classes, Evaluator, Objects};
use super::resources::{Resources, add, equal, read, write};

/// What to write, and what could not be found out.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub update: Option<Box<ResourceQuota>>,
    pub failures: Vec<String>,
}

/// Decides. `objects` lists the objects of a resource in the quota's namespace.
pub fn plan(
    quota: &ResourceQuota,
    evaluators: &[Evaluator],
    classes: &Classes,
    objects: impl Fn(&Evaluator) -> Result<Objects, String>,
    now: Timestamp,
) -> Plan {
    let none = ResourceQuotaSpec::default();
    let spec = quota.spec.as_ref().unwrap_or(&none);
    let hard = read(spec.hard.as_ref());
    let status = quota.status.clone().unwrap_or_default();
    let (had_hard, had_used) = (read(status.hard.as_ref()), read(status.used.as_ref()));
    let mut failures = Vec::new();
    let mut new_usage = Resources::new();
    let mut unknown: BTreeSet<&String> = BTreeSet::new();
    let mut tracked: BTreeSet<&String> = BTreeSet::new();
    for evaluator in evaluators {
        let names: Vec<&String> = hard.keys().filter(|n| evaluator.matches(n, classes)).collect();
        if names.is_empty() {
            continue;
        }
        tracked.extend(&names);
        let usage = objects(evaluator).and_then(|o| evaluator.usage(&o, spec, classes, now));
        match usage {
            Ok(mut usage) => {
                for name in &names {
                    usage.entry((*name).clone()).or_insert_with(|| Quantity::new(0, Format::DecimalSI));
                }
                add(&mut new_usage, &usage);
            }
            Err(error) => {
                failures.push(error);
                unknown.extend(names);
            }
        }
    }
    // What could not be found out keeps its last value.
    let mut used = had_used.clone();
    used.extend(new_usage.into_iter().filter(|(n, _)| tracked.contains(n) && !unknown.contains(n)));
    used.retain(|name, _| hard.contains_key(name));
    let never_told = !hard.is_empty() && (status.hard.is_none() || status.used.is_none());
    let dirty = !equal(&hard, &had_hard) || !equal(&used, &had_used) || never_told;
    let update = dirty.then(|| {
        let mut new = quota.clone();
        new.status = Some(ResourceQuotaStatus { hard: Some(write(&hard)), used: Some(write(&used)) });
        Box::new(new)
    });
    Plan { update, failures }
}

/// The quota tells less than it should: it goes before those that are only to be checked. Upstream: addQuota.
pub fn is_urgent(quota: &ResourceQuota, evaluators: &[Evaluator], classes: &Classes) -> bool {
    let hard = read(quota.spec.as_ref().and_then(|s| s.hard.as_ref()));
    let status = quota.status.as_ref();
    let used = read(status.and_then(|s| s.used.as_ref()));
    let known = |name: &String| evaluators.iter().any(|e| e.matches(name, classes));
    !equal(&hard, &read(status.and_then(|s| s.hard.as_ref())))
        || hard.keys().any(|name| !used.contains_key(name) && known(name))
}
