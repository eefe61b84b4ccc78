//! Volume claims: themselves and their size, also by storage class. Upstream: evaluator/core/persistent_volume_claims.go.

use std::cmp::Ordering;

use component::features::{self, Gate};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::super::resources::{Resources, compare, count, read};
use super::scopes::attributes_classes;

const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Before the field there was an annotation, which still counts.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The name is about claims.
pub fn matches(name: &str) -> bool {
    let own = |name: &str| matches!(name, CLAIMS | STORAGE);
    own(name) || name.rsplit_once(OF_CLASS).is_some_and(|(_, rest)| own(rest))
}

fn class(claim: &PersistentVolumeClaim) -> &str {
    let noted = claim.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION));
    let field = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_ref());
    noted.or(field).map(String::as_str).unwrap_or_default()
}

/// What a claim uses. While a volume shrinks back from a failed expansion, what was allocated counts.
pub fn usage(claim: &PersistentVolumeClaim) -> Resources {
    let class = class(claim);
    let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    let mut size = read(requests).remove("storage");
    if features::enabled(Gate::RecoverVolumeExpansionFailure)
        && let Some(wanted) = &size
    {
        let status = claim.status.as_ref();
        let allocated = read(status.and_then(|s| s.allocated_resources.as_ref())).remove("storage");
        size = allocated.filter(|a| compare(a, wanted) == Ordering::Greater).or(size);
    }
    let mut usage = Resources::from([(CLAIMS.to_string(), count(1))]);
    if let Some(size) = &mut size {
        // Quotas hold whole bytes.
        size.round_up(0);
        usage.insert(STORAGE.to_string(), size.clone());
    }
    if !class.is_empty() {
        usage.insert(format!("{class}{OF_CLASS}{CLAIMS}"), count(1));
        if let Some(size) = size {
            usage.insert(format!("{class}{OF_CLASS}{STORAGE}"), size);
        }
    }
    usage
}

/// The change may make room.
pub fn matters(old: &PersistentVolumeClaim, new: &PersistentVolumeClaim) -> bool {
    let allocated = |c: &PersistentVolumeClaim| {
        let list = c.status.as_ref().and_then(|s| s.allocated_resources.as_ref());
        list.and_then(|a| a.get("storage")).cloned()
    };
    allocated(old) != allocated(new) || attributes_classes(old) != attributes_classes(new)
}
