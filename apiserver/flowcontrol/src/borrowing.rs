//! Lends seats of levels that do not use them to levels that could.
//!
//! Each period every level's demand is measured and smoothed; the seats are divided anew in proportion to demand, within
//! what each level must keep and may borrow. Upstream: `updateBorrowingLocked` of
//! `k8s.io/apiserver/pkg/util/flowcontrol/apf_controller.go`.

use std::time::Duration;

use crate::allocation::{Item, allocate};
use crate::config::Limits;
use crate::integrator::Statistics;

/// How often.
pub const PERIOD: Duration = Duration::from_secs(10);
/// Weight of the past in smoothed demand: half is forgotten in five minutes.
const SMOOTHING: f64 = 0.977;

/// A level's demand for seats.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Demand {
    /// Average of the latest period.
    pub average: f64,
    /// Standard deviation of the latest period.
    pub deviation: f64,
    /// The most in the latest period.
    pub high: u64,
    /// Rises at once, falls slowly.
    pub smoothed: f64,
}

impl Demand {
    /// Takes another period into account.
    pub fn observe(&mut self, seen: Statistics) {
        self.high = seen.max.round().max(0.0) as u64;
        if seen.duration <= 0.0 {
            return;
        }
        self.deviation = if seen.deviation.is_nan() { 0.0 } else { seen.deviation };
        self.average = seen.average;
        let envelope = self.average + self.deviation;
        self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
    }
}

/// A level as it takes part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Party {
    /// It always gets what it needs.
    pub exempt: bool,
    /// What it is configured to have, keep and borrow.
    pub limits: Limits,
    /// What it wants.
    pub demand: Demand,
    /// What it has.
    pub current: u64,
}

impl Party {
    /// What it must be left with: what it needed at most, as far as that is its own.
    fn floor(&self) -> u64 {
        let own = if self.exempt { self.demand.high } else { self.demand.high.min(self.limits.nominal) };
        self.limits.min.max(own)
    }

    fn target(&self) -> f64 {
        if self.exempt { self.floor() as f64 } else { self.demand.smoothed.max(self.floor() as f64) }
    }
}

/// What a level gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Seats.
    pub current: u64,
    /// What its seats are proportional to.
    pub target: f64,
}

/// Divides the seats; also returns the fraction of its target that each unbounded level gets.
#[must_use]
pub fn divide(parties: &[Party]) -> (Vec<Share>, f64) {
    let nominal: u64 = parties.iter().map(|p| p.limits.nominal).sum();
    let others = || parties.iter().filter(|p| !p.exempt);
    let exempted: u64 = parties.iter().filter(|p| p.exempt).map(Party::floor).sum();
    let remaining = nominal.saturating_sub(exempted);
    let least: u64 = others().map(|p| p.limits.min).sum();
    let floors: u64 = others().map(Party::floor).sum();
    let (fraction, seats): (f64, Vec<u64>) = if remaining <= least {
        (0.0, others().map(|p| p.limits.min).collect())
    } else if remaining <= floors {
        let part = (remaining - least) as f64 / (floors - least) as f64;
        let seats = |p: &Party| p.limits.min + ((p.floor() - p.limits.min) as f64 * part).round() as u64;
        (0.0, others().map(seats).collect())
    } else {
        let item =
            |p: &Party| Item { lower: p.floor() as f64, upper: p.limits.max as f64, target: p.target() };
        match allocate(nominal as f64, &others().map(item).collect::<Vec<_>>()) {
            Ok((shares, fraction)) => (fraction, shares.iter().map(|s| s.round() as u64).collect()),
            // Cannot happen with limits made by `config`; everyone keeps what it has.
            Err(_) => (0.0, others().map(|p| p.current).collect()),
        }
    };
    let mut seats = seats.into_iter();
    let share = |p: &Party| {
        let current = if p.exempt { p.floor() } else { seats.next().unwrap_or(p.current) };
        Share { current, target: p.target() }
    };
    (parties.iter().map(share).collect(), fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(nominal: u64, min: u64, max: u64, high: u64, smoothed: f64) -> Party {
        Party {
            exempt: false,
            limits: Limits { nominal, min, max },
            demand: Demand { high, smoothed, ..Demand::default() },
            current: nominal,
        }
    }

    #[test]
    fn an_idle_level_lends() {
        let (shares, _) = divide(&[party(100, 50, 200, 0, 0.0), party(100, 100, 200, 100, 300.0)]);
        assert_eq!([shares[0].current, shares[1].current], [50, 150]);
    }

    #[test]
    fn what_is_needed_is_not_lent() {
        let (shares, _) = divide(&[party(100, 50, 200, 90, 40.0), party(100, 100, 200, 100, 300.0)]);
        assert_eq!([shares[0].current, shares[1].current], [90, 110]);
    }

    #[test]
    fn exempt_requests_come_first() {
        let exempt = Party { exempt: true, ..party(0, 0, 0, 60, 0.0) };
        let (shares, _) = divide(&[exempt, party(60, 20, 100, 60, 60.0), party(40, 20, 100, 40, 40.0)]);
        assert_eq!(shares.iter().map(|s| s.current).collect::<Vec<_>>(), [60, 20, 20]);
        let exempt = Party { exempt: true, ..party(0, 0, 0, 30, 0.0) };
        let (shares, _) = divide(&[exempt, party(60, 20, 100, 60, 60.0), party(40, 20, 100, 40, 40.0)]);
        assert_eq!(shares.iter().map(|s| s.current).collect::<Vec<_>>(), [30, 40, 30]);
    }

    #[test]
    fn demand_rises_at_once_and_falls_slowly() {
        let mut demand = Demand::default();
        let seen = |average| Statistics { duration: 10.0, average, deviation: 0.0, max: average };
        demand.observe(seen(10.0));
        assert_eq!(demand.smoothed, 10.0);
        demand.observe(seen(0.0));
        assert!((demand.smoothed - 9.77).abs() < 1e-9);
    }
}
