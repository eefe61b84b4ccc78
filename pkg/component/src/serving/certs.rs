//! Serving certificates: a default pair and pairs by server name, replaced when their files change.
//!
//! Upstream: apiserver/pkg/server/dynamiccertificates/{tlsconfig,named_certificates}.go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

/// A certificate that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file cannot be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its text is no certificate or key.
    #[error("{path}: {why}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Certificate and key do not belong together.
    #[error("certificate {cert} and key {key} cannot be used together: {why}")]
    Mismatch {
        /// Certificate file.
        cert: PathBuf,
        /// Key file.
        key: PathBuf,
        /// Why.
        why: String,
    },
}

/// Where a pair comes from.
#[derive(Debug, Clone)]
pub enum CertSource {
    /// Two PEM files, watched.
    Files {
        /// Certificate chain.
        cert: PathBuf,
        /// Key.
        key: PathBuf,
        /// Names to serve; empty means those in the certificate.
        names: Vec<String>,
    },
    /// Two PEM texts.
    Memory {
        /// Certificate chain.
        cert: Vec<u8>,
        /// Key.
        key: Vec<u8>,
    },
}

impl CertSource {
    fn load(&self) -> Result<Pair, CertError> {
        match self {
            CertSource::Memory { cert, key } => {
                pair(cert, key, Path::new("<generated certificate>"), Path::new("<generated key>"), &[])
            }
            CertSource::Files { cert, key, names } => {
                let read = |path: &PathBuf| {
                    std::fs::read(path).map_err(|source| CertError::Read { path: path.clone(), source })
                };
                pair(&read(cert)?, &read(key)?, cert, key, names)
            }
        }
    }
}

#[derive(Debug)]
struct Pair {
    /// Names stated by the flag, else those of the certificate.
    names: Vec<String>,
    stated: bool,
    key: Arc<CertifiedKey>,
}

fn pair(
    cert: &[u8],
    key: &[u8],
    cert_path: &Path,
    key_path: &Path,
    names: &[String],
) -> Result<Pair, CertError> {
    let parse = |path: &Path, why: String| CertError::Parse { path: path.to_path_buf(), why };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|e| parse(cert_path, e.to_string()))?;
    let leaf = chain.first().ok_or_else(|| parse(cert_path, "no certificate in the file".into()))?;
    let own = names_of(leaf);
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| parse(key_path, e.to_string()))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(|e| CertError::Mismatch {
        cert: cert_path.to_path_buf(),
        key: key_path.to_path_buf(),
        why: e.to_string(),
    })?;
    let stated = !names.is_empty();
    let names = if stated { names.to_vec() } else { own };
    Ok(Pair { names: names.iter().map(|n| n.to_ascii_lowercase()).collect(), stated, key: Arc::new(key) })
}

/// Subject alternative names, or the common name when there is none.
fn names_of(leaf: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else { return Vec::new() };
    let mut names: Vec<String> = match parsed.subject_alternative_name() {
        Ok(Some(san)) => san
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(dns) => Some((*dns).to_string()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    if names.is_empty() {
        names.extend(parsed.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).map(String::from));
    }
    names
}

/// The certificates in use. Share it in an `Arc`.
#[derive(Debug)]
pub struct Certificates {
    sources: Vec<CertSource>,
    /// In the order of `sources`; the first is the default.
    pairs: ArcSwap<Vec<Pair>>,
}

impl Certificates {
    /// Loads the default pair and the pairs by name.
    ///
    /// # Errors
    /// The first pair that cannot be used.
    pub fn load(default: CertSource, by_name: Vec<CertSource>) -> Result<Arc<Self>, CertError> {
        let sources: Vec<CertSource> = std::iter::once(default).chain(by_name).collect();
        let pairs = sources.iter().map(CertSource::load).collect::<Result<_, _>>()?;
        Ok(Arc::new(Certificates { sources, pairs: ArcSwap::new(Arc::new(pairs)) }))
    }

    /// No pair at all: handshakes fail until [`Certificates::replace_default`] brings one.
    pub fn empty() -> Arc<Self> {
        Arc::new(Certificates { sources: Vec::new(), pairs: ArcSwap::default() })
    }

    /// Replaces the default pair, e.g. by a rotated one the daemon obtained itself.
    ///
    /// # Errors
    /// The pair cannot be used; the old one stays.
    pub fn replace_default(&self, cert: &[u8], key: &[u8]) -> Result<(), CertError> {
        let fresh = CertSource::Memory { cert: cert.to_vec(), key: key.to_vec() }.load()?;
        let fresh = Arc::new(fresh);
        self.pairs.rcu(|old| {
            let copy = |p: &Pair| Pair { names: p.names.clone(), stated: p.stated, key: p.key.clone() };
            std::iter::once(copy(&fresh)).chain(old.iter().skip(1).map(copy)).collect::<Vec<_>>()
        });
        Ok(())
    }

    fn reload(&self) {
        let loaded: Result<Vec<Pair>, CertError> = self.sources.iter().map(CertSource::load).collect();
        match loaded {
            Ok(pairs) => {
                self.pairs.store(Arc::new(pairs));
                tracing::info!("Serving certificates reloaded");
            }
            Err(error) => {
                tracing::error!(
                    err = &error as &dyn std::error::Error,
                    "Reloading serving certificates failed; the old ones stay"
                );
            }
        }
    }

    /// Reloads when files change, until `shutdown`.
    pub async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let paths: Vec<PathBuf> = self
            .sources
            .iter()
            .flat_map(|source| match source {
                CertSource::Files { cert, key, .. } => vec![cert.clone(), key.clone()],
                CertSource::Memory { .. } => Vec::new(),
            })
            .collect();
        if paths.is_empty() {
            return shutdown.cancelled().await;
        }
        crate::files::watch(paths, shutdown, move || self.reload()).await;
    }

    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let pairs = self.pairs.load();
        let name = name.to_ascii_lowercase();
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let has = |p: &&Pair, wanted: &str| p.names.iter().any(|n| n == wanted);
        let by_name = pairs.get(1..).unwrap_or_default();
        let pick = |wanted: &str| {
            // Stated names win over those found in certificates.
            let mut candidates: Vec<&Pair> = by_name.iter().filter(|p| has(p, wanted)).collect();
            candidates.sort_by_key(|p| !p.stated);
            candidates.first().map(|p| p.key.clone())
        };
        pick(&name)
            .or_else(|| wildcard.and_then(|w| pick(&w)))
            .or_else(|| pairs.first().map(|p| p.key.clone()))
    }
}

#[cfg(test)]
impl Certificates {
    pub(super) fn find_for_test(&self, name: &str) -> Arc<CertifiedKey> {
        self.find(name).unwrap()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name().unwrap_or_default())
    }
}
