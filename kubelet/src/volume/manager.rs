//! Makes the volumes of pods and removes them.
//!
//! Making is idempotent and is repeated at every sync of a pod: that is how changes of ConfigMaps and Secrets and renewed
//! tokens reach the files. Upstream: pkg/kubelet/volumemanager and the plugins below pkg/volume, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use client::Client;
use k8s_openapi::api::core::v1::{ConfigMap, EmptyDirVolumeSource, Pod, Secret, Volume as VolumeSpec};
use k8s_openapi::jiff::Timestamp;

use super::claim::{self, Claims};
use super::objects::{self, Objects};
use super::payload::{self, Defaults, Files};
use super::persistent::{self, Source};
use super::place::{self, Access};
use super::stats::{Mounted, VolumeStats};
use super::token::Tokens;
use super::trust_bundle::TrustBundles;
use super::usage::Measure;
use super::{atomic, host_path, ownership};
use crate::container::downward::{Addresses, NodeAllocatable};
use crate::container::env::Fetched;
use crate::metrics::volumes::mounted_in;
use crate::paths::{Paths, make_dir};
use crate::pod::resources::whole;
use crate::pod::view::PodView;
use crate::podcertificate::manager::PodCertificates;

/// Why a pod's volumes cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
    SetUp { volume: String, reason: String },
    #[error("volume {0:?} has a type that this kubelet does not support yet")]
    Unsupported(String),
}

/// A volume that is ready to be mounted into containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it is on the node.
    pub path: PathBuf,
    /// True if containers must not write to it.
    pub read_only: bool,
    /// The image that it consists of, for image volumes; they have no path on the node.
    pub image: Option<String>,
}

/// Volumes of a pod by name.
pub type Volumes = HashMap<String, Volume>;

/// Makes and removes volumes.
pub struct VolumeManager {
    paths: Paths,
    pub(super) client: Option<Client>,
    /// ConfigMaps of pods; absent without an API server.
    pub config_maps: Option<Objects<ConfigMap>>,
    /// Secrets of pods; absent without an API server.
    pub secrets: Option<Objects<Secret>>,
    pub(super) tokens: Tokens,
    claims: Claims,
    pub(super) trust_bundles: TrustBundles,
    pub(super) certificates: Option<Arc<PodCertificates>>,
    /// Mounts network file systems, if it is not the node's own program.
    mounter: Option<PathBuf>,
    /// What the volumes take.
    pub stats: Arc<VolumeStats>,
}

/// What the volumes of a pod may show of the world.
pub struct Context<'a> {
    /// Addresses of node and pod.
    pub addresses: &'a Addresses,
    /// What the node has for pods.
    pub node: &'a NodeAllocatable,
    /// The node's name and labels, for volumes that are not everywhere.
    pub node_name: &'a str,
    pub node_labels: &'a BTreeMap<String, String>,
    /// The time.
    pub now: Timestamp,
}

/// What has to be done on disk for one volume.
enum Work {
    /// A folder, in memory or not.
    EmptyDir { memory: bool, size: Option<i64>, mode: Option<u32> },
    /// Files in memory or on disk.
    Files { files: Files, memory: bool },
    /// Something of the node.
    HostPath { kind: String },
    /// Something that is mounted.
    Mount { source: Source, read_only: bool },
    /// Nothing.
    Image,
}

impl Work {
    /// How much it takes is found so.
    fn measure(&self) -> Measure {
        match self {
            Work::EmptyDir { .. } | Work::Files { .. } => Measure::Files,
            Work::Mount { source: Source::Local { .. } | Source::Nfs { .. }, .. } => Measure::FileSystem,
            Work::Mount { source: Source::HostPath { .. }, .. } | Work::HostPath { .. } | Work::Image => {
                Measure::Nothing
            }
        }
    }
}

struct Item {
    name: String,
    /// Name of upstream's plugin for such volumes.
    plugin: &'static str,
    volume: Volume,
    work: Work,
}

