//! Defaults of the autoscaling group. Upstream: pkg/apis/autoscaling/{v1,v2}/defaults.go.

use super::fields::{child, if_nil, items, peek, pointer};
use super::{Context, Function};
use machinery::{Map, Value};

pub(super) const FUNCTIONS: &[(&str, Function)] =
    &[("autoscaling/v1.HorizontalPodAutoscaler", v1), ("autoscaling/v2.HorizontalPodAutoscaler", v2)];

const CPU_UTILIZATION: i64 = 80;
const PERIOD_SECONDS: i64 = 15;

fn v1(m: &mut Map, _: &Context) {
    if_nil(child(m, "spec"), "minReplicas", 1);
}

fn v2(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    if_nil(spec, "minReplicas", 1);
    if items(spec, "metrics").is_empty() {
        spec.insert("metrics", vec![cpu_metric()]);
    }
    let Some(behavior) = pointer(spec, "behavior") else { return };
    let up = vec![policy("Pods", 4), policy("Percent", 100)];
    let down = vec![policy("Percent", 100)];
    let rules = |direction: &str, policies: Vec<Value>, behavior: &Map| {
        let mut rules = peek(behavior, direction);
        if_nil(&mut rules, "selectPolicy", "Max");
        // Scaling down waits as long as the controller's flag says.
        if direction == "scaleUp" {
            if_nil(&mut rules, "stabilizationWindowSeconds", 0);
        }
        if_nil(&mut rules, "policies", policies);
        rules
    };
    for (direction, policies) in [("scaleUp", up), ("scaleDown", down)] {
        let rules = rules(direction, policies, behavior);
        behavior.insert(direction, rules);
    }
}

fn cpu_metric() -> Value {
    let target = Map::from_iter([
        ("type", Value::from("Utilization")),
        ("averageUtilization", CPU_UTILIZATION.into()),
    ]);
    let resource = Map::from_iter([("name", Value::from("cpu")), ("target", target.into())]);
    Map::from_iter([("type", Value::from("Resource")), ("resource", resource.into())]).into()
}

fn policy(kind: &str, value: i64) -> Value {
    Map::from_iter([
        ("type", Value::from(kind)),
        ("value", value.into()),
        ("periodSeconds", PERIOD_SECONDS.into()),
    ])
    .into()
}
