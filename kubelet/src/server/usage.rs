//! Processor time and memory of a control group, and how the summary shows them.
//!
//! Upstream: `cadvisorInfoToCPUandMemoryStats` in pkg/kubelet/stats/helper.go, over what cAdvisor reads of a group.

use std::fs;
use std::path::Path;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::cgroup::fs::Hierarchy;

/// Figures of one container or group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in nanoseconds since its start.
    pub cpu_nanos: u64,
    /// Processor use right now, in billionths of a core, if known.
    pub cpu_rate: Option<u64>,
    /// Bytes of memory that cannot be reclaimed easily.
    pub working_set: u64,
    /// Bytes of memory in use.
    pub memory: u64,
    /// Bytes of memory that it may use, if that is limited.
    pub limit: Option<u64>,
    /// Bytes of anonymous memory.
    pub rss: u64,
    /// Bytes of swap, if known.
    pub swap: Option<u64>,
}

impl Usage {
    /// Both together; a limit is not added up.
    pub fn add(self, b: Self) -> Self {
        Self {
            cpu_nanos: self.cpu_nanos.saturating_add(b.cpu_nanos),
            cpu_rate: self.cpu_rate.zip(b.cpu_rate).map(|(a, b)| a.saturating_add(b)),
            working_set: self.working_set.saturating_add(b.working_set),
            memory: self.memory.saturating_add(b.memory),
            limit: None,
            rss: self.rss.saturating_add(b.rss),
            swap: self.swap.zip(b.swap).map(|(a, b)| a.saturating_add(b)),
        }
    }

    /// `cpu` of the summary.
    pub fn cpu(&self, now: Timestamp) -> Value {
        json!({"time": now, "usageNanoCores": self.cpu_rate, "usageCoreNanoSeconds": self.cpu_nanos})
    }

    /// `memory` of the summary.
    pub fn memory(&self, now: Timestamp) -> Value {
        json!({
            "time": now, "availableBytes": self.limit.map(|limit| limit.saturating_sub(self.working_set)),
            "usageBytes": self.memory, "workingSetBytes": self.working_set, "rssBytes": self.rss,
        })
    }
}

/// Reads a group by its path below the mount, without a slash in front; what cannot be read is zero.
pub fn read(hierarchy: &Hierarchy, path: &str) -> Usage {
    let bytes = |n: i64| u64::try_from(n).unwrap_or_default();
    let memory = hierarchy.memory(path);
    let found = memory.unwrap_or_default();
    Usage {
        cpu_nanos: cpu_nanos(hierarchy, path),
        cpu_rate: None,
        working_set: bytes(found.working_set),
        memory: bytes(found.usage),
        limit: found.limit.map(bytes),
        rss: bytes(found.anonymous),
        swap: memory.map(|memory| bytes(memory.swap)),
    }
}

/// Processor time of a group in nanoseconds; zero if it cannot be read.
pub fn cpu_nanos(hierarchy: &Hierarchy, path: &str) -> u64 {
    if !hierarchy.is_v2() {
        return hierarchy.controller_dir("cpuacct", path).map_or(0, |dir| number(dir.join("cpuacct.usage")));
    }
    let stat =
        hierarchy.controller_dir("", path).and_then(|dir| fs::read_to_string(dir.join("cpu.stat")).ok());
    keyed(&stat.unwrap_or_default(), "usage_usec").saturating_mul(1000)
}

/// A file that is one number.
pub fn number(path: impl AsRef<Path>) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// The number behind a word that begins a line.
pub fn keyed(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|v| v.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("a/cpu.stat", "usage_usec 5\n");
        put("a/memory.current", "1000\n");
        put("a/memory.stat", "anon 700\ninactive_file 100\n");
        put("a/memory.max", "4096\n");
        let found = read(&Hierarchy::V2(dir.path().to_owned()), "a");
        assert_eq!(
            (found.cpu_nanos, found.working_set, found.limit, found.rss),
            (5000, 900, Some(4096), 700)
        );
        let shown = found.memory(Timestamp::UNIX_EPOCH);
        assert_eq!(shown["availableBytes"], 3196);
        put("a/memory.max", "max\n");
        let found = read(&Hierarchy::V2(dir.path().to_owned()), "a");
        assert_eq!(found.memory(Timestamp::UNIX_EPOCH)["availableBytes"], Value::Null);
    }

    #[test]
    fn words() {
        assert_eq!(keyed("a 1\ntotal_rss 7\n", "total_rss"), 7);
    }
}
