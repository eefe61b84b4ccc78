//! `process_*`, `go_goroutines` (here: tasks alive), `kubernetes_build_info`, `kubernetes_feature_enabled`.
//! Upstream: prometheus/client_golang process_collector_linux.go; component-base/metrics/version, prometheus/feature.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::collect::{Kind, Metrics, Sample};
use super::{Collect, Registry};
use crate::features::Gates;

/// Adds the process's own metrics to a registry.
pub fn register_process(registry: &Registry, gates: Gates) {
    registry.register_collector(Arc::new(Process::new(gates)));
}

/// Tasks alive in the current runtime; dashboards know this figure as `go_goroutines`.
pub fn tasks_alive() -> usize {
    tokio::runtime::Handle::try_current().map_or(0, |h| h.metrics().num_alive_tasks())
}

struct Process {
    gates: Gates,
    started: f64,
    ticks: f64,
    page: f64,
}

impl Process {
    fn new(gates: Gates) -> Self {
        let parameters = rustix::param::clock_ticks_per_second();
        let ticks = parameters.max(1) as f64;
        Process { gates, started: start_time(ticks), ticks, page: rustix::param::page_size() as f64 }
    }
}

/// Seconds since 1970 at which the process started.
fn start_time(ticks: f64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let boot = std::fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<f64>().ok()));
    match (boot, stat_fields().get(19).and_then(|f| f.parse::<f64>().ok())) {
        (Some(boot), Some(start)) => boot + start / ticks,
        _ => now,
    }
}

/// Fields of /proc/self/stat after the command name; field 3 of proc(5) is index 0.
fn stat_fields() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(String::from).collect()
}

/// Received and sent bytes of the network namespace: the IpExt lines of /proc/self/net/netstat.
fn network_bytes() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("IpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return (0.0, 0.0) };
    let pairs: Vec<(&str, &str)> = names.split_whitespace().zip(values.split_whitespace()).collect();
    let find = |name| pairs.iter().find(|(n, _)| *n == name).and_then(|(_, v)| v.parse().ok()).unwrap_or(0.0);
    (find("InOctets"), find("OutOctets"))
}

fn limit(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    match line.and_then(|l| l.split_whitespace().next()) {
        // Prometheus' Go library reads "unlimited" as the largest unsigned number.
        Some("unlimited") => u64::MAX as f64,
        Some(number) => number.parse().unwrap_or(0.0),
        None => 0.0,
    }
}

impl Collect for Process {
    fn collect(&self, out: &mut Vec<Metrics>) {
        let fields = stat_fields();
        let field = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64;
        let mut one = |name: &str, help: &str, kind: Kind, value: f64| {
            let samples = vec![Sample::number(&[], value)];
            out.push(Metrics { name: name.into(), help: help.into(), kind, samples });
        };
        let cpu = (field(11) + field(12)) / self.ticks;
        one(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            Kind::Counter,
            cpu,
        );
        one(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            Kind::Gauge,
            limit("Max open files"),
        );
        one("process_open_fds", "Number of open file descriptors.", Kind::Gauge, descriptors);
        one(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            Kind::Gauge,
            field(21) * self.page,
        );
        one(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            Kind::Gauge,
            self.started,
        );
        one("process_virtual_memory_bytes", "Virtual memory size in bytes.", Kind::Gauge, field(20));
        one(
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.",
            Kind::Gauge,
            limit("Max address space"),
        );
        one("go_goroutines", "Number of tasks alive in the runtime.", Kind::Gauge, tasks_alive() as f64);
        one("go_threads", "Number of OS threads.", Kind::Gauge, field(17));
        let (received, sent) = network_bytes();
        let help = "Number of bytes received by the process over the network.";
        one("process_network_receive_bytes_total", help, Kind::Counter, received);
        let help = "Number of bytes sent by the process over the network.";
        one("process_network_transmit_bytes_total", help, Kind::Counter, sent);
        out.push(build_info());
        out.push(self.features());
    }
}

fn build_info() -> Metrics {
    let info = crate::version::info();
    let labels = [
        ("build_date", info.build_date.as_str()),
        ("compiler", &info.compiler),
        ("git_commit", &info.git_commit),
        ("git_tree_state", &info.git_tree_state),
        ("git_version", &info.git_version),
        ("go_version", &info.go_version),
        ("major", &info.major),
        ("minor", &info.minor),
        ("platform", &info.platform),
    ];
    Metrics {
        name: "kubernetes_build_info".into(),
        help: "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree \
               state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it \
               is running."
            .into(),
        kind: Kind::Gauge,
        samples: vec![Sample::number(&labels, 1.0)],
    }
}

impl Process {
    fn features(&self) -> Metrics {
        let sample = |(gate, stage, on): (crate::features::Gate, crate::features::Stage, bool)| {
            Sample::number(&[("name", gate.name()), ("stage", stage.as_str())], f64::from(u8::from(on)))
        };
        Metrics {
            name: "kubernetes_feature_enabled".into(),
            help: "[BETA] This metric records the data about the stage and enablement of a k8s feature."
                .into(),
            kind: Kind::Gauge,
            samples: self.gates.iter().map(sample).collect(),
        }
    }
}
