//! JSON Patch (RFC 6902) as kube-apiserver applies it: evanphx/json-patch v4 with upstream's limits.
//!
//! Deliberate deviations of that library from the RFC are kept, because users see them: `replace` of a missing
//! member adds it, `copy` of a missing member adds null, negative array indices count from the end, and `test`
//! compares scalars by their text. Where it crashes (null elements in `test`, `replace` of the root without a
//! value) this one answers an error or compares.
//!
//! Start at [`json_patch`]. Upstream: apiserver endpoints/handlers/patch.go (`applyJSPatch`).

use super::lazy::{self, Kind, Node, Slot};
use super::{Error, raw, strict};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The most operations one patch may have.
pub const MAX_OPERATIONS: usize = 10_000;

/// How many bytes the `copy` operations of one patch may add together (upstream's JSONPatchMaxCopyBytes).
pub const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

/// Applies `patch` to the JSON text `doc` and answers the new text.
pub fn json_patch(doc: &Bytes, patch: &Bytes) -> Result<Vec<u8>, Error> {
    let operations = decode(patch)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(Error::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut root = match raw::first(doc) {
        b'[' => lazy::parse_ary(doc).map(Kind::Ary),
        _ => lazy::parse_doc(doc).map(Kind::Doc),
    }
    .ok_or_else(|| Error::Internal("the object to patch is neither a JSON object nor an array".into()))?;
    let mut copied = 0;
    for op in &operations {
        apply(&mut root, op, &mut copied).map_err(Error::Unprocessable)?;
    }
    let mut out = Vec::with_capacity(doc.len() + patch.len());
    match &root {
        Kind::Doc(d) => lazy::write_doc(d, &mut out),
        Kind::Ary(a) => lazy::write_ary(a, &mut out),
        Kind::Raw => {}
    }
    Ok(out)
}

/// What strict field validation has to say about a JSON patch: unknown and duplicate fields, upstream's texts
/// without the leading `json patch `.
pub fn strict_errors(patch: &Bytes) -> Result<Vec<String>, Error> {
    if !raw::valid(patch) {
        return Err(Error::BadRequest("invalid JSON patch".into()));
    }
    Ok(strict::operations(patch))
}

/// The members of one operation; a null member is there, without text.
type Operation = BTreeMap<String, Option<Bytes>>;

fn decode(patch: &Bytes) -> Result<Vec<Operation>, Error> {
    if !raw::valid(patch) {
        return Err(Error::BadRequest("invalid JSON patch".into()));
    }
    let mismatch = |found: &[u8], wanted: &str| {
        let name = raw::type_name(found);
        Error::BadRequest(format!("json: cannot unmarshal {name} into Go value of type jsonpatch.{wanted}"))
    };
    if raw::first(patch) == b'n' {
        return Ok(Vec::new());
    }
    let items = raw::elements(patch).ok_or_else(|| mismatch(patch, "Patch"))?;
    let null = |v: Bytes| (raw::first(&v) != b'n').then_some(v);
    items
        .iter()
        .map(|item| match raw::members(item) {
            Some(members) => Ok(members.into_iter().map(|(k, v)| (k, null(v))).collect()),
            None if raw::first(item) == b'n' => Ok(Operation::new()),
            None => Err(mismatch(item, "Operation")),
        })
        .collect()
}

fn text(op: &Operation, field: &str) -> Option<Result<String, String>> {
    let v = op.get(field)?.as_ref()?;
    Some(match raw::first(v) {
        b'"' => Ok(raw::string(v)),
        _ => Err(format!("json: cannot unmarshal {} into Go value of type string", raw::type_name(v))),
    })
}

fn path_of(op: &Operation) -> Result<String, String> {
    text(op, "path").unwrap_or_else(|| Err("operation missing path field: missing value".into()))
}

fn from_of(op: &Operation) -> Result<String, String> {
    text(op, "from").unwrap_or_else(|| Err("operation, missing from field: missing value".into()))
}

fn value_of(op: &Operation) -> Slot {
    op.get("value").map(|v| Node::new(v.clone()))
}

fn apply(root: &mut Kind, op: &Operation, copied: &mut usize) -> Result<(), String> {
    let kind = match text(op, "op") {
        Some(Ok(kind)) => kind,
        _ => "unknown".into(),
    };
    match kind.as_str() {
        "add" => add(root, op),
        "remove" => remove(root, op),
        "replace" => replace(root, op),
        "move" => relocate(root, op),
        "test" => test(root, op),
        "copy" => copy(root, op, copied),
        _ => Err(format!("Unexpected kind: {kind}")),
    }
}

fn add(root: &mut Kind, op: &Operation) -> Result<(), String> {
    let path = path_of(op).map_err(|_| "add operation failed to decode path: missing value".to_string())?;
    let (parent, key) = find(root, &path).ok_or_else(|| {
        format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
    })?;
    insert(parent, &key, value_of(op)).map_err(|e| format!("error in add for path: '{path}': {e}"))
}

fn remove(root: &mut Kind, op: &Operation) -> Result<(), String> {
    let path =
        path_of(op).map_err(|_| "remove operation failed to decode path: missing value".to_string())?;
    let (parent, key) = find(root, &path).ok_or_else(|| {
        format!("remove operation does not apply: doc is missing path: \"{path}\": missing value")
    })?;
    take(parent, &key).map(drop).map_err(|e| format!("error in remove for path: '{path}': {e}"))
}

fn replace(root: &mut Kind, op: &Operation) -> Result<(), String> {
    let path = path_of(op).map_err(|e| format!("replace operation failed to decode path: {e}"))?;
    if path.is_empty() {
        let mut value = value_of(op);
        if value.as_mut().is_some_and(|v| v.try_doc() || v.try_ary())
            && let Some(v) = value
        {
            *root = v.kind;
            return Ok(());
        }
        return Err("replace operation value must be object or array: %!w(<nil>)".into());
    }
    let (parent, key) = find(root, &path).ok_or_else(|| {
        format!("replace operation does not apply: doc is missing path: {path}: missing value")
    })?;
    if get(parent, &key).is_err() {
        return Err(format!("replace operation does not apply: doc is missing key: {path}: missing value"));
    }
    set(parent, &key, value_of(op)).map_err(|e| format!("error in remove for path: '{path}': {e}"))
}

fn relocate(root: &mut Kind, op: &Operation) -> Result<(), String> {
    let from = from_of(op).map_err(|e| format!("move operation failed to decode from: {e}"))?;
    let (parent, key) = find(root, &from).ok_or_else(|| {
        format!("move operation does not apply: doc is missing from path: {from}: missing value")
    })?;
    let value = take(parent, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
    let path = path_of(op).map_err(|e| format!("move operation failed to decode path: {e}"))?;
    let (parent, key) = find(root, &path).ok_or_else(|| {
        format!("move operation does not apply: doc is missing destination path: {path}: missing value")
    })?;
    insert(parent, &key, value).map_err(|e| format!("error in move for path: '{path}': {e}"))
}

fn test(root: &mut Kind, op: &Operation) -> Result<(), String> {
    let path = path_of(op).map_err(|e| format!("test operation failed to decode path: {e}"))?;
    let failed = || format!("testing value {path} failed: test failed");
    let mut expected = value_of(op);
    if path.is_empty() {
        let mut whole = Node { raw: None, kind: std::mem::replace(root, Kind::Raw) };
        let same = expected.as_mut().is_some_and(|e| whole.equal(e));
        *root = whole.kind;
        return if same { Ok(()) } else { Err(failed()) };
    }
    let (parent, key) = find(root, &path)
        .ok_or_else(|| format!("test operation does not apply: is missing path: {path}: missing value"))?;
    let found = get(parent, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?;
    let same = match (found, &mut expected) {
        (None, None) => true,
        (None, Some(e)) => e.raw.is_none(),
        (Some(_), None) => false,
        (Some(f), Some(e)) => f.equal(e),
    };
    if same { Ok(()) } else { Err(failed()) }
}

fn copy(root: &mut Kind, op: &Operation, copied: &mut usize) -> Result<(), String> {
    let from = from_of(op).map_err(|e| format!("copy operation failed to decode from: {e}"))?;
    let (parent, key) = find(root, &from).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing from path: {from}: missing value")
    })?;
    let value = get(parent, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?;
    let value = value.map(|node| {
        let mut text = Vec::new();
        node.write(&mut text);
        text
    });
    let path = path_of(op).map_err(|_| "copy operation failed to decode path: missing value".to_string())?;
    let (parent, key) = find(root, &path).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing destination path: {path}: missing value")
    })?;
    *copied += value.as_ref().map_or(0, Vec::len);
    if *copied > MAX_COPY_BYTES {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPY_BYTES}"
        ));
    }
    let value = value.map(|text| Node::new(Some(Bytes::from(text))));
    insert(parent, &key, value).map_err(|e| format!("error while adding value during copy: {e}"))
}

