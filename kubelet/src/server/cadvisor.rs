//! `/metrics/cadvisor`: figures of control groups under cAdvisor's names, for dashboards.
//!
//! The root group, all pods' groups and their containers' are shown; other groups of the machine are not. [`labelled`] has
//! what is told by device, processes and pressure, [`disks`] the machine's file systems. The figures of NUMA nodes are missing.
//! Everything is read when asked for. Upstream: github.com/google/cadvisor/lib/metrics v0.60.5.

pub mod disks;
pub mod labelled;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::fs::Hierarchy;
use crate::cgroup::in_force::weight_to_shares;

/// A control group and what it is to Kubernetes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Path below the mount, with a slash in front.
    pub id: String,
    /// The container's name; empty for pods and the root.
    pub container: String,
    /// The container's image.
    pub image: String,
    /// The runtime's id of the container.
    pub name: String,
    /// Namespace and name of the pod.
    pub pod: (String, String),
    /// When it started, in seconds since 1970, if known.
    pub started: Option<f64>,
    /// True if the group's network is to be shown: once per pod, and the machine's.
    pub network: bool,
}

/// Values of one group by name of the metric.
pub type Values = BTreeMap<&'static str, f64>;

/// Metrics with type and help, in the order of the page.
pub const FAMILIES: [(&str, &str, &str); 27] = [
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds."),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds."),
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds."),
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals."),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals."),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
    ),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory."),
    ("container_memory_rss", "gauge", "Size of RSS in bytes."),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes."),
    ("container_memory_swap", "gauge", "Container swap usage in bytes."),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits"),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    ),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes"),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes."),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container"),
    ("container_processes", "gauge", "Number of processes running inside the container."),
    ("container_threads", "gauge", "Number of threads running inside the container"),
    (
        "container_threads_max",
        "gauge",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
    ),
    ("container_spec_cpu_period", "gauge", "CPU period of the container."),
    ("container_spec_cpu_quota", "gauge", "CPU quota of the container."),
    ("container_spec_cpu_shares", "gauge", "CPU share of the container."),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container."),
    ("container_spec_memory_reservation_limit_bytes", "gauge", "Memory reservation limit for the container."),
    ("container_spec_memory_swap_limit_bytes", "gauge", "Memory swap limit for the container."),
    ("container_creation_time_seconds", "gauge", "Container creation time since unix epoch in seconds."),
    ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds."),
    ("container_last_seen", "gauge", "Last time a container was seen by the exporter"),
];

/// Network metrics, in the order of the kernel's columns that they are taken from.
pub const NETWORK: [(&str, usize, &str); 8] = [
    ("container_network_receive_bytes_total", 0, "Cumulative count of bytes received"),
    ("container_network_receive_errors_total", 2, "Cumulative count of errors encountered while receiving"),
    (
        "container_network_receive_packets_dropped_total",
        3,
        "Cumulative count of packets dropped while receiving",
    ),
    ("container_network_receive_packets_total", 1, "Cumulative count of packets received"),
    ("container_network_transmit_bytes_total", 8, "Cumulative count of bytes transmitted"),
    (
        "container_network_transmit_errors_total",
        10,
        "Cumulative count of errors encountered while transmitting",
    ),
    (
        "container_network_transmit_packets_dropped_total",
        11,
        "Cumulative count of packets dropped while transmitting",
    ),
    ("container_network_transmit_packets_total", 9, "Cumulative count of packets transmitted"),
];

pub(super) fn text(dir: Option<&PathBuf>, file: &str) -> Option<String> {
    fs::read_to_string(dir?.join(file)).ok()
}

fn number(text: Option<String>) -> Option<f64> {
    text?.trim().parse::<u64>().ok().map(float)
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn float(n: u64) -> f64 {
    n as f64
}

pub(super) fn keyed(text: Option<&str>, key: &str) -> Option<f64> {
    let line = text?.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse::<u64>().ok().map(float)
}

/// Reads a group; what cannot be read is left out.
pub fn values(hierarchy: &Hierarchy, id: &str) -> Values {
    let path = id.trim_start_matches('/');
    let dir = |controller: &str| hierarchy.controller_dir(controller, path);
    let mut out = Values::new();
    let mut put = |name: &'static str, value: Option<f64>| {
        if let Some(value) = value {
            out.insert(name, value);
        }
    };
    if hierarchy.is_v2() {
        unified(dir("").as_ref(), &mut put);
    } else {
        split(&dir, &mut put);
    }
    out
}

