//! `corten-store`: backs up the embedded store of a running or stopped API server into one file, and restores it; shows
//! what its log holds.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use storage::embedded::backup::{self, Summary};
use storage::embedded::history::{self, Change};

const USAGE: &str =
    "usage: corten-store backup DATA_DIR FILE | status FILE | restore FILE DATA_DIR [--bump-revision=N] | log DATA_DIR
  backup   write what the store in DATA_DIR holds to FILE; the API server may go on meanwhile
  status   check every byte of FILE and say what it holds
  restore  make DATA_DIR, which must be empty or missing, of FILE, for an API server to start on;
           N (default 1000000000) is added to the revision: more than the writes since the backup
  log      print each change since the newest snapshot, oldest first, a line of JSON each; keys and values in base64";

/// More than any cluster writes between two backups; etcd's documentation proposes the same.
const BUMP: i64 = 1_000_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(summary) => {
            if let Some(Summary { revision, keys, bytes }) = summary {
                println!("revision {revision}, {keys} keys, {bytes} bytes");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("corten-store: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<Option<Summary>, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["backup", dir, file] => backup::save(Path::new(dir), Path::new(file)),
        ["status", file] => backup::inspect(Path::new(file)),
        ["restore", file, dir] => backup::restore(Path::new(file), Path::new(dir), BUMP),
        ["restore", file, dir, bump] => {
            let number = bump.strip_prefix("--bump-revision=").ok_or(USAGE)?;
            let number = number.parse().ok().filter(|n| *n >= 0);
            let number = number.ok_or_else(|| format!("{bump}: it is a number of revisions"))?;
            backup::restore(Path::new(file), Path::new(dir), number)
        }
        ["log", dir] => return log(Path::new(dir)).map(|()| None).map_err(|error| error.to_string()),
        _ => return Err(USAGE.to_owned()),
    };
    done.map(Some).map_err(|error| error.to_string())
}

fn log(dir: &Path) -> storage::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written =
        |error: std::io::Error| storage::Error::Io(format!("writing the log to the output: {error}"));
    history::changes(dir, |change| writeln!(out, "{}", line(&change)).map_err(written))?;
    out.flush().map_err(written)
}

fn line(change: &Change) -> Value {
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    match change {
        Change::Put { revision, key, value, lease } => {
            json!({"put": encode(key), "value": encode(value), "lease": lease, "revision": revision})
        }
        Change::Delete { revision, key } => json!({"delete": encode(key), "revision": revision}),
        Change::Grant { id, ttl } => json!({"grant": id, "ttl": ttl}),
        Change::Revoke { id } => json!({"revoke": id}),
        Change::Compact { revision } => json!({"compact": revision}),
        Change::Jump { revision } => json!({"jump": revision}),
    }
}
