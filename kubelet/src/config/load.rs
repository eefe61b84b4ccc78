//! Files and flags to one document.

use std::path::{Path, PathBuf};

use component::duration::GoDuration;
use component::flags::FlagSet;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::table::{Kind, ROWS, Row};
use crate::memorymanager::reserved::{self, MemoryReservation};

/// Merges the drop-in folder over the file, both over the defaults, and the given flags over all.
///
/// # Errors
/// Every problem found, each with the file or flag.
pub fn load(flags: &FlagSet) -> Result<Value, Vec<String>> {
    let file = flags.non_empty("config").map(PathBuf::from);
    let folder = flags.non_empty("config-dir").map(PathBuf::from);
    let mut problems = Vec::new();
    let mut document = Value::Object(Map::new());
    let with_files = file.is_some() || folder.is_some();
    for path in file.into_iter().chain(drop_ins(folder.as_deref(), &mut problems)) {
        match read(&path) {
            Ok(own) => merge(&mut document, own),
            Err(mut more) => problems.append(&mut more),
        }
    }
    prune(&mut document);
    let verifies = get(&document, VERIFICATION).is_some();
    for row in ROWS {
        if let Some(flag) = row.flag.filter(|f| flags.has(f) && (!with_files || flags.changed(f))) {
            let value = flag_value(row, flag, flags);
            // A map that was not given is absent, which is not the same as empty.
            if flags.changed(flag) || !value.as_object().is_some_and(Map::is_empty) {
                put(&mut document, row.path, value);
            }
        } else if with_files || row.flag.is_none() {
            default(&mut document, row);
        }
    }
    // Gates of both places count, the flag's win.
    let mut gates = get(&document, "featureGates").and_then(Value::as_object).cloned().unwrap_or_default();
    for setting in flags.gate_settings("feature-gates") {
        if let Some((name, value)) = setting.split_once('=') {
            gates.insert(name.trim().to_owned(), Value::Bool(value.trim().eq_ignore_ascii_case("true")));
        }
    }
    // Without the gate there is no default. Upstream: SetDefaults_KubeletConfiguration.
    let off = gates.get("KubeletEnsureSecretPulledImages") == Some(&Value::Bool(false));
    if let Some(object) = document.as_object_mut().filter(|_| off && !verifies) {
        object.remove(VERIFICATION);
    }
    put(&mut document, "featureGates", Value::Object(gates));
    put(&mut document, "kind", Value::from("KubeletConfiguration"));
    put(&mut document, "apiVersion", Value::from("kubelet.config.k8s.io/v1beta1"));
    if problems.is_empty() { Ok(document) } else { Err(problems) }
}

/// Files below the folder that end in `.conf`, in the order of the walk; others are named and skipped.
fn drop_ins(folder: Option<&Path>, problems: &mut Vec<String>) -> Vec<PathBuf> {
    let Some(folder) = folder else { return Vec::new() };
    let (mut files, mut skipped) = (Vec::new(), Vec::new());
    if let Err(error) = walk(folder, &mut files, &mut skipped) {
        problems.push(format!(
            "failed to walk through kubelet dropin directory {:?}: {error}",
            folder.display().to_string()
        ));
    }
    if !skipped.is_empty() {
        tracing::info!(
            files = skipped.join(", "),
            "Skipped drop-in configuration files that do not end in .conf"
        );
    }
    files
}

/// In lexical order, folders where their names stand. Links are not followed. Upstream: filepath.WalkDir.
fn walk(folder: &Path, files: &mut Vec<PathBuf>, skipped: &mut Vec<String>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, files, skipped)?;
        } else if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        } else {
            skipped.push(path.display().to_string());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value, Vec<String>> {
    let problem = |what: String| {
        vec![format!("failed to load kubelet config file, path: {}, error: {what}", path.display())]
    };
    let text = std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))?;
    let document: Value = serde_saphyr::from_str(&text).map_err(|e| problem(e.to_string()))?;
    let Some(object) = document.as_object() else {
        return Err(problem("it is empty or not an object".into()));
    };
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("kind") != "KubeletConfiguration" || text("apiVersion") != "kubelet.config.k8s.io/v1beta1" {
        let (version, kind) = (text("apiVersion"), text("kind"));
        return Err(problem(format!("no kind {kind:?} is registered for version {version:?}")));
    }
    let mut wrong = Vec::new();
    check("", &document, &mut wrong);
    if wrong.is_empty() { Ok(document) } else { Err(wrong.into_iter().flat_map(problem).collect()) }
}

