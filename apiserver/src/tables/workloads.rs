//! Rows of the apps, batch, autoscaling and policy groups.
//! Upstream: `pkg/printers/internalversion/printers.go`.

use serde_json::Value as Cell;

use super::view::{View, between};

const CONTAINERS: &str = "spec.template.spec.containers";

fn join(head: Vec<Cell>, containers: [Cell; 2], tail: Option<Cell>) -> Vec<Cell> {
    head.into_iter().chain(containers).chain(tail).collect()
}

pub(super) fn deployment(o: &View<'_>) -> Vec<Cell> {
    let head = vec![
        o.name().into(),
        format!("{}/{}", o.int("status.readyReplicas"), o.int("spec.replicas")).into(),
        o.int("status.updatedReplicas").into(),
        o.int("status.availableReplicas").into(),
        o.age().into(),
    ];
    let selector = match o.selector("spec.selector") {
        none if none == "<none>" => String::new(),
        error if error == "<error>" => "<invalid>".to_owned(),
        selector => selector,
    };
    join(head, o.containers(CONTAINERS), Some(selector.into()))
}

/// ReplicaSets and ReplicationControllers.
pub(super) fn replicas(o: &View<'_>) -> Vec<Cell> {
    let head = vec![
        o.name().into(),
        o.int("spec.replicas").into(),
        o.int("status.replicas").into(),
        o.int("status.readyReplicas").into(),
        o.age().into(),
    ];
    let selector = if o.text("kind") == "ReplicationController" {
        o.labels("spec.selector")
    } else {
        o.selector("spec.selector")
    };
    join(head, o.containers(CONTAINERS), Some(selector.into()))
}

pub(super) fn stateful_set(o: &View<'_>) -> Vec<Cell> {
    let ready = format!("{}/{}", o.int("status.readyReplicas"), o.int("spec.replicas"));
    join(vec![o.name().into(), ready.into(), o.age().into()], o.containers(CONTAINERS), None)
}

pub(super) fn daemon_set(o: &View<'_>) -> Vec<Cell> {
    let head = vec![
        o.name().into(),
        o.int("status.desiredNumberScheduled").into(),
        o.int("status.currentNumberScheduled").into(),
        o.int("status.numberReady").into(),
        o.int("status.updatedNumberScheduled").into(),
        o.int("status.numberAvailable").into(),
        o.labels("spec.template.spec.nodeSelector").into(),
        o.age().into(),
    ];
    join(head, o.containers(CONTAINERS), Some(o.selector("spec.selector").into()))
}

pub(super) fn controller_revision(o: &View<'_>) -> Vec<Cell> {
    let owners = o.items("metadata.ownerReferences");
    let controller = owners.iter().find(|r| r.flag("controller")).map(|r| {
        let group = r.text("apiVersion").split_once('/').map_or("", |(group, _)| group);
        let kind = r.text("kind").to_lowercase();
        match (kind.as_str(), group) {
            ("", "") => r.text("name").to_owned(),
            (kind, "") => format!("{kind}/{}", r.text("name")),
            (kind, group) => format!("{kind}.{group}/{}", r.text("name")),
        }
    });
    let controller = controller.unwrap_or_else(|| "<none>".to_owned());
    vec![o.name().into(), controller.into(), o.int("revision").into(), o.age().into()]
}

