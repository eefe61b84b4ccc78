//! Reading how the processors hang together from sysfs. Upstream: github.com/google/cadvisor/lib/utils/sysinfo v0.60.5.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::cpuset::CpuSet;
use super::topology::{CpuInfo, Details, Topology};

/// Where Linux shows them.
pub const SYSTEM: &str = "/sys/devices/system";

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<u32> {
    text(path)?.parse().ok()
}

/// Numbers of the entries `nameN` of a folder.
fn numbered(dir: &Path, name: &str) -> BTreeSet<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.strip_prefix(name)?.parse().ok()).collect()
}

/// A core of a node: its number within the socket, the socket, its threads.
struct Core {
    socket: u32,
    threads: BTreeSet<u32>,
    uncore: Option<u32>,
}

/// Reads the machine below `root`, usually [`SYSTEM`].
///
/// # Errors
/// If no processor is shown.
pub fn discover(root: &Path) -> Result<Topology, String> {
    let cpus = root.join("cpu");
    // Without the list all are online.
    let online = text(&cpus.join("online")).and_then(|list| CpuSet::parse(&list).ok());
    let place = |cpu: u32| -> Option<(u32, u32)> {
        let dir = cpus.join(format!("cpu{cpu}/topology"));
        let known = online.as_ref().is_none_or(|all| all.0.contains(&cpu));
        known.then_some(())?;
        Some((number(&dir.join("physical_package_id"))?, number(&dir.join("core_id"))?))
    };
    let mut out = Topology::default();
    let mut members: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let nodes = root.join("node");
    for node in numbered(&nodes, "node") {
        let dir = nodes.join(format!("node{node}"));
        let distances = text(&dir.join("distance")).unwrap_or_default();
        out.nodes.insert(node, distances.split(' ').filter_map(|d| d.parse().ok()).collect());
        members.insert(node, numbered(&dir, "cpu"));
    }
    if members.is_empty() {
        // A kernel without NUMA: sockets stand for nodes.
        for cpu in numbered(&cpus, "cpu") {
            let Some((socket, _)) = place(cpu) else { continue };
            members.entry(socket).or_default().insert(cpu);
            out.nodes.entry(socket).or_default();
        }
    }
    let mut sockets = BTreeSet::new();
    for (node, members) in members {
        let cores = cores(&cpus, &members, &place);
        out.cores += cores.len();
        sockets.extend(cores.iter().map(|core| core.socket));
        insert(&mut out.details, node, &cores);
    }
    out.sockets = sockets.len();
    if out.details.0.is_empty() { Err("could not detect number of cpus".to_owned()) } else { Ok(out) }
}

fn cores(cpus: &Path, members: &BTreeSet<u32>, place: &dyn Fn(u32) -> Option<(u32, u32)>) -> Vec<Core> {
    let mut found: BTreeMap<(u32, u32), BTreeSet<u32>> = BTreeMap::new();
    for cpu in members {
        if let Some(at) = place(*cpu) {
            found.entry(at).or_default().insert(*cpu);
        }
    }
    let count = found.len();
    let mut out: Vec<Core> =
        (found.into_iter()).map(|((socket, _), threads)| Core { socket, threads, uncore: None }).collect();
    for core in &mut out {
        let Some(first) = core.threads.first() else { continue };
        let Some(caches) = caches(&cpus.join(format!("cpu{first}/cache"))) else { break };
        let of_node = count.saturating_mul(core.threads.len());
        core.uncore =
            caches.into_iter().find(|(level, shared, _)| *level > 2 && *shared != of_node).map(|c| c.2);
    }
    out
}

/// Level, number of processors and id of each cache of a processor; `None` where the kernel does not tell.
fn caches(dir: &Path) -> Option<Vec<(u32, usize, u32)>> {
    let one = |index: u32| -> Option<(u32, usize, u32)> {
        let at: PathBuf = dir.join(format!("index{index}"));
        let shared = CpuSet::parse(&text(&at.join("shared_cpu_list"))?).ok()?.len();
        Some((number(&at.join("level"))?, shared, number(&at.join("id"))?))
    };
    let indices = numbered(dir, "index");
    (!indices.is_empty()).then_some(())?;
    indices.into_iter().map(one).collect()
}

fn insert(details: &mut Details, numa: u32, cores: &[Core]) {
    for core in cores {
        let Some(first) = core.threads.first() else { continue };
        let uncore = core.uncore.unwrap_or(core.socket);
        let info = CpuInfo { core: *first, socket: core.socket, numa, uncore };
        details.0.extend(core.threads.iter().map(|cpu| (*cpu, info)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpumanager::topology::Level;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// Two nodes of two cores with two threads, one thread offline; each core has a last-level cache of its own.
    #[test]
    fn two_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "cpu/online", "0-6");
        put(root, "node/node0/distance", "10 21");
        put(root, "node/node1/distance", "21 10");
        for cpu in 0..8 {
            let core = cpu % 4;
            put(root, &format!("cpu/cpu{cpu}/topology/core_id"), &(core % 2).to_string());
            put(root, &format!("cpu/cpu{cpu}/topology/physical_package_id"), &(core / 2).to_string());
            put(root, &format!("node/node{}/cpu{cpu}/x", core / 2), "");
            put(root, &format!("cpu/cpu{cpu}/cache/index3/level"), "3");
            put(root, &format!("cpu/cpu{cpu}/cache/index3/id"), &(core + 10).to_string());
            put(root, &format!("cpu/cpu{cpu}/cache/index3/shared_cpu_list"), &format!("{core},{}", core + 4));
        }
        let found = discover(root).unwrap();
        assert_eq!((found.cores, found.sockets, found.numa_nodes(), found.details.0.len()), (4, 2, 2, 7));
        assert_eq!(found.details.0[&6], CpuInfo { core: 2, socket: 1, numa: 1, uncore: 12 });
        assert_eq!(found.details.cpus_in(Level::Numa, 1).to_string(), "2-3,6");
        assert_eq!(found.nodes[&1], [21, 10]);
    }

    #[test]
    fn no_numa() {
        let dir = tempfile::tempdir().unwrap();
        assert!(discover(dir.path()).is_err());
        for cpu in ["0", "1"] {
            put(dir.path(), &format!("cpu/cpu{cpu}/topology/core_id"), "0");
            put(dir.path(), &format!("cpu/cpu{cpu}/topology/physical_package_id"), cpu);
        }
        let found = discover(dir.path()).unwrap();
        assert_eq!((found.cores, found.sockets, found.numa_nodes()), (2, 2, 2));
        assert_eq!(found.details.0[&1], CpuInfo { core: 1, socket: 1, numa: 1, uncore: 1 });
    }
}