fn unified(dir: Option<&PathBuf>, put: &mut dyn FnMut(&'static str, Option<f64>)) {
    let cpu = text(dir, "cpu.stat");
    let cpu = cpu.as_deref();
    let micros = |key: &str| keyed(cpu, key).map(|n| n / 1e6);
    put("container_cpu_usage_seconds_total", micros("usage_usec"));
    put("container_cpu_user_seconds_total", micros("user_usec"));
    put("container_cpu_system_seconds_total", micros("system_usec"));
    let stat = text(dir, "memory.stat");
    let stat = stat.as_deref();
    let usage = number(text(dir, "memory.current"));
    put("container_memory_cache", keyed(stat, "file"));
    put("container_memory_rss", keyed(stat, "anon"));
    put("container_memory_mapped_file", keyed(stat, "file_mapped"));
    put("container_memory_swap", number(text(dir, "memory.swap.current")));
    put("container_memory_failcnt", keyed(text(dir, "memory.events").as_deref(), "max"));
    put("container_memory_usage_bytes", usage);
    put("container_memory_max_usage_bytes", number(text(dir, "memory.peak")));
    put("container_memory_working_set_bytes", working_set(usage, keyed(stat, "inactive_file")));
    put("container_oom_events_total", keyed(text(dir, "memory.events").as_deref(), "oom_kill"));
    put("container_spec_memory_limit_bytes", limit(text(dir, "memory.max")));
    put("container_spec_memory_reservation_limit_bytes", limit(text(dir, "memory.min")));
    put("container_spec_memory_swap_limit_bytes", limit(text(dir, "memory.swap.max")));
    let max = text(dir, "cpu.max").unwrap_or_default();
    let mut words = max.split_whitespace();
    let (quota, period) = (words.next(), words.next());
    put("container_spec_cpu_period", number(period.map(str::to_owned)));
    let quota = number(quota.map(str::to_owned));
    put("container_spec_cpu_quota", quota);
    throttling(quota.is_some(), cpu, "throttled_usec", 1e6, put);
    let weight = text(dir, "cpu.weight").and_then(|text| text.trim().parse().ok());
    put("container_spec_cpu_shares", weight.map(|weight| float(weight_to_shares(weight))));
    counts(dir, dir, put);
}

fn split(dir: &dyn Fn(&str) -> Option<PathBuf>, put: &mut dyn FnMut(&'static str, Option<f64>)) {
    let (cpu, account, memory) = (dir("cpu"), dir("cpuacct"), dir("memory"));
    put(
        "container_cpu_usage_seconds_total",
        number(text(account.as_ref(), "cpuacct.usage")).map(|n| n / 1e9),
    );
    let times = text(account.as_ref(), "cpuacct.stat");
    // In hundredths of a second on every machine that the kernel supports today.
    let ticks = |key: &str| keyed(times.as_deref(), key).map(|n| n / 100.0);
    put("container_cpu_user_seconds_total", ticks("user"));
    put("container_cpu_system_seconds_total", ticks("system"));
    let stat = text(memory.as_ref(), "memory.stat");
    let stat = stat.as_deref();
    let usage = number(text(memory.as_ref(), "memory.usage_in_bytes"));
    put("container_memory_cache", keyed(stat, "total_cache"));
    put("container_memory_rss", keyed(stat, "total_rss"));
    put("container_memory_mapped_file", keyed(stat, "total_mapped_file"));
    put("container_memory_swap", keyed(stat, "total_swap"));
    put("container_memory_failcnt", number(text(memory.as_ref(), "memory.failcnt")));
    put("container_memory_usage_bytes", usage);
    put("container_memory_max_usage_bytes", number(text(memory.as_ref(), "memory.max_usage_in_bytes")));
    put("container_memory_working_set_bytes", working_set(usage, keyed(stat, "total_inactive_file")));
    put(
        "container_oom_events_total",
        keyed(text(memory.as_ref(), "memory.oom_control").as_deref(), "oom_kill"),
    );
    put("container_spec_memory_limit_bytes", limit(text(memory.as_ref(), "memory.limit_in_bytes")));
    let soft = text(memory.as_ref(), "memory.soft_limit_in_bytes");
    put("container_spec_memory_reservation_limit_bytes", limit(soft));
    put(
        "container_spec_memory_swap_limit_bytes",
        limit(text(memory.as_ref(), "memory.memsw.limit_in_bytes")),
    );
    put("container_spec_cpu_period", number(text(cpu.as_ref(), "cpu.cfs_period_us")));
    let quota = number(text(cpu.as_ref(), "cpu.cfs_quota_us"));
    put("container_spec_cpu_quota", quota);
    put("container_spec_cpu_shares", number(text(cpu.as_ref(), "cpu.shares")));
    throttling(quota.is_some(), text(cpu.as_ref(), "cpu.stat").as_deref(), "throttled_time", 1e9, put);
    counts(dir("pids").as_ref(), memory.as_ref(), put);
}

/// Shown only where a quota is in force.
fn throttling(
    limited: bool,
    stat: Option<&str>,
    key: &str,
    unit: f64,
    put: &mut dyn FnMut(&'static str, Option<f64>),
) {
    if limited {
        put("container_cpu_cfs_periods_total", keyed(stat, "nr_periods"));
        put("container_cpu_cfs_throttled_periods_total", keyed(stat, "nr_throttled"));
        put("container_cpu_cfs_throttled_seconds_total", keyed(stat, key).map(|n| n / unit));
    }
}

fn counts(pids: Option<&PathBuf>, procs: Option<&PathBuf>, put: &mut dyn FnMut(&'static str, Option<f64>)) {
    put("container_threads", number(text(pids, "pids.current")));
    put("container_threads_max", text(pids, "pids.max").map(|max| number(Some(max)).unwrap_or(0.0)));
    let processes = text(procs, "cgroup.procs").and_then(|list| u32::try_from(list.lines().count()).ok());
    put("container_processes", processes.map(f64::from));
}

fn working_set(usage: Option<f64>, inactive: Option<f64>) -> Option<f64> {
    Some((usage? - inactive.unwrap_or(0.0)).max(0.0))
}

/// No limit is shown as zero.
fn limit(text: Option<String>) -> Option<f64> {
    let text = text?;
    // Version 1 has a number that no machine reaches.
    Some(number(Some(text)).filter(|n| *n < (1u64 << 62) as f64).unwrap_or(0.0))
}

/// Interfaces with the kernel's columns, from a text like `/proc/net/dev`.
pub fn interfaces(text: &str) -> Vec<(String, Vec<f64>)> {
    let line = |line: &str| {
        let (name, columns) = line.split_once(':')?;
        let name = name.trim();
        let ignored = name == "lo" || ["veth", "docker", "nerdctl"].iter().any(|p| name.starts_with(p));
        let columns: Vec<f64> = columns.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        (!ignored && columns.len() >= 16).then(|| (name.to_owned(), columns))
    };
    text.lines().filter_map(line).collect()
}

/// The interfaces that the processes of a group see.
pub fn network(hierarchy: &Hierarchy, id: &str) -> Vec<(String, Vec<f64>)> {
    let root = Path::new("/proc");
    let process = if id == "/" {
        Some("self".to_owned())
    } else {
        let path = id.trim_start_matches('/');
        let first = |path: &str| {
            let dir = hierarchy.controller_dir("memory", path);
            text(dir.as_ref(), "cgroup.procs").and_then(|list| list.lines().next().map(str::to_owned))
        };
        // A pod's processes are in the groups of its containers.
        let below = || hierarchy.children(path).iter().find_map(|name| first(&format!("{path}/{name}")));
        first(path).or_else(below)
    };
    let table = process.and_then(|pid| fs::read_to_string(root.join(pid).join("net/dev")).ok());
    table.map(|text| interfaces(&text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(
            "g/cpu.stat",
            "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\nnr_periods 4\nnr_throttled 1\nthrottled_usec 7000000\n",
        );
        put("g/cpu.max", "50000 100000\n");
        put("g/memory.stat", "anon 10\nfile 20\ninactive_file 5\n");
        put("g/memory.current", "100\n");
        put("g/memory.max", "max\n");
        let found = values(&Hierarchy::V2(dir.path().to_owned()), "/g");
        assert_eq!(found["container_cpu_usage_seconds_total"], 2.0);
        assert_eq!(found["container_cpu_cfs_throttled_seconds_total"], 7.0);
        assert_eq!(found["container_memory_working_set_bytes"], 95.0);
        assert_eq!(found["container_spec_memory_limit_bytes"], 0.0);
        put("memory/g/memory.limit_in_bytes", "9223372036854771712\n");
        put("memory/g/memory.usage_in_bytes", "64\n");
        put("cpu,cpuacct/g/cpu.cfs_quota_us", "-1\n");
        let mounts = ["memory", "cpu,cpuacct"].map(|name| (name.to_owned(), dir.path().join(name)));
        let found = values(&Hierarchy::V1(mounts.into()), "/g");
        assert_eq!(found["container_spec_memory_limit_bytes"], 0.0);
        assert_eq!(found.get("container_spec_cpu_quota"), None);
        assert_eq!(found["container_memory_usage_bytes"], 64.0);
    }

    #[test]
    fn reads_interfaces() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 0 1 0 0 0 0 20 3 0 0 0 0 0 0\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].1[NETWORK[0].1], found[0].1[NETWORK[4].1]), (10.0, 20.0));
    }
}
