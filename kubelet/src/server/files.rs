//! Files and folders below `/var/log`, as a plain file server.
//!
//! Ranges and dates work as with Go's `net/http` file server, which upstream uses (`logServer` in pkg/kubelet/kubelet.go,
//! v1.37). Unlike upstream's, links that lead out of the folder are not followed: whoever may write there would be able to
//! read every file of the node.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use component::serving::body::{self, Body};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::jiff::{Timestamp, fmt::rfc2822};
use tokio::sync::mpsc;

/// Where logs are.
pub(super) const ROOT: &str = "/var/log";
/// Bytes read at once, and how many such pieces wait for the client.
const PIECE: usize = 64 << 10;
const WAITING: usize = 4;

/// Opens what is at `path` below `root`. Links are followed as long as they end below it; absolute ones too, as container
/// logs have them.
pub(super) fn open(root: &Path, path: &Path) -> io::Result<File> {
    match sys::open_beneath(root, path) {
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
            let found = root.join(path).canonicalize()?;
            let inside = found.strip_prefix(root.canonicalize()?).map_err(|_| error)?;
            sys::open_beneath(root, inside)
        }
        result => result,
    }
}

/// A file, or the names in a folder. `path` is what follows `/logs/`.
pub(super) fn serve(root: &Path, path: &str, headers: &HeaderMap) -> Response<Body> {
    match find(root, path, headers) {
        Ok(response) => response,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
            io::ErrorKind::PermissionDenied => plain(StatusCode::FORBIDDEN, "403 Forbidden\n"),
            _ if error.raw_os_error() == Some(libc::EXDEV) => plain(StatusCode::FORBIDDEN, "403 Forbidden\n"),
            _ => plain(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error\n"),
        },
    }
}

fn find(root: &Path, path: &str, headers: &HeaderMap) -> io::Result<Response<Body>> {
    if path == "index.html" || path.ends_with("/index.html") {
        return Ok(redirect("./"));
    }
    let clean: PathBuf = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let file = open(root, &clean)?;
    let meta = file.metadata()?;
    let slash = path.is_empty() || path.ends_with('/');
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match (meta.is_dir(), slash) {
        (true, false) => Ok(redirect(&format!("{}/", escape_url(last)))),
        (false, true) => Ok(redirect(&format!("../{}", escape_url(last)))),
        (false, false) => content(file, &meta, headers),
        (true, true) => match open(root, &clean.join("index.html")) {
            Ok(index) if index.metadata()?.is_file() => {
                let meta = index.metadata()?;
                content(index, &meta, headers)
            }
            _ if is_unchanged(&meta, headers) => Ok(dated(plain(StatusCode::NOT_MODIFIED, ""), &meta)),
            _ => Ok(dated(listing(&root.join(clean)), &meta)),
        },
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    body::response(status, "text/plain; charset=utf-8", text)
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(value) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

fn escape_url(part: &str) -> String {
    percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%2D", "-")
        .replace("%2E", ".")
        .replace("%5F", "_")
}

fn modified(meta: &Metadata) -> Option<Timestamp> {
    let since = meta.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()
}

fn dated(mut response: Response<Body>, meta: &Metadata) -> Response<Body> {
    let text =
        modified(meta).and_then(|at| rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok());
    if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(header::LAST_MODIFIED, value);
    }
    response
}

fn is_unchanged(meta: &Metadata, headers: &HeaderMap) -> bool {
    let asked = headers.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    let asked = asked.and_then(|text| rfc2822::DateTimeParser::new().parse_timestamp(text).ok());
    matches!((modified(meta), asked), (Some(at), Some(asked)) if at <= asked)
}

/// Part of a file that is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    All,
    /// First byte and how many.
    Part(u64, u64),
    Unsatisfiable,
}

/// Several ranges at once are answered with the whole, which is allowed.
fn range(asked: Option<&str>, size: u64) -> Range {
    let Some(spec) = asked.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Range::All };
    let Some((first, last)) = spec.trim().split_once('-').filter(|_| !spec.contains(',')) else {
        return Range::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim().is_empty(), number(first), number(last)) {
        (true, _, Some(end)) if end > 0 && size > 0 => Range::Part(size.saturating_sub(end), end.min(size)),
        (true, ..) => Range::Unsatisfiable,
        (false, Some(start), _) if start >= size => Range::Unsatisfiable,
        (false, Some(start), Some(end)) if end < start => Range::Unsatisfiable,
        (false, Some(start), end) => {
            let end = end.map_or(size, |end| end.saturating_add(1).min(size));
            Range::Part(start, end - start)
        }
        (false, None, _) => Range::Unsatisfiable,
    }
}

