use super::*;

const TEXT: &str = "package t/v1 k8s.io/api/t/v1 /v1
type Thing kind typemeta
  name 1 string
  spec 2 *Spec omitempty
  labels 3 {}string omitempty
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
