//! The server of a kubeconfig that is asked by POST: audit, token and authorization webhooks.
//! Upstream: `k8s.io/apiserver/pkg/util/webhook/webhook.go`.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Config, Error, Options, Request};
use component::duration::GoDuration;
use http::Method;

/// Attempts, the first included.
const ATTEMPTS: u32 = 5;
/// How much longer each wait is than the one before, and how much more chance adds.
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;

/// How long one attempt may take where nothing says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The server.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    client: Client,
    /// What follows the path of the server's URL, which is the whole path.
    rest: String,
    /// As failures name it.
    url: String,
}

impl Endpoint {
    /// Reads the kubeconfig; connects when something is sent. `timeout` is of one attempt.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub(crate) fn load(kubeconfig: &Path, timeout: Duration) -> Result<Self, String> {
        let config = Config::from_kubeconfig(kubeconfig).map_err(|e| e.to_string())?;
        let uri: http::Uri = config.server.parse().map_err(|e| format!("server {:?}: {e}", config.server))?;
        let path = if uri.path().trim_end_matches('/').is_empty() { "/" } else { "" };
        // As Go's client tells how long it waits.
        let rest = format!("{path}?timeout={}", GoDuration::from(timeout));
        let url = format!("{}{rest}", config.server.trim_end_matches('/'));
        let version = component::version::KUBERNETES;
        let options = Options {
            qps: -1.0,
            user_agent: client::user_agent("kube-apiserver", version, ""),
            timeout,
            ..Options::default()
        };
        Ok(Self { client: Client::new(config, options).map_err(|e| e.to_string())?, rest, url })
    }

    /// Sends JSON and reads the answer; again after a while, as long as `retry` says so of a failure.
    ///
    /// # Errors
    /// The failure of the last attempt, as Go's client words it.
    pub(crate) async fn post(
        &self,
        json: Bytes,
        initial_backoff: Duration,
        retry: impl Fn(&Error) -> bool + Send,
    ) -> Result<Bytes, String> {
        let request = Request::new(Method::POST, self.rest.as_str()).body("application/json", json);
        let mut wait = initial_backoff;
        for left in (0..ATTEMPTS).rev() {
            match self.client.call(&request).await {
                Ok(answer) => return Ok(answer.body),
                Err(error) if left == 0 || !retry(&error) => return Err(explain(&error, &self.url)),
                Err(_) => {}
            }
            tokio::time::sleep(wait.mul_f64(1.0 + JITTER * rand::random::<f64>())).await;
            wait = wait.mul_f64(FACTOR);
        }
        Err("no attempt was made".to_owned())
    }
}

/// A failure in the words of Go's HTTP client.
fn explain(error: &Error, url: &str) -> String {
    let why = match error {
        Error::Connect { reason, .. } if reason.starts_with("TLS: ") => reason.clone(),
        Error::Connect { server, reason, .. } => {
            let reason = reason.split(" (os error").next().unwrap_or_default().to_ascii_lowercase();
            format!("dial tcp {server}: connect: {reason}")
        }
        Error::Transport { reason, .. } => reason.clone(),
        Error::Timeout { .. } => "context deadline exceeded".to_owned(),
        other => return other.to_string(),
    };
    format!("Post {}: {why}", machinery::golang::quote(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures() {
        let refused = Error::Connect {
            verb: "POST".into(),
            url: "x".into(),
            server: "127.0.0.1:1".into(),
            reason: "Connection refused (os error 111)".into(),
        };
        let want =
            "Post \"https://127.0.0.1:1/x?timeout=1s\": dial tcp 127.0.0.1:1: connect: connection refused";
        assert_eq!(explain(&refused, "https://127.0.0.1:1/x?timeout=1s"), want);
    }
}
