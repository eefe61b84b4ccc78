//! Remembers verified tokens for a short time: signature checks and look-ups once per token, not once per request.
//! Upstream: `authentication/token/cache`, with the same times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auth::authenticator::{Outcome, TokenAuthenticator};
use parking_lot::Mutex;

use crate::reviewers::tokens::key;

/// How long a success is believed. Upstream: `TokenSuccessCacheTTL`.
const TTL: Duration = Duration::from_secs(10);
/// Most remembered tokens; beyond, the expired and then all are dropped.
const CAPACITY: usize = 32 << 10;

type Key = [u8; 32];

/// The cache around an authenticator. Failures are not remembered, so that a new token works at once.
pub(crate) struct TokenCache {
    inner: Arc<dyn TokenAuthenticator>,
    known: Mutex<HashMap<Key, (Instant, auth::authenticator::Authenticated)>>,
}

impl TokenCache {
    pub(crate) fn new(inner: Arc<dyn TokenAuthenticator>) -> Self {
        Self { inner, known: Mutex::default() }
    }
}

#[async_trait]
impl TokenAuthenticator for TokenCache {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Outcome {
        let key = key(token, audiences);
        if let Some((until, found)) = self.known.lock().get(&key)
            && Instant::now() < *until
        {
            return Ok(Some(found.clone()));
        }
        let outcome = self.inner.authenticate(token, audiences).await;
        if let Ok(Some(found)) = &outcome {
            let mut known = self.known.lock();
            if known.len() >= CAPACITY {
                let now = Instant::now();
                known.retain(|_, (until, _)| now < *until);
                if known.len() >= CAPACITY {
                    known.clear();
                }
            }
            known.insert(key, (Instant::now() + TTL, found.clone()));
        }
        outcome
    }
}
