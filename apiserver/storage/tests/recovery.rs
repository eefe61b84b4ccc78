//! What the embedded store makes of crashes, damage and bad disks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;
#[path = "../crash-writer/options.rs"]
mod crash;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use storage::embedded::disk::{Disk, LogFile, RealDisk};
use storage::embedded::{Embedded, Options};
use storage::{Error, ListOptions, Revision, Store};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A copy of all files at one moment: begun anew when a snapshot being written changes the names meanwhile.
fn copy_dir(from: &Path) -> tempfile::TempDir {
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(from).unwrap().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    loop {
        let to = tempfile::tempdir().unwrap();
        let before = names();
        let copied = before.iter().all(|name| std::fs::copy(from.join(name), to.path().join(name)).is_ok());
        if copied && names() == before {
            return to;
        }
    }
}

fn strict(dir: &Path) -> Options {
    Options { relaxed_prefixes: Vec::new(), ..Options::new(dir) }
}

async fn put(store: &Embedded, key: &str, value: &str) -> Result<Revision, Error> {
    let now = store.get(key, 0).await?.kv.map_or(0, |kv| kv.mod_revision);
    store.update(key, Bytes::copy_from_slice(value.as_bytes()), now, None).await
}

type Contents = Vec<(String, Revision, String)>;

async fn contents(store: &Embedded) -> Contents {
    let kvs = store.list(ListOptions::prefix("/")).await.unwrap().kvs;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    kvs.iter().map(|kv| (text(&kv.key), kv.mod_revision, text(&kv.value))).collect()
}

/// A directory as a crash leaves it after `writes` durable writes, and the contents after each.
fn crashed(writes: usize) -> (tempfile::TempDir, Vec<Contents>) {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = Embedded::open(strict(dir.path())).unwrap();
        let mut states = vec![Vec::new()];
        for i in 0..writes {
            put(&store, &format!("/registry/a/{}", i % 3), &format!("value {i}")).await.unwrap();
            states.push(contents(&store).await);
        }
        (copy_dir(dir.path()), states)
    })
}

fn segment(dir: &Path) -> PathBuf {
    let names = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("wal-")).max().unwrap()
}

/// Where frames begin, and where the last one ends.
fn frames(data: &[u8]) -> Vec<usize> {
    let mut at = 32;
    let mut offsets = vec![at];
    while data.get(at..at + 4) == Some(b"FRM1") {
        let len = u32::from_le_bytes(data[at + 8..at + 12].try_into().unwrap()) as usize;
        at = (at + 32 + len).next_multiple_of(8);
        offsets.push(at);
    }
    offsets
}

fn reopen(dir: &Path) -> Result<Contents, Error> {
    let store = Embedded::open(strict(dir))?;
    Ok(runtime().block_on(contents(&store)))
}

#[test]
fn a_log_cut_at_any_byte_gives_the_writes_before_the_cut() {
    let (dir, states) = crashed(6);
    let data = std::fs::read(segment(dir.path())).unwrap();
    let offsets = frames(&data);
    assert_eq!(offsets.len(), 7);
    for cut in 0..=offsets[6] {
        for zeros in [0, 64] {
            let copy = copy_dir(dir.path());
            let mut cut_data = data[..cut].to_vec();
            cut_data.resize(cut + zeros, 0);
            // A frame that ends in zeros may be whole though cut.
            let whole = offsets[1..].iter().take_while(|end| {
                cut_data.len() >= **end - 7
                    && cut_data[..(**end).min(cut_data.len())] == data[..(**end).min(cut_data.len())]
            });
            let whole = whole.count();
            std::fs::write(segment(copy.path()), cut_data).unwrap();
            let found = reopen(copy.path()).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            let less = whole.saturating_sub(1);
            assert!(
                found == states[whole] || (cut < offsets[whole] && found == states[less]),
                "cut at {cut}"
            );
            // And once more: the repair itself is stable.
            assert_eq!(reopen(copy.path()).unwrap(), found);
        }
    }
}

