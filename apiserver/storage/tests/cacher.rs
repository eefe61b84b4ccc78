//! The list and watch contract (rules R1 to R14), on the watch cache over the embedded store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use storage::cacher::{
    At, Config, Decode, Decoded, Error, Filter, Header, ListRequest, Scope, WatchEvent, WatchKind,
};
use storage::cacher::{ListResult, WatchRequest, WatchStream};
use storage::embedded::{Embedded, Options};
use storage::{Cacher, Revision, Store};

const PREFIX: &str = "/registry/pods/";

/// Test objects are `label/node/anything`; keys are `prefix/namespace/name`.
fn decode() -> Decode {
    Arc::new(|kv| {
        let text = String::from_utf8_lossy(&kv.value).into_owned();
        let key = kv.key_str().into_owned();
        let mut path = key.trim_start_matches(PREFIX).split('/');
        let mut parts = text.split('/');
        let label = parts.next().filter(|label| *label != "bad").ok_or("bad object")?;
        Ok(Decoded {
            header: Header {
                namespace: path.next().unwrap_or_default().into(),
                name: path.next().unwrap_or_default().into(),
                labels: Box::new([("app".into(), label.into())]),
                fields: Box::new([parts.next().unwrap_or_default().into()]),
                ..Header::default()
            },
            payload: kv.value.clone(),
        })
    })
}

fn app(value: &'static str) -> Filter {
    Arc::new(move |object| object.header.label("app") == Some(value))
}

fn node(value: &'static str) -> Filter {
    Arc::new(move |object| object.header.fields[0] == value)
}

struct Rig {
    store: Arc<Embedded>,
    cacher: Cacher,
    _dir: tempfile::TempDir,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { relaxed_prefixes: vec!["/registry/pods/".into()], ..Options::new(dir.path()) };
    let store = Arc::new(Embedded::open(options).unwrap());
    let config = Config { index: Some(0), ..Config::new(Arc::<Embedded>::clone(&store), PREFIX, decode()) };
    Rig { store, cacher: Cacher::new(config), _dir: dir }
}

impl Rig {
    async fn put(&self, key: &str, value: &str) -> Revision {
        let key = format!("{PREFIX}{key}");
        let now = self.store.get(&key, 0).await.unwrap().kv.map_or(0, |kv| kv.mod_revision);
        self.store.update(&key, Bytes::copy_from_slice(value.as_bytes()), now, None).await.unwrap()
    }

    async fn delete(&self, key: &str) -> Option<Revision> {
        let key = format!("{PREFIX}{key}");
        let now = self.store.get(&key, 0).await.unwrap().kv?.mod_revision;
        Some(self.store.delete(&key, now).await.unwrap())
    }

    async fn list(&self, at: At, limit: usize) -> Result<ListResult, Error> {
        self.cacher.list(ListRequest { at, limit, ..ListRequest::all() }).await
    }
}

type Shown = (String, Revision, String);

