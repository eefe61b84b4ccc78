//! Publishes the API server's CA in every namespace as ConfigMap `kube-root-ca.crt`, for pods to trust it by.
//!
//! Upstream: pkg/controller/certificates/rootcacertpublisher/publisher.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::kubeconfig::Source;
use client::{Client, Error as ClientError};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::Context;
use crate::descriptor::Running;

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

/// What to do about one namespace.
#[derive(Debug, PartialEq)]
enum Action {
    Nothing,
    Create(ConfigMap),
    Update(ConfigMap),
}

/// Decides. Pure.
fn plan(namespace: &str, current: Option<&ConfigMap>, bundle: &str) -> Action {
    let data = BTreeMap::from([(FILE.to_string(), bundle.to_string())]);
    let Some(current) = current else {
        return Action::Create(ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_string()),
                namespace: Some(namespace.to_string()),
                annotations: Some(BTreeMap::from([(DESCRIPTION.0.to_string(), DESCRIPTION.1.to_string())])),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        });
    };
    let described = current.metadata.annotations.as_ref().and_then(|a| a.get(DESCRIPTION.0));
    if current.data.as_ref() == Some(&data) && described.is_some_and(|d| !d.is_empty()) {
        return Action::Nothing;
    }
    let mut wanted = current.clone();
    wanted.data = Some(data);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION.0.to_string(), DESCRIPTION.1.to_string());
    Action::Update(wanted)
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let bundle = root_ca(context)?.unwrap_or_else(|| {
        // An empty one is published, as upstream does: pods mount the config map and would wait for it for ever.
        tracing::warn!("No --root-ca-file and no CA in the kubeconfig: namespaces are given an empty CA");
        Vec::new()
    });
    let bundle = String::from_utf8(bundle).map_err(|e| format!("the root CA is no text: {e}"))?;
    let namespaces = context.factory.informer::<Namespace>(Options::default());
    let fields = format!("metadata.name={NAME}");
    let maps = context.factory.informer::<ConfigMap>(Options::default().fields(&fields));
    let queue: WorkQueue<String> = WorkQueue::new("root_ca_cert_publisher");
    let to = queue.clone();
    namespaces.subscribe(move |event| match event {
        Event::Deleted(_) => {}
        Event::Added(n) | Event::Updated { new: n, .. } => {
            to.add(n.metadata.name.clone().unwrap_or_default())
        }
    });
    let to = queue.clone();
    maps.subscribe(move |event| {
        let map = event.object();
        if map.metadata.name.as_deref() == Some(NAME) {
            to.add(map.metadata.namespace.clone().unwrap_or_default());
        }
    });
    let (client, bundle, token) = (Arc::new(context.client()), Arc::new(bundle), context.token.clone());
    Ok(Box::pin(async move {
        if !(namespaces.wait_synced(&token).await && maps.wait_synced(&token).await) {
            return;
        }
        let (known, made) = (namespaces.store(), maps.store());
        queue
            .run(1, &token, move |name: String| {
                let alive = known.get(&name).is_some_and(|n| n.metadata.deletion_timestamp.is_none());
                let action = if alive {
                    plan(&name, made.get_by(&name, NAME).as_deref(), &bundle)
                } else {
                    Action::Nothing
                };
                let client = client.clone();
                async move { act(&client, &name, action).await.map(|()| None) }
            })
            .await;
    }))
}

/// The CA that pods are to trust: the flag's file, else that of our own connection. Differs: upstream takes the latter only
/// when it stands in the kubeconfig itself, not in a file that it names.
///
/// # Errors
/// A file cannot be read, or holds no certificate.
pub fn root_ca(context: &Context) -> Result<Option<Vec<u8>>, Error> {
    let path = context.flags.string("root-ca-file");
    if path.is_empty() {
        return match &context.clients.config().ca {
            None => Ok(None),
            Some(Source::Inline(bytes)) => Ok(Some(bytes.clone())),
            Some(Source::File(path)) => std::fs::read(path)
                .map(Some)
                .map_err(|e| format!("error reading the API server's CA at {}: {e}", path.display()).into()),
        };
    }
    let bytes = std::fs::read(path).map_err(|e| format!("error reading root-ca-file at {path}: {e}"))?;
    if x509_parser::pem::parse_x509_pem(&bytes).is_err() {
        return Err(format!("error parsing root-ca-file at {path}: it holds no PEM certificate").into());
    }
    Ok(Some(bytes))
}

