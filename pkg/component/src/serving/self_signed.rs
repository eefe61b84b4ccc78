//! A self-signed serving certificate for a daemon that was given none.
//! Upstream: client-go/util/cert GenerateSelfSignedCertKey. Differs: the key is P-256 and not RSA, because it is made in
//! a millisecond and every TLS client of the last decade takes it.

use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::certs::CertSource;

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// The certificate library refuses.
    #[error("unable to generate self signed cert: {0}")]
    Generate(#[from] rcgen::Error),
    /// A file cannot be written.
    #[error("writing {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// PEM texts of a chain (leaf, then its CA) and of the key.
///
/// # Errors
/// The host is no valid name.
pub fn generate(host: &str, ips: &[IpAddr], names: &[String]) -> Result<(String, String), SelfSignedError> {
    let now = time_now();
    let year = now + std::time::Duration::from_secs(365 * 24 * 3600);
    let stamp = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let named = |suffix: &str| {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, format!("{host}{suffix}@{stamp}"));
        name
    };
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name = named("-ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    // An hour back, for clients whose clock is slow; upstream's figure.
    ca.not_before = (now - std::time::Duration::from_secs(3600)).into();
    ca.not_after = year.into();
    let ca_certificate = ca.self_signed(&ca_key)?;

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = named("");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.not_before = ca.not_before;
    leaf.not_after = ca.not_after;
    match host.parse::<IpAddr>() {
        Ok(ip) => leaf.subject_alt_names.push(SanType::IpAddress(ip)),
        Err(_) => leaf.subject_alt_names.push(SanType::DnsName(host.try_into()?)),
    }
    for ip in ips {
        leaf.subject_alt_names.push(SanType::IpAddress(*ip));
    }
    for name in names.iter().filter(|n| *n != host) {
        leaf.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    let issuer = Issuer::new(ca, ca_key);
    let certificate = leaf.signed_by(&key, &issuer)?;
    Ok((certificate.pem() + &ca_certificate.pem(), key.serialize_pem()))
}

fn time_now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// The pair in `directory`, made if it is not there; in memory when `directory` is empty.
///
/// # Errors
/// It cannot be made or written.
pub fn in_directory(
    directory: &str,
    name: &str,
    host: &str,
    ips: &[IpAddr],
    names: &[String],
) -> Result<CertSource, SelfSignedError> {
    if directory.is_empty() {
        let (cert, key) = generate(host, ips, names)?;
        tracing::info!("Generated self-signed cert in-memory");
        return Ok(CertSource::Memory { cert: cert.into_bytes(), key: key.into_bytes() });
    }
    let cert = Path::new(directory).join(format!("{name}.crt"));
    let key = Path::new(directory).join(format!("{name}.key"));
    if !(cert.exists() && key.exists()) {
        let (cert_pem, key_pem) = generate(host, ips, names)?;
        write(&cert, &cert_pem, 0o644)?;
        write(&key, &key_pem, 0o600)?;
        tracing::info!(cert = %cert.display(), key = %key.display(), "Generated self-signed cert");
    }
    Ok(CertSource::Files { cert, key, names: Vec::new() })
}

/// Writes beside the file and renames, so that a reader never sees half of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), SelfSignedError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let go = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let temporary = path.with_extension(format!("tmp{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    go().map_err(|source| SelfSignedError::Write { path: path.display().to_string(), source })
}
