//! What fuzzing starts from: inputs of the recorded answers, and a few written here.
//!
//! Upstream's round-trip corpus is added where the Go module cache has it.

use anyhow::{Context, Result};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seeds by target.
#[derive(Default)]
struct Seeds(HashMap<&'static str, Vec<Vec<u8>>>);

impl Seeds {
    fn add(&mut self, targets: &[&'static str], data: impl AsRef<[u8]>) {
        for target in targets {
            self.0.entry(target).or_default().push(data.as_ref().to_vec());
        }
    }
}

pub fn write(directory: &Path) -> Result<()> {
    let mut seeds = Seeds::default();
    written_here(&mut seeds);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    recorded(&mut seeds, &repository)?;
    corpus(&mut seeds)?;
    for (target, inputs) in seeds.0 {
        let folder = directory.join(target);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for (i, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("{i:05}")), input)?;
        }
    }
    Ok(())
}

const JSON: [&str; 3] = ["json", "json_any", "typed"];
const PROTOBUF: [&str; 3] = ["protobuf", "protobuf_to_json", "typed"];

fn written_here(seeds: &mut Seeds) {
    for text in ["1.5Gi", "-12e-30m", "1e400", "0.000000001n", "9223372036854775808", "+.5Ki", "1E3"] {
        seeds.add(&["quantity"], text);
    }
    for text in ["a in (b,c),!d,e!=f", "x.io/a=b,c", "a>5,b<7,notin", "a==b, c notin (d)"] {
        seeds.add(&["labels"], text);
    }
    seeds.add(
        &["labels"],
        r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}"#,
    );
    for text in ["metadata.name=x,a!=\\,", "status.phase==Running", "a=\\=b\\\\"] {
        seeds.add(&["fields"], text);
    }
    for text in ["2020-01-01T00:00:00.123456Z", "2020-02-29T23:59:60+01:30", "0001-01-01T00:00:00Z"] {
        seeds.add(&["time"], text);
    }
    for text in ["1h2m3.5s", "-1.5us", "9223372036854775807ns", "+5m0s", "1µs"] {
        seeds.add(&["duration"], text);
    }
    for text in ["80", "\"http\"", "\"50%\"", "-1", "1e3", "null", "2147483648"] {
        seeds.add(&["int_or_string"], text);
    }
    seeds.add(&["yaml"], "a: &x {b: [1, yes, ~, 'q'], c: |\n  text\n  more\nd: *x\ne:\n  <<: *x\n  f: !!str 5\n- g: \"\\u00e9\"\n");
    seeds.add(&["kubeconfig"], "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: k, cluster: {server: https://h:6443, certificate-authority-data: YQ==}}]\nusers: [{name: u, user: {token: t, exec: {apiVersion: client.authentication.k8s.io/v1, command: x, interactiveMode: Never}}}]\ncontexts: [{name: c, context: {cluster: k, user: u, namespace: n}}]\n");
    seeds.add(&["config"], "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: iptables\nclientConnection: {kubeconfig: k, qps: 5}\niptables: {syncPeriod: 1m0s, masqueradeBit: 14}\nfeatureGates: {A: true}\n");
    for request in [
        "GET\0/apis/apps/v1/namespaces/n/deployments/d/scale\0fieldManager=a&force=true&dryRun=All",
        "GET\0/api/v1/watch/pods\0watch=1&timeoutSeconds=5&resourceVersion=0&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        "DELETE\0/api/v1/nodes\0gracePeriodSeconds=0&propagationPolicy=Foreground&labelSelector=a%3Db",
        "PATCH\0/api/v1/proxy/namespaces/n/pods/p%2F\0application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml;q=0.5,*/*",
    ] {
        seeds.add(&["request"], request);
    }
    // A put, a delete, a lease and a live key, as the log writes them.
    seeds.add(&["wal"], b"\x01\x05\x02/a\x01v\x09\x02\x06\x02/a\x03\x01\x0a\x04\x04\x01\x05\x04\x06\x10\x07\x08\x01k\x00\x03\x02\x02\x00\x09\x07\x50\x0a\x01");
    seeds.add(&["fields_v1"], r#"{"f:spec":{"f:c":{"k:{\"name\":\"a\",\"port\":1}":{".":{},"f:i":{}}},"f:s":{"v:\"x\"":{},"v:1.5":{},"i:3":{}}}}"#);
}

