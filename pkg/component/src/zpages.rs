//! The debugging pages every daemon has: `/configz`, `/statusz`, `/flagz`, `/debug/flags/v`, `/metrics`.
//!
//! Does not do: `/debug/pprof` (there is no Go runtime to profile; the paths answer 404).
//! Upstream: component-base/configz, apiserver/pkg/server/{statusz,flagz,routes}.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};

use crate::flags::FlagSet;
use crate::serving::body::{self, Body};
use crate::serving::mux::{Mux, handler, immediate};
use crate::{logs, metrics, version};

/// What the pages show.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Component name.
    pub name: &'static str,
    /// The command line.
    pub flags: Arc<FlagSet>,
    /// `/configz`: one key and its object; `None` leaves the page out.
    pub config: Option<(&'static str, Value)>,
}

const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                       guarantees and is for debugging purposes only.";

/// Adds the pages to a router. Call last: `/statusz` lists the paths known by then.
pub fn install(mux: &mut Mux, pages: &Pages) {
    install_debug_flags(mux);
    install_among(mux, pages, &[]);
}

/// As [`install`], for a daemon that answers `served` paths outside this router, and without `/debug/flags`.
pub fn install_among(mux: &mut Mux, pages: &Pages, served: &[String]) {
    mux.handle("/metrics", metrics::handler(metrics::default_registry()));
    mux.handle("/metrics/slis", metrics::handler(metrics::slis::registry()));
    if let Some((key, config)) = &pages.config {
        let document = json!({ *key: config });
        mux.handle("/configz", immediate(move |_| body::json(StatusCode::OK, &document)));
    }
    let (name, flags) = (pages.name, pages.flags.clone());
    mux.handle("/flagz", immediate(move |request| flagz(name, &flags, request)));
    let mut paths = mux.paths();
    paths.push("/statusz".into());
    paths.extend_from_slice(served);
    let paths = top_level(&paths);
    let started = Timestamp::now();
    mux.handle("/statusz", immediate(move |request| statusz(name, started, &paths, request)));
}

/// Adds `/version`, which only the API server has.
pub fn install_version(mux: &mut Mux) {
    mux.handle("/version", immediate(|r| pretty_json(r.headers(), StatusCode::OK, &version::info())));
}

/// First segments of paths, without the API's own. Upstream: statusz.aggregatePaths.
fn top_level(paths: &[String]) -> Vec<String> {
    let mut out: Vec<String> = paths
        .iter()
        .filter_map(|p| p.split('/').nth(1).filter(|s| !s.is_empty()))
        .filter(|s| !matches!(*s, "apis" | "api" | "openid" | "openapi" | ".well-known"))
        .map(|s| format!("/{s}"))
        .collect();
    out.sort();
    out.dedup();
    out
}

/// How an answer is to be written.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json(&'static str),
    NotAcceptable,
}

