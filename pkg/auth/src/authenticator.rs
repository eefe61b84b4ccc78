//! What an authenticator is asked and what it answers.
//! Upstream: `k8s.io/apiserver/pkg/authentication/{authenticator,group,union}`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::UserInfo;

/// A recognised identity and, for tokens, the audiences it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Who it is.
    pub user: Arc<UserInfo>,
    /// Audiences the token and the caller have in common; empty when audiences do not apply.
    pub audiences: Vec<String>,
}

/// Credentials that were presented and are wrong. The text is logged, never shown to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(pub String);

/// `Ok(None)` means: not my kind of credentials.
pub type Outcome = Result<Option<Authenticated>, Rejected>;

/// Recognises bearer tokens.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync + 'static {
    /// Checks one token for a caller that accepts any of `audiences` (all, when empty).
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Outcome;
}

/// Asks several token authenticators; the first that recognises the token answers, errors are joined.
pub struct TokenUnion(pub Vec<Arc<dyn TokenAuthenticator>>);

#[async_trait]
impl TokenAuthenticator for TokenUnion {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Outcome {
        let mut errors = Vec::new();
        for authenticator in &self.0 {
            match authenticator.authenticate(token, audiences).await {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => errors.push(error.0),
            }
        }
        match errors.len() {
            0 => Ok(None),
            1 => Err(Rejected(errors.remove(0))),
            _ => Err(Rejected(format!("[{}]", errors.join(", ")))),
        }
    }
}

/// Adds `system:authenticated` unless the user is anonymous or has it.
/// Upstream: `group.AuthenticatedGroupAdder`.
pub fn with_authenticated_group(mut user: UserInfo) -> UserInfo {
    use crate::user::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS};
    let settled = user.name == ANONYMOUS
        || user.groups.iter().any(|g| g == ALL_UNAUTHENTICATED || g == ALL_AUTHENTICATED);
    if !settled {
        user.groups.push(ALL_AUTHENTICATED.to_owned());
    }
    user
}
