//! An ordered map with constant-time snapshots: a B+tree whose nodes are shared until changed.
//!
//! A clone is a snapshot: readers walk it without locks while the owner goes on changing its own. A change copies the
//! nodes on one path if a snapshot shares them, and nothing otherwise. Nodes know their size, so counting a range costs
//! as much as finding its ends.

use std::sync::Arc;

/// Children of a node at most. Copying a node costs this many reference counts.
const MAX: usize = 32;
/// A node smaller than this is joined with a neighbour that has room.
const MIN: usize = MAX / 4;

/// What can be in a tree.
pub trait Keyed {
    /// The position in the tree.
    fn key(&self) -> &[u8];
}

enum Node<T> {
    Leaf(Vec<Arc<T>>),
    Inner { children: Vec<Arc<Node<T>>>, len: usize },
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(items) => Self::Leaf(items.clone()),
            Self::Inner { children, len } => Self::Inner { children: children.clone(), len: *len },
        }
    }
}

/// The map. Cloning takes a snapshot.
pub struct Tree<T> {
    root: Arc<Node<T>>,
}

impl<T> Clone for Tree<T> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root) }
    }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())) }
    }
}

impl<T: Keyed> Tree<T> {
    /// Builds a tree from items in ascending key order.
    pub fn from_sorted(items: Vec<Arc<T>>) -> Self {
        let mut nodes: Vec<Arc<Node<T>>> = chunks(items).map(|leaf| Arc::new(Node::Leaf(leaf))).collect();
        while nodes.len() > 1 {
            nodes = chunks(nodes).map(|children| Arc::new(Node::inner(children))).collect();
        }
        nodes.pop().map_or_else(Self::default, |root| Self { root })
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.root.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds an item.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<T>> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    let at = items.binary_search_by(|item| item.key().cmp(key)).ok()?;
                    return items.get(at);
                }
                Node::Inner { children, .. } => node = children.get(child_for(children, key))?,
            }
        }
    }

    /// Puts an item in; the one it replaces.
    pub fn insert(&mut self, item: Arc<T>) -> Option<Arc<T>> {
        let (old, split) = insert(&mut self.root, item);
        if let Some(right) = split {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            self.root = Arc::new(Node::inner(vec![left, right]));
        }
        old
    }

    /// Takes an item out.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<T>> {
        self.get(key)?;
        let old = remove(&mut self.root, key);
        while let Node::Inner { children, .. } = &*self.root {
            match children.as_slice() {
                [] => self.root = Arc::new(Node::Leaf(Vec::new())),
                [only] => self.root = Arc::clone(only),
                _ => break,
            }
        }
        old
    }

    /// How many keys are less than `key`.
    pub fn rank(&self, key: &[u8]) -> usize {
        let mut node = &*self.root;
        let mut before = 0;
        loop {
            match node {
                Node::Leaf(items) => return before + items.partition_point(|item| item.key() < key),
                Node::Inner { children, .. } => {
                    let at = child_for(children, key);
                    before += children.iter().take(at).map(|child| child.len()).sum::<usize>();
                    let Some(child) = children.get(at) else { return before };
                    node = child;
                }
            }
        }
    }

    /// The items from `start` on, in order.
    pub fn iter_from(&self, start: &[u8]) -> Iter<'_, T> {
        let mut stack = Vec::with_capacity(4);
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    let at = items.partition_point(|item| item.key() < start);
                    return Iter { stack, leaf: items.get(at..).unwrap_or_default().iter() };
                }
                Node::Inner { children, .. } => {
                    let at = child_for(children, start);
                    stack.push(children.get(at + 1..).unwrap_or_default().iter());
                    let Some(child) = children.get(at) else { return Iter { stack, leaf: [].iter() } };
                    node = child;
                }
            }
        }
    }

    /// All items in order.
    pub fn iter(&self) -> Iter<'_, T> {
        self.iter_from(b"")
    }
}

/// An ordered walk.
pub struct Iter<'a, T> {
    stack: Vec<std::slice::Iter<'a, Arc<Node<T>>>>,
    leaf: std::slice::Iter<'a, Arc<T>>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a Arc<T>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.leaf.next() {
                return Some(item);
            }
            let next = self.stack.last_mut()?.next();
            match next.map(|node| &**node) {
                None => drop(self.stack.pop()),
                Some(Node::Leaf(items)) => self.leaf = items.iter(),
                Some(Node::Inner { children, .. }) => self.stack.push(children.iter()),
            }
        }
    }
}

impl<T> Node<T> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner { len, .. } => *len,
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner { children, .. } => children.len(),
        }
    }

    fn inner(children: Vec<Arc<Self>>) -> Self {
        let len = children.iter().map(|child| child.len()).sum();
        Self::Inner { children, len }
    }
}

impl<T: Keyed> Node<T> {
    fn first_key(&self) -> &[u8] {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(items) => return items.first().map_or(b"", |item| item.key()),
                Self::Inner { children, .. } => match children.first() {
                    Some(child) => node = child,
                    None => return b"",
                },
            }
        }
    }
}

/// Groups of at most `MAX`, of nearly equal size so that none is below `MIN`.
fn chunks<I>(items: Vec<I>) -> impl Iterator<Item = Vec<I>> {
    let groups = items.len().div_ceil(MAX).max(1);
    let size = items.len().div_ceil(groups).max(1);
    let mut rest = items.into_iter();
    std::iter::from_fn(move || {
        let group: Vec<I> = rest.by_ref().take(size).collect();
        (!group.is_empty()).then_some(group)
    })
}

/// The child that holds `key` or would.
fn child_for<T: Keyed>(children: &[Arc<Node<T>>], key: &[u8]) -> usize {
    children.partition_point(|child| child.first_key() <= key).saturating_sub(1)
}

