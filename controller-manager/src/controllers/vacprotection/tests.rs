//! Which classes are protected.

use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass as Class;
use proptest::prelude::*;
use serde_json::json;

use super::{FINALIZER, of_claim, of_volume, plan_class};
use crate::controllers::protection::{Plan, changed};
use crate::scenario;

#[test]
fn scenarios() {
    scenario::check("vacprotection/testdata", |given| {
        let class: Class = given.one();
        let name = class.metadata.name.clone().expect("a name");
        let used = given.all::<Claim>().iter().flat_map(of_claim).any(|n| n == name)
            || given.all::<Volume>().iter().flat_map(of_volume).any(|n| n == name);
        format!("{:?}", plan_class(&class, used))
    });
}

fn class(deleted: bool, finalizers: &[&str]) -> Class {
    let deleted = deleted.then_some("2026-01-01T00:00:00Z");
    let meta = json!({"name": "fast", "finalizers": finalizers, "deletionTimestamp": deleted});
    serde_json::from_value(json!({"metadata": meta, "driverName": "d"})).expect("a class")
}

proptest! {
    /// One write is enough; a class in use keeps the finalizer.
    #[test]
    fn plan_then_apply_settles(deleted: bool, guarded: bool, used: bool) {
        let before = class(deleted, if guarded { &[FINALIZER] } else { &[] });
        let after = changed(&before, FINALIZER, plan_class(&before, used));
        prop_assert_eq!(plan_class(&after, used), Plan::Nothing);
        let kept = after.metadata.finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER));
        prop_assert_eq!(kept, if deleted { guarded && used } else { true });
    }

    /// A protected class needs nothing.
    #[test]
    fn a_satisfied_view_needs_nothing(others in prop::collection::vec("[a-z]{1,5}", 0..4), used: bool) {
        let mut finalizers: Vec<&str> = others.iter().map(String::as_str).collect();
        finalizers.push(FINALIZER);
        prop_assert_eq!(plan_class(&class(false, &finalizers), used), Plan::Nothing);
    }
}
