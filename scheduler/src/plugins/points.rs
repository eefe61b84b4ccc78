//! Extension points, which plugin has code for which, and what is wrong with a profile's lists of plugins.
//! Upstream: framework/runtime/framework.go getExtensionPoints, updatePluginList, expandMultiPointPlugins,
//! getValidScoreWeights.

use std::collections::BTreeSet;

use crate::config::{KubeSchedulerProfile, PluginRef, PluginSet};

/// Extension points, as upstream orders them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    PreFilter,
    Filter,
    PostFilter,
    Reserve,
    PreScore,
    Score,
    PreBind,
    Bind,
    PostBind,
    Permit,
    PreEnqueue,
    QueueSort,
    PlacementGenerate,
    PlacementScore,
    PodGroupPostFilter,
}

use Point::{
    Bind, Filter, Permit, PlacementGenerate, PlacementScore, PodGroupPostFilter, PostBind, PostFilter,
    PreBind, PreEnqueue, PreFilter, PreScore, QueueSort, Reserve, Score,
};

impl Point {
    pub const ALL: [Point; 15] = [
        PreFilter,
        Filter,
        PostFilter,
        Reserve,
        PreScore,
        Score,
        PreBind,
        Bind,
        PostBind,
        Permit,
        PreEnqueue,
        QueueSort,
        PlacementGenerate,
        PlacementScore,
        PodGroupPostFilter,
    ];

    /// Its name in configurations.
    pub const fn key(self) -> &'static str {
        match self {
            PreFilter => "preFilter",
            Filter => "filter",
            PostFilter => "postFilter",
            Reserve => "reserve",
            PreScore => "preScore",
            Score => "score",
            PreBind => "preBind",
            Bind => "bind",
            PostBind => "postBind",
            Permit => "permit",
            PreEnqueue => "preEnqueue",
            QueueSort => "queueSort",
            PlacementGenerate => "placementGenerate",
            PlacementScore => "placementScore",
            PodGroupPostFilter => "podGroupPostFilter",
        }
    }

    /// The type that upstream's plugins implement for it.
    fn kind(self) -> String {
        let key = self.key();
        format!("{}{}Plugin", key[..1].to_uppercase(), &key[1..])
    }
}

/// A plugin: its name, its weight, and the extension points for which it has code.
pub type Known = (&'static str, i64, &'static [Point]);

/// Upstream's plugins in the order in which they are on by default.
pub const PLUGINS: &[Known] = &[
    ("SchedulingGates", 0, &[PreEnqueue]),
    ("PrioritySort", 0, &[QueueSort]),
    ("NodeName", 0, &[PreFilter, Filter]),
    ("NodeUnschedulable", 0, &[PreFilter, Filter]),
    ("TaintToleration", 3, &[PreFilter, Filter, PreScore, Score]),
    ("NodeAffinity", 2, &[PreFilter, Filter, PreScore, Score]),
    ("NodePorts", 0, &[PreFilter, Filter]),
    ("DeferredPodScheduling", 0, &[PreFilter, Filter, Permit]),
    ("NodeResourcesFit", 1, &[PreFilter, Filter, PreScore, Score, PlacementScore]),
    ("VolumeRestrictions", 0, &[PreFilter, Filter]),
    ("NodeVolumeLimits", 0, &[PreFilter, Filter]),
    ("VolumeBinding", 0, &[PreFilter, Filter, Reserve, PreScore, Score, PreBind]),
    ("VolumeZone", 0, &[PreFilter, Filter]),
    ("PodTopologySpread", 2, &[PreFilter, Filter, PreScore, Score]),
    ("InterPodAffinity", 2, &[PreFilter, Filter, PreScore, Score]),
    (
        "DynamicResources",
        2,
        &[PreFilter, Filter, PostFilter, Reserve, Score, PreBind, PreEnqueue, PodGroupPostFilter],
    ),
    ("DefaultPreemption", 0, &[PostFilter, PreEnqueue, PodGroupPostFilter]),
    ("NodeResourcesBalancedAllocation", 1, &[PreScore, Score]),
    ("ImageLocality", 1, &[Score]),
    ("DefaultBinder", 0, &[Bind]),
    ("NodeDeclaredFeatures", 0, &[PreFilter, Filter]),
    ("GangScheduling", 0, &[Permit, PreEnqueue]),
    ("TopologyPlacementGenerator", 0, &[PlacementGenerate]),
    ("PodGroupPodsCount", 1, &[PlacementScore]),
];

fn known(name: &str) -> Option<&'static Known> {
    PLUGINS.iter().find(|(n, _, _)| *n == name)
}

