//! JSON merge patch (RFC 7386) as kube-apiserver applies it.
//!
//! Upstream: evanphx/json-patch v4, merge.go (`doMergePatch`). A value taken from the patch where the object
//! had none loses its null members at every depth; null elements of arrays stay.

use super::lazy::{self, Kind, Node, Slot};
use super::{Error, raw, strict};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Applies `patch` to the JSON text `doc` and answers the new text.
pub fn merge_patch(doc: &Bytes, patch: &Bytes) -> Result<Vec<u8>, Error> {
    if !raw::valid(patch) {
        return Err(Error::BadRequest("invalid JSON patch".into()));
    }
    let bad_patch = || Error::BadRequest("Invalid JSON Patch".into());
    if raw::first(doc) == b'n' {
        return Err(Error::Internal("Invalid JSON Document".into()));
    }
    if raw::first(patch) == b'n' {
        return Err(bad_patch());
    }
    let mut out = Vec::with_capacity(doc.len() + patch.len());
    match (lazy::parse_doc(doc), lazy::parse_doc(patch)) {
        (Some(mut doc), Some(patch)) => {
            merge_docs(&mut doc, patch);
            lazy::write_doc(&doc, &mut out);
        }
        (None, Some(mut patch)) => {
            prune_doc(&mut patch);
            lazy::write_doc(&patch, &mut out);
        }
        (_, None) => {
            let mut ary = lazy::parse_ary(patch).ok_or_else(bad_patch)?;
            prune_ary(&mut ary);
            lazy::write_ary(&ary, &mut out);
        }
    }
    Ok(out)
}

/// What strict field validation has to say about a merge patch: duplicate fields.
pub fn strict_errors(patch: &Bytes) -> Result<Vec<String>, Error> {
    if !raw::valid(patch) {
        return Err(Error::BadRequest("invalid JSON patch".into()));
    }
    if !matches!(raw::first(patch), b'{' | b'n') {
        let found = raw::type_name(patch);
        return Err(Error::BadRequest(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    Ok(strict::duplicates(patch))
}

fn merge_docs(doc: &mut BTreeMap<String, Slot>, patch: BTreeMap<String, Slot>) {
    for (k, v) in patch {
        let Some(mut v) = v else {
            doc.remove(&k);
            continue;
        };
        match doc.get_mut(&k) {
            Some(Some(current)) => merge(current, v),
            _ => {
                prune(&mut v);
                doc.insert(k, Some(v));
            }
        }
    }
}

fn merge(current: &mut Node, mut patch: Node) {
    if !current.try_doc() {
        prune(&mut patch);
        *current = patch;
        return;
    }
    if !patch.try_doc() {
        *current = patch;
        return;
    }
    if let (Kind::Doc(doc), Kind::Doc(patch)) = (&mut current.kind, patch.kind) {
        merge_docs(doc, patch);
    }
}

fn prune(node: &mut Node) {
    let opened = node.try_doc() || node.try_ary();
    match &mut node.kind {
        Kind::Doc(doc) if opened => prune_doc(doc),
        Kind::Ary(ary) if opened => prune_ary(ary),
        _ => {}
    }
}

fn prune_doc(doc: &mut BTreeMap<String, Slot>) {
    doc.retain(|_, v| v.is_some());
    doc.values_mut().flatten().for_each(prune);
}

fn prune_ary(ary: &mut [Slot]) {
    ary.iter_mut().flatten().for_each(prune);
}
