//! Sets of processors. Upstream: k8s.io/utils/cpuset.

use std::collections::BTreeSet;
use std::fmt;

/// No machine has processors beyond this; keeps a written range from filling the memory.
const MAX: u32 = 65_535;

/// A set of processors (or of cores, sockets, nodes), in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuSet(pub BTreeSet<u32>);

impl CpuSet {
    /// Reads a list such as `0-3,8`; the empty text is the empty set.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |part: &str| -> Result<u32, String> {
            let bad = || format!("strconv.Atoi: parsing {part:?}: invalid syntax");
            let found: u32 = part.parse().map_err(|_| bad())?;
            if found > MAX { Err(format!("processor {found} is beyond {MAX}")) } else { Ok(found) }
        };
        let mut out = BTreeSet::new();
        for range in text.split(',').filter(|_| !text.is_empty()) {
            match range.split_once('-') {
                None => drop(out.insert(number(range)?)),
                Some((from, to)) => {
                    let (from, to) = (number(from)?, number(to)?);
                    if from > to {
                        return Err(format!("invalid range {range:?} ({from} > {to})"));
                    }
                    out.extend(from..=to);
                }
            }
        }
        Ok(Self(out))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Members of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    /// Members of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// Members of this one alone.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    /// True if all members are in the other one.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<T: IntoIterator<Item = u32>>(members: T) -> Self {
        Self(members.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for member in &self.0 {
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == *member => *end = *member,
                _ => ranges.push((*member, *member)),
            }
        }
        for (at, (start, end)) in ranges.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if start == end { write!(f, "{comma}{start}")? } else { write!(f, "{comma}{start}-{end}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, shown) in [("", ""), ("0", "0"), ("3,0-1,2", "0-3"), ("8,1-2,0,5-5", "0-2,5,8")] {
            assert_eq!(CpuSet::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["a", "3-1", "1,", "-1", "0-4000000000", "1-2-3"] {
            assert!(CpuSet::parse(bad).is_err(), "{bad}");
        }
    }
}
