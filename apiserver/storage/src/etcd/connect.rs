//! Endpoints, TLS files, and what the servers' version allows.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Channel, Client, ConnectOptions, Identity, TlsOptions};

use traces::Traces;

use super::error::interpret;
use super::spans::{self, Spans};
use super::{RELIABLE, UNRELIABLE};
use crate::error::{Error, Result};

/// Upstream's keep-alive: a dead server is noticed within 40 s.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Upstream's limit for a connection attempt.
const DIAL: Duration = Duration::from_secs(20);

/// How often the servers are asked whether they live, and how long they may take.
const PROBE: Duration = Duration::from_secs(2);

/// How to reach etcd.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// `http://`, `https://`, `unix://` URLs.
    pub endpoints: Vec<String>,
    /// `--etcd-cafile`.
    pub ca_file: Option<PathBuf>,
    /// `--etcd-certfile`.
    pub cert_file: Option<PathBuf>,
    /// `--etcd-keyfile`.
    pub key_file: Option<PathBuf>,
    /// `--etcd-prefix`, for the health check.
    pub prefix: String,
    /// `--etcd-compaction-interval`; zero for none.
    pub compaction: Duration,
    /// Where spans of calls go.
    pub traces: Option<Traces>,
}

impl EtcdOptions {
    /// Upstream's defaults for these endpoints.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            prefix: "/registry".into(),
            compaction: Duration::from_secs(300),
            traces: None,
        }
    }
}

/// Makes a client for all endpoints.
pub async fn connect(options: &EtcdOptions) -> Result<Client> {
    let settings = settings(options).await?;
    let server = spans::server(&options.endpoints);
    let spans = options.traces.as_ref().map(|traces| Spans { traces, server });
    let sockets = options.endpoints.iter().filter(|endpoint| endpoint.starts_with("unix:")).count();
    match options.endpoints.as_slice() {
        [] => Err(Error::Invalid("no etcd endpoint is given".into())),
        [socket] if sockets == 1 => {
            let invalid = |error| Error::Invalid(format!("the etcd endpoint {socket}: {error}"));
            let endpoint = tonic::transport::Endpoint::from_shared(socket.clone()).map_err(invalid)?;
            let endpoint = endpoint
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .connect_timeout(DIAL);
            let channel = match &spans {
                Some(spans) => spans.around(endpoint.connect_lazy()),
                None => Channel::Tonic(endpoint.connect_lazy()),
            };
            Client::from_channel(channel, Some(settings)).await.map_err(interpret)
        }
        _ if sockets > 0 => Err(Error::Invalid(
            "an etcd endpoint on a unix socket must be the only endpoint: a socket leads to one server on this machine"
                .into(),
        )),
        endpoints => match spans {
            Some(spans) => Client::connect_with_balanced_channel(endpoints, Some(settings), spans).await,
            None => Client::connect(endpoints, Some(settings)).await,
        }
        .map_err(interpret),
    }
}

async fn settings(options: &EtcdOptions) -> Result<ConnectOptions> {
    let settings = ConnectOptions::new()
        .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
        .with_connect_timeout(DIAL)
        .with_require_leader(true);
    let secure = options
        .endpoints
        .iter()
        .any(|endpoint| !endpoint.starts_with("http:") && !endpoint.starts_with("unix:"));
    let files = [&options.ca_file, &options.cert_file, &options.key_file].iter().any(|file| file.is_some());
    let https = options.endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
    // Endpoints without a scheme are secure when there are files, as upstream's client decides.
    if !(https || secure && files) {
        return Ok(settings);
    }
    let mut tls = TlsOptions::new();
    tls = match &options.ca_file {
        Some(file) => tls.ca_certificate(Certificate::from_pem(read(file).await?)),
        None => tls,
    };
    if let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) {
        tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?));
    }
    Ok(settings.with_tls(tls))
}

async fn read(file: &PathBuf) -> Result<Vec<u8>> {
    tokio::fs::read(file).await.map_err(|error| Error::io("reading the etcd TLS file", file, &error))
}

/// Finds out whether every server answers progress requests reliably, retrying until each has said its version.
pub async fn check_progress(options: EtcdOptions, outcome: Arc<AtomicU8>) {
    let mut pause = Duration::from_millis(10);
    let mut left = options.endpoints.clone();
    while let Some(endpoint) = left.last() {
        let one = EtcdOptions { endpoints: vec![endpoint.clone()], ..options.clone() };
        let version = match connect(&one).await {
            Ok(client) => version_of(&client).await,
            Err(error) => Err(error),
        };
        match version {
            Ok(version) if reliable(&version) => drop(left.pop()),
            Ok(version) => {
                tracing::info!(
                    endpoint,
                    version,
                    "this etcd does not answer progress requests reliably; consistent lists go to etcd"
                );
                outcome.store(UNRELIABLE, Ordering::Relaxed);
                return;
            }
            Err(error) => {
                tracing::debug!(endpoint, %error, "cannot ask etcd for its version yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(15));
            }
        }
    }
    outcome.store(RELIABLE, Ordering::Relaxed);
}

async fn version_of(client: &Client) -> Result<String> {
    let mut maintenance = client.maintenance_client();
    let status = tokio::time::timeout(PROBE, maintenance.status()).await;
    let status = status.map_err(|_| Error::Timeout("no status in time".into()))?;
    status.map(|status| status.version().to_owned()).map_err(interpret)
}

/// Takes servers that do not answer out of the balancer and puts them back when they do. The balancer by itself would
/// go on handing every second request to a dead server. When none answers, all stay in.
pub async fn balance(client: Client, options: EtcdOptions) {
    let mut out: BTreeSet<String> = BTreeSet::new();
    let mut probes = Vec::new();
    for endpoint in &options.endpoints {
        let one = EtcdOptions { endpoints: vec![endpoint.clone()], ..options.clone() };
        if let Ok(probe) = connect(&one).await {
            probes.push((endpoint, probe));
        }
    }
    loop {
        let mut dead = BTreeSet::new();
        for (endpoint, probe) in &probes {
            if version_of(probe).await.is_err() {
                dead.insert((*endpoint).clone());
            }
        }
        if dead.len() == options.endpoints.len() {
            dead.clear();
        }
        for endpoint in dead.difference(&out) {
            tracing::warn!(endpoint, "this etcd does not answer; using the others");
            drop(client.remove_endpoint(endpoint).await);
        }
        for endpoint in out.difference(&dead) {
            tracing::info!(endpoint, "this etcd answers again");
            drop(client.add_endpoint(endpoint).await);
        }
        out = dead;
        tokio::time::sleep(PROBE).await;
    }
}

/// Upstream's boundary (`pkg/storage/feature/feature_support_checker.go`): 3.4.31 and, for 3.5, 3.5.13.
fn reliable(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match version {
        v if v < (3, 5, 0) => v >= (3, 4, 31),
        v => v >= (3, 5, 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_reliable_from_upstreams_versions_on() {
        let table = [
            ("3.4.23", false),
            ("3.4.31", true),
            ("3.4.40", true),
            ("3.5.0", false),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0-rc.1", true),
            ("3.7.3", true),
            ("4.0.0", true),
            ("junk", false),
        ];
        for (version, expected) in table {
            assert_eq!(reliable(version), expected, "{version}");
        }
    }
}
