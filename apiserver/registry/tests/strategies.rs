//! What strategies make of objects and what they refuse, against upstream's strategies: the same objects, and the same
//! fields, reasons and texts.
//!
//! Valid objects of every kind are damaged at one place or two, and created or put in the place of another. A sample of
//! upstream's answers, of those that ours agree with, is recorded (`tests/data/strategies.jsonl`); beside them are answers
//! that ours once differed from (`tests/data/strategies_mended.jsonl`). With `ORACLE_DIR` naming the directory of the built
//! oracle programs, `ORACLE_COUNT` creates and as many updates of every kind are compared, and a table is printed, and
//! written to the file that `ORACLE_RESULTS` names; `ORACLE_RECORD` rewrites the sample, `ORACLE_KIND` asks about one
//! kind only, `ORACLE_SHOW` tells how many differences of a kind are shown, `ORACLE_SHOW_ORDER` how many that are of order
//! only, `ORACLE_SEED` changes the cases. Kinds that change with features that are off by default are asked about with
//! those on, too ([`FEATURES`]).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "../../../pkg/api/tests/generate/mod.rs"]
mod generate;
#[path = "../../../pkg/machinery/tests/oracle/mod.rs"]
mod oracle;

use std::collections::BTreeMap;
use std::path::Path;

use generate::Taste;
use machinery::schema::{Shape, TypeId};
use oracle::Rng;
use parking_lot::Mutex;
use registry::admission::Chain;
use registry::api::RequestContext;
use registry::gates::Gates;
use registry::{ApiRegistry, Settings};
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
    let text = include_str!("data/strategy_bases.jsonl");
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
        "CertificateSigningRequest" => &["", "status", "status", "approval", "approval"],
        "Namespace" => &["", "", "status", "finalize"],
        "Deployment"
        | "ReplicaSet"
        | "DaemonSet"
        | "StatefulSet"
        | "ReplicationController"
        | "Job"
        | "CronJob"
        | "Service"
        | "Node"
        | "PersistentVolume"
        | "PersistentVolumeClaim"
        | "ResourceQuota"
        | "HorizontalPodAutoscaler"
        | "Ingress"
        | "PodDisruptionBudget"
        | "VolumeAttachment"
        | "CSINode"
        | "ServiceCIDR"
        | "FlowSchema"
        | "PriorityLevelConfiguration"
        | "ValidatingAdmissionPolicy"
        | "DeviceTaintRule"
        | "StorageVersionMigration"
        | "ResourceClaim"
        | "ResourcePoolStatusRequest"
        | "Eviction"
        | "EvictionRequest"
        | "StorageVersion"
        | "PodCertificateRequest"
        | "PodGroup"
        | "CompositePodGroup"
        | "CustomResourceDefinition"
        | "APIService" => &["", "", "status"],
        _ => &[""],
    }
}

/// Features that are turned on for some questions. PodGroupPreemptionPolicy is not among them, as defaults depend on it,
/// which are the same for the whole process.
const FEATURES: &[&str] = &[
    "CompositePodGroup",
    "DRAWorkloadResourceClaims",
    "EvictionRequestAPI",
    "GenericWorkload",
    "TopologyAwareWorkloadScheduling",
];

/// Kinds that change with them.
const FEATURED: &[&str] = &["Pod", "PodTemplate", "Job", "Workload", "PodGroup", "CompositePodGroup"];

/// What follows the name of a kind that is asked about with them.
const WITH_FEATURES: &str = " with features";

/// A registry for questions of each form.
struct Registries {
    plain: ApiRegistry,
    featured: ApiRegistry,
}

impl Registries {
    fn new(dirs: &[tempfile::TempDir; 2]) -> Self {
        let of = |dir: &tempfile::TempDir, features: &'static [&str]| {
            let gates = Gates::new(|name| features.contains(&name));
            let settings = Settings { gates, ..Settings::default() };
            common::registry_set(dir.path(), Chain::default(), |_| true, settings)
        };
        Registries { plain: of(&dirs[0], &[]), featured: of(&dirs[1], FEATURES) }
    }

    fn of(&self, q: &Json) -> &ApiRegistry {
        if q.get("gates").is_some() { &self.featured } else { &self.plain }
    }
}

