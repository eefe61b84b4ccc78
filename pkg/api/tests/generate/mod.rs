//! Random objects of any kind, made from the type table.
#![allow(dead_code, reason = "each test file uses its part")]

use crate::oracle::Rng;
use machinery::schema::{Choice, Field, Shape, TypeId};
use serde_json::{Map, Value as Json, json};

/// How often a field is set, in percent, and how deep objects go.
#[derive(Clone, Copy)]
pub struct Taste {
    pub fill: usize,
    pub depth: usize,
    /// How often a field is explicitly zero, empty or null, in percent.
    pub zero: usize,
    /// How many different texts there are; few make keys collide.
    pub texts: usize,
}

pub const TEXTS: [&str; 40] = [
    "a",
    "b",
    "c",
    "x",
    "ClientIP",
    "None",
    "LoadBalancer",
    "NodePort",
    "ClusterIP",
    "ExternalName",
    "RollingUpdate",
    "Recreate",
    "OnDelete",
    "Container",
    "Pod",
    "User",
    "Group",
    "ServiceAccount",
    "Webhook",
    "Always",
    "Never",
    "OnFailure",
    "ExactCount",
    "All",
    "Ingress",
    "Egress",
    "nginx",
    "nginx:latest",
    "reg:5000/a/b:v1",
    "Nginx",
    "TCP",
    "UDP",
    "10.0.0.1",
    "::1",
    "v1",
    "v1beta1",
    "cpu",
    "memory",
    "hugepages-2Mi",
    "a<b>&c",
];
const QUANTITIES: [&str; 14] = [
    "1",
    "100m",
    "0.5",
    "1.5Gi",
    "1e3",
    "100u",
    "0.0001",
    "5n",
    "0",
    "2Mi",
    "1500",
    "0.1",
    "12345678901234567890",
    "3k",
];

pub fn object(r: &mut Rng, api_version: &str, kind: &str, taste: Taste) -> Json {
    let id = api::types().kind(api_version, kind).expect("a kind");
    let mut o = structure(r, id, taste, taste.depth);
    let m = o.as_object_mut().expect("an object");
    m.insert("apiVersion".into(), api_version.into());
    m.insert("kind".into(), kind.into());
    o
}

pub fn structure(r: &mut Rng, id: TypeId, taste: Taste, depth: usize) -> Json {
    let table = api::types();
    match table.get(id).choice {
        Some(Choice::Bool) if r.chance(50) => return true.into(),
        Some(_) => return json!({"type": "string"}),
        None => {}
    }
    let mut m = Map::new();
    for f in table.fields(id) {
        let name = f.name.as_str();
        if ["managedFields", "creationTimestamp", "deletionTimestamp"].contains(&name)
            || !r.chance(taste.fill)
        {
            continue;
        }
        if depth == 0 && !is_scalar(f.shape) {
            continue;
        }
        if r.chance(taste.zero) {
            m.insert(name.into(), zero(r, f));
            continue;
        }
        m.insert(name.into(), value(r, f, f.shape, taste, depth));
    }
    Json::Object(m)
}

fn is_scalar(s: Shape) -> bool {
    !matches!(s, Shape::Struct(_) | Shape::List(_) | Shape::Map(_) | Shape::Wrapped(_))
}

fn zero(r: &mut Rng, f: &Field) -> Json {
    if r.chance(40) {
        return Json::Null;
    }
    match f.shape {
        Shape::String | Shape::Bytes => "".into(),
        Shape::Bool => false.into(),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString | Shape::Double => 0.into(),
        Shape::Struct(_) | Shape::Map(_) => json!({}),
        Shape::List(_) | Shape::Wrapped(_) => json!([]),
        _ => Json::Null,
    }
}

