//! The mounts of one container: volumes, parts of volumes, the hosts file, the termination message.
//!
//! A part of a volume (`subPath`) is opened beneath the volume by the kernel and mounted by that handle, so a container
//! that swaps links meanwhile gains nothing. Upstream: pkg/kubelet/kubelet_pods.go makeMounts and
//! pkg/volume/util/subpath, v1.37.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::manager::{Volume, Volumes};
use crate::container::expansion::expand;
use crate::network::hosts;
use crate::paths::{Paths, make_dir};
use crate::pod::view::PodView;

/// A container's mounts that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error("missing value for {0}")]
    MissingValue(String),
    #[error("error SubPath `{0}` must not be an absolute path")]
    Absolute(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    Backsteps(String),
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPath { volume: String, container: String },
    #[error("failed to create subPath directory for volumeMount {volume:?} of container {container:?}")]
    MakeSubPath { volume: String, container: String },
    #[error("failed to resolve recursive read-only mode: {0}")]
    Recursive(String),
    #[error("cannot write {path}: {reason}")]
    File { path: String, reason: io::Error },
}

/// What the mounts of a container depend on.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// The pod's volumes.
    pub volumes: &'a Volumes,
    /// The container's environment, for `subPathExpr`.
    pub env: &'a BTreeMap<String, String>,
    /// The pod's addresses.
    pub pod_ips: &'a [String],
    /// The pod's host name and domain.
    pub hostname: (&'a str, &'a str),
    /// Where things are.
    pub paths: &'a Paths,
    /// True if the pod's runtime handler can make mounts read-only recursively.
    pub recursive_read_only: bool,
}

const HOSTS: &str = "/etc/hosts";

/// Makes everything that the container's mounts need on disk. Blocking.
///
/// # Errors
/// If something cannot be made. The text does not tell what is on the node.
pub fn container_mounts(inputs: &Inputs<'_>) -> Result<Vec<v1::Mount>, Error> {
    let container = inputs.container;
    let mut out = Vec::new();
    let mut own_hosts = !inputs.pod_ips.is_empty();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        own_hosts &= mount.mount_path != HOSTS;
        out.push(volume_mount(inputs, index, mount)?);
    }
    if own_hosts {
        out.push(hosts_mount(inputs)?);
    }
    if let Some(path) = container.termination_message_path.as_deref().filter(|p| !p.is_empty()) {
        out.push(message_mount(inputs, path)?);
    }
    Ok(out)
}

fn volume_mount(inputs: &Inputs<'_>, index: usize, mount: &VolumeMount) -> Result<v1::Mount, Error> {
    let name = || (mount.name.clone(), inputs.container.name.clone());
    let volume = inputs.volumes.get(&mount.name).ok_or_else(|| {
        let (volume, container) = name();
        Error::NoVolume { volume, container }
    })?;
    let sub_path = sub_path(mount, inputs.env)?;
    let read_only = mount.read_only.unwrap_or(false);
    let recursive = recursive_read_only(mount, inputs.recursive_read_only)?;
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    };
    let container_path = if mount.mount_path.starts_with('/') {
        mount.mount_path.clone()
    } else {
        format!("/{}", mount.mount_path)
    };
    let mut out = v1::Mount {
        container_path,
        readonly: read_only || volume.read_only,
        propagation: propagation.into(),
        recursive_read_only: recursive,
        ..Default::default()
    };
    if let Some(image) = &volume.image {
        out.image = Some(v1::ImageSpec { image: image.clone(), ..Default::default() });
        out.image_sub_path = sub_path;
        return Ok(out);
    }
    let path = if sub_path.is_empty() {
        volume.path.clone()
    } else {
        prepare_sub_path(inputs, index, mount, volume, Path::new(&sub_path))?
    };
    out.host_path = path.display().to_string();
    Ok(out)
}

fn sub_path(mount: &VolumeMount, env: &BTreeMap<String, String>) -> Result<String, Error> {
    let path = match mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        None => mount.sub_path.clone().unwrap_or_default(),
        Some(expression) => {
            let mut missing = BTreeSet::new();
            let expanded = expand(expression, |name| {
                let value = env.get(name).filter(|v| !v.is_empty()).cloned();
                if value.is_none() {
                    missing.insert(name.to_owned());
                }
                Some(value.unwrap_or_default())
            });
            if !missing.is_empty() {
                return Err(Error::MissingValue(missing.into_iter().collect::<Vec<_>>().join(", ")));
            }
            expanded
        }
    };
    if path.starts_with('/') {
        return Err(Error::Absolute(path));
    }
    if Path::new(&path).components().any(|c| c == Component::ParentDir) {
        return Err(Error::Backsteps(path));
    }
    Ok(path)
}

/// Upstream: resolveRecursiveReadOnly in pkg/kubelet/kubelet_pods.go.
fn recursive_read_only(mount: &VolumeMount, supported: bool) -> Result<bool, Error> {
    let Some(mode) = mount.recursive_read_only.as_deref().filter(|mode| *mode != "Disabled") else {
        return Ok(false);
    };
    let refused = |why: &str| {
        Error::Recursive(format!(
            "volume {:?} requested recursive read-only mode, but it is {why}",
            mount.name
        ))
    };
    if !mount.read_only.unwrap_or(false) {
        return Err(refused("not read-only"));
    }
    if let Some(propagation) = mount.mount_propagation.as_deref().filter(|p| *p != "None") {
        return Err(refused(&format!("not compatible with propagation {propagation:?}")));
    }
    match mode {
        "IfPossible" => Ok(supported),
        "Enabled" if !supported => Err(refused("not supported by the runtime")),
        "Enabled" => Ok(true),
        other => Err(Error::Recursive(format!("unknown recursive read-only mode {other:?}"))),
    }
}

