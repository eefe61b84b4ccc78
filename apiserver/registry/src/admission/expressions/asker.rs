//! Questions of expressions to the server's authorizer.

use std::sync::Arc;

use auth::UserInfo;
use auth::authorizer::{Attributes as AuthzAttributes, Authorizer, Decision};
use cel::authz::{self, Query, Subject};
use futures::FutureExt;

use crate::api::RequestContext;

/// Asks the server's authorizer on behalf of a user.
pub struct Asker {
    authorizer: Arc<dyn Authorizer>,
    user: Arc<UserInfo>,
}

impl Asker {
    /// For the user of a request.
    pub fn new(authorizer: Arc<dyn Authorizer>, request: &RequestContext) -> Self {
        Asker { authorizer, user: request.user.clone() }
    }
}

impl authz::Authorizer for Asker {
    fn authorize(&self, subject: &Subject, query: &Query, verb: &str) -> authz::Decision {
        let user = match subject {
            Subject::Requester => self.user.clone(),
            Subject::ServiceAccount { namespace, name } => {
                let mut user = UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &[]);
                user.groups = auth::service_account_groups(namespace);
                user.groups.push(auth::ALL_AUTHENTICATED.to_owned());
                Arc::new(user)
            }
        };
        let mut attributes = AuthzAttributes { user, verb: verb.to_owned(), ..AuthzAttributes::default() };
        match query {
            Query::Path { path } => attributes.path.clone_from(path),
            Query::Resource(q) => {
                attributes.resource_request = true;
                attributes.api_group.clone_from(&q.group);
                attributes.api_version = "*".to_owned();
                attributes.resource.clone_from(&q.resource);
                attributes.subresource.clone_from(&q.subresource);
                attributes.namespace.clone_from(&q.namespace);
                attributes.name.clone_from(&q.name);
            }
        }
        // The authorizers decide from memory: they never wait.
        let Some(verdict) = self.authorizer.authorize(&attributes).now_or_never() else {
            let error = Some("the authorizer could not decide at once".to_owned());
            return authz::Decision { allowed: false, reason: String::new(), error };
        };
        authz::Decision {
            allowed: verdict.decision == Decision::Allow,
            reason: verdict.reason,
            error: verdict.error,
        }
    }
}
