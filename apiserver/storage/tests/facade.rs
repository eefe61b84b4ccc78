//! The embedded store through etcd's API: our own etcd client sees the model, and etcdctl works.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Op, fresh_model, op, step};
use futures::StreamExt;
use proptest::prelude::*;
use storage::embedded::{Embedded, Options};
use storage::{Etcd, EtcdOptions, Store, WatchItem, WatchOptions, facade};
use tokio_util::sync::CancellationToken;

struct Rig {
    url: String,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<storage::Result<()>>,
    _dir: tempfile::TempDir,
}

async fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(Options::new(dir.path().join("data"))).unwrap());
    let socket = dir.path().join("etcd.sock");
    let listener = facade::bind(&socket).unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(facade::serve(store, listener, stop.clone()));
    Rig { url: format!("unix://{}", socket.display()), stop, served, _dir: dir }
}

async fn client(rig: &Rig) -> Etcd {
    let options = EtcdOptions { compaction: Duration::ZERO, ..EtcdOptions::new([&rig.url]) };
    Etcd::connect(options).await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn our_etcd_client_sees_the_model(ops in proptest::collection::vec(op(), 1..80)) {
        runtime().block_on(async {
            let rig = rig().await;
            let store = client(&rig).await;
            let mut model = fresh_model(&store, "/registry/").await;
            model.superseded_compacted = true;
            for op in &ops {
                // The revision of the compaction itself may still be watched, which the model does not know.
                let first = matches!(op, Op::Watch { back, .. } if model.current - i64::from(*back) < model.watchable);
                if !first {
                    step(&store, &mut model, op).await;
                }
            }
        });
    }
}

#[test]
fn stopping_ends_watches_and_the_server() {
    runtime().block_on(async {
        let rig = rig().await;
        let store = client(&rig).await;
        let options = WatchOptions { prefix: "/registry/".into(), ..WatchOptions::default() };
        let mut watch = store.watch(options).await.unwrap();
        let revision = store.create("/registry/a", Bytes::new(), None).await.unwrap();
        match watch.next().await.unwrap().unwrap() {
            WatchItem::Events(events) => assert_eq!(events[0].revision(), revision),
            other => panic!("{other:?}"),
        }
        rig.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), rig.served).await.unwrap().unwrap().unwrap();
    });
}

/// Runs the reference cluster's etcdctl, `None` when it is not there. (3.4's names the socket's path as the authority,
/// which HTTP/2 does not allow; it cannot be used with a unix socket.)
fn etcdctl(url: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let folder = std::env::var_os("CORTEN_UPSTREAM_BIN")?;
    let out = Command::new(std::path::Path::new(&folder).join("etcdctl"))
        .arg(format!("--endpoints={url}"))
        .args(arguments)
        .output()
        .ok()?;
    let text = [out.stdout, out.stderr].concat();
    Some((out.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn etcdctl_works() {
    let runtime = runtime();
    let rig = runtime.block_on(rig());
    let run = |arguments: &[&str]| etcdctl(&rig.url, arguments);
    if run(&["version"]).is_none() {
        println!("skipped: no etcdctl is installed");
        return;
    }
    let check = |arguments: &[&str], expected: &str| {
        let (ok, text) = run(arguments).unwrap();
        assert!(ok && text.contains(expected), "{arguments:?}: {text}");
    };
    check(&["put", "/a", "1"], "OK");
    check(&["put", "--prev-kv", "/a", "2"], "1");
    check(&["put", "/b", "3"], "OK");
    check(&["get", "/a"], "/a\n2");
    check(&["get", "--rev=2", "/a"], "/a\n1");
    check(&["get", "--prefix", "--keys-only", "/"], "/a\n\n/b");
    check(&["get", "--from-key", "--order=DESCEND", "--sort-by=KEY", "--limit=1", ""], "/b\n3");
    check(&["get", "--prefix", "/", "-w=json"], "\"count\":2");
    check(&["lease", "grant", "100"], "granted with TTL(100s)");
    check(&["lease", "list"], "found 1 leases");
    check(&["endpoint", "status"], "3.6.0");
    check(&["endpoint", "health"], "is healthy");
    check(&["del", "/a"], "1");
    check(&["compact", "3"], "compacted revision 3");
    let (ok, text) = run(&["get", "--rev=2", "/a"]).unwrap();
    assert!(!ok && text.contains("required revision has been compacted"), "{text}");
    let (ok, text) = run(&["put", "--lease=77", "/x", "1"]).unwrap();
    assert!(!ok && text.contains("requested lease not found"), "{text}");
    let (ok, _) = run(&["member", "add", "other", "--peer-urls=http://127.0.0.1:1"]).unwrap();
    assert!(!ok);
}
