//! What is wrong with the form of a configuration, in upstream's words. Whatever passes here can be read.
//! Upstream: cmd/kube-scheduler/app/options/configfile.go, apis/config/scheme, config/v1/types.go DecodeNestedObjects,
//! and how Go's JSON decoder speaks.

use component::duration::GoDuration;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::schema::{ARGUMENTS, Kind, ROOT, Struct};
use super::{API_VERSION, KIND, KubeSchedulerConfiguration};

/// One thing wrong: where (as the path of a field, where there is one), and what.
type Problem = (String, String);

/// Reads a text. The problem names the file and the line where it begins.
pub fn config(file: &str, text: &str) -> Result<KubeSchedulerConfiguration, String> {
    let decoded =
        component::config::decode::<Value>(file, text.as_bytes(), &[]).map_err(|e| e.to_string())?;
    let twice = decoded.strict_problems.iter().map(|problem| repeated(text, problem.line));
    let at = |path: &str, why: String| match component::config::line_of(text, path) {
        Some(line) => format!("{file}:{line}: {why}"),
        None => format!("{file}: {why}"),
    };
    let mut config = decoded.value;
    let strict: Vec<Problem> = match problems(text, &config) {
        Ok(unknown) => twice.chain(unknown).collect(),
        Err((path, why)) => return Err(at(&path, why)),
    };
    if let Some((path, _)) = strict.first() {
        let all: Vec<&str> = strict.iter().map(|(_, why)| why.as_str()).collect();
        return Err(at(path, format!("strict decoding error: {}", all.join(", "))));
    }
    without_nulls(&mut config);
    if config["enableProfiling"] == Value::Bool(false) && config.get("enableContentionProfiling").is_none() {
        config["enableContentionProfiling"] = false.into();
    }
    serde_json::from_value(config).map_err(|e| format!("{file}: {e}"))
}

/// A field that stands twice.
fn repeated(text: &str, line: Option<u64>) -> Problem {
    let line = line.unwrap_or(1);
    let there = text.lines().nth(usize::try_from(line).unwrap_or(1).saturating_sub(1)).unwrap_or_default();
    let key = there.split(':').next().unwrap_or_default().trim_matches([' ', '-', '"', '\'']);
    (key.to_string(), format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map"))
}

/// What is null is not set.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Where a value is.
#[derive(Clone, Copy)]
struct At<'a> {
    /// The innermost struct.
    holder: &'a str,
    /// Names of fields, as Go's errors give them.
    fields: &'a str,
    /// With places in lists.
    path: &'a str,
}

/// Everything unknown, unless something cannot be read at all.
fn problems(text: &str, config: &Value) -> Result<Vec<Problem>, Problem> {
    check_kind(text, config).map_err(|why| ("kind".to_string(), why))?;
    let mut unknown = Vec::new();
    let root = At { holder: ROOT.name, fields: "", path: "" };
    object(&ROOT, config, root, &mut unknown)?;
    let mut found: Vec<Problem> =
        unknown.into_iter().map(|path| (path.clone(), format!("unknown field {path:?}"))).collect();
    for (i, profile) in list(&config["profiles"]).iter().enumerate() {
        for (j, plugin) in list(&profile["pluginConfig"]).iter().enumerate() {
            found.extend(arguments(&format!("profiles[{i}].pluginConfig[{j}]"), plugin)?);
        }
    }
    Ok(found)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn check_kind(text: &str, config: &Value) -> Result<(), String> {
    let of = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (of("apiVersion"), of("kind"));
    let missing = |what: &str| Err(format!("Object '{what}' is missing in '{text}'"));
    match (kind, version) {
        ("", _) => missing("Kind"),
        (_, "") => missing("apiVersion"),
        (KIND, API_VERSION) => Ok(()),
        (kind, API_VERSION) if ARGUMENTS.iter().any(|(_, args)| args.name == kind) => {
            Err(format!("couldn't decode as {KIND}, got {API_VERSION}, Kind={kind}: "))
        }
        (kind, version) => Err(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        )),
    }
}

