//! Pods whose victims are being sent away. Such a pod is not tried again before its last victim goes: until then it would
//! fit nowhere, and what it was refused for changes with each victim.
//! Upstream: framework/preemption/executor.go isRunningPreemption, PreEnqueue of DefaultPreemption.

use hashbrown::HashMap;

use super::Hash;
use crate::model::Uid;

/// Preemptors, and the victim that each of them waits for, once it is the last one.
#[derive(Debug, Default)]
pub(super) struct MakingRoom(HashMap<Uid, Option<Uid>, Hash>);

impl MakingRoom {
    pub fn begin(&mut self, preemptor: &Uid) {
        self.0.insert(preemptor.clone(), None);
    }

    /// All other victims are told to go.
    pub fn last(&mut self, preemptor: &Uid, victim: &Uid) {
        if let Some(last) = self.0.get_mut(preemptor) {
            *last = Some(victim.clone());
        }
    }

    /// A pod ends or is gone, whatever comes of the call that told it to.
    pub fn going(&mut self, victim: &Uid) {
        if !self.0.is_empty() {
            self.0.retain(|_, last| last.as_ref() != Some(victim));
        }
    }

    pub fn end(&mut self, preemptor: &Uid) {
        self.0.remove(preemptor);
    }

    pub fn holds(&self, pod: &Uid) -> bool {
        self.0.contains_key(pod)
    }
}
