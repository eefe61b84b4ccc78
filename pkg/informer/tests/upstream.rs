//! Informers of every GA resource against upstream's API server, under churn and across a restart of the server.
//!
//! Needs upstream's binaries (see `testing::upstream`) and prints a line when they are absent. The churn lasts
//! `CHURN_SECONDS` (default 15; `make informer-churn` takes 600).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test: failing is what it is for")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{
    Client, Config, DeleteParams, DynamicObject, Gvr, ListParams, Meta, Options as ClientOptions, Patch,
    PatchParams,
};
use informer::{Event, Factory, Informer, Options};
use k8s_openapi::api as k;
use parking_lot::Mutex;
use serde_json::json;
use testing::upstream::ControlPlane;
use tokio_util::sync::CancellationToken;

/// What a subscriber believes.
#[derive(Default)]
struct Mirror {
    objects: BTreeMap<String, String>,
    wrong: Vec<String>,
    events: usize,
}

/// An informer with what its events said.
struct Watched<K> {
    informer: Informer<K>,
    mirror: Arc<Mutex<Mirror>>,
}

trait Probe: Send + Sync {
    fn gvr(&self) -> Gvr;
    fn store(&self) -> BTreeMap<String, String>;
    fn mirror(&self) -> Arc<Mutex<Mirror>>;
}

impl<K: Meta> Watched<K> {
    fn boxed(informer: Informer<K>) -> Box<dyn Probe> {
        let mirror = Arc::new(Mutex::new(Mirror::default()));
        let sink = mirror.clone();
        informer.subscribe(move |event| note(&mut sink.lock(), &event));
        Box::new(Self { informer, mirror })
    }
}

fn note<K: Meta>(m: &mut Mirror, event: &Event<K>) {
    let key = event.object().key();
    let version = event.object().resource_version().to_string();
    let number = |v: &str| v.parse::<u64>().unwrap_or(0);
    let old = m.objects.get(&key).cloned();
    let wrong = match (event, &old) {
        (Event::Added(_), Some(_)) => Some("added twice"),
        (Event::Updated { .. } | Event::Deleted(_), None) => Some("unknown before"),
        (Event::Updated { .. } | Event::Deleted(_), Some(old)) if number(&version) < number(old) => {
            Some("went back")
        }
        _ => None,
    };
    if let Some(what) = wrong {
        m.wrong.push(format!("{key}@{version}: {what} ({old:?})"));
    }
    m.events += 1;
    match event {
        Event::Deleted(_) => m.objects.remove(&key),
        _ => m.objects.insert(key, version),
    };
}

impl<K: Meta> Probe for Watched<K> {
    fn gvr(&self) -> Gvr {
        self.informer.gvr().clone()
    }
    fn store(&self) -> BTreeMap<String, String> {
        self.informer.store().list().iter().map(|o| (o.key(), o.resource_version().to_string())).collect()
    }
    fn mirror(&self) -> Arc<Mutex<Mirror>> {
        self.mirror.clone()
    }
}

macro_rules! typed {
    ($factory:expr, $($kind:ty),* $(,)?) => {
        vec![$(Watched::boxed($factory.informer::<$kind>(Options::default()))),*]
    };
}