type Split<T> = Option<Arc<Node<T>>>;

/// Depth is logarithmic, so recursion is bounded by the number of items that fit in memory.
fn insert<T: Keyed>(node: &mut Arc<Node<T>>, item: Arc<T>) -> (Option<Arc<T>>, Split<T>) {
    match Arc::make_mut(node) {
        Node::Leaf(items) => match items.binary_search_by(|other| other.key().cmp(item.key())) {
            Ok(at) => (items.get_mut(at).map(|slot| std::mem::replace(slot, item)), None),
            Err(at) => {
                items.insert(at, item);
                let split = (items.len() > MAX).then(|| Arc::new(Node::Leaf(items.split_off(MAX / 2))));
                (None, split)
            }
        },
        Node::Inner { children, len } => {
            let at = child_for(children, item.key());
            let Some(child) = children.get_mut(at) else { return (None, None) };
            let (old, split) = insert(child, item);
            *len += usize::from(old.is_none());
            if let Some(right) = split {
                children.insert(at + 1, right);
            }
            if children.len() <= MAX {
                return (old, None);
            }
            let right = Node::inner(children.split_off(MAX / 2));
            *len -= right.len();
            (old, Some(Arc::new(right)))
        }
    }
}

fn remove<T: Keyed>(node: &mut Arc<Node<T>>, key: &[u8]) -> Option<Arc<T>> {
    match Arc::make_mut(node) {
        Node::Leaf(items) => {
            let at = items.binary_search_by(|item| item.key().cmp(key)).ok()?;
            Some(items.remove(at))
        }
        Node::Inner { children, len } => {
            let at = child_for(children, key);
            let old = remove(children.get_mut(at)?, key)?;
            *len -= 1;
            join(children, at);
            Some(old)
        }
    }
}

/// Joins a small child with a neighbour, or drops it when empty.
fn join<T: Keyed>(children: &mut Vec<Arc<Node<T>>>, at: usize) {
    let width = |i: usize| children.get(i).map_or(MAX, |child| child.width());
    if width(at) >= MIN {
        return;
    }
    if width(at) == 0 {
        children.remove(at);
        return;
    }
    let left = if at > 0 && width(at - 1) + width(at) <= MAX {
        at - 1
    } else if at + 1 < children.len() && width(at) + width(at + 1) <= MAX {
        at
    } else {
        return;
    };
    let right = children.remove(left + 1);
    let Some(into) = children.get_mut(left) else { return };
    match (Arc::make_mut(into), &*right) {
        (Node::Leaf(items), Node::Leaf(more)) => items.extend(more.iter().cloned()),
        (Node::Inner { children, len }, Node::Inner { children: more, len: added }) => {
            children.extend(more.iter().cloned());
            *len += added;
        }
        // All leaves have the same depth, so neighbours are of one sort.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item(Vec<u8>, u32);

    impl Keyed for Item {
        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    fn key(n: u16) -> Vec<u8> {
        format!("{n:05}").into_bytes()
    }

    fn contents(tree: &Tree<Item>) -> Vec<(Vec<u8>, u32)> {
        tree.iter().map(|item| (item.0.clone(), item.1)).collect()
    }

    fn check_shape(node: &Node<Item>) -> usize {
        match node {
            Node::Leaf(items) => {
                assert!(items.len() <= MAX);
                1
            }
            Node::Inner { children, len } => {
                assert!(children.len() <= MAX && !children.is_empty());
                assert_eq!(*len, children.iter().map(|c| c.len()).sum::<usize>());
                let depths: Vec<_> = children.iter().map(|child| check_shape(child)).collect();
                assert!(depths.iter().all(|depth| depth == &depths[0]), "leaves at different depths");
                depths[0] + 1
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn equals_a_btree_map_and_snapshots_do_not_change(
            start in 0u16..600,
            ops in proptest::collection::vec((0u16..700, any::<bool>(), proptest::bool::weighted(0.02)), 0..1500),
        ) {
            let mut model: BTreeMap<Vec<u8>, u32> = (0..start).map(|n| (key(n), 0)).collect();
            let mut tree = Tree::from_sorted(model.iter().map(|(k, v)| Arc::new(Item(k.clone(), *v))).collect());
            let mut snapshots = Vec::new();
            for (i, (n, add, snapshot)) in ops.into_iter().enumerate() {
                let (k, v) = (key(n), i as u32 + 1);
                if add {
                    let old = tree.insert(Arc::new(Item(k.clone(), v)));
                    prop_assert_eq!(old.map(|item| item.1), model.insert(k.clone(), v));
                } else {
                    prop_assert_eq!(tree.remove(&k).map(|item| item.1), model.remove(&k));
                }
                prop_assert_eq!(tree.get(&k).map(|item| item.1), model.get(&k).copied());
                if snapshot {
                    snapshots.push((tree.clone(), model.clone()));
                }
            }
            snapshots.push((tree, model));
            for (tree, model) in snapshots {
                check_shape(&tree.root);
                prop_assert_eq!(tree.len(), model.len());
                let all: Vec<_> = model.iter().map(|(k, v)| (k.clone(), *v)).collect();
                prop_assert_eq!(contents(&tree), all.clone());
                for n in [0, 7, 299, 300, 699] {
                    let from = key(n);
                    let rest: Vec<_> = all.iter().filter(|(k, _)| *k >= from).cloned().collect();
                    let got: Vec<_> = tree.iter_from(&from).map(|item| (item.0.clone(), item.1)).collect();
                    prop_assert_eq!(tree.rank(&from), all.len() - rest.len());
                    prop_assert_eq!(got, rest);
                }
            }
        }
    }
}
