//! Upstream's own stub of every resource (`test/integration/etcd/data.go`), read from the Go module cache: each is
//! created and must land under the key upstream expects. Skipped unless `CORTEN_UPSTREAM_BIN` is set.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{create, registry};
use regex::Regex;
use registry::api::Registry;
use serde_json::json;

struct Stub {
    group: String,
    version: String,
    resource: String,
    json: String,
    key: String,
}

fn stubs() -> Option<Vec<Stub>> {
    // Daily tests do not depend on upstream's module; this variable says that upstream is at hand.
    std::env::var_os("CORTEN_UPSTREAM_BIN")?;
    let cache = std::process::Command::new("go").args(["env", "GOMODCACHE"]).output().ok()?;
    let cache = String::from_utf8(cache.stdout).ok()?;
    let file = format!("{}/k8s.io/kubernetes@v1.37.2/test/integration/etcd/data.go", cache.trim());
    let text = std::fs::read_to_string(file).ok()?;
    let entry = Regex::new(
        r#"gvr\("([^"]*)", "([^"]*)", "([^"]*)"\): \{\s*Stub:\s*(`[^`]*`(?:\s*\+\s*\w+\s*\+\s*`[^`]*`)*|"[^\n]*"),[^`]*?(?:MutatedStub:[^`]*`[^`]*`,\s*)?ExpectedEtcdPath:\s*([^\n]*),"#,
    )
    .unwrap();
    let plus = Regex::new(r"`\s*\+\s*\w+\s*\+\s*`").unwrap();
    let all = entry.captures_iter(&text).map(|c| {
        let json = plus.replace_all(&c[4], "etcdstoragepathtestnamespace").trim_matches('`').to_owned();
        let key = c[5].replace("\" + namespace + \"", "etcdstoragepathtestnamespace").replace('"', "");
        Stub { group: c[1].into(), version: c[2].into(), resource: c[3].into(), json, key }
    });
    Some(all.collect())
}

#[tokio::test]
async fn every_resource_is_stored_where_upstream_stores_it() {
    let Some(stubs) = stubs() else {
        eprintln!(
            "skipped: CORTEN_UPSTREAM_BIN is not set, or upstream's module is not in the Go module cache"
        );
        return;
    };
    let namespace = "etcdstoragepathtestnamespace";
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    create(&r, "v1 /namespaces", &json!({"metadata": {"name": namespace}})).await.unwrap();
    let mut problems = Vec::new();
    let mut stored = 0;
    for stub in &stubs {
        let Some(row) = r.lookup(&stub.group, &stub.version, &stub.resource) else { continue };
        let value: serde_json::Value = serde_json::from_str(&stub.json).unwrap();
        let gv = if stub.group.is_empty() {
            stub.version.clone()
        } else {
            format!("{}/{}", stub.group, stub.version)
        };
        let path = format!("{gv} {}/{}", if row.namespaced { namespace } else { "" }, stub.resource);
        match create(&r, &path, &value).await {
            Ok(_) => match r.core().store().get(&stub.key, 0).await.unwrap().kv {
                Some(_) => stored += 1,
                None => problems.push(format!("{path}: nothing at {}", stub.key)),
            },
            Err(error) => problems.push(format!("{path}: {}", error.message)),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(stored > 45, "only {stored} stubs were found");
}
