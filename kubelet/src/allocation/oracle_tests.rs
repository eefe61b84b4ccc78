//! Upstream's answers, recorded by `make oracle-allocation` (e2e/oracle/allocation).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;

use super::admit::{self, Node};
use super::manager::{Allocations, Around};
use super::state::{ACTUATED, ALLOCATED, State};
use crate::admission::{self, Rejection};
use crate::container::downward::NodeAllocatable;
use crate::metrics::resizes;
use crate::pod::store::PodStore;
use crate::pod::view::PodView;
use crate::runtime::actions::PodActions;
use crate::runtime::model::{ContainerId, ContainerState, ContainerStatus, PodStatus, SandboxStatus};
use crate::runtime::resize::{self, Amount};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("allocation-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Step {
    op: String,
    pods: Vec<Pod>,
    flag: bool,
    events: Vec<String>,
    synced: Vec<String>,
    said: Vec<String>,
    file: String,
    metrics: Vec<String>,
}

#[derive(Deserialize)]
struct Story {
    #[serde(default)]
    cpus: bool,
    #[serde(default)]
    memory: bool,
    steps: Vec<Step>,
}

/// A node of four processors and four gibibytes.
struct Kubelet {
    node: Node,
    folder: PathBuf,
    pods: Arc<PodStore>,
    allocations: Mutex<Arc<Allocations>>,
    /// The node takes nothing.
    blocked: Mutex<bool>,
    rejected: Mutex<BTreeSet<String>>,
    events: Mutex<Vec<String>>,
    synced: Mutex<Vec<String>>,
    clock: AtomicI64,
}

impl Kubelet {
    fn allocations(&self) -> Arc<Allocations> {
        self.allocations.lock().clone()
    }

    fn has_room(&self, pod: &Pod) -> Result<(), Rejection> {
        if *self.blocked.lock() {
            let message = "The node had condition: [DiskPressure]. ".to_owned();
            return Err(Rejection { reason: "Evicted".to_owned(), message });
        }
        let allocations = self.allocations();
        let rejected = self.rejected.lock();
        let active = |pod: &Arc<Pod>| !pod.is_api_terminal() && !rejected.contains(pod.uid());
        let all: Vec<Arc<Pod>> = (self.pods.list().into_iter())
            .filter(|other| other.uid() != pod.uid() && active(other) && allocations.has(other.uid()))
            .map(|other| allocations.promised(&other).0)
            .collect();
        let others: Vec<&Pod> = all.iter().map(AsRef::as_ref).collect();
        let node = admission::Node {
            name: "",
            labels: Some(&BTreeMap::new()),
            taints: &[],
            allocatable: &NodeAllocatable { cpu_milli: 4000, memory: 4 << 30, ephemeral_storage: 0 },
            extended: &BTreeMap::new(),
            max_pods: 40,
            keeps_groups: false,
        };
        admission::admit(pod, &others, &node)
    }

    fn add(&self, pod: Arc<Pod>) {
        let allocations = self.allocations();
        self.pods.set(pod.clone());
        allocations.backfill(&pod, self.now());
        if pod.is_api_terminal() {
            return;
        }
        let (promised, _) = allocations.promised(&pod);
        match self.has_room(&promised) {
            Ok(()) => {
                allocations.promise(&promised).unwrap();
                allocations.added(&pod, self);
            }
            Err(rejection) => {
                self.rejected.lock().insert(pod.uid().to_owned());
                self.event(&pod, true, &rejection.reason, &rejection.message);
            }
        }
    }

    fn restart(&self, pods: Vec<Pod>) {
        let old: Vec<Arc<Pod>> = self.pods.list();
        old.iter().for_each(|pod| self.pods.remove(pod));
        self.rejected.lock().clear();
        // As in a new process.
        resizes::pending(std::iter::empty());
        resizes::in_progress(0);
        let allocations = Arc::new(Allocations::open(&self.folder, self.pods.clone()).unwrap());
        *self.allocations.lock() = allocations.clone();
        pods.into_iter().for_each(|pod| self.add(Arc::new(pod)));
        allocations.sources_ready();
    }