/// Finds unknown fields and values of the wrong type.
fn check(path: &str, value: &Value, wrong: &mut Vec<String>) {
    if let Some(row) = ROWS.iter().find(|row| row.path == path) {
        if !value.is_null() && !fits(row.kind, value) {
            wrong.push(format!("cannot use {value} as the value of {path}"));
        }
        return;
    }
    let parent =
        |row: &&Row| path.is_empty() || row.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    let (true, Some(object)) = (ROWS.iter().any(|row| parent(&row)), value.as_object()) else {
        wrong.push(format!("strict decoding error: unknown field {path:?}"));
        return;
    };
    for (key, value) in object {
        if path.is_empty() && (key == "kind" || key == "apiVersion") {
            continue;
        }
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        check(&inner, value, wrong);
    }
}

fn fits(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Bool => value.is_boolean(),
        Kind::Int => value.is_i64() || value.is_u64(),
        Kind::Float => value.is_number(),
        Kind::Text => value.is_string(),
        Kind::Duration => value.as_str().is_some_and(|text| GoDuration::parse(text).is_ok()),
        Kind::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        Kind::TextMap => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
        Kind::BoolMap => value.as_object().is_some_and(|map| map.values().all(Value::is_boolean)),
        Kind::Tracing => {
            let known = |key: &String| matches!(key.as_str(), "endpoint" | "samplingRatePerMillion");
            value.as_object().is_some_and(|map| map.keys().all(known))
                && serde_json::from_value::<traces::Configuration>(value.clone()).is_ok()
        }
        Kind::Any => true,
    }
}

/// Objects are merged, anything else is replaced; what is null goes. Upstream: jsonpatch.MergePatch (RFC 7386).
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from,
    }
}

/// Removes nulls that a merge has put in place as they were.
fn prune(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(prune);
    }
}

/// The value at a path.
pub fn get<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |value, key| value.get(key))
}

fn put(document: &mut Value, path: &str, value: Value) {
    let mut at = document;
    for key in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        at = map.entry(key).or_insert(Value::Null);
    }
    *at = value;
}

/// An absent value, or what counts as absent in Go (zero durations, empty texts and plain zero numbers).
fn default(document: &mut Value, row: &Row) {
    let Some(default) = row.default.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return };
    let absent = match get(document, row.path) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) if row.kind == Kind::Duration => {
            GoDuration::parse(text).is_ok_and(|d| d.0 == 0) && row.path != "cpuCFSQuotaPeriod"
        }
        Some(Value::String(text)) => text.is_empty() && row.path != "resolvConf",
        Some(Value::Number(number)) => number.as_i64() == Some(0) && ZERO_IS_ABSENT.contains(&row.path),
        Some(_) => false,
    };
    if absent {
        put(document, row.path, default);
    }
}

const VERIFICATION: &str = "imagePullCredentialsVerificationPolicy";

/// Numbers that are no pointers upstream: zero means the default.
const ZERO_IS_ABSENT: [&str; 7] = [
    "port",
    "registryBurst",
    "eventBurst",
    "nodeLeaseDurationSeconds",
    "maxPods",
    "maxOpenFiles",
    "kubeAPIBurst",
];

fn flag_value(row: &Row, flag: &str, flags: &FlagSet) -> Value {
    match row.kind {
        Kind::Bool => Value::from(flags.bool(flag)),
        Kind::Int => Value::from(flags.int(flag)),
        Kind::Float => Value::from(flags.float(flag)),
        Kind::Duration => Value::from(flags.go_duration(flag).to_string()),
        Kind::Texts => Value::from(flags.list(flag).to_vec()),
        Kind::TextMap => {
            Value::Object(flags.map(flag).into_iter().map(|(k, v)| (k, Value::from(v))).collect())
        }
        Kind::BoolMap | Kind::Tracing => Value::Null,
        Kind::Text => match flags.rendered().remove(flag) {
            Some(text) => Value::from(text),
            None => Value::Null,
        },
        Kind::Any if flag == "reserved-memory" => {
            let text = flags.list(flag).join(";");
            // A text that cannot be read stays one, and is refused with the reason later.
            reserved::parse(&text)
                .ok()
                .and_then(|list| serde_json::to_value(list).ok())
                .unwrap_or(Value::from(text))
        }
        Kind::Any => Value::from(flags.rendered().remove(flag).unwrap_or_default()),
    }
}

