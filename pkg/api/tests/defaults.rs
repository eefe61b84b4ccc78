//! Defaults against upstream's scheme.

mod generate;
#[path = "../../machinery/tests/oracle/mod.rs"]
mod oracle;

use api::defaults::{self, Context, Gates};
use generate::{Taste, normal};
use machinery::Value;
use oracle::Rng;
use serde_json::Value as Json;

/// Group-versions whose kinds are generated, with kinds left out because upstream's scheme has them in other ways.
const GROUPS: [&str; 26] = [
    "admissionregistration.k8s.io/v1",
    "admissionregistration.k8s.io/v1alpha1",
    "admissionregistration.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1",
    "apiextensions.k8s.io/v1beta1",
    "apiregistration.k8s.io/v1",
    "apps/v1",
    "authentication.k8s.io/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates.k8s.io/v1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "events.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1",
    "networking.k8s.io/v1",
    "node.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
    "resource.k8s.io/v1",
    "resource.k8s.io/v1beta1",
    "resource.k8s.io/v1beta2",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1",
    "v1",
];

fn kinds() -> Vec<(&'static str, String)> {
    let table = api::types();
    let mut out = Vec::new();
    for id in table.types().filter(|id| table.get(*id).kind) {
        let api_version = table.package(id).api_version();
        let kind = table.get(id).name.to_string();
        if let Some(gv) = GROUPS.iter().find(|g| **g == api_version) {
            out.push((*gv, kind));
        }
    }
    out
}

fn type_of(o: &Json) -> Option<machinery::schema::TypeId> {
    api::types().kind(o["apiVersion"].as_str()?, o["kind"].as_str()?)
}

/// Tests run at any time: the time of a taint is compared as "set now".
fn mask(v: &mut Json, request: &str) {
    match v {
        Json::Object(m) => {
            for (k, v) in m.iter_mut() {
                if k == "timeAdded" && v.as_str().is_some_and(|t| !request.contains(t)) {
                    *v = "now".into();
                }
                mask(v, request);
            }
        }
        Json::Array(a) => a.iter_mut().for_each(|v| mask(v, request)),
        _ => {}
    }
}

fn ours(q: &Json) -> Json {
    let mut v = Value::from(q.clone());
    let context = Context { gates: Gates::default(), now: "2038-01-01T00:00:00Z" };
    let (api_version, kind) =
        (q["apiVersion"].as_str().unwrap_or_default(), q["kind"].as_str().unwrap_or_default());
    defaults::apply(&mut v, api_version, kind, &context);
    (&v).into()
}

fn normalised(q: &Json, answer: &Json) -> Json {
    let mut out = type_of(q).map_or(answer.clone(), |id| normal(answer, id));
    mask(&mut out, &q.to_string());
    out
}

fn cases() -> Vec<Json> {
    let mut r = Rng::new(11);
    let mut out = Vec::new();
    for (api_version, kind) in kinds() {
        let rounds = if kind.ends_with("List") { 5 } else { 50 };
        for i in 0..rounds {
            let taste = Taste {
                fill: [0, 10, 30, 50, 80][i % 5],
                depth: if i % 10 == 9 { 9 } else { 6 },
                zero: 8,
                texts: 40,
            };
            let o = generate::object(&mut r, api_version, &kind, taste);
            if o.to_string().len() < 20_000 {
                out.push(o);
            }
        }
    }
    out
}

#[test]
fn answers_as_upstream() {
    let failed = |_: &Json, theirs: &Json| theirs.get("err").is_some();
    oracle::compare_with("defaults", "defaults.jsonl", 700, cases, ours, failed, normalised);
}
