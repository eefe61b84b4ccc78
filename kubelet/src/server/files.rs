//! Files below `/var/log`. Upstream: getLogs in pkg/kubelet/server/server.go, v1.37.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use component::serving::body::{self, Body};
use http::{Response, StatusCode};

const ROOT: &str = "/var/log";
/// Most of a file that is shown at once.
const LIMIT: u64 = 16 << 20;

/// A file, or the names in a folder. The kernel keeps the walk below the root.
pub(super) fn node_logs(parts: &[String]) -> Response<Body> {
    let path: PathBuf = parts.iter().collect();
    let Ok(file) = sys::open_beneath(Path::new(ROOT), &path) else { return body::not_found() };
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return listing(&Path::new(ROOT).join(path));
    }
    let mut data = Vec::new();
    match file.take(LIMIT).read_to_end(&mut data) {
        Ok(_) => body::text(StatusCode::OK, data),
        Err(error) => body::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
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
    let lines: String = names.iter().map(|n| format!("<a href=\"{0}\">{0}</a>\n", escape(n))).collect();
    body::response(StatusCode::OK, "text/html; charset=utf-8", format!("<pre>\n{lines}</pre>\n"))
}
