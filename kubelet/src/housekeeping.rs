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
use crate::image::gc::{Image, Policy, Usage, bytes_to_free};
use crate::kubelet::Kubelet;
use crate::logs::rotate;
use crate::node::machine::disk;
use crate::pleg::Pleg;
use crate::pod::view::PodView;
use crate::runtime::garbage::{self, Dead};
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
    let mut usage = Usage::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = orphans.tick() => remove_orphans(&kubelet, &pleg).await,
            _ = containers.tick() => kubelet.spans.containers().run(collect_containers(&kubelet, &pleg)).await,
            _ = classes.tick() => update_classes(&kubelet).await,
            _ = images.tick() => kubelet.spans.images().run(collect_images(&kubelet, &settings, &mut usage)).await,
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

async fn collect_containers(kubelet: &Kubelet, pleg: &Pleg) {
    let (mut dead, mut sandboxes) = (Vec::new(), Vec::new());
    // Pods that are not wanted are dealt with where orphans are.
    pleg.each(|uid, pod| {
        if kubelet.pods.get(uid).is_some() {
            dead.extend(Dead::of(uid, pod));
            sandboxes.extend(garbage::sandboxes(pod, is_evicted(kubelet, uid)));
        }
    });
    let now = nanoseconds(Timestamp::now());
    for dead in garbage::containers(dead, |uid| is_evicted(kubelet, uid), &kubelet.garbage, now) {
        if let Err(error) = kubelet.runtime.collect(&dead).await {
            tracing::warn!(error, "Failed to collect container");
        }
    }
    for id in sandboxes {
        kubelet.runtime.remove_sandbox(&id).await;
    }
}

/// True if the pod was evicted and has stopped: its containers tell nothing that its status does not.
fn is_evicted(kubelet: &Kubelet, uid: &str) -> bool {
    let status = kubelet.status.get(uid);
    let evicted = status.is_some_and(|s| s.reason.as_deref() == Some("Evicted"));
    evicted && kubelet.workers().is_some_and(|workers| !workers.may_run(uid))
}

/// Since 1970.
pub fn nanoseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

async fn collect_images(kubelet: &Kubelet, settings: &Settings, usage: &mut Usage) {
    let now = Timestamp::now();
    let cri = &kubelet.runtime.cri;
    let lists = tokio::try_join!(
        cri.list_images(v1::ListImagesRequest::default()),
        cri.list_containers(v1::ListContainersRequest::default()),
        cri.image_fs_info(v1::ImageFsInfoRequest::default())
    );
    let (images, containers, fs) = match lists {
        Ok(lists) => lists,
        Err(error) => {
            tracing::error!(%error, "Image garbage collection failed");
            return;
        }
    };
    let used: HashSet<&str> = (containers.containers.iter())
        .flat_map(|c| [c.image_ref.as_str(), c.image_id.as_str()])
        .chain(containers.containers.iter().filter_map(|c| c.image.as_ref()).map(|i| i.image.as_str()))
        .collect();
    let images: Vec<Image> = images
        .images
        .into_iter()
        .map(|image| Image {
            pinned: image.pinned
                || used.contains(image.id.as_str())
                || image.repo_tags.iter().chain(&image.repo_digests).any(|name| used.contains(name.as_str())),
            id: image.id,
            size: image.size,
        })
        .collect();
    usage.observe(&images, |image| image.pinned, now);
    let mut present: HashSet<String> = images.iter().map(|image| image.id.clone()).collect();
    let policy = Policy {
        high: settings.image_gc_high_threshold_percent,
        low: settings.image_gc_low_threshold_percent,
        min_age: settings.image_minimum_gc_age.to_std(),
        max_age: settings.image_maximum_gc_age.to_std(),
    };
    let mountpoint =
        fs.image_filesystems.first().and_then(|f| f.fs_id.as_ref()).map(|f| f.mountpoint.clone());
    let Some(space) = mountpoint.and_then(|path| disk(Path::new(&path))) else { return };
    let unsigned = |n: i64| u64::try_from(n).unwrap_or_default();
    let wanted = bytes_to_free(unsigned(space.capacity), unsigned(space.available), &policy);
    for image in usage.plan(&images, wanted, &policy, now) {
        tracing::info!(image = image.id, size = image.size, "Removing image to free bytes");
        let spec = v1::ImageSpec { image: image.id.clone(), ..Default::default() };
        match cri.remove_image(v1::RemoveImageRequest { image: Some(spec) }).await {
            Ok(_) => drop(present.remove(&image.id)),
            Err(error) => tracing::error!(image = image.id, %error, "Failed to remove image"),
        }
    }
    kubelet.runtime.images.prune(&present, now);
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
