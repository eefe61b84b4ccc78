//! Answers of the API server that hold for a while, for objects that registered pods refer to.
//!
//! [`Table`] and [`Data`] decide; [`Cached`] asks. Upstream: pkg/kubelet/util/manager/cache_based_manager.go, v1.37.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Object;
use parking_lot::Mutex;

use crate::container::env::Fetched;

/// How long an answer holds where the node does not say, as upstream.
pub(super) const DEFAULT_TTL: Duration = Duration::from_secs(60);
/// Version to ask for: the newest one, and any that the API server has at hand.
const NEWEST: &str = "";
const ANY: &str = "0";

/// The last answer.
#[derive(Debug)]
enum Known<K> {
    Nothing,
    Found(Arc<K>),
    Absent(String),
}

/// What is known of one object.
#[derive(Debug)]
struct Data<K> {
    known: Known<K>,
    /// When it was learnt.
    at: Option<Instant>,
}

impl<K> Default for Data<K> {
    fn default() -> Self {
        Self { known: Known::Nothing, at: None }
    }
}

impl<K: Object> Data<K> {
    /// What holds, else the version that has to be asked for. That an object is absent never holds.
    fn holding(&self, ttl: Duration, now: Instant) -> Result<Fetched<K>, &'static str> {
        let is_fresh = self.at.is_some_and(|at| now.duration_since(at) < ttl);
        match &self.known {
            Known::Found(object) if is_fresh => Ok(Fetched::Found(object.clone())),
            Known::Found(_) => Err(ANY),
            Known::Nothing | Known::Absent(_) => Err(NEWEST),
        }
    }

    /// Takes over an answer, unless it is a failure or older than what is known.
    fn learn(&mut self, answer: &Fetched<K>, now: Instant) {
        let known = match answer {
            Fetched::Failed(_) => return,
            Fetched::NotFound(text) => Known::Absent(text.clone()),
            Fetched::Found(object) => match &self.known {
                Known::Found(old) if version(object.as_ref()) < version(old.as_ref()) => return,
                _ => Known::Found(object.clone()),
            },
        };
        *self = Self { known, at: Some(now) };
    }

    /// What is known, if anything is.
    fn answer(&self) -> Option<Fetched<K>> {
        match &self.known {
            Known::Nothing => None,
            Known::Found(object) => Some(Fetched::Found(object.clone())),
            Known::Absent(text) => Some(Fetched::NotFound(text.clone())),
        }
    }
}

/// Versions grow; what is none counts as the oldest.
fn version(object: &impl Object) -> u64 {
    object.resource_version().parse().unwrap_or_default()
}

/// Shared so that the table is free while the API server is asked, and nobody asks twice at once.
type Cell<K> = Arc<tokio::sync::Mutex<Data<K>>>;

struct Item<K> {
    /// How many pods refer to it.
    pods: usize,
    data: Cell<K>,
}

/// Objects by namespace and name, and what each registered pod refers to.
struct Table<K> {
    items: HashMap<(String, String), Item<K>>,
    pods: HashMap<String, (String, BTreeSet<String>)>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { items: HashMap::new(), pods: HashMap::new() }
    }
}

impl<K> Table<K> {
    /// What a pod refers to now. References that it did not have before make what is known of the object void.
    fn register(&mut self, uid: &str, namespace: &str, names: BTreeSet<String>) {
        let (_, before) = self.pods.remove(uid).unwrap_or_default();
        for name in names.difference(&before) {
            let key = (namespace.to_owned(), name.clone());
            let item = self.items.entry(key).or_insert_with(|| Item { pods: 0, data: Cell::default() });
            item.pods = item.pods.saturating_add(1);
            item.data = Cell::default();
        }
        for name in before.difference(&names) {
            self.drop_one(namespace, name);
        }
        self.pods.insert(uid.to_owned(), (namespace.to_owned(), names));
    }

    fn forget(&mut self, uid: &str) {
        let (namespace, names) = self.pods.remove(uid).unwrap_or_default();
        names.iter().for_each(|name| self.drop_one(&namespace, name));
    }

