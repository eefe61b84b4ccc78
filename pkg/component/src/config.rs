//! Component configuration files: YAML or JSON to a typed value, every problem with its file and line.
//!
//! Decoding is strict; [`Decoded::strict`] makes unknown and repeated fields errors, [`Decoded::lenient`] turns them
//! into warnings where upstream falls back. Durations are [`crate::duration::GoDuration`], quantities stay text.
//! Does not do: defaults and conversion between versions, which belong to each daemon.
//! Upstream: apimachinery/pkg/runtime/serializer/json (strict), pkg/kubelet/kubeletconfig/util/codec (fallback).

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::options::DuplicateKeyPolicy;

use machinery::golang::quote;

/// One thing wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File as it was named.
    pub file: String,
    /// Line from 1, where known.
    pub line: Option<u64>,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

/// Why a file could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ConfigError(pub Vec<Problem>);

/// `apiVersion` and `kind` of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeMeta {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
}

/// A decoded file.
#[derive(Debug, Clone)]
pub struct Decoded<T> {
    /// What it says.
    pub value: T,
    /// What it is.
    pub meta: TypeMeta,
    /// Unknown and repeated fields.
    pub strict_problems: Vec<Problem>,
}

impl<T> Decoded<T> {
    /// Refuses unknown and repeated fields.
    ///
    /// # Errors
    /// All of them, in upstream's words.
    pub fn strict(self) -> Result<T, ConfigError> {
        if self.strict_problems.is_empty() {
            return Ok(self.value);
        }
        let worded = |mut p: Problem| {
            p.text = format!("strict decoding error: {}", p.text);
            p
        };
        Err(ConfigError(self.strict_problems.into_iter().map(worded).collect()))
    }

    /// Logs unknown and repeated fields and goes on.
    pub fn lenient(self) -> T {
        for problem in &self.strict_problems {
            tracing::warn!(problem = %problem, "Using lenient decoding as strict decoding failed");
        }
        self.value
    }
}

/// A file longer than this is no configuration.
const MAX_BYTES: u64 = 10 << 20;

/// Reads and decodes a file whose `apiVersion` and `kind` must be one of `kinds`.
///
/// # Errors
/// It cannot be read, is no YAML, is of another kind, or a value has the wrong type.
pub fn read<T: DeserializeOwned>(path: &Path, kinds: &[(&str, &str)]) -> Result<Decoded<T>, ConfigError> {
    let file = path.display().to_string();
    let fail = |text: String| ConfigError(vec![Problem { file: file.clone(), line: None, text }]);
    let length = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if length > MAX_BYTES {
        return Err(fail(format!(
            "{length} bytes are too many for a configuration file, {MAX_BYTES} at most"
        )));
    }
    let data = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    decode(&file, &data, kinds)
}

/// Decodes a text; `file` is its name in messages.
///
/// # Errors
/// As [`read`].
pub fn decode<T: DeserializeOwned>(
    file: &str,
    data: &[u8],
    kinds: &[(&str, &str)],
) -> Result<Decoded<T>, ConfigError> {
    let problem = |line, text| Problem { file: file.to_string(), line, text };
    let fail = |line, text| ConfigError(vec![problem(line, text)]);
    let text = std::str::from_utf8(data).map_err(|e| fail(None, format!("not UTF-8: {e}")))?;
    let broken = |e: &serde_saphyr::Error| fail(e.location().map(|l| l.line()), first_line(e));
    let meta: TypeMeta =
        parse(text, DuplicateKeyPolicy::LastWins, &mut Vec::new()).map_err(|e| broken(&e))?;
    check_kind(&meta, kinds).map_err(|why| fail(line_of(text, "kind").or(Some(1)), why))?;

    let mut unknown = Vec::new();
    let mut strict_problems = Vec::new();
    let value = match parse(text, DuplicateKeyPolicy::Error, &mut unknown) {
        Ok(value) => value,
        Err(strict) => {
            // Only a repeated field passes the second time.
            unknown.clear();
            let value = parse(text, DuplicateKeyPolicy::LastWins, &mut unknown).map_err(|e| broken(&e))?;
            strict_problems.push(problem(strict.location().map(|l| l.line()), first_line(&strict)));
            value
        }
    };
    unknown.retain(|path| path != "apiVersion" && path != "kind");
    strict_problems.extend(
        unknown.iter().map(|path| problem(line_of(text, path), format!("unknown field {}", quote(path)))),
    );
    Ok(Decoded { value, meta, strict_problems })
}

fn first_line(error: &serde_saphyr::Error) -> String {
    error.without_snippet().to_string().lines().next().unwrap_or_default().to_string()
}

fn parse<T: DeserializeOwned>(
    text: &str,
    duplicate_keys: DuplicateKeyPolicy,
    unknown: &mut Vec<String>,
) -> Result<T, serde_saphyr::Error> {
    let options = serde_saphyr::options! { duplicate_keys: duplicate_keys, with_snippet: false };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        serde_ignored::deserialize(deserializer, |path| unknown.push(shown(&path)))
    })
}

