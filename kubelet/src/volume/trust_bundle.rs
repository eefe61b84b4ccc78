//! Trust anchors for projected volumes, out of ClusterTrustBundles.
//!
//! The watch starts when a pod first asks, so that nodes without such pods do not hold every bundle of the cluster. Only
//! `certificates.k8s.io/v1` is read: a kubelet is never newer than its API server, and this one serves that version.
//! Upstream: pkg/kubelet/clustertrustbundle/clustertrustbundle_manager.go, v1.37.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use informer::{Informer, Options};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::labels::Selector;
use machinery::pem;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How long a first state is waited for.
const FIRST_STATE: Duration = Duration::from_secs(10);
/// Longest label selector in text form, in bytes.
const MAX_SELECTOR: usize = 100 * 1024;
const NO_API: &str = "ClusterTrustBundle projection is not supported in static kubelet mode";

/// Trust bundles of the cluster.
pub struct TrustBundles {
    client: Option<Client>,
    stop: CancellationToken,
    watch: Mutex<Option<Informer<ClusterTrustBundle>>>,
    order: RandomState,
}

impl TrustBundles {
    /// Without a client every question is answered with an error. The watch ends with `stop`.
    pub fn new(client: Option<Client>, stop: CancellationToken) -> Self {
        Self { client, stop, watch: Mutex::default(), order: RandomState::new() }
    }

    /// The trust anchors in PEM that a pod's volume asks for; none for an optional source that matches nothing.
    ///
    /// # Errors
    /// If they are not known or a source that is not optional matches nothing.
    pub async fn anchors(&self, source: &ClusterTrustBundleProjection) -> Result<String, String> {
        let client = self.client.as_ref().ok_or(NO_API)?;
        let informer = self.watched(client);
        if !informer.has_synced() {
            let wait = tokio::time::timeout(FIRST_STATE, informer.wait_synced(&self.stop));
            if !matches!(wait.await, Ok(true)) {
                return Err("ClusterTrustBundle informer has not yet synced".to_owned());
            }
        }
        select(source, |name| informer.store().get_by("", name), || informer.store().list())
            .map(|found| normalize(&found, &self.order))
    }

    fn watched(&self, client: &Client) -> Informer<ClusterTrustBundle> {
        let mut watch = self.watch.lock();
        let informer = watch.get_or_insert_with(|| Informer::new(client.all(), Options::default()));
        informer.start(&self.stop);
        informer.clone()
    }
}

type Found = Vec<Arc<ClusterTrustBundle>>;

/// The bundles that a source names.
fn select(
    source: &ClusterTrustBundleProjection,
    get: impl FnOnce(&str) -> Option<Arc<ClusterTrustBundle>>,
    list: impl FnOnce() -> Found,
) -> Result<Found, String> {
    let optional = source.optional.unwrap_or(false);
    if let Some(name) = &source.name {
        return match get(name) {
            Some(bundle) => Ok(vec![bundle]),
            None if optional => Ok(Vec::new()),
            None => Err(format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {} not found",
                machinery::golang::quote(name)
            )),
        };
    }
    let Some(signer) = &source.signer_name else {
        return Err("ClusterTrustBundle projection requires either name or signerName to be set".to_owned());
    };
    let selector =
        selector(source.label_selector.as_ref()).map_err(|e| format!("while parsing label selector: {e}"))?;
    let length = selector.to_string().len();
    if length > MAX_SELECTOR {
        return Err(format!("label selector length ({length}) is larger than {MAX_SELECTOR}"));
    }
    let none = std::collections::BTreeMap::new();
    let mut found = list();
    found.retain(|b| {
        b.spec.signer_name.as_deref() == Some(signer)
            && selector.matches(b.metadata.labels.as_ref().unwrap_or(&none))
    });
    if found.is_empty() && !optional {
        return Err("combination of signerName and labelSelector matched zero ClusterTrustBundles".to_owned());
    }
    Ok(found)
}

