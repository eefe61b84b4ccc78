//! The machine itself, at the end of `/metrics/cadvisor`.
//!
//! What only some machines have (drawers and books of processors, persistent memory, NUMA nodes) is missing. Upstream:
//! metrics/prometheus_machine.go of github.com/google/cadvisor/lib v0.60.5.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::stats::Page;
use crate::node::machine::Machine;

/// Figures that do not change while the machine runs.
pub struct MachinePage {
    machine: Machine,
    sockets: usize,
    cores: usize,
}

impl MachinePage {
    /// Reads the machine.
    pub fn new(machine: Machine) -> Self {
        let (sockets, cores) = topology(Path::new("/sys/devices/system/cpu"));
        Self { machine, sockets, cores }
    }

    /// Writes its metrics.
    pub(super) fn show(&self, page: &mut Page) {
        let m = &self.machine;
        let labels = [
            ("boot_id", m.boot_id.as_str()),
            ("machine_id", m.machine_id.as_str()),
            ("system_uuid", m.system_uuid.as_str()),
        ];
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let all = [
            ("machine_cpu_cores", "Number of logical CPU cores.", m.cpus),
            ("machine_cpu_physical_cores", "Number of physical CPU cores.", count(self.cores)),
            ("machine_cpu_sockets", "Number of CPU sockets.", count(self.sockets)),
            ("machine_memory_bytes", "Amount of memory installed on the machine.", m.memory),
            ("machine_swap_bytes", "Amount of swap memory available on the machine.", m.swap),
        ];
        for (name, help, value) in all {
            page.family(name, "gauge", help);
            #[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
            page.sample(&labels, value as f64);
        }
        page.family(
            "machine_scrape_error",
            "gauge",
            "1 if there was an error while getting machine metrics, 0 otherwise.",
        );
        page.sample(&[], 0.0);
        page.family(
            "cadvisor_version_info",
            "gauge",
            "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & \
             cadvisor revision.",
        );
        let empty = ["cadvisorRevision", "cadvisorVersion", "dockerVersion"].map(|name| (name, ""));
        let own = [("kernelVersion", m.kernel.as_str()), ("osVersion", m.os_image.as_str())];
        let labels: Vec<_> = empty.into_iter().chain(own).collect();
        page.sample(&labels, 1.0);
    }
}

/// How many sockets and cores there are; one each if the kernel does not say.
fn topology(root: &Path) -> (usize, usize) {
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join("topology").join(file)).ok();
        let Some((socket, core)) = read("physical_package_id").zip(read("core_id")) else { continue };
        sockets.insert(socket.clone());
        cores.insert((socket, core));
    }
    (sockets.len().max(1), cores.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_no_cores() {
        let dir = tempfile::tempdir().unwrap();
        for (cpu, socket, core) in [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 0, 0)] {
            let topology = dir.path().join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("physical_package_id"), format!("{socket}\n")).unwrap();
            fs::write(topology.join("core_id"), format!("{core}\n")).unwrap();
        }
        fs::create_dir(dir.path().join("cpufreq")).unwrap();
        assert_eq!(topology(dir.path()), (2, 3));
        assert_eq!(topology(Path::new("/nowhere")), (1, 1));
    }
}
