//! File systems of the machine and what went over its disks, as figures of the root group.
//!
//! Only file systems on block devices are shown, each once; upstream shows those in memory, too, one for each pod. Times are
//! in seconds, as their names say (upstream's are a millionth of that: it takes milliseconds for nanoseconds). Upstream:
//! metrics/prometheus.go and fs/fs.go of github.com/google/cadvisor/lib v0.60.5; the kernel's iostats.rst.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use super::labelled::Sample;
use crate::node::machine::{Disk, disk};

/// Metrics with type and help, in the order of the page.
pub const FAMILIES: [(&str, &str, &str); 13] = [
    ("container_fs_inodes_free", "gauge", "Number of available Inodes"),
    ("container_fs_inodes_total", "gauge", "Number of Inodes"),
    ("container_fs_io_current", "gauge", "Number of I/Os currently in progress"),
    ("container_fs_io_time_seconds_total", "counter", "Cumulative count of seconds spent doing I/Os"),
    ("container_fs_io_time_weighted_seconds_total", "counter", "Cumulative weighted I/O time in seconds"),
    (
        "container_fs_limit_bytes",
        "gauge",
        "Number of bytes that can be consumed by the container on this filesystem.",
    ),
    ("container_fs_read_seconds_total", "counter", "Cumulative count of seconds spent reading"),
    ("container_fs_reads_merged_total", "counter", "Cumulative count of reads merged"),
    ("container_fs_sector_reads_total", "counter", "Cumulative count of sector reads completed"),
    ("container_fs_sector_writes_total", "counter", "Cumulative count of sector writes completed"),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
    ),
    ("container_fs_write_seconds_total", "counter", "Cumulative count of seconds spent writing"),
    ("container_fs_writes_merged_total", "counter", "Cumulative count of writes merged"),
];

/// The kernel's columns behind a disk's name, with what they are divided by.
const COLUMNS: [(&str, usize, f64); 9] = [
    ("container_fs_reads_merged_total", 1, 1.0),
    ("container_fs_sector_reads_total", 2, 1.0),
    ("container_fs_read_seconds_total", 3, 1e3),
    ("container_fs_writes_merged_total", 5, 1.0),
    ("container_fs_sector_writes_total", 6, 1.0),
    ("container_fs_write_seconds_total", 7, 1e3),
    ("container_fs_io_current", 8, 1.0),
    ("container_fs_io_time_seconds_total", 9, 1e3),
    ("container_fs_io_time_weighted_seconds_total", 10, 1e3),
];

/// Reads them; what cannot be read is left out.
pub fn samples() -> Vec<Sample> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let traffic = traffic(&read("/proc/diskstats"));
    let mut out = Vec::new();
    for (device, place) in mounted(&read("/proc/self/mounts")) {
        let Some(space) = disk(Path::new(&place)) else { continue };
        out.extend(of_space(&device, &space));
        // Names like /dev/mapper/a are links to the kernel's.
        let path = fs::canonicalize(&device).unwrap_or_default();
        let kernel = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        out.extend(traffic.get(&kernel).into_iter().flat_map(|columns| of_traffic(&device, columns)));
    }
    out
}

/// Devices with one place where each is mounted.
fn mounted(mounts: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(place)) = (fields.next(), fields.next()) else { continue };
        if device.starts_with("/dev/") {
            out.entry(device.to_owned()).or_insert_with(|| place.replace("\\040", " "));
        }
    }
    out
}

/// Numbers of each disk and partition by its name.
fn traffic(stats: &str) -> HashMap<String, Vec<f64>> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(2);
        let name = fields.next()?.to_owned();
        Some((name, fields.map(|field| field.parse().unwrap_or_default()).collect()))
    };
    stats.lines().filter_map(line).collect()
}

fn sample(name: &'static str, device: &str, value: f64) -> Sample {
    Sample { name, labels: vec![("device", device.to_owned())], value }
}

fn of_space(device: &str, space: &Disk) -> [Sample; 4] {
    #[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
    let sample = |name, value: i64| sample(name, device, value as f64);
    [
        sample("container_fs_usage_bytes", space.used),
        sample("container_fs_limit_bytes", space.capacity),
        sample("container_fs_inodes_free", space.inodes_free),
        sample("container_fs_inodes_total", space.inodes),
    ]
}

fn of_traffic(device: &str, columns: &[f64]) -> Vec<Sample> {
    let one = |(name, column, unit): (&'static str, usize, f64)| {
        Some(sample(name, device, columns.get(column)? / unit))
    };
    COLUMNS.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_lists() {
        let mounts = "proc /proc proc rw 0 0\n/dev/vda / ext4 rw 0 0\n/dev/vda /run/netns ext4 rw 0 0\n/dev/vdb /a\\040b xfs rw 0 0\n";
        let all: Vec<_> = mounted(mounts).into_iter().collect();
        assert_eq!(all, [("/dev/vda".into(), "/".into()), ("/dev/vdb".into(), "/a b".into())]);
        let stats = " 254       0 vda 1 2 3 4000 5 6 7 8000 9 10000 11000 0 0\n";
        let found = of_traffic("/dev/vda", &traffic(stats)["vda"]);
        let value = |name: &str| found.iter().find(|s| s.name == name).map(|s| s.value);
        assert_eq!(value("container_fs_read_seconds_total"), Some(4.0));
        assert_eq!(value("container_fs_sector_writes_total"), Some(7.0));
        assert_eq!(value("container_fs_io_current"), Some(9.0));
        assert_eq!(value("container_fs_io_time_weighted_seconds_total"), Some(11.0));
        assert!(found.iter().all(|s| FAMILIES.iter().any(|(name, ..)| *name == s.name)));
    }
}