/// `reservedMemory`: a list, in which amounts may be plain numbers, or a flag's text that could not be read.
///
/// # Errors
/// What is wrong with it.
pub fn reservations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MemoryReservation>, D::Error> {
    let mut value = Value::deserialize(deserializer)?;
    if let Some(text) = value.as_str() {
        return reserved::parse(text).map_err(serde::de::Error::custom);
    }
    let limits = value.as_array_mut().into_iter().flatten().filter_map(|entry| entry.get_mut("limits"));
    for amount in limits.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        if let Value::Number(number) = amount {
            *amount = Value::from(number.to_string());
        }
    }
    let list = Option::<Vec<MemoryReservation>>::deserialize(value).map_err(serde::de::Error::custom)?;
    Ok(list.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(file: &str, args: &[&str]) -> Result<Value, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        std::fs::write(&path, format!("{head}{file}")).unwrap();
        let mut flags = crate::options::COMMAND.flag_set();
        let config = format!("--config={}", path.display());
        let args = std::iter::once(config).chain(args.iter().map(|a| (*a).to_owned()));
        flags.parse(args).unwrap();
        load(&flags)
    }

    #[test]
    fn defaults_differ_between_file_and_flags() {
        let file = load_with("{}\n".trim_start_matches("{}"), &[]).unwrap();
        assert_eq!(get(&file, "authorization.mode"), Some(&Value::from("Webhook")));
        assert_eq!(get(&file, "readOnlyPort"), None);
        let mut flags = crate::options::COMMAND.flag_set();
        flags.parse(Vec::<String>::new()).unwrap();
        let alone = load(&flags).unwrap();
        assert_eq!(get(&alone, "authorization.mode"), Some(&Value::from("AlwaysAllow")));
        assert_eq!(get(&alone, "readOnlyPort"), Some(&Value::from(10255)));
        assert_eq!(get(&alone, "authentication.anonymous.enabled"), Some(&Value::Bool(true)));
    }

    #[test]
    fn flags_win() {
        let loaded = load_with("maxPods: 50\nport: 1\nsyncFrequency: 0s\n", &["--max-pods=70"]).unwrap();
        assert_eq!(get(&loaded, "maxPods"), Some(&Value::from(70)));
        assert_eq!(get(&loaded, "port"), Some(&Value::from(1)));
        assert_eq!(get(&loaded, "syncFrequency"), Some(&Value::from("1m0s")));
    }

    #[test]
    fn drop_ins_are_merged_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "20-b.conf",
            &format!("{head}maxPods: 20\nclusterDNS: [10.0.0.2]\nevictionHard: {{memory.available: 1Gi}}\n"),
        );
        put(
            "10-a/x.conf",
            &format!(
                "{head}maxPods: 10\nport: 5\nclusterDNS: [10.0.0.1]\nevictionHard: {{pid.available: 5%}}\n"
            ),
        );
        put("30-c.conf", &format!("{head}port: null\n"));
        put("README.md", "not YAML: [");
        let mut flags = crate::options::COMMAND.flag_set();
        flags.parse([format!("--config-dir={}", dir.path().display())]).unwrap();
        let loaded = load(&flags).unwrap();
        assert_eq!(get(&loaded, "maxPods"), Some(&Value::from(20)));
        // A removed value gives way to the default, lists are replaced, maps are merged.
        assert_eq!(get(&loaded, "port"), Some(&Value::from(10250)));
        assert_eq!(get(&loaded, "clusterDNS"), Some(&serde_json::json!(["10.0.0.2"])));
        let hard = get(&loaded, "evictionHard").unwrap();
        assert_eq!(*hard, serde_json::json!({"memory.available": "1Gi", "pid.available": "5%"}));
        put("40-d.conf", "maxPods: 3\n");
        assert!(load(&flags).unwrap_err()[0].contains("no kind"));
    }

    #[test]
    fn refuses_unknown_and_wrong() {
        let problems =
            load_with("bogus: 1\nauthentication: {x509: {nope: 1}}\nmaxPods: many\n", &[]).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems.iter().any(|p| p.contains("unknown field \"bogus\"")));
        assert!(problems.iter().any(|p| p.contains("unknown field \"authentication.x509.nope\"")));
    }
}
