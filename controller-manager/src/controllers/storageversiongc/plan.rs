//! What becomes of a storage version when API servers are gone. Pure.
//! Upstream: gc_controller.go (`updateOrDeleteStorageVersion`), apiserver/pkg/storageversion/updater.go
//! (`SetCommonEncodingVersion`).

use jiff::Timestamp;
use k8s_openapi::api::apiserverinternal::v1alpha1::{
    StorageVersion, StorageVersionCondition as Condition, StorageVersionStatus as Status,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const EQUAL: &str = "AllEncodingVersionsEqual";

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Plan {
    Nothing,
    /// No server is left.
    Delete,
    Update(Box<StorageVersion>),
}

/// Identities of the servers that a storage version is of.
pub fn servers(of: &StorageVersion) -> impl Iterator<Item = &str> {
    let all = of.status.iter().flat_map(|s| s.storage_versions.iter().flatten());
    all.map(|v| v.api_server_id.as_str())
}

/// Decides about a storage version.
pub fn plan(of: &StorageVersion, is_there: impl Fn(&str) -> bool, now: Timestamp) -> Plan {
    if servers(of).all(&is_there) {
        return Plan::Nothing;
    }
    let mut new = of.clone();
    let status = new.status.get_or_insert_default();
    let all = status.storage_versions.get_or_insert_default();
    all.retain(|v| is_there(&v.api_server_id));
    let Some(first) = all.first().map(|v| v.encoding_version.clone()) else { return Plan::Delete };
    let common = all.iter().all(|v| v.encoding_version == first).then_some(first);
    set_common(status, common, new.metadata.generation, now);
    Plan::Update(Box::new(new))
}

fn set_common(of: &mut Status, common: Option<String>, generation: Option<i64>, now: Timestamp) {
    let (status, reason, message) = match common {
        Some(_) => ("True", "CommonEncodingVersionSet", "Common encoding version set"),
        None => ("False", "CommonEncodingVersionUnset", "Common encoding version unset"),
    };
    let old = std::mem::replace(&mut of.common_encoding_version, common);
    let other = old.is_some() && of.common_encoding_version.is_some() && old != of.common_encoding_version;
    let mut condition = Condition {
        type_: EQUAL.to_owned(),
        status: status.to_owned(),
        observed_generation: generation,
        last_transition_time: Some(Time(now)),
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let all = of.conditions.get_or_insert_default();
    match all.iter_mut().find(|c| c.type_ == EQUAL) {
        None => all.push(condition),
        Some(known) => {
            if known.status == condition.status && !other {
                condition.last_transition_time = known.last_transition_time.clone();
            }
            *known = condition;
        }
    }
}