fn kind_of(object: &Json) -> String {
    format!("{} {}", object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap())
}

/// The valid objects of every kind that is asked about.
fn bases_by_kind() -> BTreeMap<String, Vec<Json>> {
    let mut by_kind: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    let only = std::env::var("ORACLE_KIND").ok();
    for base in bases() {
        let kind = kind_of(&base);
        if only.as_ref().is_none_or(|o| kind.ends_with(&format!(" {o}"))) {
            if FEATURED.contains(&kind.rsplit(' ').next().unwrap_or_default()) {
                by_kind.entry(format!("{kind}{WITH_FEATURES}")).or_default().push(base.clone());
            }
            by_kind.entry(kind).or_default().push(base);
        }
    }
    by_kind
}

/// As many creates and as many updates of a kind, from its bases in turn.
fn cases(kind: &str, bases: Vec<Json>, count: usize, seed: u64) -> impl Iterator<Item = Json> + Send + use<> {
    let plain = kind.trim_end_matches(WITH_FEATURES);
    let featured = plain != kind;
    let (api_version, name) = plain.split_once(' ').unwrap();
    let (id, name) = (api::types().kind(api_version, name).unwrap(), name.to_owned());
    // The cases of one kind do not depend on the other kinds.
    let mut r = Rng::new(seed + name.bytes().map(u64::from).sum::<u64>());
    let unharmed: Vec<Json> = bases.iter().map(|b| json!({"new": b})).collect();
    let damaged = (0..count).flat_map(move |i| {
        let base = &bases[i % bases.len()];
        let mut new = base.clone();
        for _ in 0..=r.below(2) {
            damage(&mut r, &mut new, Shape::Struct(id));
        }
        // The handlers drop these from what is created.
        if let Some(metadata) = new["metadata"].as_object_mut() {
            ["selfLink", "deletionGracePeriodSeconds"].iter().for_each(|field| drop(metadata.remove(*field)));
        }
        [json!({"new": new}), update(&mut r, base, &name, id)]
    });
    unharmed.into_iter().chain(damaged).map(move |mut q| {
        if featured {
            q["gates"] = json!(FEATURES);
        }
        q
    })
}

