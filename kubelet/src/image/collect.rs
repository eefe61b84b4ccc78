//! Removing images that nobody uses: regularly, and before pods are evicted for want of disk.
//!
//! What goes is decided in [`super::gc`]. Upstream: GarbageCollect, DeleteUnusedImages and detectImages in
//! pkg/kubelet/images/image_gc_manager.go, v1.37.

use std::collections::HashSet;
use std::path::Path;

use component::duration::GoDuration;
use cri::v1;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::gc::{Excess, Image, Policy, Usage, excess, too_little};
use crate::kubelet::Kubelet;
use crate::metrics::images::{Removed, removed};
use crate::node::machine::disk;
use crate::pod::view::PodView;
use crate::runtime::labels;

/// Removes images; one at a time may work.
pub struct Collector {
    policy: Policy,
    began: Timestamp,
    usage: AsyncMutex<Usage>,
    /// True if the last regular collection failed.
    failed: Mutex<bool>,
}

impl Collector {
    /// A kubelet that began at `began` has this policy.
    pub fn new(policy: Policy, began: Timestamp) -> Self {
        Self { policy, began, usage: AsyncMutex::default(), failed: Mutex::new(false) }
    }

    /// The regular collection. What fails twice in a row becomes an event.
    pub async fn collect(&self, kubelet: &Kubelet) {
        let result = self.try_collect(kubelet).await;
        let before = std::mem::replace(&mut *self.failed.lock(), result.is_err());
        match result {
            Ok(()) => tracing::debug!("Image garbage collection succeeded"),
            Err(error) if before => {
                tracing::error!(error, "Image garbage collection failed multiple times in a row");
                kubelet.events.node(&kubelet.node.name, true, "ImageGCFailed", &error);
            }
            Err(error) => tracing::error!(
                error,
                "Image garbage collection failed once. Stats initialization may not have completed yet"
            ),
        }
    }

    async fn try_collect(&self, kubelet: &Kubelet) -> Result<(), String> {
        let now = Timestamp::now();
        let mut usage = self.usage.lock().await;
        let mut images = list(kubelet).await.map_err(|e| e.to_string())?;
        usage.observe(&images, now);
        if !self.policy.is_active() {
            return Ok(());
        }
        let old = usage.old(&images, &self.policy, self.began, now);
        let gone = remove(kubelet, &old, Removed::Age, u64::MAX).await.all(&|errors| {
            let age = GoDuration(i64::try_from(self.policy.max_age.as_nanos()).unwrap_or(i64::MAX));
            format!("wanted to free images older than {age}, encountered errors in image deletion: {errors}")
        })?;
        images.retain(|image| !gone.ids.contains(&image.id));
        let (capacity, full) = self.look(kubelet).await?;
        if let Some(full) = full {
            tracing::info!(
                percent = full.percent,
                bytes = full.bytes,
                "Disk usage on image filesystem is over the high threshold, trying to free bytes down to the low threshold"
            );
            let spare = usage.spare(&images, &self.policy, now);
            let gone = free(kubelet, &spare, full.bytes).await?;
            images.retain(|image| !gone.ids.contains(&image.id));
            let freed = i64::try_from(gone.bytes).unwrap_or(i64::MAX);
            if freed < full.bytes {
                let message = too_little(full, capacity, freed);
                kubelet.events.node(&kubelet.node.name, true, "FreeDiskSpaceFailed", &message);
                return Err(message);
            }
        }
        forget_pulls(kubelet, &images, now);
        Ok(())
    }

    /// Removes all that nobody uses.
    ///
    /// # Errors
    /// What could not be removed, and why.
    pub async fn remove_unused(&self, kubelet: &Kubelet) -> Result<(), String> {
        tracing::info!("Attempting to delete unused images");
        let now = Timestamp::now();
        let mut usage = self.usage.lock().await;
        let mut images = list(kubelet).await.map_err(|e| e.to_string())?;
        usage.observe(&images, now);
        let gone = free(kubelet, &usage.spare(&images, &self.policy, now), i64::MAX).await?;
        images.retain(|image| !gone.ids.contains(&image.id));
        forget_pulls(kubelet, &images, now);
        Ok(())
    }

