//! What is said of pools.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{
    DeviceTaintRule as Rule, ResourceClaim as Claim, ResourceSlice as Slice,
};
use k8s_openapi::api::resource::v1alpha3::ResourcePoolStatusRequest as Request;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Plan, View, plan};
use crate::scenario;

const NOW: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

#[test]
fn scenarios() {
    scenario::check("resourcepoolstatusrequest/testdata", |given| {
        let view = View {
            request: &given.one(),
            slices: &given.shared::<Slice>(),
            claims: &given.shared::<Claim>(),
            rules: &given.shared::<Rule>(),
        };
        match plan(&view, now()) {
            Plan::Answer(status) => scenario::yaml(&*status),
            other => format!("{other:?}"),
        }
    });
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<Arc<T>> {
    let all: Option<Vec<T>> = serde_json::from_value(value.clone()).expect("recorded objects");
    all.into_iter().flatten().map(Arc::new).collect()
}

/// Recorded by `e2e/oracle/controllers pools`: the controller as a whole. Without a status it had given up.
#[test]
fn answers_are_upstreams() {
    let (mut answered, mut waiting) = (0, 0);
    for line in include_str!("testdata/pools.jsonl").lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let request: Request = serde_json::from_value(record["request"].clone()).expect("a request");
        let (slices, claims, rules) =
            (list(&record["slices"]), list(&record["claims"]), list(&record["rules"]));
        let view = View { request: &request, slices: &slices, claims: &claims, rules: &rules };
        match plan(&view, now()) {
            Plan::Answer(status) => {
                assert_eq!(serde_json::to_value(&*status).expect("JSON"), record["status"], "{line}");
                answered += 1;
            }
            Plan::Incomplete(_) => {
                assert_eq!(record["status"], Value::Null, "{line}");
                waiting += 1;
            }
            other => panic!("{other:?}: {line}"),
        }
    }
    assert!(answered > 100 && waiting > 5, "{answered} answers, {waiting} without");
}

fn request(value: Value) -> Request {
    serde_json::from_value(value).expect("a request")
}

fn alone(request: &Request, at: Timestamp) -> Plan {
    plan(&View { request, slices: &[], claims: &[], rules: &[] }, at)
}

/// Table of TestCleanupExpiredRequests.
#[test]
fn time_passes() {
    let hours = |h: i64| now() + jiff::SignedDuration::from_hours(h);
    let check = |status: Value, h: i64, expected: &Plan| {
        let of = request(
            json!({"metadata": {"name": "r", "creationTimestamp": NOW}, "spec": {"driver": "d"}, "status": status}),
        );
        assert_eq!(alone(&of, hours(h)), *expected, "{of:?}");
    };
    let done = |kind: &str| {
        json!({"poolCount": 0, "conditions": [{
            "type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T10:00:00Z",
        }]})
    };
    let half = Duration::from_secs(3600);
    check(done("Complete"), 10, &Plan::Keep(half));
    check(done("Complete"), 11, &Plan::Delete);
    check(done("Failed"), 12, &Plan::Delete);
    check(done("Other"), 2, &Plan::Delete);
    check(json!({"poolCount": 0}), 0, &Plan::Keep(half));
    check(Value::Null, 24, &Plan::Delete);
}

fn slice(pool: usize, generation: i64, at: usize, of: i64, devices: usize) -> Arc<Slice> {
    let devices: Vec<Value> = (0..devices).map(|d| json!({"name": format!("d{at}-{d}")})).collect();
    let value = json!({
        "metadata": {"name": format!("s{pool}-{generation}-{at}")},
        "spec": {
            "driver": "d", "devices": devices,
            "pool": {"name": format!("p{pool}"), "generation": generation, "resourceSliceCount": of},
        },
    });
    Arc::new(serde_json::from_value(value).expect("a slice"))
}

