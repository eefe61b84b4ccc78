//! The configuration with every default filled in, as `--write-config-to` and `/configz` show it.
//! Upstream: cmd/kube-scheduler/app/options/configfile.go, apis/config/v1/defaults.go.

use component::features::{Gate, Gates};
use serde_json::{Map, Value, json};

use super::{API_VERSION, KubeSchedulerConfiguration, KubeSchedulerProfile};
use crate::plugins::registry;

/// Extension points that a profile lists, beside `multiPoint`.
const POINTS: [&str; 15] = [
    "bind",
    "filter",
    "permit",
    "placementGenerate",
    "placementScore",
    "podGroupPostFilter",
    "postBind",
    "postFilter",
    "preBind",
    "preEnqueue",
    "preFilter",
    "preScore",
    "queueSort",
    "reserve",
    "score",
];

/// Plugins with arguments, and what those are by default.
fn defaults(gates: &Gates) -> [(&'static str, Value); 8] {
    let both = json!([{ "name": "cpu", "weight": 1 }, { "name": "memory", "weight": 1 }]);
    let shape = json!([{ "score": 10, "utilization": 0 }, { "score": 0, "utilization": 100 }]);
    let volumes = match gates.enabled(Gate::StorageCapacityScoring) {
        true => json!({ "bindTimeoutSeconds": 600, "shape": shape }),
        false => json!({ "bindTimeoutSeconds": 600 }),
    };
    [
        ("DefaultPreemption", json!({ "minCandidateNodesAbsolute": 100, "minCandidateNodesPercentage": 10 })),
        ("DynamicResources", json!({ "bindingTimeout": "10m0s", "filterTimeout": "10s" })),
        (
            "InterPodAffinity",
            json!({ "hardPodAffinityWeight": 1, "ignorePreferredTermsOfExistingPods": false }),
        ),
        ("NodeAffinity", json!({})),
        ("NodeResourcesBalancedAllocation", json!({ "resources": both })),
        ("NodeResourcesFit", json!({ "scoringStrategy": { "resources": both, "type": "LeastAllocated" } })),
        ("PodTopologySpread", json!({ "defaultingType": "System" })),
        ("VolumeBinding", volumes),
    ]
}

/// Fills in what `given` lacks.
fn fill(given: &mut Value, default: &Value) {
    match (given, default) {
        (Value::Object(given), Value::Object(default)) => {
            for (key, value) in default {
                fill(given.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (given, default) if given.is_null() => *given = default.clone(),
        _ => {}
    }
}

fn arguments(profile: &KubeSchedulerProfile, gates: &Gates) -> Vec<Value> {
    let mut list: Vec<(String, Value)> =
        profile.plugin_config.iter().map(|c| (c.name.clone(), c.args.clone())).collect();
    for (name, default) in defaults(gates) {
        let at = list.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
            list.push((name.to_string(), Value::Null));
            list.len() - 1
        });
        let args = &mut list[at].1;
        fill(args, &default);
        args["apiVersion"] = API_VERSION.into();
        args["kind"] = format!("{name}Args").into();
    }
    list.into_iter().map(|(name, args)| json!({ "args": args, "name": name })).collect()
}

fn plugins(profile: &KubeSchedulerProfile, gates: &Gates) -> Value {
    let mut points: Map<String, Value> = POINTS.iter().map(|p| ((*p).to_string(), json!({}))).collect();
    for (point, set) in &profile.plugins {
        let mut value = json!({});
        let list = |plugins: &[super::PluginRef]| -> Value {
            plugins.iter().map(|p| json!({ "name": p.name, "weight": p.weight })).collect()
        };
        if !set.enabled.is_empty() {
            value["enabled"] = list(&set.enabled);
        }
        if !set.disabled.is_empty() {
            value["disabled"] = list(&set.disabled);
        }
        points.insert(point.clone(), value);
    }
    let own = profile.plugins.get("multiPoint").cloned().unwrap_or_default();
    let multi = registry::multi_point(&own, gates);
    let enabled: Vec<Value> = multi.iter().map(|p| json!({ "name": p.name, "weight": p.weight })).collect();
    points.insert("multiPoint".into(), json!({ "enabled": enabled }));
    points.into()
}

/// The whole configuration.
pub fn written(config: &KubeSchedulerConfiguration, gates: &Gates) -> Value {
    let mut value = serde_json::to_value(config).unwrap_or_default();
    let profiles = config.profiles.iter().map(|profile| {
        let mut value = json!({
            "pluginConfig": arguments(profile, gates),
            "plugins": plugins(profile, gates),
            "schedulerName": profile.scheduler_name,
        });
        if let Some(percentage) = profile.percentage_of_nodes_to_score {
            value["percentageOfNodesToScore"] = percentage.into();
        }
        value
    });
    value["profiles"] = profiles.collect();
    let rate = f64::from(config.client_connection.qps);
    if rate.fract() == 0.0 {
        // A whole number is written as one.
        value["clientConnection"]["qps"] = (rate as i64).into();
    }
    let fields = value.as_object_mut();
    if let Some(fields) = fields {
        if config.extenders.is_empty() {
            fields.remove("extenders");
        }
        if !config.delay_cache_until_active {
            fields.remove("delayCacheUntilActive");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_upstreams() {
        let mut config = KubeSchedulerConfiguration::default();
        config.client_connection.kubeconfig = "/k.conf".into();
        config.leader_election.leader_elect = false;
        config.profiles =
            vec![KubeSchedulerProfile { scheduler_name: "default-scheduler".into(), ..Default::default() }];
        let text = machinery::yaml::parse(include_bytes!("data/default.yaml")).unwrap();
        let expected = serde_json::to_value(&text).unwrap();
        assert_eq!(written(&config, &Gates::default()), expected);
    }
}
