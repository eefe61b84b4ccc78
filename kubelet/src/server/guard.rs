//! Who may ask the kubelet what: certificates and tokens, then rights on subresources of this node.
//!
//! Upstream: pkg/kubelet/server/auth.go and cmd/kubelet/app/auth.go, v1.37.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use auth::authenticator::TokenAuthenticator;
use auth::x509::CaBundle;
use auth::{Attributes, Authorizer};
use client::Client;
use component::app::Error;
use component::delegated::{AccessReviews, Authentication, TokenReviews};
use component::serving::ConnInfo;
use component::serving::body::{self, Body};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::config::Settings;

/// Lets requests through once they are known and allowed.
#[derive(Clone)]
pub(super) struct Guard {
    authentication: Arc<Authentication>,
    /// Absent if everybody who is known may do everything.
    authorizer: Option<Arc<dyn Authorizer>>,
    node: Arc<str>,
    ca_subjects: Vec<Vec<u8>>,
}

impl Guard {
    pub(super) fn new(client: Option<&Client>, settings: &Settings, node: &str) -> Result<Self, Error> {
        let file = &settings.authentication.x509.client_ca_file;
        let bundle = if file.is_empty() {
            None
        } else {
            let pem =
                std::fs::read(file).map_err(|e| format!("unable to load client CA file {file}: {e}"))?;
            Some(CaBundle::from_pem(&pem).map_err(|e| format!("unable to load client CA file {file}: {e}"))?)
        };
        let ca_subjects = bundle.as_ref().map(|b| b.subjects().to_vec()).unwrap_or_default();
        let webhook = &settings.authentication.webhook;
        let tokens = match client.filter(|_| webhook.enabled) {
            Some(client) => {
                let reviews = TokenReviews::new(client, webhook.cache_ttl.to_std());
                Some(Arc::new(reviews) as Arc<dyn TokenAuthenticator>)
            }
            None => None,
        };
        let authentication = Authentication {
            client_ca: ArcSwapOption::from_pointee(bundle),
            front_proxy: ArcSwapOption::empty(),
            tokens,
            anonymous: settings.authentication.anonymous.enabled,
        };
        let authorizer: Option<Arc<dyn Authorizer>> = match (settings.authorization.mode.as_str(), client) {
            ("Webhook", Some(client)) => {
                let ttl = &settings.authorization.webhook;
                Some(Arc::new(AccessReviews::new(
                    client,
                    ttl.cache_authorized_ttl.to_std(),
                    ttl.cache_unauthorized_ttl.to_std(),
                )))
            }
            ("Webhook", None) => {
                return Err("no client provided, cannot use webhook authorization".into());
            }
            _ => {
                tracing::warn!(
                    "Authorization mode AlwaysAllow: everybody who can reach the kubelet may do everything"
                );
                None
            }
        };
        Ok(Self { authentication: Arc::new(authentication), authorizer, node: node.into(), ca_subjects })
    }

    pub(super) fn ca_subjects(&self) -> &[Vec<u8>] {
        &self.ca_subjects
    }

    /// The request, or the answer that refuses it.
    pub(super) async fn admit(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Request<Incoming>, Box<Response<Body>>> {
        let connection = request.extensions().get::<Arc<ConnInfo>>().cloned();
        let peer = connection.as_ref().and_then(|c| c.tls.as_ref()).map_or(&[][..], |t| &t.peer_certificates);
        let refuse = |code, text: &str| Err(Box::new(body::error(code, text)));
        let user = match self.authentication.authenticate(request.headers_mut(), peer).await {
            Ok(user) => user,
            Err(why) => {
                tracing::debug!(path = request.uri().path(), err = %why, "Unable to authenticate the request");
                return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
            }
        };
        let Some(authorizer) = &self.authorizer else { return Ok(request) };
        let path = request.uri().path();
        let verb = verb(request.method());
        let mut refused = String::new();
        for subresource in subresources(path) {
            let attributes = Attributes {
                user: user.clone(),
                verb: verb.to_owned(),
                api_version: "v1".to_owned(),
                resource: "nodes".to_owned(),
                subresource: subresource.to_owned(),
                name: self.node.to_string(),
                resource_request: true,
                path: path.to_owned(),
                ..Attributes::default()
            };
            let verdict = authorizer.authorize(&attributes).await;
            if verdict.allowed() {
                return Ok(request);
            }
            if let Some(error) = verdict.error {
                let text = format!(
                    "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                    user.name
                );
                tracing::error!(err = error, text, "Authorization failed with an error");
                return refuse(StatusCode::INTERNAL_SERVER_ERROR, &text);
            }
            refused = subresource.to_owned();
        }
        let shown = subresources(path).join(",");
        let shown = if shown.is_empty() { refused } else { shown };
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
            user.name,
            shown.replace(',', " ")
        );
        refuse(StatusCode::FORBIDDEN, &text)
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// Subresources any of which gives the right: a fine one where there is one, then the coarse one.
fn subresources(path: &str) -> Vec<&'static str> {
    let under =
        |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let mut out = Vec::new();
    for (root, fine) in
        [("/pods", "pods"), ("/runningpods", "pods"), ("/healthz", "healthz"), ("/configz", "configz")]
    {
        if under(root) {
            out.push(fine);
        }
    }
    let coarse = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    out.push(coarse.into_iter().find(|(root, _)| under(root)).map_or("proxy", |(_, name)| name));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights() {
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!(subresources("/runningpods/"), ["pods", "proxy"]);
        assert_eq!(subresources("/healthz/ping"), ["healthz", "proxy"]);
        assert_eq!(subresources("/stats/summary"), ["stats"]);
        assert_eq!(subresources("/metrics"), ["metrics"]);
        assert_eq!(subresources("/podsx"), ["proxy"]);
        assert_eq!(subresources("/exec/n/p/c"), ["proxy"]);
        assert_eq!(verb(&Method::POST), "create");
    }
}
