//! Work, in seats times time.

use std::fmt;
use std::time::Duration;

/// Seat-seconds in units of 10⁻⁸; wraps around as upstream's unsigned counter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SeatSeconds(pub u64);

const SCALE: u64 = 100_000_000;

impl SeatSeconds {
    /// The largest.
    pub const MAX: SeatSeconds = SeatSeconds(u64::MAX);

    /// A number of seats for a number of nanoseconds, which may be negative. Upstream: `SeatsTimesDuration`.
    #[must_use]
    pub fn of(seats: f64, nanos: i64) -> Self {
        Self((seats * nanos as f64 / 10.0).round() as i64 as u64)
    }

    /// A number of seats for some time.
    #[must_use]
    pub fn during(seats: f64, span: Duration) -> Self {
        Self::of(seats, nanos(span))
    }

    /// How long this lasts on a number of seats.
    #[must_use]
    pub fn per_seat(self, seats: f64) -> Duration {
        Duration::from_nanos((self.0 as f64 / seats * 10.0) as u64)
    }

    /// Sum, wrapping.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// Difference, wrapping.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    /// In seat-seconds.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / SCALE as f64
    }
}

impl fmt::Display for SeatSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08}ss", self.0 / SCALE, self.0 % SCALE)
    }
}

/// A span in nanoseconds, as far as they fit.
pub(crate) fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// What a request is expected to take. Upstream: `WorkEstimate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Seats while it is handled.
    pub initial: u64,
    /// Seats after that, for the events it has caused.
    pub last: u64,
    /// How long the last seats stay taken.
    pub linger: Duration,
}

impl Work {
    /// So many seats, and nothing afterwards.
    #[must_use]
    pub const fn seats(initial: u64) -> Self {
        Self { initial, last: 0, linger: Duration::ZERO }
    }

    /// Seats reserved from dispatch until the last are released.
    #[must_use]
    pub fn max_seats(&self) -> u64 {
        self.initial.max(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic() {
        assert_eq!(SeatSeconds::of(2.0, 1_000_000_000), SeatSeconds(2 * SCALE));
        assert_eq!(SeatSeconds::of(1.0, -30), SeatSeconds(3u64.wrapping_neg()));
        assert_eq!(SeatSeconds(10).plus(SeatSeconds::of(1.0, -30)), SeatSeconds(7));
        assert_eq!(SeatSeconds(SCALE).per_seat(4.0), Duration::from_millis(250));
        assert_eq!(SeatSeconds(SCALE + 5).to_string(), "1.00000005ss");
    }
}