/// No selector matches nothing, an empty one everything.
fn selector(source: Option<&LabelSelector>) -> Result<Selector, String> {
    let Some(source) = source else { return Ok(Selector::nothing()) };
    let labels = source.match_labels.iter().flatten().map(|(k, v)| (k.as_str(), v.as_str()));
    let expressions = source.match_expressions.iter().flatten().map(|e| {
        let values = e.values.iter().flatten().map(|v| v.as_str().into()).collect();
        (e.key.as_str(), e.operator.as_str(), values)
    });
    Selector::from_parts(labels, expressions).map_err(|e| e.to_string())
}

/// Every trust anchor once, without headers and text between them. The order says nothing, so it is another one after
/// every start, which keeps pods from relying on it; upstream shuffles.
fn normalize(bundles: &[Arc<ClusterTrustBundle>], order: &RandomState) -> String {
    let all: BTreeSet<Vec<u8>> =
        bundles.iter().flat_map(|b| pem::blocks(b.spec.trust_bundle.as_bytes())).map(|b| b.bytes).collect();
    let mut all: Vec<(u64, Vec<u8>)> = all.into_iter().map(|der| (order.hash_one(&der), der)).collect();
    all.sort();
    all.iter().map(|(_, der)| pem::encode("CERTIFICATE", der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn bundle(name: &str, signer: Option<&str>, label: &str, anchors: &[&[u8]]) -> Arc<ClusterTrustBundle> {
        let text: String = anchors.iter().map(|der| format!("# a\n{}", pem::encode("X", der))).collect();
        let object = json!({
            "metadata": {"name": name, "labels": {"alive": label}},
            "spec": {"signerName": signer, "trustBundle": text}
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn ask(source: Value) -> Result<Vec<Vec<u8>>, String> {
        let all = vec![
            bundle("plain", None, "", &[b"1", b"1"]),
            bundle("s:one", Some("s/s"), "yes", &[b"2", b"3"]),
            bundle("s:two", Some("s/s"), "no", &[b"3", b"4"]),
            bundle("t:one", Some("t/t"), "yes", &[b"5"]),
        ];
        let mut source = source;
        source["path"] = json!("p");
        let source: ClusterTrustBundleProjection = serde_json::from_value(source).unwrap();
        let get = |name: &str| all.iter().find(|b| b.metadata.name.as_deref() == Some(name)).cloned();
        let text = normalize(&select(&source, get, || all.clone())?, &RandomState::new());
        assert!(!text.contains('#') && !text.contains(" X-"));
        let mut anchors: Vec<_> = pem::blocks(text.as_bytes()).into_iter().map(|b| b.bytes).collect();
        anchors.sort();
        Ok(anchors)
    }

    #[test]
    fn picks_and_normalizes() {
        let signer = |selector: Value, optional: bool| {
            ask(json!({"signerName": "s/s", "labelSelector": selector, "optional": optional}))
        };
        let anchors = |list: &[&[u8]]| Ok(list.iter().map(|a| a.to_vec()).collect::<Vec<_>>());
        let error = |text: &str| Err(text.to_owned());
        let none = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
        assert_eq!(ask(json!({"name": "plain"})), anchors(&[b"1"]));
        assert_eq!(
            ask(json!({"name": "x"})),
            error("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"x\" not found")
        );
        assert_eq!(ask(json!({"name": "x", "optional": true})), anchors(&[]));
        assert_eq!(signer(json!({}), false), anchors(&[b"2", b"3", b"4"]));
        assert_eq!(signer(json!({"matchLabels": {"alive": "yes"}}), false), anchors(&[b"2", b"3"]));
        assert_eq!(signer(json!(null), false), error(none));
        assert_eq!(signer(json!(null), true), anchors(&[]));
        assert!(signer(json!({"matchLabels": {"alive": "?"}}), true).is_err());
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Is"}]});
        assert_eq!(
            signer(bad, true),
            error("while parsing label selector: \"Is\" is not a valid label selector operator")
        );
        assert_eq!(
            ask(json!({})),
            error("ClusterTrustBundle projection requires either name or signerName to be set")
        );
    }

    #[test]
    fn order_stays_in_a_process() {
        let order = RandomState::new();
        let one = bundle("a", None, "", &[b"1", b"2", b"3", b"4"]);
        let other = bundle("a", None, "", &[b"4", b"3", b"2", b"1", b"1"]);
        assert_eq!(normalize(&[one], &order), normalize(&[other], &order));
    }
}