pub fn value(r: &mut Rng, f: &Field, shape: Shape, taste: Taste, depth: usize) -> Json {
    let table = api::types();
    match shape {
        Shape::String => match f.extra().enum_values.as_slice() {
            [] => r.pick(&TEXTS[..taste.texts]).into(),
            values => values[r.below(values.len())].as_str().into(),
        },
        Shape::Bool => r.chance(50).into(),
        Shape::Int32 => (r.below(7) as i64 - 1).into(),
        Shape::Int64 => (r.below(100) as i64 - 1).into(),
        Shape::Double => json!(1.5),
        Shape::Bytes => "YWJj".into(),
        Shape::Time => r.pick(&["2020-01-02T03:04:05Z", "2021-01-02T03:04:05Z"]).into(),
        Shape::MicroTime => "2020-01-02T03:04:05.678901Z".into(),
        Shape::Duration => r.pick(&["5s", "1m0s"]).into(),
        Shape::Quantity => r.pick(&QUANTITIES).into(),
        Shape::IntOrString => {
            if r.chance(50) {
                (r.below(5) as i64).into()
            } else {
                r.pick(&["25%", "http", ""]).into()
            }
        }
        Shape::Raw | Shape::Any => json!({"a": r.below(3), "kind": "X"}),
        Shape::Struct(id) => structure(r, id, taste, depth.saturating_sub(1)),
        Shape::List(e) | Shape::Wrapped(e) => {
            let n = 1 + r.below(3);
            (0..n).map(|_| value(r, f, table.elem(e), taste, depth)).collect()
        }
        Shape::Map(e) => {
            let n = 1 + r.below(3);
            let quantities = matches!(table.elem(e), Shape::Quantity);
            let keys: &[&str] =
                if quantities { &["cpu", "memory", "hugepages-2Mi", "x.io/y"] } else { &["a", "b", "c/d"] };
            let entries =
                (0..n).map(|_| (r.pick(keys).to_string(), value(r, f, table.elem(e), taste, depth)));
            Json::Object(entries.collect())
        }
    }
}

/// The object without what Go cannot tell from nothing: zero values of fields that are no pointers.
pub fn normal(v: &Json, id: TypeId) -> Json {
    let table = api::types();
    let Json::Object(m) = v else { return v.clone() };
    let mut out = Map::new();
    for (k, v) in m {
        match table.field(id, k) {
            Some(f) => {
                let v = normal_shape(v, f.shape);
                let empty = match &v {
                    Json::Null => true,
                    Json::Object(m) => m.is_empty() && !f.flags.pointer,
                    Json::Array(a) => a.is_empty(),
                    Json::String(s) => s.is_empty() && !f.flags.pointer,
                    Json::Number(n) => n.as_i64() == Some(0) && !f.flags.pointer,
                    Json::Bool(b) => !b && !f.flags.pointer,
                };
                if !empty {
                    out.insert(k.clone(), v);
                }
            }
            None => drop(out.insert(k.clone(), v.clone())),
        }
    }
    Json::Object(out)
}

fn normal_shape(v: &Json, shape: Shape) -> Json {
    let table = api::types();
    match (shape, v) {
        (Shape::Struct(id), v) => normal(v, id),
        (Shape::Quantity, Json::String(s)) if s == "0" => Json::Null,
        (Shape::Quantity, Json::String(s)) => {
            machinery::Quantity::parse(s).map_or(v.clone(), |q| q.to_string().into())
        }
        (Shape::List(e) | Shape::Wrapped(e), Json::Array(a)) => a
            .iter()
            .map(|v| match (table.elem(e), v) {
                // Null elements are zero structs.
                (Shape::Struct(id), Json::Null) => normal(&json!({}), id),
                (e, v) => normal_shape(v, e),
            })
            .collect(),
        (Shape::Map(e), Json::Object(m)) => m
            .iter()
            .map(|(k, v)| {
                (
                    k.clone(),
                    if table.elem(e) == Shape::Quantity {
                        quantity(v)
                    } else {
                        normal_shape(v, table.elem(e))
                    },
                )
            })
            .collect(),
        _ => v.clone(),
    }
}

fn quantity(v: &Json) -> Json {
    match v {
        Json::String(s) => machinery::Quantity::parse(s).map_or(v.clone(), |q| q.to_string().into()),
        v => v.clone(),
    }
}