fn update(r: &mut Rng, base: &Json, kind: &str, id: TypeId) -> Json {
    let (mut new, mut old, sub) = (base.clone(), base.clone(), r.pick(subresources(kind)));
    for _ in 0..=r.below(2) {
        damage(r, &mut new, Shape::Struct(id));
    }
    if r.chance(25) {
        damage(r, &mut old, Shape::Struct(id));
    }
    // Statuses that are new, not changed.
    if sub == "status"
        && r.chance(20)
        && let Some(old) = old.as_object_mut()
    {
        old.remove("status");
    }
    // The server itself sees to these.
    for o in [&mut new, &mut old] {
        let Some(metadata) = o["metadata"].as_object_mut() else { continue };
        metadata.insert("uid".into(), "00000000-0000-4000-8000-000000000000".into());
        metadata.insert("resourceVersion".into(), "1".into());
        metadata.insert("creationTimestamp".into(), "2020-01-01T00:00:00Z".into());
    }
    json!({"new": new, "old": old, "sub": sub})
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

fn ours(registries: &Registries, q: &Json) -> Json {
    let registry = registries.of(q);
    let sub = q["sub"].as_str().unwrap_or_default();
    let context = context(registry, &q["new"], sub);
    let old = q.get("old").map(|old| {
        let mut old = old.clone();
        // What is stored has a namespace.
        let namespace = old["metadata"]["namespace"].as_str().unwrap_or_default();
        if !context.info.namespace.is_empty() && namespace.is_empty() {
            old["metadata"]["namespace"] = "default".into();
        }
        common::body(&old)
    });
    match registry.check(&context, &common::body(&q["new"]), old.as_ref()) {
        Ok(object) => json!({"object": Json::from(&object), "warnings": context.warnings.take()}),
        Err(error) if error.reason == "Invalid" => {
            let causes = error.details.iter().flat_map(|d| &d.causes);
            causes.map(|c| json!([c.field, c.reason, c.message])).collect()
        }
        Err(error) => json!({"err": error.message}),
    }
}

/// An answer in the form that is compared. Values that upstream prints as its internal types are, and differences that
/// follow a line break, are left out; so are times of the answer.
fn form(q: &Json, answer: &Json) -> Json {
    if let Some(object) = answer.get("object") {
        let new = &q["new"];
        let id =
            api::types().kind(new["apiVersion"].as_str().unwrap(), new["kind"].as_str().unwrap()).unwrap();
        let mut object = generate::normal(object, id);
        plain(&mut object);
        if new["metadata"]["name"].as_str().unwrap_or_default().is_empty() && q.get("old").is_none() {
            object["metadata"]["name"] = "generated".into();
        }
        // Some are told in the order of Go's maps.
        let mut warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
        warnings.sort_by_key(Json::to_string);
        return json!({"object": object, "warnings": warnings});
    }
    let Json::Array(causes) = answer else { return answer.clone() };
    let text = |c: &Json, i: usize| c[i].as_str().unwrap_or_default().to_owned();
    let line = |c: &Json| {
        let message = text(c, 2);
        let message = without_value(message.split('\n').next().unwrap_or_default());
        Json::from(format!("{} {} {message}", text(c, 0), text(c, 1)))
    };
    causes.iter().map(line).collect()
}

fn sorted(answer: &Json) -> Json {
    let Json::Array(lines) = answer else { return answer.clone() };
    let mut lines = lines.clone();
    lines.sort_by_key(Json::to_string);
    lines.into()
}

/// Times that a strategy stamps are the time of the answer; whole numbers are written in one way.
fn plain(v: &mut Json) {
    match v {
        Json::Number(n) if n.is_f64() => {
            let whole = n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15);
            if let Some(whole) = whole {
                *v = (whole as i64).into();
            }
        }
        Json::String(text)
            if text.len() >= 20 && text.ends_with('Z') && text.as_str() > "2026" && text.contains('T') =>
        {
            *text = "now".into();
        }
        Json::Array(list) => list.iter_mut().for_each(plain),
        Json::Object(map) => map.values_mut().for_each(plain),
        _ => {}
    }
}

fn without_value(message: &str) -> String {
    for (open, close) in [('{', '}'), ('[', ']')] {
        let Some(start) = message.find(&format!("value: {open}")) else { continue };
        if let Some(end) = message.rfind(&format!("{close}: ")).or_else(|| message.rfind(close)) {
            return format!("{}value: {{}}{}", &message[..start], &message[end + 1..]);
        }
    }
    // Empty and absent are told apart in few texts of ours.
    ["null", "\"\""]
        .iter()
        .fold(message.to_owned(), |m, empty| m.replace(&format!("value: {empty}"), "value: {}"))
}

/// Questions that have no answer to compare: the object cannot be decoded, or its name makes another path of the
/// request.
fn beside_the_point(q: &Json, theirs: &Json) -> bool {
    let slashed = |field: &str| q["new"]["metadata"][field].as_str().is_some_and(|n| n.contains('/'));
    theirs.get("err").is_some() || slashed("name") || slashed("namespace")
}

/// What was counted of a kind.
#[derive(Default)]
struct Tally {
    creates: usize,
    updates: usize,
    refused: usize,
    aside: usize,
    /// Answers that say something else.
    different: usize,
    /// Refusals that say the same in another order.
    order: usize,
    /// Refusals whose order is not the same every time upstream tells them, and is one of those.
    any_order: usize,
}

impl Tally {
    /// Counts an answer. Refusals that say the same in another order are not counted, but given back, with ours.
    fn add(&mut self, registries: &Registries, q: &Json, theirs: &Json, show: usize) -> Verdict {
        if beside_the_point(q, theirs) {
            self.aside += 1;
            return Verdict::Same;
        }
        *(if q.get("old").is_some() { &mut self.updates } else { &mut self.creates }) += 1;
        self.refused += usize::from(theirs.is_array());
        let (mine, theirs) = (form(q, &ours(registries, q)), form(q, theirs));
        if mine == theirs {
            return Verdict::Same;
        }
        if sorted(&mine) == sorted(&theirs) {
            return Verdict::Order(mine);
        }
        self.different += 1;
        if self.different <= show {
            eprintln!("request {q}\n{}", oracle::difference(&theirs, &mine, String::new()));
        }
        Verdict::Different
    }