    fn run(&self, step: &Step) {
        let allocations = self.allocations();
        match step.op.as_str() {
            "restart" => self.restart(step.pods.clone()),
            "block" => *self.blocked.lock() = step.flag,
            "tick" => allocations.retry(self, resizes::PERIODIC),
            op => {
                for pod in step.pods.iter().cloned().map(Arc::new) {
                    match (op, self.pods.get(pod.uid())) {
                        ("add", _) => self.add(pod),
                        ("remove", _) => {
                            self.pods.remove(&pod);
                            allocations.removed(pod.uid(), self);
                        }
                        (_, Some(old)) => {
                            self.pods.set(pod.clone());
                            allocations.changed(&old, &pod, self);
                        }
                        _ => panic!("{op} of a pod that is not known"),
                    }
                }
            }
        }
    }

    fn said(&self) -> Vec<String> {
        let mut pods = self.pods.list();
        pods.sort_by(|a, b| a.uid().cmp(b.uid()));
        let of = |pod: &Arc<Pod>| {
            let uid = pod.uid().to_owned();
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            self.allocations().conditions(&uid).into_iter().map(move |c| {
                let generation = c.observed_generation.unwrap_or_default();
                format!("{uid} {} {} {:?} {generation}", c.type_, text(&c.reason), text(&c.message))
            })
        };
        pods.iter().flat_map(of).collect()
    }
}

impl Around for Kubelet {
    fn admit(&self, pod: &Pod, promised: &Pod) -> Result<(), Rejection> {
        admit::resize(pod, promised, self.node).map_err(|(rejection, counted)| {
            resizes::infeasible(counted);
            rejection
        })?;
        self.has_room(pod)
    }
    fn sync(&self, uid: &str) {
        self.synced.lock().push(uid.to_owned());
    }
    fn event(&self, _: &Pod, warning: bool, reason: &str, message: &str) {
        let kind = if warning { "Warning" } else { "Normal" };
        self.events.lock().push(format!("{kind} {reason} {message}"));
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

/// Everything that is counted, as the recorded steps have it.
fn counters() -> BTreeMap<String, f64> {
    let text = component::metrics::default_registry().text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains("resize"));
    lines
        .filter(|line| !line.contains("_bucket{") && !line.contains("_sum"))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            Some((format!("{}{{{labels}", name.trim_end_matches("_count")), value.parse().ok()?))
        })
        .collect()
}

fn counted(before: &BTreeMap<String, f64>) -> Vec<String> {
    let is_gauge = |name: &str| name.contains("pending_resizes") || name.contains("in_progress");
    let mut out: Vec<String> = (counters().into_iter())
        .filter_map(|(name, value)| match (is_gauge(&name), before.get(&name).copied().unwrap_or_default()) {
            (true, _) => (value != 0.0).then(|| format!("{name} {value}")),
            (false, old) => (value != old).then(|| format!("{name} +{}", value - old)),
        })
        .collect();
    out.sort();
    out
}

/// What becomes of the step that fails is shown whole.
fn check(
    kubelet: &Kubelet,
    (story, at): (usize, usize),
    step: &Step,
    file: &str,
    before: &BTreeMap<String, f64>,
) {
    let what =
        format!("story {story}, step {at}, {}: {}", step.op, serde_json::to_string(&step.pods).unwrap());
    let events = std::mem::take(&mut *kubelet.events.lock());
    assert_eq!(events, step.events, "events, {what}");
    assert_eq!(std::mem::take(&mut *kubelet.synced.lock()), step.synced, "synced, {what}");
    assert_eq!(kubelet.said(), step.said, "conditions, {what}");
    let written = fs::read_to_string(kubelet.folder.join(ALLOCATED)).unwrap_or_default();
    assert_eq!(written, file, "file, {what}");
    assert_eq!(counted(before), step.metrics, "metrics, {what}");
}

