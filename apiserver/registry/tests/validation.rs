//! What strategies refuse, against upstream's strategies: the same fields, reasons and texts.
//!
//! Valid objects of many kinds are damaged at random places, and created or put in the place of the sound one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "../../../pkg/api/tests/generate/mod.rs"]
mod generate;
#[path = "../../../pkg/machinery/tests/oracle/mod.rs"]
mod oracle;

use generate::Taste;
use machinery::schema::{Shape, TypeId};
use oracle::Rng;
use registry::ApiRegistry;
use registry::api::RequestContext;
use serde_json::{Map, Value as Json, json};

const ODD_TEXTS: &[&str] = &[
    "",
    "a",
    "-a",
    "A_b",
    "a.b",
    "a/b",
    "../x",
    "..",
    "..a",
    "/abs",
    "None",
    "Always",
    "10.0.0.1",
    "010.0.0.1",
    "::1",
    "::ffff:1.2.3.4",
    "a b",
    "é",
    "0",
    "-1",
    "k8s.io/x",
    "A",
    "*",
    "100%",
    "10.0.0.0/8",
    "10.0.0.1/8",
    "metadata.name",
    "kubernetes.io/os",
    "localhost/p",
    "a=b",
    "x.",
    "*.a.b",
    "127.0.0.1",
    "UDP",
    "true",
    "a:b",
    "1.5",
    "http://a",
    "a--b",
    "1Gi",
    "IPv6",
    "Exists",
    "In",
    "Gt",
    "ClusterIP",
    "Never",
];
const ODD_NUMBERS: &[i64] =
    &[0, -1, 1, 2, 3, 100, 101, 255, 256, 1000, 32768, 65535, 65536, 2147483647, -2147483648];

fn bases() -> Vec<Json> {
    let text = include_str!("data/validation_bases.jsonl");
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Damages one place below `v`, which has the shape.
fn damage(r: &mut Rng, v: &mut Json, shape: Shape) {
    let table = api::types();
    let stop = r.chance(12);
    match (v, shape) {
        (Json::Object(m), Shape::Struct(id)) if !m.is_empty() && !stop => {
            let keys: Vec<String> =
                m.keys().filter(|k| !matches!(k.as_str(), "apiVersion" | "kind")).cloned().collect();
            let Some(key) = (!keys.is_empty()).then(|| keys[r.below(keys.len())].clone()) else { return };
            match table.field(id, &key).map(|f| f.shape) {
                Some(_) if r.chance(8) => drop(m.remove(&key)),
                Some(shape) => damage(r, m.get_mut(&key).unwrap(), shape),
                None => {}
            }
        }
        (Json::Object(m), Shape::Struct(id)) => add_field(r, m, id),
        (Json::Object(m), Shape::Map(e)) if !m.is_empty() && !stop => {
            let keys: Vec<String> = m.keys().cloned().collect();
            let key = keys[r.below(keys.len())].clone();
            match r.below(4) {
                0 => {
                    let value = m.remove(&key).unwrap();
                    m.insert(r.pick(ODD_TEXTS).into(), value);
                }
                1 => drop(m.remove(&key)),
                _ => damage(r, m.get_mut(&key).unwrap(), table.elem(e)),
            }
        }
        (Json::Array(a), Shape::List(e) | Shape::Wrapped(e)) if !a.is_empty() && !stop => {
            let i = r.below(a.len());
            match r.below(6) {
                0 => a.push(a[i].clone()),
                1 => drop(a.remove(i)),
                _ => damage(r, &mut a[i], table.elem(e)),
            }
        }
        (v, shape) => *v = odd(r, shape, v),
    }
}

fn add_field(r: &mut Rng, m: &mut Map<String, Json>, id: TypeId) {
    let table = api::types();
    let fields: Vec<_> = table.fields(id).filter(|f| !SERVER_FIELDS.contains(&f.name.as_str())).collect();
    if fields.is_empty() {
        return;
    }
    let field = fields[r.below(fields.len())];
    let taste = Taste { fill: 40, depth: 2, zero: 5, texts: 40 };
    let value = generate::value(r, field, field.shape, taste, 2);
    m.insert(field.name.to_string(), value);
}

const SERVER_FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "managedFields",
    "creationTimestamp",
    "deletionTimestamp",
    "selfLink",
    "uid",
    "generation",
    "resourceVersion",
    "generateName",
    "namespace",
    "ownerReferences",
    "deletionGracePeriodSeconds",
];

fn odd(r: &mut Rng, shape: Shape, old: &Json) -> Json {
    match shape {
        Shape::String if r.chance(5) => "x".repeat(64).into(),
        Shape::String if r.chance(3) => "x".repeat(254).into(),
        Shape::String => r.pick(ODD_TEXTS).into(),
        Shape::Bool => (!old.as_bool().unwrap_or(false)).into(),
        Shape::Int32 | Shape::Int64 => r.pick(ODD_NUMBERS).into(),
        Shape::IntOrString if r.chance(50) => r.pick(ODD_NUMBERS).into(),
        Shape::IntOrString => r.pick(&["", "a", "A", "101%", "0%", "5%", "http", "x%", "-1%"]).into(),
        Shape::Quantity => r.pick(&["0", "-1", "1", "500m", "1.5", "3Mi", "1Gi", "100Gi", "1n"]).into(),
        Shape::List(_) | Shape::Wrapped(_) => json!([]),
        Shape::Struct(_) | Shape::Map(_) => json!({}),
        _ => old.clone(),
    }
}