#[test]
fn damage_before_the_last_write_refuses_to_start() {
    let (dir, states) = crashed(6);
    let data = std::fs::read(segment(dir.path())).unwrap();
    let offsets = frames(&data);
    for at in 0..offsets[6] {
        for bit in [0, 3, 7] {
            let copy = copy_dir(dir.path());
            let mut damaged = data.clone();
            damaged[at] ^= 1 << bit;
            std::fs::write(segment(copy.path()), damaged).unwrap();
            match reopen(copy.path()) {
                Err(Error::Corrupt(text)) => {
                    assert!(at < offsets[5], "damage in the last frame, at {at}: {text}");
                    assert!(text.contains("wal-") && text.contains("backup"), "{text}");
                }
                Ok(found) if at < offsets[5] => {
                    // Padding is not data.
                    assert_eq!(found, states[6], "damage at {at} went unnoticed");
                }
                Ok(found) => assert!(found == states[5] || found == states[6], "damage at {at}"),
                other => panic!("damage at {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_missing_segment_or_damaged_snapshot_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = Embedded::open(strict(dir.path())).unwrap();
        runtime().block_on(put(&store, "/registry/a", &format!("{round}"))).unwrap();
    }
    let copy = copy_dir(dir.path());
    std::fs::remove_file(copy.path().join("wal-0000000000000002")).unwrap();
    let text = reopen(copy.path()).unwrap_err().to_string();
    assert!(text.contains("wal-0000000000000002 is missing"), "{text}");
    // A snapshot: every byte counts.
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Embedded::open(Options { log_bytes: 1, ..strict(dir.path()) }).unwrap();
        runtime().block_on(async {
            for i in 0..20 {
                put(&store, &format!("/registry/{i:02}"), "value").await.unwrap();
            }
        });
    }
    let names = std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path());
    let snapshot = names
        .filter(|path| path.to_string_lossy().contains("snapshot-"))
        .max()
        .expect("a snapshot was taken");
    let good = reopen(copy_dir(dir.path()).path()).unwrap();
    assert_eq!(good.len(), 20);
    let data = std::fs::read(&snapshot).unwrap();
    for at in 0..data.len() {
        let copy = copy_dir(dir.path());
        let mut damaged = data.clone();
        damaged[at] ^= 0x10;
        std::fs::write(copy.path().join(snapshot.file_name().unwrap()), damaged).unwrap();
        match reopen(copy.path()) {
            Err(Error::Corrupt(text)) => assert!(text.contains("snapshot"), "{text}"),
            Ok(found) => assert_eq!(found, good, "damage at {at} went unnoticed"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn two_stores_cannot_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Embedded::open(strict(dir.path())).unwrap();
    let text = Embedded::open(strict(dir.path())).err().unwrap().to_string();
    assert!(text.contains("another process uses this data directory"), "{text}");
    drop(first);
    Embedded::open(strict(dir.path())).unwrap();
}

/// A disk that keeps what was written since the last sync apart, has a size, and can break.
#[derive(Clone, Default)]
struct Shaky(Arc<Mutex<ShakyState>>);

#[derive(Default)]
struct ShakyState {
    files: BTreeMap<PathBuf, Image>,
    /// Bytes that can be allocated.
    space: Option<u64>,
    fail_sync: bool,
    syncs: usize,
}

#[derive(Default, Clone)]
struct Image {
    durable: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
}

struct ShakyFile {
    path: PathBuf,
    real: Box<dyn LogFile>,
    disk: Shaky,
    allocated: u64,
}

impl Disk for Shaky {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let real = RealDisk.create(path)?;
        self.0.lock().files.insert(path.to_owned(), Image::default());
        Ok(Box::new(ShakyFile { path: path.to_owned(), real, disk: self.clone(), allocated: 0 }))
    }
}

impl ShakyFile {
    fn image<T>(&self, change: impl FnOnce(&mut Image) -> T) -> T {
        change(self.disk.0.lock().files.entry(self.path.clone()).or_default())
    }
}

impl LogFile for ShakyFile {
    fn allocate(&mut self, offset: u64, len: u64) -> io::Result<()> {
        if let Some(space) = &mut self.disk.0.lock().space {
            let left = space.checked_sub(len).ok_or(io::ErrorKind::StorageFull)?;
            *space = left;
        }
        self.allocated = offset + len;
        Ok(())
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        assert!(offset + data.len() as u64 <= self.allocated, "a write beyond what was reserved");
        self.real.write_at(data, offset)?;
        self.image(|image| image.pending.push((offset, data.to_vec())));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        {
            let mut disk = self.disk.0.lock();
            disk.syncs += 1;
            if disk.fail_sync {
                return Err(io::Error::other("the disk is gone"));
            }
        }
        self.real.sync()?;
        self.image(|image| {
            for (offset, data) in std::mem::take(&mut image.pending) {
                write_image(&mut image.durable, offset, &data);
            }
        });
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.real.truncate(len)?;
        self.allocated = len;
        self.sync()?;
        self.image(|image| image.durable.truncate(len as usize));
        Ok(())
    }
}

fn write_image(image: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let end = offset as usize + data.len();
    image.resize(image.len().max(end), 0);
    image[offset as usize..end].copy_from_slice(data);
}

impl Shaky {
    /// The directory after a power cut: what was synced, and of the rest any sectors.
    fn power_cut(&self, dir: &Path, keep: &mut impl FnMut() -> bool) -> tempfile::TempDir {
        let copy = copy_dir(dir);
        for (path, image) in &self.0.lock().files {
            let target = copy.path().join(path.file_name().unwrap());
            if !target.exists() {
                continue;
            }
            let mut data = image.durable.clone();
            for (offset, pending) in &image.pending {
                let mut at = 0;
                while at < pending.len() {
                    let sector = 512 - ((*offset as usize + at) % 512);
                    let end = (at + sector).min(pending.len());
                    if keep() {
                        write_image(&mut data, offset + at as u64, &pending[at..end]);
                    }
                    at = end;
                }
            }
            std::fs::write(target, data).unwrap();
        }
        copy
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    /// F03: whatever of the unsynced sectors a power cut keeps, the state is one the store has been in, and not older
    /// than the last acknowledged write of the strict class.
    #[test]
    fn a_power_cut_loses_nothing_acknowledged_as_durable(
        ops in proptest::collection::vec((0u8..6, any::<bool>(), proptest::bool::weighted(0.2), 0usize..900), 1..60),
        cuts in proptest::collection::vec((0usize..60, any::<u64>()), 1..5),
    ) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let disk = Shaky::default();
            let options = Options {
                disk: Arc::new(disk.clone()),
                relaxed_prefixes: vec!["/registry/leases/".into()],
                relaxed_sync: Duration::from_secs(3600),
                log_bytes: 8000,
                ..Options::new(dir.path())
            };
            let store = Embedded::open(options).unwrap();
            let mut states = vec![contents(&store).await];
            let mut durable = 0;
            for (i, (key, relaxed, delete, size)) in ops.iter().enumerate() {
                let key = format!("/registry/{}/{key}", if *relaxed { "leases" } else { "pods" });
                if *delete {
                    if let Some(kv) = store.get(&key, 0).await.unwrap().kv {
                        store.delete(&key, kv.mod_revision).await.unwrap();
                    }
                } else {
                    put(&store, &key, &format!("{i} {}", "x".repeat(*size))).await.unwrap();
                }
                states.push(contents(&store).await);
                if !relaxed && states[i] != states[i + 1] {
                    durable = i + 1;
                }
                for (_, seed) in cuts.iter().filter(|(at, _)| *at == i) {
                    let mut bits = *seed;
                    let mut keep = || {
                        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        bits >> 63 == 1
                    };
                    let cut = disk.power_cut(dir.path(), &mut keep);
                    let after = Embedded::open(Options { relaxed_prefixes: vec!["/registry/leases/".into()], ..Options::new(cut.path()) }).unwrap();
                    let found = contents(&after).await;
                    let possible = &states[durable..];
                    assert!(possible.contains(&found), "found {found:?}, after {durable} of {possible:?}");
                    let current = after.current_revision().await.unwrap();
                    assert!(current >= store.current_revision().await.unwrap(), "revisions must not be used twice");
                }
            }
        });
    }
}

#[test]
fn a_full_disk_refuses_writes_but_not_reads_and_deletes() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let disk = Shaky::default();
        disk.0.lock().space = Some(6 << 20);
        let options = || Options { disk: Arc::new(disk.clone()), ..strict(dir.path()) };
        let store = Embedded::open(options()).unwrap();
        let value = "x".repeat(100_000);
        let mut written = 0;
        let error = loop {
            match put(&store, &format!("/registry/{written:03}"), &value).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, Error::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("no space left"), "{error}");
        assert!(written > 30);
        assert_eq!(contents(&store).await.len(), written);
        // One queue holds a write that is refused and a delete that is not.
        let (refused, deleted) = futures::join!(put(&store, "/registry/new", &value), async {
            let kv = store.get("/registry/000", 0).await.unwrap().kv.unwrap();
            store.delete("/registry/000", kv.mod_revision).await
        });
        assert!(matches!(refused, Err(Error::NoSpace { .. })));
        deleted.unwrap();
        disk.0.lock().space = Some(100 << 20);
        put(&store, "/registry/new", &value).await.unwrap();
        let before = contents(&store).await;
        drop(store);
        let store = Embedded::open(options()).unwrap();
        assert_eq!(contents(&store).await, before);
    });
}

