//! Rows beside upstream's printers: objects of every kind that can be listed, made from the type table and from valid
//! ones, with the words that printers look for.
//!
//! A sample of upstream's answers is recorded (`tests/data/printers.jsonl`). With `ORACLE_DIR` naming the directory of the
//! built oracle programs, `ORACLE_COUNT` objects of every kind are compared and a table is printed; `ORACLE_RECORD`
//! rewrites the sample and the columns (`data/table-columns.txt`), `ORACLE_SHOW` tells how many differences of a kind are
//! shown, `ORACLE_KIND` asks about one kind only.

use std::collections::BTreeMap;
use std::path::Path;

use api::resources::RowKind;
use jiff::{Timestamp, ToSpan};
use machinery::schema::Shape;
use serde_json::{Value as Json, json};

use super::view::View;
use super::{cells, columns, pods};
use crate::generate::{self, Taste};
use crate::oracle::{self, Rng};

/// What printers tell apart, by the names of the fields that hold it.
const WORDS: &[(&str, &[&str])] = &[
    (
        "type",
        &[
            "Ready",
            "Initialized",
            "PodScheduled",
            "Approved",
            "Denied",
            "Failed",
            "Issued",
            "Complete",
            "Suspended",
            "FailureTarget",
            "SuccessCriteriaMet",
            "Available",
            "Established",
            "Healthy",
            "Dangling",
            "Running",
            "Succeeded",
            "InternalIP",
            "ExternalIP",
            "Hostname",
            "Resource",
            "ContainerResource",
            "Pods",
            "Object",
            "External",
            "ClusterIP",
            "NodePort",
            "LoadBalancer",
            "ExternalName",
            "DisruptionTarget",
            "Scheduled",
        ],
    ),
    ("status", &["True", "True", "False", "Unknown"]),
    ("phase", &["Running", "Pending", "Succeeded", "Failed", "Bound", "Active", "Terminating"]),
    (
        "reason",
        &[
            "",
            "SchedulingGated",
            "NodeLost",
            "Completed",
            "CrashLoopBackOff",
            "PodInitializing",
            "Error",
            "Unschedulable",
        ],
    ),
    ("operator", &["In", "NotIn", "Exists", "DoesNotExist", "Equal", "Gt"]),
    ("accessModes", &["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]),
    ("restartPolicy", &["Always", "Never", "OnFailure"]),
    ("name", &["a", "b", "c", "web", "cpu"]),
    ("kind", &["User", "Group", "ServiceAccount", "Deployment", "ClusterRole"]),
];
const MARKS: &[(&str, &str)] = &[
    ("node-role.kubernetes.io/control-plane", ""),
    ("node-role.kubernetes.io/", "x"),
    ("kubernetes.io/role", "worker"),
    ("kubernetes.io/role", ""),
    ("ingressclass.kubernetes.io/is-default-class", "true"),
    ("storageclass.kubernetes.io/is-default-class", "true"),
    ("storageclass.beta.kubernetes.io/is-default-class", "true"),
    ("storageclass.kubernetes.io/is-default-class", "false"),
    ("volume.beta.kubernetes.io/storage-class", "old"),
    ("batch.kubernetes.io/job-tracking", ""),
    ("workload.example/b", "2"),
];
/// How long ago, in milliseconds.
const AGES: &[i64] = &[
    -600_000,
    -1_500,
    -400,
    0,
    300,
    900,
    59_400,
    119_900,
    120_000,
    307_000,
    599_700,
    600_000,
    9_000_000,
    11_111_000,
    28_800_000,
    90_061_000,
    172_800_000,
    500_000_000,
    691_200_000,
    40_000_000_000,
    63_072_000_000,
    90_000_000_000,
    300_000_000_000,
];

/// Makes an object say what printers look for.
fn season(r: &mut Rng, now: Timestamp, name: &str, v: &mut Json, shape: Shape) {
    let table = api::types();
    match (v, shape) {
        (Json::Object(m), Shape::Struct(id)) => {
            for (key, inner) in m.iter_mut() {
                if let Some(field) = table.field(id, key) {
                    season(r, now, key, inner, field.shape);
                }
            }
        }
        (Json::Object(m), Shape::Map(e)) => {
            let elem = table.elem(e);
            m.values_mut().for_each(|inner| season(r, now, name, inner, elem));
            if matches!(name, "labels" | "annotations") && r.chance(60) {
                let (key, value) = r.pick(MARKS);
                m.insert(key.into(), value.into());
            }
        }
        (Json::Array(a), Shape::List(e) | Shape::Wrapped(e)) => {
            let elem = table.elem(e);
            a.iter_mut().for_each(|inner| season(r, now, name, inner, elem));
        }
        (v @ Json::String(_), Shape::String) => {
            let words = WORDS.iter().find(|(field, _)| *field == name).map(|(_, words)| *words);
            if let Some(words) = words.filter(|_| r.chance(70)) {
                *v = r.pick(words).into();
            }
        }
        (v @ Json::String(_), Shape::Time | Shape::MicroTime) => *v = ago(r, now, shape),
        (v @ Json::Number(_), Shape::Int32 | Shape::Int64) if r.chance(30) => {
            *v = r.pick(&[0, 1, 2, 15]).into()
        }
        _ => {}
    }
}

fn ago(r: &mut Rng, now: Timestamp, shape: Shape) -> Json {
    let at = now.checked_sub(r.pick(AGES).milliseconds()).unwrap();
    match shape {
        Shape::Time => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
        _ => at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string().into(),
    }
}

/// Valid objects of a kind, with parts of random ones.
fn objects(
    kind: RowKind,
    bases: Vec<Json>,
    count: usize,
    now: Timestamp,
) -> impl Iterator<Item = Json> + Send {
    let mut r = Rng::new(7 + kind.kind.bytes().map(u64::from).sum::<u64>());
    let id = api::types().kind(&kind.api_version(), kind.kind).unwrap();
    let bare = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "x"}});
    let random = (0..count).map(move |i| {
        let taste = Taste { fill: 30 + 20 * (i % 4), depth: 6, zero: 3, texts: 40 };
        let mut object = generate::object(&mut r, &kind.api_version(), kind.kind, taste);
        if !bases.is_empty() && r.chance(60) {
            let base = bases[i % bases.len()].as_object().unwrap();
            for (field, value) in base.iter().filter(|_| r.chance(70)) {
                object[field] = value.clone();
            }
        }
        season(&mut r, now, "", &mut object, Shape::Struct(id));
        object["kind"] = kind.kind.into();
        let metadata = object["metadata"].as_object().cloned().unwrap_or_default();
        object["metadata"] = metadata.into();
        object["metadata"]["name"] = r.pick(&["web", "a.b", "x:y"]).into();
        for (field, chance) in [("creationTimestamp", 95), ("deletionTimestamp", 12)] {
            if r.chance(chance) {
                object["metadata"][field] = ago(&mut r, now, Shape::Time);
            }
        }
        object
    });
    std::iter::once(bare).chain(random)
}

