//! Indexes over the table by which codecs find fields without searching: names by hash, tags by number, and sets of
//! fields as bits of one word.

use super::{Field, Shape, TypeId, TypeTable};
use crate::value::Value;
use smallvec::SmallVec;

/// The most fields that a struct may have, embedded ones included: sets of them are bits of one word.
pub(crate) const MAX_FIELDS: usize = 128;

/// Tags below this are found by number; upstream's highest is 44.
const DENSE_TAGS: u32 = 256;

/// What is derived for one type.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Where its names begin, and their number less one, a power of two less one.
    names: (u32, u32),
    /// Where its tags begin, and how many there are.
    tags: (u32, u32),
    /// Wire fields that are written even when the object has none, by position among the wire fields.
    written: u128,
    /// Own fields that JSON shows even when the message has none, by declaration order.
    shown: u128,
    /// Fields that JSON shows even when the tree has none, by position in the flat view.
    shown_flat: u128,
    /// Own fields that are structs embedded by value, by declaration order.
    embedded: u128,
    /// Whether fields are declared in the order of their tags.
    ordered: bool,
}

/// The indexes of all types.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup {
    parts: Vec<Part>,
    /// Open hashing: positions in flat views, plus one; 0 is free.
    names: Vec<u16>,
    /// Positions among wire fields by tag, plus one; 0 is no field.
    tags: Vec<u16>,
    /// For each flat view, the rank by name of every position: the inverse of `sorted`.
    ranks: Vec<u16>,
    /// `,"name":` of every field, and where each begins.
    texts: Vec<u8>,
    text_at: Vec<u32>,
}

/// Eight bytes at most from the front and from the back decide.
#[inline]
fn hash(name: &str) -> u32 {
    let b = name.as_bytes();
    let n = b.len();
    let (front, back) = match (b.first_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(front), Some(back)) => (u64::from_le_bytes(*front), u64::from_le_bytes(*back)),
        _ => match (b.first_chunk::<4>(), b.last_chunk::<4>()) {
            (Some(front), Some(back)) => {
                (u64::from(u32::from_le_bytes(*front)), u64::from(u32::from_le_bytes(*back)))
            }
            _ => (b.first().copied().unwrap_or(0).into(), b.last().copied().unwrap_or(0).into()),
        },
    };
    let mixed = (front ^ back.rotate_left(29) ^ n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as u32
}

impl Lookup {
    /// Derives the indexes of a table whose views are complete.
    pub(super) fn of(table: &TypeTable) -> Lookup {
        let mut out = Lookup { ranks: vec![0; table.flat.len()], ..Lookup::default() };
        for f in &table.fields {
            out.text_at.push(out.texts.len() as u32);
            out.texts.extend_from_slice(b",\"");
            out.texts.extend_from_slice(f.name.as_bytes());
            out.texts.extend_from_slice(b"\":");
        }
        out.text_at.push(out.texts.len() as u32);
        for id in table.types() {
            let part = Part {
                names: out.add_names(table, id),
                tags: out.add_tags(table, id),
                written: bits(table.wire_fields(id).iter().map(|i| written(table.field_at(*i)))),
                shown: bits(table.own_fields(id).iter().map(|f| {
                    f.tag > 0
                        && f.name != "-"
                        && !f.flags.inline
                        && !f.flags.omit_zero
                        && (!f.flags.omit_empty || table.always_written(f))
                })),
                shown_flat: bits(table.fields(id).map(|f| !crate::json::is_omitted(f, &Value::Null))),
                embedded: bits(
                    table.own_fields(id).iter().map(|f| f.tag > 0 && f.flags.inline && !f.flags.pointer),
                ),
                ordered: table.own_fields(id).iter().filter(|f| f.tag > 0).is_sorted_by_key(|f| f.tag),
            };
            out.parts.push(part);
        }
        out.parts.shrink_to_fit();
        out.texts.shrink_to_fit();
        out
    }

    fn add_names(&mut self, table: &TypeTable, id: TypeId) -> (u32, u32) {
        let flat = table.flat_ids(id);
        let size = (flat.len() * 2).next_power_of_two();
        let from = self.names.len();
        self.names.resize(from + size, 0);
        for (at, i) in flat.iter().enumerate() {
            let mut slot = hash(&table.field_at(*i).name) as usize & (size - 1);
            while self.names[from + slot] != 0 {
                slot = (slot + 1) & (size - 1);
            }
            self.names[from + slot] = at as u16 + 1;
        }
        let (first, _) = table.get(id).flat;
        for (rank, at) in table.sorted_ids(id).iter().enumerate() {
            self.ranks[first as usize + usize::from(*at)] = rank as u16;
        }
        (from as u32, size as u32 - 1)
    }

    fn add_tags(&mut self, table: &TypeTable, id: TypeId) -> (u32, u32) {
        let wire = table.wire_fields(id);
        let from = self.tags.len();
        let highest = wire.last().map_or(0, |i| table.field_at(*i).tag);
        if highest < DENSE_TAGS {
            self.tags.resize(from + highest as usize + 1, 0);
            for (at, i) in wire.iter().enumerate() {
                self.tags[from + table.field_at(*i).tag as usize] = at as u16 + 1;
            }
        }
        (from as u32, (self.tags.len() - from) as u32)
    }
}

/// The set of those that are so, by position; none if they are too many.
fn bits(all: impl Iterator<Item = bool>) -> u128 {
    all.take(MAX_FIELDS).enumerate().fold(0, |set, (i, is)| set | u128::from(is) << i)
}

/// Whether upstream writes the field although it is zero. Embedded structs find out themselves.
fn written(f: &Field) -> bool {
    let empty =
        matches!(f.shape, Shape::List(_) | Shape::Map(_) | Shape::Wrapped(_) | Shape::Bytes | Shape::Any);
    f.flags.inline || !(f.flags.pointer || empty)
}

