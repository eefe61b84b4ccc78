//! What a certificate that is issued may be used for, and how long. Pure.
//! Upstream: pkg/controller/certificates/authority/policies.go PermissiveSigningPolicy, signer/signer.go.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::controllers::certificates::request::Request;

/// Clocks of those who check may be late.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Certificates that live shorter keep their full time in spite of [`BACKDATE`].
const SHORT: SignedDuration = SignedDuration::from_hours(8);
/// Twice [`BACKDATE`], so that a certificate is of any use.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);

/// Names of usages and their bits, counted from the most significant of the first byte as in X.509.
const KEY_USAGES: &[(&str, u32)] = &[
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Names of extended usages, with their place in Go's order and their object identifiers.
const EXTENDED_USAGES: &[(&str, u8, &[u64])] = &[
    ("any", 0, &[2, 5, 29, 37, 0]),
    ("server auth", 1, &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", 2, &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", 3, &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", 4, &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", 4, &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", 5, &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", 6, &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", 7, &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", 8, &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", 9, &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", 10, &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", 11, &[2, 16, 840, 1, 113_730, 4, 1]),
];

/// The signers of this controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    KubeletServing,
    KubeletClient,
    ApiServerClient,
    LegacyUnknown,
}

impl Signer {
    pub const ALL: [Signer; 4] =
        [Signer::KubeletServing, Signer::KubeletClient, Signer::ApiServerClient, Signer::LegacyUnknown];

    /// As requests name it.
    pub fn name(self) -> &'static str {
        match self {
            Signer::KubeletServing => "kubernetes.io/kubelet-serving",
            Signer::KubeletClient => "kubernetes.io/kube-apiserver-client-kubelet",
            Signer::ApiServerClient => "kubernetes.io/kube-apiserver-client",
            Signer::LegacyUnknown => "kubernetes.io/legacy-unknown",
        }
    }

    /// The middle of the names of its flags.
    pub fn flag(self) -> &'static str {
        match self {
            Signer::KubeletServing => "kubelet-serving",
            Signer::KubeletClient => "kubelet-client",
            Signer::ApiServerClient => "kube-apiserver-client",
            Signer::LegacyUnknown => "legacy-unknown",
        }
    }

    /// The signer issues such certificates.
    ///
    /// # Errors
    /// What is against it.
    pub fn check(self, request: &Request, usages: &[String]) -> Result<(), String> {
        match self {
            Signer::KubeletServing => request.check_kubelet_serving(usages),
            Signer::KubeletClient => request.check_kubelet_client(usages),
            Signer::ApiServerClient => check_client(usages),
            Signer::LegacyUnknown => Ok(()),
        }
    }
}

fn check_client(usages: &[String]) -> Result<(), String> {
    const OPTIONAL: &[&str] = &["digital signature", "key encipherment"];
    if let Some(other) = usages.iter().find(|u| *u != "client auth" && !OPTIONAL.contains(&u.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if usages.iter().any(|u| u == "client auth") {
        return Ok(());
    }
    Err("missing required usage for client certificate: client auth".to_string())
}

/// How long a certificate lives: as asked for, within limits.
pub fn duration(asked: Option<i32>, longest: SignedDuration) -> SignedDuration {
    match asked.map(|s| SignedDuration::from_secs(i64::from(s))) {
        Some(asked) if asked <= longest => asked.max(SHORTEST),
        _ => longest,
    }
}

/// What the policy adds to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Bits as in X.509, the first usage in the most significant bit of 16.
    pub key_usage: u16,
    /// Object identifiers.
    pub extended: Vec<&'static [u64]>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Decides. `signer_end` is when the signer's own certificate ends.
///
/// # Errors
/// A usage is unknown, or the signer's time is over.
pub fn terms(
    usages: &[String],
    ttl: SignedDuration,
    signer_end: Timestamp,
    now: Timestamp,
) -> Result<Terms, String> {
    let (mut key_usage, mut extended, mut unknown) = (0u16, BTreeSet::new(), Vec::new());
    for usage in usages {
        if let Some((_, bit)) = KEY_USAGES.iter().find(|(name, _)| name == usage) {
            key_usage |= 0x8000 >> bit;
        } else if let Some((_, place, oid)) = EXTENDED_USAGES.iter().find(|(name, ..)| name == usage) {
            extended.insert((*place, *oid));
        } else {
            unknown.push(format!("{usage:?}"));
        }
    }
    if !unknown.is_empty() {
        return Err(format!("unrecognized usage values: [{}]", unknown.join(" ")));
    }
    let late = |e: jiff::Error| format!("the certificate's time is out of range: {e}");
    let not_before = now.checked_sub(BACKDATE).map_err(late)?;
    let lives = if ttl < SHORT { ttl } else { ttl - BACKDATE };
    let not_after = now.checked_add(lives).map_err(late)?.min(signer_end);
    if not_before >= signer_end {
        return Err(format!("the signer has expired: NotAfter={signer_end}"));
    }
    if now >= signer_end {
        return Err(format!(
            "refusing to sign a certificate that expired in the past: NotAfter={signer_end}"
        ));
    }
    Ok(Terms {
        key_usage,
        extended: extended.into_iter().map(|(_, oid)| oid).collect(),
        not_before,
        not_after,
    })
}
