//! Sets of NUMA nodes, and what is thought of them. Upstream: pkg/kubelet/cm/topologymanager/bitmask, v1.37.

/// A set of NUMA nodes below 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mask(pub u64);

impl Mask {
    /// A set of these nodes; nodes from 64 on cannot be in one.
    pub fn of(nodes: &[u32]) -> Self {
        Self(nodes.iter().filter_map(|node| 1u64.checked_shl(*node)).fold(0, |all, bit| all | bit))
    }

    /// How many.
    pub fn count(self) -> usize {
        usize::try_from(self.0.count_ones()).unwrap_or_default()
    }

    /// True if the node is one of them.
    pub fn has(self, node: u32) -> bool {
        1u64.checked_shl(node).is_some_and(|bit| self.0 & bit != 0)
    }

    /// The nodes, in order.
    pub fn bits(self) -> Vec<u32> {
        (0..64).filter(|node| self.has(*node)).collect()
    }

    /// True if there are fewer, or as many but lower ones.
    pub fn is_narrower_than(self, other: Self) -> bool {
        (self.count(), self.0) < (other.count(), other.0)
    }
}

/// A possible choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The nodes; absent if all are alike.
    pub affinity: Option<Mask>,
    /// True if there is no better one on this machine.
    pub preferred: bool,
}

/// All sets of these nodes but the empty one, smaller ones first.
pub fn masks(nodes: &[u32]) -> Vec<Mask> {
    fn walk(nodes: &[u32], left: usize, so_far: u64, out: &mut Vec<Mask>) {
        if left == 0 {
            out.push(Mask(so_far));
            return;
        }
        for (at, node) in nodes.iter().enumerate() {
            walk(&nodes[at + 1..], left - 1, so_far | Mask::of(&[*node]).0, out);
        }
    }
    let mut out = Vec::new();
    for size in 1..=nodes.len() {
        walk(nodes, size, 0, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let all: Vec<Vec<u32>> = masks(&[0, 2, 5]).into_iter().map(Mask::bits).collect();
        assert_eq!(all, [vec![0], vec![2], vec![5], vec![0, 2], vec![0, 5], vec![2, 5], vec![0, 2, 5]]);
        assert!(
            Mask::of(&[3]).is_narrower_than(Mask::of(&[0, 1]))
                && Mask::of(&[0]).is_narrower_than(Mask::of(&[1]))
        );
        assert_eq!(Mask::of(&[64, 100]), Mask(0));
    }
}
