//! Queries of the node's logs: `/logs/?query=kubelet&tailLines=10`.
//!
//! A query names services or one file. A service's lines come from `journalctl`; one that the journal does not know may
//! log to a file of its name. Reading the query is pure ([`LogQuery::parse`], [`LogQuery::problems`], [`arguments`]); the
//! rest runs the program and streams what it says. Upstream: pkg/kubelet/kubelet_server_journal{,_linux}.go, v1.37.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use api::validation::field::{Bad, Error as FieldError, Path as FieldPath};
use bytes::Bytes;
use component::serving::body::{self, Body};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::files::{self, ROOT};
use super::streams::Query;

const MAX_TAIL_LINES: i64 = 100_000;
const MAX_SERVICE_LENGTH: usize = 256;
const MAX_SERVICES: usize = 4;
/// Everything together takes no longer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most that the list of units may be long.
const UNITS_LIMIT: u64 = 8 << 20;
const WAITING: usize = 4;
const PIECE: usize = 32 << 10;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LogQuery {
    pub(super) services: Vec<String>,
    pub(super) files: Vec<String>,
    options: Options,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Options {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    tail_lines: Option<i64>,
    boot: Option<i64>,
    pattern: String,
}

fn field(name: &str) -> FieldPath<'_> {
    FieldPath::new(name)
}

fn time(query: &Query, name: &str, errors: &mut Vec<FieldError>) -> Option<Timestamp> {
    let text = query.get(name).filter(|text| !text.is_empty())?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        errors.push(FieldError::invalid(&field(name), text, "invalid time format"));
    }
    parsed
}

fn integer(query: &Query, name: &str, errors: &mut Vec<FieldError>) -> Option<i64> {
    let text = query.get(name).filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => {
            let range = matches!(
                std::num::ParseIntError::kind(&error),
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow
            );
            let why = if range { "value out of range" } else { "invalid syntax" };
            errors.push(FieldError::invalid(
                &field(name),
                text,
                format!("strconv.Atoi: parsing {text:?}: {why}"),
            ));
            None
        }
    }
}

impl LogQuery {
    /// Reads a query; `None` if there is none.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn parse(query: &Query) -> Result<Option<Self>, Vec<FieldError>> {
        let mut errors = Vec::new();
        let asked = query.all("query");
        let (files, services): (Vec<String>, Vec<String>) = (asked.iter())
            .filter(|q| !q.trim().is_empty())
            .cloned()
            // A slash tells that a file is meant.
            .partition(|q| q.contains(['/', '\\']));
        if !asked.is_empty() && files.is_empty() && services.is_empty() {
            errors.push(FieldError::invalid(&field("query"), Bad::json(&asked), "may not be empty"));
        }
        let options = Options {
            since: time(query, "sinceTime", &mut errors),
            until: time(query, "untilTime", &mut errors),
            boot: integer(query, "boot", &mut errors),
            tail_lines: integer(query, "tailLines", &mut errors),
            pattern: query.get("pattern").unwrap_or_default().to_owned(),
        };
        let found = Self { services, files, options };
        match errors.is_empty() {
            true => Ok(Some(found).filter(|found| *found != Self::default())),
            false => Err(errors),
        }
    }

    /// What is wrong with a query.
    pub(super) fn problems(&self, root: &Path) -> Vec<FieldError> {
        let mut errors = service_problems(&self.services);
        let path = field("query");
        match (self.files.as_slice(), self.services.is_empty()) {
            ([], true) => errors.push(FieldError::required(&path, "cannot be empty with options")),
            ([], false) => {}
            (files, false) => {
                let both = format!("[{}], [{}]", files.join(" "), self.services.join(" "));
                errors.push(FieldError::invalid(&path, both, "cannot specify a file and service"));
            }
            ([file], true) if self.options == Options::default() => {
                let relative = Path::new(file);
                if let Err(error) = files::open(root, relative.strip_prefix("/").unwrap_or(relative)) {
                    let why = format!("statat {file}: {}", go_error(&error));
                    errors.push(FieldError::invalid(&path, Bad::json(&self.files), why));
                }
            }
            ([_], true) => {
                errors.push(FieldError::invalid(
                    &path,
                    Bad::json(&self.files),
                    "cannot specify file with options",
                ));
            }
            (_, true) => {
                let why = "cannot specify more than one file";
                errors.push(FieldError::invalid(&path, Bad::json(&self.files), why));
            }
        }
        errors.extend(self.options.problems());
        errors
    }
}