/// The container a path's last part names something in, and that part.
fn find<'a>(root: &'a mut Kind, path: &str) -> Option<(&'a mut Kind, String)> {
    let (_, parts) = path.split_once('/')?;
    let (parents, last) = match parts.rsplit_once('/') {
        Some((parents, last)) => (Some(parents), last),
        None => (None, parts),
    };
    let mut at = root;
    for part in parents.into_iter().flat_map(|p| p.split('/')) {
        let next = get(at, &unescape(part)).ok()??;
        // A container that was put in by a patch and taken apart keeps its text; only a patched-in null has none.
        let array = raw::first(next.raw.as_ref()?) == b'[';
        let opened = if array { next.try_ary() } else { next.try_doc() };
        if !opened {
            return None;
        }
        at = &mut next.kind;
    }
    Some((at, unescape(last)))
}

fn unescape(part: &str) -> String {
    if part.contains('~') { replace_once(part) } else { part.to_string() }
}

/// One pass from left to right: `~01` is `~1`.
fn replace_once(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(i) = rest.find('~') {
        out.push_str(&rest[..i]);
        let (c, used) = match rest.as_bytes().get(i + 1) {
            Some(b'0') => ('~', 2),
            Some(b'1') => ('/', 2),
            _ => ('~', 1),
        };
        out.push(c);
        rest = &rest[i + used..];
    }
    out + rest
}

