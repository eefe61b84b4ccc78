//! What a request is about: verb, resource, namespace and name, from method and path.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go` `NewRequestInfo`.

use http::Method;
use percent_encoding::percent_decode_str;
use registry::api::RequestInfo;

use super::query::Query;

/// Path prefixes before the resource that say the verb.
const SPECIAL_VERBS: [&str; 2] = ["proxy", "watch"];
/// Names after `/namespaces/<name>/` that are subresources of the namespace rather than resources in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// A path that looks like a resource but is cut short after a special verb: 500 upstream, with this text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to determine kind and namespace from url, {0}")]
pub(crate) struct Unresolvable(pub(crate) String);

/// Resolves method, path (as sent) and query.
pub(crate) fn resolve(method: &Method, raw_path: &str, query: &Query) -> Result<RequestInfo, Unresolvable> {
    let path = percent_decode_str(raw_path).decode_utf8_lossy().into_owned();
    let mut info = RequestInfo {
        path: path.clone(),
        verb: method.as_str().to_ascii_lowercase(),
        ..RequestInfo::default()
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if parts.len() < 3 || !matches!(parts.first(), Some(&"api" | &"apis")) {
        return Ok(info);
    }
    let mut rest = parts.as_slice();
    let mut next = || {
        let (first, tail) = rest.split_first().unwrap_or((&"", &[]));
        rest = tail;
        (*first).to_owned()
    };
    info.api_prefix = next();
    if info.api_prefix == "apis" {
        if parts.len() < 4 {
            return Ok(info);
        }
        info.api_group = next();
    }
    info.is_resource_request = true;
    info.api_version = next();

    let mut verb_in_path = false;
    if rest.first().is_some_and(|p| SPECIAL_VERBS.contains(p)) {
        if rest.len() < 2 {
            return Err(Unresolvable(raw_path.to_owned()));
        }
        verb_in_path = true;
        info.verb = rest[0].to_owned();
        rest = &rest[1..];
    } else {
        info.verb = verb_of(method).to_owned();
    }
    if let ["namespaces", namespace, tail @ ..] = rest {
        info.namespace = (*namespace).to_owned();
        if tail.first().is_some_and(|t| !NAMESPACE_SUBRESOURCES.contains(t)) {
            rest = tail;
        }
    }
    info.parts = rest.iter().map(|p| (*p).to_owned()).collect();
    let part = |index: usize| info.parts.get(index).cloned().unwrap_or_default();
    let (resource, name, subresource) = (part(0), part(1), part(2));
    info.resource = resource;
    info.name = name;
    if info.verb != "proxy" {
        info.subresource = subresource;
    }
    refine_verb(&mut info, query);
    if !verb_in_path && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
        info.field_selector = query.text("fieldSelector");
        info.label_selector = query.text("labelSelector");
    }
    Ok(info)
}

/// Whether every `%` of the path starts an escape; Go's server does not even look at other requests.
pub(crate) fn escapes_are_valid(raw_path: &str) -> bool {
    let hex = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let bytes = raw_path.as_bytes();
    (0..bytes.len()).all(|i| bytes[i] != b'%' || hex(bytes.get(i + 1)) && hex(bytes.get(i + 2)))
}

fn verb_of(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// Without a name, `get` means list or watch, and `delete` means deletecollection. A field selector that requires one
/// exact name counts as that name.
fn refine_verb(info: &mut RequestInfo, query: &Query) {
    if !info.name.is_empty() {
        return;
    }
    if info.verb == "get" {
        info.verb = if query.flag("watch").unwrap_or(false) { "watch" } else { "list" }.to_owned();
        let decodes = query.int("limit").is_ok() && query.int("timeoutSeconds").is_ok();
        if let Some(name) = query.get("fieldSelector").and_then(exact_name).filter(|_| decodes) {
            info.name = name;
        }
    }
    if info.verb == "delete" {
        info.verb = "deletecollection".to_owned();
    }
}

/// The name a field selector requires, when it is a valid path segment.
fn exact_name(selector: &str) -> Option<String> {
    let term = selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value))
    })?;
    let bad = term.is_empty() || matches!(term, "." | "..") || term.contains(['/', '%', '\\']);
    (!bad).then(|| term.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `METHOD path?query` to `verb prefix/group/version ns/resource/name/sub`.
    fn show(request: &str) -> String {
        let (method, url) = request.split_once(' ').unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        match resolve(&method.parse().unwrap(), path, &Query::parse(query)) {
            Err(e) => e.to_string(),
            Ok(i) if !i.is_resource_request => format!("{} nonresource", i.verb),
            Ok(i) => format!(
                "{} {}/{}/{} {}|{}|{}|{}",
                i.verb,
                i.api_prefix,
                i.api_group,
                i.api_version,
                i.namespace,
                i.resource,
                i.name,
                i.subresource
            ),
        }
    }

    #[test]
    fn paths() {
        for (request, want) in [
            ("GET /", "get nonresource"),
            ("GET /api", "get nonresource"),
            ("GET /api/v1", "get nonresource"),
            ("GET /apis/apps/v1", "get nonresource"),
            ("GET /healthz/x/y", "get nonresource"),
            ("GET /api/v1/pods", "list api//v1 |pods||"),
            ("GET /api/v1/pods?watch=1", "watch api//v1 |pods||"),
            ("GET /api/v1/pods?watch=0", "list api//v1 |pods||"),
            ("GET /api/v1/namespaces", "list api//v1 |namespaces||"),
            ("GET /api/v1/namespaces/a", "get api//v1 a|namespaces|a|"),
            ("PUT /api/v1/namespaces/a/finalize", "update api//v1 a|namespaces|a|finalize"),
            ("GET /api/v1/namespaces/a/pods", "list api//v1 a|pods||"),
            ("POST /api/v1/namespaces/a/pods/p/exec", "create api//v1 a|pods|p|exec"),
            ("GET /api/v1/watch/namespaces/a/pods/p", "watch api//v1 a|pods|p|"),
            ("GET /api/v1/proxy/nodes/n/x/y", "proxy api//v1 |nodes|n|"),
            (
                "DELETE /apis/apps/v1/namespaces/a/deployments",
                "deletecollection apis/apps/v1 a|deployments||",
            ),
            ("GET /api/v1/pods?fieldSelector=metadata.name%3Dx", "list api//v1 |pods|x|"),
            ("GET /api/v1/watch", "unable to determine kind and namespace from url, /api/v1/watch"),
            ("OPTIONS /api/v1/pods", " api//v1 |pods||"),
        ] {
            assert_eq!(show(request), want, "{request}");
        }
    }
}
