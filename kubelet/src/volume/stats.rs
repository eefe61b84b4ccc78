//! Figures of the volumes that pods have, measured again and again in the background.
//!
//! [`VolumeStats::run`] measures; readers get what was measured last and never wait. A volume whose server hangs delays
//! only its own pod's figures. Upstream: pkg/kubelet/server/stats/{fs_resource_analyzer,volume_stat_calculator}.go, v1.37.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::metrics::{Collect, Kind, Metrics, Sample};
use k8s_openapi::api::core::v1::{Pod, Volume};
use k8s_openapi::jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::claim;
use super::usage::{self, Figures, Measure};
use crate::pod::view::PodView;

/// A volume that is made, and how to measure it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The pod's name for it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// How it is measured.
    pub measure: Measure,
    /// Name of the claim that it belongs to.
    pub claim: Option<String>,
    /// True if it takes local storage that goes with the pod.
    pub local: bool,
}

impl Mounted {
    /// A volume of a pod. Upstream: IsLocalEphemeralVolume in pkg/volume/util/util.go.
    pub fn new(pod: &Pod, spec: &Volume, path: PathBuf, measure: Measure) -> Self {
        let on_disk = spec.empty_dir.as_ref().is_some_and(|s| s.medium.as_deref().unwrap_or("").is_empty());
        Self {
            name: spec.name.clone(),
            path,
            measure,
            claim: claim::reference(pod, spec).map(|reference| reference.name),
            local: on_disk || spec.config_map.is_some() || spec.git_repo.is_some(),
        }
    }
}

/// A measured volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFigures {
    /// The volume.
    pub volume: Mounted,
    /// When it was measured.
    pub time: Timestamp,
    /// What was found.
    pub figures: Figures,
}

/// The volumes of one pod.
#[derive(Debug, Default)]
struct PodVolumes {
    namespace: String,
    mounted: Vec<Mounted>,
    latest: Option<Arc<Vec<VolumeFigures>>>,
}

/// Volumes of all pods, by the pod's id.
#[derive(Debug, Default)]
pub struct VolumeStats(RwLock<HashMap<String, PodVolumes>>);

impl VolumeStats {
    /// Takes note of the volumes that a pod has now.
    pub fn record(&self, pod: &Pod, mounted: Vec<Mounted>) {
        let mut all = self.0.write();
        let entry = all.entry(pod.uid().to_owned()).or_default();
        if entry.namespace.is_empty() {
            pod.namespace().clone_into(&mut entry.namespace);
        }
        entry.mounted = mounted;
    }

    /// Forgets the volumes of a pod.
    pub fn forget(&self, uid: &str) {
        self.0.write().remove(uid);
    }

    /// The volumes that a pod has.
    pub fn mounted(&self, uid: &str) -> Vec<Mounted> {
        self.0.read().get(uid).map(|pod| pod.mounted.clone()).unwrap_or_default()
    }

    /// What was measured last of a pod's volumes: local ones first.
    pub fn latest(&self, uid: &str) -> Option<Arc<Vec<VolumeFigures>>> {
        self.0.read().get(uid)?.latest.clone()
    }

    fn store(&self, uid: &str, found: Vec<VolumeFigures>) {
        if let Some(pod) = self.0.write().get_mut(uid) {
            pod.latest = Some(Arc::new(found));
        }
    }