fn service_problems(services: &[String]) -> Vec<FieldError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    let why = |service: &String| match service {
        s if s.len() > MAX_SERVICE_LENGTH => Some(format!("length must be less than {MAX_SERVICE_LENGTH}")),
        s if !s.chars().all(safe) => Some("input contains unsupported characters".to_owned()),
        _ => None,
    };
    let mut errors: Vec<FieldError> = (services.iter())
        .filter_map(|service| Some(FieldError::invalid(&field("query"), service, why(service)?)))
        .collect();
    if services.len() > MAX_SERVICES {
        errors.push(FieldError::too_many(&field("query"), services.len(), MAX_SERVICES));
    }
    errors
}

impl Options {
    fn problems(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since > until
        {
            let until = Bad::json(&until);
            errors.push(FieldError::invalid(&field("untilTime"), until, "must be after `sinceTime`"));
        }
        if let Some(boot) = self.boot.filter(|boot| *boot > 0) {
            errors.push(FieldError::invalid(&field("boot"), boot, "must be less than 1"));
        }
        if let Some(lines) = self.tail_lines.filter(|lines| !(0..=MAX_TAIL_LINES).contains(lines)) {
            let why = format!("must be between 0 and {MAX_TAIL_LINES}, inclusive");
            errors.push(FieldError::invalid(&field("tailLines"), lines, why));
        }
        if let Err(error) = regex::Regex::new(&self.pattern) {
            errors.push(FieldError::invalid(&field("pattern"), &self.pattern, error.to_string()));
        }
        errors
    }
}

/// An error of the system without Rust's decoration.
fn go_error(error: &io::Error) -> String {
    if error.raw_os_error() == Some(libc::EXDEV) {
        return "path escapes from parent".to_owned();
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Arguments of `journalctl`. Upstream: getLoggingCmd.
fn arguments(query: &LogQuery, services: &[String]) -> Vec<String> {
    let mut out = ["--utc", "--no-pager", "--output=short-precise"].map(str::to_owned).to_vec();
    let options = &query.options;
    let show = |at: Timestamp| at.strftime("%Y-%-m-%-d %-H:%-M:%-S").to_string();
    out.extend(options.since.map(|at| format!("--since={}", show(at))));
    out.extend(options.until.map(|at| format!("--until={}", show(at))));
    if let Some(lines) = options.tail_lines {
        out.extend(["--pager-end".to_owned(), format!("--lines={lines}")]);
    }
    out.extend(services.iter().map(|service| format!("--unit={service}")));
    if !options.pattern.is_empty() {
        out.push(format!("--grep={}", options.pattern));
    }
    if let Some(boot) = options.boot {
        out.extend(["--boot".to_owned(), boot.to_string()]);
    }
    out
}

/// Where the lines go: to the client, compressed if it wants that.
struct Sink {
    sender: mpsc::Sender<Result<Frame<Bytes>, component::serving::BoxError>>,
    gzip: Option<flate2::write::GzEncoder<Vec<u8>>>,
}

impl Sink {
    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let data = match &mut self.gzip {
            None => data.to_vec(),
            Some(gzip) => {
                gzip.write_all(data)?;
                std::mem::take(gzip.get_mut())
            }
        };
        self.send(data).await
    }

    async fn send(&self, data: Vec<u8>) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.sender.send(Ok(Frame::data(data.into()))).await.map_err(gone)
    }

    async fn finish(mut self) -> io::Result<()> {
        match self.gzip.take() {
            Some(gzip) => self.send(gzip.finish()?).await,
            None => Ok(()),
        }
    }
}

