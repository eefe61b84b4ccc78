//! Requests and huge page limits of a whole pod, from those of its containers.
//!
//! Upstream sets them when a pod is created, after mutating admission (registry/core/pod), or with the other
//! defaults if the gate PodLevelResourcesFixDefaulting is off. Upstream: `defaultPodRequests` and
//! `defaultHugePagePodLimits` in pkg/apis/core/v1/defaults.go, sums as in component-helpers/resource.

use crate::defaults::fields::{child, is_nil, items, peek, text};
use machinery::{Map, Quantity, Str, Value};
use std::collections::BTreeMap;

type Amounts = BTreeMap<Str, Quantity>;

const HUGE_PAGES: &str = "hugepages-";

/// Sets the defaults in a pod's spec. Nothing happens unless the pod has resources of its own.
pub fn set_defaults(spec: &mut Map) {
    if is_nil(spec, "resources") {
        return;
    }
    huge_page_limits(spec);
    requests(spec);
}

/// What a strategy completes in a new pod after admission (`pkg/api/pod/util.go` `DefaultPodLevelResources`).
pub fn complete(spec: &mut Map) {
    let own = peek(spec, "resources");
    if peek(&own, "requests").is_empty() && peek(&own, "limits").is_empty() {
        return;
    }
    huge_page_limits(spec);
    fill_requests(spec);
    fill_limits(spec);
}

/// What is asked for is limited to the containers' limits together, when all of them have one, and to no less than what
/// is asked for.
fn fill_limits(spec: &mut Map) {
    let own = peek(spec, "resources");
    let (limits, requests) = (peek(&own, "limits"), peek(&own, "requests"));
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    let everywhere = |name: &str| {
        let mut all = containers.iter().flat_map(|list| items(spec, list));
        all.all(|c| c.get_path(&["resources", "limits", name]).is_some_and(|v| !v.is_null()))
    };
    let supported = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES);
    let sums = sum(spec, "limits");
    let mut filled: Vec<(Str, String)> = Vec::new();
    for (name, request) in requests.iter().filter(|(name, _)| supported(name) && !limits.contains_key(name)) {
        let Some(sum) = sums.get(name).filter(|_| everywhere(name)) else { continue };
        let request = request.as_str().and_then(|text| Quantity::parse(text).ok());
        let more = request.filter(|request| request > sum);
        filled.push((name.clone(), more.unwrap_or_else(|| sum.clone()).to_string()));
    }
    for (name, amount) in filled {
        child(child(spec, "resources"), "limits").insert(name, amount);
    }
}

fn huge_page_limits(spec: &mut Map) {
    let own = peek(spec, "resources");
    let (limits, requests) = (peek(&own, "limits"), peek(&own, "requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, amount) in sum(spec, "limits") {
        let known = requests.contains_key(&name) || limits.contains_key(&name);
        if name.starts_with(HUGE_PAGES) && !known {
            child(child(spec, "resources"), "limits").insert(name, amount.to_string());
        }
    }
}

fn requests(spec: &mut Map) {
    if !peek(&peek(spec, "resources"), "limits").is_empty() {
        fill_requests(spec);
    }
}

fn fill_requests(spec: &mut Map) {
    let limits = peek(&peek(spec, "resources"), "limits");
    let mut requests = peek(&peek(spec, "resources"), "requests");
    for (name, amount) in sum(spec, "requests") {
        // Huge pages are supported for pods, but cannot be overcommitted.
        if matches!(name.as_str(), "cpu" | "memory") && !requests.contains_key(&name) {
            requests.insert(name, amount.to_string());
        }
    }
    for (name, amount) in &limits {
        let supported = matches!(name.as_str(), "cpu" | "memory") || name.starts_with(HUGE_PAGES);
        if supported && !requests.contains_key(name) {
            requests.insert(name.clone(), amount.clone());
        }
    }
    if !requests.is_empty() {
        child(spec, "resources").insert("requests", requests);
    }
}

fn amounts(container: &Value, side: &str) -> Amounts {
    let list = container.get_path(&["resources", side]).and_then(Value::as_map);
    let parse = |(k, v): (&Str, &Value)| Some((k.clone(), Quantity::parse(v.as_str()?).ok()?));
    list.into_iter().flatten().filter_map(parse).collect()
}

fn add(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        match to.get_mut(name) {
            Some(sum) => sum.add(amount),
            None => {
                to.insert(name.clone(), amount.clone());
            }
        }
    }
}

fn take_larger(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        match to.get_mut(name) {
            Some(have) if *have >= *amount => {}
            _ => {
                to.insert(name.clone(), amount.clone());
            }
        }
    }
}

/// What all containers need together: the larger of the running ones' sum and any init container's, where init
/// containers that keep running count for those after them.
fn sum(spec: &Map, side: &str) -> Amounts {
    let mut running = Amounts::new();
    for c in items(spec, "containers") {
        add(&mut running, &amounts(c, side));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for c in items(spec, "initContainers") {
        let mut needs = amounts(c, side);
        if c.as_map().is_some_and(|m| text(m, "restartPolicy") == "Always") {
            add(&mut running, &needs);
            add(&mut sidecars, &needs);
            needs = sidecars.clone();
        } else {
            add(&mut needs, &sidecars);
        }
        take_larger(&mut peak, &needs);
    }
    take_larger(&mut running, &peak);
    running
}
