//! Processor use right now, from two readings of a counter that only grows.
//!
//! Nothing is read in the background: a group's rate is over the time since somebody asked last, or, where nobody did
//! for a while, over [`PAUSE`]. Upstream's is between two looks of cAdvisor, ten to twenty seconds apart.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long to wait between two readings where there was none before.
pub const PAUSE: Duration = Duration::from_millis(200);
/// Readings closer than this tell too little.
const SHORTEST: Duration = Duration::from_millis(100);
/// An older reading tells of another time.
const LONGEST: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    nanos: u64,
    /// Between this reading and the one before it.
    rate: u64,
}

/// The last reading of each group.
#[derive(Debug, Default)]
pub struct Rates(HashMap<String, Reading>);

impl Rates {
    /// Notes a first reading of a group; false if there is a recent one, with which the next makes a rate.
    pub fn begin(&mut self, id: &str, nanos: u64, now: Instant) -> bool {
        let recent = |r: &Reading| now.duration_since(r.at) <= LONGEST && r.nanos <= nanos;
        if self.0.get(id).is_some_and(recent) {
            return false;
        }
        self.0.insert(id.to_owned(), Reading { at: now, nanos, rate: 0 });
        true
    }

    /// Billionths of a core that a group used since its last reading; zero until there are two, as upstream shows it.
    pub fn take(&mut self, id: &str, nanos: u64, now: Instant) -> u64 {
        self.begin(id, nanos, now);
        let Some(last) = self.0.get_mut(id) else { return 0 };
        let passed = now.duration_since(last.at);
        if passed >= SHORTEST {
            let used = u128::from(nanos.saturating_sub(last.nanos)).saturating_mul(1_000_000_000);
            let rate = used.checked_div(passed.as_nanos()).unwrap_or_default();
            *last = Reading { at: now, nanos, rate: u64::try_from(rate).unwrap_or(u64::MAX) };
        }
        last.rate
    }

    /// Forgets groups that were not read in a while: most are gone.
    pub fn tidy(&mut self, now: Instant) {
        self.0.retain(|_, reading| now.duration_since(reading.at) <= LONGEST);
        self.0.shrink_to(self.0.len().saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_readings() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut rates = Rates::default();
        assert!(rates.begin("/a", 1_000, at(0)));
        assert!(!rates.begin("/a", 1_000, at(1)));
        // A tenth of a core.
        assert_eq!(rates.take("/a", 20_001_000, at(200)), 100_000_000);
        // Too soon to tell anything new.
        assert_eq!(rates.take("/a", 90_000_000, at(210)), 100_000_000);
        assert_eq!(rates.take("/a", 20_001_000, at(10_200)), 0);
        // Made anew under the same name: its counter begins again.
        assert_eq!(rates.take("/a", 5, at(11_000)), 0);
        assert_eq!(rates.take("/a", 1_000_000_005, at(12_000)), 1_000_000_000);
        // Nobody asked for more than a minute.
        assert!(rates.begin("/a", 2_000_000_000, at(73_000)));
        assert_eq!(rates.take("/b", 7, at(73_000)), 0);
    }

    #[test]
    fn forgets() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.take("/a", 1, start);
        rates.take("/b", 1, start + Duration::from_secs(50));
        rates.tidy(start + Duration::from_secs(70));
        assert_eq!(rates.0.keys().collect::<Vec<_>>(), ["/b"]);
    }
}
