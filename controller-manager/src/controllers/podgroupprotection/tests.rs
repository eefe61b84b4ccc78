//! Which groups of pods may go.

use client::Meta;
use k8s_openapi::api::scheduling::v1beta1::PodGroup as Group;
use proptest::prelude::*;
use serde_json::json;

use super::{FINALIZER, by_group, plan_group};
use crate::controllers::protection::{Plan, changed};
use crate::kept::Pod;
use crate::scenario;

#[test]
fn scenarios() {
    scenario::check("podgroupprotection/testdata", |given| {
        let group: Group = given.one();
        let used = given.all::<Pod>().iter().flat_map(by_group).any(|g| g == group.key());
        format!("{:?}", plan_group(&group, used))
    });
}

fn group(deleted: bool, finalizers: &[&str]) -> Group {
    let deleted = deleted.then_some("2026-01-01T00:00:00Z");
    let meta = json!({"name": "g", "namespace": "n", "finalizers": finalizers, "deletionTimestamp": deleted});
    serde_json::from_value(json!({"metadata": meta, "spec": {"schedulingPolicy": {}}})).expect("a group")
}

proptest! {
    /// One write is enough; a group in use keeps what keeps it, one that is not lets go.
    #[test]
    fn plan_then_apply_settles(deleted: bool, guarded: bool, used: bool) {
        let before = group(deleted, if guarded { &[FINALIZER] } else { &[] });
        let after = changed(&before, FINALIZER, plan_group(&before, used));
        prop_assert_eq!(plan_group(&after, used), Plan::Nothing);
        let kept = after.metadata.finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER));
        prop_assert_eq!(kept, guarded && (used || !deleted));
    }

    /// A group that stays needs nothing, and no finalizer is put on here.
    #[test]
    fn a_satisfied_view_needs_nothing(others in prop::collection::vec("[a-z]{1,5}", 0..4), used: bool) {
        let finalizers: Vec<&str> = others.iter().map(String::as_str).collect();
        prop_assert_eq!(plan_group(&group(false, &finalizers), used), Plan::Nothing);
        prop_assert_eq!(plan_group(&group(true, &finalizers), used), Plan::Nothing);
    }
}
