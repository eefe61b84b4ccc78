//! Rows of kinds that are not generally available. Upstream: `pkg/printers/internalversion/printers.go`.

use serde_json::Value as Cell;

use super::view::{View, some_of};

pub(super) fn lease_candidate(o: &View<'_>) -> Vec<Cell> {
    vec![
        o.name().into(),
        o.text("spec.leaseName").into(),
        o.text("spec.binaryVersion").into(),
        o.text("spec.emulationVersion").into(),
        o.age().into(),
    ]
}

pub(super) fn storage_version(o: &View<'_>) -> Vec<Cell> {
    let servers = o.items("status.storageVersions");
    let servers: Vec<String> =
        servers.iter().map(|s| format!("{}={}", s.text("apiServerID"), s.text("encodingVersion"))).collect();
    vec![
        o.name().into(),
        o.given("status.commonEncodingVersion", "<unset>").into(),
        some_of(&servers, 3).into(),
        o.age().into(),
    ]
}

/// The kind of scheduling, and the workload.
fn scheduling<'a>(o: &View<'a>) -> (&'static str, &'a str) {
    let policy = if o.has("spec.schedulingPolicy.gang") { "Gang" } else { "Basic" };
    let workload = if o.has("spec.workloadRef") { o.text("spec.workloadRef.workloadName") } else { "<none>" };
    (policy, workload)
}

pub(super) fn pod_group(o: &View<'_>) -> Vec<Cell> {
    let last = |kind: &str| o.items("status.conditions").into_iter().rfind(|c| c.text("type") == kind);
    let status = match (last("DisruptionTarget"), last("PodGroupInitiallyScheduled")) {
        (Some(disrupted), _) => disrupted.text("reason"),
        (None, Some(scheduled)) if scheduled.text("status") == "True" => "Scheduled",
        (None, Some(_)) => "Unschedulable",
        (None, None) => "Pending",
    };
    let (policy, workload) = scheduling(o);
    vec![o.name().into(), policy.into(), workload.into(), status.into(), o.age().into()]
}

pub(super) fn composite_pod_group(o: &View<'_>) -> Vec<Cell> {
    let (policy, workload) = scheduling(o);
    vec![o.name().into(), policy.into(), workload.into(), o.age().into()]
}

pub(super) fn pool_status_request(o: &View<'_>) -> Vec<Cell> {
    let done = |c: &View<'_>| matches!(c.text("type"), "Complete" | "Failed") && c.text("status") == "True";
    let result = o.items("status.conditions").into_iter().find(done);
    let (pools, count) = (o.items("status.pools"), o.int("status.poolCount"));
    let outcome = result.map_or("Pending", |c| c.text("type"));
    let status = match outcome {
        "Complete" if count > pools.len() as i64 => format!("Complete ({}/{count} pools)", pools.len()),
        outcome => outcome.to_owned(),
    };
    let told = o.has("status") && outcome != "Failed";
    let number = |n: i64| if told { n.to_string() } else { "-".to_owned() };
    let sum = |field: &str| -> Cell { number(pools.iter().map(|p| p.int(field)).sum()).into() };
    let wrong = pools.iter().filter(|p| p.has("validationError")).count() as i64;
    let completed = result.filter(|_| outcome == "Complete").map(|c| c.since("lastTransitionTime"));
    vec![
        o.name().into(),
        o.text("spec.driver").into(),
        sum("totalDevices"),
        sum("availableDevices"),
        sum("allocatedDevices"),
        sum("unavailableDevices"),
        number(wrong).into(),
        count.into(),
        status.into(),
        completed.unwrap_or_else(|| "<none>".to_owned()).into(),
    ]
}

/// Name, target, its type, and how far the eviction is.
fn eviction_head(o: &View<'_>) -> Vec<Cell> {
    let (target, kind) = if o.has("spec.target.pod") {
        (o.text("spec.target.pod.name"), "Pod")
    } else {
        ("<unset>", "<unset>")
    };
    let begun = if o.int("status.observedGeneration") > 0 { "Progressing" } else { "Pending" };
    let reached = |kind: &str| o.condition(kind).filter(|c| c.text("status") == "True");
    let status = match reached("TargetEvicted").or_else(|| reached("Failed")) {
        Some(condition) => format!("{} ({})", condition.text("type"), condition.text("reason")),
        None => begun.to_owned(),
    };
    vec![o.name().into(), target.into(), kind.into(), status.into()]
}

pub(super) fn eviction_request(o: &View<'_>) -> Vec<Cell> {
    let mut row = eviction_head(o);
    row.extend([o.text("spec.requester").into(), o.text("spec.intent").into(), o.age().into()]);
    row
}

/// What the responder at work, or the last one that was, is at.
struct Progress {
    status: String,
    finish: String,
    heartbeat: String,
    message: String,
}

fn progress(o: &View<'_>, active: Option<View<'_>>) -> Progress {
    let unset = || "<unset>".to_owned();
    let mut told =
        Progress { status: unset(), finish: "<unknown>".to_owned(), heartbeat: unset(), message: unset() };
    let Some(active) = active else { return told };
    let own = o.items("status.responders").into_iter().find(|r| r.text("name") == active.text("name"));
    let Some(own) = own else { return told };
    let state = active.text("state");
    told.status = state.to_owned();
    match state {
        "Active" if own.has("startTime") => {
            told.status = format!("Started ({} ago)", own.since("startTime"));
            if let Some(at) = own.time("expectedCompletionTime") {
                told.finish = match at > o.now {
                    true => format!("in {}", super::view::between(o.now, at)),
                    false => format!("{} ago", o.ago(at)),
                };
            }
        }
        "Canceled" | "Interrupted" => told.finish = "-".to_owned(),
        "Completed" => {
            if own.has("completionTime") {
                told.status = format!("{state} ({} ago)", own.since("completionTime"));
            }
            told.finish = "-".to_owned();
        }
        _ => {}
    }
    if own.has("heartbeatTime") {
        told.heartbeat = format!("{} ago", own.since("heartbeatTime"));
    }
    if !own.text("message").trim().is_empty() {
        told.message = own.text("message").trim().to_owned();
    }
    told
}

pub(super) fn eviction(o: &View<'_>) -> Vec<Cell> {
    let responders = o.items("status.targetResponders");
    let of = |states: &[&str]| -> Vec<View<'_>> {
        responders.iter().filter(|r| states.contains(&r.text("state"))).copied().collect()
    };
    let (active, processed) = (of(&["Active"]), of(&["Canceled", "Interrupted", "Completed"]));
    let responder = active.last().or(processed.last()).copied();
    let name = responder.map_or("<unset>", |r| r.text("name"));
    let counted = format!("{name} ({}/{})", active.len() + processed.len(), responders.len());
    let Progress { status, finish, heartbeat, message } = progress(o, responder);
    let all = o.items("status.requesters");
    let asking = all.iter().filter(|r| r.text("intent") != "Withdrawn").map(|r| r.text("name").to_owned());
    let mut asking: Vec<String> = asking.collect();
    asking.sort();
    let requesters = match (asking.is_empty(), all.is_empty()) {
        (false, _) => some_of(&asking, 1),
        (true, false) => "<withdrawn>".to_owned(),
        (true, true) => "<none>".to_owned(),
    };
    let mut row = eviction_head(o);
    row.extend([counted.into(), status.into(), finish.into(), requesters.into(), o.age().into()]);
    row.extend([heartbeat.into(), message.into()]);
    row
}
