//! The order of merged lists: that of `$setElementOrder`, then of the patch, then of the live list.

use super::list::{self, ElementType};
use super::{
    DELETE, Lookup, MARKER, MERGE, Rules, SET_ELEMENT_ORDER, bad_arg, internal, no_merge_key,
    without_directives,
};
use crate::patch::Error;
use crate::patch::show::display;
use crate::value::{List, Map, Value};

/// Go's `==` on decoded values: types and values alike. (It crashes on lists and maps; here they never equal.)
pub(super) fn same(a: &Value, b: &Value) -> bool {
    !matches!(a, Value::List(_) | Value::Map(_) | Value::Raw(_)) && a == b
}

fn as_map(v: &Value) -> Result<&Map, Error> {
    v.as_map().ok_or_else(|| bad_arg("map[string]interface {}", v))
}

fn key_of<'a>(v: &'a Value, key: &str) -> Result<&'a Value, Error> {
    let m = as_map(v)?;
    m.get(key).ok_or_else(|| no_merge_key(m, key))
}

fn is_deletion(v: &Value) -> bool {
    v.get(MARKER).and_then(Value::as_str) == Some(DELETE)
}

/// The patch's elements must stand in the directive in the same order; deletions are not looked at.
pub(super) fn validate(patch: Option<&List>, order: &List, key: &str) -> Result<(), Error> {
    let empty = List::new();
    let list = patch.unwrap_or(&empty);
    if order.is_empty() || list.is_empty() {
        return Ok(());
    }
    let mut kept = Vec::new();
    for v in list.iter() {
        if !key.is_empty() {
            as_map(v)?;
        }
        if key.is_empty() || !is_deletion(v) {
            kept.push(v);
        }
    }
    let (mut at, mut in_order) = (0, 0);
    while at < kept.len() && in_order < order.len() {
        if kept[at].get(MARKER).is_some() {
            at += 1;
            continue;
        }
        let equal = if key.is_empty() {
            same(kept[at], &order[in_order])
        } else {
            as_map(kept[at])?;
            as_map(&order[in_order])?;
            same(key_of(kept[at], key)?, key_of(&order[in_order], key)?)
        };
        at += usize::from(equal);
        in_order += 1;
    }
    if at < kept.len() {
        let (patch, order) = (display(&Value::List(list.clone())), display(&Value::List(order.clone())));
        return Err(internal(format!(
            "The order in patch list:\n{patch}\n doesn't match {SET_ELEMENT_ORDER} list:\n{order}\n"
        )));
    }
    Ok(())
}

/// Merges a list that has a `$setElementOrder` directive; `None` if neither side has the list.
pub(super) fn apply<L: Lookup>(
    current: Option<List>,
    wanted: Option<List>,
    order: &List,
    schema: L,
    rules: Rules,
) -> Result<Option<Value>, Error> {
    let key = rules.merge_key;
    let patch_items = wanted.clone().unwrap_or_default().into_vec();
    let mut live = current.clone().unwrap_or_default().into_vec();
    let merged = match (current, wanted) {
        (None, None) => return Ok(None),
        (Some(current), None) => current.into_vec(),
        (None, Some(wanted)) => match without_directives(Value::List(wanted)) {
            Some(Value::List(l)) => l.into_vec(),
            _ => return Ok(None),
        },
        (Some(current), Some(wanted)) if rules.strategy == MERGE => {
            let out = list::merge(current, wanted, schema, key, false)?;
            live = out.live_view;
            out.merged
        }
        (Some(_), Some(wanted)) => wanted.into_vec(),
    };
    let (from_patch, live_only) = partition(merged, order, key)?;
    let maps = list::element_type(&live, &patch_items)? == ElementType::Map;
    Ok(Some(normalize(from_patch, live_only, order, &live, key, maps)?.into()))
}

/// Splits a merged list into the elements `by` names and the others.
pub(super) fn partition(
    merged: Vec<Value>,
    by: &[Value],
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for v in merged {
        let found = if key.is_empty() {
            by.iter().any(|b| same(b, &v))
        } else {
            list::find(by, key, key_of(&v, key)?)?.is_some()
        };
        if found { named.push(v) } else { others.push(v) }
    }
    Ok((named, others))
}

