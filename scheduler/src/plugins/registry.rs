//! From a profile's configuration to its plugins. Upstream: apis/config/v1/default_plugins.go,
//! framework/runtime/framework.go expandMultiPointPlugins.

use std::sync::Arc;

use component::features::{Gate, Gates};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::*;
use crate::config::{
    BalancedArgs, DynamicResourcesArgs, FitArgs, InterPodArgs, KubeSchedulerProfile, NodeAffinityArgs,
    PluginRef, PluginSet, PreemptionArgs, ResourceSpec, SpreadArgs, VolumeBindingArgs,
};
use crate::framework::{Plugin, Points, Profile};
use node_resources_fit::{NodeResourcesFit, Strategy};

/// Extension points of which plugins here can have code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Point {
    PreEnqueue,
    PreFilter,
    Filter,
    PreScore,
    Score,
    PostFilter,
    PodGroupPostFilter,
    /// Queue order and binding: there is one plugin for each, which cannot be replaced.
    Fixed,
}

impl Point {
    const ALL: [(Point, &'static str); 7] = [
        (Point::PreEnqueue, "preEnqueue"),
        (Point::PreFilter, "preFilter"),
        (Point::Filter, "filter"),
        (Point::PreScore, "preScore"),
        (Point::Score, "score"),
        (Point::PostFilter, "postFilter"),
        (Point::PodGroupPostFilter, "podGroupPostFilter"),
    ];
}

use Point::{Filter, Fixed, PodGroupPostFilter, PostFilter, PreEnqueue, PreFilter, PreScore, Score};

/// A plugin: its name, its weight, and the extension points at which it has code.
type Known = (&'static str, i64, &'static [Point]);

/// Upstream's plugins in the order in which they are on by default.
const PLUGINS: &[Known] = &[
    ("SchedulingGates", 0, &[PreEnqueue]),
    ("PrioritySort", 0, &[Fixed]),
    ("NodeName", 0, &[PreFilter, Filter]),
    ("NodeUnschedulable", 0, &[Filter]),
    ("TaintToleration", 3, &[Filter, PreScore, Score]),
    ("NodeAffinity", 2, &[PreFilter, Filter, PreScore, Score]),
    ("NodePorts", 0, &[PreFilter, Filter]),
    ("NodeResourcesFit", 1, &[PreFilter, Filter, PreScore, Score]),
    ("VolumeRestrictions", 0, &[PreFilter, Filter]),
    ("NodeVolumeLimits", 0, &[PreFilter, Filter]),
    ("VolumeBinding", 0, &[PreFilter, Filter, PreScore, Score]),
    ("VolumeZone", 0, &[PreFilter, Filter]),
    ("PodTopologySpread", 2, &[PreFilter, Filter, PreScore, Score]),
    ("InterPodAffinity", 2, &[PreFilter, Filter, PreScore, Score]),
    ("DynamicResources", 2, &[PreEnqueue, PreFilter, Filter, PostFilter, Score]),
    ("DefaultPreemption", 0, &[PostFilter, PodGroupPostFilter]),
    ("NodeResourcesBalancedAllocation", 1, &[PreScore, Score]),
    ("ImageLocality", 1, &[Score]),
    ("DefaultBinder", 0, &[Fixed]),
    ("NodeDeclaredFeatures", 0, &[PreFilter, Filter]),
    ("GangScheduling", 0, &[PreEnqueue]),
];

/// Plugins that are on by default only with a gate.
const GATED: &[(&str, Gate)] =
    &[("NodeDeclaredFeatures", Gate::NodeDeclaredFeatures), ("GangScheduling", Gate::GenericWorkload)];

fn known(name: &str) -> Option<&'static Known> {
    PLUGINS.iter().find(|(n, _, _)| *n == name)
}

fn defaults(gates: &Gates) -> impl Iterator<Item = &'static Known> {
    let off = |name: &str| GATED.iter().any(|(n, gate)| *n == name && !gates.enabled(*gate));
    PLUGINS.iter().filter(move |(name, _, _)| !off(name))
}