impl VolumeManager {
    /// Without `objects` there is no API server. Without `certificates`, volumes with certificates of pods cannot be made.
    pub fn new(
        paths: Paths,
        objects: Option<objects::Settings>,
        trust_bundles: TrustBundles,
        certificates: Option<Arc<PodCertificates>>,
        mounter: Option<PathBuf>,
    ) -> Self {
        let client = objects.as_ref().map(|o| o.client.clone());
        let config_maps = objects.clone();
        let config_maps =
            config_maps.map(|o| Objects::new(o, "configmap", "configmaps", objects::config_maps));
        let secrets = objects.map(|o| Objects::new(o, "secret", "secrets", objects::secrets));
        let claims = Claims::new(client.clone());
        let tokens = Tokens::default();
        let stats = Arc::default();
        Self {
            paths,
            client,
            config_maps,
            secrets,
            tokens,
            claims,
            trust_bundles,
            certificates,
            mounter,
            stats,
        }
    }

    /// Takes note of the ConfigMaps and Secrets that a pod refers to.
    pub fn register(&self, pod: &Pod) {
        if let Some(objects) = &self.config_maps {
            objects.register(pod);
        }
        if let Some(objects) = &self.secrets {
            objects.register(pod);
        }
    }

    /// A ConfigMap of the pod's namespace.
    pub async fn config_map(&self, pod: &Pod, name: &str) -> Fetched<ConfigMap> {
        match &self.config_maps {
            Some(objects) => objects.get(pod.uid(), pod.namespace(), name).await,
            None => no_client("configMap", pod, name),
        }
    }

    /// A Secret of the pod's namespace.
    pub async fn secret(&self, pod: &Pod, name: &str) -> Fetched<Secret> {
        match &self.secrets {
            Some(objects) => objects.get(pod.uid(), pod.namespace(), name).await,
            None => no_client("secret", pod, name),
        }
    }

    /// Makes all volumes of a pod, or brings their files up to date.
    ///
    /// # Errors
    /// If one of them cannot be made; the text names it.
    pub async fn mount(&self, pod: &Arc<Pod>, context: &Context<'_>) -> Result<Volumes, Error> {
        let mut items = Vec::new();
        for spec in pod.spec().volumes.iter().flatten() {
            items.push(self.prepare(pod, spec, context).await?);
        }
        let volumes = items.iter().map(|item| (item.name.clone(), item.volume.clone())).collect();
        let measured = |(spec, item): (&VolumeSpec, &Item)| {
            Mounted::new(pod, spec, item.volume.path.clone(), item.work.measure())
        };
        let mounted = pod.spec().volumes.iter().flatten().zip(&items).map(measured).collect();
        let settings = pod.spec().security_context.clone().unwrap_or_default();
        let group = settings.fs_group.and_then(|g| u32::try_from(g).ok());
        let lazily = settings.fs_group_change_policy.as_deref() == Some("OnRootMismatch");
        let around = Around {
            group,
            lazily,
            plugins: self.paths.plugins(pod.uid()),
            mounter: self.mounter.clone(),
            now: context.now,
        };
        let made = tokio::task::spawn_blocking(move || {
            items.iter().try_for_each(|item| {
                let begin = Instant::now();
                let made = make(item, &around);
                mounted_in(item.plugin, made.is_ok(), begin.elapsed());
                made.map_err(|error| Error::SetUp { volume: item.name.clone(), reason: error.to_string() })
            })
        });
        match made.await {
            Ok(result) => result.map(|()| {
                self.stats.record(pod, mounted);
                volumes
            }),
            Err(error) => Err(Error::SetUp { volume: "*".into(), reason: error.to_string() }),
        }
    }

