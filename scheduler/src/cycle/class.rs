//! What was found out about rows for pods that want the same: verdicts and scores of plugins that read nothing but
//! the row and the pod's wants. Each holds until the row changes, so that a cycle looks again only at rows that did.

use std::sync::Arc;

use crate::framework::{CycleState, Profile, Reject, View};
use crate::model::{NodeRow, PodInfo};

/// Kinds of pods remembered at a time.
const MOST: usize = 16;

#[derive(Clone, Copy, Default)]
struct Known {
    /// Generation of the row that was looked at; 0: none.
    generation: u64,
    /// 0: it fits; otherwise one more than the position among the refusals.
    verdict: u32,
}

/// What is known for pods that want the same.
pub struct Class {
    wants: u64,
    used: u64,
    rows: Vec<Known>,
    /// Scores of the rows, one after the other.
    scores: Vec<i64>,
    width: usize,
    refusals: Vec<Arc<Reject>>,
}

impl Class {
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
        match self.rows[row.at].verdict {
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
        let wants = pod.wants.id;
        let at = self.list.iter().position(|c| c.wants == wants).unwrap_or_else(|| {
            if self.list.len() >= MOST
                && let Some(oldest) = (0..self.list.len()).min_by_key(|i| self.list[*i].used)
            {
                self.list.swap_remove(oldest);
            }
            let width = profile.points.score.iter().filter(|(p, _)| p.local_score()).count();
            let class =
                Class { wants, used: 0, rows: Vec::new(), scores: Vec::new(), width, refusals: Vec::new() };
            self.list.push(class);
            self.list.len() - 1
        });
        self.list[at].used = self.tick;
        &mut self.list[at]
    }
}