/// Arguments of a plugin. Upstream: PluginConfig.decodeNestedObjects.
fn arguments(at: &str, plugin: &Value) -> Result<Vec<Problem>, Problem> {
    let name = plugin["name"].as_str().unwrap_or_default();
    let Some((_, known)) = ARGUMENTS.iter().find(|(n, _)| *n == name) else { return Ok(Vec::new()) };
    let args = &plugin["args"];
    let place = format!("{at}.args");
    let here = |why: String| (place.clone(), format!("decoding .{at}: {why}"));
    if args.is_null() {
        return Ok(Vec::new());
    }
    let own = |key: &str, default: &str| {
        args.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).unwrap_or(default).to_string()
    };
    let (version, kind) = (own("apiVersion", API_VERSION), own("kind", known.name));
    if kind != known.name || version != API_VERSION {
        let registered =
            version == API_VERSION && (kind == KIND || ARGUMENTS.iter().any(|(_, args)| args.name == kind));
        let (group, _) = API_VERSION.split_once('/').unwrap_or_default();
        return Err(here(match registered {
            true => {
                format!("args for plugin {name} were not of type {}.{group}, got {kind}.{group}", known.name)
            }
            false => format!(
                "decoding args for plugin {name}: no kind {kind:?} is registered for version {version:?} in scheme \
                 \"pkg/runtime/scheme.go:111\""
            ),
        }));
    }
    let mut unknown = Vec::new();
    let root = At { holder: known.name, fields: "", path: "" };
    object(known, args, root, &mut unknown)
        .map_err(|(_, why)| here(format!("decoding args for plugin {name}: {why}")))?;
    if unknown.is_empty() {
        return Ok(Vec::new());
    }
    let fields: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    let path = format!("{place}.{}", unknown[0]);
    let why = format!(
        "decoding .{at}: strict decoding error: decoding args for plugin {name}: strict decoding error: {}",
        fields.join(", ")
    );
    Ok(vec![(path, why)])
}

/// How Go names a JSON value.
fn named(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong(value: &str, at: At<'_>, kind: &str) -> Problem {
    let place = match at.fields {
        "" => "value".to_string(),
        fields => format!("struct field {}.{fields}", at.holder),
    };
    (at.path.to_string(), format!("json: cannot unmarshal {value} into Go {place} of type {kind}"))
}

fn object(of: &Struct, value: &Value, at: At<'_>, unknown: &mut Vec<String>) -> Result<(), Problem> {
    let Some(fields) = value.as_object() else {
        return Err(wrong(named(value), at, &Kind::Struct(&ROOT).go()));
    };
    let join = |base: &str, name: &str| match base {
        "" => name.to_string(),
        base => format!("{base}.{name}"),
    };
    for (name, value) in sorted(fields) {
        let (fields, path) = (join(at.fields, name), join(at.path, name));
        match of.fields.iter().find(|(n, _)| n == name) {
            Some((_, kind)) => {
                check(*kind, value, At { holder: of.name, fields: &fields, path: &path }, unknown)?;
            }
            None => unknown.push(path),
        }
    }
    Ok(())
}

/// As upstream reads them: YAML becomes JSON with sorted keys first.
fn sorted(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut list: Vec<_> = fields.iter().collect();
    list.sort_by_key(|(name, _)| *name);
    list
}

fn check(kind: Kind, value: &Value, at: At<'_>, unknown: &mut Vec<String>) -> Result<(), Problem> {
    let misfit = || Err(wrong(named(value), at, &kind.go()));
    match (kind, value) {
        (_, Value::Null)
        | (Kind::Any, _)
        | (Kind::Text | Kind::Named(_) | Kind::Bytes, Value::String(_))
        | (Kind::Bool, Value::Bool(_))
        | (Kind::Float32, Value::Number(_)) => Ok(()),
        (Kind::Int32 | Kind::Int64, Value::Number(number)) => {
            let fits =
                number.as_i64().is_some_and(|n| matches!(kind, Kind::Int64) || i32::try_from(n).is_ok());
            if fits { Ok(()) } else { Err(wrong(&format!("number {number}"), at, &kind.go())) }
        }
        (Kind::Duration, Value::String(text)) => match GoDuration::deserialize(value) {
            Ok(_) => Ok(()),
            Err(_) => Err((at.path.to_string(), format!("time: invalid duration {text:?}"))),
        },
        (Kind::Texts, Value::Object(fields)) => {
            let other = fields.values().find(|v| !v.is_string() && !v.is_null());
            other.map_or(Ok(()), |v| Err(wrong(named(v), at, "string")))
        }
        (Kind::List(of), Value::Array(items)) => items.iter().enumerate().try_for_each(|(i, item)| {
            let path = format!("{}[{i}]", at.path);
            check(*of, item, At { path: &path, ..at }, unknown)
        }),
        (Kind::Struct(of), Value::Object(_)) => object(of, value, at, unknown),
        _ => misfit(),
    }
}
