//! Sets of paths, as a trie.
//!
//! Upstream: structured-merge-diff fieldpath/set.go. Members and children are sorted vectors; a child without
//! members below it may occur and does not count. Subsets are shared: what an operation leaves alone is not copied.

use super::path::{Path, PathElement};
use super::schema::{Schema, TypeRef};
use std::cmp::Ordering;
use std::sync::Arc;

/// A set of paths. The root itself is never a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub(super) members: Vec<PathElement>,
    pub(super) children: Vec<(PathElement, Arc<Set>)>,
}

/// The union, intersection or difference of sorted lists: `keep` says which of (only left, both, only right) stay.
fn combine<T: Clone>(a: &[T], b: &[T], cmp: impl Fn(&T, &T) -> Ordering, keep: (bool, bool, bool)) -> Vec<T> {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    loop {
        let order = match (a.get(i), b.get(j)) {
            (None, None) => return out,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => cmp(x, y),
        };
        match order {
            Ordering::Less => {
                if keep.0 {
                    out.push(a[i].clone());
                }
                i += 1;
            }
            Ordering::Equal => {
                if keep.1 {
                    out.push(a[i].clone());
                }
                i += 1;
                j += 1;
            }
            Ordering::Greater => {
                if keep.2 {
                    out.push(b[j].clone());
                }
                j += 1;
            }
        }
    }
}

/// A child, unless it is empty.
fn shared(element: &PathElement, set: Set) -> Option<(PathElement, Arc<Set>)> {
    (!set.is_empty()).then(|| (element.clone(), Arc::new(set)))
}

impl Set {
    /// The set of the given paths.
    pub fn from_paths<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Set {
        let mut set = Set::default();
        for p in paths {
            set.insert(p);
        }
        set
    }

    /// The set of one path of field names, as reset fields are declared.
    pub fn insert_fields(&mut self, path: &[&str]) {
        let path: Vec<_> = path.iter().map(|p| PathElement::Field((*p).into())).collect();
        self.insert(&path);
    }

    pub fn insert(&mut self, path: &Path) {
        match path {
            [] => {}
            [last] => {
                if let Err(i) = self.members.binary_search(last) {
                    self.members.insert(i, last.clone());
                }
            }
            [first, rest @ ..] => self.descend(first).insert(rest),
        }
    }

    /// Adds an element whose place is usually the last.
    pub(super) fn insert_member(&mut self, element: PathElement) {
        if self.members.last().is_none_or(|l| *l < element) {
            self.members.push(element);
        } else if let Err(i) = self.members.binary_search(&element) {
            self.members.insert(i, element);
        }
    }

    /// Adds an element that comes after all others, with what is below it.
    pub(super) fn push(&mut self, element: PathElement, below: Set) {
        debug_assert!(self.members.last().is_none_or(|last| *last < element), "{element} is out of order");
        if !below.is_empty() {
            self.children.push((element.clone(), Arc::new(below)));
        }
        self.members.push(element);
    }

    /// Puts a subset under an element, whose place is usually the last.
    pub(super) fn set_child(&mut self, element: PathElement, set: Set) {
        if self.children.last().is_none_or(|l| l.0 < element) {
            self.children.push((element, Arc::new(set)));
        } else {
            *self.descend(&element) = set;
        }
    }

    /// The subset under a path, created if absent.
    pub(super) fn descend_all(&mut self, path: &Path) -> &mut Set {
        path.iter().fold(self, |set, element| set.descend(element))
    }

    /// The subset under an element, created if absent.
    pub(super) fn descend(&mut self, element: &PathElement) -> &mut Set {
        let i = match self.children.binary_search_by(|c| c.0.cmp(element)) {
            Ok(i) => i,
            Err(i) => {
                self.children.insert(i, (element.clone(), Arc::default()));
                i
            }
        };
        Arc::make_mut(&mut self.children[i].1)
    }

    /// The subset under an element.
    pub fn child(&self, element: &PathElement) -> Option<&Set> {
        let i = self.children.binary_search_by(|c| c.0.cmp(element)).ok()?;
        Some(&self.children[i].1)
    }

    pub(super) fn has_member(&self, element: &PathElement) -> bool {
        self.members.binary_search(element).is_ok()
    }

    pub fn has(&self, path: &Path) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.child(first).is_some_and(|c| c.has(rest)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.iter().all(|c| c.1.is_empty())
    }

