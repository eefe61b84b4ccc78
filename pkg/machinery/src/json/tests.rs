use super::*;
use crate::schema::TypeTable;

const TEXT: &str = "package t/v1 k8s.io/api/t/v1 /v1
type Thing kind typemeta
  metadata 1 Meta omitempty
  spec 2 Spec omitempty
  extra 3 *Spec omitempty
type Meta
  name 1 string omitempty
  labels 2 {}string omitempty
  creationTimestamp 3 time omitzero
type Spec
  n 1 int32
  = 2 Inner
  list 3 []Spec omitempty
  p 4 string omitempty go=v1.Protocol
  q 5 quantity
  d 6 *duration omitempty
  io 7 *intorstring omitempty
  data 8 {}bytes omitempty
  raw 9 raw
  bools 10 []bool
  f 11 double omitempty
type Inner
  deep 1 *string omitempty
";

fn check(input: &str, want: Result<&str, &str>, strict: &[&str]) {
    let table = TypeTable::parse(TEXT).unwrap();
    let id = table.kind("v1", "Thing").unwrap();
    match (decode(&table, id, input.as_bytes(), true), want) {
        (Ok(d), Ok(want)) => {
            assert_eq!(String::from_utf8(encode(&table, id, &d.value)).unwrap(), want, "{input}");
            let again = decode(&table, id, want.as_bytes(), true).unwrap();
            assert_eq!(String::from_utf8(encode(&table, id, &again.value)).unwrap(), want, "again");
            assert_eq!(d.strict, strict, "{input}");
        }
        (Err(e), Err(want)) => assert_eq!(e.to_string(), want, "{input}"),
        (got, want) => panic!("{input}: got {got:?}, want {want:?}"),
    }
}

const SPEC: &str = r#""spec":{"n":0,"q":"0","raw":null,"bools":null}"#;

