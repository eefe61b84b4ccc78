//! A profile: which plugins run at which point, and how they run.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Change, CycleState, Diagnosis, Feasibility, GroupView, MAX_SCORE, Offer, Placement, Plugin, PreFilter,
    Progress, Reject, Verdict, View,
};
use crate::cycle::Class;
use crate::listers::Listers;
use crate::model::{Cache, Groups, NodeRow, PodInfo};
use crate::plugins::{deferred_pod_scheduling, node_name, node_resources_fit};

type Plugins = Vec<Arc<dyn Plugin>>;

/// Plugins that look at a pod that is to grow where it is. Upstream's others skip such pods one by one.
const GROWTH: [&str; 3] = [node_name::NAME, deferred_pod_scheduling::NAME, node_resources_fit::NAME];

/// What follows when a group is not placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPostFilter {
    /// Claims are freed that stand in the way: DynamicResources.
    Resources,
    /// Pods have to go: DefaultPreemption.
    Preemption,
}

/// The enabled plugins of each extension point.
#[derive(Clone, Default)]
pub struct Points {
    pub pre_enqueue: Plugins,
    pub pre_filter: Plugins,
    pub filter: Plugins,
    pub permit: Plugins,
    pub placement_feasible: Plugins,
    pub placement_generate: Plugins,
    pub placement_score: Vec<(Arc<dyn Plugin>, i64)>,
    /// Whether pods may have to go for a group.
    pub group_post_filter: Vec<GroupPostFilter>,
    /// Whether it is found out what could be freed for a group's pods.
    pub group_frees: bool,
    pub pre_score: BTreeSet<&'static str>,
    pub score: Vec<(Arc<dyn Plugin>, i64)>,
    pub preemption: bool,
    /// Whether DynamicResources is asked before preemption.
    pub resources: bool,
}

/// Plugins under the name that pods ask for.
#[derive(Clone)]
pub struct Profile {
    pub scheduler_name: String,
    pub points: Points,
    pub percentage: i32,
    /// How long volumes may take to be bound.
    pub bind_timeout: std::time::Duration,
    /// How long devices may take to be made ready.
    pub device_timeout: std::time::Duration,
    pub preemption: crate::preemption::Settings,
    /// Whether groups are tried in one placement after the other: gate TopologyAwareWorkloadScheduling.
    pub topology_aware: bool,
}

/// Filters that have a say about a pod: indexes into [`Points::filter`].
pub type Active = SmallVec<[usize; 20]>;

/// Why a pod is refused before nodes are looked at.
pub struct Refusal {
    /// The plugin is the one that left no node, where several did together.
    pub reject: Reject,
    /// Plugins that together left no node, if that is why.
    pub limited_by: BTreeSet<&'static str>,
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self { reject, limited_by: BTreeSet::new() }
    }
}

/// What is known before nodes are looked at.
pub struct Prepared {
    pub active: Active,
    pub nodes: Option<BTreeSet<String>>,
    /// Plugins that limited the nodes.
    pub limited_by: BTreeSet<&'static str>,
}

impl Profile {
    /// Makes known to the cache what plugins will ask it about a pod.
    pub fn prepare(&self, cache: &mut Cache, listers: &Listers, pod: &PodInfo) {
        let scores = self.points.score.iter().map(|(p, _)| p);
        self.points.pre_filter.iter().chain(scores).for_each(|p| p.prepare(cache, listers, pod));
    }

    /// DynamicResources is asked first what could be freed. If another plugin refused the pod before it was asked
    /// about it, it knows nothing, says so, and preemption is not tried.
    /// Upstream: dynamicresources.go PostFilter, getStateData.
    pub fn resources_cannot_answer(&self, diagnosis: &Diagnosis) -> bool {
        self.points.resources && diagnosis.pre_filter.is_some() && !self.resources_asked(diagnosis)
    }

    /// Whether DynamicResources was asked about the pod before another plugin refused it.
    pub fn resources_asked(&self, diagnosis: &Diagnosis) -> bool {
        let at = |name: &str| self.points.pre_filter.iter().position(|p| p.name() == name);
        let first = diagnosis.pre_filter.as_ref().and_then(|reject| at(reject.plugin));
        at(crate::plugins::dynamic_resources::NAME).is_some_and(|own| first.is_none_or(|p| p >= own))
    }

    /// How many filters, from the first on, have verdicts that can be kept.
    pub fn local_filters(&self) -> usize {
        self.points.filter.iter().take_while(|p| p.local_filter()).count()
    }

    pub fn pre_enqueue(&self, listers: &Listers, groups: &Groups, pod: &PodInfo) -> Verdict {
        self.points.pre_enqueue.iter().try_for_each(|p| p.pre_enqueue(listers, groups, pod))
    }

