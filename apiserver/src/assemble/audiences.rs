//! Tokens that know no audiences are good for the server's own.
//! Upstream: `k8s.io/apiserver/pkg/authentication/authenticator/audagnostic.go`.

use std::sync::Arc;

use async_trait::async_trait;
use auth::authenticator::{Outcome, TokenAuthenticator};

/// An authenticator that knows no audiences.
pub(crate) struct AudienceAgnostic {
    /// `--api-audiences`
    pub(crate) own: Vec<String>,
    /// The authenticator.
    pub(crate) inner: Arc<dyn TokenAuthenticator>,
}

#[async_trait]
impl TokenAuthenticator for AudienceAgnostic {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Outcome {
        if audiences.is_empty() {
            return self.inner.authenticate(token, audiences).await;
        }
        let common: Vec<String> = self.own.iter().filter(|a| audiences.contains(a)).cloned().collect();
        if common.is_empty() {
            return Ok(None);
        }
        let found = self.inner.authenticate(token, audiences).await?;
        Ok(found.map(|mut found| {
            found.audiences = common;
            found
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn common_audiences() {
        let file = auth::tokens::TokenFile::parse("secret,name,uid").unwrap();
        let own = vec!["api".to_owned(), "other".to_owned()];
        let tokens = AudienceAgnostic { own, inner: Arc::new(file) };
        let ask = async |audiences: &[&str]| {
            let audiences: Vec<String> = audiences.iter().map(|a| (*a).to_owned()).collect();
            tokens.authenticate("secret", &audiences).await.unwrap().map(|found| found.audiences)
        };
        assert_eq!(ask(&["x", "other"]).await, Some(vec!["other".to_owned()]));
        assert_eq!(ask(&["x"]).await, None);
        assert_eq!(ask(&[]).await, Some(vec![]));
    }
}
