//! One choice out of many hints. Upstream: HintMerger in pkg/kubelet/cm/topologymanager/policy.go, v1.37.

use std::collections::BTreeMap;

use super::hint::{Hint, Mask};

/// A choice with its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The nodes.
    pub affinity: Mask,
    /// True if there is no better one.
    pub preferred: bool,
}

/// The machine's nodes.
#[derive(Clone, Debug, Default)]
pub struct NumaInfo {
    /// All of them.
    pub all: Mask,
    /// How far it is from each to the others; absent unless that matters.
    pub distances: Option<BTreeMap<u32, Vec<u64>>>,
}

impl NumaInfo {
    #[expect(clippy::cast_precision_loss, reason = "upstream's arithmetic")]
    fn mean_distance(distances: &BTreeMap<u32, Vec<u64>>, mask: Mask) -> f64 {
        let nodes = mask.bits();
        let one = |from: &u32, to: &u32| {
            let to = usize::try_from(*to).unwrap_or(usize::MAX);
            distances.get(from).and_then(|list| list.get(to)).copied().unwrap_or_default() as f64
        };
        let sum: f64 = nodes.iter().flat_map(|from| nodes.iter().map(move |to| one(from, to))).sum();
        sum / (nodes.len() * nodes.len()).max(1) as f64
    }

    fn better(&self, current: Mask, candidate: Mask) -> bool {
        if let Some(distances) = self.distances.as_ref().filter(|_| current.count() == candidate.count()) {
            let (old, new) =
                (Self::mean_distance(distances, current), Self::mean_distance(distances, candidate));
            #[expect(clippy::float_cmp, reason = "as upstream")]
            return if old == new { candidate.0 < current.0 } else { new < old };
        }
        candidate.is_narrower_than(current)
    }
}

/// Merges the hints of all resources. Each list is one resource's.
pub fn merge(info: &NumaInfo, hints: &[Vec<Hint>]) -> Merged {
    let narrowest = |list: &Vec<Hint>| {
        list.iter().filter_map(|h| h.affinity).reduce(|a, b| if b.is_narrower_than(a) { b } else { a })
    };
    // Among choices that nobody prefers, best is one with as many nodes as the resource that needs most of them.
    let target = hints.iter().filter_map(narrowest).map(Mask::count).max().unwrap_or_default();
    let mut best: Option<Merged> = None;
    permutations(hints, &mut Vec::new(), &mut |chosen| {
        let candidate = combined(info.all, chosen);
        if candidate.affinity.count() > 0 && best.is_none_or(|best| replaces(info, target, best, candidate)) {
            best = Some(candidate);
        }
    });
    best.unwrap_or(Merged { affinity: info.all, preferred: false })
}

fn permutations(left: &[Vec<Hint>], chosen: &mut Vec<Hint>, visit: &mut dyn FnMut(&[Hint])) {
    let Some((first, rest)) = left.split_first() else {
        visit(chosen);
        return;
    };
    for hint in first {
        chosen.push(*hint);
        permutations(rest, chosen, visit);
        chosen.pop();
    }
}

fn combined(all: Mask, chosen: &[Hint]) -> Merged {
    let masks: Vec<Mask> = chosen.iter().filter_map(|hint| hint.affinity).collect();
    let same = masks.windows(2).all(|pair| pair[0] == pair[1]);
    Merged {
        affinity: Mask(masks.iter().fold(all.0, |sum, mask| sum & mask.0)),
        preferred: same && chosen.iter().all(|hint| hint.preferred),
    }
}

fn replaces(info: &NumaInfo, target: usize, current: Merged, candidate: Merged) -> bool {
    if current.preferred != candidate.preferred {
        return candidate.preferred;
    }
    let fitter = current.affinity != candidate.affinity && info.better(current.affinity, candidate.affinity);
    let (have, offered) = (current.affinity.count(), candidate.affinity.count());
    if current.preferred || have > target {
        return fitter;
    }
    if have == target {
        return offered == target && fitter;
    }
    match offered {
        _ if offered > target => false,
        _ if offered == target || offered > have => true,
        _ if offered < have => false,
        _ => fitter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_resources() {
        let info = NumaInfo { all: Mask(0b1111), distances: None };
        let hint = |mask, preferred| Hint { affinity: Some(Mask(mask)), preferred };
        let any = vec![Hint { affinity: None, preferred: true }];
        let merged = |hints: &[Vec<Hint>]| {
            let found = merge(&info, hints);
            (found.affinity.0, found.preferred)
        };
        assert_eq!(merged(std::slice::from_ref(&any)), (0b1111, true));
        assert_eq!(merged(&[vec![hint(1, true), hint(2, true)], vec![hint(2, true)]]), (2, true));
        assert_eq!(merged(&[vec![hint(1, true)], vec![hint(3, false)], any.clone()]), (1, false));
        assert_eq!(merged(&[vec![hint(1, true)], vec![hint(2, true)]]), (0b1111, false));
        assert_eq!(merged(&[vec![hint(3, false), hint(7, false)], vec![hint(7, true)]]), (7, false));
        assert_eq!(merged(&[vec![]]), (0b1111, false));
        let far = BTreeMap::from([(0, vec![10, 30, 20]), (1, vec![30, 10, 20]), (2, vec![20, 20, 10])]);
        let info = NumaInfo { all: Mask(0b111), distances: Some(far) };
        assert_eq!(merge(&info, &[vec![hint(3, true), hint(5, true), hint(6, true)]]).affinity, Mask(5));
    }
}