fn typed(f: &Factory) -> Vec<Box<dyn Probe>> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
    typed!(
        f,
        k::core::v1::ConfigMap,
        k::core::v1::Endpoints,
        k::core::v1::Event,
        k::core::v1::LimitRange,
        k::core::v1::Namespace,
        k::core::v1::Node,
        k::core::v1::PersistentVolumeClaim,
        k::core::v1::PersistentVolume,
        k::core::v1::Pod,
        k::core::v1::PodTemplate,
        k::core::v1::ReplicationController,
        k::core::v1::ResourceQuota,
        k::core::v1::Secret,
        k::core::v1::ServiceAccount,
        k::core::v1::Service,
        k::apps::v1::ControllerRevision,
        k::apps::v1::DaemonSet,
        k::apps::v1::Deployment,
        k::apps::v1::ReplicaSet,
        k::apps::v1::StatefulSet,
        k::batch::v1::CronJob,
        k::batch::v1::Job,
        k::autoscaling::v1::HorizontalPodAutoscaler,
        k::autoscaling::v2::HorizontalPodAutoscaler,
        k::networking::v1::Ingress,
        k::networking::v1::IngressClass,
        k::networking::v1::NetworkPolicy,
        k::networking::v1::IPAddress,
        k::networking::v1::ServiceCIDR,
        k::policy::v1::PodDisruptionBudget,
        k::rbac::v1::ClusterRole,
        k::rbac::v1::ClusterRoleBinding,
        k::rbac::v1::Role,
        k::rbac::v1::RoleBinding,
        k::storage::v1::StorageClass,
        k::storage::v1::VolumeAttachment,
        k::storage::v1::CSIDriver,
        k::storage::v1::CSINode,
        k::storage::v1::CSIStorageCapacity,
        k::storage::v1::VolumeAttributesClass,
        k::scheduling::v1::PriorityClass,
        k::coordination::v1::Lease,
        k::discovery::v1::EndpointSlice,
        k::events::v1::Event,
        k::node::v1::RuntimeClass,
        k::certificates::v1::CertificateSigningRequest,
        k::admissionregistration::v1::MutatingWebhookConfiguration,
        k::admissionregistration::v1::ValidatingWebhookConfiguration,
        k::admissionregistration::v1::ValidatingAdmissionPolicy,
        k::admissionregistration::v1::ValidatingAdmissionPolicyBinding,
        k::admissionregistration::v1::MutatingAdmissionPolicy,
        k::admissionregistration::v1::MutatingAdmissionPolicyBinding,
        CustomResourceDefinition,
        APIService,
        k::flowcontrol::v1::FlowSchema,
        k::flowcontrol::v1::PriorityLevelConfiguration,
        k::resource::v1::DeviceClass,
        k::resource::v1::ResourceClaim,
        k::resource::v1::ResourceClaimTemplate,
        k::resource::v1::ResourceSlice,
        k::resource::v1::DeviceTaintRule,
        k::certificates::v1::ClusterTrustBundle,
        k::certificates::v1::PodCertificateRequest,
        k::storagemigration::v1::StorageVersionMigration,
    )
}

fn is_ga(version: &str) -> bool {
    version.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

struct Template {
    gvr: Gvr,
    namespace: String,
    text: String,
}

fn templates() -> Vec<Template> {
    let lines = include_str!("objects.txt").lines().filter(|l| l.starts_with('/'));
    lines
        .map(|line| {
            let (path, text) = line.split_once(' ').unwrap();
            let parts: Vec<&str> = path.split('/').skip(1).collect();
            let (group, rest) = if parts[0] == "api" { ("", &parts[1..]) } else { (parts[1], &parts[2..]) };
            let namespace = if rest.len() > 2 { rest[2] } else { "" };
            Template {
                gvr: Gvr::new(group, rest[0], rest.last().unwrap()),
                namespace: namespace.into(),
                text: text.into(),
            }
        })
        .collect()
}

fn client(plane: &ControlPlane) -> Client {
    let config = Config::from_kubeconfig(plane.kubeconfig().unwrap()).unwrap();
    Client::new(config, ClientOptions { qps: -1.0, ..ClientOptions::default() }).unwrap()
}

async fn ready(plane: &mut ControlPlane, client: &Client) {
    let started = Instant::now();
    while let Err(e) = client.call(&client::Request::get("/readyz")).await {
        if started.elapsed() > Duration::from_secs(120) || !plane.alive() {
            let log = plane.log();
            panic!("API server does not get ready: {e}\n{}", &log[log.len().saturating_sub(3000)..]);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Writes until the time is over; returns (writes, refusals that are not expected).
async fn churn(client: Client, until: Instant) -> (usize, Vec<String>) {
    let (mut writes, mut refused) = (0, Vec::new());
    let templates = templates();
    let mut round = 0u32;
    while Instant::now() < until {
        for t in &templates {
            let api = client.dynamic(&t.gvr, &t.namespace);
            let n = round % 200;
            let object: DynamicObject = serde_json::from_str(&t.text.replace("{n}", &n.to_string())).unwrap();
            let name = object.name().to_string();
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"round": round.to_string()}}}));
            let mut results = vec![api.create(&object).await.map(|_| ())];
            results.push(api.patch(&name, &patch, &PatchParams::default()).await.map(|_| ()));
            if !round.is_multiple_of(3) {
                results.push(api.delete(&name, &DeleteParams::default()).await);
            }
            writes += results.iter().filter(|r| r.is_ok()).count();
            for e in results.into_iter().filter_map(Result::err) {
                let fine = e.is_connection() || e.is_already_exists() || e.is_not_found() || e.is_conflict();
                if !fine && !e.is_transient() {
                    refused.push(format!("{}: {e}", t.gvr));
                }
            }
        }
        round += 1;
    }
    (writes, refused)
}