    fn drop_one(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(item) = self.items.get_mut(&key) else { return };
        item.pods = item.pods.saturating_sub(1);
        if item.pods == 0 {
            self.items.remove(&key);
        }
    }

    fn find(&self, namespace: &str, name: &str) -> Option<Cell<K>> {
        self.items.get(&(namespace.to_owned(), name.to_owned())).map(|item| item.data.clone())
    }
}

/// Objects of one kind.
pub(super) struct Cached<K>(Mutex<Table<K>>);

impl<K> Default for Cached<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Object> Cached<K> {
    /// What a pod refers to now.
    pub(super) fn register(&self, uid: &str, namespace: &str, names: BTreeSet<String>) {
        self.0.lock().register(uid, namespace, names);
    }

    /// Forgets a pod, and the objects that only it referred to.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().forget(uid);
    }

    /// The object as it is known, asked for with `ask` (which is told the version) where that does not hold.
    pub(super) async fn get<Answer: Future<Output = Fetched<K>>>(
        &self,
        (namespace, name): (&str, &str),
        ttl: Duration,
        clock: impl Fn() -> Instant,
        ask: impl FnOnce(&'static str) -> Answer,
    ) -> Fetched<K> {
        let Some(cell) = self.0.lock().find(namespace, name) else {
            return Fetched::Failed(format!("object {namespace:?}/{name:?} not registered"));
        };
        let mut data = cell.lock().await;
        let version = match data.holding(ttl, clock()) {
            Ok(answer) => return answer,
            Err(version) => version,
        };
        let answer = ask(version).await;
        data.learn(&answer, clock());
        // An old answer is better than a failure.
        data.answer().unwrap_or(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Meta;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};

    fn of_version(version: &Value) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"resourceVersion": version}})).unwrap()
    }

    /// Recorded from upstream's manager, see `e2e/oracle/objects`: what it asks for, and what it answers.
    #[tokio::test]
    async fn as_upstream() {
        let stories: Vec<Value> =
            include_str!("testdata/cached.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(stories.len() >= 40);
        for (number, story) in stories.iter().enumerate() {
            let cached = Cached::<ConfigMap>::default();
            let (mut now, mut ttl) = (Instant::now(), DEFAULT_TTL);
            let mut api: HashMap<&str, &Value> = HashMap::new();
            for (at, step) in story.as_array().unwrap().iter().enumerate() {
                let text = |key: &str| step[key].as_str().unwrap_or_default();
                let number_of = |key: &str| Duration::from_secs(step[key].as_u64().unwrap_or_default());
                match text("do") {
                    "register" => {
                        let names = step["names"].as_array().into_iter().flatten();
                        let names = names.map(|n| n.as_str().unwrap().to_owned()).collect();
                        cached.register(text("pod"), "n", names);
                    }
                    "forget" => cached.forget(text("pod")),
                    "api" => drop(api.insert(text("name"), &step["state"])),
                    "pass" => now += number_of("seconds"),
                    "ttl" => ttl = if step["seconds"].is_null() { DEFAULT_TTL } else { number_of("seconds") },
                    "get" => {
                        let mut asked = None;
                        let answer = cached.get(
                            ("n", text("name")),
                            ttl,
                            || now,
                            |version| {
                                asked = Some(version);
                                std::future::ready(match api.get(text("name")).and_then(|s| s.as_str()) {
                                    None => Fetched::NotFound("absent".to_owned()),
                                    Some("absent") => Fetched::NotFound("absent".to_owned()),
                                    Some("down") => Fetched::Failed("down".to_owned()),
                                    Some(version) => Fetched::Found(Arc::new(of_version(&json!(version)))),
                                })
                            },
                        );
                        let answer = match answer.await {
                            Fetched::Found(object) => object.resource_version().to_owned(),
                            Fetched::NotFound(text) | Fetched::Failed(text) => text,
                        };
                        let expected = (step["asked"].as_str(), text("answer"));
                        assert_eq!((asked, answer.as_str()), expected, "story {number}, step {at}: {step}");
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }
}
