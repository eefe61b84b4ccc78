//! Which bundles are published.

use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle as Bundle;
use proptest::prelude::*;

use super::{Action, name, plan};
use crate::scenario;

#[test]
fn scenarios() {
    scenario::check("kube_apiserver_serving_clustertrustbundle_publisher/testdata", |given| {
        let ca: String = given.setting("ca").expect("a CA");
        let actions = plan(&ca, &given.shared::<Bundle>());
        let show = |action: &Action| match action {
            Action::Create(new) => format!("create\n{}", scenario::yaml(new)),
            Action::Update(new) => format!("update\n{}", scenario::yaml(new)),
            Action::Delete(name) => format!("delete {name}\n"),
        };
        if actions.is_empty() { "nothing to write".to_string() } else { actions.iter().map(show).collect() }
    });
}

fn apply(bundles: &mut Vec<Arc<Bundle>>, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::Create(new) => bundles.push(Arc::new(new)),
            Action::Update(new) => {
                bundles.retain(|b| b.name() != new.name());
                bundles.push(Arc::new(new));
            }
            Action::Delete(name) => bundles.retain(|b| b.name() != name),
        }
    }
}

proptest! {
    /// After one round there is one bundle, with the CA.
    #[test]
    fn plan_then_apply_settles(cas in proptest::collection::vec("[a-z]{1,4}", 1..5), tampered in any::<bool>()) {
        let mut bundles = Vec::new();
        for ca in cas {
            let decided = plan(&ca, &bundles);
            apply(&mut bundles, decided);
            prop_assert_eq!(plan(&ca, &bundles), vec![]);
            prop_assert_eq!(bundles.len(), 1);
            prop_assert_eq!(&bundles[0].spec.trust_bundle, &ca);
            if tampered {
                Arc::make_mut(&mut bundles[0]).spec.trust_bundle.push('x');
            }
        }
    }

    /// The signer's one bundle, with the CA in it, is left alone, whatever else is written on it.
    #[test]
    fn a_satisfied_view_needs_nothing(ca in "[a-z]{1,9}", labels in proptest::collection::btree_map("[a-z]{1,3}", "[a-z]{1,3}", 0..3)) {
        let mut bundle = Bundle::default();
        bundle.metadata.name = Some(name(&ca));
        bundle.metadata.labels = Some(labels);
        bundle.spec.trust_bundle = ca.clone();
        prop_assert_eq!(plan(&ca, &[Arc::new(bundle)]), vec![]);
    }

    /// A name tells the content.
    #[test]
    fn names_differ(one in "[a-z]{1,9}", other in "[a-z]{1,9}") {
        prop_assert_eq!(name(&one) == name(&other), one == other);
    }
}
