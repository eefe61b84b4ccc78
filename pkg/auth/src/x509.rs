//! Client certificates: verified against the CA bundle per request, identity from CN, O and an own OID for the uid.
//!
//! The TLS handshake accepts any certificate, as upstream's does; what does not verify here is a 401.
//! Upstream: `k8s.io/apiserver/pkg/authentication/request/x509/x509.go`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::{Digest, Sha256};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::UserInfo;
use crate::authenticator::Rejected;

/// Extra key with a fingerprint of the credential. Upstream: `user.CredentialIDKey`.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Subject attribute that holds the uid. Upstream: feature `AllowParsingUserUIDFromCertAuth`.
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// A set of trusted CA certificates.
#[derive(Debug, Clone)]
pub struct CaBundle {
    anchors: Vec<TrustAnchor<'static>>,
    subjects: Vec<Vec<u8>>,
    pem: Vec<u8>,
}

/// A bundle that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// No PEM block of the right kind.
    #[error("data does not contain any valid RSA or ECDSA certificates")]
    Empty,
    /// A block that does not parse.
    #[error("certificate {index} of the bundle is not usable: {why}")]
    Bad {
        /// Position in the file, from 0.
        index: usize,
        /// What is wrong.
        why: String,
    },
}

/// A verified client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The identity it stands for, without `system:authenticated`.
    pub user: UserInfo,
    /// When the earliest certificate of the presented leaf stops being valid.
    pub not_after: SystemTime,
}

impl CaBundle {
    /// Reads a PEM bundle.
    ///
    /// # Errors
    /// When it holds no certificate, or one that cannot be a trust anchor.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BundleError> {
        let (mut anchors, mut subjects) = (Vec::new(), Vec::new());
        for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let bad = |why: String| BundleError::Bad { index, why };
            let der = der.map_err(|e| bad(e.to_string()))?;
            let anchor = anchor_from_trusted_cert(&der).map_err(|e| bad(e.to_string()))?.to_owned();
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| bad(e.to_string()))?;
            subjects.push(parsed.subject().as_raw().to_vec());
            anchors.push(anchor);
        }
        if anchors.is_empty() {
            return Err(BundleError::Empty);
        }
        Ok(Self { anchors, subjects, pem: pem.to_vec() })
    }

    /// DER subjects, for the hint list of a TLS certificate request.
    pub fn subjects(&self) -> &[Vec<u8>] {
        &self.subjects
    }

    /// The PEM text it was read from.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// Verifies a presented chain (leaf first) for client authentication.
    ///
    /// # Errors
    /// With the reason, for the log.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Verified, Rejected> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Rejected("no certificate presented".to_owned()));
        };
        let describe = |why: &dyn std::fmt::Display| {
            Rejected(format!("verifying certificate {} failed: {why}", name_of(leaf)))
        };
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let time = UnixTime::since_unix_epoch(since_epoch);
        let entity = EndEntityCert::try_from(leaf).map_err(|e| describe(&e))?;
        entity
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &self.anchors,
                intermediates,
                time,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(|e| describe(&e))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| describe(&e))?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Verified { user: user_of(leaf, &parsed)?, not_after: UNIX_EPOCH + Duration::from_secs(not_after) })
    }
}

/// Names a certificate for logs: subject, issuer, serial number.
fn name_of(der: &CertificateDer<'_>) -> String {
    match X509Certificate::from_der(der) {
        Ok((_, c)) => {
            format!("SN={}, Subject={}, Issuer={}", c.raw_serial_as_string(), c.subject(), c.issuer())
        }
        Err(_) => "(unparsable)".to_owned(),
    }
}

/// CN is the name, each O a group. Upstream: `x509.CommonNameUserConversion`.
fn user_of(der: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> Result<UserInfo, Rejected> {
    let text =
        |a: &x509_parser::x509::AttributeTypeAndValue<'_>| String::from_utf8_lossy(a.as_slice()).into_owned();
    let subject = parsed.subject();
    // Go keeps the last common name when there are several.
    let Some(name) = subject.iter_common_name().map(text).last().filter(|n| !n.is_empty()) else {
        return Err(Rejected("the certificate has no common name".to_owned()));
    };
    let groups = subject.iter_organization().map(text).collect();
    let mut uids = subject.iter_attributes().filter(|a| a.attr_type().to_id_string() == UID_OID).map(text);
    let uid = uids.next().unwrap_or_default();
    if uids.next().is_some() {
        return Err(Rejected("expected at most one uid attribute in the certificate subject".to_owned()));
    }
    let fingerprint = hex(&Sha256::digest(der));
    let extra = [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={fingerprint}")])].into();
    Ok(UserInfo { name, uid, groups, extra })
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        KeyUsagePurpose,
    };

    use super::*;

    fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    }

    fn client(issuer: &Issuer<'_, KeyPair>, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.extended_key_usages = vec![usage];
        params.signed_by(&key, issuer).unwrap().der().clone()
    }

    #[test]
    fn verifies_chain_and_reads_identity() {
        let (issuer, pem) = authority("ca");
        let bundle = CaBundle::from_pem(pem.as_bytes()).unwrap();
        let now = SystemTime::now();
        let good = client(&issuer, ExtendedKeyUsagePurpose::ClientAuth);
        let user = bundle.verify(&[good], now).unwrap().user;
        assert_eq!((user.name.as_str(), user.groups), ("jane", vec!["dev".to_owned()]));
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));

        let server_only = client(&issuer, ExtendedKeyUsagePurpose::ServerAuth);
        assert!(bundle.verify(&[server_only], now).is_err());
        let (stranger, _) = authority("other");
        assert!(bundle.verify(&[client(&stranger, ExtendedKeyUsagePurpose::ClientAuth)], now).is_err());
        assert!(bundle.verify(&[], now).is_err());
    }

    #[test]
    fn refuses_empty_bundle() {
        assert_eq!(CaBundle::from_pem(b"hello").unwrap_err(), BundleError::Empty);
    }
}
