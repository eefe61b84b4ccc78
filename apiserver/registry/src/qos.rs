//! The QoS class of a pod. Upstream: `pkg/apis/core/helper/qos/qos.go`.

use machinery::{Quantity, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    BestEffort,
    Burstable,
    Guaranteed,
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Value) -> &'static str {
    let own = pod.get_path(&["spec", "resources"]).filter(|r| !r.is_null());
    let class = match own {
        Some(resources) => requirements(resources),
        None => of_containers(pod),
    };
    match class {
        Class::BestEffort => "BestEffort",
        Class::Burstable => "Burstable",
        Class::Guaranteed => "Guaranteed",
    }
}

fn of_containers(pod: &Value) -> Class {
    let all = ["initContainers", "containers"];
    let containers = all.iter().flat_map(|f| pod.list_at(&["spec", f])).flat_map(|l| l.iter());
    combine(containers.map(|c| requirements(c.get("resources").unwrap_or(&Value::Null))))
}

/// One class when all agree, else Burstable.
fn combine(classes: impl Iterator<Item = Class>) -> Class {
    let mut result = None;
    for class in classes {
        match result {
            _ if class == Class::Burstable => return class,
            None => result = Some(class),
            Some(r) if r != class => return Class::Burstable,
            Some(_) => {}
        }
    }
    result.unwrap_or(Class::BestEffort)
}

fn requirements(resources: &Value) -> Class {
    let empty = |f: &str| resources.get(f).and_then(Value::as_map).is_none_or(|m| m.is_empty());
    if empty("requests") && empty("limits") {
        return Class::BestEffort;
    }
    combine(["cpu", "memory"].iter().map(|name| one_resource(resources, name)))
}

fn one_resource(resources: &Value, name: &str) -> Class {
    let amount = |f: &str| {
        let text = resources.str_at(&[f, name])?;
        Quantity::parse(text).ok().filter(|q| !q.is_zero())
    };
    match (amount("requests"), amount("limits")) {
        (None, None) => Class::BestEffort,
        (Some(request), Some(limit)) if request == limit => Class::Guaranteed,
        _ => Class::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}});
        let check = |resources: &[serde_json::Value], want: &str| {
            let containers: Vec<_> = resources.iter().map(|r| json!({"resources": r})).collect();
            assert_eq!(class(&Value::from(json!({"spec": {"containers": containers}}))), want);
        };
        check(&[json!({})], "BestEffort");
        check(std::slice::from_ref(&full), "Guaranteed");
        check(&[full, json!({})], "Burstable");
        check(&[json!({"requests": {"cpu": "1"}})], "Burstable");
        check(&[json!({"limits": {"cpu": "0"}})], "BestEffort");
    }
}