    pub fn union(&self, other: &Set) -> Set {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        let mut children = Vec::with_capacity(self.children.len().max(other.children.len()));
        let (mut i, mut j) = (0, 0);
        loop {
            let order = match (self.children.get(i), other.children.get(j)) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.0.cmp(&b.0),
            };
            match order {
                Ordering::Less => children.push(self.children[i].clone()),
                Ordering::Greater => children.push(other.children[j].clone()),
                Ordering::Equal => {
                    let (a, b) = (&self.children[i], &other.children[j]);
                    children.push((a.0.clone(), Arc::new(a.1.union(&b.1))));
                }
            }
            i += usize::from(order.is_le());
            j += usize::from(order.is_ge());
        }
        Set { members: combine(&self.members, &other.members, Ord::cmp, (true, true, true)), children }
    }

    /// Pairs of children both sets have.
    fn common<'a>(&'a self, other: &'a Set) -> impl Iterator<Item = (&'a PathElement, &'a Set, &'a Set)> {
        let mut j = 0;
        self.children.iter().filter_map(move |(pe, a)| {
            while other.children.get(j).is_some_and(|c| c.0 < *pe) {
                j += 1;
            }
            other.children.get(j).filter(|c| c.0 == *pe).map(|c| (pe, &**a, &*c.1))
        })
    }

    pub fn intersection(&self, other: &Set) -> Set {
        let children = self.common(other).map(|(pe, a, b)| (pe.clone(), a.intersection(b)));
        Set {
            members: combine(&self.members, &other.members, Ord::cmp, (false, true, false)),
            children: children.filter(|(_, s)| !s.is_empty()).map(|(pe, s)| (pe, Arc::new(s))).collect(),
        }
    }

    /// Whether the intersection is not empty.
    pub fn intersects(&self, other: &Set) -> bool {
        let member = {
            let (few, many) =
                if self.members.len() < other.members.len() { (self, other) } else { (other, self) };
            few.members.iter().any(|m| many.has_member(m))
        };
        member || self.common(other).any(|(_, a, b)| a.intersects(b))
    }

    /// What is not in `other`. A path in `other` does not remove what lies under it.
    pub fn difference(&self, other: &Set) -> Set {
        let children = self.children.iter().filter_map(|(pe, a)| match other.child(pe) {
            None => Some((pe.clone(), a.clone())),
            Some(b) => shared(pe, a.difference(b)),
        });
        Set {
            children: children.collect(),
            members: combine(&self.members, &other.members, Ord::cmp, (true, false, false)),
        }
    }

    /// What is neither in `other` nor under a path of it.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        let children = self.children.iter().filter(|(pe, _)| !other.has_member(pe)).filter_map(|(pe, a)| {
            match other.child(pe) {
                None => Some((pe.clone(), a.clone())),
                Some(b) => shared(pe, a.recursive_difference(b)),
            }
        });
        Set {
            children: children.collect(),
            members: combine(&self.members, &other.members, Ord::cmp, (true, false, false)),
        }
    }

    /// The set, with the declared fields on the way to its members. `a.b.c` adds `a` if that is a struct's
    /// field, and not if it is a map's entry.
    pub(super) fn with_named_fields(&self, schema: &Schema, tr: Option<TypeRef>) -> Set {
        let atom = tr.and_then(|tr| schema.resolve(tr));
        let map = atom.and_then(|a| a.atom.map.as_ref());
        let list = atom.and_then(|a| a.atom.list.as_ref());
        let mut members = self.members.clone();
        let mut children = Vec::with_capacity(self.children.len());
        for (pe, set) in &self.children {
            let inner = match pe {
                PathElement::Field(name) => map.and_then(|m| match m.field(name) {
                    Some(f) => {
                        if let Err(i) = members.binary_search(pe) {
                            members.insert(i, pe.clone());
                        }
                        Some(f.ty)
                    }
                    None => m.element,
                }),
                PathElement::Key(_) => list.map(|l| l.element),
                _ => None,
            };
            children.push((pe.clone(), Arc::new(set.with_named_fields(schema, inner))));
        }
        Set { members, children }
    }

    /// Calls `f` for each path, parents first.
    pub fn for_each(&self, f: &mut impl FnMut(&Path)) {
        self.visit(&mut Vec::new(), f);
    }

    fn visit(&self, prefix: &mut Vec<PathElement>, f: &mut impl FnMut(&Path)) {
        for m in &self.members {
            prefix.push(m.clone());
            f(prefix);
            prefix.pop();
        }
        for (pe, set) in &self.children {
            prefix.push(pe.clone());
            set.visit(prefix, f);
            prefix.pop();
        }
    }

    /// All paths, parents first.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut out = Vec::new();
        self.for_each(&mut |p| out.push(p.to_vec()));
        out
    }
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<_> = self.paths().iter().map(|p| super::path::display(p)).collect();
        f.write_str(&lines.join("\n"))
    }
}
