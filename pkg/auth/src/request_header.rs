//! The front proxy: identity from headers, believed when the connection's certificate is the proxy's.
//! Upstream: `k8s.io/apiserver/pkg/authentication/request/headerrequest/requestheader.go`.

use std::time::SystemTime;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use rustls_pki_types::CertificateDer;

use crate::UserInfo;
use crate::authenticator::Rejected;
use crate::x509::CaBundle;

/// Which headers carry the identity, and whose word counts.
#[derive(Debug, Clone, Default)]
pub struct RequestHeaderConfig {
    /// `--requestheader-username-headers`
    pub username_headers: Vec<String>,
    /// `--requestheader-uid-headers`
    pub uid_headers: Vec<String>,
    /// `--requestheader-group-headers`
    pub group_headers: Vec<String>,
    /// `--requestheader-extra-headers-prefix`
    pub extra_header_prefixes: Vec<String>,
    /// `--requestheader-allowed-names`; empty allows every certificate of the bundle.
    pub allowed_names: Vec<String>,
}

impl RequestHeaderConfig {
    /// Reads the identity of a request whose peer certificate belongs to the front proxy.
    ///
    /// `Ok(None)` when there is no certificate, it is not the proxy's, or no user name is given.
    ///
    /// # Errors
    /// When a certificate was presented that is the proxy CA's but not an allowed one.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        chain: &[CertificateDer<'_>],
        bundle: &CaBundle,
        now: SystemTime,
    ) -> Result<Option<UserInfo>, Rejected> {
        if chain.is_empty() || !self.names_user(headers) {
            return Ok(None);
        }
        let Ok(verified) = bundle.verify(chain, now) else { return Ok(None) };
        let name = &verified.user.name;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(name) {
            return Err(Rejected(format!("x509: subject with cn={name} is not in the allowed list")));
        }
        Ok(self.user_of(headers))
    }

    fn names_user(&self, headers: &HeaderMap) -> bool {
        !first(headers, &self.username_headers).is_empty()
    }

    fn user_of(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let name = first(headers, &self.username_headers);
        if name.is_empty() {
            return None;
        }
        let groups = self.group_headers.iter().flat_map(|h| values(headers, h)).collect();
        let mut user = UserInfo { name, uid: first(headers, &self.uid_headers), groups, extra: [].into() };
        for prefix in &self.extra_header_prefixes {
            let prefix = prefix.to_ascii_lowercase();
            for (header, value) in headers {
                let (Some(key), Ok(value)) = (header.as_str().strip_prefix(&prefix), value.to_str()) else {
                    continue;
                };
                user.extra.entry(unescape_key(key)).or_default().push(value.to_owned());
            }
        }
        Some(user)
    }

    /// Removes the identity headers, so that nothing behind the authenticator can believe them.
    pub fn strip(&self, headers: &mut HeaderMap) {
        for name in self.username_headers.iter().chain(&self.uid_headers).chain(&self.group_headers) {
            headers.remove(name.as_str());
        }
        let prefixes: Vec<String> =
            self.extra_header_prefixes.iter().map(|p| p.to_ascii_lowercase()).collect();
        let names: Vec<_> =
            headers.keys().filter(|k| prefixes.iter().any(|p| k.as_str().starts_with(p))).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
}

fn first(headers: &HeaderMap, names: &[String]) -> String {
    names.iter().find_map(|n| values(headers, n).into_iter().find(|v| !v.is_empty())).unwrap_or_default()
}

/// Extra keys may be percent-encoded, as header names cannot hold every character.
pub fn unescape_key(key: &str) -> String {
    percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), Into::into)
}
