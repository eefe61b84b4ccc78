//! What the differential tests share: a small generator of random numbers and a client of the oracle programs.
//!
//! Recorded answers (`tests/data`) are compared on every run. With `ORACLE_DIR` naming a directory of built
//! oracle programs (`e2e/oracle`), thousands of fresh cases are compared too; `ORACLE_RECORD=1` rewrites the data,
//! `ORACLE_SHOW=n` prints n differences instead of 8.
#![allow(dead_code, reason = "each test file uses its part")]

use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// xorshift64*: enough for test inputs, the same on every machine.
pub struct Rng(pub u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 33) as usize) % n.max(1)
    }
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

pub fn oracle_dir() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "a test's own switch")]
    std::env::var_os("ORACLE_DIR").map(PathBuf::from)
}

pub fn recording() -> bool {
    std::env::var_os("ORACLE_RECORD").is_some()
}

/// Asks the oracle program, one line per request.
pub fn ask(program: &Path, requests: &[Json]) -> Vec<Json> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("oracle program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let lines: Vec<String> = requests.iter().map(Json::to_string).collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            if writeln!(stdin, "{line}").is_err() {
                break;
            }
        }
    });
    let out = BufReader::new(child.stdout.take().expect("piped"))
        .lines()
        .map(|l| serde_json::from_str(&l.expect("text")).expect("an answer is JSON"))
        .collect();
    writer.join().expect("writer");
    assert!(child.wait().expect("oracle ends").success());
    out
}

/// Asks the oracle program, one line per request, and tells each answer as it comes. The program answers every
/// line at once, so that no more than a few are held at a time.
pub fn converse(
    program: &Path,
    requests: impl Iterator<Item = Json> + Send,
    mut each: impl FnMut(Json, Json),
) {
    const AHEAD: usize = 64;
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("oracle program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (asked, questions) = std::sync::mpsc::sync_channel::<Json>(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for request in requests {
                if writeln!(stdin, "{request}").is_err() || asked.send(request).is_err() {
                    break;
                }
            }
        });
        for question in questions {
            let line = lines.next().expect("one answer per request").expect("text");
            each(question, serde_json::from_str(&line).expect("an answer is JSON"));
        }
    });
    assert!(child.wait().expect("oracle ends").success());
}

pub fn data_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Reads recorded cases: lines of `[request, answer]`.
pub fn recorded(name: &str) -> Vec<(Json, Json)> {
    let text = std::fs::read_to_string(data_file(name)).expect("recorded answers");
    text.lines().map(|l| serde_json::from_str(l).expect("a recorded case")).collect()
}

pub fn record(name: &str, cases: &[(Json, Json)]) {
    let text: String = cases.iter().map(|c| serde_json::to_string(c).expect("JSON") + "\n").collect();
    std::fs::write(data_file(name), text).expect("data file is written");
}

/// Compares ours with the recorded answers and, when there is an oracle, with fresh ones.
pub fn compare(
    program: &str,
    file: &str,
    keep: usize,
    fresh: impl FnOnce() -> Vec<Json>,
    ours: impl Fn(&Json) -> Json,
    explained: impl Fn(&Json, &Json) -> bool,
) {
    compare_with(program, file, keep, fresh, ours, explained, |_, answer| answer.clone());
}

/// As [`compare`], with both answers brought into one form first.
pub fn compare_with(
    program: &str,
    file: &str,
    keep: usize,
    fresh: impl FnOnce() -> Vec<Json>,
    ours: impl Fn(&Json) -> Json,
    explained: impl Fn(&Json, &Json) -> bool,
    form: impl Fn(&Json, &Json) -> Json,
) {
    let mut cases = if recording() { Vec::new() } else { recorded(file) };
    if let Some(dir) = oracle_dir() {
        let requests = fresh();
        let answers = ask(&dir.join(program), &requests);
        assert_eq!(requests.len(), answers.len(), "one answer per request");
        let all: Vec<_> = requests.into_iter().zip(answers).collect();
        if recording() {
            // Small cases only: the data is committed.
            let small =
                |(q, a): &&(Json, Json)| q.to_string().len() + a.to_string().len() < 3000 && !explained(q, a);
            let fit: Vec<_> = all.iter().filter(small).collect();
            let kept: Vec<_> = fit.iter().step_by((fit.len() / keep).max(1)).map(|c| (*c).clone()).collect();
            record(file, &kept);
        }
        cases.extend(all);
    }
    let total = cases.len();
    let (mut wrong, mut skipped) = (0, 0);
    let shown = std::env::var("ORACLE_SHOW").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    for (q, theirs) in cases {
        if explained(&q, &theirs) {
            skipped += 1;
            continue;
        }
        let (mine, theirs) = (form(&q, &ours(&q)), form(&q, &theirs));
        if mine != theirs {
            wrong += 1;
            if wrong <= shown {
                eprintln!("request {q}\n{}", difference(&theirs, &mine, String::new()));
            }
        }
    }
    eprintln!("{file}: {total} compared, {skipped} explained, {wrong} different");
    assert_eq!(wrong, 0, "{file}: answers differ from upstream's");
}

/// The first places where two answers differ.
pub fn difference(theirs: &Json, mine: &Json, path: String) -> String {
    match (theirs, mine) {
        (Json::Object(a), Json::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let at =
                |m: &serde_json::Map<String, Json>, k: &str| m.get(k).cloned().unwrap_or("(absent)".into());
            let parts = keys.into_iter().filter(|k| a.get(*k) != b.get(*k));
            parts.map(|k| difference(&at(a, k), &at(b, k), format!("{path}.{k}"))).collect()
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            let parts = a.iter().zip(b).enumerate().filter(|(_, (x, y))| x != y);
            parts.map(|(i, (x, y))| difference(x, y, format!("{path}[{i}]"))).collect()
        }
        _ => format!(" {path}\n  theirs {theirs}\n  ours   {mine}\n"),
    }
}