/// The members of a set in ascending order.
pub(crate) fn ascending(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = set.trailing_zeros() as usize;
        (set != 0).then(|| {
            set &= set - 1;
            at
        })
    })
}

/// The members of a set in descending order.
pub(crate) fn descending(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = set.checked_ilog2()? as usize;
        set ^= 1 << at;
        Some(at)
    })
}

/// Values of some of a struct's fields, by a number of the field.
pub(crate) struct Sparse<T> {
    values: SmallVec<[T; 16]>,
    set: u128,
    /// Where among the values those are.
    at: [u8; MAX_FIELDS],
}

impl<T> Sparse<T> {
    pub fn new() -> Self {
        Sparse { values: SmallVec::new(), set: 0, at: [0; MAX_FIELDS] }
    }

    /// The fields that have a value.
    pub fn set(&self) -> u128 {
        self.set
    }

    #[inline]
    pub fn get(&self, field: usize) -> Option<&T> {
        if self.set & 1 << field == 0 { None } else { self.values.get(usize::from(self.at[field])) }
    }

    #[inline]
    pub fn get_mut(&mut self, field: usize) -> Option<&mut T> {
        if self.set & 1 << field == 0 { None } else { self.values.get_mut(usize::from(self.at[field])) }
    }

    #[inline]
    pub fn put(&mut self, field: usize, value: T) {
        match self.get_mut(field) {
            Some(place) => *place = value,
            None => {
                // There are no more values than fields.
                self.at[field] = self.values.len() as u8;
                self.set |= 1 << field;
                self.values.push(value);
            }
        }
    }
}

impl<T: Default> Sparse<T> {
    /// The place of a field's value, made if there is none.
    pub fn place(&mut self, field: usize) -> &mut T {
        if self.set & 1 << field == 0 {
            self.put(field, T::default());
        }
        &mut self.values[usize::from(self.at[field])]
    }
}

impl TypeTable {
    fn part(&self, id: TypeId) -> &Part {
        &self.lookup.parts[id.0 as usize]
    }

    /// Position of a JSON name in the flat view. `guess` is tried first: writers keep to the declared order.
    #[inline]
    pub(crate) fn position(&self, id: TypeId, name: &str, guess: usize) -> Option<usize> {
        let flat = self.flat_ids(id);
        let name_at = |i: usize| self.fields[flat[i] as usize].name.as_str();
        if guess < flat.len() && name_at(guess) == name {
            return Some(guess);
        }
        let (from, mask) = self.part(id).names;
        let names = &self.lookup.names[from as usize..=(from + mask) as usize];
        let mut slot = hash(name) & mask;
        // At most half of the slots are taken.
        loop {
            let at = usize::from(names[slot as usize]).checked_sub(1)?;
            if name_at(at) == name {
                return Some(at);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The rank by name of a position in the flat view.
    #[inline]
    pub(crate) fn rank(&self, id: TypeId, at: usize) -> usize {
        usize::from(self.lookup.ranks[self.get(id).flat.0 as usize + at])
    }

    /// Position among the wire fields of the own field with that tag.
    #[inline]
    pub fn by_tag(&self, id: TypeId, tag: u32) -> Option<usize> {
        let (from, len) = self.part(id).tags;
        if len == 0 {
            let wire = self.wire_fields(id);
            return wire.binary_search_by(|i| self.fields[*i as usize].tag.cmp(&tag)).ok();
        }
        let tags = &self.lookup.tags[from as usize..(from + len) as usize];
        usize::from(*tags.get(tag as usize)?).checked_sub(1)
    }

    /// Wire fields that are written even when the object has none.
    pub(crate) fn written(&self, id: TypeId) -> u128 {
        self.part(id).written
    }

    /// Own fields that JSON shows even when the message has none, by declaration order.
    pub(crate) fn shown(&self, id: TypeId) -> u128 {
        self.part(id).shown
    }

    /// Fields that JSON shows even when the tree has none, by position in the flat view.
    pub(crate) fn shown_flat(&self, id: TypeId) -> u128 {
        self.part(id).shown_flat
    }

    /// Own fields that are structs embedded by value, by declaration order.
    pub(crate) fn embedded(&self, id: TypeId) -> u128 {
        self.part(id).embedded
    }

    /// Whether fields are declared in the order of their tags.
    pub(crate) fn is_ordered(&self, id: TypeId) -> bool {
        self.part(id).ordered
    }

    /// `,"name":` of a field.
    #[inline]
    pub(crate) fn name_text(&self, index: usize) -> &[u8] {
        let at = &self.lookup.text_at;
        &self.lookup.texts[at[index] as usize..at[index + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let set = bits([true, false, true, true].into_iter());
        assert_eq!(ascending(set).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(descending(set).collect::<Vec<_>>(), [3, 2, 0]);
        assert_eq!(ascending(1 << 127 | 1).collect::<Vec<_>>(), [0, 127]);
        assert_eq!(descending(0).count(), 0);
    }

    #[test]
    fn sparse_values() {
        let mut s = Sparse::new();
        s.put(127, 'a');
        s.put(0, 'b');
        s.put(127, 'c');
        assert_eq!((s.set(), s.get(127), s.get(0), s.get(1)), (1 << 127 | 1, Some(&'c'), Some(&'b'), None));
        assert_eq!(*s.place(1), '\0');
    }

    #[test]
    fn names_of_every_length_differ() {
        let names = ["", "a", "ab", "abc", "abcd", "abcdefgh", "abcdefghijklmnopqrstuvwxyz"];
        let hashes: std::collections::HashSet<_> = names.iter().map(|n| hash(n)).collect();
        assert_eq!(hashes.len(), names.len());
    }
}