async fn act(client: &Client, namespace: &str, action: Action) -> Result<(), ClientError> {
    let api = client.namespaced::<ConfigMap>(namespace);
    match action {
        Action::Nothing => Ok(()),
        Action::Update(map) => api.replace(&map).await.map(drop),
        Action::Create(map) => match api.create(&map).await {
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        },
    }
}

#[cfg(test)]
mod tests {
    use client::Meta;
    use proptest::prelude::*;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("root_ca_certificate_publisher/testdata", |given| {
            let maps: Vec<ConfigMap> = given.all();
            let current = maps.iter().find(|m| m.name() == NAME && m.namespace() == "ns");
            match plan("ns", current, &given.setting::<String>("ca").expect("a CA")) {
                Action::Nothing => "nothing to write".to_string(),
                Action::Create(map) => format!("create\n{}", scenario::yaml(&map)),
                Action::Update(map) => format!("update\n{}", scenario::yaml(&map)),
            }
        });
    }

    #[test]
    fn creates_repairs_and_rests() {
        let Action::Create(made) = plan("n", None, "PEM") else { panic!("nothing is made") };
        assert_eq!(plan("n", Some(&made), "PEM"), Action::Nothing);
        let mut tampered = made.clone();
        tampered.data = None;
        assert_eq!(plan("n", Some(&tampered), "PEM"), Action::Update(made.clone()));
        tampered = made.clone();
        tampered.metadata.annotations = None;
        assert_eq!(plan("n", Some(&tampered), "PEM"), Action::Update(made));
    }

    /// A map as somebody may have left it.
    fn tampered(data: &[(String, String)], annotations: &[(String, String)]) -> ConfigMap {
        let Action::Create(mut map) = plan("n", None, "PEM") else { panic!("nothing is made") };
        map.data = Some(data.iter().cloned().collect());
        map.metadata.annotations = Some(annotations.iter().cloned().collect());
        map
    }

    proptest! {
        /// One write is enough, whatever was there; annotations of others stay.
        #[test]
        fn plan_then_apply_settles(
            data in prop::collection::vec(("ca.crt|other", "PEM|x"), 0..3),
            annotations in prop::collection::vec(("kubernetes.io/description|mine", "|y"), 0..3), ca in "PEM|NEW",
        ) {
            let before = tampered(&data, &annotations);
            let after = match plan("n", Some(&before), &ca) {
                Action::Update(map) => map,
                Action::Nothing => before.clone(),
                Action::Create(_) => return Err(TestCaseError::fail("it is there already")),
            };
            prop_assert_eq!(plan("n", Some(&after), &ca), Action::Nothing);
            prop_assert_eq!(after.data, Some(BTreeMap::from([(FILE.to_string(), ca)])));
            let mine = |m: &ConfigMap| m.metadata.annotations.as_ref().and_then(|a| a.get("mine").cloned());
            prop_assert_eq!(after.metadata.annotations.as_ref().and_then(|a| a.get("mine").cloned()), mine(&before));
        }

        /// A map with the CA and any description is left alone.
        #[test]
        fn a_satisfied_view_needs_nothing(ca in "[A-Z]{1,9}", description in "[a-z ]{1,9}", labels in prop::collection::btree_map("[a-z]{1,3}", "[a-z]{1,3}", 0..3)) {
            let mut map = tampered(&[(FILE.to_string(), ca.clone())], &[(DESCRIPTION.0.to_string(), description)]);
            map.metadata.labels = Some(labels);
            prop_assert_eq!(plan("n", Some(&map), &ca), Action::Nothing);
        }
    }
}