fn atoi(key: &str) -> Result<i64, String> {
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("strconv.Atoi: parsing {}: invalid syntax", crate::golang::quote(key)));
    }
    key.parse()
        .map_err(|_| format!("strconv.Atoi: parsing {}: value out of range", crate::golang::quote(key)))
}

fn bad_index(i: i64) -> String {
    format!("Unable to access invalid index: {i}: invalid index referenced")
}

/// The position of an existing element; negative indices count from the end.
fn index(len: usize, key: &str) -> Result<usize, String> {
    let i = atoi(key)?;
    let at = if i < 0 { i.checked_add(len as i64) } else { Some(i) };
    at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < len).ok_or_else(|| bad_index(i))
}

fn get<'a>(at: &'a mut Kind, key: &str) -> Result<Option<&'a mut Node>, String> {
    match at {
        Kind::Doc(doc) => Ok(doc.get_mut(key).and_then(Option::as_mut)),
        Kind::Ary(ary) => index(ary.len(), key).map(|i| ary[i].as_mut()),
        Kind::Raw => Ok(None),
    }
}

fn set(at: &mut Kind, key: &str, value: Slot) -> Result<(), String> {
    match at {
        Kind::Doc(doc) => {
            doc.insert(key.to_string(), value);
        }
        Kind::Ary(ary) => {
            let i = index(ary.len(), key)?;
            ary[i] = value;
        }
        Kind::Raw => {}
    }
    Ok(())
}

fn insert(at: &mut Kind, key: &str, value: Slot) -> Result<(), String> {
    match at {
        Kind::Doc(_) => return set(at, key, value),
        Kind::Ary(ary) if key == "-" => ary.push(value),
        Kind::Ary(ary) => {
            let i = atoi(key).map_err(|e| format!("value was not a proper array index: '{key}': {e}"))?;
            let len = ary.len() as i64 + 1;
            let place = if i < 0 { i.saturating_add(len) } else { i };
            if !(0..len).contains(&place) {
                return Err(bad_index(i));
            }
            ary.insert(place as usize, value);
        }
        Kind::Raw => {}
    }
    Ok(())
}

fn take(at: &mut Kind, key: &str) -> Result<Slot, String> {
    match at {
        Kind::Doc(doc) => {
            doc.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
        }
        Kind::Ary(ary) => index(ary.len(), key).map(|i| ary.remove(i)),
        Kind::Raw => Ok(None),
    }
}
