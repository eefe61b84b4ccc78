//! When ServiceCIDRs are ready, and when they go.

use std::sync::Arc;

use client::Meta;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use proptest::prelude::*;
use serde_json::json;

use super::plan::{FINALIZER, Plan, View, plan};
use crate::scenario;

#[test]
fn scenarios() {
    scenario::check("servicecidrs/testdata", |given| {
        let (all, addresses) = (given.shared::<ServiceCIDR>(), given.shared::<IPAddress>());
        let cidr = all.iter().find(|c| c.name() == "looked-at").expect("the one looked at");
        let now = "2026-01-01T00:00:10Z".parse().expect("a time");
        match plan(&View { cidr, all: &all, addresses: &addresses }, now) {
            Plan::Tell(condition) => scenario::yaml(&condition),
            other => format!("{other:?}"),
        }
    });
}

fn cidr(name: &str, prefix: &str, deleted: bool) -> ServiceCIDR {
    let deleted = deleted.then_some(Timestamp::UNIX_EPOCH);
    let cidr = json!({"metadata": {"name": name, "deletionTimestamp": deleted}, "spec": {"cidrs": [prefix]}});
    serde_json::from_value(cidr).expect("a CIDR")
}

fn address(last: u8) -> Arc<IPAddress> {
    let labels = json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    let address = json!({"metadata": {"name": format!("10.0.0.{last}"), "labels": labels}});
    Arc::new(serde_json::from_value(address).expect("an address"))
}

proptest! {
    /// Step by step every CIDR becomes ready, or goes, or says why it cannot; then nothing is left to do, and no address
    /// is without a CIDR that had one before.
    #[test]
    fn plan_then_apply_settles(
        own in 24u8..32, other in proptest::option::of(24u8..32), deleted in any::<bool>(),
        addresses in proptest::collection::vec(1u8..255, 0..6),
    ) {
        let now = Timestamp::from_second(1000).expect("a time");
        let addresses: Vec<_> = addresses.into_iter().map(address).collect();
        let others: Vec<_> = other.iter().map(|l| Arc::new(cidr("other", &format!("10.0.0.0/{l}"), false))).collect();
        let mut one = cidr("one", &format!("10.0.0.0/{own}"), deleted);
        for _ in 0..4 {
            let mut all = others.clone();
            all.push(Arc::new(one.clone()));
            match plan(&View { cidr: &one, all: &all, addresses: &addresses }, now) {
                Plan::Nothing => return Ok(()),
                Plan::Guard => one.metadata.finalizers = Some(vec![FINALIZER.to_string()]),
                Plan::LetGo => {
                    one.metadata.finalizers = None;
                    for a in &addresses {
                        let at = a.name().parse().expect("an address");
                        prop_assert!(!super::contains(&one, at) || others.iter().any(|o| super::contains(o, at)));
                    }
                }
                Plan::Tell(condition) => one.status.get_or_insert_default().conditions = Some(vec![*condition]),
                Plan::Wait(_) => prop_assert!(false, "the grace is over"),
            }
        }
        prop_assert!(false, "it never settles");
    }

    /// A ready one needs nothing, however many addresses there are.
    #[test]
    fn a_satisfied_view_needs_nothing(addresses in proptest::collection::vec(1u8..255, 0..20)) {
        let addresses: Vec<_> = addresses.into_iter().map(address).collect();
        let mut one = cidr("one", "10.0.0.0/24", false);
        one.metadata.finalizers = Some(vec![FINALIZER.to_string()]);
        let now = Timestamp::UNIX_EPOCH;
        let Plan::Tell(condition) = plan(&View { cidr: &one, all: &[], addresses: &addresses }, now) else {
            panic!("it is told");
        };
        one.status.get_or_insert_default().conditions = Some(vec![*condition]);
        prop_assert_eq!(plan(&View { cidr: &one, all: &[], addresses: &addresses }, now), Plan::Nothing);
    }
}
