use super::*;

const TEXT: &str = "package t/v1 k8s.io/api/t/v1 /v1
type Thing kind typemeta
  name 1 string
  spec 2 *Spec omitempty
  labels 3 {}string omitempty
  any 4 *raw omitempty
type Spec
  n 1 int32
  = 2 Inner
  list 3 []Spec omitempty
type Inner
  x 1 *string omitempty
";

#[test]
fn malformed_is_an_error() {
    let table = TypeTable::parse(TEXT).unwrap();
    let id = table.by_name("t/v1.Thing").unwrap();
    let v = crate::json::decode(
        &table,
        id,
        br#"{"name":"n","spec":{"n":-1,"x":"","list":[{"n":1},{}]},"labels":{"b":"1","a":""},"kind":"Thing","apiVersion":"v1"}"#,
        false,
    )
    .unwrap()
    .value;
    let good = encode(&table, id, &v);
    assert_eq!(decode(&table, &good).unwrap(), (id, v));
    for cut in 0..good.len() {
        let _ = decode(&table, &good[..cut]);
        for b in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[cut] = b;
            let _ = decode(&table, &bad);
        }
    }
    assert_eq!(decode(&table, b"x").unwrap_err(), Error::NotProtobuf);
    assert_eq!(
        decode_message(&table, id, &[8, 1]).unwrap_err().to_string(),
        "proto: wrong wireType = 0 for field name"
    );
    assert_eq!(decode_message(&table, id, &[0x0a, 5, 1]).unwrap_err(), Error::UnexpectedEof);
    assert_eq!(decode_message(&table, id, &[0xff; 11]).unwrap_err(), Error::Overflow);
    // Nesting far beyond any object.
    let mut deep = Vec::new();
    for _ in 0..20_000 {
        let mut outer = Vec::new();
        wire::push_field(&mut outer, 3, &deep);
        deep = outer;
        if deep.len() > 60_000 {
            break;
        }
    }
    let spec = table.by_name("t/v1.Spec").unwrap();
    assert_eq!(decode_message(&table, spec, &deep).unwrap_err(), Error::Depth(crate::value::MAX_DEPTH));
    let groups = [0x0b; 10_000];
    assert!(decode_message(&table, id, &groups).is_err());
}

const META: &str = "package m/v1 k8s.io/m/v1 /v1
type Thing kind typemeta
  metadata 1 ObjectMeta omitempty
  spec 2 Spec omitempty
type Spec
  x 1 string
  deep 2 *Spec omitempty
  names 3 []string
  = 4 Inner
type Inner
  y 1 *int32 omitempty
type ObjectMeta
  name 1 string omitempty
  generateName 2 string omitempty
  namespace 3 string omitempty
  selfLink 4 string omitempty
  uid 5 string omitempty
  resourceVersion 6 string omitempty
  generation 7 int64 omitempty
  creationTimestamp 8 time omitempty omitzero
  deletionTimestamp 9 *time omitempty
  deletionGracePeriodSeconds 10 *int64 omitempty
  labels 11 {}string omitempty
  annotations 12 {}string omitempty
  ownerReferences 13 []OwnerReference omitempty
  finalizers 14 []string omitempty
type OwnerReference
  kind 1 string
  name 3 string
  uid 4 string
  apiVersion 5 string
  controller 6 *bool omitempty
  blockOwnerDeletion 7 *bool omitempty
";

#[test]
fn raw_text_must_be_one_json_value() {
    let table = TypeTable::parse(TEXT).unwrap();
    let id = table.by_name("t/v1.Thing").unwrap();
    let with = |text: &str| {
        let (mut raw, mut thing) = (Vec::new(), Vec::new());
        wire::push_field(&mut raw, 1, text.as_bytes());
        wire::push_field(&mut thing, 4, &raw);
        decode_message(&table, id, &thing)
    };
    assert_eq!(
        with(r#"{"a": [1]}"#).unwrap().get("any"),
        Some(&Value::Raw(r#"{"a": [1]}"#.as_bytes().into()))
    );
    for text in [r#"{"a"]"#, "{} {}", "nul"] {
        let error = with(text).unwrap_err().to_string();
        assert!(
            error.starts_with("unable to read the JSON of a protobuf object: field any: invalid character"),
            "{error}"
        );
    }
}

#[test]
fn metadata_without_the_object() {
    let table = TypeTable::parse(META).unwrap();
    let id = table.kind("v1", "Thing").unwrap();
    let text = br#"{"kind":"Thing","apiVersion":"v1","metadata":{"name":"n","namespace":"ns","uid":"u","resourceVersion":"5",
        "generation":3,"creationTimestamp":"1970-01-01T00:00:05Z","deletionTimestamp":"1970-01-01T00:00:06Z",
        "deletionGracePeriodSeconds":0,"labels":{"b":"1","a":"2"},"annotations":{"c":""},
        "ownerReferences":[{"kind":"K","name":"o","uid":"v","apiVersion":"v1","controller":true}],"finalizers":["f"]},
        "spec":{"x":"X","deep":{"x":"Y","y":7},"names":["p","q"]}}"#;
    let tree = crate::json::decode(&table, id, text, true).unwrap().value;
    let bytes = encode(&table, id, &tree);
    assert_eq!(header(&bytes).unwrap(), crate::meta::Header::of(&tree));
    assert_eq!(header(&bytes).unwrap(), crate::json::header(text).unwrap());
    let mut changed = tree.clone();
    changed.set_path(&["metadata", "resourceVersion"], "12345").unwrap();
    assert_eq!(with_resource_version(&bytes, "12345").unwrap(), encode(&table, id, &changed));
    changed.remove_path(&["metadata", "resourceVersion"]);
    let bare = encode(&table, id, &changed);
    assert_eq!(with_resource_version(&bare, "5").unwrap(), bytes);
    assert_eq!(
        with_resource_version(&seal("v1", "Thing", &[]), "").unwrap(),
        seal("v1", "Thing", &[0x0a, 2, 0x32, 0])
    );
    let raw = Envelope::open(&bytes).unwrap().raw;
    for path in [
        &["spec", "deep", "y"][..],
        &["spec", "names"],
        &["metadata", "labels"],
        &["spec", "deep"],
        &["spec", "x"],
    ] {
        assert_eq!(pick(&table, id, raw, path).unwrap().as_ref(), tree.get_path(path), "{path:?}");
    }
    assert_eq!(pick(&table, id, raw, &["spec", "nope"]).unwrap(), None);
    assert_eq!(pick(&table, id, raw, &["spec", "x", "z"]).unwrap(), None);
}

#[test]
fn frames() {
    let event = WatchEvent { event: "ADDED", object: b"k8s\0x" };
    let mut out = Vec::new();
    event.push_frame(&mut out);
    assert_eq!(out, b"\0\0\0\x10\x0a\x05ADDED\x12\x07\x0a\x05k8s\0x");
    assert_eq!(split_frame(&out[..7], 100).unwrap(), None);
    let (content, used) = split_frame(&out, 100).unwrap().unwrap();
    assert_eq!((WatchEvent::parse(content).unwrap(), used), (event, out.len()));
    assert!(split_frame(&out, 5).is_err());
}
