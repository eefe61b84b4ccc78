//! Rows of the remaining groups. Upstream: `pkg/printers/internalversion/printers.go`.

use serde_json::Value as Cell;

use super::view::{View, human};

pub(super) fn ingress(o: &View<'_>) -> Vec<Cell> {
    let hosts: Vec<&str> =
        o.items("spec.rules").iter().map(|r| r.text("host")).filter(|h| !h.is_empty()).collect();
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        n if n > 3 => format!("{} + {} more...", hosts[..3].join(","), n - 3),
        _ => hosts.join(","),
    };
    let addresses = o.items("status.loadBalancer.ingress");
    let addresses: Vec<&str> = addresses.iter().map(|i| i.text_or("ip", i.text("hostname"))).collect();
    vec![
        o.name().into(),
        o.text_or("spec.ingressClassName", "<none>").into(),
        hosts.into(),
        addresses.join(",").into(),
        if o.count("spec.tls") > 0 { "80, 443" } else { "80" }.into(),
        o.age().into(),
    ]
}

/// A name, marked when an annotation makes it the default.
fn defaulted(o: &View<'_>, annotations: &[&str]) -> String {
    let default = annotations.iter().any(|a| o.entry("metadata.annotations", a) == Some("true"));
    if default { format!("{} (default)", o.name()) } else { o.name().to_owned() }
}

pub(super) fn ingress_class(o: &View<'_>) -> Vec<Cell> {
    let mut parameters = "<none>".to_owned();
    if o.has("spec.parameters") {
        parameters = o.text("spec.parameters.kind").to_owned();
        if let Some(group) = o.show("spec.parameters.apiGroup") {
            parameters += &format!(".{group}");
        }
        parameters += &format!("/{}", o.text("spec.parameters.name"));
    }
    vec![
        defaulted(o, &["ingressclass.kubernetes.io/is-default-class"]).into(),
        o.text("spec.controller").into(),
        parameters.into(),
        o.age().into(),
    ]
}

pub(super) fn ip_address(o: &View<'_>) -> Vec<Cell> {
    let mut parent = "<none>".to_owned();
    if o.has("spec.parentRef") {
        parent = o.text("spec.parentRef.resource").to_lowercase();
        for (separator, path) in
            [(".", "spec.parentRef.group"), ("/", "spec.parentRef.namespace"), ("/", "spec.parentRef.name")]
        {
            if !o.text(path).is_empty() {
                parent += &format!("{separator}{}", o.text(path));
            }
        }
    }
    vec![o.name().into(), parent.into()]
}

pub(super) fn service_cidr(o: &View<'_>) -> Vec<Cell> {
    vec![o.name().into(), o.texts("spec.cidrs").join(",").into(), o.age().into()]
}

pub(super) fn network_policy(o: &View<'_>) -> Vec<Cell> {
    vec![o.name().into(), o.selector("spec.podSelector", "<none>").into(), o.age().into()]
}

