//! Backups: taken beside a working store, restored, damaged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage::embedded::backup::{inspect, restore, save};
use storage::embedded::{Embedded, Options};
use storage::{Error, ListOptions, Store, WatchOptions};

/// Small enough that a few writes rotate segments and replace snapshots.
fn options(dir: &std::path::Path) -> Options {
    Options { log_bytes: 600, ..Options::new(dir) }
}

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

async fn contents(store: &Embedded) -> Vec<(String, i64)> {
    let page = store.list(ListOptions::prefix("/")).await.unwrap();
    page.kvs.iter().map(|kv| (String::from_utf8_lossy(&kv.value).into_owned(), kv.mod_revision)).collect()
}

#[test]
fn restores_what_was_there() {
    block(async {
        let work = tempfile::tempdir().unwrap();
        let (dir, file, other) = (work.path().join("a"), work.path().join("backup"), work.path().join("b"));
        let store = Embedded::open(options(&dir)).unwrap();
        for n in 0..40 {
            store.create(&format!("/registry/pods/{n}"), format!("pod {n}").into(), None).await.unwrap();
        }
        store.delete("/registry/pods/7", 0).await.unwrap_err();
        let at = store.get("/registry/pods/7", 0).await.unwrap().kv.unwrap().mod_revision;
        store.delete("/registry/pods/7", at).await.unwrap();
        let before = contents(&store).await;
        let saved = save(&dir, &file).unwrap();
        assert_eq!((saved.keys, saved.revision), (39, store.current_revision().await.unwrap()));
        store.create("/registry/pods/late", "late".into(), None).await.unwrap();
        drop(store);

        assert_eq!(restore(&file, &other, 1000).unwrap().revision, saved.revision + 1000);
        let store = Embedded::open(options(&other)).unwrap();
        assert_eq!(contents(&store).await, before);
        assert!(store.current_revision().await.unwrap() >= saved.revision + 1000);
        // Who watched the old store from any of its revisions must list again.
        let watch =
            WatchOptions { prefix: "/".into(), from: saved.revision + 2, prev: false, progress: false };
        assert!(matches!(store.watch(watch).await, Err(Error::Compacted { .. })));
        let written = store.create("/registry/pods/7", "again".into(), None).await.unwrap();
        assert!(written > saved.revision + 1000);
        drop(store);
        assert_eq!(contents(&Embedded::open(options(&other)).unwrap()).await.len(), 40);
    });
}

#[test]
fn holds_everything_acknowledged_before_it_began() {
    block(async {
        let work = tempfile::tempdir().unwrap();
        let dir = work.path().join("a");
        let store = Arc::new(Embedded::open(options(&dir)).unwrap());
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (writer, count) = (Arc::clone(&store), Arc::clone(&acknowledged));
        let writes = tokio::spawn(async move {
            let mut at = 0;
            for n in 1..=2000_u64 {
                at = writer.update("/registry/pods/a", n.to_string().into(), at, None).await.unwrap();
                count.store(n, Ordering::Release);
            }
        });
        for n in 0..20 {
            let (file, target) = (work.path().join(format!("{n}")), work.path().join(format!("{n}.d")));
            let least = acknowledged.load(Ordering::Acquire);
            let from = dir.clone();
            let saved = file.clone();
            tokio::task::spawn_blocking(move || {
                // The very first backup may come before the first write.
                let _ = save(&from, &saved);
            })
            .await
            .unwrap();
            if least == 0 {
                continue;
            }
            restore(&file, &target, 0).unwrap();
            let restored = Embedded::open(options(&target)).unwrap();
            let value = restored.get("/registry/pods/a", 0).await.unwrap().kv.unwrap().value;
            let value: u64 = String::from_utf8_lossy(&value).parse().unwrap();
            assert!(value >= least, "{value} was restored, {least} had been acknowledged");
        }
        writes.await.unwrap();
    });
}

#[test]
fn refuses_damage_and_full_directories() {
    let work = tempfile::tempdir().unwrap();
    let (dir, file) = (work.path().join("a"), work.path().join("backup"));
    assert!(save(&dir, &file).is_err());
    block(async {
        let store = Embedded::open(options(&dir)).unwrap();
        store.create("/registry/pods/a", "a".into(), None).await.unwrap();
    });
    save(&dir, &file).unwrap();
    assert!(matches!(save(&dir, &file), Err(Error::Invalid(_))));
    assert!(matches!(restore(&file, &dir, 0), Err(Error::Invalid(_))));
    let intact = std::fs::read(&file).unwrap();
    for at in 0..intact.len() {
        let mut damaged = intact.clone();
        damaged[at] ^= 0x20;
        std::fs::write(&file, &damaged).unwrap();
        // Padding is not read; whatever is read is checked.
        let same = inspect(&file).is_ok_and(|summary| summary.keys == 1);
        assert!(same || inspect(&file).is_err(), "byte {at}");
        std::fs::write(&file, &intact[..at]).unwrap();
        assert!(inspect(&file).is_err(), "cut at {at}");
    }
}
