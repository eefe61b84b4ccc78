//! What is wrong with arguments of plugins. Upstream: apis/config/validation/validation_pluginargs.go.

use api::validation::content::{label_value, qualified_name};
use api::validation::field::{Bad, Error, Path, aggregate};
use component::features::{Gate, Gates};
use k8s_openapi::api::core::v1::{NodeSelectorTerm, TopologySpreadConstraint};
use machinery::labels::Operator;
use serde::de::DeserializeOwned;

use crate::model::node_operator;

use super::PluginConfig;
use super::args::{
    BalancedArgs, DynamicResourcesArgs, FitArgs, InterPodArgs, NodeAffinityArgs, PreemptionArgs,
    ResourceSpec, Shape, SpreadArgs, VolumeBindingArgs,
};

/// Checks the arguments of one plugin. Those of NodeResourcesFit are checked when it is made: [`fit_problems`].
pub fn args(path: &Path<'_>, config: &PluginConfig, gates: &Gates) -> Vec<Error> {
    match config.name.as_str() {
        "DefaultPreemption" => with(path, config, preemption),
        "DynamicResources" => with(path, config, |path, args| devices(path, config, args, gates)),
        "InterPodAffinity" => with(path, config, inter_pod),
        "NodeAffinity" => with(path, config, node_affinity),
        "NodeResourcesBalancedAllocation" => with(path, config, balanced),
        "PodTopologySpread" => with(path, config, spread),
        "VolumeBinding" => with(path, config, |path, args| volumes(path, config, args, gates)),
        _ => Vec::new(),
    }
}

