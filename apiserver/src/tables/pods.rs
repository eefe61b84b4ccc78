//! The row of a pod. Upstream: `printPod`.

use jiff::Timestamp;
use serde_json::Value as Cell;

use super::view::View;

/// What the containers' states add up to.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn restarts_always(container: &View<'_>) -> bool {
    container.text("restartPolicy") == "Always"
}

fn ended(state: &View<'_>, prefix: &str) -> String {
    match (state.text("reason"), state.int("signal"), state.int("exitCode")) {
        ("", 0, code) => format!("{prefix}ExitCode:{code}"),
        ("", signal, _) => format!("{prefix}Signal:{signal}"),
        (reason, _, _) => format!("{prefix}{reason}"),
    }
}

fn sub<'a>(container: &View<'a>, path: &str) -> Option<View<'a>> {
    let segments: Vec<&str> = path.split('.').collect();
    let tree = container.tree.get_path(&segments).filter(|v| !v.is_null())?;
    Some(View { tree, now: container.now })
}

fn last_end(container: &View<'_>) -> Option<Timestamp> {
    container.time("lastState.terminated.finishedAt")
}

/// Goes through the init containers; true when the pod is still (or for ever) initializing.
fn initialize(pod: &View<'_>, sum: &mut Summary, sidecars: &mut (i64, Option<Timestamp>)) -> bool {
    let specs = pod.items("spec.initContainers");
    for (index, container) in pod.items("status.initContainerStatuses").iter().enumerate() {
        let spec = specs.iter().find(|s| s.text("name") == container.text("name"));
        let sidecar = spec.is_some_and(restarts_always);
        sum.restarts += container.int("restartCount");
        sum.last_restart = sum.last_restart.max(last_end(container));
        if sidecar {
            sidecars.0 += container.int("restartCount");
            sidecars.1 = sidecars.1.max(last_end(container));
        }
        let terminated = sub(container, "state.terminated");
        let waiting = container.text("state.waiting.reason");
        if terminated.is_some_and(|t| t.int("exitCode") == 0) {
            continue;
        }
        if sidecar && container.flag("started") {
            sum.ready += usize::from(container.flag("ready"));
            continue;
        }
        sum.reason = match terminated {
            Some(state) => ended(&state, "Init:"),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{}", specs.len()),
        };
        return true;
    }
    false
}

/// Goes through the containers, last first, as the first one's reason counts most.
fn run(pod: &View<'_>, sum: &mut Summary) {
    let (mut running, mut error) = (false, String::new());
    for container in pod.items("status.containerStatuses").iter().rev() {
        sum.restarts += container.int("restartCount");
        sum.last_restart = sum.last_restart.max(last_end(container));
        let waiting = container.text("state.waiting.reason");
        if !waiting.is_empty() {
            sum.reason = waiting.to_owned();
        } else if let Some(state) = sub(container, "state.terminated") {
            sum.reason = ended(&state, "");
            if state.int("exitCode") != 0 {
                error.clone_from(&sum.reason);
            }
        } else if container.flag("ready") && container.has("state.running") {
            running = true;
            sum.ready += 1;
        }
    }
    if sum.reason == "Completed" {
        if running && pod.is_true("Ready") {
            sum.reason = "Running".to_owned();
        } else if !error.is_empty() {
            sum.reason = error;
        } else if running {
            sum.reason = "NotReady".to_owned();
        }
    }
}

fn summary(pod: &View<'_>) -> Summary {
    let phase = pod.text("status.phase");
    let sidecars = pod.items("spec.initContainers").iter().filter(|c| restarts_always(c)).count();
    let mut sum = Summary {
        reason: pod.text_or("status.reason", phase).to_owned(),
        ready: 0,
        total: pod.items("spec.containers").len() + sidecars,
        restarts: 0,
        last_restart: None,
    };
    if pod.condition("PodScheduled").is_some_and(|c| c.text("reason") == "SchedulingGated") {
        sum.reason = "SchedulingGated".to_owned();
    }
    let mut of_sidecars = (0, None);
    let initializing = initialize(pod, &mut sum, &mut of_sidecars);
    if !initializing || pod.is_true("Initialized") {
        (sum.restarts, sum.last_restart) = of_sidecars;
        run(pod, &mut sum);
    }
    if pod.deleting() {
        if pod.text("status.reason") == "NodeLost" {
            sum.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            sum.reason = "Terminating".to_owned();
        }
    }
    sum
}

pub(super) fn cells(pod: &View<'_>) -> Vec<Cell> {
    let sum = summary(pod);
    let mut restarts = sum.restarts.to_string();
    if let (true, Some(at)) = (sum.restarts != 0, sum.last_restart) {
        restarts += &format!(" ({} ago)", pod.ago(at));
    }
    let gates = pod.items("spec.readinessGates");
    let fulfilled = gates.iter().filter(|g| pod.is_true(g.text("conditionType"))).count();
    let gates = if gates.is_empty() { "<none>".to_owned() } else { format!("{fulfilled}/{}", gates.len()) };
    let ip = pod.items("status.podIPs").first().map(|ip| ip.text("ip")).unwrap_or_default();
    vec![
        pod.name().into(),
        format!("{}/{}", sum.ready, sum.total).into(),
        sum.reason.into(),
        restarts.into(),
        pod.age().into(),
        Some(ip).filter(|ip| !ip.is_empty()).unwrap_or("<none>").into(),
        pod.text_or("spec.nodeName", "<none>").into(),
        pod.text_or("status.nominatedNodeName", "<none>").into(),
        gates.into(),
    ]
}

/// The condition of a row that clients may leave out.
pub(super) fn completed(pod: &View<'_>) -> Option<(&'static str, &'static str)> {
    match pod.text("status.phase") {
        "Succeeded" => Some(("Succeeded", "The pod has completed successfully.")),
        "Failed" => Some(("Failed", "The pod failed.")),
        _ => None,
    }
}
