//! Rows of the core group and of events, nodes, volumes and services.
//! Upstream: `pkg/printers/internalversion/printers.go`.

use std::collections::BTreeSet;

use serde_json::Value as Cell;

use super::view::{View, some_of};

pub(super) fn node(o: &View<'_>) -> Vec<Cell> {
    let ready = o.items("status.conditions").into_iter().rfind(|c| c.text("type") == "Ready");
    let mut status = match ready {
        Some(c) if c.text("status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if o.flag("spec.unschedulable") {
        status += ",SchedulingDisabled";
    }
    let mut roles: Vec<String> = Vec::new();
    for (key, value) in o.entries("metadata.labels") {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/").filter(|r| !r.is_empty()) {
            roles.push(role.to_owned());
        } else if key == "kubernetes.io/role" && !value.is_empty() {
            roles.push(value);
        }
    }
    roles.sort();
    roles.dedup();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let address = |kind: &str| {
        let all = o.items("status.addresses");
        all.iter().find(|a| a.text("type") == kind).map_or("<none>", |a| a.text("address"))
    };
    let mut kernel = o.text_or("status.nodeInfo.kernelVersion", "<unknown>").to_owned();
    let architecture = o.text("status.nodeInfo.architecture");
    if !architecture.is_empty() {
        kernel += &format!(" ({architecture})");
    }
    vec![
        o.name().into(),
        status.into(),
        roles.into(),
        o.age().into(),
        o.text("status.nodeInfo.kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        o.text_or("status.nodeInfo.osImage", "<unknown>").into(),
        kernel.into(),
        o.text_or("status.nodeInfo.containerRuntimeVersion", "<unknown>").into(),
    ]
}

/// What a load balancer answers at, each once, sorted.
pub(super) fn balancer_addresses<'a>(o: &View<'a>) -> Vec<&'a str> {
    let ingress = o.items("status.loadBalancer.ingress").into_iter();
    let addresses: BTreeSet<&str> = ingress.map(|i| i.text_or("ip", i.text("hostname"))).collect();
    addresses.into_iter().filter(|t| !t.is_empty()).collect()
}

fn external_ip(o: &View<'_>) -> String {
    let own = o.texts("spec.externalIPs");
    let balancer = balancer_addresses(o);
    match o.text("spec.type") {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => own.join(","),
        "LoadBalancer" if own.is_empty() && balancer.is_empty() => "<pending>".to_owned(),
        "LoadBalancer" => [balancer, own].concat().join(","),
        "ExternalName" => o.text("spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

pub(super) fn service(o: &View<'_>) -> Vec<Cell> {
    let port = |p: &View<'_>| match p.int("nodePort") {
        node if node > 0 => format!("{}:{node}/{}", p.int("port"), p.text("protocol")),
        _ => format!("{}/{}", p.int("port"), p.text("protocol")),
    };
    let ports: Vec<String> = o.items("spec.ports").iter().map(port).collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    vec![
        o.name().into(),
        o.text("spec.type").into(),
        o.texts("spec.clusterIPs").first().copied().unwrap_or("<none>").into(),
        external_ip(o).into(),
        ports.into(),
        o.age().into(),
        o.labels("spec.selector").into(),
    ]
}

pub(super) fn endpoints(o: &View<'_>) -> Vec<Cell> {
    let mut all = Vec::new();
    let subsets = o.items("subsets");
    for subset in &subsets {
        let addresses = subset.items("addresses");
        let ports = subset.items("ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(|a| a.text("ip").to_owned()));
        }
        for port in &ports {
            all.extend(addresses.iter().map(|a| {
                let ip = a.text("ip");
                if ip.contains(':') {
                    format!("[{ip}]:{}", port.int("port"))
                } else {
                    format!("{ip}:{}", port.int("port"))
                }
            }));
        }
    }
    let text = match all.len() {
        _ if subsets.is_empty() => "<none>".to_owned(),
        n if n > 3 => some_of(&all, 3),
        _ => all.join(","),
    };
    vec![o.name().into(), text.into(), o.age().into()]
}

pub(super) fn endpoint_slice(o: &View<'_>) -> Vec<Cell> {
    let port = |p: &View<'_>| p.show("port").or_else(|| p.show("name")).unwrap_or_else(|| "*".to_owned());
    let ports: Vec<String> = o.items("ports").iter().map(port).collect();
    let addresses: Vec<String> =
        o.items("endpoints").iter().flat_map(|e| e.texts("addresses")).map(str::to_owned).collect();
    vec![
        o.name().into(),
        o.text("addressType").into(),
        some_of(&ports, 3).into(),
        some_of(&addresses, 3).into(),
        o.age().into(),
    ]
}

pub(super) fn event(o: &View<'_>) -> Vec<Cell> {
    // events.k8s.io spells the same fields otherwise.
    let pick = |a: &str, b: &str| o.show(a).or_else(|| o.show(b)).unwrap_or_default();
    let time = |paths: [&str; 3]| paths.iter().find_map(|p| o.time(p));
    let first = time(["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]);
    let last = match o.has("series") {
        true => o.time("series.lastObservedTime"),
        false => time(["lastTimestamp", "deprecatedLastTimestamp", ""]).or(first),
    };
    let since = |at: Option<jiff::Timestamp>| at.map_or_else(|| "<unknown>".to_owned(), |at| o.ago(at));
    let count = match o.has("series") {
        true => o.int("series.count"),
        false => [o.int("count"), o.int("deprecatedCount"), 1].into_iter().find(|c| *c != 0).unwrap_or(1),
    };
    let kind = pick("involvedObject.kind", "regarding.kind").to_lowercase();
    let name = pick("involvedObject.name", "regarding.name");
    let target = if name.is_empty() { kind } else { format!("{kind}/{name}") };
    let said = |text: String, otherwise: String| if text.is_empty() { otherwise } else { text };
    let component = pick("source.component", "deprecatedSource.component");
    let component = said(component, pick("reportingComponent", "reportingController"));
    let host = said(pick("source.host", "deprecatedSource.host"), o.text("reportingInstance").to_owned());
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        since(last).into(),
        o.text("type").into(),
        o.text("reason").into(),
        target.into(),
        pick("involvedObject.fieldPath", "regarding.fieldPath").into(),
        source.into(),
        pick("message", "note").trim().into(),
        since(first).into(),
        count.into(),
        o.name().into(),
    ]
}

fn access_modes(modes: &[&str]) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let all: Vec<&str> = SHORT.iter().filter(|(long, _)| modes.contains(long)).map(|(_, s)| *s).collect();
    all.join(",")
}

/// The class annotation of old, else the field.
fn class<'a>(o: &View<'a>) -> &'a str {
    let annotation = o.entry("metadata.annotations", "volume.beta.kubernetes.io/storage-class");
    annotation.unwrap_or_else(|| o.text("spec.storageClassName"))
}