fn shown(result: &ListResult) -> Vec<Shown> {
    result.items.iter().map(|o| (text(&o.key), o.revision, text(&o.payload))).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn next(watch: &mut WatchStream) -> Option<WatchEvent> {
    let batch = tokio::time::timeout(Duration::from_secs(10), watch.next_batch(1)).await;
    batch.expect("an event in time")?.pop()
}

type Seen = (WatchKind, String, Revision, String);

async fn next_object(watch: &mut WatchStream) -> Seen {
    match next(watch).await.expect("the watch goes on") {
        WatchEvent::Object(kind, object) => (kind, text(&object.key), object.revision, text(&object.payload)),
        other => panic!("expected an object, got {other:?}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8, u8),
    Delete(u8),
    List { limit: usize, namespace: bool, filtered: bool },
    Exact { back: u8, limit: usize },
    Watch { back: u8, how: u8 },
    Elsewhere,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u8..14, 0u8..3, 0u8..3).prop_map(|(k, l, n)| Op::Put(k, l, n)),
        3 => (0u8..14).prop_map(Op::Delete),
        2 => (0usize..5, any::<bool>(), any::<bool>())
            .prop_map(|(limit, namespace, filtered)| Op::List { limit, namespace, filtered }),
        2 => (0u8..25, 0usize..5).prop_map(|(back, limit)| Op::Exact { back, limit }),
        2 => (0u8..25, 0u8..6).prop_map(|(back, how)| Op::Watch { back, how }),
        1 => Just(Op::Elsewhere),
    ]
}

/// The expected state and history.
#[derive(Default)]
struct History {
    now: BTreeMap<String, (Revision, String)>,
    states: BTreeMap<Revision, BTreeMap<String, (Revision, String)>>,
    changes: Vec<(Revision, String, Option<String>, Option<String>)>,
}

impl History {
    fn set(&mut self, revision: Revision, key: &str, value: Option<&str>) {
        let key = format!("{PREFIX}{key}");
        let old = match value {
            Some(value) => self.now.insert(key.clone(), (revision, value.to_owned())),
            None => self.now.remove(&key),
        };
        self.changes.push((revision, key, old.map(|(_, v)| v), value.map(str::to_owned)));
        self.states.insert(revision, self.now.clone());
    }

    fn at(&self, revision: Revision) -> BTreeMap<String, (Revision, String)> {
        self.states.range(..=revision).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    fn list(&self, revision: Revision, select: impl Fn(&str, &str) -> bool) -> Vec<Shown> {
        let state = self.at(revision).into_iter();
        state.filter(|(k, (_, v))| select(k, v)).map(|(k, (r, v))| (k, r, v)).collect()
    }

    fn watch(&self, after: Revision, select: impl Fn(&str, &str) -> bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        for (revision, key, old, new) in self.changes.iter().filter(|(r, ..)| *r > after) {
            let was = old.as_deref().is_some_and(|v| select(key, v));
            let is = new.as_deref().is_some_and(|v| select(key, v));
            let (kind, value) = match (was, is) {
                (false, false) => continue,
                (false, true) => (WatchKind::Added, new),
                (true, true) => (WatchKind::Modified, new),
                (true, false) => (WatchKind::Deleted, old),
            };
            seen.push((kind, key.clone(), *revision, value.clone().unwrap()));
        }
        seen
    }
}

type Select = Arc<dyn Fn(&str, &str) -> bool>;

fn watch_shape(how: u8) -> (WatchRequest, Select) {
    let mut request = WatchRequest::from(0);
    let select: Select = match how {
        0 => Arc::new(|_, _| true),
        1 => {
            request.scope = Scope::Namespace("a".into());
            Arc::new(|key, _| key.starts_with("/registry/pods/a/"))
        }
        2 => {
            request.filter = Some(app("l1"));
            Arc::new(|_, value| value.starts_with("l1/"))
        }
        3 => {
            request.filter = Some(node("n2"));
            request.index_value = Some("n2".into());
            Arc::new(|_, value| value.contains("/n2/"))
        }
        4 => {
            request.scope = Scope::Key("/registry/pods/b/07".into());
            Arc::new(|key, _| key == "/registry/pods/b/07")
        }
        _ => {
            request.scope = Scope::Namespace("b".into());
            request.filter = Some(node("n0"));
            request.index_value = Some("n0".into());
            Arc::new(|key, value| key.starts_with("/registry/pods/b/") && value.contains("/n0/"))
        }
    };
    (request, select)
}

async fn run(ops: &[Op]) {
    let rig = rig();
    let mut history = History::default();
    let mut watches: Vec<(WatchStream, Vec<Seen>, Select, Revision)> = Vec::new();
    let base = rig.cacher.list(ListRequest::all()).await.unwrap().revision;
    for (i, op) in ops.iter().enumerate() {
        let current = rig.store.current_revision().await.unwrap();
        match op {
            Op::Put(key, label, node) => {
                let key = format!("{}/{key:02}", if *key < 7 { "a" } else { "b" });
                let value = format!("l{label}/n{node}/{i}");
                let revision = rig.put(&key, &value).await;
                history.set(revision, &key, Some(&value));
            }
            Op::Delete(key) => {
                let key = format!("{}/{key:02}", if *key < 7 { "a" } else { "b" });
                if let Some(revision) = rig.delete(&key).await {
                    history.set(revision, &key, None);
                }
            }
            Op::Elsewhere => {
                let key = format!("/registry/other/{i}");
                rig.store.create(&key, Bytes::new(), None).await.unwrap();
            }
            Op::List { limit, namespace, filtered } => {
                let mut request = ListRequest { limit: *limit, ..ListRequest::all() };
                if *namespace {
                    request.scope = Scope::Namespace("a".into());
                }
                request.filter = filtered.then(|| app("l1"));
                let select = |key: &str, value: &str| {
                    (!namespace || key.starts_with("/registry/pods/a/"))
                        && (!filtered || value.starts_with("l1/"))
                };
                let expected = history.list(current, select);
                assert_eq!(page_through(&rig, request, Some(current)).await, expected);
            }
            Op::Exact { back, limit } => {
                let at = (current - i64::from(*back)).max(base);
                let request = ListRequest { at: At::Exact(at), limit: *limit, ..ListRequest::all() };
                assert_eq!(page_through(&rig, request, Some(at)).await, history.list(at, |_, _| true));
            }
            Op::Watch { back, how } => {
                let after = (current - i64::from(*back)).max(base);
                let (mut request, select) = watch_shape(*how);
                request.from = Some(after);
                watches.push((rig.cacher.watch(request).await.unwrap(), Vec::new(), select, after));
            }
        }
    }
    // R14, then the watches up to the last change each must show.
    let last = rig.list(At::MostRecent, 0).await.unwrap().revision;
    let stored = rig.store.list(storage::ListOptions::prefix(PREFIX)).await.unwrap().kvs;
    let digest = storage::cacher::digest(stored.iter().map(|kv| (&kv.key[..], kv.mod_revision)));
    assert_eq!(rig.cacher.digest(), (last, digest));
    for (mut watch, mut seen, select, after) in watches {
        let expected = history.watch(after, |k, v| select(k, v));
        while seen.len() < expected.len() {
            seen.push(next_object(&mut watch).await);
        }
        assert_eq!(seen, expected);
        let more =
            std::future::poll_fn(|cx| std::task::Poll::Ready(watch.poll_batch(cx, 1).is_pending())).await;
        assert!(more, "an event too many");
    }
}

/// All pages of a list, checking that they are one snapshot (R6).
async fn page_through(rig: &Rig, mut request: ListRequest, revision: Option<Revision>) -> Vec<Shown> {
    let mut all = Vec::new();
    let mut remaining = None;
    let mut first = None;
    loop {
        let page = rig.cacher.list(request.clone()).await.unwrap();
        assert_eq!(page.revision, *first.get_or_insert(page.revision), "pages of different snapshots");
        assert!(request.limit == 0 || page.items.len() <= request.limit);
        if let Some(before) = remaining {
            assert_eq!(before, page.items.len() as i64 + page.remaining.unwrap_or(0));
        }
        remaining = page.remaining;
        assert!(request.filter.is_none() || page.remaining.is_none(), "remaining with a selector");
        all.extend(shown(&page));
        let Some(token) = page.continue_token else { break };
        request.at = At::Continue(token);
    }
    if let Some(revision) = revision {
        assert_eq!(first, Some(revision));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn lists_and_watches_show_the_history(ops in proptest::collection::vec(op(), 1..150)) {
        runtime().block_on(run(&ops));
    }
}

#[test]
fn r3_a_list_sees_every_acknowledged_write() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let rig = Arc::new(rig());
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let rig = Arc::clone(&rig);
                tokio::spawn(async move {
                    for i in 0..200 {
                        let revision = rig.put(&format!("ns{task}/{i}"), "l/n/x").await;
                        let request = ListRequest {
                            scope: Scope::Namespace(format!("ns{task}").into()),
                            ..ListRequest::all()
                        };
                        let list = rig.cacher.list(request).await.unwrap();
                        assert!(list.revision >= revision);
                        assert_eq!(list.items.len(), i + 1);
                        let got =
                            rig.cacher.get(&format!("{PREFIX}ns{task}/{i}"), At::MostRecent).await.unwrap();
                        assert_eq!(got.object.unwrap().revision, revision);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn r10_concurrent_watches_see_one_order() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let rig = Arc::new(rig());
        let base = rig.list(At::MostRecent, 0).await.unwrap().revision;
        let mut watches = Vec::new();
        for _ in 0..10 {
            watches.push(rig.cacher.watch(WatchRequest::from(base)).await.unwrap());
        }
        let readers: Vec<_> = watches
            .into_iter()
            .map(|mut watch| {
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while seen.len() < 2000 {
                        seen.push(next_object(&mut watch).await);
                    }
                    seen
                })
            })
            .collect();
        let writers: Vec<_> = (0..4)
            .map(|task| {
                let rig = Arc::clone(&rig);
                tokio::spawn(async move {
                    for i in 0..500 {
                        rig.put(&format!("ns{task}/{}", i % 7), "l/n/x").await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let mut first = None;
        for reader in readers {
            let seen = reader.await.unwrap();
            assert!(seen.windows(2).all(|pair| pair[0].2 < pair[1].2));
            assert_eq!(seen, *first.get_or_insert(seen.clone()));
        }
    });
}

#[test]
fn a_slow_watch_falls_behind_alone_and_ends_when_history_is_gone() {
    runtime().block_on(async {
        let rig = rig();
        let base = rig.list(At::MostRecent, 0).await.unwrap().revision;
        let mut slow = rig.cacher.watch(WatchRequest::from(base)).await.unwrap();
        let mut quick = rig.cacher.watch(WatchRequest::from(base)).await.unwrap();
        let mut stuck = rig.cacher.watch(WatchRequest::from(base)).await.unwrap();
        // All of them are up to date once, so that what follows goes through their queues.
        let base = rig.put("a/0", "l/n/x").await;
        for watch in [&mut slow, &mut quick, &mut stuck] {
            assert_eq!(next_object(watch).await.2, base);
        }
        for i in 0..2000 {
            let revision = rig.put(&format!("a/{}", i % 5), "l/n/x").await;
            assert_eq!(next_object(&mut quick).await.2, revision);
        }
        for i in 0..2000 {
            assert_eq!(next_object(&mut slow).await.2, base + 1 + i, "far more than its queue holds");
        }
        let big = format!("l/n/{}", "x".repeat(1 << 20));
        for i in 0..300 {
            rig.put(&format!("a/{}", i % 5), &big).await;
            next_object(&mut quick).await;
        }
        let mut seen = 0;
        while next(&mut stuck).await.is_some() {
            seen += 1;
        }
        assert!(seen < 2300, "it must have lost something to end");
        match rig.cacher.watch(WatchRequest::from(base)).await {
            Err(Error::Expired { message, .. }) => {
                assert!(message.starts_with("too old resource version: "), "{message}")
            }
            other => panic!("expected 410, got {:?}", other.map(|_| ())),
        }
    });
}

#[test]
fn r9_watch_list_ends_its_initial_events_with_a_bookmark() {
    runtime().block_on(async {
        let rig = rig();
        for i in 0..500 {
            rig.put(&format!("a/{i:03}"), if i % 2 == 0 { "l1/n/x" } else { "l2/n/x" }).await;
        }
        let current = rig.store.current_revision().await.unwrap();
        let request = WatchRequest {
            from: None,
            send_initial_events: Some(true),
            bookmarks: true,
            filter: Some(app("l1")),
            ..WatchRequest::from(0)
        };
        let mut watch = rig.cacher.watch(request.clone()).await.unwrap();
        for i in 0..250 {
            let (kind, key, ..) = next_object(&mut watch).await;
            assert_eq!((kind, key), (WatchKind::Added, format!("{PREFIX}a/{:03}", i * 2)));
        }
        match next(&mut watch).await {
            Some(WatchEvent::Bookmark { revision, initial_events_end: true }) => {
                assert_eq!(revision, current)
            }
            other => panic!("{other:?}"),
        }
        let revision = rig.put("a/000", "l1/n/y").await;
        assert_eq!(next_object(&mut watch).await.2, revision);
        // Without initial events it starts from now.
        let request = WatchRequest { send_initial_events: Some(false), ..request };
        let mut watch = rig.cacher.watch(request).await.unwrap();
        let revision = rig.put("a/002", "l1/n/y").await;
        assert_eq!(next_object(&mut watch).await.2, revision);
        // The legacy start at 0: the objects, then changes, no bookmark between.
        let mut watch =
            rig.cacher.watch(WatchRequest { bookmarks: true, ..WatchRequest::from(0) }).await.unwrap();
        for _ in 0..500 {
            assert_eq!(next_object(&mut watch).await.0, WatchKind::Added);
        }
        let revision = rig.put("a/002", "l2/n/y").await;
        assert_eq!(next_object(&mut watch).await.2, revision);
    });
}

#[test]
fn r9_bookmarks_never_overtake_events() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let rig = Arc::new(rig());
        let config = Config {
            bookmark_every: Duration::from_micros(100),
            ..Config::new(Arc::<Embedded>::clone(&rig.store), PREFIX, decode())
        };
        let cacher = Cacher::new(config);
        let base = cacher.list(ListRequest::all()).await.unwrap().revision;
        let request = WatchRequest { bookmarks: true, filter: Some(app("l1")), ..WatchRequest::from(base) };
        let mut watch = cacher.watch(request).await.unwrap();
        let writer = tokio::spawn(async move {
            for i in 0..3000 {
                rig.put(&format!("a/{}", i % 3), if i % 3 == 0 { "l1/n/x" } else { "l2/n/x" }).await;
            }
        });
        let reader = tokio::spawn(async move {
            let (mut newest, mut bookmarks) = (base, 0);
            // Every third write is shown; the last bookmark comes after all of them.
            let mut shown = 0;
            while shown < 1000 || bookmarks < 3 {
                match next(&mut watch).await.unwrap() {
                    WatchEvent::Object(_, object) => {
                        assert!(object.revision > newest, "an event at or below a bookmark");
                        newest = object.revision;
                        shown += 1;
                    }
                    WatchEvent::Bookmark { revision, initial_events_end } => {
                        assert!(!initial_events_end && revision >= newest);
                        newest = revision;
                        bookmarks += 1;
                    }
                }
            }
        });
        writer.await.unwrap();
        reader.await.unwrap();
    });
}

#[test]
fn r4_r6_refusals_have_upstreams_form() {
    runtime().block_on(async {
        let rig = rig();
        for i in 0..10 {
            rig.put(&format!("a/{i}"), "l/n/x").await;
        }
        let current = rig.store.current_revision().await.unwrap();
        let future = current + 100;
        let text = format!("Too large resource version: {future}, current: {current}");
        let key = format!("{PREFIX}a/0");
        // Each waits its three seconds.
        let (older, exact, get) = futures::join!(
            rig.list(At::NotOlderThan(future), 0),
            rig.list(At::Exact(future), 0),
            rig.cacher.get(&key, At::NotOlderThan(future)),
        );
        assert_eq!(older.unwrap_err().to_string(), text);
        assert_eq!(exact.unwrap_err().to_string(), text);
        assert_eq!(get.unwrap_err().to_string(), text);
        let error = rig.list(At::Continue("garbage!".into()), 0).await.unwrap_err();
        assert!(matches!(&error, Error::BadRequest(text) if text.starts_with("invalid continue token: continue key is not valid")));
        rig.store.compact(current).await.unwrap();
        // A cache that could still wind back says what the store says.
        let warm = rig.list(At::Exact(current - 1), 2).await;
        assert!(matches!(warm, Err(Error::Expired { continue_token: None, .. })), "{warm:?}");
        // One that has never seen the revision asks the store, which has compacted it.
        let config = Config::new(Arc::<Embedded>::clone(&rig.store), PREFIX, decode());
        let fresh = Cacher::new(config);
        let list = |at| fresh.list(ListRequest { at, limit: 2, ..ListRequest::all() });
        match list(At::Exact(current - 1)).await {
            Err(Error::Expired { message, continue_token: None }) => {
                assert_eq!(message, "The resourceVersion for the provided list is too old.");
            }
            other => panic!("{other:?}"),
        }
        let token = storage::cacher::token::Token { start: format!("{PREFIX}a/4\0"), revision: current - 1 };
        let Err(Error::Expired { message, continue_token: Some(next) }) =
            list(At::Continue(token.encode(PREFIX).unwrap())).await
        else {
            panic!("expected 410 with a token");
        };
        assert!(message.contains("use the continue token in this response"));
        let page = list(At::Continue(next)).await.unwrap();
        assert_eq!(shown(&page)[0].0, format!("{PREFIX}a/5"));
        assert_eq!(page.revision, current);
    });
}

#[test]
fn an_undecodable_object_makes_the_cache_unready_with_the_reason() {
    runtime().block_on(async {
        let rig = rig();
        rig.put("a/1", "l/n/x").await;
        rig.put("a/2", "bad").await;
        match rig.list(At::MostRecent, 0).await {
            Err(error @ Error::NotReady { .. }) => assert_eq!(
                error.to_string(),
                "storage is (re)initializing: unable to decode the object stored at /registry/pods/a/2: bad object"
            ),
            other => panic!("{other:?}"),
        }
        assert!(rig.cacher.get(&format!("{PREFIX}a/1"), At::MostRecent).await.unwrap().object.is_some());
        rig.delete("a/2").await;
        let healed = tokio::time::timeout(Duration::from_secs(5), async {
            while !rig.cacher.is_ready() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        healed.await.unwrap();
        assert_eq!(rig.list(At::MostRecent, 0).await.unwrap().items.len(), 1);
    });
}

#[test]
fn encodings_are_made_once_and_shared() {
    runtime().block_on(async {
        let rig = rig();
        rig.put("a/1", "l/n/x").await;
        let first = rig.list(At::MostRecent, 0).await.unwrap().items.remove(0);
        let mut watch = rig.cacher.watch(WatchRequest::from(0)).await.unwrap();
        let Some(WatchEvent::Object(_, second)) = next(&mut watch).await else { panic!() };
        let made = first.encodings.get_or_try_init(1, || Ok::<_, ()>(Bytes::from(vec![7; 10]))).unwrap();
        let shared = second.encodings.get_or_try_init(1, || Err(())).unwrap();
        assert_eq!(made.as_ptr(), shared.as_ptr());
        assert!(second.encodings.get_or_try_init(2, || Err(())).is_err());
        assert_eq!(second.encodings.clear(), 10);
    });
}