/// `a.b[2].c`, as upstream names fields.
fn shown(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Map { parent, key } => match shown(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Seq { parent, index } => format!("{}[{index}]", shown(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            shown(parent)
        }
    }
}

fn check_kind(meta: &TypeMeta, kinds: &[(&str, &str)]) -> Result<(), String> {
    if kinds.is_empty() {
        return Ok(());
    }
    if meta.kind.is_empty() {
        return Err("Object 'Kind' is missing; state one of the supported kinds".into());
    }
    if meta.api_version.is_empty() {
        return Err("Object 'apiVersion' is missing; state the version of the kind".into());
    }
    if kinds.iter().any(|(version, kind)| *version == meta.api_version && *kind == meta.kind) {
        return Ok(());
    }
    let known: Vec<String> = kinds.iter().map(|(v, k)| format!("{v} {k}")).collect();
    Err(format!(
        "no kind {} is registered for version {}; known are: {}",
        quote(&meta.kind),
        quote(&meta.api_version),
        known.join(", ")
    ))
}

/// Line of a field in block style YAML, found by indentation; `None` for other layouts.
pub fn line_of(text: &str, path: &str) -> Option<u64> {
    let mut wanted = path.split('.').flat_map(|part| {
        let (key, indices) = part.split_once('[').map_or((part, ""), |(k, rest)| (k, rest));
        let indices = indices.split('[').filter_map(|i| i.trim_end_matches(']').parse::<usize>().ok());
        std::iter::once(Step::Key(key)).chain(indices.map(Step::Index).collect::<Vec<_>>())
    });
    let mut step = wanted.next()?;
    // Only lines deeper than the last match can belong to it; a list may stand as deep as its key.
    let (mut depth, mut seen) = (-1i64, 0);
    for (number, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        let mut indent = (line.len() - rest.len()) as i64;
        loop {
            match step {
                Step::Index(index) => {
                    let Some(after) = rest.strip_prefix("- ").filter(|_| indent >= depth) else { break };
                    if seen < index {
                        seen += 1;
                        break;
                    }
                    indent += (rest.len() - after.trim_start().len()) as i64;
                    rest = after.trim_start();
                    depth = indent - 1;
                }
                Step::Key(key) => {
                    let Some((name, _)) = rest.split_once(':').filter(|_| indent > depth) else { break };
                    if name.trim_matches(['"', '\'']) != key {
                        break;
                    }
                    depth = indent;
                }
            }
            seen = 0;
            match wanted.next() {
                None => return Some(number as u64 + 1),
                Some(next @ Step::Index(_)) => {
                    step = next;
                    if rest.contains(':') && !rest.starts_with("- ") {
                        break;
                    }
                }
                Some(next @ Step::Key(_)) => {
                    step = next;
                    if rest.trim_end().ends_with(':') {
                        break;
                    }
                }
            }
        }
    }
    None
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::GoDuration;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", default)]
    struct Sample {
        sync_period: Option<GoDuration>,
        count: Option<i32>,
        profiles: Vec<Profile>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", default)]
    struct Profile {
        name: String,
    }

    const KINDS: &[(&str, &str)] = &[("x.config.k8s.io/v1", "Sample")];

    fn check(text: &str, expected: Result<&[&str], &str>) {
        let got = decode::<Sample>("f.yaml", text.as_bytes(), KINDS);
        match (got, expected) {
            (Ok(decoded), Ok(problems)) => {
                let shown: Vec<String> = decoded.strict_problems.iter().map(ToString::to_string).collect();
                assert_eq!(shown, problems, "{text}");
            }
            (Err(error), Err(start)) => {
                assert!(error.to_string().starts_with(start), "{error} does not start with {start}");
            }
            (got, want) => panic!("{text}: {got:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn problems_have_lines() {
        let head = "apiVersion: x.config.k8s.io/v1\nkind: Sample\n";
        let with = |rest: &str| format!("{head}{rest}");
        check(&with("syncPeriod: 1m30s\ncount: 3\n"), Ok(&[]));
        check(&with("other: 1\n"), Ok(&["f.yaml:3: unknown field \"other\""]));
        check(
            &with("profiles:\n- name: a\n- name: b\n  extra: 1\n"),
            Ok(&["f.yaml:6: unknown field \"profiles[1].extra\""]),
        );
        check(&with("profiles:\n  - extra: 1\n"), Ok(&["f.yaml:4: unknown field \"profiles[0].extra\""]));
        check(
            r#"{"apiVersion":"x.config.k8s.io/v1","kind":"Sample","no":1}"#,
            Ok(&["f.yaml: unknown field \"no\""]),
        );
        check(&with("count: x\n"), Err("f.yaml:3: "));
        check(&with("syncPeriod: 5\n"), Err("f.yaml:3: time: missing unit in duration \"5\""));
        check("kind: Sample\n", Err("f.yaml:1: Object 'apiVersion' is missing"));
        check("apiVersion: v1\n", Err("f.yaml:1: Object 'Kind' is missing"));
        check(
            "apiVersion: v2\nkind: Sample\n",
            Err("f.yaml:2: no kind \"Sample\" is registered for version \"v2\""),
        );
        check("a: [", Err("f.yaml:"));
    }

    #[test]
    fn repeated_fields_are_strict_problems() {
        let text = "apiVersion: x.config.k8s.io/v1\nkind: Sample\ncount: 1\ncount: 2\n";
        let decoded = decode::<Sample>("f", text.as_bytes(), KINDS).unwrap();
        assert_eq!(decoded.value.count, Some(2));
        assert_eq!(decoded.strict_problems.len(), 1);
        assert_eq!(decoded.strict_problems[0].line, Some(4));
        assert!(decoded.strict().is_err());
    }

    #[test]
    fn hostile_input_is_an_error() {
        let deep = "[".repeat(20_000);
        assert!(decode::<Sample>("f", deep.as_bytes(), KINDS).is_err());
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
            bomb.push_str(&format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 9].join(",")));
        }
        assert!(decode::<Sample>("f", bomb.as_bytes(), KINDS).is_err());
        assert!(decode::<Sample>("f", &[0xff, 0xfe], KINDS).is_err());
    }
}
