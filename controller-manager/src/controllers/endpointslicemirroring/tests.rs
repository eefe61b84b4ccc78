//! Which slices mirror Endpoints.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Plan, View, plan};
use crate::scenario;

fn show(plan: &Plan) -> String {
    let mut out = String::new();
    for (what, slices) in [("create", &plan.create), ("update", &plan.update)] {
        for slice in slices {
            out.push_str(&format!("{what}\n{}", scenario::yaml(slice)));
        }
    }
    plan.delete.iter().for_each(|name| out.push_str(&format!("delete {name}\n")));
    if plan.skipped > 0 {
        out.push_str(&format!("skipped {} addresses, {} of them invalid\n", plan.skipped, plan.invalid));
    }
    if out.is_empty() { "nothing to write".to_string() } else { out }
}

#[test]
fn scenarios() {
    scenario::check("endpointslicemirroring/testdata", |given| {
        let (endpoints, service) = (given.maybe::<Endpoints>(), given.maybe::<Service>());
        let slices = given.shared::<EndpointSlice>();
        show(&plan(&View {
            endpoints: endpoints.as_ref(),
            service: service.as_ref(),
            slices: &slices,
            max_per_subset: given.setting("maxPerSubset").unwrap_or(1000),
        }))
    });
}

fn endpoints(addresses: &[u8], ports: &[i32]) -> Endpoints {
    let address = |a: &u8| {
        if a.is_multiple_of(2) {
            json!({"ip": format!("10.0.0.{a}")})
        } else {
            json!({"ip": format!("fd00::{a:x}")})
        }
    };
    let (ready, unready): (Vec<&u8>, Vec<&u8>) = addresses.iter().partition(|a| *a % 3 > 0);
    let list = |addresses: Vec<&u8>| addresses.into_iter().map(address).collect::<Vec<_>>();
    let ports: Vec<_> =
        ports.iter().map(|p| json!({"name": format!("p{p}"), "port": p, "protocol": "TCP"})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "n", "uid": "e", "labels": {"l": "v"}, "annotations": {"a": "b"}},
        "subsets": [{"addresses": list(ready), "notReadyAddresses": list(unready), "ports": ports}],
    }))
    .expect("endpoints")
}

fn apply(slices: &mut Vec<Arc<EndpointSlice>>, plan: Plan, round: usize) {
    slices.retain(|s| !plan.delete.contains(s.metadata.name.as_ref().expect("a name")));
    for new in plan.update {
        let at = slices.iter().position(|s| s.metadata.name == new.metadata.name).expect("the slice");
        slices[at] = Arc::new(new);
    }
    for (i, mut new) in plan.create.into_iter().enumerate() {
        new.metadata.name = Some(format!("db-{round}-{i}"));
        slices.push(Arc::new(new));
    }
}

proptest! {
    /// Any change of addresses and ports settles in one round; then nothing is left to write.
    #[test]
    fn plan_then_apply_settles(
        rounds in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..20), proptest::collection::vec(1i32..5, 0..3)), 1..4),
    ) {
        let service = Service::default();
        let mut slices = Vec::new();
        for (round, (addresses, ports)) in rounds.into_iter().enumerate() {
            let endpoints = endpoints(&addresses, &ports);
            let decide = |slices: &[Arc<EndpointSlice>]| plan(&View {
                endpoints: Some(&endpoints), service: Some(&service), slices, max_per_subset: 1000,
            });
            let decided = decide(&slices);
            apply(&mut slices, decided, round);
            prop_assert_eq!(decide(&slices), Plan::default());
            let mut distinct = addresses.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let total: usize = slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).sum();
            prop_assert_eq!(total, distinct.len());
        }
    }

    /// Without Endpoints, Service, or the wish to be mirrored nothing stays, and then nothing is to do.
    #[test]
    fn what_is_not_mirrored_leaves_no_slices(addresses in proptest::collection::vec(any::<u8>(), 1..20), skip in any::<bool>()) {
        let service = Service::default();
        let mut made = endpoints(&addresses, &[80]);
        let mut slices = Vec::new();
        let first = plan(&View { endpoints: Some(&made), service: Some(&service), slices: &slices, max_per_subset: 1000 });
        apply(&mut slices, first, 0);
        if skip {
            let labels = made.metadata.labels.get_or_insert_default();
            labels.insert("endpointslice.kubernetes.io/skip-mirror".to_string(), "true".to_string());
        }
        let service = skip.then_some(&service);
        let view = |slices: &[Arc<EndpointSlice>]| plan(&View { endpoints: Some(&made), service, slices, max_per_subset: 1000 });
        let decided = view(&slices);
        prop_assert_eq!(decided.delete.len(), slices.len());
        apply(&mut slices, decided, 1);
        prop_assert_eq!(view(&slices), Plan::default());
    }

    /// Slices that mirror the Endpoints are left alone, in whatever order they are seen, as are slices of none.
    #[test]
    fn a_satisfied_view_needs_nothing(addresses in proptest::collection::vec(any::<u8>(), 0..20), backwards: bool) {
        let (service, made, mut slices) = (Service::default(), endpoints(&addresses, &[80, 443]), Vec::new());
        let view = |slices: &[Arc<EndpointSlice>]| plan(&View {
            endpoints: Some(&made), service: Some(&service), slices, max_per_subset: 1000,
        });
        let first = view(&slices);
        apply(&mut slices, first, 0);
        if backwards {
            slices.reverse();
        }
        prop_assert_eq!(view(&slices), Plan::default());
        let nothing = plan(&View { endpoints: None, service: None, slices: &[], max_per_subset: 1000 });
        prop_assert_eq!(nothing, Plan::default());
    }
}