#[test]
fn canonical() {
    check("{}", Ok(&format!(r#"{{"metadata":{{}},{SPEC}}}"#)), &[]);
    check("null", Ok(&format!(r#"{{"metadata":{{}},{SPEC}}}"#)), &[]);
    check(
        r#"{"spec":{"q":"1000m","raw":{"a": [1, "<"]},"bools":[true,null],"d":"90s","io":"5%","data":{"b":"AA\n==","a":null},
            "deep":"x<\u2028","list":[null,{"n":7}],"f":1e21},"apiVersion":"v1","kind":"Thing",
            "metadata":{"creationTimestamp":"2020-01-01T01:00:00.5+01:00","labels":{"b":"1","a":null},"name":""}}"#,
        Ok(concat!(
            r#"{"kind":"Thing","apiVersion":"v1","metadata":{"labels":{"a":"","b":"1"},"creationTimestamp":"2020-01-01T00:00:00Z"},"#,
            r#""spec":{"n":0,"deep":"x\u003c\u2028","list":[{"n":0,"q":"0","raw":null,"bools":null},{"n":7,"q":"0","raw":null,"bools":null}],"#,
            r#""q":"1","d":"1m30s","io":"5%","data":{"a":null,"b":"AA=="},"raw":{"a":[1,"\u003c"]},"bools":[true,false],"f":1e+21}}"#
        )),
        &[],
    );
}

#[test]
fn a_field_may_tell_empty_from_nothing() {
    let mut table = TypeTable::parse(TEXT).unwrap();
    assert!(table.keep_empty("t/v1.Spec", "list") && table.keep_empty("t/v1.Meta", "labels"));
    assert!(!table.keep_empty("t/v1.Spec", "nothing") && !table.keep_empty("t/v1.Nothing", "list"));
    let id = table.kind("v1", "Thing").unwrap();
    let read = |text: &str| decode(&table, id, text.as_bytes(), true).unwrap().value;
    let empty = read(r#"{"metadata":{"labels":{}},"spec":{"list":[],"data":{}}}"#);
    assert!(empty.list_at(&["spec", "list"]).is_some() && empty.map_at(&["metadata", "labels"]).is_some());
    assert!(empty.map_at(&["spec", "data"]).is_none());
    let none = read(r#"{"spec":{"list":null}}"#);
    assert!(none.list_at(&["spec", "list"]).is_none());
    // Neither is written, and they are the same to whoever compares.
    assert_eq!(encode(&table, id, &empty), encode(&table, id, &none));
    assert!(table.semantic_eq(id, &empty, &none));
}

#[test]
fn strict() {
    check(
        r#"{"x":1,"spec":{"n":1,"n":2,"y":{"z":1},"list":[{"w":1,"w":2}]},"metadata":{"labels":{"a":"1","a":"2"}},"Spec":{}}"#,
        Ok(
            r#"{"metadata":{"labels":{"a":"2"}},"spec":{"n":2,"list":[{"n":0,"q":"0","raw":null,"bools":null}],"q":"0","raw":null,"bools":null}}"#,
        ),
        &[
            "unknown field \"x\"",
            "duplicate field \"spec.n\"",
            "unknown field \"spec.y\"",
            "unknown field \"spec.list[0].w\"",
            "duplicate field \"metadata.labels.a\"",
            "unknown field \"Spec\"",
        ],
    );
    let many: Vec<String> = (0..200).map(|i| format!("\"u{i}\":0")).collect();
    let table = TypeTable::parse(TEXT).unwrap();
    let id = table.kind("v1", "Thing").unwrap();
    let d = decode(&table, id, format!("{{{}}}", many.join(",")).as_bytes(), true).unwrap();
    assert_eq!(d.strict.len(), 100);
    assert!(d.strict_error().unwrap().starts_with("strict decoding error: unknown field \"u0\", "));
}

#[test]
fn misfits() {
    let field = |found: &str, place: &str, of: &str| {
        format!("json: cannot unmarshal {found} into Go struct field {place} of type {of}")
    };
    for (input, want) in [
        ("[]", "json: cannot unmarshal array into Go value of type v1.Thing".to_owned()),
        (r#"{"metadata":1}"#, field("number", "Thing.metadata", "v1.Meta")),
        (r#"{"metadata":{"name":1}}"#, field("number", "Meta.metadata.name", "string")),
        (r#"{"metadata":{"labels":{"a":1}}}"#, field("number", "Meta.metadata.labels", "string")),
        (r#"{"metadata":{"labels":[]}}"#, field("array", "Meta.metadata.labels", "map[string]string")),
        (
            r#"{"metadata":{"creationTimestamp":1}}"#,
            field("number", "Meta.metadata.creationTimestamp", "string"),
        ),
        (r#"{"spec":{"n":3000000000}}"#, field("number 3000000000", "Spec.spec.n", "int32")),
        (r#"{"spec":{"n":1.0}}"#, field("number 1.0", "Spec.spec.n", "int32")),
        (r#"{"spec":{"n":"1"}}"#, field("string", "Spec.spec.n", "int32")),
        (r#"{"spec":{"list":[{"list":{}}]}}"#, field("object", "Spec.spec.list.list", "[]v1.Spec")),
        (r#"{"spec":{"p":true}}"#, field("bool", "Spec.spec.p", "v1.Protocol")),
        (r#"{"spec":{"deep":1}}"#, field("number", "Spec.spec.Inner.deep", "string")),
        (r#"{"spec":{"io":1.5}}"#, field("number 1.5", "Spec.spec.io", "int32")),
        (r#"{"spec":{"n":"first","p":1}}"#, field("string", "Spec.spec.n", "int32")),
        (r#"{"spec":{"d":"x"}}"#, "time: invalid duration \"x\"".to_owned()),
        (r#"{"spec":{"data":{"a":"A"}}}"#, "illegal base64 data at input byte 0".to_owned()),
        (
            r#"{"spec":{"n":"first","q":"x"}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                .to_owned(),
        ),
        (r#"{"spec":{"q":"x"}"#, "unexpected end of JSON input".to_owned()),
        (r#"{"spec":{"f":1e400}}"#, field("number 1e400", "Spec.spec.f", "float64")),
    ] {
        check(input, Err(&want), &[]);
    }
}

#[test]
fn untyped() {
    let d = decode_any(
        br#"{"b":1,"a":[1.0,1e3,9223372036854775808,{"c":null,"c":2}],"b":"\ud83d\ude00\ud800"}"#,
        true,
    )
    .unwrap();
    let want = "{\"a\":[1,1000,9223372036854776000,{\"c\":2}],\"b\":\"\u{1f600}\u{fffd}\"}";
    assert_eq!(String::from_utf8(encode_any(&d.value)).unwrap(), want);
    assert_eq!(d.strict, ["duplicate field \"a[3].c\"", "duplicate field \"b\""]);
    assert_eq!(d.value.get_path(&["a"]).unwrap().as_list().unwrap()[0], Value::Float(1.0));
    let bad = decode_any(b"[1e400]", false).unwrap_err().to_string();
    assert_eq!(bad, "json: cannot unmarshal number 1e400 into Go value of type float64");
    let mut out = Vec::new();
    write_bytes_str(b"co\xffmm\xfe\"and", &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), r#""co\ufffdmm\ufffd\"and""#);
    let invalid = parse(b"\"a\xffb\"").unwrap();
    assert_eq!(invalid, Value::from("a\u{fffd}b"));
}

#[test]
fn floats() {
    for (f, want) in [
        (1.0, "1"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (-1.5e-9, "-1.5e-9"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ] {
        let mut out = Vec::new();
        write_f64(f, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}

#[test]
fn deep() {
    for n in [500, 10_000, 200_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = open.repeat(n) + "1" + &close.repeat(n);
            let e = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(e.ends_with("exceeded max depth"), "{e}");
            // Below unknown fields and in raw ones nothing is built.
            let empty = format!(r#"{{"metadata":{{}},{SPEC}}}"#);
            let e = format!("invalid character '{}' exceeded max depth", &open[..1]);
            let want = if n > 10_000 { Err(e.as_str()) } else { Ok(empty.as_str()) };
            check(&format!("{{\"u\":{text}}}"), want, &["unknown field \"u\""]);
        }
    }
}

#[test]
fn kinds() {
    let table = TypeTable::parse(TEXT).unwrap();
    let e = |s: &str| decode_kind(&table, s.as_bytes(), false).unwrap_err().to_string();
    assert_eq!(e("{}"), "Object 'Kind' is missing in '{}'");
    assert_eq!(e(r#"{"kind":"Thing"}"#), r#"Object 'apiVersion' is missing in '{"kind":"Thing"}'"#);
    assert_eq!(e("{"), "couldn't get version/kind; json parse error: unexpected end of JSON input");
    assert_eq!(
        e(r#"{"kind":"X","apiVersion":"v1"}"#),
        "no kind \"X\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    );
    assert!(decode_kind(&table, br#"{"Kind":"Thing","apiVersion":"v1"}"#, false).is_ok());
}

#[test]
fn typed_depth() {
    let table = TypeTable::parse(TEXT).unwrap();
    let id = table.kind("v1", "Thing").unwrap();
    for (n, ok) in [(120, true), (125, true), (128, false), (5000, false)] {
        let text = format!("{{\"spec\":{}{{}}{}}}", "{\"list\":[".repeat(n), "]}".repeat(n));
        let got = decode(&table, id, text.as_bytes(), true);
        assert_eq!(got.is_ok(), ok, "{n}");
        if let Ok(d) = got {
            assert!(!encode(&table, id, &d.value).is_empty());
            assert!(!crate::proto::encode(&table, id, &d.value).is_empty());
        }
    }
}