fn claim(pool: usize, at: usize, device: usize, admin: bool) -> Arc<Claim> {
    let result = json!({"request": "r", "driver": "d", "pool": format!("p{pool}"), "device": format!("d{at}-{device}"), "adminAccess": admin});
    let value = json!({"metadata": {"name": "c"}, "spec": {}, "status": {"allocation": {"devices": {"results": [result]}}}});
    Arc::new(serde_json::from_value(value).expect("a claim"))
}

proptest! {
    /// One answer is enough: it is written once, then only time passes, and then the request goes. Its numbers add up.
    #[test]
    fn plan_then_apply_settles(
        pools in proptest::collection::vec((1usize..4, 0usize..5, any::<bool>()), 0..5),
        used in proptest::collection::vec((0usize..5, 0usize..3, 0usize..5, any::<bool>()), 0..6),
    ) {
        let slices: Vec<Arc<Slice>> = pools.iter().enumerate().flat_map(|(pool, (count, devices, old))| {
            let old = old.then(|| slice(pool, 1, 9, 1, 2));
            (0..*count).map(move |at| slice(pool, 2, at, *count as i64, *devices)).chain(old)
        }).collect();
        let claims: Vec<Arc<Claim>> = used.iter().map(|(p, at, d, admin)| claim(*p, *at, *d, *admin)).collect();
        let mut of = request(json!({"metadata": {"name": "r", "creationTimestamp": NOW}, "spec": {"driver": "d"}}));
        let Plan::Answer(status) = plan(&View { request: &of, slices: &slices, claims: &claims, rules: &[] }, now()) else {
            return Err(TestCaseError::fail("no answer"));
        };
        prop_assert_eq!(usize::try_from(status.pool_count).ok(), Some(pools.len()));
        for (status, (count, devices, _)) in status.pools.iter().flatten().zip(&pools) {
            let (all, used) = (status.total_devices.expect("a count"), status.allocated_devices.expect("a count"));
            prop_assert_eq!(usize::try_from(all).ok(), Some(count * devices));
            prop_assert_eq!(status.available_devices, Some((all - used).max(0)));
        }
        of.status = Some(*status);
        let after = |request: &Request, at| plan(&View { request, slices: &[], claims: &claims, rules: &[] }, at);
        let Plan::Keep(left) = after(&of, now()) else { return Err(TestCaseError::fail("not kept")) };
        prop_assert_eq!(after(&of, now() + left), Plan::Delete);
    }

    /// An answered request is left alone, whatever becomes of the pools.
    #[test]
    fn a_satisfied_view_needs_nothing(devices in 0usize..5, minutes in 0i64..60) {
        let of = request(json!({
            "metadata": {"name": "r", "creationTimestamp": NOW}, "spec": {"driver": "d"},
            "status": {"poolCount": 0, "conditions": [{
                "type": "Complete", "status": "True", "reason": "R", "message": "", "lastTransitionTime": NOW,
            }]},
        }));
        let at = now() + jiff::SignedDuration::from_mins(minutes);
        let plan = plan(&View { request: &of, slices: &[slice(0, 1, 0, 2, devices)], claims: &[], rules: &[] }, at);
        prop_assert_eq!(plan, Plan::Keep(Duration::from_secs(3600 - 60 * minutes.unsigned_abs())));
    }

    /// A pool that lacks slices is not judged; the last one to come makes the answer.
    #[test]
    fn a_pool_waits_for_its_slices(count in 2usize..6, missing in 0usize..6) {
        let missing = missing % count;
        let of = request(json!({"metadata": {"name": "r", "creationTimestamp": NOW}, "spec": {"driver": "d"}}));
        let mut slices: Vec<_> =
            (0..count).filter(|at| *at != missing).map(|at| slice(0, 1, at, count as i64, 1)).collect();
        let decide = |slices: &[Arc<Slice>]| plan(&View { request: &of, slices, claims: &[], rules: &[] }, now());
        prop_assert_eq!(decide(&slices), Plan::Incomplete(Duration::from_secs(24 * 3600)));
        slices.push(slice(0, 1, missing, count as i64, 1));
        prop_assert!(matches!(decide(&slices), Plan::Answer(_)));
    }
}