async fn server_state(client: &Client, gvr: &Gvr) -> BTreeMap<String, String> {
    let list = client.metadata(gvr, "").list(&ListParams::default()).await.unwrap();
    list.items.iter().map(|o| (o.key(), o.resource_version().to_string())).collect()
}

/// Waits until store and events agree with the server, which may still be at work on its own objects.
async fn agrees(client: &Client, probe: &dyn Probe) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let want = server_state(client, &probe.gvr()).await;
        let store = probe.store();
        let mirror = probe.mirror();
        let events = mirror.lock().objects.clone();
        if want == store && want == events {
            let wrong = mirror.lock().wrong.clone();
            return if wrong.is_empty() { Ok(()) } else { Err(format!("{}: {wrong:?}", probe.gvr())) };
        }
        if started.elapsed() > Duration::from_secs(20) {
            let differ = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
                a.iter()
                    .filter(|(k, v)| b.get(*k) != Some(v))
                    .map(|(k, v)| format!("{k}@{v}"))
                    .collect::<Vec<_>>()
            };
            return Err(format!(
                "{}: server-store {:?}, store-server {:?}, store-events {:?}",
                probe.gvr(),
                differ(&want, &store),
                differ(&store, &want),
                differ(&store, &events)
            ));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_resource_survives_churn_and_a_restart() {
    let Some(plane) = ControlPlane::start(&[]) else { return };
    let mut plane = plane.unwrap();
    let client = client(&plane);
    ready(&mut plane, &client).await;
    let seconds = std::env::var("CHURN_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(15);
    let namespace: DynamicObject = serde_json::from_value(json!({"metadata": {"name": "churn"}})).unwrap();
    client.dynamic(&Gvr::new("", "v1", "namespaces"), "").create(&namespace).await.unwrap();

    let token = CancellationToken::new();
    let factory = Factory::new(client.clone());
    let mut probes = typed(&factory);
    let found = client.discover().await.unwrap();
    assert_eq!(found.failed, Vec::new());
    let offered: Vec<_> =
        found.resources.iter().filter(|r| is_ga(&r.gvr.version) && r.supports(&["list", "watch"])).collect();
    let missing: Vec<_> =
        offered.iter().filter(|r| !probes.iter().any(|p| p.gvr() == r.gvr)).map(|r| &r.gvr).collect();
    assert!(missing.is_empty(), "resources without an informer: {missing:?}");
    let covered: std::collections::BTreeSet<_> =
        templates().into_iter().map(|t| t.gvr.group + "/" + &t.gvr.resource).collect();
    for r in &offered {
        assert!(covered.contains(&format!("{}/{}", r.gvr.group, r.gvr.resource)), "no object for {}", r.gvr);
        probes.push(Watched::boxed(
            factory.metadata::<client::PartialObjectMetadata>(&r.gvr, Options::default()),
        ));
        probes.push(Watched::boxed(factory.dynamic(&r.gvr, Options::default())));
    }
    factory.start(&token);
    assert!(tokio::time::timeout(Duration::from_secs(60), factory.wait_synced(&token)).await.unwrap());

    let half = Duration::from_secs(seconds) / 2;
    let (before, refused) = churn(client.clone(), Instant::now() + half).await;
    assert!(refused.is_empty(), "{refused:#?}");
    let writer = tokio::spawn(churn(client.clone(), Instant::now() + half));
    tokio::time::sleep(half / 4).await;
    plane.stop_apiserver().unwrap();
    plane.start_apiserver().unwrap();
    let (after, refused) = writer.await.unwrap();
    assert!(refused.is_empty(), "{refused:#?}");
    ready(&mut plane, &client).await;
    let (last, refused) = churn(client.clone(), Instant::now() + half / 2).await;
    assert!(refused.is_empty(), "{refused:#?}");

    let mut wrong = Vec::new();
    for probe in &probes {
        wrong.extend(agrees(&client, &**probe).await.err());
    }
    let events: usize = probes.iter().map(|p| p.mirror().lock().events).sum();
    println!(
        "{} resources, {} informers, {} writes, {events} events",
        offered.len(),
        probes.len(),
        before + after + last
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    token.cancel();
}
