//! Which of the node's files lie on which file system, and what follows from it.
//!
//! A runtime may keep images on a file system of their own, with containers' writable layers or without them. Thresholds of
//! the containers' file system (`containerfs.*`) need no signal of their own: they are those of the file system that it
//! shares, whatever was configured. Upstream: UpdateContainerFsThresholds, buildSignalToRankFunc and
//! buildSignalToNodeReclaimFuncs in pkg/kubelet/eviction/helpers.go, HasDedicatedImageFs in pkg/kubelet/stats/provider.go, v1.37.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cri::v1;

use super::Signal;

/// Where images and writable layers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Everything is on the kubelet's file system.
    Shared,
    /// Images and layers are on another one.
    Apart,
    /// Images are on another one, layers are not.
    Split,
}

/// What of a pod's local storage counts for a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Writable layers.
    pub layers: bool,
    /// Logs and local volumes.
    pub files: bool,
}

/// What is removed before pods are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// Containers that have ended.
    pub containers: bool,
    /// Images that nobody uses.
    pub images: bool,
}

impl Layout {
    /// From the ids of the file systems of the kubelet's folder, of images, and of layers; layers are where images are if
    /// the runtime does not say.
    pub fn of(node: Option<u64>, images: Option<u64>, layers: Option<u64>) -> Self {
        // A place that cannot be looked at is not known to be another.
        let differ = |a: Option<u64>, b: Option<u64>| a.zip(b).is_some_and(|(a, b)| a != b);
        match (differ(images, layers), differ(node, images)) {
            (true, _) => Self::Split,
            (false, true) => Self::Apart,
            (false, false) => Self::Shared,
        }
    }

    /// Looks where the runtime says that its files are.
    pub fn read(root: &Path, places: &v1::ImageFsInfoResponse) -> Self {
        let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
        let place = |all: &[v1::FilesystemUsage]| {
            let id = all.first()?.fs_id.as_ref()?;
            device(Path::new(&id.mountpoint))
        };
        Self::of(device(root), place(&places.image_filesystems), place(&places.container_filesystems))
    }

    /// What counts when pods are ranked for a signal about disks.
    pub fn counted(self, signal: Signal) -> Counted {
        let of_images = matches!(signal, Signal::ImageSpace | Signal::ImageInodes);
        match (self, of_images) {
            (Self::Apart, false) => Counted { layers: false, files: true },
            (Self::Apart, true) => Counted { layers: true, files: false },
            // Nothing of a pod is there: all are equal.
            (Self::Split, true) => Counted { layers: false, files: false },
            (Self::Shared, _) | (Self::Split, false) => Counted { layers: true, files: true },
        }
    }

    /// What may be removed to make room for a signal.
    pub fn spare(self, signal: Signal) -> Spare {
        match signal {
            Signal::Memory | Signal::AllocatableMemory | Signal::Pids => {
                Spare { containers: false, images: false }
            }
            Signal::NodeSpace | Signal::NodeInodes => {
                Spare { containers: self != Self::Apart, images: self == Self::Shared }
            }
            Signal::ImageSpace | Signal::ImageInodes => {
                Spare { containers: self != Self::Split, images: true }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let [a, b] = [Some(1), Some(2)];
        let cases = [
            ((a, a, a), Layout::Shared),
            ((a, a, None), Layout::Shared),
            ((None, a, a), Layout::Shared),
            ((a, b, b), Layout::Apart),
            ((a, b, None), Layout::Apart),
            ((a, b, a), Layout::Split),
        ];
        for ((node, images, layers), expected) in cases {
            assert_eq!(Layout::of(node, images, layers), expected);
        }
    }
}
