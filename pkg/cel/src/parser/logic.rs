//! `a && b && c` as a balanced tree, so that long chains do not nest deeply.

use super::Node;
use crate::ast::{Expr, Id};

pub(super) struct Terms {
    terms: Vec<Expr>,
    ops: Vec<Id>,
    depth: u32,
}

impl Terms {
    pub fn new(first: Node) -> Self {
        Terms { depth: first.depth, terms: vec![first.expr], ops: Vec::new() }
    }

    pub fn push(&mut self, op: Id, term: Node) {
        self.depth = self.depth.max(term.depth);
        self.terms.push(term.expr);
        self.ops.push(op);
    }

    pub fn finish(mut self, function: &str) -> Node {
        let last = self.ops.len();
        let mut terms = self.terms.drain(..);
        let expr = match last {
            0 => terms.next(),
            n => balance(&self.ops, function, &mut terms, 0, n - 1),
        };
        let expr = expr.unwrap_or(Expr { id: 0, kind: crate::ast::Kind::Unspecified });
        Node { expr, depth: self.depth }
    }
}

/// The tree over operators `lo..=hi`, its leaves taken from left to right.
fn balance(
    ops: &[Id],
    function: &str,
    terms: &mut impl Iterator<Item = Expr>,
    lo: usize,
    hi: usize,
) -> Option<Expr> {
    let mid = (lo + hi).div_ceil(2);
    let left = if mid == lo { terms.next() } else { balance(ops, function, terms, lo, mid - 1) }?;
    let right = if mid == hi { terms.next() } else { balance(ops, function, terms, mid + 1, hi) }?;
    Some(Expr::call(ops[mid], function, vec![left, right]))
}
