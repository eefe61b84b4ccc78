//! When a certificate is renewed, and doing it. Start reading at [`next_rotation`].
//!
//! What a serving certificate must name does not change while this kubelet runs, so there is no watch for such changes.
//! Upstream: client-go/util/certificate/certificate_manager.go and pkg/kubelet/certificate/transport.go, v1.37.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use client::Client;
use component::metrics::{Counter, Histogram};
use k8s_openapi::jiff::{SignedDuration, Timestamp, Zoned};
use parking_lot::Mutex;
use rcgen::KeyPair;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pair::{Leaf, Pair};
use super::request::{self, Request, Template};
use super::store::FileStore;

/// How long the API server may take to sign.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Pauses between attempts: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(32);
/// Without a certificate for so long, and with a server that answers, the process ends.
const EXIT_AFTER: Duration = Duration::from_secs(5 * 60);

/// The certificate in use.
pub type Current = Arc<ArcSwapOption<Pair>>;

/// What a certificate is for and where it goes.
pub struct Parts {
    /// Who signs.
    pub signer: &'static str,
    /// What it is good for.
    pub usages: [&'static str; 2],
    /// What it says.
    pub template: Template,
    /// Where it is kept.
    pub store: FileStore,
    /// Client to ask with, given whether there is a valid certificate.
    pub client: Box<dyn Fn(bool) -> Client + Send + Sync>,
    /// Told of every new certificate.
    pub deliver: Box<dyn Fn(&Pair) + Send + Sync>,
    /// Counts failed renewals.
    pub errors: Arc<Counter>,
    /// Ages of replaced certificates.
    pub ages: Option<Arc<Histogram>>,
}

/// Renews one certificate.
pub struct Manager {
    parts: Parts,
    current: Current,
    /// The first certificate is to be replaced at once.
    force: AtomicBool,
    /// The API server answered lately.
    server_healthy: AtomicBool,
    available: Mutex<Instant>,
}

/// True if the certificate says all that it should.
pub fn satisfies(leaf: &Leaf, template: &Template) -> bool {
    leaf.common_name == template.common_name
        && leaf.organizations.contains(&template.organization)
        && template.dns_names.iter().all(|name| leaf.dns_names.contains(name))
        && template.ips.iter().all(|ip| leaf.ips.contains(ip))
}

/// When the certificate is to be renewed: after 70 to 90 percent of its life (`jitter` from 0 to 1), or at once if it
/// does not say what it should.
pub fn next_rotation(leaf: Option<&Leaf>, template: &Template, jitter: f64, now: Timestamp) -> Timestamp {
    let Some(leaf) = leaf.filter(|leaf| satisfies(leaf, template)) else { return now };
    let life = leaf.not_before.duration_until(leaf.not_after);
    let part = life.mul_f64(0.7 + 0.2 * jitter);
    leaf.not_before.checked_add(part).unwrap_or(leaf.not_after)
}

impl Manager {
    /// Takes the pair on disk if it is valid; else `initial`, which is then replaced at once.
    ///
    /// # Errors
    /// If a pair on disk cannot be used.
    pub fn new(parts: Parts, initial: Option<Pair>, now: Timestamp) -> Result<Arc<Self>, String> {
        let stored = parts.store.current()?.filter(|pair| !pair.is_expired(now));
        let force = stored.is_none();
        if let Some(pair) = initial.as_ref().filter(|_| force)
            && let Err(error) = parts.store.update(&pair.cert, &pair.key, &Zoned::now())
        {
            tracing::error!(err = error, "Unable to set the cert/key pair to the bootstrap certificate");
        }
        let pair = stored.or(initial);
        if let Some(pair) = &pair {
            (parts.deliver)(pair);
        }
        Ok(Arc::new(Self {
            parts,
            current: Arc::new(ArcSwapOption::from_pointee(pair)),
            force: AtomicBool::new(force),
            server_healthy: AtomicBool::new(false),
            available: Mutex::new(Instant::now()),
        }))
    }