/// Streams the logs of services.
pub(super) fn stream(query: LogQuery, headers: &HeaderMap) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let compressed = headers.get(header::ACCEPT_ENCODING).is_some_and(|value| value == "gzip");
    let gzip = compressed.then(|| flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    tokio::spawn(async move {
        let mut sink = Sink { sender, gzip };
        // After the deadline, what was found until then is all there is, as upstream.
        let copied =
            tokio::time::timeout(DEADLINE, copy(&query, "journalctl", Path::new(ROOT), &mut sink)).await;
        if let Ok(Err(error)) = copied {
            tracing::debug!(%error, "A log query ended early");
            return;
        }
        if let Err(error) = sink.finish().await {
            tracing::debug!(%error, "A log query ended early");
        }
    });
    let stream = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut response = Response::new(body::boxed(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
    if compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Upstream: copyForBoot.
async fn copy(query: &LogQuery, program: &str, root: &Path, sink: &mut Sink) -> io::Result<()> {
    let units = units(program).await.unwrap_or_default();
    let (native, files): (Vec<String>, Vec<String>) =
        query.services.iter().cloned().partition(|service| units.contains(&format!("{service}.service")));
    if !native.is_empty() {
        journal(query, program, &native, sink).await?;
    }
    if files.is_empty() {
        return Ok(());
    }
    if query.options != Options::default() {
        let text = format!(
            "\noptions present and query resolved to log files for [{}]\ntry without specifying options\n",
            files.join(" ")
        );
        return sink.write(text.as_bytes()).await;
    }
    for service in &files {
        file_of(root, service, sink).await?;
    }
    Ok(())
}

/// All units that the journal knows. Upstream: checkForNativeLogger.
async fn units(program: &str) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(["--field", "_SYSTEMD_UNIT"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut text = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(UNITS_LIMIT).read_to_end(&mut text).await?;
    }
    match child.wait().await?.success() {
        true => Ok(String::from_utf8_lossy(&text).into_owned()),
        false => Err(io::Error::other("the journal names no units")),
    }
}

async fn journal(query: &LogQuery, program: &str, services: &[String], sink: &mut Sink) -> io::Result<()> {
    let child = Command::new(program)
        .args(arguments(query, services))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = child else {
        return match query.options.boot.unwrap_or_default() {
            0 => sink.write(b"\nerror: journal output not available\n").await,
            _ => Ok(()),
        };
    };
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (mut line, mut complaint) = (vec![0; PIECE], vec![0; PIECE]);
    while out.is_some() || err.is_some() {
        tokio::select! {
            n = next(&mut out, &mut line) => sink.write(&line[..n?]).await?,
            n = next(&mut err, &mut complaint) => sink.write(&complaint[..n?]).await?,
        }
    }
    // The program has said what is wrong, if something is.
    child.wait().await.map(drop)
}

/// Bytes read; at the end zero, and `from` is none. None never answers.
async fn next<R: AsyncRead + Unpin>(from: &mut Option<R>, into: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(open) => {
            let n = open.read(into).await?;
            if n == 0 {
                *from = None;
            }
            Ok(n)
        }
        None => std::future::pending().await,
    }
}

/// A service's file, at one of the usual places. Upstream: heuristicsCopyFileLogs.
async fn file_of(root: &Path, service: &str, sink: &mut Sink) -> io::Result<()> {
    let places = [service.to_owned(), format!("{service}.log"), format!("{service}/{service}.log")];
    for place in places {
        let mut file = match files::open(root, Path::new(&place)) {
            Ok(file) if file.metadata()?.is_dir() => continue,
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let text =
                    format!("\nerror getting log for {service}: openat {place}: {}\n", go_error(&error));
                return sink.write(text.as_bytes()).await;
            }
        };
        loop {
            let (back, piece) = tokio::task::spawn_blocking(move || {
                let mut piece = Vec::with_capacity(PIECE);
                let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece);
                read.map(|_| (file, piece))
            })
            .await
            .map_err(io::Error::other)??;
            if piece.is_empty() {
                return Ok(());
            }
            file = back;
            sink.write(&piece).await?;
        }
    }
    sink.write(format!("\nlog not found for {service}\n").as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::validation::field::aggregate;

    fn check(root: &Path, query: &str) -> String {
        match LogQuery::parse(&Query::parse(query)) {
            Ok(Some(found)) => match found.problems(root) {
                none if none.is_empty() => String::new(),
                some => aggregate(&some),
            },
            Ok(None) => "none".to_owned(),
            Err(errors) => aggregate(&errors),
        }
    }

    /// Texts as newNodeLogQuery and validate have them.
    #[test]
    fn reads_queries() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.log"), "x").unwrap();
        let cases = [
            ("", "none"),
            ("query=", "query: Invalid value: [\"\"]: may not be empty"),
            ("query=kubelet&tailLines=10&pattern=a.*b&boot=-1", ""),
            ("tailLines=1", "query: Required value: cannot be empty with options"),
            ("query=/a.log", ""),
            ("query=/b.log", "query: Invalid value: [\"/b.log\"]: statat /b.log: no such file or directory"),
            ("query=/a.log&boot=0", "query: Invalid value: [\"/a.log\"]: cannot specify file with options"),
            (
                "query=/a.log&query=/b.log",
                "query: Invalid value: [\"/a.log\",\"/b.log\"]: cannot specify more than one file",
            ),
            (
                "query=/a.log&query=b",
                "query: Invalid value: \"[/a.log], [b]\": cannot specify a file and service",
            ),
            ("query=a;b", "query: Invalid value: \"a;b\": input contains unsupported characters"),
            ("query=a&query=b&query=c&query=d&query=e", "query: Too many: 5: must have at most 4 items"),
            (
                "query=a&tailLines=x",
                "tailLines: Invalid value: \"x\": strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "query=a&tailLines=100001",
                "tailLines: Invalid value: 100001: must be between 0 and 100000, inclusive",
            ),
            ("query=a&boot=1", "boot: Invalid value: 1: must be less than 1"),
            ("query=a&sinceTime=now", "sinceTime: Invalid value: \"now\": invalid time format"),
            (
                "query=a&sinceTime=2026-01-02T03:04:05Z&untilTime=2026-01-01T00:00:00Z",
                "untilTime: Invalid value: \"2026-01-01T00:00:00Z\": must be after `sinceTime`",
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(check(dir.path(), query), expected, "{query}");
        }
        assert!(check(dir.path(), "query=a&pattern=(").starts_with("pattern: Invalid value: \"(\""));
    }

    #[test]
    fn arguments_of_the_program() {
        let text = "query=kubelet&sinceTime=2026-01-02T03:04:05%2B01:00&tailLines=7&pattern=x&boot=-1";
        let query = LogQuery::parse(&Query::parse(text)).unwrap().unwrap();
        let expected = [
            "--utc",
            "--no-pager",
            "--output=short-precise",
            "--since=2026-1-2 2:4:5",
            "--pager-end",
            "--lines=7",
            "--unit=kubelet",
            "--grep=x",
            "--boot",
            "-1",
        ];
        assert_eq!(arguments(&query, &query.services), expected);
    }

    async fn said(query: &str, program: &str, root: &Path) -> String {
        let query = LogQuery::parse(&Query::parse(query)).unwrap().unwrap();
        let (sender, mut receiver) = mpsc::channel(1000);
        let mut sink = Sink { sender, gzip: None };
        copy(&query, program, root, &mut sink).await.unwrap();
        drop(sink);
        let mut out = Vec::new();
        while let Some(frame) = receiver.recv().await {
            out.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn journal_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("journalctl");
        let script = "#!/bin/sh\n[ \"$1\" = --field ] && { echo kubelet.service; exit; }\necho \"$@\"\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(dir.path().join("web")).unwrap();
        std::fs::write(dir.path().join("web/web.log"), "hello\n").unwrap();
        let program = program.to_str().unwrap();
        let found = said("query=kubelet&query=web&query=none", program, dir.path()).await;
        let journal = "--utc --no-pager --output=short-precise --unit=kubelet\n";
        assert_eq!(found, format!("{journal}hello\n\nlog not found for none\n"));
        let found = said("query=web&tailLines=1", program, dir.path()).await;
        assert!(found.starts_with("\noptions present and query resolved to log files for [web]"), "{found}");
    }
}
