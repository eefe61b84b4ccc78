//! Merging lists of a strategic merge patch.

use super::order::{self, same};
use super::{
    DELETE, Lookup, MARKER, MERGE, REPLACE, bad_patch_type, internal, merge_map, no_merge_key, open,
};
use crate::patch::Error;
use crate::patch::show::{display, go_type};
use crate::value::{List, Map, Value};

/// A merged list, and what upstream's caller finds in its own view of the live list afterwards.
///
/// Upstream deletes and appends in the array it shares with the caller, which later orders by that array; the
/// order of the result depends on it.
pub(super) struct Merged {
    pub merged: Vec<Value>,
    pub live_view: Vec<Value>,
}

/// Merges `patch` into `original`.
pub(super) fn merge<L: Lookup>(
    original: List,
    patch: List,
    schema: L,
    merge_key: &str,
    delete_list: bool,
) -> Result<Merged, Error> {
    let original: Vec<Value> = original.into_iter().map(open).collect();
    let patch = patch.into_vec();
    if original.is_empty() && patch.is_empty() {
        return Ok(Merged { merged: original.clone(), live_view: original });
    }
    let maps = element_type(&original, &patch)? == ElementType::Map;
    let (merged, live, patch, live_view) = if !maps {
        if delete_list {
            let merged = original.iter().filter(|v| !patch.iter().any(|p| same(p, v))).cloned().collect();
            return Ok(Merged { merged, live_view: original });
        }
        let both = original.iter().chain(&patch).cloned().collect();
        (deduplicate(both), original.clone(), patch, original)
    } else {
        merge_maps(original, patch, schema, merge_key)?
    };
    let (from_patch, live_only) = order::partition(merged, &patch, merge_key)?;
    let merged = order::normalize(from_patch, live_only, &patch, &live, merge_key, maps)?;
    Ok(Merged { merged, live_view })
}

#[derive(PartialEq, Clone, Copy)]
pub(super) enum ElementType {
    Scalar,
    Map,
}

/// The one type all elements must have.
pub(super) fn element_type(original: &[Value], patch: &[Value]) -> Result<ElementType, Error> {
    let mut all = original.iter().chain(patch);
    let first = all.next().ok_or_else(|| internal("no elements in any of the given slices".into()))?;
    if matches!(first, Value::List(_)) {
        return Err(Error::Unprocessable("lists of lists are not supported".into()));
    }
    if first.is_null() {
        return Err(internal("cannot merge a list that has a null element".into()));
    }
    if all.any(|v| go_type(v) != go_type(first)) {
        let lists = [original.to_vec(), patch.to_vec()].map(|l| Value::List(List::from(l)));
        let lists = Value::List(lists.to_vec().into());
        return Err(internal(format!("list element types are not identical: {}", display(&lists))));
    }
    Ok(if matches!(first, Value::Map(_)) { ElementType::Map } else { ElementType::Scalar })
}

/// Removes repeated scalars the way upstream does: the last element takes the place of each repeat.
fn deduplicate(mut s: Vec<Value>) -> Vec<Value> {
    let mut i = 0;
    while i + 1 < s.len() {
        let mut j = i + 1;
        while j < s.len() {
            if same(&s[i], &s[j]) {
                s.swap_remove(j);
            } else {
                j += 1;
            }
        }
        i += 1;
    }
    s
}

type Parts = (Vec<Value>, Vec<Value>, Vec<Value>, Vec<Value>);

/// Merges lists of maps by key: the merged elements, the live elements that stayed, the patch without
/// directives, and the caller's view of the live list.
fn merge_maps<L: Lookup>(
    original: Vec<Value>,
    patch: Vec<Value>,
    schema: L,
    key: &str,
) -> Result<Parts, Error> {
    if key.is_empty() {
        return Err(internal(format!("cannot merge lists without merge key for {}", schema.kind())));
    }
    let mut live = Shared { len: original.len(), array: original };
    let mut plain = Vec::new();
    let mut replace = false;
    for v in patch {
        let Value::Map(m) = &v else { continue };
        let Some(directive) = m.get(MARKER) else {
            plain.push(v);
            continue;
        };
        match directive.as_str() {
            Some(DELETE) => {
                let value = m.get(key).ok_or_else(|| no_merge_key(m, key))?;
                while let Some(i) = find(live.items(), key, value)? {
                    live.delete(i);
                }
            }
            Some(REPLACE) => replace = true,
            Some(MERGE) => return Err(internal("merging lists cannot yet be specified in the patch".into())),
            _ => return Err(bad_patch_type(directive, m)),
        }
    }
    if replace {
        return Ok((plain.clone(), plain, Vec::new(), live.array));
    }
    let survivors = live.len;
    let view = live.array.len();
    for v in &plain {
        let Value::Map(m) = v else { continue };
        let value = m.get(key).ok_or_else(|| no_merge_key(m, key))?;
        match find(live.items(), key, value)? {
            Some(i) => {
                let Value::Map(current) = live.array[i].take() else { continue };
                live.array[i] = Value::Map(merge_map(current, m.clone(), schema)?);
            }
            None => live.append(v.clone()),
        }
    }
    let merged = live.items().to_vec();
    let remaining = merged[..survivors].to_vec();
    live.array.truncate(view);
    Ok((merged, remaining, plain, live.array))
}

/// A slice of an array that others see whole.
struct Shared {
    array: Vec<Value>,
    len: usize,
}

impl Shared {
    fn items(&self) -> &[Value] {
        &self.array[..self.len]
    }

    /// Later elements move up; the last place keeps its value beyond the slice's end.
    fn delete(&mut self, i: usize) {
        self.array[i..self.len].rotate_left(1);
        if self.len >= 2 && i + 1 < self.len {
            self.array[self.len - 1] = self.array[self.len - 2].clone();
        }
        self.len -= 1;
    }

    fn append(&mut self, v: Value) {
        match self.array.get_mut(self.len) {
            Some(place) => *place = v,
            None => self.array.push(v),
        }
        self.len += 1;
    }
}

/// The position of the map with this merge key value.
pub(super) fn find(list: &[Value], key: &str, value: &Value) -> Result<Option<usize>, Error> {
    for (i, v) in list.iter().enumerate() {
        let m: &Map = v.as_map().ok_or_else(|| internal(format!("value for key {i} is not a map")))?;
        if m.get(key).is_some_and(|k| same(k, value)) {
            return Ok(Some(i));
        }
    }
    Ok(None)
}
