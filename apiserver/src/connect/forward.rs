//! Moves a request to its target and the answer back; after an upgrade, bytes in both directions.
//! Upstream: `apimachinery/pkg/util/proxy/upgradeaware.go`, `apiserver/pkg/registry/generic/rest/streamer.go`.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, CONTENT_TYPE, HOST, HeaderName, LOCATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use registry::errors::ApiError;

use super::dial::Dialer;
use super::rewrite::{self, Links};
use super::target::Target;
use super::{is_upgrade, is_websocket, messages};
use crate::server::Call;
use crate::web::{Response, Upload};

/// What an error answer of a kubelet is read up to.
const ERROR_BYTES: usize = 50_000;

type OutBody = Either<Upload, Empty<bytes::Bytes>>;

/// Headers about one hop only.
static HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a target says about other origins; the API server has its own policy. Upstream: `corsRemovingTransport`.
static CORS: [HeaderName; 4] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
];

async fn send(
    dialer: &Dialer,
    target: &Target,
    request: Request<OutBody>,
) -> Result<http::Response<Incoming>, ApiError> {
    let failed = |why: String| ApiError::service_unavailable(format!("error trying to reach service: {why}"));
    let stream = dialer.connect(target.transport, &target.host, target.port).await.map_err(failed)?;
    let failed = |why: hyper::Error| ApiError::internal(format!("error dialing backend: {why}"));
    let handshake = hyper::client::conn::http1::Builder::new().handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(failed)?;
    // Ends with the connection, which ends with the response body or the upgraded stream.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(failed)
}

pub(super) fn host_header(target: &Target) -> String {
    if target.host.contains(':') {
        format!("[{}]:{}", target.host, target.port)
    } else {
        format!("{}:{}", target.host, target.port)
    }
}

/// `pods/log`: the kubelet's answer as a stream, its errors as statuses.
pub(super) async fn log(dialer: &Dialer, call: &mut Call, target: Target) -> Result<Response, ApiError> {
    let request = Request::get(&target.path)
        .header(HOST, host_header(&target))
        .body(Either::Right(Empty::new()))
        .map_err(ApiError::internal)?;
    let response = send(dialer, &target, request).await.map_err(|e| log_unreachable(&target, &e))?;
    let code = response.status();
    if !code.is_success() {
        let body = http_body_util::Limited::new(response.into_body(), ERROR_BYTES).collect().await;
        let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).unwrap_or_default();
        return Err(checked(code, &call.info.name, text));
    }
    let content_type = response.headers().get(CONTENT_TYPE).cloned();
    let body = crate::web::body::boxed(response.into_body());
    if is_websocket(call) {
        return messages::answer(call, body);
    }
    let mut out = Response::new(body);
    let fallback = HeaderValue::from_static("text/plain");
    out.headers_mut().insert(CONTENT_TYPE, content_type.unwrap_or(fallback));
    Ok(out)
}

fn log_unreachable(target: &Target, error: &ApiError) -> ApiError {
    let path = target.path.split('?').next().unwrap_or_default();
    let why = error.message.trim_start_matches("error trying to reach service: ");
    ApiError::internal(format!("Get \"https://{}{path}\": {why}", host_header(target)))
}

/// Upstream: `GenericHttpResponseChecker`.
fn checked(code: StatusCode, name: &str, text: String) -> ApiError {
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal(text),
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        StatusCode::NOT_FOUND => {
            let mut error = ApiError::not_found("", "pods", name);
            error.message = format!("the server could not find the requested resource ( pods/log {name})");
            error
        }
        other => ApiError::new(
            other.as_u16(),
            "",
            format!("the server responded with the status code {other}: {text}"),
        ),
    }
}

/// Any other request.
pub(super) async fn request(
    dialer: &Dialer,
    call: &mut Call,
    target: Target,
    body: Upload,
) -> Result<Response, ApiError> {
    request_and(dialer, call, target, body, switch).await
}

/// The same, where `switched` makes of an answer that changes the protocol what the client gets.
pub(super) async fn request_and(
    dialer: &Dialer,
    call: &mut Call,
    target: Target,
    body: Upload,
    switched: impl FnOnce(&mut Call, http::Response<Incoming>) -> Result<Response, ApiError>,
) -> Result<Response, ApiError> {
    let upgrade = is_upgrade(call);
    if let (false, true, Some(location)) =
        (upgrade, target.is_bare_root, with_slash(&call.parts.method, &call.parts.uri))
    {
        return moved(&location);
    }
    let (asked, own) = (asked_host(call), host_header(&target));
    // The target is told the host that the client asked for.
    let headers = headers(call, upgrade, if asked.is_empty() { &own } else { &asked })?;
    let mut outgoing = Request::builder().method(call.parts.method.clone()).uri(&target.path);
    if let Some(map) = outgoing.headers_mut() {
        *map = headers;
    }
    let body = if upgrade { Either::Right(Empty::new()) } else { Either::Left(body) };
    let outgoing = outgoing.body(body).map_err(ApiError::internal)?;
    let mut response = send(dialer, &target, outgoing).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switched(call, response);
    }
    let mut headers = std::mem::take(response.headers_mut());
    strip(&mut headers, false);
    if !upgrade {
        CORS.iter().for_each(|name| drop(headers.remove(name)));
    }
    let links = Links { prefix: target.prefix.clone(), own, asked };
    let (parts, body) = response.into_parts();
    let body = crate::web::body::boxed(body);
    let body = if headers.contains_key(LOCATION) {
        redirect(&links, &mut headers);
        body
    } else {
        rewrite::page(links, &mut headers, body)
    };
    let mut out = Response::new(body);
    *out.status_mut() = parts.status;
    *out.headers_mut() = headers;
    Ok(out)
}