/// Opens a part of a volume and mounts it at a place of its own.
fn prepare_sub_path(
    inputs: &Inputs<'_>,
    index: usize,
    mount: &VolumeMount,
    volume: &Volume,
    sub_path: &Path,
) -> Result<PathBuf, Error> {
    let (name, container) = (mount.name.clone(), inputs.container.name.clone());
    let log = |step: &'static str, error: &io::Error| {
        tracing::error!(pod = inputs.pod.log_name(), container, volume = name, step, %error, "Failed to prepare subPath");
    };
    let opened = match sys::open_path_beneath(&volume.path, sub_path) {
        // Where a link leads out of the volume to nothing, upstream tries to make it, too, and says so.
        Err(error) if error.kind() == io::ErrorKind::NotFound || !volume.path.join(sub_path).exists() => {
            let mode = fs::metadata(&volume.path).map_or(0o750, |m| m.permissions().mode() & 0o7777);
            sys::make_dir_beneath(&volume.path, sub_path, mode).map_err(|error| {
                log("create", &error);
                Error::MakeSubPath { volume: name.clone(), container: container.clone() }
            })?;
            sys::open_path_beneath(&volume.path, sub_path)
        }
        other => other,
    };
    let place =
        inputs.paths.subpaths(inputs.pod.uid()).join(&mount.name).join(&container).join(index.to_string());
    let mounted = opened.and_then(|handle| {
        if sys::mounts::is_mounted(&place)? {
            // Of a former container of this name; it may show a path that has been replaced since.
            sys::mounts::unmount(&place)?;
        }
        let is_dir =
            fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle)))?.is_dir();
        if let Some(parent) = place.parent() {
            make_dir(parent, 0o750)?;
        }
        if place.exists() && place.is_dir() != is_dir {
            if place.is_dir() { fs::remove_dir(&place)? } else { fs::remove_file(&place)? }
        }
        if is_dir {
            make_dir(&place, 0o750)?;
        } else if !place.exists() {
            fs::write(&place, "")?;
        }
        sys::mounts::bind_handle(&handle, &place)
    });
    match mounted {
        Ok(()) => Ok(place),
        Err(error) => {
            log("mount", &error);
            Err(Error::SubPath { volume: name, container })
        }
    }
}

fn hosts_mount(inputs: &Inputs<'_>) -> Result<v1::Mount, Error> {
    let path = inputs.paths.hosts(inputs.pod.uid());
    let failed = |reason| Error::File { path: path.display().to_string(), reason };
    let aliases = inputs.pod.spec().host_aliases.as_deref().unwrap_or_default();
    let text = if inputs.pod.is_host_network() {
        hosts::node_hosts(&fs::read_to_string(HOSTS).map_err(failed)?, aliases)
    } else {
        hosts::pod_hosts(inputs.pod_ips, inputs.hostname.0, inputs.hostname.1, aliases)
    };
    fs::write(&path, text).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(failed)?;
    Ok(v1::Mount {
        container_path: HOSTS.to_owned(),
        host_path: path.display().to_string(),
        ..Default::default()
    })
}

/// Each container gets a message file of its own, so that the message of the last one stays readable.
fn message_mount(inputs: &Inputs<'_>, message_path: &str) -> Result<v1::Mount, Error> {
    let dir = inputs.paths.container(inputs.pod.uid(), &inputs.container.name);
    let failed = |reason| Error::File { path: dir.display().to_string(), reason };
    make_dir(&dir, 0o750).map_err(failed)?;
    let id = uuid::Uuid::new_v4().simple().to_string();
    let path = dir.join(id.get(..8).unwrap_or(&id));
    fs::write(&path, "").map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
    let container_path =
        if message_path.starts_with('/') { message_path.to_owned() } else { format!("/{message_path}") };
    Ok(v1::Mount { container_path, host_path: path.display().to_string(), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recursive_read_only_mounts() {
        let check = |mode: &str, read_only, propagation: Option<&str>, supported| {
            let mount = VolumeMount {
                name: "v".to_owned(),
                read_only: Some(read_only),
                recursive_read_only: Some(mode.to_owned()),
                mount_propagation: propagation.map(str::to_owned),
                ..VolumeMount::default()
            };
            recursive_read_only(&mount, supported).map_err(|e| e.to_string())
        };
        let refused = |why: &str| {
            let what =
                "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode";
            Err(format!("{what}, but it is {why}"))
        };
        assert_eq!(check("Disabled", false, None, false), Ok(false));
        assert_eq!(check("IfPossible", true, Some("None"), true), Ok(true));
        assert_eq!(check("IfPossible", true, None, false), Ok(false));
        assert_eq!(check("Enabled", true, None, true), Ok(true));
        assert_eq!(check("Enabled", true, None, false), refused("not supported by the runtime"));
        assert_eq!(check("IfPossible", false, None, true), refused("not read-only"));
        let propagated = refused("not compatible with propagation \"HostToContainer\"");
        assert_eq!(check("Enabled", true, Some("HostToContainer"), true), propagated);
    }
}
