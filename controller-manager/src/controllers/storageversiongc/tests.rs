//! What is left of storage versions.

use std::collections::BTreeSet;

use client::Meta;
use jiff::Timestamp;
use k8s_openapi::api::apiserverinternal::v1alpha1::StorageVersion;
use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;
use serde_json::json;

use super::is_identity;
use super::plan::{Plan, plan, servers};
use crate::scenario;

fn now() -> Timestamp {
    "2026-01-01T00:00:10Z".parse().expect("a time")
}

#[test]
fn scenarios() {
    scenario::check("storageversiongc/testdata", |given| {
        let leases: Vec<Lease> = given.all();
        let is_there = |id: &str| leases.iter().any(|l| l.name() == id && is_identity(l));
        match plan(&given.one(), is_there, now()) {
            Plan::Update(new) => scenario::yaml(&new.status),
            other => format!("{other:?}"),
        }
    });
}

fn of(servers: &[(u8, bool)]) -> StorageVersion {
    let all: Vec<_> = servers
        .iter()
        .map(|(id, new)| {
            let version = if *new { "v2" } else { "v1" };
            json!({"apiServerID": format!("s{id}"), "encodingVersion": version, "decodableVersions": ["v1", "v2"]})
        })
        .collect();
    serde_json::from_value(
        json!({"metadata": {"name": "g.r"}, "spec": {}, "status": {"storageVersions": all}}),
    )
    .expect("a storage version")
}

proptest! {
    /// After one write only servers that are there are left, and what they store in common is told.
    #[test]
    fn plan_then_apply_settles(all in prop::collection::vec((0u8..6, any::<bool>()), 0..6), gone in 0u8..6) {
        let of = of(&all);
        let there: BTreeSet<String> = (0..6).filter(|id| *id != gone).map(|id| format!("s{id}")).collect();
        let is_there = |id: &str| there.contains(id);
        match plan(&of, is_there, now()) {
            Plan::Nothing => prop_assert!(servers(&of).all(is_there)),
            Plan::Delete => prop_assert!(!servers(&of).any(is_there)),
            Plan::Update(new) => {
                prop_assert_eq!(plan(&new, is_there, now()), Plan::Nothing);
                let status = new.status.unwrap_or_default();
                let left: Vec<_> = status.storage_versions.iter().flatten().collect();
                let common = left.iter().all(|v| v.encoding_version == left[0].encoding_version);
                prop_assert_eq!(status.common_encoding_version.is_some(), common);
            }
        }
    }

    /// While all servers are there nothing changes.
    #[test]
    fn a_satisfied_view_needs_nothing(all in prop::collection::vec((0u8..6, any::<bool>()), 0..6)) {
        prop_assert_eq!(plan(&of(&all), |_| true, now()), Plan::Nothing);
    }
}