fn resources(mut given: Vec<ResourceSpec>) -> Vec<ResourceSpec> {
    if given.is_empty() {
        given = ["cpu", "memory"].map(|n| ResourceSpec { name: n.into(), weight: 1 }).into();
    }
    given.iter_mut().filter(|r| r.weight == 0).for_each(|r| r.weight = 1);
    given
}

fn system_defaults() -> Vec<TopologySpreadConstraint> {
    [("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5)]
        .map(|(key, skew)| TopologySpreadConstraint {
            max_skew: skew,
            topology_key: key.into(),
            when_unsatisfiable: "ScheduleAnyway".into(),
            ..TopologySpreadConstraint::default()
        })
        .into()
}

fn make(
    name: &str,
    profile: &KubeSchedulerProfile,
    gates: &Gates,
) -> Result<Option<Arc<dyn Plugin>>, String> {
    Ok(Some(match name {
        "SchedulingGates" => Arc::new(scheduling_gates::SchedulingGates),
        "NodeName" => Arc::new(node_name::NodeName),
        "NodeUnschedulable" => Arc::new(node_unschedulable::NodeUnschedulable),
        "TaintToleration" => Arc::new(taint_toleration::TaintToleration),
        "NodeAffinity" => {
            let args: NodeAffinityArgs = profile.args(name)?;
            Arc::new(node_affinity::NodeAffinity::new(args.added_affinity.as_ref()))
        }
        "NodePorts" => Arc::new(node_ports::NodePorts),
        "NodeResourcesFit" => Arc::new(fit(profile.args(name)?)?),
        "VolumeRestrictions" => Arc::new(volume_restrictions::VolumeRestrictions),
        "NodeVolumeLimits" => Arc::new(node_volume_limits::NodeVolumeLimits),
        "VolumeBinding" => {
            let args: VolumeBindingArgs = profile.args(name)?;
            // Without the gate nothing is ranked. Upstream: volumebinding.New.
            let ranks = gates.enabled(Gate::StorageCapacityScoring);
            let own = profile.plugin_config.iter().find(|c| c.name == name);
            if !ranks && own.is_some_and(|c| c.args.get("shape").is_some()) {
                let text = "shape: unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
                return Err(text.into());
            }
            Arc::new(volume_binding::VolumeBinding { shape: if ranks { args.shape } else { Vec::new() } })
        }
        "NodeDeclaredFeatures" => Arc::new(node_declared_features::NodeDeclaredFeatures),
        "VolumeZone" => Arc::new(volume_zone::VolumeZone),
        "PodTopologySpread" => {
            let args: SpreadArgs = profile.args(name)?;
            let system = matches!(args.defaulting_type.as_str(), "" | "System");
            Arc::new(pod_topology_spread::PodTopologySpread {
                defaults: if system { system_defaults() } else { args.default_constraints },
                system_defaults: system,
            })
        }
        "InterPodAffinity" => {
            let args: InterPodArgs = profile.args(name)?;
            Arc::new(inter_pod_affinity::InterPodAffinity {
                hard_weight: args.hard_pod_affinity_weight,
                ignore_preferred_of_existing: args.ignore_preferred_terms_of_existing_pods,
            })
        }
        "DynamicResources" => Arc::new(dynamic_resources::DynamicResources::new(profile.args(name)?)),
        "NodeResourcesBalancedAllocation" => {
            let args: BalancedArgs = profile.args(name)?;
            Arc::new(balanced_allocation::BalancedAllocation { resources: resources(args.resources) })
        }
        "ImageLocality" => Arc::new(image_locality::ImageLocality),
        gang_scheduling::NAME => Arc::new(gang_scheduling::GangScheduling),
        _ => return Ok(None),
    }))
}

fn fit(args: FitArgs) -> Result<NodeResourcesFit, String> {
    let strategy = match args.scoring_strategy.kind.as_str() {
        "" | "LeastAllocated" => Strategy::Least,
        "MostAllocated" => Strategy::Most,
        "RequestedToCapacityRatio" => {
            Strategy::Ratio(args.scoring_strategy.requested_to_capacity_ratio.unwrap_or_default().shape)
        }
        other => return Err(format!("scoringStrategy.type: Unsupported value: {other:?}")),
    };
    Ok(NodeResourcesFit {
        strategy,
        resources: resources(args.scoring_strategy.resources),
        ignored: args.ignored_resources,
        ignored_groups: args.ignored_resource_groups,
    })
}

/// The default plugins with a profile's changes to them.
pub fn multi_point(custom: &PluginSet, gates: &Gates) -> Vec<PluginRef> {
    let off = |name: &str| custom.disabled.iter().any(|d| d.name == name || d.name == "*");
    let defaults = defaults(gates).filter(|(n, _, _)| !off(n)).map(|(name, weight, _)| {
        let own = custom.enabled.iter().find(|e| e.name == *name).cloned();
        own.unwrap_or_else(|| PluginRef { name: (*name).into(), weight: *weight })
    });
    let mut all: Vec<PluginRef> = defaults.collect();
    let more = custom.enabled.iter().filter(|e| !all.iter().any(|a| a.name == e.name));
    let more: Vec<PluginRef> = more.cloned().collect();
    all.extend(more);
    all
}

/// Extension points in upstream's order, with the names of their types.
const TYPES: [(&str, &str); 15] = [
    ("preFilter", "PreFilterPlugin"),
    ("filter", "FilterPlugin"),
    ("postFilter", "PostFilterPlugin"),
    ("reserve", "ReservePlugin"),
    ("preScore", "PreScorePlugin"),
    ("score", "ScorePlugin"),
    ("preBind", "PreBindPlugin"),
    ("bind", "BindPlugin"),
    ("postBind", "PostBindPlugin"),
    ("permit", "PermitPlugin"),
    ("preEnqueue", "PreEnqueuePlugin"),
    ("queueSort", "QueueSortPlugin"),
    ("placementGenerate", "PlacementGeneratePlugin"),
    ("placementScore", "PlacementScorePlugin"),
    ("podGroupPostFilter", "PodGroupPostFilterPlugin"),
];

/// Plugins that do not exist, and points without the one plugin they need. Upstream: updatePluginList,
/// expandMultiPointPlugins, NewFramework.
fn unknown(profile: &KubeSchedulerProfile) -> Vec<String> {
    let name = &profile.scheduler_name;
    let say =
        |text: String| format!("initializing profiles: creating profile for scheduler name {name}: {text}");
    let mut problems = Vec::new();
    for (key, kind) in TYPES {
        let missing = profile.plugins.get(key).into_iter().flat_map(|s| &s.enabled);
        let missing = missing.filter(|p| known(&p.name).is_none());
        problems.extend(missing.map(|p| say(format!("{kind} {:?} does not exist", p.name))));
    }
    let multi = profile.plugins.get("multiPoint").into_iter().flat_map(|s| &s.enabled);
    let missing = multi.filter(|p| known(&p.name).is_none());
    problems.extend(missing.map(|p| say(format!("PreFilterPlugin {:?} does not exist", p.name))));
    let gone = |point: &str, plugin: &str| {
        let off = |key: &str, set: &str| {
            profile.plugins.get(key).is_some_and(|s| s.disabled.iter().any(|d| d.name == set))
        };
        let on =
            |key: &str| profile.plugins.get(key).is_some_and(|s| s.enabled.iter().any(|e| e.name == plugin));
        let all =
            off(point, "*") || off(point, plugin) || off("multiPoint", plugin) || off("multiPoint", "*");
        all && !on(point) && !on("multiPoint")
    };
    if gone("queueSort", "PrioritySort") {
        problems.push(say(format!(
            "only one queue sort plugin required for profile with scheduler name {name:?}, but got 0"
        )));
    }
    if gone("bind", "DefaultBinder") {
        problems.push(say(format!(
            "at least one bind plugin is needed for profile with scheduler name {name:?}"
        )));
    }
    problems
}

/// Builds a profile.
///
/// # Errors
/// Everything that is wrong with it.
pub fn build(profile: &KubeSchedulerProfile, percentage: i32, gates: &Gates) -> Result<Profile, Vec<String>> {
    let mut problems = Vec::new();
    let at = |name: &str| profile.plugins.get(name).cloned().unwrap_or_default();
    let multi = multi_point(&at("multiPoint"), gates);
    problems.extend(unknown(profile));
    let mut points = Points::default();
    for (point, key) in Point::ALL {
        let set = at(key);
        let has = |p: &PluginRef| known(&p.name).is_some_and(|(_, _, points)| points.contains(&point));
        let off = |name: &str| set.disabled.iter().any(|d| d.name == name || d.name == "*");
        let own = |name: &str| set.enabled.iter().find(|e| e.name == name);
        let overriding = multi.iter().filter_map(|m| own(&m.name));
        let rest = multi.iter().filter(|m| own(&m.name).is_none() && !off(&m.name));
        let more = set.enabled.iter().filter(|e| !multi.iter().any(|m| m.name == e.name));
        for plugin in overriding.chain(rest).chain(more).filter(|p| has(p)) {
            if point == PodGroupPostFilter {
                points.group_preemption = true;
                continue;
            }
            if point == PostFilter {
                match plugin.name.as_str() {
                    "DynamicResources" => points.resources = true,
                    _ => points.preemption = true,
                }
                continue;
            }
            let made = match make(&plugin.name, profile, gates) {
                Ok(Some(made)) => made,
                Ok(None) => continue,
                Err(problem) => {
                    problems.push(format!("profile {}: {problem}", profile.scheduler_name));
                    continue;
                }
            };
            match point {
                PreEnqueue => points.pre_enqueue.push(made),
                PreFilter => points.pre_filter.push(made),
                Filter => points.filter.push(made),
                PreScore => {
                    points.pre_score.insert(made.name());
                }
                Score => points.score.push((made, if plugin.weight == 0 { 1 } else { plugin.weight })),
                PostFilter | PodGroupPostFilter | Fixed => {}
            }
        }
    }
    if gates.enabled(Gate::GenericWorkload) {
        let mut sets = profile.plugins.values().flat_map(|s| &s.enabled).chain(&multi);
        if sets.any(|p| p.name == gang_scheduling::NAME) {
            points.placement_feasible.push(Arc::new(gang_scheduling::GangScheduling));
        } else {
            tracing::error!(
                "GenericWorkload is enabled, but GangScheduling plugin is not set. Gang scheduling using PodGroups may not work as expected."
            );
        }
    }
    let args: PreemptionArgs = profile.args("DefaultPreemption").unwrap_or_else(|problem| {
        problems.push(problem);
        PreemptionArgs::default()
    });
    if !problems.is_empty() {
        problems.sort();
        problems.dedup();
        return Err(problems);
    }
    let volumes: VolumeBindingArgs = profile.args("VolumeBinding").unwrap_or_default();
    let devices: DynamicResourcesArgs = profile.args("DynamicResources").unwrap_or_default();
    Ok(Profile {
        device_timeout: devices.binding_timeout.to_std(),
        bind_timeout: std::time::Duration::from_secs(
            u64::try_from(volumes.bind_timeout_seconds).unwrap_or(0),
        ),
        scheduler_name: profile.scheduler_name.clone(),
        points,
        percentage: profile.percentage_of_nodes_to_score.unwrap_or(percentage),
        preemption: crate::preemption::Settings {
            percentage: args.min_candidate_nodes_percentage,
            absolute: args.min_candidate_nodes_absolute,
        },
    })
}
