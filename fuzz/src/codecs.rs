//! Documents.

use machinery::schema::TypeId;
use machinery::{json as codec, proto, yaml as yml};

fn reads_own_json(id: TypeId, value: &machinery::Value) {
    let table = api::types();
    let text = codec::encode(table, id, value);
    let again = codec::decode(table, id, &text, true).expect("own output");
    assert_eq!(codec::encode(table, id, &again.value), text);
}

pub fn json(data: &[u8]) {
    let table = api::types();
    let _ = (codec::header(data), codec::type_meta(data), codec::with_resource_version(data, "1"));
    if let Ok((id, d)) = codec::decode_kind(table, data, true) {
        reads_own_json(id, &d.value);
        // Kind and version count whatever their case; only in theirs are they fields, and the server fills them in.
        if d.value.get("kind").is_none() || d.value.get("apiVersion").is_none() {
            return;
        }
        let wire = proto::encode(table, id, &d.value);
        let (same, tree) = proto::decode(table, &wire).expect("own output");
        assert_eq!(same, id);
        assert_eq!(proto::encode(table, id, &tree), wire);
    }
}

pub fn json_any(data: &[u8]) {
    if let Ok(d) = codec::decode_any(data, true) {
        let text = codec::encode_any(&d.value);
        assert_eq!(codec::encode_any(&codec::parse(&text).expect("own output")), text);
    }
    // The grammar is that of an independent reader, except for lone surrogates, which become U+FFFD here.
    if codec::parse(data).is_ok()
        && std::str::from_utf8(data).is_ok()
        && !data.windows(2).any(|w| w == b"\\u")
    {
        serde_json::from_slice::<serde_json::Value>(data).expect("JSON");
    }
}

pub fn yaml(data: &[u8]) {
    let _ = (yml::parse_strict(data), yml::to_json(data));
    if let Ok(tree) = yml::parse(data) {
        let mut text = String::new();
        yml::write(&tree, &mut text);
        let again = yml::parse(text.as_bytes()).expect("own output");
        assert_eq!(again.to_string(), tree.to_string(), "{text:?}");
    }
}

pub fn protobuf(data: &[u8]) {
    let table = api::types();
    let _ =
        (proto::header(data), proto::with_resource_version(data, "12345"), proto::WatchEvent::parse(data));
    if let Ok((id, tree)) = proto::decode(table, data) {
        let wire = proto::encode(table, id, &tree);
        let (_, again) = proto::decode(table, &wire).expect("own output");
        assert_eq!(again, tree);
        reads_own_json(id, &tree);
    }
}

/// The direct way to JSON accepts what the way through a tree accepts, and says the same. The tree has replaced bytes that
/// are no text, which the direct way writes as escapes, and knows no present null, such as managed fields without
/// content; upstream writes both as the direct way does.
pub fn protobuf_to_json(data: &[u8]) {
    let table = api::types();
    let mut out = Vec::new();
    let direct = proto::to_json(table, data, &mut out);
    if let Ok((id, tree)) = proto::decode(table, data) {
        direct.expect("only the tree reader accepts");
        let through = codec::encode(table, id, &tree);
        if out != through {
            let parse = |text: &[u8]| codec::parse(text).expect("own output");
            assert!(same(&parse(&out), &parse(&through)), "not the same");
        }
    }
}

/// Equal but for members that are null.
fn same(a: &machinery::Value, b: &machinery::Value) -> bool {
    use machinery::Value::{List, Map, Null};
    match (a, b) {
        (Map(a), Map(b)) => {
            let given = |m: &machinery::Map| {
                let all = m.iter().filter(|(_, v)| !matches!(v, Null));
                all.map(|(k, v)| (k.to_string(), v.clone())).collect::<Vec<_>>()
            };
            let (a, b) = (given(a), given(b));
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        (List(a), List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

/// Typed objects, from JSON and from protobuf.
pub fn typed(data: &[u8]) {
    use api::codec::{MediaType, decode, encode};
    use k8s_openapi::api::{apps::v1::Deployment, core::v1 as core, discovery::v1::EndpointSlice};
    fn one<K>(data: &[u8])
    where
        K: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        for media in [MediaType::Json, MediaType::Protobuf] {
            let Ok(object) = decode::<K>(media, data) else { continue };
            let wire = encode(MediaType::Protobuf, &object).expect("a kind of the table");
            let again: K = decode(MediaType::Protobuf, &wire).expect("own output");
            assert_eq!(encode(MediaType::Protobuf, &again).expect("the same kind"), wire);
        }
    }
    one::<core::Pod>(data);
    one::<core::Node>(data);
    one::<core::Service>(data);
    one::<Deployment>(data);
    one::<EndpointSlice>(data);
}