pub(super) fn job(o: &View<'_>) -> Vec<Cell> {
    let done = o.int("status.succeeded");
    let completions = match (o.show("spec.completions"), o.int("spec.parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let duration = o
        .time("status.startTime")
        .map(|start| between(start, o.time("status.completionTime").unwrap_or(o.now)));
    let status = match () {
        () if o.is_true("Complete") => "Complete",
        () if o.is_true("Failed") => "Failed",
        () if o.deleting() => "Terminating",
        () if o.is_true("Suspended") => "Suspended",
        () if o.is_true("FailureTarget") => "FailureTarget",
        () if o.is_true("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let head = vec![
        o.name().into(),
        status.into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        o.age().into(),
    ];
    join(head, o.containers(CONTAINERS), Some(o.selector("spec.selector").into()))
}

pub(super) fn cron_job(o: &View<'_>) -> Vec<Cell> {
    let last = o.time("status.lastScheduleTime").map_or_else(|| "<none>".to_owned(), |at| o.ago(at));
    let suspend = if o.flag("spec.suspend") { "True" } else { "False" };
    let suspend = if o.has("spec.suspend") { suspend } else { "<unset>" };
    let head = vec![
        o.name().into(),
        o.text("spec.schedule").into(),
        o.given("spec.timeZone", "<none>").into(),
        suspend.into(),
        o.count("status.active").into(),
        last.into(),
        o.age().into(),
    ];
    let selector = o.selector("spec.jobTemplate.spec.selector");
    join(head, o.containers("spec.jobTemplate.spec.template.spec.containers"), Some(selector.into()))
}

pub(super) fn disruption_budget(o: &View<'_>) -> Vec<Cell> {
    let or_na = |path: &str| o.show(path).unwrap_or_else(|| "N/A".to_owned());
    vec![
        o.name().into(),
        or_na("spec.minAvailable").into(),
        or_na("spec.maxUnavailable").into(),
        o.int("status.disruptionsAllowed").into(),
        o.age().into(),
    ]
}

/// One metric of an autoscaler: current and target (`formatHPAMetrics`).
fn metric(spec: &View<'_>, status: Option<&View<'_>>) -> String {
    let field = match spec.text("type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let status = status.filter(|s| s.has(field));
    let current = |what: &str| status.map(|s| s.show(&format!("{field}.current.{what}")));
    let target = |what: &str| spec.show(&format!("{field}.target.{what}"));
    let unknown = || "<unknown>".to_owned();
    // As Go prints a quantity that is not there.
    let quantity = |given: Option<String>| given.unwrap_or_else(|| "<nil>".to_owned());
    let known = |given: Option<Option<String>>| given.map_or_else(unknown, quantity);
    let name = spec.text(&format!("{field}.name"));
    match (field, target("averageValue")) {
        ("external" | "object", Some(average)) => {
            format!("{}/{average} (avg)", current("averageValue").flatten().unwrap_or_else(unknown))
        }
        ("external" | "object", None) => format!("{}/{}", known(current("value")), quantity(target("value"))),
        ("pods", average) => format!("{}/{}", known(current("averageValue")), quantity(average)),
        (_, Some(average)) => format!("{name}: {}/{average}", known(current("averageValue"))),
        (_, None) => {
            let now = current("averageUtilization").flatten().map_or_else(unknown, |n| format!("{n}%"));
            let wanted =
                target("averageUtilization").map_or_else(|| "<auto>".to_owned(), |n| format!("{n}%"));
            format!("{name}: {now}/{wanted}")
        }
    }
}

fn metrics(o: &View<'_>) -> String {
    let (specs, statuses) = (o.items("spec.metrics"), o.items("status.currentMetrics"));
    let all: Vec<String> = specs.iter().enumerate().map(|(i, s)| metric(s, statuses.get(i))).collect();
    match all.len() {
        0 => "<none>".to_owned(),
        n if n > 2 => format!("{} + {} more...", all[..2].join(", "), n - 2),
        _ => all.join(", "),
    }
}

/// In the form of v2.
pub(super) fn autoscaler(o: &View<'_>) -> Vec<Cell> {
    vec![
        o.name().into(),
        format!("{}/{}", o.text("spec.scaleTargetRef.kind"), o.text("spec.scaleTargetRef.name")).into(),
        metrics(o).into(),
        o.show("spec.minReplicas").unwrap_or_else(|| "<unset>".to_owned()).into(),
        o.int("spec.maxReplicas").into(),
        o.int("status.currentReplicas").into(),
        o.age().into(),
    ]
}