pub(super) fn volume(o: &View<'_>) -> Vec<Cell> {
    let claim = if o.has("spec.claimRef") {
        format!("{}/{}", o.text("spec.claimRef.namespace"), o.text("spec.claimRef.name"))
    } else {
        String::new()
    };
    vec![
        o.name().into(),
        o.text_or("spec.capacity.storage", "0").into(),
        access_modes(&o.texts("spec.accessModes")).into(),
        o.text("spec.persistentVolumeReclaimPolicy").into(),
        if o.deleting() { "Terminating" } else { o.text("status.phase") }.into(),
        claim.into(),
        class(o).into(),
        o.given("spec.volumeAttributesClassName", "<unset>").into(),
        o.text("status.reason").into(),
        o.age().into(),
        o.given("spec.volumeMode", "<unset>").into(),
    ]
}

pub(super) fn claim(o: &View<'_>) -> Vec<Cell> {
    let bound = !o.text("spec.volumeName").is_empty();
    let (capacity, modes) = if bound {
        (o.text_or("status.capacity.storage", "0"), access_modes(&o.texts("status.accessModes")))
    } else {
        ("", String::new())
    };
    vec![
        o.name().into(),
        if o.deleting() { "Terminating" } else { o.text("status.phase") }.into(),
        o.text("spec.volumeName").into(),
        capacity.into(),
        modes.into(),
        class(o).into(),
        o.given("spec.volumeAttributesClassName", "<unset>").into(),
        o.age().into(),
        o.given("spec.volumeMode", "<unset>").into(),
    ]
}

pub(super) fn quota(o: &View<'_>) -> Vec<Cell> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in o.entries("status.hard") {
        let used = o.entry("status.used", &name).unwrap_or("0");
        let text = format!("{name}: {used}/{hard}");
        if name.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
    }
    vec![o.name().into(), requests.join(", ").into(), limits.join(", ").into(), o.age().into()]
}

pub(super) fn component_status(o: &View<'_>) -> Vec<Cell> {
    let healthy = o.items("conditions").into_iter().find(|c| c.text("type") == "Healthy");
    let status = match healthy.map(|c| c.text("status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let text = |field: &str| healthy.map(|c| c.text(field)).unwrap_or_default();
    vec![o.name().into(), status.into(), text("message").into(), text("error").into()]
}