fn lines(path: &Path) -> Result<Vec<Json>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|l| serde_json::from_str(l).with_context(|| path.display().to_string())).collect()
}

fn joined(parts: &[&str]) -> String {
    parts.join("\0")
}

/// Bytes that are written as pairs of digits.
fn hex(text: &str) -> impl Iterator<Item = u8> {
    let digit =
        |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or_default();
    text.as_bytes().chunks_exact(2).map(move |pair| digit(pair[0]) << 4 | digit(pair[1]))
}

/// Inputs of the recorded answers: lines of `[request, answer]`.
fn recorded(seeds: &mut Seeds, repository: &Path) -> Result<()> {
    let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    for (file, target) in [
        ("pkg/machinery/tests/data/json_patch.jsonl", "json_patch"),
        ("pkg/api/tests/data/strategic.jsonl", "strategic"),
    ] {
        for line in lines(&repository.join(file))? {
            let both = joined(&[&text(&line[0]["doc"]), &text(&line[0]["patch"])]);
            seeds.add(&[if line[0]["op"] == "merge" { "merge_patch" } else { target }], both);
        }
    }
    let frames = repository.join("pkg/streaming/testdata/frames.txt");
    let frames = std::fs::read_to_string(&frames).with_context(|| frames.display().to_string())?;
    for side in ["client ", "server "] {
        let mut bytes = vec![20];
        frames.lines().filter_map(|line| line.strip_prefix(side)).for_each(|line| bytes.extend(hex(line)));
        seeds.add(&["spdy"], bytes);
    }
    for line in lines(&repository.join("pkg/api/tests/data/apply.jsonl"))? {
        let steps = line[0]["steps"].as_array().into_iter().flatten();
        let objects: Vec<String> = steps.map(|s| text(&s["obj"])).collect();
        for pair in objects.windows(2) {
            seeds.add(&["apply"], joined(&[&pair[0], &pair[1], "kubectl"]));
        }
        if let Some(object) =
            line[1].as_array().and_then(|a| a.last()).map(|a| &a["obj"]).filter(|o| o.is_object())
        {
            seeds.add(&JSON, object.to_string());
        }
    }
    for line in lines(&repository.join("pkg/machinery/tests/data/tables.jsonl"))? {
        if line["op"] == "strategic" {
            seeds.add(&["strategic"], joined(&[&line["doc"].to_string(), &line["patch"].to_string()]));
        } else if let Some(set) = line.get("set") {
            seeds.add(&["fields_v1"], set.to_string());
        }
    }
    for file in ["upstream", "broken", "patch", "messages"] {
        for line in lines(&repository.join("pkg/cel/tests/testdata").join(file).with_extension("jsonl"))? {
            seeds.add(&["cel"], text(&line["expr"]));
        }
    }
    Ok(())
}

/// Upstream's round-trip corpus, if it is on this machine.
fn corpus(seeds: &mut Seeds) -> Result<()> {
    let Ok(out) = Command::new("go").args(["env", "GOMODCACHE"]).output() else { return Ok(()) };
    let cache = PathBuf::from(String::from_utf8(out.stdout)?.trim()).join("k8s.io");
    let Ok(modules) = std::fs::read_dir(&cache) else { return Ok(()) };
    let api = modules
        .flatten()
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("api@")));
    let Some(folder) = api.map(|p| p.join("testdata/HEAD")) else { return Ok(()) };
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let data = std::fs::read(&path)?;
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") => seeds.add(&JSON, data),
            Some("yaml") => seeds.add(&["yaml"], data),
            Some("pb") => seeds.add(&PROTOBUF, data),
            _ => {}
        }
    }
    Ok(())
}
