//! A serving certificate of our own, when no files are given: made once under `--cert-dir` and kept.
//! Upstream: `k8s.io/apiserver/pkg/server/options/serving.go` `MaybeDefaultWithSelfSignedCerts`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// The directory or its files.
    #[error("unable to write the self-signed serving certificate below {dir}: {source}")]
    Write {
        /// `--cert-dir`
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Making it.
    #[error("unable to generate a self-signed serving certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

/// Paths of certificate and key; both are made when one is missing.
pub(crate) fn pair(
    dir: &Path,
    host: IpAddr,
    addresses: &[IpAddr],
) -> Result<(PathBuf, PathBuf), SelfSignedError> {
    let (certificate, key) = (dir.join("apiserver.crt"), dir.join("apiserver.key"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, host.to_string());
    for name in ["kubernetes.default.svc", "kubernetes.default", "kubernetes", "localhost"] {
        params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name)?));
    }
    params.subject_alt_names.push(SanType::IpAddress(host));
    params.subject_alt_names.extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let text = params.self_signed(&pair)?.pem();
    let failed = |source| SelfSignedError::Write { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    std::fs::write(&certificate, text).map_err(failed)?;
    write_private(&key, &pair.serialize_pem()).map_err(failed)?;
    Ok((certificate, key))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
