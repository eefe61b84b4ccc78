//! Gets certificates for pods and keeps them fresh.
//!
//! One queue with an entry for every source of that kind in every pod; it is filled by new pods, by changes of requests and
//! by timers. Upstream looks at everything once a minute or two instead of setting timers, and watches requests from the
//! start; this watch starts with the first pod that needs it.
//! Upstream: IssuingManager in pkg/kubelet/podcertificate/podcertificatemanager.go, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use component::metrics::{Kind, Metrics, Sample, default_registry};
use controller::WorkQueue;
use informer::{Event, Informer, Options, Store};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::{Node, Pod, PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::key;
use super::state::{Moment, Next, SPREAD, State, until};
use crate::events::Events;
use crate::pod::store::PodStore;
use crate::pod::view::PodView;

/// One source of one volume of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    pod: String,
    uid: String,
    volume: String,
    index: usize,
}

impl Key {
    fn new(pod: &Pod, volume: &str, index: usize) -> Self {
        Self {
            namespace: pod.namespace().to_owned(),
            pod: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            volume: volume.to_owned(),
            index,
        }
    }
}

/// All sources of that kind, with volume and index.
fn sources(pod: &Pod) -> impl Iterator<Item = (&str, usize, &PodCertificateProjection)> {
    pod.spec().volumes.iter().flatten().flat_map(|volume| {
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        sources
            .enumerate()
            .filter_map(|(index, s)| Some((volume.name.as_str(), index, s.pod_certificate.as_ref()?)))
    })
}

/// Certificates of the node's pods.
pub struct PodCertificates {
    client: Client,
    pods: Arc<PodStore>,
    events: Events,
    node_name: String,
    node: Option<Store<Node>>,
    queue: WorkQueue<Key>,
    requests: Informer<PodCertificateRequest>,
    states: Mutex<HashMap<Key, State>>,
    stop: CancellationToken,
}

impl PodCertificates {
    /// Certificates for the pods in `pods`; nothing happens before [`PodCertificates::run`].
    pub fn new(
        client: Client,
        pods: Arc<PodStore>,
        events: Events,
        (node_name, node): (&str, Option<Store<Node>>),
        stop: CancellationToken,
    ) -> Self {
        let options = Options::default().fields(&format!("spec.nodeName={node_name}"));
        let requests = Informer::new(client.all(), options);
        Self {
            client,
            pods,
            events,
            node_name: node_name.to_owned(),
            node,
            queue: WorkQueue::new("pod_certificates"),
            requests,
            states: Mutex::default(),
            stop,
        }
    }

    /// Works until the process stops. `ready` is told the pods whose volumes can now be made or have new contents.
    pub async fn run(self: Arc<Self>, ready: impl Fn(&str) + Send + Sync + 'static) {
        let this = self.clone();
        // Dropping the subscription would not end it; it ends with the watch.
        let _changes = self.requests.subscribe(move |event| {
            let (Event::Added(request) | Event::Updated { new: request, .. } | Event::Deleted(request)) =
                event;
            if let Some(pod) = this.pods.get(&request.spec.pod_uid) {
                this.track(&pod);
            }
        });
        let (this, ready) = (self.clone(), Arc::new(ready));
        let sync = move |key: Key| {
            let (this, ready) = (this.clone(), ready.clone());
            async move { this.sync(&key, ready.as_ref()).await }
        };
        self.queue.run(1, &self.stop, sync).await;
    }

    /// Takes care of a pod's sources.
    pub fn track(&self, pod: &Pod) {
        for (volume, index, _) in sources(pod) {
            self.requests.start(&self.stop);
            self.queue.add(Key::new(pod, volume, index));
        }
    }

    /// Forgets the keys and certificates of a pod.
    pub fn forget(&self, pod_uid: &str) {
        self.states.lock().retain(|key, _| key.uid != pod_uid);
    }

    /// Key and certificate chain in PEM for a source of a pod's volume.
    ///
    /// # Errors
    /// If there are none yet or never will be.
    pub fn bundle(&self, pod: &Pod, volume: &str, index: usize) -> Result<(Vec<u8>, Vec<u8>), String> {
        let key = Key::new(pod, volume, index);
        match self.states.lock().get(&key) {
            Some(state) => state.bundle(),
            None => Err(format!(
                "no credentials yet for key={{{} {} {} {} {}}}",
                key.namespace, key.pod, key.uid, key.volume, key.index
            )),
        }
    }

    async fn sync(&self, key: &Key, ready: &(impl Fn(&str) + Sync)) -> Result<Option<Duration>, String> {
        let Some(pod) = self.pods.get(&key.uid) else {
            self.forget(&key.uid);
            return Ok(None);
        };
        let Some((.., source)) =
            sources(&pod).find(|(volume, index, _)| *volume == key.volume && *index == key.index)
        else {
            return Ok(None);
        };
        // Containers that have ended need no fresh certificates.
        if pod.is_api_terminal() {
            return Ok(None);
        }
        self.requests.wait_synced(&self.stop).await;
        let before = self.states.lock().entry(key.clone()).or_default().clone();
        let request =
            before.request_name().and_then(|name| self.requests.store().get_by(&key.namespace, name));
        let moment = Moment { now: Timestamp::now(), jitter: jitter() };
        let (state, warnings, next) = before.clone().step(&key.namespace, request.as_deref(), moment);
        for (reason, message) in warnings {
            self.events.warning(&pod, &reason, &message);
        }
        self.set(key, state.clone());
        if matches!(state, State::Fresh(_)) && state.bundle() != before.bundle() {
            ready(&key.uid);
        }
        match next {
            Next::Rest(None) => Ok(None),
            // A second more, because the time itself is not yet past.
            Next::Rest(Some(at)) => Ok(Some(until(at, moment.now) + Duration::from_secs(1))),
            Next::Retry(why) => Err(why),
            Next::Request => {
                let kind = if matches!(state, State::Fresh(_)) { "refresh" } else { "initial" };
                let state = self.request(&pod, source, state, kind).await?;
                self.set(key, state);
                Ok(None)
            }
        }
    }