#[test]
fn a_failed_sync_ends_all_writing() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let disk = Shaky::default();
        let store = Embedded::open(Options { disk: Arc::new(disk.clone()), ..strict(dir.path()) }).unwrap();
        put(&store, "/registry/a", "1").await.unwrap();
        disk.0.lock().fail_sync = true;
        assert!(matches!(put(&store, "/registry/a", "2").await, Err(Error::Unavailable(_))));
        disk.0.lock().fail_sync = false;
        // Success of a later sync would say nothing about the pages the failed one has lost.
        assert!(matches!(put(&store, "/registry/a", "3").await, Err(Error::Unavailable(_))));
        assert!(store.health().await.is_err());
        assert_eq!(contents(&store).await[0].2, "1");
    });
}

#[test]
fn a_batch_is_one_sync_and_relaxed_writes_are_none() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let disk = Shaky::default();
        let options = Options {
            disk: Arc::new(disk.clone()),
            relaxed_sync: Duration::from_secs(3600),
            ..Options::new(dir.path())
        };
        let store = Arc::new(Embedded::open(options).unwrap());
        put(&store, "/registry/pods/first", "").await.unwrap();
        let before = disk.0.lock().syncs;
        for i in 0..100 {
            put(&store, &format!("/registry/leases/{i}"), "").await.unwrap();
        }
        assert_eq!(disk.0.lock().syncs, before);
        let writes = (0..500).map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { put(&store, &format!("/registry/pods/{i}"), "").await.unwrap() })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap();
        }
        let syncs = disk.0.lock().syncs - before;
        assert!(syncs < 400, "{syncs} syncs for 500 concurrent writes");
    });
}

