//! What each resource counts as, by kind. Pure.
//!
//! Pods, services, volume claims and resource claims have rules of their own; of everything else the objects are
//! counted. Upstream: pkg/quota/v1/evaluator/core, k8s.io/apiserver/pkg/quota/v1/generic/evaluator.go.

mod claims;
mod pods;
mod resource_claims;
mod scopes;
mod services;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, ResourceQuotaSpec, ScopedResourceSelectorRequirement, Service,
};
use k8s_openapi::api::resource::v1::ResourceClaim;

pub use self::claims::matters as claim_matters;
pub use self::pods::matters as pod_matters;
pub use self::resource_claims::Classes;
pub use self::services::matters as service_matters;
use super::resources::{Resources, add, count};
use crate::kept::Pod;

/// Names that count objects of a resource had before `count/...`. Upstream: legacyObjectCountAliases.
const ALIASES: &[&str] = &["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

/// The objects of one resource in one namespace.
pub enum Objects {
    Pods(Vec<Arc<Pod>>),
    Services(Vec<Arc<Service>>),
    Claims(Vec<Arc<PersistentVolumeClaim>>),
    /// With the pods, which some of them stand for.
    ResourceClaims(Vec<Arc<ResourceClaim>>, Vec<Arc<Pod>>),
    Counted(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pods,
    Services,
    Claims,
    ResourceClaims,
    Count,
}

/// How one resource is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluator {
    pub kind: Kind,
    /// `count/<resource>[.<group>]`.
    counted: String,
    alias: Option<&'static str>,
}

impl Evaluator {
    /// For a resource of a group, "" for core.
    pub fn new(group: &str, resource: &str) -> Self {
        let kind = match (group, resource) {
            ("", "pods") => Kind::Pods,
            ("", "services") => Kind::Services,
            ("", "persistentvolumeclaims") => Kind::Claims,
            ("resource.k8s.io", "resourceclaims") => Kind::ResourceClaims,
            _ => Kind::Count,
        };
        let counted =
            if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") };
        let alias = ALIASES.iter().find(|a| group.is_empty() && **a == resource).copied();
        Self { kind, counted, alias }
    }

    /// The name that counts objects of the resource, which no other evaluator has.
    pub fn name(&self) -> &str {
        &self.counted
    }

    /// The name under which a quota names this resource is one of ours.
    pub fn matches(&self, name: &str, classes: &Classes) -> bool {
        name == self.counted
            || self.alias == Some(name)
            || match self.kind {
                Kind::Pods => pods::matches(name),
                Kind::Services => services::NAMES.contains(&name),
                Kind::Claims => claims::matches(name),
                Kind::ResourceClaims => resource_claims::matches(name, classes),
                Kind::Count => false,
            }
    }

    /// What the objects use of what the quota tracks.
    ///
    /// # Errors
    /// A scope cannot be understood.
    pub fn usage(
        &self,
        objects: &Objects,
        spec: &ResourceQuotaSpec,
        classes: &Classes,
        now: Timestamp,
    ) -> Result<Resources, String> {
        let scopes = scopes::of(spec);
        let mut total = Resources::new();
        match objects {
            Objects::Pods(all) => {
                for pod in all {
                    if all_match(&scopes, |s| scopes::pod_matches(pod, s))? {
                        add(&mut total, &with_count(pods::usage(pod, now), &self.counted));
                    }
                }
            }
            Objects::Claims(all) => {
                for claim in all {
                    if all_match(&scopes, |s| scopes::claim_matches(claim, s))? {
                        add(&mut total, &with_count(claims::usage(claim), &self.counted));
                    }
                }
            }
            // Nothing else has scopes: with one, nothing counts.
            _ if !scopes.is_empty() => {}
            Objects::Services(all) => {
                for service in all {
                    add(&mut total, &with_count(services::usage(service), &self.counted));
                }
            }
            Objects::ResourceClaims(all, pods) => {
                for claim in all {
                    let usage = resource_claims::usage(claim, all, pods, classes, now);
                    add(&mut total, &with_count(usage, &self.counted));
                }
            }
            Objects::Counted(number) => {
                for name in [Some(self.counted.as_str()), self.alias].into_iter().flatten() {
                    total.insert(name.to_string(), count(*number));
                }
            }
        }
        Ok(total)
    }
}

fn with_count(mut usage: Resources, name: &str) -> Resources {
    usage.insert(name.to_string(), count(1));
    usage
}

fn all_match(
    scopes: &[ScopedResourceSelectorRequirement],
    matches: impl Fn(&ScopedResourceSelectorRequirement) -> Result<bool, String>,
) -> Result<bool, String> {
    for scope in scopes {
        if !matches(scope)? {
            return Ok(false);
        }
    }
    Ok(true)
}
