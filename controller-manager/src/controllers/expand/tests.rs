//! Who expands volumes.

use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Plan, RESIZER, plan};
use crate::controllers::persistentvolume::facts::annotate;
use crate::scenario;

#[test]
fn scenarios() {
    scenario::check("expand/testdata", |given| match plan(&given.one::<Claim>(), &given.one::<Volume>()) {
        Ok(plan) => format!("{plan:?}"),
        Err(error) => format!("error: {error}"),
    });
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn claim(asks: u8, has: u8) -> Claim {
    read(json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {"resources": {"requests": {"storage": format!("{asks}Gi")}}},
        "status": {"capacity": {"storage": format!("{has}Gi")}},
    }))
}

fn volume(source: Value) -> Volume {
    let mut spec = json!({"claimRef": {"namespace": "n", "name": "c", "uid": "u"}});
    spec.as_object_mut().expect("a map").extend(source.as_object().cloned().expect("a map"));
    read(json!({"metadata": {"name": "v"}, "spec": spec}))
}

proptest! {
    /// A driver is named once.
    #[test]
    fn plan_then_apply_settles(asks in 1u8..5, has in 1u8..5) {
        let (mut claim, volume) = (claim(asks, has), volume(json!({"awsElasticBlockStore": {"volumeID": "x"}})));
        if let Ok(Plan::Migrated { driver, name_it: true, .. }) = plan(&claim, &volume) {
            annotate(&mut claim.metadata, RESIZER, driver);
        }
        let named = matches!(plan(&claim, &volume), Ok(Plan::Nothing | Plan::Migrated { name_it: false, .. }));
        prop_assert!(named);
    }

    /// Who has what it asks for needs nothing.
    #[test]
    fn a_satisfied_view_needs_nothing(asks in 1u8..5, more in 0u8..5) {
        let volume = volume(json!({"csi": {"driver": "d", "volumeHandle": "h"}}));
        prop_assert_eq!(plan(&claim(asks, asks + more), &volume), Ok(Plan::Nothing));
        prop_assert_eq!(plan(&claim(asks + more + 1, asks), &volume), Ok(Plan::Wait));
    }
}
