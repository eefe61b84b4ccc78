//! Frames encoded objects as lists, envelopes and watch events, in JSON and protobuf, without decoding them.

use bytes::{BufMut, Bytes, BytesMut};
use registry::api::{Gvk, List};

/// Appends a protobuf varint.
fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a length-delimited field.
pub(super) fn field(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    out.put_u8(tag << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Everything of the `k8s\0` envelope before the raw message of `raw_len` bytes.
fn envelope_head(gvk: &Gvk, raw_len: usize) -> BytesMut {
    let mut kind = BytesMut::new();
    field(&mut kind, 1, gvk.api_version().as_bytes());
    field(&mut kind, 2, gvk.kind.as_bytes());
    let mut out = BytesMut::from(&b"k8s\0"[..]);
    field(&mut out, 1, &kind);
    out.put_u8(2 << 3 | 2);
    varint(&mut out, raw_len as u64);
    out
}

/// The two empty fields after the raw message.
pub(super) const ENVELOPE_TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// A whole enveloped message.
pub(super) fn envelope(gvk: &Gvk, raw: &[u8]) -> Bytes {
    let mut out = envelope_head(gvk, raw.len());
    out.extend_from_slice(raw);
    out.extend_from_slice(ENVELOPE_TAIL);
    out.freeze()
}

/// A JSON list up to its first item; `]}` ends it.
pub(super) fn json_list_head(gvk: &Gvk, list: &List) -> String {
    let (kind, version, meta) = (&gvk.kind, gvk.api_version(), json_list_meta(list));
    format!("{{\"kind\":{kind:?},\"apiVersion\":{version:?},\"metadata\":{meta},\"items\":[")
}

/// `ListMeta` as Go prints it.
pub(super) fn json_list_meta(list: &List) -> String {
    let mut fields = Vec::new();
    if !list.resource_version.is_empty() {
        fields.push(format!("\"resourceVersion\":{:?}", list.resource_version));
    }
    // Lists of custom resources say that they do not go on.
    if !list.continue_token.is_empty() || list.columns.is_some() {
        fields.push(format!("\"continue\":{:?}", list.continue_token));
    }
    if let Some(count) = list.remaining_item_count {
        fields.push(format!("\"remainingItemCount\":{count}"));
    }
    format!("{{{}}}", fields.join(","))
}

/// Bytes of an item of `len` bytes in a protobuf list.
pub(super) fn protobuf_item_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// A protobuf list up to its first item, where all items with their tags take `items` bytes; [`ENVELOPE_TAIL`] ends it.
pub(super) fn protobuf_list_head(gvk: &Gvk, list: &List, items: usize) -> BytesMut {
    let mut meta = BytesMut::new();
    field(&mut meta, 1, b"");
    field(&mut meta, 2, list.resource_version.as_bytes());
    field(&mut meta, 3, list.continue_token.as_bytes());
    if let Some(count) = list.remaining_item_count {
        meta.put_u8(4 << 3);
        varint(&mut meta, count.max(0).unsigned_abs());
    }
    let mut head = envelope_head(gvk, protobuf_item_len(meta.len()) + items);
    field(&mut head, 1, &meta);
    head
}

/// One JSON watch event around an object in parts, newline included.
pub(super) fn json_event(kind: &str, object: &[&[u8]]) -> Bytes {
    let len: usize = object.iter().map(|part| part.len()).sum();
    let mut out = BytesMut::with_capacity(len + kind.len() + 24);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"}\n");
    out.freeze()
}

/// One protobuf watch event: four bytes of length, then a bare `WatchEvent` around the enveloped object in parts.
pub(super) fn protobuf_event(kind: &str, object: &[&[u8]]) -> Bytes {
    let object_len: usize = object.iter().map(|part| part.len()).sum();
    let raw_len = protobuf_item_len(object_len);
    let len = 2 + kind.len() + protobuf_item_len(raw_len);
    let mut out = BytesMut::with_capacity(len + 4);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    field(&mut out, 1, kind.as_bytes());
    out.put_u8(2 << 3 | 2);
    varint(&mut out, raw_len as u64);
    out.put_u8(1 << 3 | 2);
    varint(&mut out, object_len as u64);
    object.iter().for_each(|part| out.extend_from_slice(part));
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod_list() -> (Gvk, List) {
        let gvk = Gvk { group: String::new(), version: "v1".into(), kind: "PodList".into() };
        let list = List {
            gvk: gvk.clone(),
            resource_version: "7".into(),
            continue_token: String::new(),
            remaining_item_count: None,
            items: vec![],
            columns: None,
        };
        (gvk, list)
    }

    #[test]
    fn json_lists_start_with_kind_and_metadata() {
        let (gvk, list) = pod_list();
        let head = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":["#;
        assert_eq!(json_list_head(&gvk, &list), head);
    }

    #[test]
    fn protobuf_lists_have_right_lengths() {
        let (gvk, list) = pod_list();
        let item = vec![7; 300];
        let mut bytes = protobuf_list_head(&gvk, &list, protobuf_item_len(300) + protobuf_item_len(1));
        field(&mut bytes, 2, &item);
        field(&mut bytes, 2, b"x");
        bytes.extend_from_slice(ENVELOPE_TAIL);
        let mut raw = BytesMut::new();
        field(&mut raw, 1, &[0x0a, 0, 0x12, 1, b'7', 0x1a, 0]);
        field(&mut raw, 2, &item);
        field(&mut raw, 2, b"x");
        assert_eq!(bytes, envelope(&gvk, &raw));
    }

    #[test]
    fn events() {
        assert_eq!(json_event("ADDED", &[b"{", b"}"]), &b"{\"type\":\"ADDED\",\"object\":{}}\n"[..]);
        let frame = protobuf_event("ADDED", &[b"a", b"bc"]);
        assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
        assert_eq!(&frame[4..], [&[0x0a, 5][..], b"ADDED", &[0x12, 5, 0x0a, 3], b"abc"].concat());
    }
}
