//! OpenAPI: `/openapi/v3` with one document per group-version, `/openapi/v2` with everything.
//!
//! Documents are made from the type table and the registry's rows when first asked for, and kept. They carry no prose:
//! descriptions are upstream's text. Version 2 has a protobuf form ([`gnostic`]) too; version 3 is JSON alone.
//! Upstream: `k8s.io/kube-openapi/pkg/{builder,builder3,handler,handler3}`.
mod custom;
mod custompaths;
mod descriptions;
mod documents;
mod fixed;
mod gnostic;
mod operation;
mod parameters;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use registry::api::ResourceRow;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::server::{Call, Server};
use crate::web::{Response, body, respond};

/// Documents made so far, by group-version path (`api/v1`), and `v2`.
#[derive(Default)]
pub struct Documents(Mutex<HashMap<String, Bytes>>);

/// Which dialect a schema is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V2,
    V3,
}

/// `api/v1`, `apis/apps/v1`.
fn path_of(row: &ResourceRow) -> String {
    let prefix = if row.gvk.group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", row.gvk.api_version())
}

/// Names what a document is made from; a new program version or other rows make another hash.
fn hash(rows: &[Arc<ResourceRow>], path: &str) -> String {
    let mut digest = Sha512::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(component::version::KUBERNETES);
    digest.update(path);
    for row in rows.iter().filter(|r| path_of(r) == path) {
        digest.update(format!("{row:?}"));
    }
    hex(&digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(128), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

fn cached(server: &Server, key: &str, rows: &[Arc<ResourceRow>], dialect: Dialect) -> (Bytes, String) {
    let hash = if dialect == Dialect::V2 { hash_all(rows) } else { hash(rows, key) };
    let name = format!("{key}?{hash}");
    if let Some(found) = server.openapi.0.lock().get(&name) {
        return (found.clone(), hash);
    }
    let made = match dialect {
        Dialect::V2 => documents::v2(rows, server.openid.is_served()),
        Dialect::V3 => documents::v3(rows, key),
    };
    let mut all = server.openapi.0.lock();
    all.retain(|k, _| k.split('?').next() != Some(key));
    all.insert(name, made.clone());
    (made, hash)
}

fn hash_all(rows: &[Arc<ResourceRow>]) -> String {
    let mut paths: Vec<String> = rows.iter().map(|r| path_of(r)).collect();
    paths.dedup();
    let all: String = paths.iter().map(|p| hash(rows, p)).collect();
    hash(&[], &all)
}

/// Answers an OpenAPI path; `None` when the path is none of ours.
pub(crate) fn answer(server: &Server, call: &Call) -> Option<Response> {
    let path = call.info.path.trim_end_matches('/');
    if path == "/openapi/v2" {
        return Some(v2(server, call));
    }
    let rest = path.strip_prefix("/openapi/v3")?;
    let rows = server.registry.resources();
    if rest.is_empty() {
        return Some(index(server, call, &rows));
    }
    let name = rest.strip_prefix('/')?;
    if !documents::names(&rows, server.openid.is_served()).contains(name) {
        return None;
    }
    let wanted = call.query.get("hash").unwrap_or_default();
    let current = hash(&rows, name);
    if !wanted.is_empty() && wanted != current {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let target = HeaderValue::from_str(&format!("/openapi/v3/{name}?hash={current}"));
        response.headers_mut().extend(target.ok().map(|t| (LOCATION, t)));
        return Some(response);
    }
    let (bytes, etag) = cached(server, name, &rows, Dialect::V3);
    let mut response = send(call, JSON, bytes, &etag);
    if !wanted.is_empty() {
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(CACHE_CONTROL, forever);
    }
    Some(response)
}

fn index(server: &Server, call: &Call, rows: &[Arc<ResourceRow>]) -> Response {
    let mut paths = Map::new();
    for path in documents::names(rows, server.openid.is_served()) {
        let url = format!("/openapi/v3/{path}?hash={}", hash(rows, &path));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    for (path, url) in server.aggregator.specs.v3() {
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    let bytes: Bytes = json!({"paths": paths}).to_string().into();
    let etag = hex(&Sha512::digest(&bytes));
    send(call, JSON, bytes, &etag)
}

fn v2(server: &Server, call: &Call) -> Response {
    let Some(protobuf) = wants_protobuf(call.header(http::header::ACCEPT)) else {
        return unacceptable();
    };
    let (bytes, etag) = cached(server, "v2", &server.registry.resources(), Dialect::V2);
    let parts = server.aggregator.specs.v2();
    let (bytes, etag) = if parts.is_empty() { (bytes, etag) } else { merged(server, &bytes, &etag, &parts) };
    if protobuf {
        send(call, GNOSTIC, in_gnostic(server, &bytes, &etag), &etag)
    } else {
        send(call, JSON, bytes, &etag)
    }
}

/// Upstream says nothing more (`kube-openapi/pkg/handler`).
fn unacceptable() -> Response {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    for header in ["Accept-Encoding", "Accept"] {
        response.headers_mut().append(VARY, HeaderValue::from_static(header));
    }
    response
}

const JSON: &str = "application/json";

/// What the protobuf form is called; clients also ask for it with an `@` before the version.
const GNOSTIC: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The form that is acceptable and named first (`kube-openapi/pkg/handler`).
fn wants_protobuf(accept: &str) -> Option<bool> {
    if accept.is_empty() {
        return Some(false);
    }
    accept.split(',').find_map(|clause| match clause.split(';').next().unwrap_or_default().trim() {
        "application/json" | "application/*" | "*/*" => Some(false),
        media if media == GNOSTIC || media == GNOSTIC.replace("v2.v1.0", "v2@v1.0") => Some(true),
        _ => None,
    })
}

/// The v2 document in gnostic's form; kept like the document.
fn in_gnostic(server: &Server, document: &Bytes, etag: &str) -> Bytes {
    const KEY: &str = "v2 gnostic";
    let name = format!("{KEY}?{etag}");
    if let Some(found) = server.openapi.0.lock().get(&name) {
        return found.clone();
    }
    // The document is our own.
    let value = serde_json::from_slice(document).unwrap_or_default();
    let made = Bytes::from(gnostic::document(&value));
    let mut all = server.openapi.0.lock();
    all.retain(|k, _| k.split('?').next() != Some(KEY));
    all.insert(name, made.clone());
    made
}

/// This server's v2 document with parts of others'; kept like the documents it is made of.
fn merged(server: &Server, own: &Bytes, etag: &str, parts: &[Arc<Value>]) -> (Bytes, String) {
    const KEY: &str = "v2 merged";
    let mut digest = Sha512::new();
    digest.update(etag);
    parts.iter().for_each(|part| digest.update(part.to_string()));
    let hash = hex(&digest.finalize());
    let name = format!("{KEY}?{hash}");
    if let Some(found) = server.openapi.0.lock().get(&name) {
        return (found.clone(), hash);
    }
    let Ok(mut document) = serde_json::from_slice::<Value>(own) else {
        return (own.clone(), etag.to_owned());
    };
    crate::aggregator::merge(&mut document, parts);
    let made = Bytes::from(document.to_string());
    let mut all = server.openapi.0.lock();
    all.retain(|k, _| k.split('?').next() != Some(KEY));
    all.insert(name, made.clone());
    (made, hash)
}

/// Upstream writes what it keeps: there is no final newline (`kube-openapi/pkg/handler`).
fn send(call: &Call, content_type: &'static str, bytes: Bytes, etag: &str) -> Response {
    let etag = format!("\"{etag}\"");
    let mut response = if call.header(IF_NONE_MATCH) == etag {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        respond::whole(StatusCode::OK, content_type, &call.parts.headers, vec![bytes])
    };
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&etag).ok().map(|e| (ETAG, e)));
    headers.append(VARY, HeaderValue::from_static("Accept"));
    response
}