    async fn prepare(&self, pod: &Pod, spec: &VolumeSpec, context: &Context<'_>) -> Result<Item, Error> {
        let uid = pod.uid();
        let name = spec.name.clone();
        let at = |plugin: &str| self.paths.volume(uid, &format!("kubernetes.io/{plugin}"), &spec.name);
        let item = |path, read_only, work| Item {
            name: name.clone(),
            plugin: plugin(spec),
            volume: Volume { path, read_only, image: None },
            work,
        };
        let set_up = |reason: String| Error::SetUp { volume: spec.name.clone(), reason };
        let files = |files, memory| Work::Files { files, memory };
        if let Some(source) = &spec.empty_dir {
            return Ok(item(at("empty-dir"), false, empty_dir(source)));
        }
        if let Some(source) = &spec.host_path {
            let kind = source.type_.clone().unwrap_or_default();
            return Ok(item(PathBuf::from(&source.path), false, Work::HostPath { kind }));
        }
        if let Some(source) = &spec.config_map {
            let optional = source.optional.unwrap_or(false);
            let fetched = self.config_map(pod, &source.name).await;
            let map = found(&fetched, optional).map_err(set_up)?;
            let defaults = Defaults::new(source.default_mode, source.default_user);
            let made = payload::config_map(map, source.items.as_deref(), optional, defaults)
                .map_err(|e| set_up(e.to_string()))?;
            return Ok(item(at("configmap"), true, files(made, false)));
        }
        if let Some(source) = &spec.secret {
            let optional = source.optional.unwrap_or(false);
            let fetched = self.secret(pod, source.secret_name.as_deref().unwrap_or_default()).await;
            let secret = found(&fetched, optional).map_err(set_up)?;
            let defaults = Defaults::new(source.default_mode, source.default_user);
            let made = payload::secret(secret, source.items.as_deref(), optional, defaults)
                .map_err(|e| set_up(e.to_string()))?;
            return Ok(item(at("secret"), true, files(made, true)));
        }
        if let Some(source) = &spec.downward_api {
            let defaults = Defaults::new(source.default_mode, source.default_user);
            let items = source.items.as_deref().unwrap_or_default();
            let made = payload::downward_api(items, pod, context.addresses, context.node, defaults)
                .map_err(|e| set_up(e.to_string()))?;
            return Ok(item(at("downward-api"), true, files(made, true)));
        }
        if let Some(source) = &spec.projected {
            let made = self.projected(pod, &spec.name, source, context).await.map_err(set_up)?;
            return Ok(item(at("projected"), true, files(made, true)));
        }
        if let Some(source) = &spec.nfs {
            let read_only = source.read_only.unwrap_or(false);
            let work = Work::Mount { source: persistent::nfs(source, &[]), read_only };
            return Ok(item(at("nfs"), read_only, work));
        }
        if let Some(reference) = claim::reference(pod, spec) {
            let found = self.claims.find(pod, &spec.name, &reference).await.map_err(set_up)?;
            let (source, own) =
                persistent::source(&found, context.node_name, context.node_labels).map_err(set_up)?;
            let read_only = own || reference.read_only;
            // The folder is named after the persistent volume, not after the pod's name for it.
            let name = found.metadata.name.as_deref().unwrap_or(&spec.name);
            let path = match &source {
                Source::HostPath { path, .. } => path.clone(),
                Source::Local { .. } => self.paths.volume(uid, "kubernetes.io/local-volume", name),
                Source::Nfs { .. } => self.paths.volume(uid, "kubernetes.io/nfs", name),
            };
            let plugin = source.plugin();
            let item = item(path, read_only, Work::Mount { source, read_only });
            return Ok(Item { plugin, ..item });
        }
        if let Some(source) = &spec.image {
            let mut item = item(PathBuf::new(), true, Work::Image);
            item.volume.image = source.reference.clone();
            return Ok(item);
        }
        if let Some(source) = &spec.csi {
            // No driver can register here, so none is ever found.
            return Err(set_up(format!(
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {} not found in the list of registered CSI drivers",
                source.driver
            )));
        }
        Err(Error::Unsupported(spec.name.clone()))
    }

    /// Removes everything on disk that belongs to a pod's volumes. What is still mounted is never walked into.
    ///
    /// # Errors
    /// If a mount cannot be removed.
    pub async fn unmount(&self, uid: &str) -> io::Result<()> {
        self.tokens.forget(uid, Timestamp::now());
        self.claims.forget(uid);
        self.stats.forget(uid);
        if let Some(objects) = &self.config_maps {
            objects.forget(uid);
        }
        if let Some(objects) = &self.secrets {
            objects.forget(uid);
        }
        let (pod, volumes, subpaths) =
            (self.paths.pod(uid), self.paths.volumes(uid), self.paths.subpaths(uid));
        let done = tokio::task::spawn_blocking(move || {
            unmount_below(&pod)?;
            remove_tree(&subpaths)?;
            remove_tree(&volumes)
        });
        done.await.map_err(io::Error::other)?
    }
}

/// Name of the plugin that upstream has for a volume; of claims it depends on what they are bound to.
fn plugin(spec: &VolumeSpec) -> &'static str {
    let all = [
        (spec.empty_dir.is_some(), "kubernetes.io/empty-dir"),
        (spec.host_path.is_some(), "kubernetes.io/host-path"),
        (spec.config_map.is_some(), "kubernetes.io/configmap"),
        (spec.secret.is_some(), "kubernetes.io/secret"),
        (spec.downward_api.is_some(), "kubernetes.io/downward-api"),
        (spec.projected.is_some(), "kubernetes.io/projected"),
        (spec.nfs.is_some(), "kubernetes.io/nfs"),
        (spec.image.is_some(), "kubernetes.io/image"),
    ];
    all.into_iter().find(|(is, _)| *is).map_or("", |(_, name)| name)
}

