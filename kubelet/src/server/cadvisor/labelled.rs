//! Figures of a control group that have labels of their own, and those of its processes and of pressure.
//!
//! Disk figures are those that the kernel keeps per group and device. Upstream: metrics/prometheus.go and
//! container/libcontainer/handler.go of github.com/google/cadvisor/lib v0.60.5.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{keyed, number, text};
use crate::cgroup::fs::Hierarchy;

/// Metrics with type and help, in the order of the page.
pub const FAMILIES: [(&str, &str, &str); 26] = [
    ("container_blkio_device_usage_total", "counter", "Blkio Device bytes usage"),
    ("container_file_descriptors", "gauge", "Number of open file descriptors for the container."),
    ("container_fs_reads_bytes_total", "counter", "Cumulative count of bytes read"),
    ("container_fs_reads_total", "counter", "Cumulative count of reads completed"),
    ("container_fs_writes_bytes_total", "counter", "Cumulative count of bytes written"),
    ("container_fs_writes_total", "counter", "Cumulative count of writes completed"),
    (
        "container_memory_events_high_total",
        "counter",
        "Cumulative count of memory.high throttle events for the container",
    ),
    (
        "container_memory_events_max_total",
        "counter",
        "Cumulative count of memory.max limit hit events for the container",
    ),
    (
        "container_memory_file_dirty_bytes",
        "gauge",
        "Number of bytes of file cache that has been modified but not yet written back to disk.",
    ),
    (
        "container_memory_file_writeback_bytes",
        "gauge",
        "Number of bytes of file cache that is currently being written back to disk.",
    ),
    (
        "container_memory_pgscan_total",
        "counter",
        "Cumulative number of pages scanned by the page reclaim algorithm.",
    ),
    (
        "container_memory_pgsteal_total",
        "counter",
        "Cumulative number of pages reclaimed by the page reclaim algorithm.",
    ),
    (
        "container_memory_workingset_refault_anon_total",
        "counter",
        "Cumulative number of refaults of previously evicted anonymous pages.",
    ),
    (
        "container_memory_workingset_refault_file_total",
        "counter",
        "Cumulative number of refaults of previously evicted file pages.",
    ),
    ("container_memory_failures_total", "counter", "Cumulative count of memory allocation failures."),
    ("container_memory_kernel_usage", "gauge", "Size of kernel memory allocated in bytes."),
    ("container_memory_total_active_file_bytes", "gauge", "Current total active file in bytes."),
    ("container_memory_total_inactive_file_bytes", "gauge", "Current total inactive file in bytes."),
    (
        "container_pressure_cpu_stalled_seconds_total",
        "counter",
        "Total time duration no tasks in the container could make progress due to CPU congestion.",
    ),
    (
        "container_pressure_cpu_waiting_seconds_total",
        "counter",
        "Total time duration tasks in the container have waited due to CPU congestion.",
    ),
    (
        "container_pressure_io_stalled_seconds_total",
        "counter",
        "Total time duration no tasks in the container could make progress due to IO congestion.",
    ),
    (
        "container_pressure_io_waiting_seconds_total",
        "counter",
        "Total time duration tasks in the container have waited due to IO congestion.",
    ),
    (
        "container_pressure_memory_stalled_seconds_total",
        "counter",
        "Total time duration no tasks in the container could make progress due to memory congestion.",
    ),
    (
        "container_pressure_memory_waiting_seconds_total",
        "counter",
        "Total time duration tasks in the container have waited due to memory congestion.",
    ),
    ("container_sockets", "gauge", "Number of open sockets for the container."),
    (
        "container_ulimits_soft",
        "gauge",
        "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
    ),
];

/// Lines of `memory.stat` that only version 2 has; zero without, as upstream shows them.
const MEMORY_STAT: [(&str, &str); 6] = [
    ("container_memory_file_dirty_bytes", "file_dirty"),
    ("container_memory_file_writeback_bytes", "file_writeback"),
    ("container_memory_pgscan_total", "pgscan"),
    ("container_memory_pgsteal_total", "pgsteal"),
    ("container_memory_workingset_refault_anon_total", "workingset_refault_anon"),
    ("container_memory_workingset_refault_file_total", "workingset_refault_file"),
];
/// The same of `memory.events`.
const MEMORY_EVENTS: [(&str, &str); 2] =
    [("container_memory_events_high_total", "high"), ("container_memory_events_max_total", "max")];

/// A value with labels beside those of its group, sorted by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: &'static str,
    /// Labels of its own.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// Reads a group; what cannot be read is left out.