/// Text unless `Accept` asks for JSON of the page's own kind. Upstream: statusz/negotiate.
fn form(request: &Request<Body>, kind: &str) -> Form {
    let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if accept.trim().is_empty() {
        return Form::Text;
    }
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
        let parameter = |name: &str| parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        match media {
            "text/plain" | "text/*" | "*/*" => return Form::Text,
            "application/json" | "application/*"
                if parameter("as") == Some(kind) && parameter("g") == Some("config.k8s.io") =>
            {
                match parameter("v") {
                    Some("v1beta1") => return Form::Json("v1beta1"),
                    Some("v1alpha1") => return Form::Json("v1alpha1"),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Form::NotAcceptable
}

fn respond(
    request: &Request<Body>,
    kind: &'static str,
    text: impl Fn() -> String,
    mut object: Value,
) -> Response<Body> {
    match form(request, kind) {
        Form::Text => body::text(StatusCode::OK, text()),
        Form::Json(version) => {
            object["kind"] = json!(kind);
            object["apiVersion"] = json!(format!("config.k8s.io/{version}"));
            let mut response = pretty_json(request.headers(), StatusCode::OK, &object);
            let media = format!("application/json;g=config.k8s.io;v={version};as={kind}");
            if let Ok(value) = HeaderValue::from_str(&media) {
                response.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            if version == "v1alpha1" {
                let page = kind.to_ascii_lowercase();
                let text = format!(
                    "299 - \"This version of the {page} endpoint is deprecated. Please use a newer version.\""
                );
                if let Ok(value) = HeaderValue::from_str(&text) {
                    response.headers_mut().insert(header::WARNING, value);
                }
            }
            response
        }
        Form::NotAcceptable => {
            let types = "only the following media types are accepted: application/json, text/plain";
            failure(request.headers(), StatusCode::NOT_ACCEPTABLE, "NotAcceptable", types)
        }
    }
}

/// A failure as API clients know it; keys in upstream's order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: BTreeMap<(), ()>,
    status: &'static str,
    message: &'a str,
    reason: &'static str,
    /// Present and empty for a 403.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<BTreeMap<(), ()>>,
    code: u16,
}

/// Answers with a `Status`.
pub(crate) fn failure(
    headers: &HeaderMap,
    code: StatusCode,
    reason: &'static str,
    message: &str,
) -> Response<Body> {
    let details = (code == StatusCode::FORBIDDEN).then(BTreeMap::new);
    let object = Failure {
        kind: "Status",
        api_version: "v1",
        metadata: BTreeMap::new(),
        status: "Failure",
        message,
        reason,
        details,
        code: code.as_u16(),
    };
    pretty_json(headers, code, &object)
}

/// JSON, indented for people: those who ask with curl, Wget or a browser.
/// Upstream: apiserver/pkg/endpoints/handlers/negotiation isPrettyPrint.
fn pretty_json<T: Serialize>(headers: &HeaderMap, code: StatusCode, value: &T) -> Response<Body> {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if !["curl", "Wget", "Mozilla/5.0"].iter().any(|a| agent.starts_with(a)) {
        return body::json(code, value);
    }
    match serde_json::to_vec_pretty(value) {
        Ok(data) => body::response(code, "application/json", data),
        Err(_) => body::json(code, value),
    }
}

fn flagz(name: &str, flags: &FlagSet, request: &Request<Body>) -> Response<Body> {
    let values = flags.rendered();
    let text = || {
        let lines: String = values.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
        format!("\n{name} flagz\n{WARNING}\n{lines}")
    };
    respond(request, "Flagz", text, json!({ "metadata": { "name": name }, "flags": values }))
}

fn statusz(name: &str, started: Timestamp, paths: &[String], request: &Request<Body>) -> Response<Body> {
    let up = (Timestamp::now().as_second() - started.as_second()).max(0);
    let info = version::info();
    let binary = info.git_version.trim_start_matches('v').to_string();
    let emulated = format!("{}.{}", info.major, info.minor);
    let text = || {
        let started = started.to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S UTC %Y").to_string();
        format!(
            "\n{name} statusz\n{WARNING}\n\nStarted: {started}\nUp: {} hr {:02} min {:02} sec\nGo version: {}\nBinary \
             version: {binary}\nEmulation version: {emulated}\nPaths: {}\n",
            up / 3600,
            up / 60 % 60,
            up % 60,
            info.go_version,
            paths.join(" "),
        )
    };
    let object = json!({
        "metadata": { "name": name },
        "startTime": started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "uptimeSeconds": up,
        "goVersion": info.go_version,
        "binaryVersion": binary,
        "emulationVersion": emulated,
        "paths": paths,
    });
    respond(request, "Statusz", text, object)
}

/// A body longer than this is no verbosity.
const MAX_LEVEL_TEXT: usize = 64;

/// Adds `/debug/flags/v`: `PUT` of a number sets the verbosity.
pub fn install_debug_flags(mux: &mut Mux) {
    let index = immediate(|_| {
        let page = "<html>\n<head>\n<title>/debug/flags/</title>\n</head>\n<body>\n/debug/flags/<br>\n<br>\nflags:<br>\n\
                    <table>\n<tr>v<br>\n</table>\n<br>\nfull flags configurable<br>\n</body>\n</html>\n";
        body::response(StatusCode::OK, "text/html; charset=utf-8", page)
    });
    mux.handle("/debug/flags", index.clone());
    mux.handle_prefix("/debug/flags/", index);
    mux.handle("/debug/flags/v", handler(put_verbosity));
}

async fn put_verbosity(request: Request<Body>) -> Response<Body> {
    let plain = |status, text: String| {
        let mut response = body::response(status, "text/plain", text + "\n");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    };
    if request.method() != Method::PUT {
        return plain(StatusCode::NOT_ACCEPTABLE, "unsupported http method".into());
    }
    let data = match body::read(request.into_body(), MAX_LEVEL_TEXT).await {
        Ok(data) => data,
        Err(error) => return plain(StatusCode::BAD_REQUEST, format!("error reading request body: {error}")),
    };
    let text = String::from_utf8_lossy(&data);
    match text.parse::<i32>() {
        Ok(level) if level >= 0 => {
            logs::set_verbosity(level);
            plain(StatusCode::OK, format!("successfully set klog.logging.verbosity to {level}"))
        }
        _ => {
            let quoted = machinery::golang::quote(&text);
            plain(StatusCode::BAD_REQUEST, format!("strconv.ParseUint: parsing {quoted}: invalid syntax"))
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::flags::{Command, Layout};

    static COMMAND: Command =
        Command { name: "test", about: "", layout: Layout::Flat, sections: &[], defaults: &[] };

    async fn get(mux: &Mux, path: &str, accept: &str) -> (u16, String) {
        let request = Request::get(path).header("accept", accept).body(body::empty()).unwrap();
        let response = mux.call(request).await;
        let status = response.status().as_u16();
        let data = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(data.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn pages() {
        let mut mux = Mux::default();
        let flags = Arc::new(COMMAND.flag_set());
        install(&mut mux, &Pages { name: "test", flags, config: Some(("componentconfig", json!({"a": 1}))) });
        assert_eq!(get(&mux, "/configz", "").await, (200, r#"{"componentconfig":{"a":1}}"#.into()));
        let (code, text) = get(&mux, "/flagz", "*/*").await;
        assert_eq!(code, 200);
        assert!(text.contains("\ncheck-config=false\n"), "{text}");
        let accept = "application/json;as=Statusz;v=v1beta1;g=config.k8s.io";
        let (code, text) = get(&mux, "/statusz", accept).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (code, &object["kind"], &object["paths"][0]),
            (200, &json!("Statusz"), &json!("/configz"))
        );
        assert_eq!(get(&mux, "/statusz", "application/json").await.0, 406);
        install_version(&mut mux);
        assert_eq!(get(&mux, "/version", "").await.0, 200);
        assert_eq!(get(&mux, "/debug/flags/v", "").await, (406, "unsupported http method\n".into()));
    }
}