    /// Upstream: frameworkImpl.RunPlacementFeasiblePlugins.
    pub fn placement_feasible(&self, group: &GroupView, progress: Progress) -> Feasibility {
        let mut all = Feasibility::Yes;
        for plugin in &self.points.placement_feasible {
            match plugin.placement_feasible(group, progress) {
                Feasibility::Yes => {}
                Feasibility::NotYet(why) => all = Feasibility::NotYet(why),
                no @ Feasibility::No(_) => return no,
            }
        }
        all
    }

    /// Where a group could go. There is one plugin at most. Upstream: RunPlacementGeneratePlugins.
    pub fn placements(&self, view: View<'_>, group: &GroupView) -> Result<Vec<Placement>, Reject> {
        let Some(plugin) = self.points.placement_generate.first() else {
            return Ok(vec![Placement::new("", view.rows())]);
        };
        let found = plugin.placements(view, group)?;
        match found.is_empty() {
            true => Err(Reject::unschedulable(plugin.name(), "no feasible placements found")),
            false => Ok(found),
        }
    }

    /// Weighted sums in the order of `offers`. Upstream: RunPlacementScorePlugins.
    pub fn placement_scores(
        &self,
        view: View<'_>,
        group: &GroupView,
        offers: &[Offer<'_>],
    ) -> Result<Vec<i64>, String> {
        let mut sums = vec![0_i64; offers.len()];
        for (plugin, weight) in &self.points.placement_score {
            let name = plugin.name();
            let mut scores: Vec<i64> =
                offers.iter().map(|offer| plugin.score_placement(view, group, offer)).collect();
            plugin.normalize_placements(&mut scores).map_err(|why| {
                format!(
                    "running NormalizePlacementScore on PlacementScore plugins: plugin {name:?} failed with: {why}"
                )
            })?;
            if let Some(score) = scores.iter().find(|s| !(0..=MAX_SCORE).contains(*s)) {
                return Err(format!(
                    "applying score defaultWeights on PlacementScore plugins: plugin {name:?} returns an invalid score \
                     {score}, it should in the range of [0, {MAX_SCORE}] after normalizing"
                ));
            }
            sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score * weight);
        }
        Ok(sums)
    }

    /// The same without what follows a failed attempt: that is a group's to do, not its pods'.
    pub fn of_a_group(&self) -> Self {
        let group_frees = self.points.group_post_filter.contains(&GroupPostFilter::Resources);
        let points = Points { preemption: false, resources: false, group_frees, ..self.points.clone() };
        Self { points, ..self.clone() }
    }

    /// Whether a plugin that keeps a pod from being tried looks at an event.
    pub fn gate_listens(&self, plugin: &str, event: &str) -> bool {
        let gate = self.points.pre_enqueue.iter().find(|p| p.name() == plugin);
        gate.is_none_or(|p| p.events().contains(&event))
    }

    /// Upstream: frameworkImpl.RunPreFilterPlugins.
    pub fn pre_filter(
        &self,
        view: View<'_>,
        pod: &PodInfo,
        state: &mut CycleState,
    ) -> Result<Prepared, Refusal> {
        let mut skipped: SmallVec<[&str; 16]> = SmallVec::new();
        let mut nodes: Option<BTreeSet<String>> = None;
        let mut limited_by = BTreeSet::new();
        let deferred = pod.deferred();
        let asked = |plugin: &dyn Plugin| !deferred || GROWTH.contains(&plugin.name());
        for plugin in self.points.pre_filter.iter().filter(|p| asked(&***p)) {
            match plugin.pre_filter(view, pod, state) {
                PreFilter::Skip => skipped.push(plugin.name()),
                PreFilter::All => {}
                PreFilter::Reject(reject) => return Err(reject.into()),
                PreFilter::Nodes(set) => {
                    limited_by.insert(plugin.name());
                    let left = match nodes.take() {
                        None => set,
                        Some(before) => before.intersection(&set).cloned().collect(),
                    };
                    if left.is_empty() {
                        let reject = Reject::unresolvable(plugin.name(), nothing_left(&limited_by));
                        return Err(Refusal { reject, limited_by });
                    }
                    nodes = Some(left);
                }
            }
        }
        let filters = self.points.filter.iter().enumerate();
        let filters = filters.filter(|(_, p)| asked(&***p) && !skipped.contains(&p.name()));
        let active = filters.map(|(i, _)| i).collect();
        Ok(Prepared { active, nodes, limited_by })
    }

    /// Whether the pod may be bound where it fits. Upstream: RunPermitPlugins.
    pub fn permit(&self, pod: &PodInfo) -> Verdict {
        self.points.permit.iter().try_for_each(|p| p.permit(pod))
    }

