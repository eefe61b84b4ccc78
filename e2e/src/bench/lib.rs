//! What benchmarks and fault tests of single daemons share: the daemon's process ([`daemon`]), nodes without a machine
//! behind them ([`hollow`]), and calls to the API server they stand under, which is upstream's.

pub mod daemon;
pub mod frames;
pub mod hollow;
pub mod proxy;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use client::{Client, Config, Options as ClientOptions};
use k8s_openapi::api::core::v1::Namespace;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinSet;

/// Requests under way at a time.
const WRITERS: usize = 32;
/// Longest time for a case.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// A number from the environment.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// An object of a type from its JSON.
///
/// # Errors
/// When it does not fit.
pub fn object<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

/// Waits until the API server answers.
///
/// # Errors
/// When it does not, in time.
pub async fn connect(kubeconfig: &Path) -> Result<Client> {
    let options = ClientOptions { qps: -1.0, ..ClientOptions::default() };
    let client = Client::new(Config::from_kubeconfig(kubeconfig)?, options)?;
    let end = Instant::now() + PATIENCE;
    // The default namespace is the last thing a new control plane makes.
    while client.all::<Namespace>().get("default").await.is_err() {
        if Instant::now() > end {
            bail!("the API server did not answer in time");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(client)
}

/// Runs writes, a limited number at a time.
///
/// # Errors
/// The first that fails.
pub async fn at_once<F: Future<Output = Result<()>> + Send + 'static>(
    writes: impl Iterator<Item = F>,
) -> Result<()> {
    let mut running = JoinSet::new();
    for write in writes {
        if running.len() >= WRITERS
            && let Some(done) = running.join_next().await
        {
            done??;
        }
        running.spawn(write);
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}
