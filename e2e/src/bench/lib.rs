//! What benchmarks and fault tests of single daemons share: the daemon's process ([`daemon`]), nodes without a machine
//! behind them ([`hollow`]), and calls to the API server they stand under, which is upstream's.

pub mod daemon;
pub mod frames;
pub mod hollow;
pub mod proxy;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Client, Config, Options as ClientOptions};
use k8s_openapi::api::core::v1::Namespace;
use serde::de::DeserializeOwned;
use serde_json::Value;
use testing::upstream::{self, ControlPlane};
use tokio::task::JoinSet;

/// Requests under way at a time.
const WRITERS: usize = 32;
/// Flags of a daemon whose requests are not throttled.
pub const UNTHROTTLED: [&str; 2] = ["--kube-api-qps=100000", "--kube-api-burst=100000"];
/// Flags of an API server that throttles nobody.
pub const BUSY: [&str; 3] = [
    "--max-requests-inflight=4000",
    "--max-mutating-requests-inflight=2000",
    "--enable-priority-and-fairness=false",
];
/// Longest time for a case.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// What a daemon runs under, and the daemon on both sides.
pub struct Ground {
    pub ours: PathBuf,
    pub theirs: PathBuf,
    pub kubeconfig: PathBuf,
    pub client: Client,
    /// Dropping it ends the API server.
    _plane: ControlPlane,
}

impl Ground {
    /// Starts upstream's API server with these flags. `OURS` names our program, `CORTEN_UPSTREAM_BIN` the folder of
    /// upstream's.
    ///
    /// # Errors
    /// When a variable is missing or the API server does not come up.
    pub async fn start(daemon: &str, flags: &[&str]) -> Result<Self> {
        let ours = std::env::var("OURS").with_context(|| format!("OURS names our {daemon}"))?;
        let folder =
            upstream::binaries().context("CORTEN_UPSTREAM_BIN names the folder of upstream's binaries")?;
        let plane = ControlPlane::start(flags).context("no binaries")??;
        let kubeconfig = plane.kubeconfig()?;
        let client = connect(&kubeconfig).await?;
        Ok(Self { ours: ours.into(), theirs: folder.join(daemon), kubeconfig, client, _plane: plane })
    }
}

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
async fn connect(kubeconfig: &Path) -> Result<Client> {
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
