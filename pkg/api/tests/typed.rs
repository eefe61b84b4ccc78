//! Typed objects read straight from protobuf are those read through the tree, for generated objects of many kinds.

mod support;

use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, autoscaling::v2 as autoscaling,
    batch::v1 as batch, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    flowcontrol::v1 as flowcontrol, networking::v1 as networking, resource::v1 as resource,
    storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use machinery::{json, proto, value};
use serde::de::DeserializeOwned;

fn check<K: DeserializeOwned + PartialEq + std::fmt::Debug + k8s_openapi::Resource>() {
    let table = api::types();
    let id = table.kind(K::API_VERSION, K::KIND).expect("a kind");
    for seed in 0..40 {
        let document = support::document(table, seed, id, K::API_VERSION, K::KIND);
        let Ok(d) = json::decode(table, id, document.as_bytes(), false) else { continue };
        let wire = proto::encode(table, id, &d.value);
        let (_, tree) = proto::decode(table, &wire).expect("own output");
        match (value::from_value::<K>(&tree), proto::from_slice_direct::<K>(table, &wire)) {
            (Ok(through_tree), direct) => {
                assert_eq!(direct, Some(through_tree), "{} seed {seed}", K::KIND);
            }
            (Err(_), direct) => assert_eq!(direct, None, "{} seed {seed}", K::KIND),
        }
    }
}

macro_rules! kinds {
    ($($kind:ty),* $(,)?) => {
        #[test]
        fn both_ways_read_the_same() {
            $(check::<$kind>();)*
        }
    };
}

kinds! {
    core::Pod, core::Node, core::Service, core::Secret, core::Event, core::PersistentVolume, core::LimitRange,
    apps::Deployment, apps::ControllerRevision, batch::CronJob, discovery::EndpointSlice, networking::Ingress,
    networking::NetworkPolicy, storage::CSINode, coordination::Lease, autoscaling::HorizontalPodAutoscaler,
    flowcontrol::FlowSchema, resource::ResourceSlice, admission::ValidatingWebhookConfiguration,
    apiextensions::CustomResourceDefinition,
}
