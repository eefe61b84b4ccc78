//! Cleaning up: pods that nobody wants any more, dead containers, unused images, grown logs.
//!
//! Upstream: kubelet_pods.go HandlePodCleanups, kuberuntime_gc.go, image_gc_manager.go, container_log_manager.go.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::v1;
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::kubelet::Kubelet;
use crate::logs::rotate;
use crate::pleg::Pleg;
use crate::pod::view::PodView;
use crate::runtime::collect::{Keep, collect};
use crate::runtime::query;
use crate::runtime::sketch::{PodSketch, SketchContainer};
use crate::worker::Workers;

/// Orphans are looked for so often. Upstream: every two seconds; workers do most of it here.
const ORPHANS: Duration = Duration::from_secs(10);
/// Dead containers are looked for so often, as upstream.
const CONTAINERS: Duration = Duration::from_secs(60);
/// Limits of the service classes are set again so often, as upstream.
const CLASSES: Duration = Duration::from_secs(60);
/// Disk use is looked at so often, as upstream.
const IMAGES: Duration = Duration::from_secs(300);

/// Cleans up until `stop`. Nothing is removed before the API server has told which pods are wanted.
pub async fn run(kubelet: Arc<Kubelet>, pleg: Arc<Pleg>, settings: Settings, stop: CancellationToken) {
    let (orphans, containers, classes) = (interval(ORPHANS), interval(CONTAINERS), interval(CLASSES));
    let (images, logs) = (interval(IMAGES), interval(settings.container_log_monitor_interval.to_std()));
    tokio::pin!(orphans, containers, classes, images, logs);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = orphans.tick() => remove_orphans(&kubelet, &pleg).await,
            _ = containers.tick() => kubelet.spans.containers().run(collect(&kubelet, &pleg, Keep::Regular)).await,
            _ = classes.tick() => update_classes(&kubelet).await,
            _ = images.tick() => kubelet.spans.images().run(kubelet.image_garbage.collect(&kubelet)).await,
            _ = logs.tick() => rotate_logs(&kubelet, &pleg, &settings).await,
        }
    }
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period.max(Duration::from_secs(1)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

async fn update_classes(kubelet: &Kubelet) {
    if let Err(error) = kubelet.update_cgroup_classes().await {
        tracing::error!(%error, "Failed to update QoS cgroup configuration");
    }
}

/// Stops and removes what is left of pods that are neither wanted nor handled by a worker.
async fn remove_orphans(kubelet: &Arc<Kubelet>, pleg: &Pleg) {
    let Some(workers) = kubelet.workers() else { return };
    kubelet.observe_pods();
    if pleg.problem().is_some() {
        return;
    }
    let wanted: HashSet<String> = kubelet.pods.list().iter().map(|p| p.uid().to_owned()).collect();
    let busy: HashSet<String> = workers.known().into_iter().collect();
    let mut found = HashSet::new();
    pleg.each(|uid, _| {
        if !wanted.contains(uid) {
            found.insert(uid.to_owned());
        }
    });
    let folders = std::fs::read_dir(kubelet.paths.pods()).into_iter().flatten().flatten();
    let folders = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    found.extend(
        kubelet.runtime.cgroups.pods().into_iter().chain(folders).filter(|uid| !wanted.contains(uid)),
    );
    for uid in found {
        if busy.contains(&uid) {
            // A pod that vanished from its source: the worker stops it, then its traces go.
            if workers.forget_finished(&uid) {
                kubelet.remove_traces(&uid).await;
            } else {
                workers.kill(&uid, crate::worker::Kill::default());
            }
            continue;
        }
        match query::pod_status(&kubelet.runtime.cri, &kubelet.runtime.name, &uid).await {
            Ok(status) if !status.is_up() => {}
            Ok(status) => {
                crate::metrics::pods::found_orphan();
                tracing::info!(
                    pod_uid = uid,
                    name = status.name,
                    "Stopping a pod that is not wanted on this node"
                );
                if let Err(error) = kubelet.runtime.kill_pod(None, &status, None).await {
                    tracing::error!(pod_uid = uid, error, "Failed to stop an unwanted pod");
                    continue;
                }
            }
            Err(error) => {
                tracing::error!(pod_uid = uid, %error, "Failed to look at an unwanted pod");
                continue;
            }
        }
        kubelet.remove_traces(&uid).await;
    }
    remove_mirrors(kubelet, &workers).await;
}

/// A mirror without its static pod shows something that is not there, once the pod has stopped.
async fn remove_mirrors(kubelet: &Kubelet, workers: &Workers) {
    let Some(client) = &kubelet.client else { return };
    for mirror in kubelet.pods.mirrors() {
        if kubelet.pods.source_of(&mirror).is_none()
            && !workers.has_static(&mirror.full_name())
            && let Err(error) = crate::pod::mirror::delete(client, &mirror).await
        {
            tracing::error!(pod = mirror.log_name(), error, "Failed to delete mirror pod");
        }
    }
}

/// Rotates the logs of running containers that have grown too large.
async fn rotate_logs(kubelet: &Kubelet, pleg: &Pleg, settings: &Settings) {
    let running = i32::from(v1::ContainerState::ContainerRunning);
    let mut logs = Vec::new();
    pleg.each(|uid, pod| {
        let containers = pod.containers.iter().filter(|c| c.state == running);
        logs.extend(containers.map(|c| (c.id.clone(), guess_log(kubelet, uid, pod, c))));
    });
    for (id, log) in logs {
        let large = std::fs::metadata(&log).is_ok_and(|m| m.len() >= settings.log_max_size());
        if !large {
            continue;
        }
        if let Err(error) = rotate_log(kubelet, &id, &log, settings.container_log_max_files).await {
            tracing::error!(path = %log.display(), %error, "Failed to rotate log for container");
        }
    }
}

/// A container's log, without asking the runtime.
fn guess_log(kubelet: &Kubelet, uid: &str, pod: &PodSketch, container: &SketchContainer) -> PathBuf {
    let directory = crate::logs::pod_log_directory(&kubelet.paths.pod_logs, &pod.namespace, &pod.name, uid);
    Path::new(&directory).join(crate::container::config::log_path(&container.name, container.attempt))
}

async fn rotate_log(kubelet: &Kubelet, id: &str, log: &Path, max_files: usize) -> std::io::Result<()> {
    let plan = rotate::plan(rotate::rotated_files(log)?, max_files);
    for file in &plan.remove {
        std::fs::remove_file(file)?;
    }
    for file in plan.compress {
        tokio::task::spawn_blocking(move || rotate::compress(&file))
            .await
            .map_err(std::io::Error::other)??;
    }
    let rotated = rotate::rotated_name(log, Timestamp::now());
    std::fs::rename(log, &rotated)?;
    let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
    if let Err(error) = kubelet.runtime.cri.reopen_container_log(request).await {
        // The runtime still writes to the old file; put it back so that nothing is lost.
        std::fs::rename(&rotated, log)?;
        return Err(std::io::Error::other(error.to_string()));
    }
    Ok(())
}
