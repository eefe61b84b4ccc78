//! Subsets of a list, in upstream's order and with upstream's memory of them.

use std::cell::Cell;
use std::rc::Rc;

/// A subset. Go's slices share what is behind them: one that was kept is overwritten by those that follow it, in their last
/// places, where upstream's `append` had room. Which processors are chosen depends on it, so it is the same here.
#[derive(Clone, Debug)]
pub struct Subset {
    cells: Rc<[Cell<u32>]>,
    len: usize,
}

impl Subset {
    fn empty() -> Self {
        Self { cells: Rc::new([]), len: 0 }
    }

    fn with(&self, member: u32) -> Self {
        let cells = if self.len < self.cells.len() {
            self.cells.clone()
        } else {
            let room = (self.len * 2).max(1);
            let old = |at: usize| self.cells.get(at).map(Cell::get).unwrap_or_default();
            (0..room).map(|at| Cell::new(old(at))).collect()
        };
        if let Some(cell) = cells.get(self.len) {
            cell.set(member);
        }
        Self { cells, len: self.len + 1 }
    }

    /// The members as they are now.
    pub fn members(&self) -> Vec<u32> {
        self.cells.iter().take(self.len).map(Cell::get).collect()
    }
}

/// Calls `visit` with all subsets of `size` until it answers false. Upstream: iterateCombinations.
pub fn combinations(list: &[u32], size: usize, visit: &mut dyn FnMut(&Subset) -> bool) {
    if size > 0 {
        step(list, size, &Subset::empty(), visit);
    }
}

fn step(list: &[u32], left: usize, so_far: &Subset, visit: &mut dyn FnMut(&Subset) -> bool) -> bool {
    if left == 0 {
        return visit(so_far);
    }
    for (at, member) in list.iter().enumerate() {
        if list.len() - at < left {
            break;
        }
        if !step(&list[at + 1..], left - 1, &so_far.with(*member), visit) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_and_what_is_kept() {
        let (mut seen, mut kept) = (Vec::new(), Vec::new());
        combinations(&[1, 2, 3], 2, &mut |s| {
            seen.push(s.members());
            true
        });
        assert_eq!(seen, [[1, 2], [1, 3], [2, 3]]);
        combinations(&[1, 2, 3, 4, 5], 4, &mut |s| {
            kept.push(s.clone());
            true
        });
        assert_eq!(kept[0].members(), [1, 2, 3, 5], "as upstream's slices");
    }
}
