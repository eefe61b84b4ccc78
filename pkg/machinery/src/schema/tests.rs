use super::*;

const TEXT: &str = "# comment
package a/v1 example.org/a/v1 a.org/v1
type Thing kind typemeta
  +custom
  metadata 1 b/v1.Meta omitempty
  spec 2 *Spec omitempty optional
    +beta=+k8s:required
  = 3 Inner
  items 4 []{}quantity listType=map keys=x,y patch=merge,retainKeys patchKey=x
type Spec
  n 2 int32 default=\"a b\"
  name 1 string enum=A|B go=v1.Name
type Inner
  name 2 wrap[]string omitempty
package b/v1 example.org/b/v1 /v1
type Meta structType=atomic
  t 1 time omitzero
";

#[test]
fn loads() {
    let t = TypeTable::parse(TEXT).unwrap();
    let id = t.kind("a.org/v1", "Thing").unwrap();
    let names: Vec<_> = t.fields(id).map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["kind", "apiVersion", "metadata", "spec", "name", "items"]);
    let items = t.field(id, "items").unwrap();
    assert_eq!((items.list_keys(), items.patch_key()), (&["x".into(), "y".into()][..], Some("x")));
    assert!(items.flags.patch_merge && items.flags.patch_retain_keys && items.is_required());
    assert_eq!(t.go_shape(items.shape), "[]map[string]resource.Quantity");
    let spec = t.field(id, "spec").unwrap();
    assert_eq!(spec.extra().rules, ["beta=+k8s:required"]);
    let Shape::Struct(spec) = spec.shape else { panic!("not a struct") };
    assert_eq!(t.field(spec, "n").unwrap().default(), Some("\"a b\""));
    let wire: Vec<_> = t.wire_fields(spec).iter().map(|i| t.field_at(*i).tag).collect();
    assert_eq!(wire, [1, 2]);
    assert_eq!(t.full_name(spec), "a/v1.Spec");
    assert_eq!(t.go_name(spec), "v1.Spec");
    assert!(t.get(t.by_name("b/v1.Meta").unwrap()).atomic);
    assert_eq!(t.get(id).rules, ["custom"]);
    assert!(t.field(id, "nope").is_none());
}

#[test]
fn damaged() {
    for (text, want) in [
        ("nonsense", "type table line 1: unknown line: nonsense"),
        ("package a p /v1\ntype T\n  x 1 Missing", "type table line 3: unknown type:   x 1 Missing"),
        ("package a p /v1\ntype T\n  x y string", "type table line 3: bad tag:   x y string"),
    ] {
        assert_eq!(TypeTable::parse(text).unwrap_err().to_string(), want);
    }
}