    /// Filters one node as it is.
    pub fn filter_row(
        &self,
        view: View<'_>,
        state: &CycleState,
        active: &Active,
        pod: &PodInfo,
        row: &NodeRow,
    ) -> Verdict {
        active.iter().try_for_each(|i| self.points.filter[*i].filter(view, state, pod, row))
    }

    /// Pods that wait for room on a node and come before a pod.
    pub fn waiting<'a>(
        view: View<'a>,
        pod: &'a PodInfo,
        row: &NodeRow,
    ) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        let waiting = if view.nominated.is_empty() { None } else { view.nominated.get(&*row.name) };
        let before = |other: &&Arc<PodInfo>| other.priority >= pod.priority && other.uid != pod.uid;
        waiting.into_iter().flatten().filter(before)
    }

    /// Whether these filters are all such as read nothing but the row and what a pod wants of it.
    pub fn all_local(&self, active: &Active) -> bool {
        let local = self.local_filters();
        active.iter().all(|i| *i < local)
    }

    /// Filters one node with the pods that wait for room on it, and without them: they may never come.
    /// Upstream: frameworkImpl.RunFilterPluginsWithNominatedPods.
    pub fn filter(
        &self,
        view: View<'_>,
        state: &CycleState,
        active: &Active,
        pod: &PodInfo,
        row: &NodeRow,
    ) -> Verdict {
        if Self::waiting(view, pod, row).next().is_some() {
            let (mut state, mut fuller) = (state.clone(), row.clone());
            for other in Self::waiting(view, pod, row) {
                fuller.add(other.clone());
                self.adjust(view, &mut state, active, pod, other, &fuller, 1);
            }
            self.filter_row(view, &state, active, pod, &fuller)?;
        }
        self.filter_row(view, state, active, pod, row)
    }

    /// Tells plugins about a tried-out change.
    #[expect(clippy::too_many_arguments, reason = "a change, where it happens and for whom")]
    pub fn adjust(
        &self,
        view: View<'_>,
        state: &mut CycleState,
        active: &Active,
        pod: &PodInfo,
        other: &PodInfo,
        row: &NodeRow,
        delta: i64,
    ) {
        for i in active {
            self.points.filter[*i].adjust(view, state, pod, other, row, delta);
        }
    }

    /// Weighted sums by node, in the order of `nodes`; `class` comes with their places among all rows.
    pub fn scores(
        &self,
        view: View<'_>,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[&NodeRow],
        class: Option<(&Class, &[usize])>,
    ) -> Vec<i64> {
        let mut sums = vec![0; nodes.len()];
        self.each_score(view, state, pod, nodes, class, |_, scores| {
            sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
        });
        sums
    }

    /// Weighted scores plugin by plugin.
    pub fn each_score(
        &self,
        view: View<'_>,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[&NodeRow],
        class: Option<(&Class, &[usize])>,
        mut sink: impl FnMut(&'static str, &[i64]),
    ) {
        let mut scores = Vec::with_capacity(nodes.len());
        let mut slot = 0;
        for (plugin, weight) in &self.points.score {
            let local = plugin.local_score().then_some(slot);
            slot += usize::from(local.is_some());
            let prepares = self.points.pre_score.contains(plugin.name());
            if !plugin.scores(view, pod) || prepares && !plugin.pre_score(view, state, pod, nodes) {
                continue;
            }
            scores.clear();
            match class.zip(local) {
                Some(((class, places), slot)) => {
                    scores.extend(places.iter().map(|at| class.score(*at, slot)));
                }
                None => scores.extend(nodes.iter().map(|row| plugin.score(view, state, pod, row))),
            }
            plugin.normalize(state, nodes, &mut scores);
            scores.iter_mut().for_each(|s| *s *= weight);
            sink(plugin.name(), &scores);
        }
    }

    /// Whether a change may help a pod that these plugins refused. Plugins that are gone count as helped.
    pub fn wakes(
        &self,
        change: &Change<'_>,
        pod: &PodInfo,
        refused_by: &BTreeSet<&'static str>,
        groups: &Groups,
    ) -> bool {
        let points = &self.points;
        let known = |name: &str| {
            points
                .pre_filter
                .iter()
                .chain(&points.filter)
                .chain(&points.pre_enqueue)
                .find(|p| p.name() == name)
        };
        refused_by.is_empty()
            || refused_by.iter().any(|name| known(name).is_none_or(|p| p.wakes(change, pod, groups)))
    }
}

fn nothing_left(plugins: &BTreeSet<&'static str>) -> String {
    match plugins.first() {
        Some(one) if plugins.len() == 1 => format!("node(s) didn't satisfy plugin {one}"),
        _ => format!("node(s) didn't satisfy plugin(s) {} simultaneously", go_list(plugins)),
    }
}

/// A list as Go prints it.
pub fn go_list(names: &BTreeSet<&'static str>) -> String {
    format!("[{}]", names.iter().copied().collect::<Vec<_>>().join(" "))
}