fn with<T: DeserializeOwned + Default>(
    path: &Path<'_>,
    config: &PluginConfig,
    check: impl FnOnce(&Path<'_>, &T) -> Vec<Error>,
) -> Vec<Error> {
    if config.args.is_null() {
        return check(path, &T::default());
    }
    match T::deserialize(&config.args) {
        Ok(args) => check(path, &args),
        Err(e) => {
            vec![Error::invalid(path, &config.name, format!("decoding args for plugin {}: {e}", config.name))]
        }
    }
}

fn devices(path: &Path<'_>, config: &PluginConfig, args: &DynamicResourcesArgs, gates: &Gates) -> Vec<Error> {
    let mut errors = Vec::new();
    if !gates.enabled(Gate::DRASchedulerFilterTimeout) {
        if config.args.get("filterTimeout").is_some() {
            let detail = "DRASchedulingFilterTimeout feature gate is disabled";
            errors.push(Error::forbidden(&path.child("filterTimeout"), detail));
        }
    } else if args.filter_timeout.as_secs_f64() < 0.0 {
        let timeout = args.filter_timeout.to_string();
        errors.push(Error::invalid(&path.child("filterTimeout"), timeout, "must be zero or positive"));
    }
    let waits = [Gate::DRADeviceBindingConditions, Gate::DRAResourceClaimDeviceStatus];
    if !waits.iter().all(|gate| gates.enabled(*gate)) {
        if config.args.get("bindingTimeout").is_some() {
            let detail =
                "DRADeviceBindingConditions or DRAResourceClaimDeviceStatus feature gate is disabled";
            errors.push(Error::forbidden(&path.child("bindingTimeout"), detail));
        }
    } else if args.binding_timeout.as_secs_f64() < 1.0 {
        let timeout = args.binding_timeout.to_string();
        errors.push(Error::invalid(&path.child("bindingTimeout"), timeout, "must be at least 1 second"));
    }
    errors
}

fn preemption(path: &Path<'_>, args: &PreemptionArgs) -> Vec<Error> {
    let (percentage, absolute) =
        (path.child("minCandidateNodesPercentage"), path.child("minCandidateNodesAbsolute"));
    let mut errors = Vec::new();
    if !(0..=100).contains(&args.min_candidate_nodes_percentage) {
        errors.push(Error::invalid(
            &percentage,
            args.min_candidate_nodes_percentage,
            "not in valid range [0, 100]",
        ));
    }
    if args.min_candidate_nodes_absolute < 0 {
        errors.push(Error::invalid(
            &absolute,
            args.min_candidate_nodes_absolute,
            "not in valid range [0, inf)",
        ));
    }
    if args.min_candidate_nodes_percentage == 0 && args.min_candidate_nodes_absolute == 0 {
        let zero = |other: &str| format!("cannot be zero at the same time as {other}");
        errors.push(Error::invalid(&percentage, 0_i64, zero("minCandidateNodesAbsolute")));
        errors.push(Error::invalid(&absolute, 0_i64, zero("minCandidateNodesPercentage")));
    }
    errors
}

fn inter_pod(path: &Path<'_>, args: &InterPodArgs) -> Vec<Error> {
    let weight = args.hard_pod_affinity_weight;
    let path = path.child("hardPodAffinityWeight");
    let wrong = !(0..=100).contains(&weight);
    wrong.then(|| Error::invalid(&path, weight, "not in valid range [0, 100]")).into_iter().collect()
}

/// Upstream: ValidateNodeAffinityArgs.
fn node_affinity(path: &Path<'_>, args: &NodeAffinityArgs) -> Vec<Error> {
    let Some(added) = &args.added_affinity else { return Vec::new() };
    let path = path.child("addedAffinity");
    let mut errors = Vec::new();
    if let Some(required) = &added.required_during_scheduling_ignored_during_execution {
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        let list = path.child("nodeSelectorTerms");
        for (i, term) in required.node_selector_terms.iter().enumerate() {
            errors.extend(node_term(&list.index(i), term));
        }
    }
    let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    let preferred = added.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (i, term) in preferred.enumerate().filter(|(_, t)| t.weight != 0) {
        errors.extend(node_term(&list.index(i), &term.preference));
    }
    errors
}

/// Upstream: component-helpers/scheduling/corev1/nodeaffinity newNodeSelectorTerm.
fn node_term(path: &Path<'_>, term: &NodeSelectorTerm) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = path.child("matchExpressions");
    for (i, own) in term.match_expressions.iter().flatten().enumerate() {
        let item = list.index(i);
        match node_operator(&own.operator) {
            None => errors.push(Error::not_supported(
                &item.child("operator"),
                &own.operator,
                &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
            )),
            Some(operator) => errors.extend(expression(&item, &own.key, operator, own.values.as_deref())),
        }
    }
    let list = path.child("matchFields");
    for (i, own) in term.match_fields.iter().flatten().enumerate() {
        let item = list.index(i);
        let values = own.values.as_deref().unwrap_or_default();
        if !matches!(own.operator.as_str(), "In" | "NotIn") {
            errors.push(Error::not_supported(&item.child("operator"), &own.operator, &["In", "NotIn"]));
        } else if values.len() != 1 {
            let bad = Bad::json(&own.values);
            errors.push(Error::invalid(&item.child("values"), bad, "must have one element"));
        }
    }
    errors
}

/// Upstream: apimachinery/pkg/labels NewRequirement.
fn expression(path: &Path<'_>, key: &str, operator: Operator, values: Option<&[String]>) -> Vec<Error> {
    let mut errors = label_name(&path.child("key"), key);
    let (list, given) = (path.child("values"), values.unwrap_or_default());
    let mut wrong = |detail: &str| errors.push(Error::invalid(&list, Bad::json(&values), detail));
    match operator {
        Operator::In | Operator::NotIn if given.is_empty() => {
            wrong("for 'in', 'notin' operators, values set can't be empty");
        }
        Operator::Exists | Operator::DoesNotExist if !given.is_empty() => {
            wrong("values set must be empty for exists and does not exist");
        }
        Operator::GreaterThan | Operator::LessThan => {
            if given.len() != 1 {
                wrong("for 'Gt', 'Lt' operators, exactly one value is required");
            }
            for (i, value) in given.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(Error::invalid(&list.index(i), value, detail));
            }
        }
        _ => {}
    }
    for (i, value) in given.iter().enumerate() {
        let item = list.index(i);
        let wrong = label_value(value);
        if !wrong.is_empty() {
            errors.push(Error::invalid(&item.key(key), value, wrong.join("; ")));
        }
    }
    errors
}

