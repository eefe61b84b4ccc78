//! A JSON document of which only the touched part is taken apart.
//!
//! Follows the node type of evanphx/json-patch v4 (patch.go, `lazyNode`): what it compares, copies and prints
//! depends on which nodes were parsed, and error texts and results of PATCH requests show it.

use super::raw;
use bytes::Bytes;
use std::collections::BTreeMap;

/// A member or element; `None` is what upstream holds as a nil pointer: a JSON null it has parsed.
pub(super) type Slot = Option<Node>;

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The text the node came from; absent for a null that a patch put in. It is not updated by changes.
    pub raw: Option<Bytes>,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Raw,
    Doc(BTreeMap<String, Slot>),
    Ary(Vec<Slot>),
}

/// `null` in the text becomes an empty slot.
pub(super) fn slot(raw: Bytes) -> Slot {
    (raw::first(&raw) != b'n').then(|| Node::new(Some(raw)))
}

/// The members of an object text; an object's last duplicate wins, a null text has none.
pub(super) fn parse_doc(text: &Bytes) -> Option<BTreeMap<String, Slot>> {
    if raw::first(text) == b'n' {
        return Some(BTreeMap::new());
    }
    Some(raw::members(text)?.into_iter().map(|(k, v)| (k, slot(v))).collect())
}

pub(super) fn parse_ary(text: &Bytes) -> Option<Vec<Slot>> {
    if raw::first(text) == b'n' {
        return Some(Vec::new());
    }
    Some(raw::elements(text)?.into_iter().map(slot).collect())
}

impl Node {
    pub fn new(raw: Option<Bytes>) -> Node {
        Node { raw, kind: Kind::Raw }
    }

    /// Takes the node apart as an object if it is one.
    pub fn try_doc(&mut self) -> bool {
        match &self.kind {
            Kind::Doc(_) => true,
            _ => match self.raw.as_ref().and_then(parse_doc) {
                Some(doc) => {
                    self.kind = Kind::Doc(doc);
                    true
                }
                None => false,
            },
        }
    }

    pub fn try_ary(&mut self) -> bool {
        match &self.kind {
            Kind::Ary(_) => true,
            _ => match self.raw.as_ref().and_then(parse_ary) {
                Some(ary) => {
                    self.kind = Kind::Ary(ary);
                    true
                }
                None => false,
            },
        }
    }

    /// Appends the node's JSON text as Go would print it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Raw => raw::compact(self.raw.as_deref().unwrap_or(b"null"), true, out),
            Kind::Doc(doc) => write_doc(doc, out),
            Kind::Ary(ary) => write_ary(ary, out),
        }
    }

    fn compacted(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(text) = &self.raw {
            raw::compact(text, false, &mut out);
        }
        out
    }

    /// Equality as the `test` operation sees it: containers by content, scalars by their text.
    pub fn equal(&mut self, other: &mut Node) -> bool {
        if matches!(self.kind, Kind::Raw) && !self.try_doc() && !self.try_ary() {
            return matches!(other.kind, Kind::Raw) && self.compacted() == other.compacted();
        }
        match &mut self.kind {
            Kind::Doc(doc) => {
                if matches!(other.kind, Kind::Raw) && !other.try_doc() {
                    return false;
                }
                let Kind::Doc(theirs) = &mut other.kind else { return false };
                doc.len() == theirs.len()
                    && doc.iter_mut().all(|(k, v)| theirs.get_mut(k).is_some_and(|o| slots_equal(v, o)))
            }
            Kind::Ary(ary) => {
                if !other.try_ary() {
                    return false;
                }
                let Kind::Ary(theirs) = &mut other.kind else { return false };
                ary.len() == theirs.len() && ary.iter_mut().zip(theirs).all(|(v, o)| slots_equal(v, o))
            }
            Kind::Raw => false,
        }
    }
}

/// Upstream crashes on a null inside a compared array; here nulls equal each other.
fn slots_equal(a: &mut Slot, b: &mut Slot) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.equal(b),
        _ => false,
    }
}

pub(super) fn write_slot(slot: &Slot, out: &mut Vec<u8>) {
    match slot {
        Some(node) => node.write(out),
        None => out.extend_from_slice(b"null"),
    }
}

pub(super) fn write_doc(doc: &BTreeMap<String, Slot>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (k, v)) in doc.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        raw::quote(k, out);
        out.push(b':');
        write_slot(v, out);
    }
    out.push(b'}');
}

pub(super) fn write_ary(ary: &[Slot], out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, v) in ary.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_slot(v, out);
    }
    out.push(b']');
}
