//! Going back to an earlier template, as the annotation asks that old clients' `rollbackTo` became. Pure.
//! Upstream: pkg/controller/deployment/rollback.go.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use std::sync::Arc;

use super::plan::View;
use super::revision::{self, HASH_LABEL, OWN, same_template};

/// Annotation with the wanted revision; 0 = the one before.
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

/// What to write, and what to tell: whether it is a warning, reason, message.
#[derive(Debug, PartialEq)]
pub struct Rollback {
    pub deployment: Deployment,
    pub event: (bool, &'static str, String),
}

/// The revision that is asked for.
pub fn wanted(deployment: &Deployment) -> Option<i64> {
    deployment.metadata.annotations.as_ref()?.get(ROLLBACK_TO)?.parse().ok()
}

fn number(set: &ReplicaSet) -> i64 {
    revision::of(set.metadata.annotations.as_ref())
}

/// The second-newest revision. Upstream: LastRevision.
fn previous(sets: &[Arc<ReplicaSet>]) -> i64 {
    let (mut newest, mut second) = (0, 0);
    for revision in sets.iter().map(|s| number(s)) {
        if revision >= newest {
            (second, newest) = (newest, revision);
        } else if revision > second {
            second = revision;
        }
    }
    second
}

/// Decides. `None`: nothing is asked for, or the current template has no set yet, which comes first.
pub fn plan(view: &View<'_>) -> Option<Rollback> {
    let deployment = view.deployment;
    let asked = wanted(deployment)?;
    let idle = deployment.spec.paused == Some(true) || deployment.metadata.deletion_timestamp.is_some();
    let template_of = |s: &&Arc<ReplicaSet>| s.spec.template.clone();
    let has_set = view
        .sets
        .iter()
        .filter_map(|s| template_of(&s))
        .any(|t| same_template(&t, &deployment.spec.template));
    if idle || !has_set {
        return None;
    }
    let mut new = deployment.clone();
    if let Some(annotations) = &mut new.metadata.annotations {
        annotations.remove(ROLLBACK_TO);
    }
    let refused = |message: &str| (true, "RollbackRevisionNotFound", message.to_string());
    let to = if asked == 0 { previous(view.sets) } else { asked };
    if to == 0 {
        return Some(Rollback { deployment: new, event: refused("Unable to find last revision.") });
    }
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let event = match view.sets.iter().find(|s| number(s) == to) {
        None => refused("Unable to find the revision to rollback to."),
        Some(set) if template_of(&set).is_some_and(|t| same_template(&t, &deployment.spec.template)) => {
            let message =
                format!("The rollback revision contains the same template as current deployment {name:?}");
            (true, "RollbackTemplateUnchanged", message)
        }
        Some(set) => {
            restore(&mut new, set);
            (false, "DeploymentRollback", format!("Rolled back deployment {name:?} to revision {to}"))
        }
    };
    Some(Rollback { deployment: new, event })
}

/// Takes the set's template and those of its annotations that are the Deployment's.
fn restore(deployment: &mut Deployment, set: &ReplicaSet) {
    let mut template = set.spec.template.clone().unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    deployment.spec.template = template;
    let own = |key: &String| OWN.contains(&key.as_str());
    let annotations = deployment.metadata.annotations.get_or_insert_default();
    annotations.retain(|key, _| own(key));
    let taken = set.metadata.annotations.iter().flatten().filter(|(key, _)| !own(key));
    annotations.extend(taken.map(|(k, v)| (k.clone(), v.clone())));
}