fn balanced(path: &Path<'_>, args: &BalancedArgs) -> Vec<Error> {
    let list = path.child("resources");
    let mut errors = Vec::new();
    for (i, resource) in args.resources.iter().enumerate() {
        let item = list.index(i);
        if args.resources[..i].iter().any(|r| r.name == resource.name) {
            errors.push(Error::duplicate(&item.child("name"), &resource.name));
        }
        // 0 is the default, 1.
        if !(0..=1).contains(&resource.weight) {
            errors.push(Error::invalid(&item.child("weight"), resource.weight, "must be 1"));
        }
    }
    errors
}

fn volumes(path: &Path<'_>, config: &PluginConfig, args: &VolumeBindingArgs, gates: &Gates) -> Vec<Error> {
    let mut errors = Vec::new();
    if args.bind_timeout_seconds < 0 {
        let detail = "invalid BindTimeoutSeconds, should not be a negative value";
        errors.push(Error::invalid(&path.child("bindTimeoutSeconds"), args.bind_timeout_seconds, detail));
    }
    let (path, own) = (path.child("shape"), config.args.get("shape"));
    let listed = own.and_then(|s| s.as_array()).is_some_and(|s| !s.is_empty());
    if gates.enabled(Gate::StorageCapacityScoring) {
        // An empty list is as good as none.
        errors.extend(if listed { shape(&path, &args.shape) } else { Vec::new() });
    } else if own.is_some() {
        let detail = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
        let point = |p: &Shape| format!("{{\"Utilization\":{},\"Score\":{}}}", p.utilization, p.score);
        let points: Vec<String> = args.shape.iter().map(point).collect();
        errors.push(Error::invalid(&path, Bad::Raw(format!("[{}]", points.join(","))), detail));
    }
    errors
}

fn label_name(path: &Path<'_>, name: &str) -> Vec<Error> {
    qualified_name(name).into_iter().map(|m| Error::invalid(path, name, m)).collect()
}

/// What is wrong with the arguments of NodeResourcesFit, in one text. Upstream: ValidateNodeResourcesFitArgs, which
/// nothing but the plugin calls.
pub fn fit_problems(args: &FitArgs) -> Option<String> {
    let errors = fit(args);
    (!errors.is_empty()).then(|| aggregate(&errors))
}

fn fit(args: &FitArgs) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = Path::new("ignoredResources");
    for (i, name) in args.ignored_resources.iter().enumerate() {
        errors.extend(label_name(&list.index(i), name));
    }
    let list = Path::new("ignoredResourceGroups");
    for (i, group) in args.ignored_resource_groups.iter().enumerate() {
        let item = list.index(i);
        if group.contains('/') {
            errors.push(Error::invalid(&item, group, "resource group name can't contain '/'"));
        }
        errors.extend(label_name(&item, group));
    }
    let root = Path::new("scoringStrategy");
    let Some(strategy) = &args.scoring_strategy else { return errors };
    const KINDS: [&str; 3] = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];
    if !KINDS.contains(&strategy.kind.as_str()) {
        errors.push(Error::not_supported(&root.child("type"), &strategy.kind, &KINDS));
    }
    errors.extend(resources(&root.child("resources"), &strategy.resources));
    let ratio = root.child("requestedToCapacityRatio");
    match (strategy.kind.as_str(), &strategy.requested_to_capacity_ratio) {
        ("RequestedToCapacityRatio", None) => {
            errors.push(Error::required(&ratio, "must be specified when type is RequestedToCapacityRatio"));
        }
        ("RequestedToCapacityRatio", Some(param)) => {
            errors.extend(shape(&ratio.child("shape"), &param.shape))
        }
        (_, Some(_)) => {
            errors.push(Error::forbidden(&ratio, "must be nil when type is not RequestedToCapacityRatio"));
        }
        (_, None) => {}
    }
    errors
}

