//! What was found out about rows for pods that want the same: verdicts and scores of plugins that read nothing but
//! the row and the pod's wants. Each holds until the row changes, so that a cycle looks again only at rows that did. So do
//! verdicts on rows with the pods that wait for room there, and what would have to go from a row.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::framework::{CycleState, Profile, Reject, View};
use crate::model::{NodeRow, PodInfo};
use crate::preemption::Candidate;

type Hash = foldhash::fast::RandomState;
/// What taking pods away from a row would come to.
pub type Trial = Result<Arc<Candidate>, Arc<Reject>>;

/// Kinds of pods remembered at a time.
const MOST: usize = 16;

#[derive(Clone, Copy, Default)]
struct Known {
    /// Generation of the row that was looked at; 0: none.
    generation: u64,
    /// 0: it fits; otherwise one more than the position among the refusals.
    verdict: u32,
}

/// Pods that wait for a row and come before the pod that is asked about.
type Waiting = SmallVec<[Arc<PodInfo>; 1]>;

fn same(a: &Waiting, b: &Waiting) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// What was found out about a row, and of what it was so.
struct Found<T> {
    generation: u64,
    /// [`NodeRow::renewals`].
    renewals: u64,
    priority: i32,
    waiting: Waiting,
    what: T,
}

impl<T> Found<T> {
    fn new(view: View<'_>, pod: &PodInfo, row: &NodeRow, what: T) -> Self {
        let waiting = Profile::waiting(view, pod, row).cloned().collect();
        Self { generation: row.generation, renewals: row.renewals, priority: pod.priority, waiting, what }
    }

    fn is_of(&self, pod: &PodInfo, row: &NodeRow, waiting: &Waiting) -> bool {
        let (row, own) = ((row.generation, row.renewals), (self.generation, self.renewals));
        own == row && self.priority == pod.priority && same(&self.waiting, waiting)
    }
}

/// What is known for pods that want the same.
pub struct Class {
    /// [`crate::model::Wants::of_row`] of its pods.
    wants: u64,
    used: u64,
    rows: Vec<Known>,
    /// Scores of the rows, one after the other.
    scores: Vec<i64>,
    width: usize,
    refusals: Vec<Arc<Reject>>,
    /// Verdicts with the pods that wait for a row, by its place.
    waited: HashMap<usize, Found<u32>, Hash>,
    /// By the place of the row.
    trials: HashMap<usize, Found<Trial>, Hash>,
}

impl Class {
    fn new(wants: u64, width: usize) -> Self {
        Self {
            wants,
            used: 0,
            rows: Vec::new(),
            scores: Vec::new(),
            width,
            refusals: Vec::new(),
            waited: HashMap::default(),
            trials: HashMap::default(),
        }
    }

    /// Whether a row is known to fit, by its place and generation. False: it has to be looked at.
    pub fn fits(&self, at: usize, generation: u64) -> bool {
        self.rows.get(at).is_some_and(|k| k.generation == generation && k.verdict == 0)
    }

    /// Verdict on a row as it is now.
    pub fn verdict(
        &mut self,
        profile: &Profile,
        filters: usize,
        view: View<'_>,
        pod: &PodInfo,
        row: &NodeRow,
    ) -> Result<(), Arc<Reject>> {
        if row.at >= self.rows.len() {
            self.rows.resize(row.at + 1, Known::default());
            self.scores.resize((row.at + 1) * self.width, 0);
        }
        if self.rows[row.at].generation != row.generation {
            self.look(profile, filters, view, pod, row);
        }
        self.answer(self.rows[row.at].verdict)
    }

    /// Verdict on a row as it would be with the pods that wait for it and come first.
    pub fn verdict_with_waiting(
        &mut self,
        profile: &Profile,
        filters: usize,
        view: View<'_>,
        pod: &PodInfo,
        row: &NodeRow,
    ) -> Result<(), Arc<Reject>> {
        let waiting: Waiting = Profile::waiting(view, pod, row).cloned().collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let known = self.waited.get(&row.at).filter(|found| found.is_of(pod, row, &waiting));
        let verdict = known.map(|found| found.what).unwrap_or_else(|| {
            let (mut fuller, state) = (row.clone(), CycleState::default());
            waiting.iter().for_each(|other| fuller.add(other.clone()));
            let plugins = &profile.points.filter[..filters];
            let answer = plugins.iter().try_for_each(|p| p.filter(view, &state, pod, &fuller));
            let verdict = answer.map_or_else(|reject| self.refusal(reject), |()| 0);
            self.waited.insert(row.at, Found::new(view, pod, row, verdict));
            verdict
        });
        self.answer(verdict)
    }

    /// What taking pods away from a row would come to, which `attempt` finds if it is not known.
    pub fn trial(
        &mut self,
        view: View<'_>,
        pod: &PodInfo,
        row: &NodeRow,
        attempt: impl FnOnce() -> Trial,
    ) -> Trial {
        let waiting: Waiting = Profile::waiting(view, pod, row).cloned().collect();
        if let Some(found) = self.trials.get(&row.at).filter(|found| found.is_of(pod, row, &waiting)) {
            return found.what.clone();
        }
        let trial = attempt();
        self.trials.insert(row.at, Found::new(view, pod, row, trial.clone()));
        trial
    }

    fn answer(&self, verdict: u32) -> Result<(), Arc<Reject>> {
        match verdict {
            0 => Ok(()),
            n => Err(self.refusals[n as usize - 1].clone()),
        }
    }

    fn look(&mut self, profile: &Profile, filters: usize, view: View<'_>, pod: &PodInfo, row: &NodeRow) {
        let state = CycleState::default();
        let answer =
            profile.points.filter[..filters].iter().try_for_each(|p| p.filter(view, &state, pod, row));
        let verdict = match answer {
            Ok(()) => {
                let local = profile.points.score.iter().filter(|(p, _)| p.local_score());
                for (slot, (plugin, _)) in local.enumerate() {
                    self.scores[row.at * self.width + slot] = plugin.score(view, &state, pod, row);
                }
                0
            }
            Err(reject) => self.refusal(reject),
        };
        self.rows[row.at] = Known { generation: row.generation, verdict };
    }

    fn refusal(&mut self, reject: Reject) -> u32 {
        let at = self.refusals.iter().position(|known| **known == reject).unwrap_or_else(|| {
            self.refusals.push(Arc::new(reject));
            self.refusals.len() - 1
        });
        u32::try_from(at + 1).unwrap_or(u32::MAX)
    }

    /// Score of a row that fits.
    pub fn score(&self, row: usize, slot: usize) -> i64 {
        self.scores[row * self.width + slot]
    }
}

/// The kinds of pods met last.
#[derive(Default)]
pub struct Classes {
    list: Vec<Class>,
    tick: u64,
}

impl Classes {
    /// What is known for pods like this one.
    pub fn of(&mut self, profile: &Profile, pod: &PodInfo) -> &mut Class {
        self.tick += 1;
        let wants = *pod.wants.of_row;
        let at = self.list.iter().position(|c| c.wants == wants).unwrap_or_else(|| {
            if self.list.len() >= MOST
                && let Some(oldest) = (0..self.list.len()).min_by_key(|i| self.list[*i].used)
            {
                self.list.swap_remove(oldest);
            }
            let width = profile.points.score.iter().filter(|(p, _)| p.local_score()).count();
            self.list.push(Class::new(wants, width));
            self.list.len() - 1
        });
        self.list[at].used = self.tick;
        &mut self.list[at]
    }
}
