//! What a pod asks for in sum. Upstream: `component-helpers/resource/helpers.go`.

use std::collections::BTreeMap;

use machinery::{Quantity, Value};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// The amounts of one list of a container's or the pod's resources.
pub fn list(owner: &Value, field: &str) -> Amounts {
    let map = owner.map_at(&["resources", field]);
    map.into_iter()
        .flat_map(|m| m.iter())
        .filter_map(|(k, v)| Some((k.to_string(), Quantity::parse(v.as_str()?).ok()?)))
        .collect()
}

/// Adds up.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        total.entry(name.clone()).or_insert_with(Quantity::zero).add(amount);
    }
}

/// The larger of each.
fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let present = total.get(name);
        if present.is_none_or(|p| greater(amount, p)) {
            total.insert(name.clone(), amount.clone());
        }
    }
}

/// Whether `a` is more than `b`.
pub fn greater(a: &Quantity, b: &Quantity) -> bool {
    let mut difference = a.clone();
    difference.sub(b);
    difference.sign() > 0
}

/// `requests` or `limits` of the whole pod: containers and sidecars together, or the largest init step, plus overhead;
/// pod-level amounts override.
pub fn total(pod: &Value, field: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in pod.list_at(&["spec", "containers"]).into_iter().flat_map(|l| l.iter()) {
        add(&mut total, &list(container, field));
    }
    let (mut sidecars, mut init) = (Amounts::new(), Amounts::new());
    for container in pod.list_at(&["spec", "initContainers"]).into_iter().flat_map(|l| l.iter()) {
        let mut step = list(container, field);
        if container.str_at(&["restartPolicy"]) == Some("Always") {
            add(&mut total, &step);
            add(&mut sidecars, &step);
            step = sidecars.clone();
        } else {
            add(&mut step, &sidecars);
        }
        raise(&mut init, &step);
    }
    raise(&mut total, &init);
    if let Some(spec) = pod.get("spec") {
        for (name, amount) in list(spec, field) {
            total.insert(name, amount);
        }
    }
    let overhead = pod.map_at(&["spec", "overhead"]);
    for (name, amount) in overhead.into_iter().flat_map(|m| m.iter()) {
        let Some(amount) = amount.as_str().and_then(|t| Quantity::parse(t).ok()) else { continue };
        // Overhead counts against a limit only where there is one.
        if field == "requests" || total.get(name.as_str()).is_some_and(|t| !t.is_zero()) {
            total.entry(name.to_string()).or_insert_with(Quantity::zero).add(&amount);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_steps_count_when_larger() {
        let container = |cpu: &str, restart: Option<&str>| json!({"restartPolicy": restart, "resources": {"requests": {"cpu": cpu}}});
        let pod = Value::from(json!({"spec": {
            "containers": [container("1", None), container("500m", None)],
            "initContainers": [container("250m", Some("Always")), container("2", None)]}}));
        assert_eq!(total(&pod, "requests")["cpu"].canonical(), "2250m");
    }
}
