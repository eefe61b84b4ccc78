//! How often a big object is looked at. A round that counts all pods of a set costs as much as there are pods, and each
//! pod's change asks for one: thousands of pods would be counted thousands of times. After a round the set rests for a
//! time in proportion to its pods, and changes of that time are met in one round.
//!
//! Small sets do not rest. Upstream has no such rest: its rounds are slowed down by the writes of each.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Rest for each pod of the set. A round writes the status of the set, whereupon its Deployment writes its own, and both come
/// back as events: with thousands of pods that change one by one these writes cost as much as the pods.
const PER_POD: Duration = Duration::from_micros(40);
/// No set rests longer.
const LONGEST: Duration = Duration::from_secs(1);
/// Sets of fewer pods do not rest.
const BIG: usize = 100;

/// When the sets that rest may be looked at again, by key.
#[derive(Default)]
pub struct Pace(Mutex<HashMap<String, Instant>>);

impl Pace {
    /// What is left of a set's rest, `None` when it is over.
    pub fn rest(&self, key: &str, now: Instant) -> Option<Duration> {
        let mut resting = self.0.lock();
        let left = resting.get(key)?.checked_duration_since(now).filter(|left| !left.is_zero());
        if left.is_none() {
            resting.remove(key);
        }
        left
    }

    /// A round has looked at so many pods.
    pub fn looked(&self, key: &str, pods: usize, now: Instant) {
        if pods >= BIG {
            let rest = PER_POD.saturating_mul(u32::try_from(pods).unwrap_or(u32::MAX));
            self.0.lock().insert(key.to_string(), now + rest.min(LONGEST));
        }
    }

    /// The set is gone.
    pub fn forget(&self, key: &str) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_sets_rest_in_proportion() {
        let (pace, now) = (Pace::default(), Instant::now());
        for (pods, rest) in [(0, None), (99, None), (100, Some(4)), (5000, Some(200)), (100_000, Some(1000))]
        {
            pace.looked("n/web", pods, now);
            assert_eq!(pace.rest("n/web", now), rest.map(Duration::from_millis), "{pods} pods");
        }
    }

    #[test]
    fn a_rest_ends() {
        let (pace, now) = (Pace::default(), Instant::now());
        pace.looked("n/web", 1000, now);
        assert_eq!(pace.rest("n/web", now + Duration::from_millis(4)), Some(Duration::from_millis(36)));
        assert_eq!(pace.rest("n/web", now + Duration::from_millis(40)), None);
        assert_eq!(pace.rest("n/other", now), None);
        pace.looked("n/web", 1000, now);
        pace.forget("n/web");
        assert_eq!(pace.rest("n/web", now), None);
        assert!(pace.0.lock().is_empty());
    }
}
