//! TLS versions, cipher suites and curves by the names and numbers that Go and so the flags use.
//!
//! The TLS library has neither TLS 1.0/1.1 nor CBC, RC4 or static RSA suites: known names of these are accepted, told
//! apart from unknown ones, and simply not offered. Upstream: component-base/cli/flag/{ciphersuites,curves}_flag.go.

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::{CipherSuite, ProtocolVersion, SupportedProtocolVersion};

/// What `--tls-*` asks for.
#[derive(Debug, Clone, Default)]
pub struct TlsParameters {
    /// `--tls-min-version`; empty is TLS 1.2.
    pub min_version: String,
    /// `--tls-cipher-suites`; empty is the default.
    pub cipher_suites: Vec<String>,
    /// `--tls-curve-preferences`; empty is the default.
    pub curves: Vec<i64>,
}

/// Go's names of suites the library has.
const SUITES: &[(&str, CipherSuite)] = &[
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Suites Go knows and the library lacks.
const LACKING: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// Go's CurveIDs the library has, and those only Go has.
fn group(id: i64) -> Option<Option<&'static dyn SupportedKxGroup>> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP256R1MLKEM768, SECP384R1, X25519, X25519MLKEM768};
    Some(Some(match id {
        23 => SECP256R1,
        24 => SECP384R1,
        29 => X25519,
        4587 => SECP256R1MLKEM768,
        4588 => X25519MLKEM768,
        25 | 4589 => return Some(None),
        _ => return None,
    }))
}

impl TlsParameters {
    /// From the shared flags; flags the daemon lacks count as empty.
    pub fn from_flags(flags: &crate::flags::FlagSet) -> Self {
        let curves =
            if flags.has("tls-curve-preferences") { flags.list("tls-curve-preferences") } else { &[] };
        TlsParameters {
            min_version: flags.string("tls-min-version").to_string(),
            cipher_suites: flags.list("tls-cipher-suites").to_vec(),
            curves: curves.iter().filter_map(|c| c.parse().ok()).collect(),
        }
    }

    /// The versions to speak.
    ///
    /// # Errors
    /// Upstream's text for an unknown version.
    pub fn versions(&self) -> Result<&'static [&'static SupportedProtocolVersion], String> {
        use rustls::version::{TLS12, TLS13};
        static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        static NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];
        match self.min_version.as_str() {
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(BOTH),
            "VersionTLS13" => Ok(NEWEST),
            other => Err(format!("unknown tls version {}", machinery::golang::quote(other))),
        }
    }

    /// The crypto provider reduced to what was asked for.
    ///
    /// # Errors
    /// Upstream's texts for unknown names; our own when nothing usable remains.
    pub fn provider(&self) -> Result<CryptoProvider, String> {
        let mut provider = aws_lc_rs::default_provider();
        if !self.cipher_suites.is_empty() {
            let mut wanted = Vec::new();
            for name in &self.cipher_suites {
                match SUITES.iter().find(|(n, _)| n == name) {
                    Some((_, suite)) => wanted.push(*suite),
                    None if LACKING.contains(&name.as_str()) => {
                        tracing::warn!(
                            suite = name.as_str(),
                            "Cipher suite is not offered: the TLS library lacks it"
                        );
                    }
                    None => return Err(format!("Cipher suite {name} not supported or doesn't exist")),
                }
            }
            // As in Go, the list governs TLS 1.2 only.
            provider
                .cipher_suites
                .retain(|s| s.version().version == ProtocolVersion::TLSv1_3 || wanted.contains(&s.suite()));
        }
        if !self.curves.is_empty() {
            let mut wanted: Vec<&'static dyn SupportedKxGroup> = Vec::new();
            for (at, &id) in self.curves.iter().enumerate() {
                if !(1..=65535).contains(&id) {
                    return Err(format!("curve preference {id} is out of range (must be 1-65535)"));
                }
                if self.curves[..at].contains(&id) {
                    return Err(format!("duplicate curve preference {id}"));
                }
                match group(id) {
                    Some(found) => wanted.extend(found),
                    None => {
                        return Err(format!(
                            "curve preference {id} is not supported by the current Go version"
                        ));
                    }
                }
            }
            if wanted.is_empty() {
                return Err("none of the curve preferences is offered by the TLS library; use 23, 24, 29, 4587 or 4588".into());
            }
            // Go picks by its own order; so does the provider's list.
            let order = aws_lc_rs::DEFAULT_KX_GROUPS.iter().chain(aws_lc_rs::ALL_KX_GROUPS);
            let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
            for candidate in order {
                let asked = wanted.iter().any(|g| g.name() == candidate.name());
                if asked && !groups.iter().any(|g| g.name() == candidate.name()) {
                    groups.push(*candidate);
                }
            }
            provider.kx_groups = groups;
        }
        Ok(provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let suites = |names: &[&str]| {
            let p = TlsParameters {
                cipher_suites: names.iter().map(|s| s.to_string()).collect(),
                ..Default::default()
            };
            p.provider().map(|p| p.cipher_suites.len())
        };
        assert_eq!(suites(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]), Ok(4));
        assert_eq!(suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]), Ok(3));
        assert_eq!(suites(&["X"]), Err("Cipher suite X not supported or doesn't exist".into()));
        let curves = |ids: &[i64]| {
            TlsParameters { curves: ids.to_vec(), ..Default::default() }.provider().map(|p| p.kx_groups.len())
        };
        assert_eq!(curves(&[23, 29, 4588]), Ok(3));
        assert_eq!(curves(&[23, 23]), Err("duplicate curve preference 23".into()));
        assert_eq!(curves(&[7]), Err("curve preference 7 is not supported by the current Go version".into()));
        let version = |v: &str| {
            TlsParameters { min_version: v.into(), ..Default::default() }.versions().map(<[_]>::len)
        };
        assert_eq!(version("VersionTLS13"), Ok(1));
        assert_eq!(version("TLS1"), Err(r#"unknown tls version "TLS1""#.into()));
    }
}