fn subresources(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["", "", "", "status", "ephemeralcontainers", "resize"],
        "Deployment"
        | "ReplicaSet"
        | "DaemonSet"
        | "StatefulSet"
        | "ReplicationController"
        | "Job"
        | "CronJob"
        | "Service"
        | "Namespace"
        | "Node"
        | "PersistentVolume"
        | "PersistentVolumeClaim"
        | "ResourceQuota"
        | "HorizontalPodAutoscaler"
        | "Ingress"
        | "PodDisruptionBudget"
        | "VolumeAttachment" => &["", "", "status"],
        _ => &[""],
    }
}

fn cases() -> Vec<Json> {
    let mut r = Rng::new(7);
    let mut out = Vec::new();
    for base in bases() {
        let (api_version, kind) = (base["apiVersion"].as_str().unwrap(), base["kind"].as_str().unwrap());
        let id = api::types().kind(api_version, kind).unwrap();
        let rounds = if kind == "Pod" { 400 } else { 150 };
        out.push(json!({"new": base}));
        for i in 0..rounds {
            let mut new = base.clone();
            for _ in 0..=r.below(2) {
                damage(&mut r, &mut new, Shape::Struct(id));
            }
            if i % 3 != 0 {
                out.push(json!({"new": new}));
                continue;
            }
            let (mut old, sub) = (base.clone(), r.pick(subresources(kind)));
            if r.chance(25) {
                damage(&mut r, &mut old, Shape::Struct(id));
            }
            // The server itself sees to these.
            for o in [&mut new, &mut old] {
                let metadata = o["metadata"].as_object_mut();
                let Some(metadata) = metadata else { continue };
                metadata.insert("uid".into(), "00000000-0000-4000-8000-000000000000".into());
                metadata.insert("resourceVersion".into(), "1".into());
                metadata.insert("creationTimestamp".into(), "2020-01-01T00:00:00Z".into());
            }
            out.push(json!({"new": new, "old": old, "sub": sub}));
        }
    }
    out
}

fn context(registry: &ApiRegistry, object: &Json, sub: &str) -> RequestContext {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let row = registry.core().resources().iter().map(|r| r.row).find(|row| {
        let own = match row.kind.group {
            "" => row.kind.version.to_owned(),
            group => format!("{group}/{}", row.kind.version),
        };
        own == api_version && row.kind.kind == kind
    });
    let row = row.unwrap_or_else(|| panic!("{api_version} {kind} is served"));
    let namespace = object["metadata"]["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or("default");
    let namespace = if row.namespaced { namespace } else { "" };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    common::at(&format!("{api_version} {namespace}/{}/{name}/{sub}", row.resource))
}

fn ours(registry: &ApiRegistry, q: &Json) -> Json {
    let sub = q["sub"].as_str().unwrap_or_default();
    let context = context(registry, &q["new"], sub);
    let old = q.get("old").map(common::body);
    match registry.check(&context, &common::body(&q["new"]), old.as_ref()) {
        Ok(()) => json!([]),
        Err(error) if error.reason == "Invalid" => {
            let causes = error.details.iter().flat_map(|d| &d.causes);
            causes.map(|c| json!([c.field, c.reason, c.message])).collect()
        }
        Err(error) => json!({"err": error.message}),
    }
}

/// Values that upstream prints as its internal types are, and differences that follow a line break, are left out.
fn form(_: &Json, answer: &Json) -> Json {
    let Json::Array(causes) = answer else { return answer.clone() };
    let mut causes: Vec<String> = causes
        .iter()
        .map(|c| {
            let text = |i: usize| c[i].as_str().unwrap_or_default();
            let message = text(2).split('\n').next().unwrap_or_default();
            format!("{} {} {}", text(0), text(1), without_value(message))
        })
        .collect();
    causes.sort();
    json!(causes)
}

fn without_value(message: &str) -> String {
    for (open, close) in [('{', '}'), ('[', ']')] {
        let Some(start) = message.find(&format!("value: {open}")) else { continue };
        if let Some(end) = message.rfind(&format!("{close}: ")).or_else(|| message.rfind(close)) {
            return format!("{}value: {open}{}", &message[..start], &message[end..]);
        }
    }
    message.to_owned()
}

#[test]
fn refuses_as_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let registry = common::registry(dir.path());
    // A name with a slash makes another path of the request.
    let slashed =
        |q: &Json, field: &str| q["new"]["metadata"][field].as_str().is_some_and(|n| n.contains('/'));
    let failed = |q: &Json, theirs: &Json| {
        theirs.get("err").is_some() || slashed(q, "name") || slashed(q, "namespace")
    };
    oracle::compare_with("validation", "validation.jsonl", 1500, cases, |q| ours(&registry, q), failed, form);
}