/// Sorts both parts by their orders and interleaves them by the live order.
pub(super) fn normalize(
    patch: Vec<Value>,
    live_only: Vec<Value>,
    patch_order: &[Value],
    live_order: &[Value],
    key: &str,
    maps: bool,
) -> Result<Vec<Value>, Error> {
    let right = sort_by_order(patch, patch_order, key, maps)?;
    let left = sort_by_order(live_only, live_order, key, maps)?;
    let rank = |v: &Value| index(live_order, v, key, maps);
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return Ok(out),
            (l, None) => l.is_some(),
            (None, Some(_)) => false,
            (Some(l), Some(r)) => matches!((rank(l), rank(r)), (Some(l), Some(r)) if l < r),
        };
        out.extend(if take_left { left.next() } else { right.next() });
    }
}

/// Where an element of the same key (or value) stands in `list`.
fn index(list: &[Value], v: &Value, key: &str, maps: bool) -> Option<usize> {
    let of = |v: &Value| -> Value { if maps { v.get(key).cloned().unwrap_or_default() } else { v.clone() } };
    let wanted = of(v);
    list.iter().position(|x| same(&of(x), &wanted))
}

fn sort_by_order(items: Vec<Value>, order: &[Value], key: &str, maps: bool) -> Result<Vec<Value>, Error> {
    let (mut items, mut deletions) = (items, Vec::new());
    if maps {
        for v in items.iter().chain(order) {
            key_of(v, key)?;
        }
        (deletions, items) = items.into_iter().partition(is_deletion);
    }
    let ranks: Vec<Option<usize>> = items.iter().map(|v| index(order, v, key, maps)).collect();
    let mut places: Vec<usize> = (0..items.len()).collect();
    // What is not in the order counts as less than anything, both ways: the algorithm matters then.
    stable_sort(&mut places, &|a, b| match (ranks[a], ranks[b]) {
        (Some(a), Some(b)) => a < b,
        _ => true,
    });
    let mut sorted: Vec<Value> = places.into_iter().map(|i| items[i].take()).collect();
    sorted.append(&mut deletions);
    Ok(sorted)
}

/// Go's `sort.SliceStable` (insertion sort of blocks, then in-place merging), for comparisons that are no order.
fn stable_sort(s: &mut [usize], less: &impl Fn(usize, usize) -> bool) {
    const BLOCK: usize = 20;
    let n = s.len();
    for block in s.chunks_mut(BLOCK) {
        for i in 1..block.len() {
            let mut j = i;
            while j > 0 && less(block[j], block[j - 1]) {
                block.swap(j, j - 1);
                j -= 1;
            }
        }
    }
    let mut size = BLOCK;
    while size < n {
        let mut a = 0;
        while a + size < n {
            merge_in_place(s, a, a + size, (a + 2 * size).min(n), less);
            a += 2 * size;
        }
        size *= 2;
    }
}

/// Go's `symMerge`. The halves shrink, so recursion is logarithmic.
fn merge_in_place(s: &mut [usize], a: usize, m: usize, b: usize, less: &impl Fn(usize, usize) -> bool) {
    if m - a == 1 {
        let (mut i, mut j) = (m, b);
        while i < j {
            let h = (i + j) / 2;
            if less(s[h], s[a]) { i = h + 1 } else { j = h }
        }
        s[a..i].rotate_left(1);
        return;
    }
    if b - m == 1 {
        let (mut i, mut j) = (a, m);
        while i < j {
            let h = (i + j) / 2;
            if !less(s[m], s[h]) { i = h + 1 } else { j = h }
        }
        s[i..=m].rotate_right(1);
        return;
    }
    let mid = (a + b) / 2;
    let n = mid + m;
    let (mut start, mut r) = if m > mid { (n - b, mid) } else { (a, m) };
    let p = n - 1;
    while start < r {
        let c = (start + r) / 2;
        if !less(s[p - c], s[c]) { start = c + 1 } else { r = c }
    }
    let end = n - start;
    if start < m && m < end {
        s[start..end].rotate_left(m - start);
    }
    if a < start && start < mid {
        merge_in_place(s, a, start, mid, less);
    }
    if mid < end && end < b {
        merge_in_place(s, mid, end, b, less);
    }
}