    fn add_order(&mut self, q: &Json, mine: &Json, theirs: &[Json]) {
        if is_one_order(mine, theirs) {
            self.any_order += 1;
            return;
        }
        self.order += 1;
        if self.order <= number("ORACLE_SHOW_ORDER").unwrap_or(3) {
            eprintln!("order {q}\n{}", oracle::difference(&theirs[0], mine, String::new()));
        }
    }
}

enum Verdict {
    Same,
    /// The same causes in another order: ours.
    Order(Json),
    Different,
}

/// Whether no two causes stand as upstream never tells them: it was asked often, and tells in the order of Go's maps what
/// it found in them.
fn is_one_order(mine: &Json, theirs: &[Json]) -> bool {
    let ranks: Vec<BTreeMap<(&str, usize), usize>> = theirs.iter().map(ranks).collect();
    let mine: Vec<(&str, usize)> = ordered(mine);
    let seen = |a: &(&str, usize), b: &(&str, usize)| ranks.iter().any(|rank| rank.get(a) < rank.get(b));
    mine.iter().enumerate().all(|(i, a)| mine[i + 1..].iter().all(|b| seen(a, b)))
}

fn ranks(causes: &Json) -> BTreeMap<(&str, usize), usize> {
    ordered(causes).into_iter().enumerate().map(|(i, cause)| (cause, i)).collect()
}

/// The causes, each with how often it was told before.
fn ordered(causes: &Json) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = causes.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let before = |i: usize| lines[..i].iter().filter(|l| **l == lines[i]).count();
    (0..lines.len()).map(|i| (lines[i], before(i))).collect()
}

/// The cases of a kind that are kept in the repository, spread over all that were asked.
struct Sample {
    every: usize,
    seen: usize,
    due: bool,
    kept: Vec<(Json, Json)>,
}

impl Sample {
    const PER_KIND: usize = 25;

    fn of(cases: usize) -> Sample {
        Sample { every: (cases / Self::PER_KIND).max(1), seen: 0, due: false, kept: Vec::new() }
    }

    fn add(&mut self, q: &Json, theirs: &Json) {
        self.due |= self.seen.is_multiple_of(self.every);
        self.seen += 1;
        // Small cases only: the data is committed.
        let small = || q.to_string().len() + theirs.to_string().len() < 3500;
        if self.due && !beside_the_point(q, theirs) && small() {
            self.kept.push((q.clone(), theirs.clone()));
            self.due = false;
        }
    }
}

/// Asks about every kind, as many kinds at a time as there are processors, and keeps no more than what is in question.
fn ask_all(registries: &Registries, dir: &Path, show: usize) -> (BTreeMap<String, Tally>, Vec<(Json, Json)>) {
    let count = number("ORACLE_COUNT").unwrap_or(100);
    let seed = number("ORACLE_SEED").unwrap_or(7) as u64;
    let waiting = Mutex::new(bases_by_kind());
    let done = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let next = waiting.lock().pop_last();
            let Some((kind, bases)) = next else { break };
            let (mut tally, mut sample) = (Tally::default(), Sample::of(2 * count));
            let mut reordered = Vec::new();
            oracle::converse(&dir.join("strategy"), cases(&kind, bases, count, seed), |q, theirs| {
                match tally.add(registries, &q, &theirs, show) {
                    // What is wrong today is counted in the table; the sample guards what is right.
                    Verdict::Same => sample.add(&q, &theirs),
                    Verdict::Order(mine) => reordered.push((q, mine)),
                    Verdict::Different => {}
                }
            });
            ask_again(&mut tally, dir, reordered);
            done.lock().insert(kind, (tally, sample.kept));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let (mut tallies, mut kept) = (BTreeMap::new(), Vec::new());
    for (kind, (tally, sample)) in done.into_inner() {
        tallies.insert(kind, tally);
        kept.extend(sample);
    }
    (tallies, kept)
}

