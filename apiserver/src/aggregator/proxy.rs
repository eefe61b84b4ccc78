//! Passes a request on to the server of its group-version, with the user it was authenticated as.
//! Upstream: `kube-aggregator/pkg/apiserver/handler_proxy.go`, `client-go/transport/round_trippers.go`.

use std::sync::Arc;

use auth::UserInfo;
use http::header::{HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::{Aggregator, Service};
use crate::connect::{forward, is_upgrade};
use crate::outbound::pool::{Place, Pool};
use crate::server::Call;
use crate::web::{Response, Upload, body, respond};

/// Discovery must be quick; anything else may take the time requests have.
const DISCOVERY: std::time::Duration = std::time::Duration::from_secs(5);

fn refused(code: StatusCode, text: impl Into<String>) -> Response {
    respond::plain(code, text)
}

/// Answers a request of a group-version that another server serves.
pub(super) async fn serve(aggregator: &Aggregator, service: &Service, call: Call, body: Upload) -> Response {
    let Some(remote) = &service.remote else {
        return refused(StatusCode::NOT_FOUND, "");
    };
    if !remote.available {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
    }
    // Upstream sends what it resolved as the host; the connection may have been made to another address before.
    let resolver = aggregator.services.resolver();
    let host = match resolver.resolve(&remote.namespace, &remote.name, remote.port).await {
        Ok((host, port)) => Place::Host(host, port).authority(),
        Err(why) => {
            tracing::warn!(service = remote.key(), err = why, "error resolving");
            return refused(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
        }
    };
    let pool = match &remote.pool {
        Ok(pool) => pool.clone(),
        Err(why) => return refused(StatusCode::INTERNAL_SERVER_ERROR, why.clone()),
    };
    let is_discovery =
        !call.info.is_resource_request && call.info.path.trim_matches('/').split('/').count() == 3;
    let passing = pass(&host, &pool, call, body);
    let passed = if is_discovery {
        tokio::time::timeout(DISCOVERY, passing)
            .await
            .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
    } else {
        passing.await
    };
    match passed {
        Ok(response) if aggregator.reject_redirects && is_redirect(&response) => {
            let text = "the backend attempted to redirect this request, which is not permitted";
            respond::typed(StatusCode::BAD_GATEWAY, "text/plain; charset=utf-8", text)
        }
        Ok(response) => response,
        Err(why) => {
            let text = format!("error trying to reach service: {why}");
            refused(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

/// A server behind this one could send clients, with their credentials, wherever it likes.
fn is_redirect(response: &Response) -> bool {
    response.status().is_redirection() && response.headers().contains_key(LOCATION)
}

async fn pass(host: &str, pool: &Arc<Pool>, mut call: Call, body: Upload) -> Result<Response, String> {
    let upgrade = is_upgrade(&call);
    let mut headers = forward::headers(&call, upgrade, &pool.authority()).map_err(|e| e.message)?;
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    identify(&mut headers, &call.user);
    if let Ok(id) = HeaderValue::from_str(&call.audit_id) {
        headers.insert("audit-id", id);
    }
    let path = call.parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let request = Request::builder().method(call.parts.method.clone()).uri(path);
    if upgrade {
        let mut request = request.body(body::empty()).map_err(|e| e.to_string())?;
        *request.headers_mut() = headers;
        return switched(pool, &mut call, request).await;
    }
    let body = body::boxed(body);
    let mut request = request.body(body).map_err(|e| e.to_string())?;
    *request.headers_mut() = headers;
    let whole = request.uri().clone();
    let url = || format!("https://{host}{whole}");
    let span = traces::http::outgoing(request.method().clone(), url, request.headers_mut());
    let mut response = match pool.exchange(request).await {
        Ok(response) => response,
        Err(why) => {
            traces::http::failed(&span, &why);
            return Err(why);
        }
    };
    traces::http::received(&span, response.status().as_u16());
    let mut headers = std::mem::take(response.headers_mut());
    forward::strip(&mut headers, false);
    let (parts, body) = response.into_parts();
    let body = body::boxed(body);
    // The span ends with the body.
    let mut out = Response::new(if span.is_recording() { body::held(body, span) } else { body });
    *out.status_mut() = parts.status;
    *out.headers_mut() = headers;
    Ok(out)
}

/// An upgrade has a connection of its own.
async fn switched(pool: &Pool, call: &mut Call, request: Request<body::Body>) -> Result<Response, String> {
    let stream = pool.connect().await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    tokio::spawn(connection.with_upgrades());
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return forward::switch(call, response).map_err(|e| e.message);
    }
    let (mut parts, body) = response.into_parts();
    forward::strip(&mut parts.headers, false);
    Ok(Response::from_parts(parts, body::boxed(body)))
}

/// `SetAuthProxyHeaders`: the user as the front proxy vouches for it, and nothing of what the client may have sent.
pub(super) fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let vouched = |name: &str| {
        matches!(name, "x-remote-user" | "x-remote-uid" | "x-remote-group")
            || name.starts_with("x-remote-extra-")
    };
    let sent: Vec<HeaderName> = headers.keys().filter(|name| vouched(name.as_str())).cloned().collect();
    for name in sent {
        headers.remove(name);
    }
    let mut put = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    put("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        put("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        put("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        for value in values {
            put(&format!("x-remote-extra-{}", escaped(key)), value);
        }
    }
}

/// A key as part of a header name: what is no token is percent-encoded, and so is the percent sign.
fn escaped(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        let token = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if token {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        let mut user = UserInfo::new("u", &["g", "h"]);
        user.extra.insert("a/b%".into(), vec!["1".into(), "2".into()]);
        identify(&mut headers, &user);
        let got: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        let all = |name: &str| got.iter().filter(|(n, _)| *n == name).map(|(_, v)| *v).collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["u"]);
        assert_eq!(all("x-remote-group"), ["g", "h"]);
        assert_eq!(all("x-remote-extra-a%2fb%25"), ["1", "2"]);
        assert!(all("x-remote-extra-a").is_empty());
    }
}
