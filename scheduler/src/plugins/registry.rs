//! From a profile's configuration to its plugins. Upstream: apis/config/v1/default_plugins.go,
//! framework/runtime/framework.go expandMultiPointPlugins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use component::features::{Gate, Gates};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::*;
use crate::config::{
    BalancedArgs, DynamicResourcesArgs, FitArgs, InterPodArgs, KubeSchedulerProfile, NodeAffinityArgs,
    PluginRef, PluginSet, PreemptionArgs, ResourceSpec, SpreadArgs, VolumeBindingArgs, fit_problems,
};
use crate::framework::{GroupPostFilter, Plugin, Points, Profile};
use node_resources_fit::{NodeResourcesFit, Strategy};
use points::{Known, PLUGINS, Point};

/// Plugins that are on by default only with a gate.
const GATED: &[(&str, Gate)] = &[
    (deferred_pod_scheduling::NAME, Gate::InPlacePodVerticalScalingSchedulerPreemption),
    ("NodeDeclaredFeatures", Gate::NodeDeclaredFeatures),
    (gang_scheduling::NAME, Gate::GenericWorkload),
    (topology_aware::NAME, Gate::TopologyAwareWorkloadScheduling),
    (pod_group_pods_count::NAME, Gate::TopologyAwareWorkloadScheduling),
];

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
        "NodeVolumeLimits" => Arc::new(node_volume_limits::NodeVolumeLimits {
            drivers_must_run: gates.enabled(Gate::VolumeLimitScaling),
        }),
        "VolumeBinding" => {
            let args: VolumeBindingArgs = profile.args(name)?;
            // Without the gate nothing is ranked. Upstream: volumebinding.New.
            let ranks = gates.enabled(Gate::StorageCapacityScoring);
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
        "DynamicResources" => Arc::new(dynamic_resources::DynamicResources::new(profile.args(name)?, gates)),
        "NodeResourcesBalancedAllocation" => {
            let args: BalancedArgs = profile.args(name)?;
            Arc::new(balanced_allocation::BalancedAllocation { resources: resources(args.resources) })
        }
        "ImageLocality" => Arc::new(image_locality::ImageLocality),
        gang_scheduling::NAME => Arc::new(gang_scheduling::GangScheduling),
        deferred_pod_scheduling::NAME => Arc::new(deferred_pod_scheduling::DeferredPodScheduling),
        topology_aware::NAME => Arc::new(topology_aware::TopologyPlacement),
        pod_group_pods_count::NAME => Arc::new(pod_group_pods_count::PodGroupPodsCount),
        _ => return Ok(None),
    }))
}

fn fit(args: FitArgs) -> Result<NodeResourcesFit, String> {
    if let Some(problem) = fit_problems(&args) {
        return Err(problem);
    }
    let own = args.scoring_strategy.unwrap_or_default();
    let strategy = match own.kind.as_str() {
        "MostAllocated" => Strategy::Most,
        "RequestedToCapacityRatio" => {
            Strategy::Ratio(own.requested_to_capacity_ratio.unwrap_or_default().shape)
        }
        _ => Strategy::Least,
    };
    Ok(NodeResourcesFit {
        strategy,
        resources: resources(own.resources),
        ignored: args.ignored_resources,
        ignored_groups: args.ignored_resource_groups,
    })
}

/// The default plugins with a profile's changes to them.
pub fn multi_point(custom: &PluginSet, gates: &Gates) -> Vec<PluginRef> {
    let off = |name: &str| custom.disabled.iter().any(|d| d.name == name || d.name == "*");
    let defaults = defaults(gates).filter(|(n, _, _)| !off(n)).map(|(name, weight, _)| {
        let own = custom.enabled.iter().rfind(|e| e.name == *name).cloned();
        own.unwrap_or_else(|| PluginRef { name: (*name).into(), weight: *weight })
    });
    let mut all: Vec<PluginRef> = defaults.collect();
    // What is listed twice stays so: it is refused later.
    let replaced = |at: usize, name: &str| {
        all.iter().any(|a| a.name == name) && custom.enabled.iter().rposition(|e| e.name == name) == Some(at)
    };
    let more = custom.enabled.iter().enumerate().filter(|(at, e)| !replaced(*at, &e.name));
    let more: Vec<PluginRef> = more.map(|(_, e)| e.clone()).collect();
    all.extend(more);
    all
}

fn put(points: &mut Points, point: Point, plugin: Arc<dyn Plugin>, weight: i64) {
    match point {
        Point::PreEnqueue => points.pre_enqueue.push(plugin),
        Point::PreFilter => points.pre_filter.push(plugin),
        Point::Filter => points.filter.push(plugin),
        Point::Permit => points.permit.push(plugin),
        Point::PreScore => drop(points.pre_score.insert(plugin.name())),
        Point::Score => points.score.push((plugin, weight)),
        Point::PlacementGenerate => points.placement_generate.push(plugin),
        Point::PlacementScore => points.placement_score.push((plugin, weight)),
        // What follows a decision is the same for every profile: `actions.rs`.
        _ => {}
    }
}

/// Builds a profile.
///
/// # Errors
/// Everything that is wrong with it.
pub fn build(profile: &KubeSchedulerProfile, percentage: i32, gates: &Gates) -> Result<Profile, Vec<String>> {
    let none = PluginSet::default();
    let of = |name: &str| profile.plugins.get(name).unwrap_or(&none);
    let multi = multi_point(of("multiPoint"), gates);
    let sets = || profile.plugins.values().flat_map(|s| &s.enabled).chain(&multi);
    let mut made: BTreeMap<&str, Arc<dyn Plugin>> = BTreeMap::new();
    let mut problems = Vec::new();
    for name in sets().map(|p| p.name.as_str()).collect::<BTreeSet<_>>() {
        match make(name, profile, gates) {
            Ok(plugin) => made.extend(plugin.map(|p| (name, p))),
            Err(problem) => problems.push(format!("initializing plugin {name:?}: {problem}")),
        }
    }
    problems.extend(points::problems(profile, &multi));
    if !problems.is_empty() {
        let name = &profile.scheduler_name;
        let say = |text| format!("initializing profiles: creating profile for scheduler name {name}: {text}");
        return Err(problems.into_iter().map(say).collect());
    }
    let mut points = Points::default();
    for point in Point::ALL {
        for plugin in points::at(point, of(point.key()), &multi) {
            match (point, plugin.name.as_str()) {
                (Point::PodGroupPostFilter, dynamic_resources::NAME) => {
                    points.group_post_filter.push(GroupPostFilter::Resources);
                }
                (Point::PodGroupPostFilter, _) => {
                    points.group_post_filter.push(GroupPostFilter::Preemption);
                }
                (Point::PostFilter, dynamic_resources::NAME) => points.resources = true,
                (Point::PostFilter, _) => points.preemption = true,
                (_, name) => {
                    if let Some(made) = made.get(name) {
                        put(&mut points, point, made.clone(), plugin.weight_or_one());
                    }
                }
            }
        }
    }
    if gates.enabled(Gate::GenericWorkload) {
        if let Some(gangs) = made.get(gang_scheduling::NAME) {
            points.placement_feasible.push(gangs.clone());
        } else {
            tracing::error!(
                "GenericWorkload is enabled, but GangScheduling plugin is not set. Gang scheduling using PodGroups may not work as expected."
            );
        }
    }
    let args: PreemptionArgs = profile.args("DefaultPreemption").map_err(|problem| vec![problem])?;
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
        topology_aware: gates.enabled(Gate::TopologyAwareWorkloadScheduling),
    })
}