    /// The certificate in use.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// Renews until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let now = Timestamp::now();
            let current = self.current.load_full();
            let leaf = current.as_ref().map(|pair| &pair.leaf);
            let at = if self.force.swap(false, Ordering::Relaxed) {
                now
            } else {
                next_rotation(leaf, &self.parts.template, rand::random(), now)
            };
            let signer = self.parts.signer;
            tracing::debug!(signer, deadline = %at, "Certificate rotation deadline determined");
            if pause(now.duration_until(at).try_into().unwrap_or_default(), &stop).await {
                return;
            }
            let mut wait = FIRST_PAUSE;
            while let Err(error) = self.rotate(&stop).await {
                if stop.is_cancelled() {
                    return;
                }
                self.parts.errors.inc();
                tracing::error!(signer, err = error, "Unable to renew the certificate");
                if pause(wait.mul_f64(1.0 + rand::random::<f64>() / 10.0), &stop).await {
                    return;
                }
                wait = wait.saturating_mul(2).min(LAST_PAUSE);
            }
        }
    }

    async fn rotate(&self, stop: &CancellationToken) -> Result<(), String> {
        let parts = &self.parts;
        let key = KeyPair::generate().map_err(|e| format!("unable to generate a new private key: {e}"))?;
        let pem = parts.template.sign(&key)?;
        let valid = self.current.load().as_ref().is_some_and(|pair| !pair.is_expired(Timestamp::now()));
        let client = (parts.client)(valid);
        let request = Request { name: "", signer: parts.signer, usages: &parts.usages, pem: &pem };
        let (name, uid) = request::send(&client, &request).await.map_err(|error| {
            // An answer, whatever it says, comes from a server that lives.
            self.server_healthy.store(error.status().is_some(), Ordering::Relaxed);
            format!("cannot create certificate signing request: {error}")
        })?;
        self.server_healthy.store(true, Ordering::Relaxed);
        tracing::info!(csr = name, signer = parts.signer, "Certificate signing request created");
        let certificate = request::wait(&client, (&name, &uid), PATIENCE, stop)
            .await
            .map_err(|e| format!("certificate request was not signed: {e}"))?;
        let pair = parts
            .store
            .update(&certificate, key.serialize_pem().as_bytes(), &Zoned::now())
            .map_err(|e| format!("unable to store the new cert/key pair: {e}"))?;
        tracing::info!(csr = name, expiration = %pair.leaf.not_after, "Certificate rotated");
        (parts.deliver)(&pair);
        let old = self.current.swap(Some(Arc::new(pair)));
        *self.available.lock() = Instant::now();
        if let (Some(ages), Some(old)) = (&parts.ages, old) {
            let age = old.leaf.not_before.duration_until(Timestamp::now());
            ages.observe(age.as_secs_f64());
        }
        Ok(())
    }

    /// Ends with an error once there has been no valid certificate for long although the API server answers: who
    /// supervises the process then has a chance to provide new credentials.
    ///
    /// # Errors
    /// See above; `Ok` when `stop` comes first.
    pub async fn watch_over(self: Arc<Self>, stop: CancellationToken) -> Result<(), component::app::Error> {
        loop {
            let now = Timestamp::now();
            let (left, expires) = match self.current.load().as_ref() {
                Some(pair) => (now.duration_until(pair.leaf.not_after), true),
                None => {
                    let deadline = *self.available.lock() + EXIT_AFTER;
                    let left = deadline.saturating_duration_since(Instant::now());
                    (SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX), false)
                }
            };
            if left.is_positive() {
                // A new certificate moves the deadline; it is computed anew at the old one.
                if pause(left.try_into().unwrap_or(EXIT_AFTER), &stop).await {
                    return Ok(());
                }
                continue;
            }
            if self.server_healthy.load(Ordering::Relaxed) {
                return Err(if expires {
                    "The currently active client certificate has expired and the server is responsive, exiting."
                } else {
                    "No valid client certificate is found and the server is responsive, exiting."
                }
                .into());
            }
            tracing::error!(
                "There is no valid client certificate, but the server is not responsive. A restart may be necessary to retrieve new initial credentials."
            );
            if pause(LAST_PAUSE, &stop).await {
                return Ok(());
            }
        }
    }
}

/// True if `stop` came first.
async fn pause(length: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => false,
        () = stop.cancelled() => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf() -> Leaf {
        Leaf {
            not_before: Timestamp::from_second(1000).unwrap(),
            not_after: Timestamp::from_second(2000).unwrap(),
            common_name: "system:node:n".into(),
            organizations: ["system:nodes".to_owned()].into(),
            dns_names: ["n".to_owned()].into(),
            ips: ["10.0.0.1".parse().unwrap()].into(),
        }
    }

    #[test]
    fn rotates_in_time() {
        let template = Template {
            dns_names: vec!["n".into()],
            ips: vec!["10.0.0.1".parse().unwrap()],
            ..Template::of_node("n")
        };
        let now = Timestamp::from_second(1100).unwrap();
        let at = |leaf: Option<&Leaf>, jitter| next_rotation(leaf, &template, jitter, now).as_second();
        assert_eq!(at(None, 0.0), 1100);
        assert_eq!((at(Some(&leaf()), 0.0), at(Some(&leaf()), 1.0)), (1700, 1900));
        // A certificate that lacks something is replaced at once; one that says more is not.
        let mut fewer = leaf();
        fewer.ips.clear();
        assert_eq!(at(Some(&fewer), 0.0), 1100);
        let other = Leaf { common_name: "system:node:m".into(), ..leaf() };
        assert_eq!(at(Some(&other), 0.0), 1100);
        let mut more = leaf();
        more.dns_names.insert("alias".into());
        assert_eq!(at(Some(&more), 0.0), 1700);
    }
}
