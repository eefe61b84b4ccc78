use super::*;
use serde_json::json;

fn v(j: serde_json::Value) -> Value {
    Value::from(j)
}

#[test]
fn nodes_are_three_words() {
    assert_eq!(std::mem::size_of::<Value>(), 24);
    assert_eq!(std::mem::size_of::<Map>(), 8);
}

#[test]
fn paths() {
    let mut o = v(json!({"spec": {"replicas": 3, "x": "s"}}));
    let before = o.clone();
    assert_eq!(o.i64_at(&["spec", "replicas"]), Some(3));
    assert_eq!(o.get_path(&["spec", "x", "y"]), None);
    o.set_path(&["status", "a", "b"], "c").unwrap();
    assert_eq!(o.str_at(&["status", "a", "b"]), Some("c"));
    assert_eq!(o.remove_path(&["spec", "replicas"]), Some(Value::Int(3)));
    assert_eq!(o, v(json!({"spec": {"x": "s"}, "status": {"a": {"b": "c"}}})));
    assert_eq!(before, v(json!({"spec": {"replicas": 3, "x": "s"}})));
    let e = o.set_path(&["spec", "x", "y"], 1).unwrap_err();
    assert_eq!(e.to_string(), "cannot set spec.x.y: spec.x is string, not an object");
}

#[test]
fn maps_of_any_size_stay_sorted() {
    for n in [3, 48, 49, 500] {
        let mut m = Map::new();
        for i in (0..n).rev() {
            m.insert(format!("k{i:04}"), i as i64);
        }
        assert_eq!(m.len(), n);
        assert!(m.keys().zip(m.keys().skip(1)).all(|(a, b)| a < b));
        let collected: Map = m.clone().into_iter().rev().chain([("k0001".into(), Value::Null)]).collect();
        assert_eq!(collected.get("k0001"), Some(&Value::Null));
        assert_eq!(collected.len(), n);
        *m.get_mut("k0001").unwrap() = Value::Null;
        assert_eq!(m, collected);
        assert_eq!(m.remove("k0000"), Some(Value::Int(0)));
        assert_eq!(m.len(), n - 1);
    }
}

#[test]
fn semantic_equality() {
    let check = |a, b, want| {
        let (a, b) = (v(a), v(b));
        assert_eq!(a.semantic_eq(&b), want, "{a} {b}");
        assert_eq!(b.semantic_eq(&a), want, "{b} {a}");
    };
    check(json!({"a": null, "b": [], "c": {}}), json!({}), true);
    check(json!({"a": []}), json!({"a": null}), true);
    check(json!({"a": ""}), json!({}), false);
    check(json!({"a": 1}), json!({"a": 1.0}), false);
    check(json!([{"a": [1]}]), json!([{"a": [1], "b": {}}]), true);
    check(json!([1, 2]), json!([2, 1]), false);
}

#[test]
fn deep_trees_drop_and_are_measured() {
    let mut list = Value::Null;
    let mut map = Value::Null;
    for _ in 0..1_000_000 {
        list = Value::List(List::from(vec![list]));
        map = Value::Map([("k", map)].into_iter().collect());
    }
    assert!(list.deeper_than(MAX_DEPTH));
    assert!(map.deeper_than(MAX_DEPTH));
    assert!(from_value::<serde_json::Value>(&map).unwrap_err().to_string().contains("exceeded max depth"));
    assert!(!v(json!([[1]])).deeper_than(2));
    assert!(v(json!([[1]])).deeper_than(1));
}

#[test]
fn typed_round_trip() {
    use k8s_openapi::api::core::v1::Pod;
    let tree = v(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": "http"}}}], "hostNetwork": true},
    }));
    let pod: Pod = from_value(&tree).unwrap();
    assert_eq!(pod.metadata.name.as_deref(), Some("p"));
    assert_eq!(to_value(&pod).unwrap(), tree);
    let text = serde_json::to_string(&tree).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), tree);
}

#[test]
fn raw_reads_as_its_content() {
    let raw = Value::Raw(br#" {"a": [1, 2.5]} "#.as_slice().into());
    assert_eq!(raw.type_name(), "object");
    let j: serde_json::Value = from_value(&raw).unwrap();
    assert_eq!(j, json!({"a": [1, 2.5]}));
    assert_eq!(raw.to_string(), r#"{"a":[1,2.5]}"#);
}
