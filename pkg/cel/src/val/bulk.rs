//! How much there is to walk through in a value.
//!
//! Parts are shared, so a short expression can make a value of 2^n nodes or of great depth that takes little memory,
//! and one comparison of such values would never end or exhaust the stack. Upstream has no limit but its caller's
//! deadline; here making a value beyond [`MAX_NODES`] or [`MAX_DEPTH`] counts as exceeding the cost limit.

use super::Val;

/// Nodes, counting shared ones each time; sixteen bytes of text are one more. Elements made by loops cost one each,
/// so this is beyond what the API server's budget of a million makes.
pub(crate) const MAX_NODES: u64 = 1 << 22;
/// Lists, maps, objects and optionals within each other.
pub(crate) const MAX_DEPTH: u32 = 1_000;
/// Bytes of text and of elements that calls may put together during one evaluation.
pub(crate) const MAX_MADE: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bulk {
    nodes: u64,
    depth: u32,
}

impl Bulk {
    pub fn add(&mut self, part: Bulk) {
        self.nodes = self.nodes.saturating_add(part.nodes);
        self.depth = self.depth.max(part.depth);
    }

    /// Of everything in a container.
    pub fn all<'v, 'a: 'v>(parts: impl IntoIterator<Item = &'v Val<'a>>) -> Bulk {
        let mut sum = Bulk::default();
        parts.into_iter().for_each(|part| sum.add(part.bulk()));
        sum
    }

    /// Of so many parts without parts.
    pub fn flat(parts: usize) -> Bulk {
        Bulk { nodes: parts as u64, depth: 0 }
    }

    fn within(self) -> Bulk {
        Bulk { nodes: self.nodes.saturating_add(1), depth: self.depth + 1 }
    }

    /// Bytes that a copy of everything would take.
    pub fn bytes(self) -> u64 {
        self.nodes.saturating_mul(size_of::<Val<'_>>() as u64)
    }

    pub fn is_too_much(self) -> bool {
        self.nodes > MAX_NODES || self.depth > MAX_DEPTH
    }
}

impl Val<'_> {
    pub(crate) fn bulk(&self) -> Bulk {
        match self {
            Val::Str(s) => Bulk { nodes: 1 + s.len() as u64 / 16, depth: 0 },
            Val::Bytes(b) => Bulk { nodes: 1 + b.len() as u64 / 16, depth: 0 },
            Val::List(list) => list.bulk().within(),
            Val::Map(map) => map.bulk().within(),
            Val::Made(made) => made.bulk().within(),
            Val::Optional(Some(inner)) => inner.bulk().within(),
            _ => Bulk { nodes: 1, depth: 0 },
        }
    }

    /// Bytes that this value itself takes.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Val::Str(super::Text::Own(s)) => s.len() as u64,
            Val::Bytes(b) => b.len() as u64,
            Val::List(list) if !list.is_tree() => (list.len() * size_of::<Val<'_>>()) as u64,
            _ => 0,
        }
    }
}