fn content(mut file: File, meta: &Metadata, headers: &HeaderMap) -> io::Result<Response<Body>> {
    if is_unchanged(meta, headers) {
        return Ok(dated(plain(StatusCode::NOT_MODIFIED, ""), meta));
    }
    let size = meta.len();
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, start, length) = match range(asked, size) {
        Range::All => (StatusCode::OK, 0, size),
        Range::Part(start, length) => (StatusCode::PARTIAL_CONTENT, start, length),
        Range::Unsatisfiable => {
            let mut response = plain(StatusCode::RANGE_NOT_SATISFIABLE, "invalid range: failed to overlap\n");
            response.headers_mut().insert(header::CONTENT_RANGE, text_value(&format!("bytes */{size}")));
            return Ok(response);
        }
    };
    let mut head = Vec::with_capacity(512);
    (&mut file).take(512).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(start))?;
    let mut response = dated(Response::new(stream(file, length)), meta);
    *response.status_mut() = status;
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(sniff(&head)));
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::CONTENT_LENGTH, length.into());
    if status == StatusCode::PARTIAL_CONTENT {
        let last = start + length.saturating_sub(1);
        out.insert(header::CONTENT_RANGE, text_value(&format!("bytes {start}-{last}/{size}")));
    }
    Ok(response)
}

fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Text, gzip or something else: what is told of a log.
fn sniff(head: &[u8]) -> &'static str {
    let binary = |b: &u8| matches!(b, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    match head {
        [0x1f, 0x8b, 0x08, ..] => "application/x-gzip",
        _ if head.iter().any(binary) => "application/octet-stream",
        _ => "text/plain; charset=utf-8",
    }
}

/// The next `length` bytes of a file. One that shrinks meanwhile ends the response early, which the client notices.
fn stream(file: File, length: u64) -> Body {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, component::serving::BoxError>>(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut rest = file.take(length);
        loop {
            let mut piece = vec![0; PIECE];
            let sent = match rest.read(&mut piece) {
                Ok(0) => return,
                Ok(n) => {
                    piece.truncate(n);
                    sender.blocking_send(Ok(Frame::data(piece.into())))
                }
                Err(error) => sender.blocking_send(Err(error.into())),
            };
            // Fails when the client has gone.
            if sent.is_err() {
                return;
            }
        }
    });
    body::boxed(StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver)))
}

fn listing(path: &Path) -> Response<Body> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| {
            let slash = if entry.file_type().is_ok_and(|t| t.is_dir()) { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let escape = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;")
    };
    let line = |name: &String| {
        let (bare, slash) = name.strip_suffix('/').map_or((name.as_str(), ""), |bare| (bare, "/"));
        format!("<a href=\"{}{slash}\">{}</a>\n", escape_url(bare), escape(name))
    };
    let lines: String = names.iter().map(line).collect();
    let head = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n";
    body::response(StatusCode::OK, "text/html; charset=utf-8", format!("{head}<pre>\n{lines}</pre>\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[test]
    fn ranges() {
        let cases = [
            (None, Range::All),
            (Some("bytes=0-"), Range::Part(0, 10)),
            (Some("bytes=2-4"), Range::Part(2, 3)),
            (Some("bytes=8-99"), Range::Part(8, 2)),
            (Some("bytes=-3"), Range::Part(7, 3)),
            (Some("bytes=-30"), Range::Part(0, 10)),
            (Some("bytes=10-"), Range::Unsatisfiable),
            (Some("bytes=4-2"), Range::Unsatisfiable),
            (Some("bytes=0-1,3-4"), Range::All),
            (Some("lines=1-2"), Range::All),
        ];
        for (asked, expected) in cases {
            assert_eq!(range(asked, 10), expected, "{asked:?}");
        }
    }

    async fn answer(root: &Path, path: &str, asked: Option<&str>) -> (u16, String, String) {
        let mut headers = HeaderMap::new();
        if let Some(asked) = asked {
            headers.insert(header::RANGE, asked.parse().unwrap());
        }
        let response = serve(root, path, &headers);
        let status = response.status().as_u16();
        let location = response.headers().get(header::LOCATION).map(|v| v.to_str().unwrap().to_owned());
        let data = response.into_body().collect().await.unwrap().to_bytes();
        (status, location.unwrap_or_default(), String::from_utf8(data.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn files_folders_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        std::fs::create_dir_all(root.join("pods")).unwrap();
        std::fs::write(root.join("pods/a b.log"), "0123456789").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(root.join("pods/a b.log"), root.join("inside")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("outside")).unwrap();
        assert_eq!(answer(&root, "pods/a b.log", None).await, (200, String::new(), "0123456789".into()));
        assert_eq!(answer(&root, "inside", Some("bytes=-2")).await, (206, String::new(), "89".into()));
        assert_eq!(answer(&root, "outside", None).await.0, 403);
        assert_eq!(answer(&root, "../secret", None).await.0, 403);
        assert_eq!(answer(&root, "none", None).await, (404, String::new(), "404 page not found\n".into()));
        assert_eq!(answer(&root, "pods", None).await.1, "pods/");
        assert_eq!(answer(&root, "inside/", None).await.1, "../inside");
        let (status, _, page) = answer(&root, "pods/", None).await;
        assert_eq!(status, 200);
        assert!(page.contains("<a href=\"a%20b.log\">a b.log</a>"), "{page}");
    }
}
