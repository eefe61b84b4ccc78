//! Sets of completion indexes, written as `0-2,5,7,8`. Pure.
//! Upstream: pkg/controller/job/indexed_job_utils.go orderedIntervals.

use std::fmt;

/// Disjoint runs of indexes in order, not touching one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads the text; runs that are malformed are skipped, what is not below `completions` is cut off.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut out = Self::default();
        for run in text.split(',').filter(|_| !text.is_empty()) {
            let mut limits = run.split('-');
            let Some(Ok(first)) = limits.next().map(str::parse::<i32>) else { continue };
            if first >= completions {
                break;
            }
            let last = match limits.next().map(str::parse::<i32>) {
                None => first,
                Some(Ok(last)) => last.min(completions - 1),
                Some(Err(_)) => continue,
            };
            match out.0.last_mut() {
                Some((_, end)) if *end == first - 1 => *end = last,
                _ => out.0.push((first, last)),
            }
        }
        out
    }

    /// From any indexes.
    pub fn of(all: impl IntoIterator<Item = i32>) -> Self {
        let mut all: Vec<i32> = all.into_iter().collect();
        all.sort_unstable();
        Self::default().merge(all.into_iter().map(|i| (i, i)))
    }

    fn merge(&self, others: impl Iterator<Item = (i32, i32)>) -> Self {
        let mut all: Vec<(i32, i32)> = self.0.iter().copied().chain(others).collect();
        all.sort_unstable();
        let mut out: Vec<(i32, i32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match out.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => out.push((first, last)),
            }
        }
        Self(out)
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.merge(other.0.iter().copied())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn count(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many indexes both have.
    pub fn in_common(&self, other: &Self) -> i32 {
        let (mut a, mut b, mut common) = (0, 0, 0);
        while let (Some((a_first, a_last)), Some((b_first, b_last))) = (self.0.get(a), other.0.get(b)) {
            common += (a_last.min(b_last) - a_first.max(b_first) + 1).max(0);
            let order = a_last.cmp(b_last);
            a += usize::from(order.is_le());
            b += usize::from(order.is_ge());
        }
        common
    }

    /// The first `count` indexes below `completions` that are not in the set. Upstream: firstPendingIndexes.
    pub fn first_missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut out = Vec::with_capacity(count.min(1024));
        let mut candidate = 0;
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            while candidate < first.min(completions) && out.len() < count {
                out.push(candidate);
                candidate += 1;
            }
            candidate = candidate.max(last.saturating_add(1));
        }
        out
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        for (text, completions, expected) in [
            ("", 10, ""),
            ("0-2,5,7,8", 10, "0-2,5,7,8"),
            ("0,1,2", 10, "0-2"),
            ("0-9", 5, "0-4"),
            ("1,x,3", 10, "1,3"),
            ("7,8", 5, ""),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), expected, "{text}");
        }
    }

    proptest! {
        /// Reading what was written gives the same set, and membership is what it says.
        #[test]
        fn round_trip(all in prop::collection::btree_set(0i32..60, 0..40), count in 0usize..20) {
            let set = Indexes::of(all.iter().copied());
            prop_assert_eq!(&Indexes::parse(&set.to_string(), 100), &set);
            prop_assert_eq!(set.count(), i32::try_from(all.len()).expect("small"));
            prop_assert!((0..60).all(|i| set.has(i) == all.contains(&i)));
            let missing: Vec<i32> = (0..50).filter(|i| !all.contains(i)).take(count).collect();
            prop_assert_eq!(set.first_missing(count, 50), missing);
        }

        /// What two sets have in common does not depend on the order.
        #[test]
        fn common(a in prop::collection::btree_set(0i32..40, 0..30), b in prop::collection::btree_set(0i32..40, 0..30)) {
            let expected = i32::try_from(a.intersection(&b).count()).expect("small");
            let (a, b) = (Indexes::of(a), Indexes::of(b));
            prop_assert_eq!((a.in_common(&b), b.in_common(&a)), (expected, expected));
        }
    }
}
