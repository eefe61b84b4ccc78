//! Reading the levels of everything that may run short.
//!
//! Upstream: makeSignalObservations in pkg/kubelet/eviction/helpers.go, v1.37.

use std::path::Path;

use cri::v1;

use super::{Level, Levels, Signal, Threshold};
use crate::cgroup::memory::Memory;
use crate::kubelet::Kubelet;
use crate::node::machine::{self, Disk, kibibytes};

/// Reads what the thresholds are about.
pub(super) async fn read(kubelet: &Kubelet, thresholds: &[Threshold]) -> Levels {
    let wanted = |signal: Signal| thresholds.iter().any(|t| t.signal == signal);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| kibibytes(&meminfo, name).saturating_mul(1024);
    let memory = Level { available: bytes("MemAvailable:"), capacity: bytes("MemTotal:") };
    let mut out = Levels::from([(Signal::Memory, memory)]);
    if wanted(Signal::AllocatableMemory) {
        let cgroups = &kubelet.runtime.cgroups;
        let pods = cgroups.hierarchy().memory(&cgroups.all_pods_path());
        out.extend(pods.and_then(of_pods).map(|level| (Signal::AllocatableMemory, level)));
    }
    let mut add = |place: Option<Disk>, space: Signal, inodes: Signal| {
        let Some(disk) = place else { return };
        out.insert(space, Level { available: disk.available, capacity: disk.capacity });
        // File systems without a fixed number of inodes report none.
        if disk.inodes > 0 {
            out.insert(inodes, Level { available: disk.inodes_free, capacity: disk.inodes });
        }
    };
    add(machine::disk(&kubelet.paths.root), Signal::NodeSpace, Signal::NodeInodes);
    if wanted(Signal::ImageSpace) || wanted(Signal::ImageInodes) {
        add(image_disk(kubelet).await, Signal::ImageSpace, Signal::ImageInodes);
    }
    if let Some(capacity) = machine::max_tasks() {
        out.insert(Signal::Pids, Level { available: capacity - machine::tasks(), capacity });
    }
    out
}

/// Memory of the group of all pods; unknown if it has no limit.
fn of_pods(memory: Memory) -> Option<Level> {
    let capacity = memory.limit?;
    Some(Level { available: capacity.saturating_sub(memory.working_set), capacity })
}

/// The file system on which the runtime keeps images.
async fn image_disk(kubelet: &Kubelet) -> Option<Disk> {
    let answer = kubelet.runtime.cri.image_fs_info(v1::ImageFsInfoRequest::default()).await.ok()?;
    let place = answer.image_filesystems.into_iter().next()?.fs_id?.mountpoint;
    machine::disk(Path::new(&place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_what_their_group_may_have() {
        let memory = Memory { usage: 90, working_set: 70, limit: Some(100), ..Memory::default() };
        assert_eq!(of_pods(memory), Some(Level { available: 30, capacity: 100 }));
        assert_eq!(of_pods(Memory { limit: None, ..memory }), None);
        assert_eq!(of_pods(Memory { limit: Some(50), ..memory }).unwrap().available, -20);
    }
}
