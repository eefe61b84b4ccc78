//! Bearer tokens that somebody in this process renews.

use futures::future::BoxFuture;

use crate::config::Secret;

/// Hands out bearer tokens. Called for every request: implementations cache.
pub trait TokenProvider: std::fmt::Debug + Send + Sync {
    /// The token to use now; the error says why there is none.
    fn token(&self) -> BoxFuture<'_, Result<Secret, String>>;

    /// The server refused the last token.
    fn refused(&self);
}
