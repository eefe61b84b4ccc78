//! A certificate chain with its key, and what the certificate says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// The subject's name.
    pub common_name: String,
    /// The subject's organizations.
    pub organizations: BTreeSet<String>,
    /// Names of hosts.
    pub dns_names: BTreeSet<String>,
    /// Addresses of hosts.
    pub ips: BTreeSet<IpAddr>,
}

/// A chain and its key in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The chain, the leaf first.
    pub cert: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
    /// The first certificate's content.
    pub leaf: Leaf,
}

impl Pair {
    /// Reads both texts; they may be one and the same.
    ///
    /// # Errors
    /// If there is no certificate or no key in them.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(cert)
            .collect::<Result<_, _>>()
            .map_err(|e| format!("invalid certificate data: {e}"))?;
        let first = chain.first().ok_or("no cert/key data found")?;
        PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("invalid key data: {e}"))?;
        Ok(Self { leaf: read_leaf(first)?, cert: cert.to_vec(), key: key.to_vec() })
    }

    /// True once the certificate is no longer valid.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.leaf.not_after
    }
}

fn read_leaf(der: &[u8]) -> Result<Leaf, String> {
    let failed = |e: String| format!("unable to parse certificate data: {e}");
    let (_, cert) = x509_parser::parse_x509_certificate(der).map_err(|e| failed(e.to_string()))?;
    let at = |seconds| Timestamp::from_second(seconds).map_err(|e| failed(e.to_string()));
    let mut leaf = Leaf {
        not_before: at(cert.validity().not_before.timestamp())?,
        not_after: at(cert.validity().not_after.timestamp())?,
        common_name: cert.subject().iter_common_name().filter_map(|n| n.as_str().ok()).collect(),
        organizations: (cert.subject().iter_organization())
            .filter_map(|n| n.as_str().ok().map(str::to_owned))
            .collect(),
        dns_names: BTreeSet::new(),
        ips: BTreeSet::new(),
    };
    let names = cert.subject_alternative_name().map_err(|e| failed(e.to_string()))?;
    for name in names.iter().flat_map(|n| &n.value.general_names) {
        match name {
            GeneralName::DNSName(name) => drop(leaf.dns_names.insert((*name).to_owned())),
            GeneralName::IPAddress(bytes) => leaf.ips.extend(address(bytes)),
            _ => {}
        }
    }
    Ok(leaf)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}
