//! Ranges of sizes and costs, with arithmetic that stops at the largest number.

/// From `min` to `max`, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

/// A factor times a number, rounded up.
fn scaled(x: u64, factor: f64) -> u64 {
    // Converting saturates, as upstream's checks do.
    (x as f64 * factor).ceil() as u64
}

impl Range {
    pub const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

    pub const fn fixed(n: u64) -> Range {
        Range { min: n, max: n }
    }

    pub const fn new(min: u64, max: u64) -> Range {
        Range { min, max }
    }

    pub fn plus(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub fn times(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub fn scaled(self, factor: f64) -> Range {
        Range { min: scaled(self.min, factor), max: scaled(self.max, factor) }
    }

    pub fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}