pub fn samples(hierarchy: &Hierarchy, id: &str) -> Vec<Sample> {
    let path = id.trim_start_matches('/');
    let dir = |controller: &str| hierarchy.controller_dir(controller, path);
    let mut out = Vec::new();
    let disks = match hierarchy.is_v2() {
        true => io_stat(&text(dir("").as_ref(), "io.stat").unwrap_or_default()),
        false => blkio(dir("blkio").as_ref()),
    };
    disk_samples(&disks, Path::new("/sys/dev/block"), &mut out);
    let stat = text(dir("memory").as_ref(), "memory.stat");
    memory_samples(stat.as_deref(), hierarchy.is_v2(), &mut out);
    let events = text(dir("memory").as_ref(), "memory.events");
    for (name, key) in MEMORY_EVENTS {
        let value = keyed(events.as_deref(), key).unwrap_or_default();
        out.push(Sample { name, labels: Vec::new(), value });
    }
    // Version 1 alone tells, and only with kernels that still count it.
    let kernel = number(text(dir("memory").as_ref(), "memory.kmem.usage_in_bytes")).unwrap_or_default();
    out.push(Sample { name: "container_memory_kernel_usage", labels: Vec::new(), value: kernel });
    if hierarchy.is_v2() {
        for resource in ["cpu", "io", "memory"] {
            let text = text(dir("").as_ref(), &format!("{resource}.pressure"));
            pressure_samples(resource, text.as_deref().unwrap_or_default(), &mut out);
        }
    }
    process_samples(dir("memory").as_ref(), Path::new("/proc"), &mut out);
    out
}

/// What was read from and written to a device: bytes read, bytes written, reads, writes.
type Disks = BTreeMap<(u32, u32), [f64; 4]>;

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn io_stat(text: &str) -> Disks {
    let mut out = Disks::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next().and_then(device) else { continue };
        let mut figures = [0.0; 4];
        let mut any = false;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Some(at) = ["rbytes", "wbytes", "rios", "wios"].iter().position(|k| *k == key) else {
                continue;
            };
            figures[at] = value.parse().unwrap_or_default();
            any = true;
        }
        if any {
            out.insert(device, figures);
        }
    }
    out
}

/// Version 1: from the scheduler if it counts, else from the throttling layer.
fn blkio(dir: Option<&PathBuf>) -> Disks {
    let kinds = ["blkio.bfq.", "blkio.", "blkio.throttle."];
    let mut out = Disks::new();
    for kind in kinds {
        let files = [("io_service_bytes", 0), ("io_serviced", 2)];
        for (file, at) in files {
            let text =
                text(dir, &format!("{kind}{file}_recursive")).or_else(|| text(dir, &format!("{kind}{file}")));
            for line in text.unwrap_or_default().lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [at_device, operation, value] = words[..] else { continue };
                let at = match operation {
                    "Read" => at,
                    "Write" => at + 1,
                    _ => continue,
                };
                let Some(device) = device(at_device) else { continue };
                out.entry(device).or_default()[at] = value.parse().unwrap_or_default();
            }
        }
        if !out.is_empty() {
            break;
        }
    }
    out
}

fn disk_samples(disks: &Disks, names: &Path, out: &mut Vec<Sample>) {
    for ((major, minor), [read, written, reads, writes]) in disks {
        let link = fs::read_link(names.join(format!("{major}:{minor}"))).unwrap_or_default();
        let name =
            link.file_name().map(|name| format!("/dev/{}", name.to_string_lossy())).unwrap_or_default();
        let values = [
            ("container_fs_reads_bytes_total", *read),
            ("container_fs_reads_total", *reads),
            ("container_fs_writes_bytes_total", *written),
            ("container_fs_writes_total", *writes),
        ];
        out.extend(values.map(|(metric, value)| Sample {
            name: metric,
            labels: vec![("device", name.clone())],
            value,
        }));
        for (operation, value) in [("Read", *read), ("Write", *written)] {
            let labels = vec![
                ("device", name.clone()),
                ("major", major.to_string()),
                ("minor", minor.to_string()),
                ("operation", operation.to_owned()),
            ];
            out.push(Sample { name: "container_blkio_device_usage_total", labels, value });
        }
    }
}