/// Our row in the form of upstream's answer.
fn ours(theirs: &Json) -> Json {
    let mut tree = machinery::value::to_value(&theirs["object"]).unwrap();
    if theirs["object"]["apiVersion"] == "autoscaling/v1" {
        let kind = RowKind { group: "autoscaling", version: "v1", kind: "HorizontalPodAutoscaler" };
        registry::conversion::to_hub(&mut tree, kind).unwrap();
    }
    let now = theirs["now"].as_str().unwrap().parse().unwrap();
    let view = View { tree: &tree, now };
    let text = |field: &str| theirs["object"][field].as_str().unwrap();
    let mut row = json!({"cells": cells(text("kind"), &view, None)});
    if let Some((reason, message)) = (text("kind") == "Pod").then(|| pods::completed(&view)).flatten() {
        row["completed"] = json!([reason, message]);
    }
    let columns = columns::of(text("apiVersion"), text("kind")).iter();
    row["columns"] = columns.map(|c| json!([c.name, c.kind, c.format, c.priority])).collect();
    row
}

fn row(theirs: &Json) -> Json {
    let mut row = theirs.clone();
    ["object", "now"].iter().for_each(|field| drop(row.as_object_mut().unwrap().remove(*field)));
    row
}

#[derive(Default)]
struct Tally {
    rows: usize,
    undecodable: usize,
    different: usize,
    columns: String,
    sample: Vec<(Json, Json)>,
}

