//! Splices encoded objects into lists, partial metadata and watch events, in JSON and protobuf, without decoding them.
//! Relies on canonical encodings: `metadata` is the first field of every object's JSON after kind and apiVersion, and
//! field 1 of its protobuf message.

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
fn field(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
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
const ENVELOPE_TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// A whole enveloped message.
pub(super) fn envelope(gvk: &Gvk, raw: &[u8]) -> Bytes {
    let mut out = envelope_head(gvk, raw.len());
    out.extend_from_slice(raw);
    out.extend_from_slice(ENVELOPE_TAIL);
    out.freeze()
}

/// A JSON list around encoded items, with the list's own kind.
pub(super) fn json_list(gvk: &Gvk, list: &List, items: Vec<Bytes>) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(items.len() * 2 + 2);
    let mut head = format!(
        "{{\"kind\":{:?},\"apiVersion\":{:?},\"metadata\":{},\"items\":[",
        gvk.kind,
        gvk.api_version(),
        json_list_meta(list)
    );
    for item in items {
        pieces.push(Bytes::from(std::mem::take(&mut head)));
        pieces.push(item);
        head.push(',');
    }
    if pieces.is_empty() {
        pieces.push(head.into());
    }
    pieces.push(Bytes::from_static(b"]}"));
    pieces
}

/// `ListMeta` as Go prints it.
pub(super) fn json_list_meta(list: &List) -> String {
    let mut fields = Vec::new();
    if !list.resource_version.is_empty() {
        fields.push(format!("\"resourceVersion\":{:?}", list.resource_version));
    }
    if !list.continue_token.is_empty() {
        fields.push(format!("\"continue\":{:?}", list.continue_token));
    }
    if let Some(count) = list.remaining_item_count {
        fields.push(format!("\"remainingItemCount\":{count}"));
    }
    format!("{{{}}}", fields.join(","))
}

/// A protobuf list around encoded items.
pub(super) fn protobuf_list(gvk: &Gvk, list: &List, items: Vec<Bytes>) -> Vec<Bytes> {
    let mut meta = BytesMut::new();
    field(&mut meta, 1, b"");
    field(&mut meta, 2, list.resource_version.as_bytes());
    field(&mut meta, 3, list.continue_token.as_bytes());
    if let Some(count) = list.remaining_item_count {
        meta.put_u8(4 << 3);
        varint(&mut meta, count.max(0).unsigned_abs());
    }
    let size = |len: usize| 1 + varint_len(len as u64) + len;
    let raw_len = size(meta.len()) + items.iter().map(|i| size(i.len())).sum::<usize>();
    let mut head = envelope_head(gvk, raw_len);
    field(&mut head, 1, &meta);
    let mut pieces = Vec::with_capacity(items.len() * 2 + 2);
    for item in items {
        head.put_u8(2 << 3 | 2);
        varint(&mut head, item.len() as u64);
        pieces.push(head.split().freeze());
        pieces.push(item);
    }
    head.extend_from_slice(ENVELOPE_TAIL);
    pieces.push(head.freeze());
    pieces
}

/// The `metadata` value of an encoded JSON object (with or without kind and apiVersion before it).
pub(super) fn json_metadata(object: &Bytes) -> Option<Bytes> {
    const KEY: &[u8] = b"\"metadata\":";
    // Kind and apiVersion are short, so the key is near the start; nothing before it can contain this text.
    let window = object.get(..object.len().min(512))?;
    let start = window.windows(KEY.len()).position(|w| w == KEY)? + KEY.len();
    let end = start + json_value_len(object.get(start..)?)?;
    Some(object.slice(start..end))
}

/// Length of the JSON object at the start of `text`.
fn json_value_len(text: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Field 1 (metadata), tag and length included, of a bare protobuf message.
pub(super) fn protobuf_metadata(message: &Bytes) -> Option<Bytes> {
    if *message.first()? != 0x0a {
        return None;
    }
    let (mut len, mut shift, mut at) = (0_u64, 0_u32, 1_usize);
    loop {
        let byte = *message.get(at)?;
        at += 1;
        len |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
    let end = at.checked_add(usize::try_from(len).ok()?)?;
    (end <= message.len()).then(|| message.slice(..end))
}

/// One JSON watch event, newline included.
pub(super) fn json_event(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + kind.len() + 24);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.freeze()
}

/// One protobuf watch event: four bytes of length, then a bare `WatchEvent` around the enveloped object.
pub(super) fn protobuf_event(kind: &str, object: &[u8]) -> Bytes {
    let raw_len = 1 + varint_len(object.len() as u64) + object.len();
    let len = 2 + kind.len() + 1 + varint_len(raw_len as u64) + raw_len;
    let mut out = BytesMut::with_capacity(len + 4);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    field(&mut out, 1, kind.as_bytes());
    out.put_u8(2 << 3 | 2);
    varint(&mut out, raw_len as u64);
    field(&mut out, 1, object);
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
        };
        (gvk, list)
    }

    #[test]
    fn lists() {
        let (gvk, list) = pod_list();
        let text = |items: &[&'static str]| {
            let items = items.iter().map(|i| Bytes::from_static(i.as_bytes())).collect();
            String::from_utf8(json_list(&gvk, &list, items).concat()).unwrap()
        };
        let head = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":["#;
        assert_eq!(text(&[]), format!("{head}]}}"));
        assert_eq!(text(&["1", "2"]), format!("{head}1,2]}}"));
    }

    #[test]
    fn protobuf_lists_have_right_lengths() {
        let (gvk, list) = pod_list();
        let items = vec![Bytes::from(vec![7; 300]), Bytes::from_static(b"x")];
        let bytes = protobuf_list(&gvk, &list, items).concat();
        let mut raw = BytesMut::new();
        field(&mut raw, 1, &[0x0a, 0, 0x12, 1, b'7', 0x1a, 0]);
        field(&mut raw, 2, &[7; 300]);
        field(&mut raw, 2, b"x");
        assert_eq!(bytes, envelope(&gvk, &raw));
    }

    #[test]
    fn metadata_slices() {
        let object =
            Bytes::from_static(br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"}\"{"},"spec":{}}"#);
        assert_eq!(json_metadata(&object).unwrap(), &br#"{"name":"}\"{"}"#[..]);
        assert_eq!(
            protobuf_metadata(&Bytes::from_static(&[0x0a, 2, 1, 2, 0x12, 0])).unwrap(),
            &[0x0a, 2, 1, 2][..]
        );
        assert_eq!(protobuf_metadata(&Bytes::from_static(&[0x0a, 9, 1])), None);
    }

    #[test]
    fn events() {
        assert_eq!(json_event("ADDED", b"{}"), &b"{\"type\":\"ADDED\",\"object\":{}}\n"[..]);
        let frame = protobuf_event("ADDED", b"abc");
        assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
        assert_eq!(&frame[4..], [&[0x0a, 5][..], b"ADDED", &[0x12, 5, 0x0a, 3], b"abc"].concat());
    }
}