fn memory_samples(stat: Option<&str>, unified: bool, out: &mut Vec<Sample>) {
    let prefix = if unified { "" } else { "total_" };
    let mut put = |name, labels, value: Option<f64>| {
        out.extend(value.map(|value| Sample { name, labels, value }));
    };
    let total = |key: &str| keyed(stat, &format!("{prefix}{key}"));
    put("container_memory_total_active_file_bytes", Vec::new(), total("active_file"));
    put("container_memory_total_inactive_file_bytes", Vec::new(), total("inactive_file"));
    for (name, key) in MEMORY_STAT {
        put(name, Vec::new(), stat.map(|_| keyed(stat, key).unwrap_or_default()));
    }
    for kind in ["pgfault", "pgmajfault"] {
        for scope in ["container", "hierarchy"] {
            let labels = vec![("failure_type", kind.to_owned()), ("scope", scope.to_owned())];
            put("container_memory_failures_total", labels, keyed(stat, kind));
        }
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`, then the same for `full`; times in microseconds.
fn pressure_samples(resource: &str, text: &str, out: &mut Vec<Sample>) {
    let total = |kind: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let micros = line.split_whitespace().find_map(|word| word.strip_prefix("total="))?;
        micros.parse::<f64>().ok().map(|n| n / 1e6)
    };
    let (stalled, waiting) = match resource {
        "cpu" => {
            ("container_pressure_cpu_stalled_seconds_total", "container_pressure_cpu_waiting_seconds_total")
        }
        "io" => {
            ("container_pressure_io_stalled_seconds_total", "container_pressure_io_waiting_seconds_total")
        }
        _ => (
            "container_pressure_memory_stalled_seconds_total",
            "container_pressure_memory_waiting_seconds_total",
        ),
    };
    for (name, kind) in [(stalled, "full "), (waiting, "some ")] {
        out.extend(total(kind).map(|value| Sample { name, labels: Vec::new(), value }));
    }
}

/// Open files and sockets of a group's own processes, and how many files the first may open.
fn process_samples(dir: Option<&PathBuf>, proc: &Path, out: &mut Vec<Sample>) {
    let Some(pids) = text(dir, "cgroup.procs") else { return };
    let (mut files, mut sockets) = (0u32, 0u32);
    for pid in pids.lines() {
        let folder = fs::read_dir(proc.join(pid).join("fd")).into_iter().flatten().flatten();
        for entry in folder {
            files = files.saturating_add(1);
            let target = fs::read_link(entry.path()).unwrap_or_default();
            sockets = sockets.saturating_add(u32::from(target.to_string_lossy().starts_with("socket")));
        }
    }
    out.push(Sample { name: "container_file_descriptors", labels: Vec::new(), value: f64::from(files) });
    out.push(Sample { name: "container_sockets", labels: Vec::new(), value: f64::from(sockets) });
    let limits = pids.lines().next().and_then(|pid| fs::read_to_string(proc.join(pid).join("limits")).ok());
    let soft = limits.as_deref().and_then(max_open_files);
    let labels = vec![("ulimit", "max_open_files".to_owned())];
    out.extend(soft.map(|value| Sample { name: "container_ulimits_soft", labels, value }));
}

fn max_open_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(-1.0),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(samples: &[Sample], name: &str, label: &str) -> Option<f64> {
        let fits =
            |s: &&Sample| s.name == name && (label.is_empty() || s.labels.iter().any(|(_, v)| v == label));
        samples.iter().find(fits).map(|s| s.value)
    }

    #[test]
    fn disks() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("../../devices/x/block/sda", dir.path().join("8:0")).unwrap();
        let mut out = Vec::new();
        disk_samples(&io_stat("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n7:1\n"), dir.path(), &mut out);
        assert_eq!(out.len(), 6);
        assert_eq!(value(&out, "container_fs_writes_total", "/dev/sda"), Some(4.0));
        assert_eq!(value(&out, "container_blkio_device_usage_total", "Write"), Some(2.0));
        let v1 = "8:0 Read 10\n8:0 Write 20\n8:0 Sync 1\nTotal 30\n";
        fs::write(dir.path().join("blkio.throttle.io_service_bytes"), v1).unwrap();
        fs::write(dir.path().join("blkio.throttle.io_serviced_recursive"), "8:0 Read 3\n").unwrap();
        assert_eq!(blkio(Some(&dir.path().to_owned()))[&(8, 0)], [10.0, 20.0, 3.0, 0.0]);
    }

    #[test]
    fn memory_pressure_and_processes() {
        let mut out = Vec::new();
        memory_samples(Some("active_file 5\npgfault 7\npgmajfault 1\n"), true, &mut out);
        assert_eq!(value(&out, "container_memory_failures_total", "pgmajfault"), Some(1.0));
        assert_eq!(value(&out, "container_memory_total_active_file_bytes", ""), Some(5.0));
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=1000000\n";
        pressure_samples("io", text, &mut out);
        assert_eq!(value(&out, "container_pressure_io_waiting_seconds_total", ""), Some(2.5));
        assert_eq!(value(&out, "container_pressure_io_stalled_seconds_total", ""), Some(1.0));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.procs"), "12\n").unwrap();
        fs::create_dir_all(dir.path().join("12/fd")).unwrap();
        std::os::unix::fs::symlink("socket:[1]", dir.path().join("12/fd/0")).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("12/fd/1")).unwrap();
        fs::write(dir.path().join("12/limits"), "Max open files            1024    4096   files\n").unwrap();
        process_samples(Some(&dir.path().to_owned()), dir.path(), &mut out);
        assert_eq!(value(&out, "container_file_descriptors", ""), Some(2.0));
        assert_eq!(value(&out, "container_sockets", ""), Some(1.0));
        assert_eq!(value(&out, "container_ulimits_soft", "max_open_files"), Some(1024.0));
    }
}