fn resources(path: &Path<'_>, resources: &[ResourceSpec]) -> Vec<Error> {
    let wrong = resources.iter().enumerate().filter(|(_, r)| !(0..=100).contains(&r.weight));
    let error = |(i, r): (usize, &ResourceSpec)| {
        let detail = format!("resource weight of {} not in valid range (0, 100]", r.name);
        Error::invalid(&path.index(i).child("weight"), r.weight, detail)
    };
    wrong.map(error).collect()
}

/// Upstream: validateFunctionShape.
fn shape(path: &Path<'_>, shape: &[Shape]) -> Vec<Error> {
    if shape.is_empty() {
        return vec![Error::required(path, "at least one point must be specified")];
    }
    let mut errors = Vec::new();
    let unsorted = (1..shape.len()).find(|i| shape[i - 1].utilization >= shape[*i].utilization);
    if let Some(i) = unsorted {
        let detail = "values must be sorted in increasing order";
        errors.push(Error::invalid(&path.index(i).child("utilization"), shape[i].utilization, detail));
    }
    for (i, point) in shape.iter().enumerate() {
        let item = path.index(i);
        if !(0..=100).contains(&point.utilization) {
            errors.push(Error::invalid(
                &item.child("utilization"),
                point.utilization,
                "not in valid range [0, 100]",
            ));
        }
        if !(0..=10).contains(&point.score) {
            errors.push(Error::invalid(&item.child("score"), point.score, "not in valid range [0, 10]"));
        }
    }
    errors
}

fn spread(path: &Path<'_>, args: &SpreadArgs) -> Vec<Error> {
    let mut errors = Vec::new();
    let (kind, field) = (args.defaulting_type.as_str(), path.child("defaultingType"));
    match kind {
        "" | "System" if !args.default_constraints.is_empty() => {
            errors.push(Error::invalid(&field, "System", "when .defaultConstraints are not empty"));
        }
        "" | "System" | "List" => {}
        other => errors.push(Error::not_supported(&field, other, &["System", "List"])),
    }
    let list = path.child("defaultConstraints");
    for (i, constraint) in args.default_constraints.iter().enumerate() {
        errors.extend(default_constraint(&list.index(i), constraint));
        let before = &args.default_constraints[..i];
        let same = |o: &TopologySpreadConstraint| {
            o.topology_key == constraint.topology_key && o.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if before.iter().any(same) {
            let value = format!("{{{}, {}}}", constraint.topology_key, constraint.when_unsatisfiable);
            errors.push(Error::duplicate(&list.index(i), value));
        }
    }
    errors
}

fn default_constraint(path: &Path<'_>, constraint: &TopologySpreadConstraint) -> Vec<Error> {
    let mut errors = Vec::new();
    if constraint.max_skew <= 0 {
        errors.push(Error::invalid(
            &path.child("maxSkew"),
            constraint.max_skew,
            "not in valid range (0, inf)",
        ));
    }
    let key = path.child("topologyKey");
    if constraint.topology_key.is_empty() {
        errors.push(Error::required(&key, "can not be empty"));
    } else {
        errors.extend(label_name(&key, &constraint.topology_key));
    }
    let action = path.child("whenUnsatisfiable");
    match constraint.when_unsatisfiable.as_str() {
        "" => errors.push(Error::required(&action, "can not be empty")),
        "DoNotSchedule" | "ScheduleAnyway" => {}
        other => errors.push(Error::not_supported(&action, other, &["DoNotSchedule", "ScheduleAnyway"])),
    }
    if constraint.label_selector.is_some() {
        let detail = "constraint must not define a selector, as they deduced for each pod";
        errors.push(Error::forbidden(&path.child("labelSelector"), detail));
    }
    errors
}