pub(super) fn binding(o: &View<'_>) -> Vec<Cell> {
    let subjects = o.items("subjects");
    let of = |kind: &str| {
        let names = subjects.iter().filter(|s| s.text("kind") == kind).map(|s| match kind {
            "ServiceAccount" => format!("{}/{}", s.text("namespace"), s.text("name")),
            _ => s.text("name").to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    vec![
        o.name().into(),
        format!("{}/{}", o.text("roleRef.kind"), o.text("roleRef.name")).into(),
        o.age().into(),
        of("User").into(),
        of("Group").into(),
        of("ServiceAccount").into(),
    ]
}

pub(super) fn signing_request(o: &View<'_>) -> Vec<Cell> {
    let has = |kind: &str| o.condition(kind).is_some();
    let mut status = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status += ",Failed";
    }
    if !o.text("status.certificate").is_empty() {
        status += ",Issued";
    }
    let duration = if o.has("spec.expirationSeconds") {
        human(o.int("spec.expirationSeconds"))
    } else {
        "<none>".to_owned()
    };
    vec![
        o.name().into(),
        o.age().into(),
        o.text_or("spec.signerName", "<none>").into(),
        o.text("spec.username").into(),
        duration.into(),
        status.into(),
    ]
}

pub(super) fn pod_certificate(o: &View<'_>) -> Vec<Cell> {
    let states = ["Issued", "Denied", "Failed"];
    let state = states.iter().find(|s| o.condition(s).is_some()).copied().unwrap_or("Pending");
    vec![
        o.name().into(),
        o.text("spec.podName").into(),
        o.text("spec.serviceAccountName").into(),
        o.text("spec.nodeName").into(),
        o.text("spec.signerName").into(),
        state.into(),
        o.labels("spec.unverifiedUserAnnotations").into(),
    ]
}

pub(super) fn csi_driver(o: &View<'_>) -> Vec<Cell> {
    let modes = o.texts("spec.volumeLifecycleModes").join(",");
    let audiences: Vec<&str> = o.items("spec.tokenRequests").iter().map(|t| t.text("audience")).collect();
    let audiences = if o.has("spec.tokenRequests") { audiences.join(",") } else { "<unset>".to_owned() };
    vec![
        o.name().into(),
        o.flag_or("spec.attachRequired", true).into(),
        o.flag("spec.podInfoOnMount").into(),
        o.flag("spec.storageCapacity").into(),
        audiences.into(),
        o.flag("spec.requiresRepublish").into(),
        if modes.is_empty() { "<none>".to_owned() } else { modes }.into(),
        o.age().into(),
    ]
}

pub(super) fn storage_class(o: &View<'_>) -> Vec<Cell> {
    let annotations =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    vec![
        defaulted(o, &annotations).into(),
        o.text("provisioner").into(),
        o.text_or("reclaimPolicy", "Delete").into(),
        o.text_or("volumeBindingMode", "Immediate").into(),
        o.flag("allowVolumeExpansion").into(),
        o.age().into(),
    ]
}

pub(super) fn attachment(o: &View<'_>) -> Vec<Cell> {
    vec![
        o.name().into(),
        o.text("spec.attacher").into(),
        o.text("spec.source.persistentVolumeName").into(),
        o.text("spec.nodeName").into(),
        o.flag("status.attached").into(),
        o.age().into(),
    ]
}

/// Admission policies: `list` counts what they consist of.
pub(super) fn policy(o: &View<'_>, list: &str) -> Vec<Cell> {
    let kind = if o.has("spec.paramKind") {
        format!("{}/{}", o.text("spec.paramKind.apiVersion"), o.text("spec.paramKind.kind"))
    } else {
        "<unset>".to_owned()
    };
    vec![o.name().into(), o.count(list).into(), kind.into(), o.age().into()]
}

pub(super) fn policy_binding(o: &View<'_>) -> Vec<Cell> {
    let name = o.text("spec.paramRef.name");
    let parameter = match () {
        () if !name.is_empty() => format!("{}/{name}", o.text_or("spec.paramRef.namespace", "*")),
        () if o.has("spec.paramRef.selector") => o.selector("spec.paramRef.selector", ""),
        () => "<unset>".to_owned(),
    };
    vec![o.name().into(), o.text("spec.policyName").into(), parameter.into(), o.age().into()]
}

pub(super) fn custom_resource_definition(o: &View<'_>) -> Vec<Cell> {
    let versions: Vec<&str> = o.items("spec.versions").iter().map(|v| v.text("name")).collect();
    vec![
        o.name().into(),
        o.text("spec.scope").into(),
        versions.join(",").into(),
        o.text("metadata.creationTimestamp").into(),
        o.text("spec.group").into(),
        o.text("spec.names.kind").into(),
        o.texts("spec.names.shortNames").join(",").into(),
        o.is_true("Established").into(),
    ]
}

pub(super) fn api_service(o: &View<'_>) -> Vec<Cell> {
    let service = if o.has("spec.service") {
        format!("{}/{}", o.text("spec.service.namespace"), o.text("spec.service.name"))
    } else {
        "Local".to_owned()
    };
    let available = match o.condition("Available") {
        None => "Unknown".to_owned(),
        Some(c) if c.text("status") == "True" => "True".to_owned(),
        Some(c) => format!("{} ({})", c.text("status"), c.text("reason")),
    };
    vec![o.name().into(), service.into(), available.into(), o.age().into()]
}

pub(super) fn resource_claim(o: &View<'_>) -> Vec<Cell> {
    let mut states = Vec::new();
    if o.deleting() {
        states.push("deleted");
    }
    if o.has("status.allocation") {
        states.push("allocated");
        if o.count("status.reservedFor") > 0 {
            states.push("reserved");
        }
    } else if !o.deleting() {
        states.push("pending");
    }
    vec![o.name().into(), states.join(",").into(), o.age().into()]
}

pub(super) fn taint_rule(o: &View<'_>) -> Vec<Cell> {
    let added =
        if o.has("spec.taint.timeAdded") { o.since("spec.taint.timeAdded") } else { "<unset>".to_owned() };
    vec![
        o.name().into(),
        o.text("spec.taint.key").into(),
        o.text("spec.taint.value").into(),
        o.text("spec.taint.effect").into(),
        added.into(),
        o.age().into(),
    ]
}

pub(super) fn flow_schema(o: &View<'_>) -> Vec<Cell> {
    vec![
        o.name().into(),
        o.text("spec.priorityLevelConfiguration.name").into(),
        o.int("spec.matchingPrecedence").into(),
        o.text_or("spec.distinguisherMethod.type", "<none>").into(),
        o.age().into(),
        o.condition("Dangling").map_or("?", |c| c.text("status")).into(),
    ]
}

pub(super) fn priority_level(o: &View<'_>) -> Vec<Cell> {
    let number = |path: &str| -> Cell { if o.has(path) { o.int(path).into() } else { "<none>".into() } };
    vec![
        o.name().into(),
        o.text("spec.type").into(),
        number("spec.limited.nominalConcurrencyShares"),
        number("spec.limited.limitResponse.queuing.queues"),
        number("spec.limited.limitResponse.queuing.handSize"),
        number("spec.limited.limitResponse.queuing.queueLengthLimit"),
        o.age().into(),
    ]
}

pub(super) fn migration(o: &View<'_>) -> Vec<Cell> {
    let group = o.text("spec.resource.group");
    let resource = o.text("spec.resource.resource");
    let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let states = ["Succeeded", "Failed", "Running"];
    let state = states.iter().find(|s| o.is_true(s)).copied().unwrap_or("Pending");
    vec![o.name().into(), resource.into(), state.into()]
}