    /// Capacity of the images' disk, and whether it is too full.
    async fn look(&self, kubelet: &Kubelet) -> Result<(i64, Option<Excess>), String> {
        let answer = kubelet.runtime.cri.image_fs_info(v1::ImageFsInfoRequest::default()).await;
        let answer = answer.map_err(|e| e.to_string())?;
        let id = answer.image_filesystems.first().and_then(|place| place.fs_id.as_ref());
        let found = id.and_then(|id| disk(Path::new(&id.mountpoint))).unwrap_or_default();
        if found.capacity == 0 {
            let message = "invalid capacity 0 on image filesystem";
            kubelet.events.node(&kubelet.node.name, true, "InvalidDiskCapacity", message);
            return Err(message.to_owned());
        }
        Ok((found.capacity, excess(found.capacity, found.available, &self.policy)))
    }
}

fn forget_pulls(kubelet: &Kubelet, images: &[Image], now: Timestamp) {
    let present = images.iter().map(|image| image.id.clone()).collect();
    kubelet.runtime.images.prune(&present, now);
}

/// What was removed, and what could not be.
#[derive(Default)]
struct Gone {
    ids: HashSet<String>,
    bytes: u64,
    errors: Vec<String>,
}

impl Gone {
    fn all(self, say: &dyn Fn(&str) -> String) -> Result<Self, String> {
        match self.errors.as_slice() {
            [] => Ok(self),
            [one] => Err(say(one)),
            all => Err(say(&format!("[{}]", all.join(", ")))),
        }
    }
}

async fn free(kubelet: &Kubelet, spare: &[&Image], bytes: i64) -> Result<Gone, String> {
    let gone = remove(kubelet, spare, Removed::Space, u64::try_from(bytes).unwrap_or_default()).await;
    let freed = gone.bytes;
    gone.all(&|errors| {
        format!("wanted to free {bytes} bytes, but freed {freed} bytes space with errors in image deletion: {errors}")
    })
}

/// Removes images, in this order, until so many bytes are free.
async fn remove(kubelet: &Kubelet, images: &[&Image], why: Removed, bytes: u64) -> Gone {
    let mut gone = Gone::default();
    for image in images {
        tracing::info!(image = image.id, size = image.size, "Removing image to free bytes");
        let spec = v1::ImageSpec { image: image.id.clone(), ..Default::default() };
        match kubelet.runtime.cri.remove_image(v1::RemoveImageRequest { image: Some(spec) }).await {
            Ok(_) => {
                removed(why);
                gone.ids.insert(image.id.clone());
                gone.bytes = gone.bytes.saturating_add(image.size);
                if gone.bytes >= bytes {
                    break;
                }
            }
            Err(error) => {
                tracing::error!(image = image.id, %error, "Failed to remove image");
                gone.errors.push(error.to_string());
            }
        }
    }
    gone
}

/// All images, and which of them containers are made from or mount.
async fn list(kubelet: &Kubelet) -> cri::Result<Vec<Image>> {
    let cri = &kubelet.runtime.cri;
    let (images, containers) = tokio::try_join!(
        cri.list_images(v1::ListImagesRequest::default()),
        cri.list_containers(v1::ListContainersRequest::default())
    )?;
    let mounted = mounted(kubelet, &containers.containers).await?;
    let used: HashSet<&str> = (containers.containers.iter())
        .flat_map(|c| [c.image_ref.as_str(), c.image_id.as_str()])
        .chain(containers.containers.iter().filter_map(|c| c.image.as_ref()).map(|i| i.image.as_str()))
        .chain(mounted.iter().map(String::as_str))
        .collect();
    let one = |image: v1::Image| {
        let mut names = image.repo_tags.iter().chain(&image.repo_digests);
        Image {
            in_use: used.contains(image.id.as_str()) || names.any(|name| used.contains(name.as_str())),
            pinned: image.pinned,
            size: image.size,
            id: image.id,
        }
    };
    Ok(images.images.into_iter().map(one).collect())
}

/// Images that are mounted as volumes. Only containers whose pods have such volumes, or are not known, are asked.
async fn mounted(kubelet: &Kubelet, containers: &[v1::Container]) -> cri::Result<Vec<String>> {
    let may_mount = |container: &&v1::Container| {
        let uid = container.labels.get(labels::POD_UID).map(String::as_str).unwrap_or_default();
        let pod = kubelet.pods.get(uid);
        pod.is_none_or(|pod| pod.spec().volumes.iter().flatten().any(|volume| volume.image.is_some()))
    };
    let mut out = Vec::new();
    for container in containers.iter().filter(may_mount) {
        let request = v1::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = match kubelet.runtime.cri.container_status(request).await {
            Ok(answer) => answer.status,
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let mounts = status.into_iter().flat_map(|status| status.mounts);
        out.extend(mounts.filter_map(|mount| mount.image).map(|image| image.image));
    }
    Ok(out)
}
