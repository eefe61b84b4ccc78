//! Upstream's own round-trip corpus (k8s.io/api testdata): every fixture of every kind that still exists, JSON and
//! protobuf, must come out byte for byte.
//!
//! The fixtures are read from the Go module cache; without it the tests print a line and pass.

use machinery::{json, proto, yaml};
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "v0.37.2";

fn testdata() -> Option<PathBuf> {
    let cache = std::env::var("GOMODCACHE").ok().map(PathBuf::from).or_else(|| {
        let out = Command::new("go").args(["env", "GOMODCACHE"]).output().ok()?;
        Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim()))
    })?;
    let dir = cache.join(format!("k8s.io/api@{VERSION}/testdata"));
    dir.is_dir().then_some(dir)
}

/// The fixtures of one release: base paths without extension.
fn fixtures(dir: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("readable corpus")
        .map(|e| e.expect("readable entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .filter(|p| !p.to_string_lossy().contains(".after_roundtrip."))
        .map(|p| p.with_extension(""))
        .collect();
    out.sort();
    out
}

/// A fixture's file with the given ending, or what upstream makes of it where the two differ.
fn read(base: &Path, ending: &str) -> Vec<u8> {
    let with = |e: &str| PathBuf::from(format!("{}{e}", base.display()));
    let after = with(&format!(".after_roundtrip.{ending}"));
    std::fs::read(if after.exists() { after } else { with(&format!(".{ending}")) }).expect("fixture")
}

fn compact(pretty: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    json::write_compact(pretty, &mut out);
    out
}

#[test]
fn fixtures_are_byte_equal_both_ways() {
    let Some(dir) = testdata() else {
        println!("skipped: k8s.io/api {VERSION} is not in the Go module cache");
        return;
    };
    let table = api::types();
    let (mut done, mut gone, mut wrong) = (0, 0, Vec::new());
    for release in ["HEAD", "v1.33.0", "v1.34.0", "v1.35.0", "v1.36.0"] {
        for base in fixtures(&dir.join(release)) {
            let name = base.file_name().expect("name").to_string_lossy().into_owned();
            // The fixtures are indented, raw extensions inside included; upstream's test compares them compacted.
            let source = compact(&read(&base, "json"));
            let kind = name.rsplit('.').next().expect("kind");
            let document = if kind == "WatchEvent" {
                table
                    .by_name("meta/v1.WatchEvent")
                    .map(|id| json::decode(table, id, &source, false).map(|d| (id, d)))
            } else {
                match json::decode_kind(table, &source, false) {
                    Err(json::Error::Unknown { .. }) => None,
                    other => Some(other),
                }
            };
            let Some(document) = document else {
                gone += 1;
                continue;
            };
            let (id, decoded) = document.unwrap_or_else(|e| panic!("{name}: {e}"));
            let pb = read(&base, "pb");
            let mut problems = Vec::new();
            if proto::encode(table, id, &decoded.value) != pb {
                problems.push("JSON to protobuf");
            }
            if json::encode(table, id, &decoded.value) != source {
                problems.push("JSON to JSON");
            }
            let raw = proto::Envelope::open(&pb).expect("envelope").raw;
            let mut back = proto::decode_message(table, id, raw).expect("protobuf");
            for key in ["kind", "apiVersion"] {
                if let Some(v) = decoded.value.get(key) {
                    back.as_map_mut().expect("object").insert(key, v.clone());
                }
            }
            if json::encode(table, id, &back) != source {
                problems.push("protobuf to JSON");
            }
            let mut direct = Vec::new();
            if kind != "WatchEvent" {
                proto::to_json(table, &pb, &mut direct).expect("protobuf");
                if direct != source {
                    problems.push("protobuf straight to JSON");
                }
            }
            // The YAML of older releases says nothing new.
            if release == "HEAD" {
                let text = read(&base, "yaml");
                let from_yaml = yaml::to_json(&text).expect("YAML");
                if json::decode(table, id, &from_yaml, true).expect("JSON of YAML").value != decoded.value {
                    problems.push("YAML to tree");
                }
                let mut written = String::new();
                yaml::write(&json::parse(&source).expect("JSON"), &mut written);
                if written.as_bytes() != text {
                    problems.push("JSON to YAML");
                }
            }
            if back != decoded.value {
                problems.push("trees");
            }
            if proto::encode(table, id, &back) != pb {
                problems.push("protobuf to protobuf");
            }
            done += 1;
            if !problems.is_empty() {
                wrong.push(format!("{release}/{name}: {}", problems.join(", ")));
            }
        }
    }
    println!("{done} fixtures, {gone} of kinds that are gone");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(done >= 898, "only {done} fixtures");
}