#[test]
fn stories() {
    let packed = include_bytes!("testdata/stories.jsonl.gz").as_slice();
    let stories = std::io::read_to_string(flate2::read::GzDecoder::new(packed)).unwrap();
    for (number, story) in
        stories.lines().map(|line| serde_json::from_str::<Story>(line).unwrap()).enumerate()
    {
        let folder = folder(&format!("story-{number}"));
        let pods = Arc::new(PodStore::default());
        let allocations = Arc::new(Allocations::open(&folder, pods.clone()).unwrap());
        allocations.sources_ready();
        resizes::pending(std::iter::empty());
        resizes::in_progress(0);
        let kubelet = Kubelet {
            node: Node { pod_level: true, pinned_cpus: story.cpus, pinned_memory: story.memory, swap: false },
            folder: folder.clone(),
            pods,
            allocations: Mutex::new(allocations),
            blocked: Mutex::default(),
            rejected: Mutex::default(),
            events: Mutex::default(),
            synced: Mutex::default(),
            clock: AtomicI64::new(1),
        };
        let mut file = "";
        for (at, step) in story.steps.iter().enumerate() {
            let before = counters();
            kubelet.run(step);
            file = if step.file.is_empty() { file } else { &step.file };
            check(&kubelet, (number, at), step, file, &before);
        }
        let allocations = kubelet.allocations();
        kubelet.pods.list().iter().for_each(|pod| allocations.gone(pod.uid(), kubelet.now()));
        assert_eq!(kubelet.said(), Vec::<String>::new());
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    #[serde(rename = "name")]
    name: String,
    wanted: [i64; 4],
    current: [i64; 4],
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Changes {
    memory: Vec<Change>,
    cpu: Vec<Change>,
    kill: Vec<String>,
    start: Vec<usize>,
    start_init: Vec<usize>,
    pod: bool,
    level: bool,
    in_progress: bool,
}

#[derive(Deserialize)]
struct Case {
    pod: Pod,
    running: Option<Vec<String>>,
    file: String,
    changes: Changes,
}

fn numbers(amount: Amount) -> [i64; 4] {
    [amount.memory_limit, amount.memory_request, amount.cpu_limit, amount.cpu_request]
}

/// The case's pod as it runs.
fn running(case: &Case) -> PodStatus {
    let one = |name: &String| ContainerStatus {
        name: name.clone(),
        id: ContainerId { runtime: "r".into(), id: name.clone() },
        state: ContainerState::Running,
        sandbox_id: "s".into(),
        ..Default::default()
    };
    PodStatus {
        sandboxes: vec![SandboxStatus { id: "s".into(), ready: true, ..Default::default() }],
        containers: case.running.iter().flatten().map(one).collect(),
        ..Default::default()
    }
}

#[test]
fn changes() {
    let folder = folder("changes");
    for line in include_str!("testdata/changes.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let file = folder.join(ACTUATED);
        match case.file.as_str() {
            "" => drop(fs::remove_file(&file)),
            text => fs::write(&file, text).unwrap(),
        }
        let state = State::open(&folder, ACTUATED).unwrap();
        let status = running(&case);
        let spec = case.pod.spec();
        let stopped = |name: &str| status.find(name).is_none();
        let start = spec.containers.iter().enumerate().filter(|(_, c)| stopped(&c.name)).map(|(at, _)| at);
        let mut actions = PodActions { start: start.collect(), ..PodActions::default() };
        let plan = resize::plan(&case.pod, &status, &actions, &state);
        resize::add_restarts(&plan.restarts, &mut actions);
        let of = |order: &[usize]| -> Vec<(String, [i64; 4], [i64; 4])> {
            let updates = order.iter().map(|at| &plan.updates[*at]);
            updates.map(|u| (u.name.clone(), numbers(u.wanted), numbers(u.current))).collect()
        };
        let expected = |all: &[Change]| -> Vec<(String, [i64; 4], [i64; 4])> {
            all.iter().map(|c| (c.name.clone(), c.wanted, c.current)).collect()
        };
        assert_eq!(of(&plan.memory), expected(&case.changes.memory), "memory, {line}");
        assert_eq!(of(&plan.cpu), expected(&case.changes.cpu), "processors, {line}");
        assert_eq!((plan.pod, plan.level), (case.changes.pod, case.changes.level), "pod, {line}");
        let sorted = |mut all: Vec<usize>| {
            all.sort_unstable();
            all
        };
        let mut killed: Vec<&str> = actions.kill.iter().map(|kill| kill.name.as_str()).collect();
        killed.sort_unstable();
        let mut expected: Vec<&str> = case.changes.kill.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(killed, expected, "killed, {line}");
        assert_eq!(sorted(actions.start), sorted(case.changes.start), "started, {line}");
        assert_eq!(sorted(actions.start_init), sorted(case.changes.start_init), "started, {line}");
        let in_progress = resize::is_in_progress(&case.pod, &status, &state);
        assert_eq!(in_progress, case.changes.in_progress, "in progress, {line}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