#[test]
fn ttls_end_keys_one_revision_each_also_after_a_restart() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(strict(dir.path())).unwrap();
        for i in 0..3 {
            store
                .create(&format!("/registry/events/{i}"), Bytes::new(), Some(Duration::from_secs(1)))
                .await
                .unwrap();
        }
        let kept =
            store.create("/registry/events/kept", Bytes::new(), Some(Duration::from_secs(1))).await.unwrap();
        store.update("/registry/events/kept", Bytes::new(), kept, None).await.unwrap();
        drop(store);
        let store = Embedded::open(strict(dir.path())).unwrap();
        let from = store.current_revision().await.unwrap() + 1;
        let mut watch =
            store.watch_range(storage::embedded::index::KeyRange::prefix(b"/"), from, true).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 3 {
            use futures::StreamExt;
            let item =
                tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap();
            if let storage::WatchItem::Events(events) = item {
                seen.extend(events.iter().map(|event| (event.kind, event.revision())));
            }
        }
        let delete = storage::EventKind::Delete;
        assert_eq!(seen, [(delete, from), (delete, from + 1), (delete, from + 2)]);
        assert_eq!(contents(&store).await.len(), 1);
    });
}

#[test]
fn history_is_bounded_by_count_and_bytes() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let bounded = Options { history_events: 100, history_bytes: 50_000, ..strict(dir.path()) };
        let store = Embedded::open(bounded).unwrap();
        for i in 0..500 {
            put(&store, "/registry/a", &i.to_string()).await.unwrap();
        }
        // The trimming follows the write that made it necessary; the next write waits for it.
        put(&store, "/registry/a", "last").await.unwrap();
        let (current, oldest) = store.revisions();
        assert!(current - oldest <= 101, "{oldest}..{current}");
        assert!(store.get("/registry/a", oldest).await.unwrap().kv.is_some());
        assert!(store.get("/registry/a", oldest - 1).await.unwrap_err().is_compacted());
        for _ in 0..10 {
            put(&store, "/registry/b", &"x".repeat(20_000)).await.unwrap();
            put(&store, "/registry/b", &"y".repeat(20_000)).await.unwrap();
        }
        let (current, oldest) = store.revisions();
        assert!(current - oldest <= 6, "{oldest}..{current}");
    });
}

