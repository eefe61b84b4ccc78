//! Rows of the remaining groups. Upstream: `pkg/printers/internalversion/printers.go`.

use serde_json::Value as Cell;

use super::core::balancer_addresses;
use super::view::{View, human};

/// The first three hosts; what is more is counted in rules, whether they name a host or not (`formatHosts`).
fn hosts(rules: &[View<'_>]) -> String {
    const MOST: usize = 3;
    let (mut named, mut more) = (Vec::new(), false);
    for rule in rules {
        more |= named.len() == MOST;
        let host = rule.text("host");
        if !more && !host.is_empty() {
            named.push(host);
        }
    }
    match named.join(",") {
        none if none.is_empty() => "*".to_owned(),
        hosts if more => format!("{hosts} + {} more...", rules.len() - MOST),
        hosts => hosts,
    }
}

pub(super) fn ingress(o: &View<'_>) -> Vec<Cell> {
    vec![
        o.name().into(),
        o.given("spec.ingressClassName", "<none>").into(),
        hosts(&o.items("spec.rules")).into(),
        balancer_addresses(o).join(",").into(),
        if o.count("spec.tls") > 0 { "80, 443" } else { "80" }.into(),
        o.age().into(),
    ]
}

/// A name, marked when it is that of the default.
fn marked(o: &View<'_>, default: bool) -> Cell {
    if default { format!("{} (default)", o.name()).into() } else { o.name().into() }
}

const DEFAULT_INGRESS_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
const DEFAULT_STORAGE_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

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
        marked(o, o.entry("metadata.annotations", DEFAULT_INGRESS_CLASS) == Some("true")),
        o.text("spec.controller").into(),
        parameters.into(),
        o.age().into(),
    ]
}

/// `resource.group`, or the bare resource.
fn group_resource(o: &View<'_>, path: &str) -> String {
    let (group, resource) = (o.text(&format!("{path}.group")), o.text(&format!("{path}.resource")));
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

pub(super) fn ip_address(o: &View<'_>) -> Vec<Cell> {
    let mut parent = "<none>".to_owned();
    if o.has("spec.parentRef") {
        parent = group_resource(o, "spec.parentRef").to_lowercase();
        if !o.text("spec.parentRef.namespace").is_empty() {
            parent += &format!("/{}", o.text("spec.parentRef.namespace"));
        }
        parent += &format!("/{}", o.text("spec.parentRef.name"));
    }
    // The age has no column.
    vec![o.name().into(), parent.into(), o.age().into()]
}

pub(super) fn service_cidr(o: &View<'_>) -> Vec<Cell> {
    vec![o.name().into(), o.texts("spec.cidrs").join(",").into(), o.age().into()]
}

pub(super) fn network_policy(o: &View<'_>) -> Vec<Cell> {
    vec![o.name().into(), o.selector("spec.podSelector").into(), o.age().into()]
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
    let types = o.items("status.conditions").into_iter().map(|c| c.text("type"));
    let state = types.rev().find(|t| ["Issued", "Denied", "Failed"].contains(t)).unwrap_or("Pending");
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

/// Whether a class says that it is the default.
pub(super) fn is_default_storage_class(o: &View<'_>) -> bool {
    DEFAULT_STORAGE_CLASS.iter().any(|a| o.entry("metadata.annotations", a) == Some("true"))
}

/// `default` is the name of the default class of a list; a class that is shown alone is not told to be it.
pub(super) fn storage_class(o: &View<'_>, default: Option<&str>) -> Vec<Cell> {
    vec![
        marked(o, default == Some(o.name())),
        o.text("provisioner").into(),
        o.given("reclaimPolicy", "Delete").into(),
        o.given("volumeBindingMode", "Immediate").into(),
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

/// A label selector as Go prints the struct, which is what upstream shows here.
fn selector_as_go(o: &View<'_>, path: &str) -> String {
    let labels: String =
        o.entries(&format!("{path}.matchLabels")).iter().map(|(k, v)| format!("{k}: {v},")).collect();
    let expression = |e: &View<'_>| {
        let values = e.texts("values").join(" ");
        let (key, operator) = (e.text("key"), e.text("operator"));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    };
    let expressions: String = o.items(&format!("{path}.matchExpressions")).iter().map(expression).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

pub(super) fn policy_binding(o: &View<'_>) -> Vec<Cell> {
    let name = o.text("spec.paramRef.name");
    let parameter = match () {
        () if !name.is_empty() => format!("{}/{name}", o.text_or("spec.paramRef.namespace", "*")),
        () if o.has("spec.paramRef.selector") => selector_as_go(o, "spec.paramRef.selector"),
        () => "<unset>".to_owned(),
    };
    vec![o.name().into(), o.text("spec.policyName").into(), parameter.into(), o.age().into()]
}

pub(super) fn custom_resource_definition(o: &View<'_>) -> Vec<Cell> {
    let served = o.items("spec.versions").into_iter().filter(|v| v.flag("served"));
    let mut versions: Vec<String> = served
        .map(|v| format!("{}{}", v.text("name"), if v.flag("storage") { "(storage)" } else { "" }))
        .collect();
    versions.sort();
    let established = |c: &View<'_>| c.text("type") == "Established" && c.text("status") == "True";
    vec![
        o.name().into(),
        o.text("spec.scope").into(),
        versions.join(",").into(),
        o.created().into(),
        o.text("spec.group").into(),
        o.text("spec.names.kind").into(),
        o.texts("spec.names.shortNames").join(",").into(),
        o.items("status.conditions").iter().any(established).into(),
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
        Some(c) if c.text("status") == "True" || c.text("reason").is_empty() => c.text("status").to_owned(),
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
    let added = if o.has("spec.taint.timeAdded") { o.since("spec.taint.timeAdded") } else { String::new() };
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
        if o.has("spec.distinguisherMethod") { o.text("spec.distinguisherMethod.type") } else { "<none>" }
            .into(),
        o.age().into(),
        o.condition("Dangling").map_or("?", |c| c.text("status")).into(),
    ]
}

pub(super) fn priority_level(o: &View<'_>) -> Vec<Cell> {
    let number = |of: &str, field: &str| -> Cell {
        if o.has(of) { o.int(&format!("{of}.{field}")).into() } else { "<none>".into() }
    };
    let queuing = "spec.limited.limitResponse.queuing";
    vec![
        o.name().into(),
        o.text("spec.type").into(),
        number("spec.limited", "nominalConcurrencyShares"),
        number(queuing, "queues"),
        number(queuing, "handSize"),
        number(queuing, "queueLengthLimit"),
        o.age().into(),
    ]
}

pub(super) fn migration(o: &View<'_>) -> Vec<Cell> {
    let conditions = o.items("status.conditions").into_iter().filter(|c| c.text("status") == "True");
    let mut states = conditions.map(|c| c.text("type")).rev();
    let state = states.find(|s| ["Running", "Failed", "Succeeded"].contains(s)).unwrap_or("Unknown");
    vec![o.name().into(), group_resource(o, "spec.resource").into(), state.into()]
}
