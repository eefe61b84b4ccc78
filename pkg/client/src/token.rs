//! A bearer token in a file that is renewed by somebody else.
//! Upstream: client-go/transport/token_source.go (period 1 min, leeway 10 s).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Secret;

/// How long a token is used before the file is read again.
const PERIOD: Duration = Duration::from_secs(50);

#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    cached: Mutex<Option<(Instant, Secret)>>,
}

impl TokenFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, cached: Mutex::new(None) }
    }

    /// The token; an unreadable file leaves the previous token in use.
    pub fn token(&self) -> Result<Secret, String> {
        let mut cached = self.cached.lock();
        if let Some((read, token)) = cached.as_ref().filter(|(read, _)| read.elapsed() < PERIOD) {
            let _ = read;
            return Ok(token.clone());
        }
        match std::fs::read_to_string(&self.path).map(|t| t.trim().to_string()) {
            Ok(text) if !text.is_empty() => {
                let token = Secret(text);
                *cached = Some((Instant::now(), token.clone()));
                Ok(token)
            }
            other => {
                let reason = other.map_or_else(|e| e.to_string(), |_| "it is empty".to_string());
                match cached.as_mut() {
                    Some((read, token)) => {
                        tracing::warn!(path = %self.path.display(), reason, "unable to rotate token");
                        *read = Instant::now();
                        Ok(token.clone())
                    }
                    None => Err(format!("failed to read token file {:?}: {reason}", self.path)),
                }
            }
        }
    }

    /// The server refused the token: read again at once.
    pub fn refused(&self) {
        *self.cached.lock() = None;
    }
}