    /// Measures every pod's volumes about every `period` until `stop`; never if the period is zero.
    pub async fn run(self: Arc<Self>, period: Duration, stop: CancellationToken) {
        if period.is_zero() {
            tracing::info!("Volume stats collection disabled");
            return;
        }
        let mut watched: HashMap<String, DropGuard> = HashMap::new();
        loop {
            let uids: Vec<String> = self.0.read().keys().cloned().collect();
            watched.retain(|uid, _| uids.contains(uid));
            for uid in uids {
                watched.entry(uid.clone()).or_insert_with(|| {
                    let token = stop.child_token();
                    let (all, own) = (self.clone(), token.clone());
                    tokio::spawn(async move { own.run_until_cancelled(all.measure_pod(uid, period)).await });
                    token.drop_guard()
                });
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    /// Measures one pod's volumes for ever, at irregular times so that not all pods are measured at once.
    async fn measure_pod(self: Arc<Self>, uid: String, period: Duration) {
        loop {
            let mounted = self.mounted(&uid);
            let found = tokio::task::spawn_blocking(move || measure_all(mounted)).await;
            self.store(&uid, found.unwrap_or_default());
            tokio::time::sleep(period.mul_f64(1.0 + rand::random::<f64>())).await;
        }
    }
}

fn measure_all(mounted: Vec<Mounted>) -> Vec<VolumeFigures> {
    let mut out = Vec::new();
    for volume in mounted {
        let begun = Instant::now();
        let found = usage::measure(&volume.path, volume.measure);
        if volume.measure != Measure::Nothing {
            crate::metrics::volumes::measured(volume.measure.source(), begun.elapsed());
        }
        match found {
            Ok(figures) => {
                out.extend(figures.map(|figures| VolumeFigures { volume, time: Timestamp::now(), figures }));
            }
            Err(error) => tracing::debug!(volume = volume.name, %error, "Failed to calculate volume metrics"),
        }
    }
    out.sort_by_key(|v| !v.volume.local);
    out
}

impl VolumeFigures {
    /// As an entry of `volume` in a pod of the summary.
    pub fn summary(&self, namespace: &str) -> Value {
        let Figures { available, capacity, used, inodes, inodes_free, inodes_used } = self.figures;
        json!({
            "time": self.time, "availableBytes": available, "capacityBytes": capacity, "usedBytes": used,
            "inodesFree": inodes_free, "inodes": inodes, "inodesUsed": inodes_used, "name": self.volume.name,
            "pvcRef": self.volume.claim.as_ref().map(|name| json!({"name": name, "namespace": namespace})),
        })
    }
}

/// Name, help and value of the metrics of claims.
type ClaimMetric = (&'static str, &'static str, fn(&Figures) -> u64);

/// Upstream: pkg/kubelet/metrics/collectors/volume_stats.go.
const CLAIM_METRICS: [ClaimMetric; 6] = [
    ("kubelet_volume_stats_capacity_bytes", "[ALPHA] Capacity in bytes of the volume", |f| f.capacity),
    ("kubelet_volume_stats_available_bytes", "[ALPHA] Number of available bytes in the volume", |f| {
        f.available
    }),
    ("kubelet_volume_stats_used_bytes", "[ALPHA] Number of used bytes in the volume", |f| f.used),
    ("kubelet_volume_stats_inodes", "[ALPHA] Maximum number of inodes in the volume", |f| f.inodes),
    ("kubelet_volume_stats_inodes_free", "[ALPHA] Number of free inodes in the volume", |f| f.inodes_free),
    ("kubelet_volume_stats_inodes_used", "[ALPHA] Number of used inodes in the volume", |f| f.inodes_used),
];

impl Collect for VolumeStats {
    fn collect(&self, out: &mut Vec<Metrics>) {
        // A claim that several pods use is shown once.
        let mut claims: HashMap<(String, String), Figures> = HashMap::new();
        for pod in self.0.read().values() {
            for volume in pod.latest.iter().flat_map(|latest| latest.iter()) {
                if let Some(claim) = &volume.volume.claim {
                    claims.entry((pod.namespace.clone(), claim.clone())).or_insert(volume.figures);
                }
            }
        }
        if claims.is_empty() {
            return;
        }
        for (name, help, value) in CLAIM_METRICS {
            let sample = |((namespace, claim), figures): (&(String, String), &Figures)| {
                #[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
                let value = value(figures) as f64;
                Sample::number(&[("namespace", namespace), ("persistentvolumeclaim", claim)], value)
            };
            out.push(Metrics {
                name: name.to_owned(),
                help: help.to_owned(),
                kind: Kind::Gauge,
                samples: claims.iter().map(sample).collect(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(volumes: Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [], "volumes": volumes}}))
            .unwrap()
    }

    #[test]
    fn kinds_of_volumes() {
        let pod = pod(json!([
            {"name": "e", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}, {"name": "c", "configMap": {}},
            {"name": "s", "secret": {}}, {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}, {"name": "g", "ephemeral": {}},
        ]));
        let kinds: Vec<(String, Option<String>, bool)> = (pod.spec().volumes.iter().flatten())
            .map(|spec| Mounted::new(&pod, spec, PathBuf::new(), Measure::Files))
            .map(|m| (m.name, m.claim, m.local))
            .collect();
        let expected = [
            ("e", None, true),
            ("m", None, false),
            ("c", None, true),
            ("s", None, false),
            ("v", Some("claim"), false),
            ("g", Some("p-g"), false),
        ];
        assert_eq!(kinds, expected.map(|(n, c, l)| (n.to_owned(), c.map(str::to_owned), l)));
    }

    #[tokio::test]
    async fn measures_and_shows() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(json!([
            {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}, {"name": "e", "emptyDir": {}},
            {"name": "h", "hostPath": {"path": "/"}}
        ]));
        let ways = [Measure::FileSystem, Measure::Files, Measure::Nothing];
        let mounted = pod.spec().volumes.iter().flatten().zip(ways);
        let mounted = mounted.map(|(spec, how)| Mounted::new(&pod, spec, dir.path().to_owned(), how));
        let stats = Arc::new(VolumeStats::default());
        stats.record(&pod, mounted.collect());
        assert!(stats.latest("u").is_none());
        stats.store("u", measure_all(stats.mounted("u")));
        let found = stats.latest("u").unwrap();
        assert_eq!(found.iter().map(|v| v.volume.name.as_str()).collect::<Vec<_>>(), ["e", "v"]);
        assert_eq!(found[1].summary("n")["pvcRef"], json!({"name": "claim", "namespace": "n"}));
        let mut out = Vec::new();
        stats.collect(&mut out);
        assert_eq!(out.len(), 6);
        let labels = [("namespace", "n"), ("persistentvolumeclaim", "claim")];
        #[expect(clippy::cast_precision_loss, reason = "as shown")]
        let capacity = found[1].figures.capacity as f64;
        assert_eq!(out[0].samples, [Sample::number(&labels, capacity)]);
        stats.forget("u");
        stats.store("u", Vec::new());
        assert!(stats.latest("u").is_none() && stats.mounted("u").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_measuring() {
        let (stats, stop) = (Arc::new(VolumeStats::default()), CancellationToken::new());
        let pod = pod(json!([{"name": "e", "emptyDir": {}}]));
        let run = tokio::spawn(stats.clone().run(Duration::from_secs(60), stop.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let dir = tempfile::tempdir().unwrap();
        let spec = &pod.spec().volumes.as_ref().unwrap()[0];
        stats.record(&pod, vec![Mounted::new(&pod, spec, dir.path().to_owned(), Measure::Files)]);
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert!(stats.latest("u").is_none());
        while stats.latest("u").is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(stats.latest("u").unwrap().len(), 1);
        stop.cancel();
        run.await.unwrap();
    }
}