/// Whether a plugin has code for a point.
pub fn has(point: Point, name: &str) -> bool {
    known(name).is_some_and(|(_, _, points)| points.contains(&point))
}

/// The plugins of a point: those that override what is on everywhere, what else is on everywhere, and what is on here
/// alone.
pub fn at<'a>(point: Point, own: &'a PluginSet, multi: &'a [PluginRef]) -> Vec<&'a PluginRef> {
    let off = |name: &str| own.disabled.iter().any(|d| d.name == name || d.name == "*");
    let listed = |list: &[PluginRef], name: &str| list.iter().any(|p| p.name == name);
    let everywhere = |name: &str| listed(multi, name) && !off(name);
    let overriding = own.enabled.iter().filter(|e| everywhere(&e.name));
    let rest = multi.iter().filter(|m| !listed(&own.enabled, &m.name) && !off(&m.name));
    let more = own.enabled.iter().filter(|e| !everywhere(&e.name));
    overriding.chain(rest).chain(more).filter(|p| has(point, &p.name)).collect()
}

/// Everything that is wrong with the lists, in the order in which upstream would find it. `multi` is what is on
/// everywhere.
pub fn problems(profile: &KubeSchedulerProfile, multi: &[PluginRef]) -> Vec<String> {
    let none = PluginSet::default();
    let of = |point: Point| profile.plugins.get(point.key()).unwrap_or(&none);
    let mut problems = Vec::new();
    for point in Point::ALL {
        listed(point, &of(point).enabled, &mut problems);
    }
    expanded(&of, multi, &mut problems);
    let name = &profile.scheduler_name;
    let count = |point: Point| at(point, of(point), multi).len();
    if count(QueueSort) != 1 {
        let found = count(QueueSort);
        problems.push(format!(
            "only one queue sort plugin required for profile with scheduler name {name:?}, but got {found}"
        ));
    }
    if count(Bind) == 0 {
        problems.push(format!("at least one bind plugin is needed for profile with scheduler name {name:?}"));
    }
    for (point, what) in [(Score, "score"), (PlacementScore, "placement score")] {
        if overflows(point, of(point).enabled.iter().chain(multi)) {
            problems.push(format!("{what} plugins: total score of Score plugins could overflow"));
        }
    }
    problems
}

/// Upstream: updatePluginList.
fn listed(point: Point, enabled: &[PluginRef], problems: &mut Vec<String>) {
    let kind = point.kind();
    let mut seen = BTreeSet::new();
    for plugin in enabled {
        let name = &plugin.name;
        if known(name).is_none() {
            problems.push(format!("{kind} {name:?} does not exist"));
        } else if !has(point, name) {
            problems.push(format!("plugin {name:?} does not extend {kind} plugin"));
        } else if !seen.insert(name) {
            problems.push(format!("plugin {name:?} already registered as {kind:?}"));
        }
    }
}

/// Upstream: expandMultiPointPlugins.
fn expanded<'a>(of: &impl Fn(Point) -> &'a PluginSet, multi: &[PluginRef], problems: &mut Vec<String>) {
    let mut told = BTreeSet::new();
    for point in Point::ALL {
        let set = of(point);
        if set.disabled.iter().any(|d| d.name == "*") {
            continue;
        }
        let kind = point.kind();
        let mut seen = BTreeSet::new();
        for plugin in multi {
            let name = &plugin.name;
            let listed = |list: &[PluginRef]| list.iter().any(|p| p.name == *name);
            if known(name).is_none() {
                if told.insert(name) {
                    problems.push(format!("{kind} {name:?} does not exist"));
                }
            } else if has(point, name)
                && !listed(&set.disabled)
                && !listed(&set.enabled)
                && !seen.insert(name)
                && told.insert(name)
            {
                problems.push(format!("plugin {name:?} already registered as {kind:?}"));
            }
        }
    }
}

/// Whether scores could exceed what a sum can hold. Upstream: getValidScoreWeights.
fn overflows<'a>(point: Point, plugins: impl Iterator<Item = &'a PluginRef>) -> bool {
    let (mut seen, mut total) = (BTreeSet::new(), 0_i64);
    for plugin in plugins.filter(|p| has(point, &p.name)) {
        if !seen.insert(&plugin.name) {
            continue;
        }
        let score = plugin.weight_or_one() * crate::framework::MAX_SCORE;
        // As upstream's numbers wrap where weights are negative.
        if score > i64::MAX.wrapping_sub(total) {
            return true;
        }
        total += score;
    }
    false
}