impl Tally {
    fn add(&mut self, theirs: Json, show: usize) {
        if let Some(error) = theirs.get("err") {
            self.undecodable += 1;
            if self.undecodable <= show {
                eprintln!("undecodable: {error}");
            }
            return;
        }
        self.rows += 1;
        if self.columns.is_empty() {
            self.columns = recorded_columns(&theirs);
        }
        let (mine, wanted) = (ours(&theirs), row(&theirs));
        if mine == wanted {
            // Small ones only, spread over all: the data is committed.
            if self.rows.is_multiple_of(7) && self.sample.len() < 8 && theirs.to_string().len() < 2000 {
                self.sample.push((json!({}), theirs));
            }
            return;
        }
        self.different += 1;
        if self.different <= show {
            let at = oracle::difference(&wanted, &mine, String::new());
            eprintln!("object {}\nnow {}\n{at}", theirs["object"], theirs["now"]);
        }
    }
}

fn recorded_columns(theirs: &Json) -> String {
    let column = |c: &Json| {
        let text = |i: usize| c[i].as_str().unwrap();
        format!("{}|{}|{}|{}", text(0), text(1), text(2), c[3])
    };
    let columns: Vec<String> = theirs["columns"].as_array().unwrap().iter().map(column).collect();
    let text = |field: &str| theirs["object"][field].as_str().unwrap();
    format!("{} {}\t{}\n", text("apiVersion"), text("kind"), columns.join(";"))
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

fn ask_all(dir: &Path) {
    let bases: Vec<Json> = include_str!("../../registry/tests/data/strategy_bases.jsonl")
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let (now, only) = (Timestamp::now(), std::env::var("ORACLE_KIND").ok());
    let (count, show) = (number("ORACLE_COUNT").unwrap_or(200), number("ORACLE_SHOW").unwrap_or(2));
    let listed = api::resources::resources().iter().filter(|row| row.has_verb("list"));
    let asked = listed.filter(|row| only.as_ref().is_none_or(|only| only == row.kind.kind));
    let (mut columns, mut sample, mut tallies) = (String::new(), Vec::new(), BTreeMap::new());
    for kind in asked.map(|row| row.kind) {
        let own = bases.iter().filter(|b| b["apiVersion"] == kind.api_version() && b["kind"] == kind.kind);
        let mut tally = Tally::default();
        let objects = objects(kind, own.cloned().collect(), count, now);
        oracle::converse(&dir.join("printers"), objects, |_, theirs| tally.add(theirs, show));
        columns.push_str(&tally.columns);
        sample.append(&mut tally.sample);
        tallies.insert(format!("{} {}", kind.api_version(), kind.kind), tally);
    }
    for (kind, Tally { rows, undecodable, different, .. }) in &tallies {
        eprintln!("| {kind} | {rows} | {undecodable} | {different} |");
    }
    if oracle::recording() {
        oracle::record("printers.jsonl", &sample);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/table-columns.txt");
        std::fs::write(file, columns).unwrap();
    }
}

#[test]
fn rows_as_upstream() {
    if let Some(dir) = oracle::oracle_dir() {
        return ask_all(&dir);
    }
    let recorded = oracle::recorded("printers.jsonl");
    for (_, theirs) in &recorded {
        assert_eq!(ours(theirs), row(theirs), "{}", theirs["object"]);
    }
    assert!(recorded.len() > 600, "too few recorded rows");
}
