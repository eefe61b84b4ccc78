//! The embedded store against the reference model, across restarts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use common::{Model, Op, op, step};
use proptest::prelude::*;
use storage::Store;
use storage::embedded::{Embedded, Options};

fn options(dir: &std::path::Path) -> Options {
    // Small enough that a few dozen operations rotate segments and take snapshots.
    Options { log_bytes: 600, relaxed_prefixes: vec!["/registry/b/".into()], ..Options::new(dir) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_the_model_across_restarts(ops in proptest::collection::vec(op(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let mut store = Embedded::open(options(dir.path())).unwrap();
            let mut model = Model::new("/registry/", store.current_revision().await.unwrap());
            store.compact(1).await.unwrap();
            model.oldest = 1;
            model.watchable = 1;
            for op in &ops {
                if matches!(op, Op::Reopen) {
                    drop(store);
                    store = Embedded::open(options(dir.path())).unwrap();
                    // How much history survives depends on when the last snapshot was taken; state does not.
                    let (current, oldest) = store.revisions();
                    assert_eq!(current, model.current);
                    assert!(oldest <= current);
                    let page = store.list(storage::ListOptions::prefix("/")).await.unwrap();
                    assert_eq!(page.kvs, model.list("/", "", current));
                    // From here both know the same again.
                    step(&store, &mut model, &Op::Update { key: 0, value: Vec::new(), stale: false }).await;
                    step(&store, &mut model, &Op::Compact { back: 0 }).await;
                    model.watchable = model.current;
                } else {
                    step(&store, &mut model, op).await;
                }
            }
        });
    }
}

/// R11: writes that meet in one batch see each other.
#[test]
fn concurrent_updates_lose_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(Embedded::open(Options::new(dir.path())).unwrap());
        let count = |kv: Option<&storage::KeyValue>| -> u64 {
            kv.map_or(0, |kv| String::from_utf8_lossy(&kv.value).parse().unwrap())
        };
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let store = std::sync::Arc::clone(&store);
                tokio::spawn(async move {
                    for _ in 0..25 {
                        let add = |kv: Option<&storage::KeyValue>| {
                            let value = (count(kv) + 1).to_string().into();
                            Ok::<_, storage::Error>(storage::Change::Put { value, ttl: None })
                        };
                        storage::guaranteed_update(&*store, "/registry/n", None, false, add).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let kv = store.get("/registry/n", 0).await.unwrap().kv.unwrap();
        assert_eq!((count(Some(&kv)), kv.version), (400, 400));
    });
}
