//! What upstream's code answered, recorded by `e2e/oracle/flowcontrol`, against ours.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use flowcontrol::allocation::{Item, allocate};
use flowcontrol::bootstrap;
use flowcontrol::config::SchemaSpec;
use flowcontrol::matching::Digest;
use flowcontrol::queueset::{Discipline, Id, QueueSet};
use flowcontrol::seats::Work;
use flowcontrol::shuffle::Dealer;
use serde_json::Value;

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().into_iter().flatten().map(number).collect()
}

#[test]
fn hands() {
    for line in lines(include_str!("../data/hands.jsonl")) {
        let dealer = Dealer::new(line["deck"].as_i64().unwrap(), line["hand"].as_i64().unwrap()).unwrap();
        let cards: Vec<u64> = dealer.deal(number(&line["hash"])).map(u64::from).collect();
        assert_eq!(cards, numbers(&line["cards"]), "{line}");
    }
}

#[test]
fn allocations() {
    for line in lines(include_str!("../data/allocations.jsonl")) {
        let item = |v: &Value| Item {
            target: v["Target"].as_f64().unwrap(),
            lower: v["Lower"].as_f64().unwrap(),
            upper: v["Upper"].as_f64().unwrap(),
        };
        let items: Vec<Item> = line["items"].as_array().unwrap().iter().map(item).collect();
        let (shares, _) = allocate(number(&line["sum"]) as f64, &items).unwrap();
        for (ours, theirs) in shares.iter().zip(line["shares"].as_array().unwrap()) {
            assert!((ours - theirs.as_f64().unwrap()).abs() < 1e-6, "{shares:?} {line}");
        }
    }
}

#[test]
fn matches() {
    let mut all = lines(include_str!("../data/matches.jsonl"));
    let own = serde_json::from_value(all.next().unwrap()).unwrap();
    let mut schemas = [bootstrap::suggested_schemas(), bootstrap::mandatory_schemas()].concat();
    schemas.push(own);
    let schemas: Vec<SchemaSpec> = schemas.iter().map(SchemaSpec::of).collect();
    for line in all {
        let text = |field: &str| line[field].as_str().unwrap();
        let groups: Vec<String> =
            serde_json::from_value::<Option<_>>(line["groups"].clone()).unwrap().unwrap_or_default();
        let digest = Digest {
            user: text("user"),
            groups: &groups,
            is_resource: line["isResource"].as_bool().unwrap(),
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            path: text("path"),
        };
        let matched: Vec<&str> =
            schemas.iter().filter(|s| s.rules.matches(&digest)).map(|s| s.name.as_str()).collect();
        let wanted: Vec<String> = serde_json::from_value(line["matched"].clone()).unwrap();
        assert_eq!(matched, wanted, "{line}");
    }
}

/// One recorded history, replayed.
struct Replay {
    set: QueueSet<u64>,
    discipline: Discipline,
    now: Duration,
    ids: HashMap<u64, Id>,
    /// Due releases.
    lingering: Vec<(Duration, Id)>,
}

impl Replay {
    fn step(&mut self, step: &Value) {
        let id = self.ids.get(&number(&step["id"])).copied();
        let mut wake = |_: &mut u64| ();
        match step["op"].as_str().unwrap() {
            "arrive" => {
                let work = Work {
                    initial: number(&step["initial"]),
                    last: number(&step["final"]),
                    linger: Duration::from_nanos(number(&step["nanos"])),
                };
                let name = number(&step["id"]);
                if let Ok(come) = self.set.arrive(self.now, work, number(&step["hash"]), name, &mut wake) {
                    self.ids.insert(name, come.id);
                }
            }
            "finish" => {
                if let Some(linger) = self.set.finish(self.now, id.unwrap(), &mut wake) {
                    self.lingering.push((self.now + linger, id.unwrap()));
                }
            }
            "cancel" => assert!(self.set.cancel(self.now, id.unwrap())),
            "limit" => self.set.configure(self.now, self.discipline, number(&step["limit"]), &mut wake),
            _ => {
                let until = self.now + Duration::from_nanos(number(&step["nanos"]));
                self.lingering.sort_unstable();
                while self.lingering.first().is_some_and(|(due, _)| *due <= until) {
                    let (due, id) = self.lingering.remove(0);
                    self.set.release(due, id, &mut wake);
                }
                self.now = until;
            }
        }
    }

    fn check(&self, step: &Value, context: &str) {
        let after = &step["after"];
        let mut executing: Vec<u64> = self.set.executing().map(|r| r.payload).collect();
        executing.sort_unstable();
        assert_eq!(executing, numbers(&after["executing"]), "{context}");
        assert_eq!(self.set.totals().seats_in_use, number(&after["seats"]), "{context}");
        assert_eq!(self.set.totals().rejected, number(&after["refused"]), "{context}");
        let (mut waiting, mut next) = (BTreeMap::new(), BTreeMap::new());
        for queue in self.set.queues().filter(|q| q.waiting.count + q.executing > 0) {
            let name = queue.index.to_string();
            let here: Vec<u64> = self.set.waiting(queue.index).map(|r| r.payload).collect();
            if !here.is_empty() {
                waiting.insert(name.clone(), here);
            }
            next.insert(name, queue.next_dispatch_r.to_string());
        }
        let theirs: Option<BTreeMap<String, Vec<u64>>> =
            serde_json::from_value(after["waiting"].clone()).unwrap();
        assert_eq!(waiting, theirs.unwrap_or_default(), "{context}");
        let theirs: Option<BTreeMap<String, String>> = serde_json::from_value(after["next"].clone()).unwrap();
        assert_eq!(next, theirs.unwrap_or_default(), "{context}");
    }
}

#[test]
fn queue_sets() {
    for (at, history) in lines(include_str!("../data/queuesets.jsonl")).enumerate() {
        let of = |field: &str| number(&history[field]);
        let dealer = Dealer::new(of("queues") as i64, of("hand") as i64).unwrap();
        let discipline = Discipline::Queue { dealer, length: of("length") };
        let now = Duration::ZERO;
        let set = QueueSet::new(now, discipline, of("limit"));
        let mut replay = Replay { set, discipline, now, ids: HashMap::new(), lingering: Vec::new() };
        for (n, step) in history["steps"].as_array().unwrap().iter().enumerate() {
            replay.step(step);
            replay.check(step, &format!("history {at}, step {n}: {step}"));
        }
    }
}