    /// Keeps a state, unless the pod has been forgotten meanwhile.
    fn set(&self, key: &Key, state: State) {
        if let Some(known) = self.states.lock().get_mut(key) {
            *known = state;
        }
    }

    async fn request(
        &self,
        pod: &Pod,
        source: &PodCertificateProjection,
        state: State,
        kind: &str,
    ) -> Result<State, String> {
        let account = pod.spec().service_account_name.clone().unwrap_or_default();
        let found = self.client.namespaced::<ServiceAccount>(pod.namespace()).get(&account).await;
        let found = found.map_err(|e| format!("while fetching service account: {e}"))?;
        let node = self.node.as_ref().and_then(|s| s.list().into_iter().next()).ok_or_else(|| {
            let name = machinery::golang::quote(&self.node_name);
            format!("while getting node object from local cache: node {name} not found")
        })?;
        let failed = |e: String| format!("while creating {kind} PodCertificateRequest: {e}");
        let key_type = source.key_type.clone();
        let made = tokio::task::spawn_blocking(move || key::generate(&key_type));
        let proven = made
            .await
            .map_err(|e| e.to_string())
            .and_then(|made| made)
            .map_err(|e| failed(format!("while generating keypair: {e}")))?;
        let request = object(
            pod,
            source,
            (&account, found.metadata.uid.as_deref().unwrap_or_default()),
            (&self.node_name, node.metadata.uid.as_deref().unwrap_or_default()),
            proven.request,
        );
        let api = self.client.namespaced::<PodCertificateRequest>(pod.namespace());
        let created =
            api.create(&request).await.map_err(|e| failed(format!("while creating on API: {e}")))?;
        let at = created.metadata.creation_timestamp.as_ref().map_or_else(Timestamp::now, |t| t.0);
        Ok(state.requested(proven.key, created.metadata.name.as_deref().unwrap_or_default(), at, jitter()))
    }

    /// How many sources are in which state, by signer.
    fn report(&self, now: Timestamp) -> BTreeMap<(String, &'static str), u32> {
        let mut out = BTreeMap::new();
        let states = self.states.lock();
        for pod in self.pods.list() {
            for (volume, index, source) in sources(&pod) {
                if let Some(state) = states.get(&Key::new(&pod, volume, index)) {
                    *out.entry((source.signer_name.clone(), state.metric(now))).or_default() += 1;
                }
            }
        }
        out
    }

    /// Shows the states as metrics, for the rest of the process.
    pub fn show(self: &Arc<Self>) {
        let this = self.clone();
        default_registry().register_collector(Arc::new(move |out: &mut Vec<Metrics>| {
            let samples: Vec<Sample> = (this.report(Timestamp::now()).into_iter())
                .map(|((signer, state), count)| {
                    Sample::number(&[("signer_name", &signer), ("state", state)], f64::from(count))
                })
                .collect();
            if !samples.is_empty() {
                out.push(Metrics {
                    name: "kubelet_podcertificate_states".to_owned(),
                    help: "[ALPHA] Gauge vector reporting the number of pod certificate projected volume sources, faceted by signer_name and state.".to_owned(),
                    kind: Kind::Gauge,
                    samples,
                });
            }
        }));
    }
}

fn jitter() -> SignedDuration {
    SignedDuration::from_secs(rand::random_range(0..SPREAD))
}

/// The request for a pod's source; `account` and `node` are name and id.
fn object(
    pod: &Pod,
    source: &PodCertificateProjection,
    account: (&str, &str),
    node: (&str, &str),
    proof: Vec<u8>,
) -> PodCertificateRequest {
    let mut out = PodCertificateRequest {
        spec: PodCertificateRequestSpec {
            signer_name: source.signer_name.clone(),
            pod_name: pod.name().to_owned(),
            pod_uid: pod.uid().to_owned(),
            service_account_name: account.0.to_owned(),
            service_account_uid: account.1.to_owned(),
            node_name: node.0.to_owned(),
            node_uid: node.1.to_owned(),
            max_expiration_seconds: source.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(proof),
            unverified_user_annotations: source.user_annotations.clone(),
        },
        ..PodCertificateRequest::default()
    };
    out.metadata.namespace = Some(pod.namespace().to_owned());
    out.metadata.generate_name = Some("req-".to_owned());
    out.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name().to_owned(),
        uid: pod.uid().to_owned(),
        ..OwnerReference::default()
    }]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_sources_and_names_owners() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "projected": {"sources": [
                    {"secret": {"name": "s"}},
                    {"podCertificate": {"signerName": "s/s", "keyType": "ED25519", "maxExpirationSeconds": 3600,
                        "userAnnotations": {"a/b": "c"}}}
                ]}}
            ]}
        }))
        .unwrap();
        let found: Vec<_> = sources(&pod).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1), ("b", 1));
        let made = object(&pod, found[0].2, ("sa", "sa-uid"), ("node", "node-uid"), vec![1]);
        let want = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest",
            "metadata": {"namespace": "n", "generateName": "req-",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]},
            "spec": {"signerName": "s/s", "podName": "p", "podUID": "u", "serviceAccountName": "sa",
                "serviceAccountUID": "sa-uid", "nodeName": "node", "nodeUID": "node-uid",
                "maxExpirationSeconds": 3600, "stubPKCS10Request": "AQ==",
                "unverifiedUserAnnotations": {"a/b": "c"}}
        });
        assert_eq!(serde_json::to_value(&made).unwrap(), want);
    }
}