#[test]
fn a_snapshot_is_complete_although_history_is_trimmed_meanwhile() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let busy = || Options { history_events: 4, log_bytes: 30_000, ..strict(dir.path()) };
        let all = ListOptions::prefix("/");
        let store = Embedded::open(busy()).unwrap();
        // Many keys make a snapshot take long enough to meet the writes.
        let keys = 1000;
        futures::future::join_all((0..keys).map(|i| {
            let store = &store;
            async move { put(store, &format!("/registry/{i:04}"), "first").await.unwrap() }
        }))
        .await;
        for round in 0..3 {
            futures::future::join_all((0..keys).rev().map(|i| {
                let store = &store;
                async move { put(store, &format!("/registry/{i:04}"), &format!("{round}")).await.unwrap() }
            }))
            .await;
        }
        let before = store.list(all.clone()).await.unwrap().kvs;
        assert!(before.iter().all(|kv| kv.version == 4));
        drop(store);
        // With creation revisions and version counts, which replay derives.
        let store = Embedded::open(busy()).unwrap();
        assert_eq!(store.list(all).await.unwrap().kvs, before);
    });
}

/// F01, F02: a process is killed at any moment, again and again on the same directory.
#[test]
fn kill_nine_loses_nothing_acknowledged() {
    let cycles = std::env::var("CORTEN_CRASH_CYCLES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let dir = tempfile::tempdir().unwrap();
    let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut newest: Revision = 0;
    let mut acknowledged = 0;
    for cycle in 0..cycles {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_storage-crash-writer"))
            .arg(dir.path())
            .arg(cycle.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        // Killed by progress, not by time: a different place in every cycle.
        let stop = 40 + cycle * 137 % 900;
        while let Some(Ok(line)) = lines.next() {
            seen += 1;
            if seen == stop {
                child.kill().unwrap();
            }
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("try"), Some(key), Some(n), None) => {
                    last.entry(key.to_owned()).or_default().0 = n.parse().unwrap()
                }
                (Some("ack"), Some(key), Some(n), Some(revision)) => {
                    let Ok(revision) = revision.parse::<Revision>() else { continue };
                    acknowledged += 1;
                    last.entry(key.to_owned()).or_default().1 = n.parse().unwrap();
                    newest = newest.max(revision);
                }
                _ => {}
            }
        }
        let status = child.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(9), "cycle {cycle}: the writer ended by itself, its error is above");
        let store = Embedded::open(crash::options(dir.path())).unwrap();
        runtime().block_on(async {
            assert!(store.current_revision().await.unwrap() >= newest);
            let found: BTreeMap<_, _> = contents(&store).await.into_iter().map(|(k, _, v)| (k, v)).collect();
            for (key, (tried, acked)) in &mut last {
                let n: u64 =
                    found.get(key).map_or(0, |value| value.split('.').next().unwrap().parse().unwrap());
                // Deletions are every seventh write: the key is absent after them.
                let is = |m: u64| n == m || (n == 0 && (m == 0 || m.is_multiple_of(7)));
                assert!(
                    is(*acked) || is(*tried),
                    "cycle {cycle}: {key} is at {n}, acknowledged {acked}, tried {tried}"
                );
                let survived = if is(*tried) { *tried } else { *acked };
                (*tried, *acked) = (survived, survived);
            }
        });
    }
    println!("{acknowledged} acknowledged writes over {cycles} kills, none lost");
    assert!(acknowledged > cycles * 10);
}
