//! Authentication and authorization of a daemon's own port, delegated to the API server.
//!
//! A request is known by front-proxy headers, a client certificate, or a bearer token (TokenReview); what it may do is
//! asked by SubjectAccessReview. Answers are cached for the times the flags state. Start at [`Guard`].
//! Upstream: apiserver/pkg/server/options/{authentication,authorization}.go, plugin/pkg/auth*/webhook.

mod access;
mod cache;
mod identity;
mod lookup;

use std::sync::Arc;

use auth::authorizer::{Attributes, Authorizer};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;

pub use access::{AccessReviews, AlwaysAllowPaths};
pub use identity::{Authentication, AuthenticationOptions, TokenReviews, Unauthorized};
pub use lookup::ClusterSettings;

use crate::serving::body::{self, Body};
use crate::serving::{ConnInfo, Mux};
use crate::zpages::failure;

/// Lets requests through to a router once they are known and allowed.
#[derive(Clone)]
pub struct Guard {
    /// Who asks.
    pub authentication: Arc<Authentication>,
    /// What they may do.
    pub authorizer: Arc<dyn Authorizer>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// Answers one request of a router: 401, 403 or the router's answer. The user is an `Arc<UserInfo>` extension.
    pub async fn serve(&self, mut request: Request<Incoming>, mux: &Mux) -> Response<Body> {
        let connection = request.extensions().get::<Arc<ConnInfo>>().cloned();
        let peer = connection.as_ref().and_then(|c| c.tls.as_ref()).map_or(&[][..], |t| &t.peer_certificates);
        let user = match self.authentication.authenticate(request.headers_mut(), peer).await {
            Ok(user) => user,
            Err(why) => {
                crate::v!(2, path = request.uri().path(), err = %why, "Unable to authenticate the request");
                return failure(request.headers(), StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
            }
        };
        let attributes = Attributes {
            user: user.clone(),
            verb: request.method().as_str().to_ascii_lowercase(),
            path: request.uri().path().to_string(),
            ..Attributes::default()
        };
        let verdict = self.authorizer.authorize(&attributes).await;
        if !verdict.allowed() {
            if let Some(error) = verdict.error {
                tracing::error!(path = attributes.path, err = error, "Authorization failed with an error");
                let text =
                    format!("Internal Server Error: {}: {error}", machinery::golang::quote(&attributes.path));
                return body::error(StatusCode::INTERNAL_SERVER_ERROR, &text);
            }
            return forbidden(request.headers(), &attributes, &verdict.reason);
        }
        request.extensions_mut().insert(user);
        mux.call(request.map(body::boxed)).await
    }

    /// The service closure of [`crate::serving::serve`].
    pub fn service(
        self,
        mux: Arc<Mux>,
    ) -> impl Fn(Request<Incoming>) -> futures::future::BoxFuture<'static, Response<Body>>
    + Clone
    + Send
    + Sync
    + 'static {
        move |request| {
            let (guard, mux) = (self.clone(), mux.clone());
            Box::pin(async move { guard.serve(request, &mux).await })
        }
    }
}

/// Upstream: apiserver/pkg/endpoints/handlers/responsewriters/errors.go.
fn forbidden(headers: &HeaderMap, attributes: &Attributes, reason: &str) -> Response<Body> {
    let quoted = machinery::golang::quote;
    let (name, path) = (quoted(&attributes.user.name), quoted(&attributes.path));
    let mut message = format!("forbidden: User {name} cannot {} path {path}", attributes.verb);
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    failure(headers, StatusCode::FORBIDDEN, "Forbidden", &message)
}

/// Serves a router without asking anybody, for plain health ports.
pub fn open_service(
    mux: Arc<Mux>,
) -> impl Fn(Request<Incoming>) -> futures::future::BoxFuture<'static, Response<Body>>
+ Clone
+ Send
+ Sync
+ 'static {
    move |request| {
        let mux = mux.clone();
        Box::pin(async move { mux.call(request.map(body::boxed)).await })
    }
}

#[cfg(test)]
mod tests;