/// Learns in which orders upstream tells the causes of refusals. Go begins a small map at one of eight places, so that
/// two entries change places once in eight times.
fn ask_again(tally: &mut Tally, dir: &Path, reordered: Vec<(Json, Json)>) {
    const OFTEN: usize = 100;
    let questions: Vec<Json> = reordered.iter().map(|(q, _)| q.clone()).collect();
    let again = questions.into_iter().flat_map(|q| std::iter::repeat_n(q, OFTEN));
    let mut theirs = Vec::new();
    let mut mine = reordered.iter();
    oracle::converse(&dir.join("strategy"), again, |q, answer| {
        theirs.push(form(&q, &answer));
        if theirs.len() == OFTEN {
            let (q, mine) = mine.next().unwrap();
            tally.add_order(q, mine, &theirs);
            theirs.clear();
        }
    });
}

/// Compares with the recorded answers.
fn recall(registries: &Registries, show: usize) -> BTreeMap<String, Tally> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let recorded = ["strategies.jsonl", "strategies_mended.jsonl"].into_iter().flat_map(oracle::recorded);
    for (q, theirs) in recorded {
        let features = if q.get("gates").is_some() { WITH_FEATURES } else { "" };
        let tally = tallies.entry(format!("{}{features}", kind_of(&q["new"]))).or_default();
        if let Verdict::Order(mine) = tally.add(registries, &q, &theirs, show) {
            tally.add_order(&q, &mine, &[form(&q, &theirs)]);
        }
    }
    tallies
}

fn table(tallies: &BTreeMap<String, Tally>) -> String {
    let mut out = String::from(
        "| kind | creates | updates | refused | undecodable | different | order | any order |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (kind, t) in tallies {
        let Tally { creates, updates, refused, aside, different, order, any_order } = t;
        out.push_str(&format!(
            "| {kind} | {creates} | {updates} | {refused} | {aside} | {different} | {order} | {any_order} |\n"
        ));
    }
    out
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn answers_as_upstream() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let registries = Registries::new(&dirs);
    let show = number("ORACLE_SHOW").unwrap_or(3);
    let Some(programs) = oracle::oracle_dir() else {
        let tallies = recall(&registries, show);
        eprintln!("{}", table(&tallies));
        let wrong: usize = tallies.values().map(|t| t.different + t.order).sum();
        assert_eq!(wrong, 0, "answers differ from upstream's");
        return;
    };
    let (tallies, sample) = ask_all(&registries, &programs, show);
    if oracle::recording() {
        oracle::record("strategies.jsonl", &sample);
    }
    let table = table(&tallies);
    eprintln!("{table}");
    if let Ok(file) = std::env::var("ORACLE_RESULTS") {
        std::fs::write(file, format!("{HEAD}{table}")).unwrap();
    }
}

const HEAD: &str = "\
# Strategies beside upstream's

Written by `make oracle-strategy`: generated objects of every kind, each damaged at one place or two, are created and put
in the place of others, by our strategies and by upstream's (`rest.BeforeCreate`, `rest.BeforeUpdate`). *Different* are
answers that say something else: another object, other causes. *Order* are refusals with the same causes in another
order; *any order* those whose order upstream does not keep from one time to the next, as it finds the causes in Go's maps,
and of which ours is one: asked 100 times, it tells any two causes once as ours does. *Undecodable* questions have no
answer to compare.

What is left differs by upstream's own slips, all about what is empty and is never stored:

- `webhooks[*].objectSelector` or `namespaceSelector` with an empty `matchLabels` or `matchExpressions` in place of none:
  upstream compares with `reflect.DeepEqual`, so that every write of such a manifest counts a new generation
  (`pkg/registry/admissionregistration/*webhookconfiguration/strategy.go`). Ours counts none, as nothing changed.
- `spec.metadata.ownerReferences` or `finalizers` of a ResourceClaimTemplate that are empty lists: upstream refuses them as
  set (`apis/core/validation` `ValidateTemplateObjectMeta`, which looks at the struct by reflection). Ours takes them for
  absent.

";
