//! Use of resources: the summary for people and autoscalers, and two pages of metrics.
//!
//! Figures come from control groups, those of a container whose group is not found from the runtime. Everything is read
//! when asked for; nothing is sampled in the background, hence [`Rates`]. Upstream: pkg/kubelet/server/stats and pkg/kubelet/metrics/collectors.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use component::serving::body::{self, Body};
use cri::v1;
use http::{Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::cadvisor::{self, Group};
use super::figures::{self, Figures, Swap};
use super::machine::MachinePage;
use super::rates::{PAUSE, Rates};
use super::storage;
use super::usage::{self, Usage, keyed};
use crate::cgroup::fs::Hierarchy;
use crate::kubelet::Kubelet;
use crate::node::machine::{Disk, Machine, disk, kibibytes, max_tasks, tasks};
use crate::options::Options;
use crate::pod::storage::{HostFiles, Owner};
use crate::pod::store::PodStore;
use crate::runtime::labels;
use crate::volume::usage::DiskUsage;

/// Content type of metrics in text form.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Reads and shows use of resources.
pub struct Stats {
    kubelet: Arc<Kubelet>,
    root: PathBuf,
    /// Groups of the container runtime and of the rest of the system, if they are known.
    runtime_group: String,
    system_group: String,
    rates: Mutex<Rates>,
    machine: MachinePage,
}

struct Container {
    pod: (String, String, String),
    name: String,
    id: String,
    usage: Usage,
    disk: Option<v1::FilesystemUsage>,
    /// Path of its own group, if it can be told which one that is.
    group: Option<String>,
}

/// Containers by their pod's namespace, name and id.
type Pods = BTreeMap<(String, String, String), Vec<Container>>;

/// What all of one page is seen against.
struct View {
    /// The kubelet's file system.
    root: Disk,
    /// Other file systems by their place.
    known: HashMap<String, Option<Disk>>,
    now: Timestamp,
}

impl Stats {
    pub(super) fn new(kubelet: Arc<Kubelet>, options: &Options) -> Self {
        let root = PathBuf::from(&options.root_dir);
        let runtime_group = options.runtime_cgroups.clone();
        let system_group = options.settings.system_cgroups.clone();
        let machine = MachinePage::new(Machine::read());
        Self { kubelet, root, runtime_group, system_group, rates: Mutex::default(), machine }
    }

    async fn containers(&self) -> cri::Result<Vec<Container>> {
        let cri = &self.kubelet.runtime.cri;
        let answer = cri.list_container_stats(v1::ListContainerStatsRequest::default()).await?;
        let listed = cri.list_containers(v1::ListContainersRequest::default()).await?;
        let present = present(&listed.containers);
        let all = answer.stats.into_iter().filter_map(container);
        let mut shown: Vec<Container> = all.filter(|found| present.contains(found.id.as_str())).collect();
        self.find_groups(&mut shown);
        Ok(shown)
    }

    fn find_groups(&self, containers: &mut [Container]) {
        let of_pod = |uid: &str| {
            let pod = self.kubelet.pods.get(uid)?;
            Some(self.kubelet.runtime.cgroups.container_paths(&pod))
        };
        let mut known: HashMap<String, Vec<String>> = HashMap::new();
        for container in containers {
            let uid = &container.pod.2;
            let paths = known.entry(uid.clone()).or_insert_with(|| of_pod(uid).unwrap_or_default());
            // The runtime may put its own name before the id, and an ending behind it.
            container.group = paths.iter().find(|path| path.contains(&container.id)).cloned();
        }
    }

    fn group(&self, path: &str) -> Usage {
        usage::read(self.hierarchy(), path)
    }

    /// A group with its use of processors since it was read last.
    fn rated(&self, path: &str) -> Usage {
        let usage = self.group(path);
        let mut rates = self.rates.lock();
        Usage { cpu_rate: Some(rates.take(path, usage.cpu_nanos, Instant::now())), ..usage }
    }

    /// Has every group that will be shown read once, a moment ago at least.
    async fn begin_rates(&self, containers: &[Container]) {
        let mut paths: Vec<String> = self.system_groups().into_iter().map(|(_, path)| path).collect();
        paths.push(String::new());
        let mut seen = BTreeSet::new();
        for container in containers {
            let Some(pod) = self.kubelet.pods.get(&container.pod.2) else { continue };
            if seen.insert(&container.pod.2) {
                paths.push(self.kubelet.runtime.cgroups.pod_path(&pod));
            }
            paths.extend(container.group.clone());
        }
        let first = {
            let mut rates = self.rates.lock();
            rates.tidy(Instant::now());
            let read = |path: &str| usage::cpu_nanos(self.hierarchy(), path);
            let mut begin = |path: &String| rates.begin(path, read(path), Instant::now());
            paths.iter().filter(|path| begin(path)).count()
        };
        if first > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn pod(&self, pods: &PodStore, uid: &str) -> Option<Usage> {
        let pod = pods.get(uid)?;
        Some(self.group(&self.kubelet.runtime.cgroups.pod_path(&pod)))
    }

    /// The node as a whole: its root group's figures, and what the kernel says about memory.
    fn node(&self, mut usage: Usage) -> Usage {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let bytes =
            |name: &str| u64::try_from(kibibytes(&meminfo, name)).unwrap_or_default().saturating_mul(1024);
        usage.memory = bytes("MemTotal:").saturating_sub(bytes("MemFree:"));
        usage.working_set = bytes("MemTotal:").saturating_sub(bytes("MemAvailable:"));
        usage.rss = bytes("AnonPages:");
        usage.limit = u64::try_from(self.kubelet.node.limits.memory_capacity).ok();
        usage
    }

    /// `/stats/summary`.
    pub(super) async fn summary_page(&self) -> Response<Body> {
        let containers = match self.containers().await {
            Ok(containers) => containers,
            Err(error) => return body::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        self.begin_rates(&containers).await;
        let images = self.kubelet.runtime.cri.image_fs_info(v1::ImageFsInfoRequest::default()).await;
        let now = Timestamp::now();
        let images = images.ok().and_then(|answer| storage::images(&answer, now));
        let disk = disk(&self.root).unwrap_or_default();
        let whole = self.node(self.rated(""));
        let mut node = json!({
            "nodeName": self.kubelet.node.name,
            "startTime": boot_time(),
            "cpu": whole.cpu(now),
            "memory": whole.memory(now),
            "fs": storage::whole(&disk, now),
            "runtime": {"imageFs": images, "containerFs": images},
            "rlimit": {"time": now, "maxpid": max_tasks(), "curproc": tasks()},
            "network": figures::network(&cadvisor::network(self.hierarchy(), "/"), now),
            "systemContainers": self.system_containers(now),
        });
        let whole = Figures { swap: Some(swap_of_machine()), ..figures::read(self.hierarchy(), "/") };
        whole.add_to(&mut node, now);
        let mut pods = Pods::new();
        for container in containers {
            pods.entry(container.pod.clone()).or_default().push(container);
        }
        let files = self.host_files(&pods).await;
        let mut view = View { root: disk, known: HashMap::new(), now };
        let pods: Vec<Value> = (pods.iter())
            .map(|(pod, containers)| {
                let none = HostFiles::default();
                self.pod_summary(pod, containers, files.get(&pod.2).unwrap_or(&none), &mut view)
            })
            .collect();
        body::json(StatusCode::OK, &figures::without_nulls(json!({"node": node, "pods": pods})))
    }

    /// Measures logs and the like of all pods, by the pod's id.
    async fn host_files(&self, pods: &Pods) -> HashMap<String, HostFiles> {
        let named = |((namespace, name, uid), containers): (&(String, String, String), &Vec<Container>)| {
            let names: Vec<String> = containers.iter().map(|c| c.name.clone()).collect();
            ((namespace.clone(), name.clone(), uid.clone()), names)
        };
        let wanted: Vec<_> = pods.iter().map(named).collect();
        let paths = self.kubelet.paths.clone();
        let measured = tokio::task::spawn_blocking(move || {
            let one = |((namespace, name, uid), containers): ((String, String, String), Vec<String>)| {
                let owner = Owner { namespace: &namespace, name: &name, uid: &uid };
                let found = HostFiles::measure(&paths, owner, containers.iter().map(String::as_str));
                (uid, found)
            };
            wanted.into_iter().map(one).collect()
        });
        measured.await.unwrap_or_default()
    }

    fn hierarchy(&self) -> &Hierarchy {
        self.kubelet.runtime.cgroups.hierarchy()
    }

    /// The groups of all pods, of the kubelet itself, of the runtime and of the rest.
    fn system_groups(&self) -> Vec<(&'static str, String)> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let kubelet =
            own_group(&own).filter(|path| *path != "/").map(|path| path.trim_start_matches('/').to_owned());
        let pods = self.kubelet.runtime.cgroups.all_pods_path();
        let [runtime, misc] = [&self.runtime_group, &self.system_group]
            .map(|group| group.trim_start_matches('/').to_owned())
            .map(|path| Some(path).filter(|path| !path.is_empty() && self.hierarchy().is_present(path)));
        let groups = [("kubelet", kubelet), ("runtime", runtime), ("misc", misc), ("pods", Some(pods))];
        groups.into_iter().filter_map(|(name, path)| Some((name, path?))).collect()
    }

    fn system_containers(&self, now: Timestamp) -> Vec<Value> {
        let one = |(name, path): (&str, String)| {
            let usage = self.rated(&path);
            let mut out = json!({
                "name": name, "startTime": figures::made(self.hierarchy(), &path),
                "cpu": usage.cpu(now), "memory": usage.memory(now),
            });
            figures::read(self.hierarchy(), &path).add_to(&mut out, now);
            out
        };
        self.system_groups().into_iter().map(one).collect()
    }

    fn figures(&self, container: &Container) -> Option<Figures> {
        Some(figures::read(self.hierarchy(), container.group.as_ref()?))
    }

    /// A container's swap: from its group, else what the runtime says.
    fn swap(&self, container: &Container) -> Option<Swap> {
        let own = self.figures(container).and_then(|figures| figures.swap);
        own.or_else(|| container.usage.swap.map(|used| Swap { used, limit: None }))
    }

    fn pod_summary(
        &self,
        pod: &(String, String, String),
        containers: &[Container],
        files: &HostFiles,
        view: &mut View,
    ) -> Value {
        let now = view.now;
        let (namespace, name, uid) = pod;
        let path = self.kubelet.pods.get(uid).map(|pod| self.kubelet.runtime.cgroups.pod_path(&pod));
        let usage = path.as_ref().map_or_else(|| sum(containers), |path| self.rated(path));
        let started = self.kubelet.status.get(uid).and_then(|s| s.start_time.as_ref().map(|t| t.0));
        let layers = containers.iter().map(|c| (c.name.clone(), c.layer())).collect();
        let volumes = self.kubelet.runtime.volumes.stats.latest(uid);
        let used = storage::total(&layers, files, volumes.as_ref());
        let all: Vec<Option<Figures>> = containers.iter().map(|c| self.figures(c)).collect();
        let mut of = |(c, figures): (&Container, &Option<Figures>)| {
            let usage = c.group.as_ref().map_or(c.usage, |path| self.rated(path));
            let logs = files.logs.get(&c.name);
            let mut out = json!({
                "name": c.name,
                "startTime": started,
                "cpu": usage.cpu(now),
                "memory": usage.memory(now),
                "rootfs": storage::root_fs(c.disk.as_ref(), &mut view.known, now),
                "logs": logs.map(|l| storage::part(&view.root, Some(l.bytes), Some(l.inodes), now)),
            });
            if let Some(figures) = figures {
                figures.add_to(&mut out, now);
            }
            out
        };
        let processes = all.iter().flatten().filter_map(|f| f.processes).reduce(u64::saturating_add);
        let mut out = json!({
            "podRef": {"name": name, "namespace": namespace, "uid": uid},
            "startTime": started,
            "containers": containers.iter().zip(&all).map(&mut of).collect::<Vec<_>>(),
            "process_stats": processes.map(|count| json!({"process_count": count})),
            "cpu": usage.cpu(now),
            "memory": usage.memory(now),
            "volume": volumes.filter(|all| !all.is_empty()).map(|all| all.iter().map(|v| v.summary(namespace)).collect::<Vec<_>>()),
            "ephemeral-storage": storage::part(&view.root, Some(used.bytes), Some(used.inodes), now),
        });
        if let Some(path) = path {
            out["network"] = json!(figures::network(&cadvisor::network(self.hierarchy(), &path), now));
            figures::read(self.hierarchy(), &path).add_to(&mut out, now);
        }
        out
    }

    /// `/metrics/resource`.
    pub(super) async fn resource_page(&self) -> Response<Body> {
        let mut page = Page::default();
        let containers = self.containers().await;
        let failed = f64::from(u8::from(containers.is_err()));
        let containers = containers.unwrap_or_default();
        let mut pods: BTreeMap<&(String, String, String), Vec<&Container>> = BTreeMap::new();
        for c in &containers {
            pods.entry(&c.pod).or_default().push(c);
        }
        page.family(
            "container_start_time_seconds",
            "gauge",
            "[STABLE] Start time of the container since unix epoch in seconds",
        );
        for c in &containers {
            if let Some(at) = self.started_at(c) {
                page.sample(&c.labels(), at);
            }
        }
        self.container_swap(&mut page, &containers);
        page.family(
            "node_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
        );
        page.sample(&[], float(swap_of_machine().used));
        page.family(
            "container_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        );
        containers.iter().for_each(|c| page.sample(&c.labels(), seconds(c.usage.cpu_nanos)));
        page.family(
            "container_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the container in bytes",
        );
        containers.iter().for_each(|c| page.sample(&c.labels(), float(c.usage.working_set)));
        page.family(
            "node_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        );
        let node = self.node(self.group(""));
        page.sample(&[], seconds(node.cpu_nanos));
        page.family(
            "node_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the node in bytes",
        );
        page.sample(&[], float(node.working_set));
        let totals: Vec<_> = (pods.iter())
            .map(|(pod, list)| {
                let own = self.pod(&self.kubelet.pods, &pod.2);
                let summed = || list.iter().fold(Usage::default(), |a, c| a.add(c.usage));
                ([("namespace", pod.0.as_str()), ("pod", pod.1.as_str())], own.unwrap_or_else(summed))
            })
            .collect();
        page.family(
            "pod_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        );
        totals.iter().for_each(|(labels, usage)| page.sample(labels, seconds(usage.cpu_nanos)));
        page.family(
            "pod_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the pod in bytes",
        );
        totals.iter().for_each(|(labels, usage)| page.sample(labels, float(usage.working_set)));
        page.family(
            "pod_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        );
        for (labels, usage) in &totals {
            if let Some(swap) = usage.swap {
                page.sample(labels, float(swap));
            }
        }
        page.family(
            "resource_scrape_error",
            "gauge",
            "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        );
        page.sample(&[], failed);
        body::response(StatusCode::OK, METRICS, page.0)
    }

    fn container_swap(&self, page: &mut Page, containers: &[Container]) {
        let swaps: BTreeMap<&String, Swap> =
            containers.iter().filter_map(|c| Some((&c.id, self.swap(c)?))).collect();
        page.family(
            "container_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        );
        for c in containers {
            if let Some(swap) = swaps.get(&c.id) {
                page.sample(&c.labels(), float(swap.used));
            }
        }
        page.family(
            "container_swap_limit_bytes",
            "gauge",
            "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems",
        );
        for c in containers {
            if let Some(limit) = swaps.get(&c.id).and_then(|swap| swap.limit) {
                page.sample(&c.labels(), float(limit));
            }
        }
    }

    /// When a container started, in seconds since 1970, as the pod's status has it.
    fn started_at(&self, container: &Container) -> Option<f64> {
        let status = self.kubelet.status.get(&container.pod.2)?;
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let own = lists.into_iter().flatten().flatten().find(|s| s.name == container.name)?;
        let at = own.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0;
        #[expect(clippy::cast_precision_loss, reason = "a number of milliseconds")]
        let seconds = at.as_millisecond() as f64 / 1000.0;
        Some(seconds)
    }

    /// The machine, the pods and their containers as control groups.
    fn groups(&self, containers: &[Container]) -> Vec<Group> {
        let mut out = vec![Group { id: "/".to_owned(), network: true, ..Group::default() }];
        let mut seen = BTreeSet::new();
        for container in containers {
            let Some(pod) = self.kubelet.pods.get(&container.pod.2) else { continue };
            let names = (container.pod.0.clone(), container.pod.1.clone());
            if seen.insert(&container.pod.2) {
                let id = format!("/{}", self.kubelet.runtime.cgroups.pod_path(&pod));
                out.push(Group { id, pod: names.clone(), network: true, ..Group::default() });
            }
            let Some(path) = &container.group else { continue };
            out.push(Group {
                id: format!("/{path}"),
                container: container.name.clone(),
                image: self.image_of(container),
                name: container.id.clone(),
                pod: names,
                started: self.started_at(container),
                network: false,
            });
        }
        out
    }

    fn image_of(&self, container: &Container) -> String {
        let status = self.kubelet.status.get(&container.pod.2).unwrap_or_default();
        let lists = [
            &status.container_statuses,
            &status.init_container_statuses,
            &status.ephemeral_container_statuses,
        ];
        let mut all = lists.into_iter().flatten().flatten();
        all.find(|s| s.name == container.name).map(|s| s.image.clone()).unwrap_or_default()
    }

    /// `/metrics/cadvisor`.
    pub(super) async fn cadvisor_page(&self) -> Response<Body> {
        let containers = match self.containers().await {
            Ok(containers) => containers,
            Err(error) => return body::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        let groups = self.groups(&containers);
        let hierarchy = self.kubelet.runtime.cgroups.hierarchy().clone();
        let now = seconds_of(Timestamp::now());
        let read = tokio::task::spawn_blocking(move || {
            let read = |group: Group| {
                let mut values = cadvisor::values(&hierarchy, &group.id);
                values.extend(group.started.map(|at| ("container_start_time_seconds", at)));
                values.insert("container_last_seen", now);
                let made = figures::made(&hierarchy, &group.id);
                values.extend(made.map(|at| ("container_creation_time_seconds", seconds_of(at))));
                let network =
                    if group.network { cadvisor::network(&hierarchy, &group.id) } else { Vec::new() };
                let mut labelled = cadvisor::labelled::samples(&hierarchy, &group.id);
                if group.id == "/" {
                    labelled.extend(cadvisor::disks::samples());
                }
                (group, values, network, labelled)
            };
            groups.into_iter().map(read).collect::<Vec<_>>()
        });
        let read = read.await.unwrap_or_default();
        let mut page = Page::default();
        for (name, kind, help) in cadvisor::FAMILIES {
            page.family(name, kind, help);
            for (group, values, ..) in &read {
                let Some(value) = values.get(name) else { continue };
                let total = (name == "container_cpu_usage_seconds_total").then_some(("cpu", "total"));
                let labels: Vec<(&str, &str)> = total.into_iter().chain(group_labels(group)).collect();
                page.sample(&labels, *value);
            }
        }
        for (name, kind, help) in cadvisor::labelled::FAMILIES.into_iter().chain(cadvisor::disks::FAMILIES) {
            page.family(name, kind, help);
            for (group, .., samples) in &read {
                for sample in samples.iter().filter(|sample| sample.name == name) {
                    let own = sample.labels.iter().map(|(key, value)| (*key, value.as_str()));
                    let mut labels: Vec<(&str, &str)> = group_labels(group).into_iter().chain(own).collect();
                    labels.sort_unstable();
                    page.sample(&labels, sample.value);
                }
            }
        }
        for (name, column, help) in cadvisor::NETWORK {
            page.family(name, "counter", help);
            for (group, _, interfaces, _) in &read {
                for (interface, columns) in interfaces {
                    let [id, image, rest @ ..] = group_labels(group);
                    let rest = [rest[1], rest[2], rest[3]];
                    let labels: Vec<(&str, &str)> =
                        [id, image, ("interface", interface.as_str())].into_iter().chain(rest).collect();
                    page.sample(&labels, columns.get(column).copied().unwrap_or_default());
                }
            }
        }
        page.family(
            "container_scrape_error",
            "gauge",
            "1 if there was an error while getting container metrics, 0 otherwise",
        );
        page.sample(&[], 0.0);
        self.machine.show(&mut page);
        body::response(StatusCode::OK, METRICS, page.0)
    }
}

/// Labels of a group, sorted but for `container`, which network metrics lack.
fn group_labels(group: &Group) -> [(&str, &str); 6] {
    [
        ("id", group.id.as_str()),
        ("image", group.image.as_str()),
        ("container", group.container.as_str()),
        ("name", group.name.as_str()),
        ("namespace", group.pod.0.as_str()),
        ("pod", group.pod.1.as_str()),
    ]
}

impl Container {
    /// What its writable layer takes.
    fn layer(&self) -> DiskUsage {
        let value = |of: Option<v1::UInt64Value>| of.map(|n| n.value).unwrap_or_default();
        let layer = self.disk.as_ref();
        layer.map_or_else(DiskUsage::default, |l| DiskUsage {
            bytes: value(l.used_bytes),
            inodes: value(l.inodes_used),
        })
    }

    fn labels(&self) -> [(&str, &str); 3] {
        [("container", &self.name), ("namespace", &self.pod.0), ("pod", &self.pod.1)]
    }
}

fn container(stats: v1::ContainerStats) -> Option<Container> {
    let attributes = stats.attributes?;
    let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
    let value = |v: Option<v1::UInt64Value>| v.map_or(0, |v| v.value);
    let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
    let usage = Usage {
        cpu_nanos: value(cpu.usage_core_nano_seconds),
        cpu_rate: cpu.usage_nano_cores.map(|v| v.value),
        working_set: value(memory.working_set_bytes),
        memory: value(memory.usage_bytes),
        limit: None,
        rss: value(memory.rss_bytes),
        swap: stats.swap.and_then(|s| s.swap_usage_bytes).map(|v| v.value),
    };
    Some(Container {
        pod: (label(labels::POD_NAMESPACE), label(labels::POD_NAME), label(labels::POD_UID)),
        name: label(labels::CONTAINER_NAME),
        id: attributes.id.clone(),
        usage,
        disk: stats.writable_layer,
        group: None,
    })
}

/// Ids of the containers that are shown: of those with the same pod and name the ones that run, else the last. Upstream:
/// removeTerminatedContainers in pkg/kubelet/stats/cri_stats_provider.go.
fn present(listed: &[v1::Container]) -> HashSet<&str> {
    let mut names: BTreeMap<(&str, &str), Vec<&v1::Container>> = BTreeMap::new();
    for container in listed {
        let label = |key: &str| container.labels.get(key).map(String::as_str).unwrap_or_default();
        names.entry((label(labels::POD_UID), label(labels::CONTAINER_NAME))).or_default().push(container);
    }
    let mut out = HashSet::new();
    for same in names.values() {
        let running = same.iter().filter(|c| c.state() == v1::ContainerState::ContainerRunning);
        out.extend(running.map(|c| c.id.as_str()));
        if !same.iter().any(|c| out.contains(c.id.as_str())) {
            out.extend(same.iter().max_by_key(|c| c.created_at).map(|c| c.id.as_str()));
        }
    }
    out
}

fn sum(containers: &[Container]) -> Usage {
    containers.iter().fold(Usage::default(), |a, c| a.add(c.usage))
}

fn swap_of_machine() -> Swap {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes =
        |name: &str| u64::try_from(kibibytes(&meminfo, name)).unwrap_or_default().saturating_mul(1024);
    let total = bytes("SwapTotal:");
    Swap { used: total.saturating_sub(bytes("SwapFree:")), limit: Some(total) }
}

/// The group of a process, from its list of groups: of version 2, else of memory.
fn own_group(text: &str) -> Option<&str> {
    let of = |controller: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        fields.find(|(names, _)| names.split(',').any(|name| name == controller)).map(|(_, path)| path)
    };
    of("memory").or_else(|| of(""))
}

#[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
fn seconds_of(at: Timestamp) -> f64 {
    at.as_second() as f64
}

fn boot_time() -> Option<Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    Timestamp::from_second(i64::try_from(keyed(&stat, "btime")).ok()?).ok()
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn float(value: u64) -> f64 {
    value as f64
}

fn seconds(nanos: u64) -> f64 {
    float(nanos) / 1e9
}

/// Metrics in text form.
#[derive(Default)]
pub(super) struct Page(String, &'static str);

impl Page {
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self.1 = name;
    }

    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        _ = writeln!(self.0, "{}{labels} {value}", self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_groups() {
        let v1 = "12:pids:/a\n5:memory:/system.slice/kubelet.service\n1:name=systemd:/b\n0::/c\n";
        assert_eq!(own_group(v1), Some("/system.slice/kubelet.service"));
        assert_eq!((own_group("0::/kubelet\n"), own_group("x")), (Some("/kubelet"), None));
    }

    #[test]
    fn former_containers_are_not_shown() {
        let container = |id: &str, name: &str, created_at: i64, state: v1::ContainerState| v1::Container {
            id: id.to_owned(),
            created_at,
            state: state.into(),
            labels: [(labels::POD_UID, "u"), (labels::CONTAINER_NAME, name)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..v1::Container::default()
        };
        let (ended, runs) = (v1::ContainerState::ContainerExited, v1::ContainerState::ContainerRunning);
        let listed = [
            container("a1", "a", 1, ended),
            container("a2", "a", 2, runs),
            container("b1", "b", 3, ended),
            container("b2", "b", 2, ended),
        ];
        assert_eq!(present(&listed), HashSet::from(["a2", "b1"]));
    }

    #[test]
    fn text_form() {
        let mut page = Page::default();
        page.family("m", "gauge", "h");
        page.sample(&[("a", "x\"y")], 1.5);
        assert_eq!(page.0, "# HELP m h\n# TYPE m gauge\nm{a=\"x\\\"y\"} 1.5\n");
    }
}