/// The host a client asked for: HTTP/2 has it in the address.
fn asked_host(call: &Call) -> String {
    match call.header(HOST) {
        "" => call.parts.uri.authority().map(ToString::to_string).unwrap_or_default(),
        host => host.to_owned(),
    }
}

/// Where a request for the root of a target is sent first when its slash is missing: relative links need it.
/// Upstream: `proxyRedirectsforRootPath`.
fn with_slash(method: &Method, uri: &Uri) -> Option<String> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let query = uri.query().filter(|q| !q.is_empty()).map(|q| format!("?{q}"));
    Some(format!("{}/{}", uri.path(), query.unwrap_or_default()))
}

fn moved(location: &str) -> Result<Response, ApiError> {
    let mut out = Response::new(crate::web::body::empty());
    *out.status_mut() = StatusCode::MOVED_PERMANENTLY;
    out.headers_mut().insert(LOCATION, HeaderValue::from_str(location).map_err(ApiError::internal)?);
    Ok(out)
}

/// The headers of a request as they are passed on, with `host`.
pub(crate) fn headers(call: &Call, upgrade: bool, host: &str) -> Result<HeaderMap, ApiError> {
    let mut headers = call.parts.headers.clone();
    strip(&mut headers, upgrade);
    headers.insert(HOST, HeaderValue::from_str(host).map_err(ApiError::internal)?);
    forwarded(call, upgrade, &mut headers);
    Ok(headers)
}

/// Removes what concerns one hop; an upgrade is end to end.
pub(crate) fn strip(headers: &mut HeaderMap, upgrade: bool) {
    for name in &HOP {
        if !(upgrade && (*name == CONNECTION || *name == UPGRADE)) {
            headers.remove(name);
        }
    }
}

/// Tells the target where the request came from: the client's address after those of proxies before this one, and the
/// path. Upstream: `proxyutil.Transport`, which upgrades do not pass, and `httputil.ReverseProxy`.
fn forwarded(call: &Call, upgrade: bool, headers: &mut HeaderMap) {
    if !upgrade && let Ok(uri) = HeaderValue::from_str(call.parts.uri.path()) {
        headers.insert(HeaderName::from_static("x-forwarded-uri"), uri);
    }
    let before = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
    let mut all: Vec<String> = before.map(str::to_owned).collect();
    all.push(call.connection.peer.ip().to_string());
    if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(HeaderName::from_static("x-forwarded-for"), value);
    }
}

/// A redirect within the target is a redirect within the proxy's path.
fn redirect(links: &Links, headers: &mut HeaderMap) {
    let location = headers.get(LOCATION).and_then(|l| l.to_str().ok());
    let moved = location.and_then(|l| links.rewrite(l)).and_then(|l| HeaderValue::from_str(&l).ok());
    if let Some(value) = moved {
        headers.insert(LOCATION, value);
    }
}

/// Answers 101 and copies bytes both ways until one side is done.
pub(crate) fn switch(call: &mut Call, mut response: http::Response<Incoming>) -> Result<Response, ApiError> {
    let Some(client) = call.parts.extensions.remove::<OnUpgrade>() else {
        return Err(ApiError::bad_request("the connection cannot be upgraded: HTTP/1.1 is needed"));
    };
    let backend = hyper::upgrade::on(&mut response);
    // The audit event of the end comes with the end of the session.
    let recorded = call.recorded.clone();
    tokio::spawn(async move {
        let _recorded = recorded;
        let (Ok(client), Ok(backend)) = tokio::join!(client, backend) else { return };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
            tracing::debug!(err = %error, "upgraded connection ended");
        }
    });
    let mut out = Response::new(crate::web::body::empty());
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *out.headers_mut() = std::mem::take(response.headers_mut());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes() {
        let root = "/api/v1/namespaces/a/pods/b/proxy";
        for (method, query, want) in [
            (Method::GET, "", Some(format!("{root}/"))),
            (Method::HEAD, "?method=HEAD", Some(format!("{root}/?method=HEAD"))),
            (Method::GET, "?", Some(format!("{root}/"))),
            (Method::POST, "", None),
        ] {
            let uri = format!("{root}{query}").parse().unwrap();
            assert_eq!(with_slash(&method, &uri), want, "{method} {query}");
        }
    }
}
