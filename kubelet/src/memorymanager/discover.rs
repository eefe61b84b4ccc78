//! Reading each NUMA node's memory from sysfs. Upstream: GetNodesInfo in github.com/google/cadvisor/lib/utils/sysinfo v0.60.5.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Memory of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMemory {
    /// Bytes.
    pub bytes: u64,
    /// How many huge pages there are, by their size in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
}

fn numbered(name: &str, before: &str, behind: &str) -> Option<u64> {
    name.strip_prefix(before)?.strip_suffix(behind)?.parse().ok()
}

fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// A line such as `Node 0 MemTotal:       16 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.split_once("MemTotal:"))?.1;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Reads the nodes below `root`, usually `/sys/devices/system`. What is not shown is nothing.
pub fn discover(root: &Path) -> BTreeMap<u32, NodeMemory> {
    let mut out = BTreeMap::new();
    for entry in entries(&root.join("node")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(id) = numbered(&name, "node", "").and_then(|id| u32::try_from(id).ok()) else { continue };
        let meminfo = fs::read_to_string(entry.path().join("meminfo")).unwrap_or_default();
        let mut memory = NodeMemory { bytes: total(&meminfo).unwrap_or_default(), ..NodeMemory::default() };
        for pages in entries(&entry.path().join("hugepages")) {
            let name = pages.file_name().to_string_lossy().into_owned();
            let size = numbered(&name, "hugepages-", "kB").and_then(|size| size.checked_mul(1024));
            let count = fs::read_to_string(pages.path().join("nr_hugepages")).ok();
            let count = count.and_then(|text| text.trim().parse().ok());
            memory.huge_pages.extend(size.zip(count));
        }
        out.insert(id, memory);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            let path = dir.path().join("node").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("node0/meminfo", "Node 0 MemFree: 1 kB\nNode 0 MemTotal:       16 kB\n");
        put("node0/hugepages/hugepages-2048kB/nr_hugepages", "3\n");
        put("node0/hugepages/hugepages-1048576kB/nr_hugepages", "0\n");
        put("node12/cpulist", "");
        put("online", "0,12");
        let pages = BTreeMap::from([(2 << 20, 3), (1 << 30, 0)]);
        let found = discover(dir.path());
        assert_eq!(found[&0], NodeMemory { bytes: 16 << 10, huge_pages: pages });
        assert_eq!((found.len(), &found[&12]), (2, &NodeMemory::default()));
        assert!(discover(&dir.path().join("none")).is_empty());
    }
}