fn no_client<T>(kind: &str, pod: &Pod, name: &str) -> Fetched<T> {
    Fetched::Failed(format!("couldn't get {kind} {}/{name}, no kubeClient defined", pod.namespace()))
}

pub(super) fn found<T>(fetched: &Fetched<T>, optional: bool) -> Result<Option<&T>, String> {
    match fetched {
        Fetched::Found(object) => Ok(Some(object)),
        Fetched::NotFound(_) if optional => Ok(None),
        Fetched::NotFound(text) | Fetched::Failed(text) => Err(text.clone()),
    }
}

fn empty_dir(source: &EmptyDirVolumeSource) -> Work {
    Work::EmptyDir {
        memory: source.medium.as_deref() == Some("Memory"),
        size: source.size_limit.as_ref().map(whole).filter(|size| *size > 0),
        mode: source.mode.and_then(|m| u32::try_from(m).ok()),
    }
}

/// What all volumes of a pod are made with.
struct Around {
    group: Option<u32>,
    lazily: bool,
    plugins: PathBuf,
    mounter: Option<PathBuf>,
    now: Timestamp,
}

fn make(item: &Item, around: &Around) -> io::Result<()> {
    let path = &item.volume.path;
    let (group, lazily, plugins, now) = (around.group, around.lazily, &around.plugins, around.now);
    match &item.work {
        Work::Image => return Ok(()),
        Work::HostPath { kind } => return host_path::prepare(path, kind),
        Work::Mount { source, read_only } => {
            let access = Access { group, lazily, read_only: *read_only };
            return place::mount(source, path, access, around.mounter.as_deref());
        }
        Work::EmptyDir { memory, size, mode } => {
            let marker = plugins.join("kubernetes.io~empty-dir").join(&item.name).join("ready");
            if marker.exists() && path.exists() && (!memory || sys::mounts::is_mounted(path)?) {
                return Ok(());
            }
            folder(path, mode.unwrap_or(0o777))?;
            if *memory && !sys::mounts::is_mounted(path)? {
                sys::mounts::tmpfs(path, *size)?;
                // Without a mode, it has the kernel's: open to all, and sticky.
                if let Some(mode) = mode {
                    std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))?;
                }
            }
            if let Some(group) = group {
                ownership::set_group(path, group, false, lazily)?;
            }
            make_dir(marker.parent().unwrap_or(plugins), 0o750)?;
            std::fs::write(marker, "")?;
        }
        Work::Files { files, memory } => {
            folder(path, 0o777)?;
            if *memory && !sys::mounts::is_mounted(path)? {
                sys::mounts::tmpfs(path, None)?;
            }
            let changed = atomic::write(path, files, now)?;
            if let Some(group) = group.filter(|_| changed) {
                ownership::set_group(path, group, true, false)?;
            }
            let marker =
                plugins.join("kubernetes.io~empty-dir").join(format!("wrapped_{}", item.name)).join("ready");
            if !marker.exists() {
                make_dir(marker.parent().unwrap_or(plugins), 0o750)?;
                std::fs::write(marker, "")?;
            }
        }
    }
    Ok(())
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    if !path.exists() {
        make_dir(path, 0o750)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Removes all mounts below a folder, deepest first.
fn unmount_below(dir: &Path) -> io::Result<()> {
    let mut targets = sys::mounts::below(dir)?;
    targets.sort();
    targets.iter().rev().try_for_each(|target| match sys::mounts::unmount(target) {
        // Listed, but below another mount: nothing can be seen there.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("cannot unmount {}: {error}", target.display())))
        }
        Ok(()) => Ok(()),
    })
}

/// Removes a folder on the same file system; a mount that appeared meanwhile makes it fail instead of being emptied.
fn remove_tree(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes all that is left of a pod on disk.
///
/// # Errors
/// If a mount or file cannot be removed.
pub fn remove_pod_dir(paths: &Paths, uid: &str) -> io::Result<()> {
    let dir = paths.pod(uid);
    unmount_below(&dir)?;
    remove_tree(&dir)
}
