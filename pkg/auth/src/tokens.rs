//! Static token files and bootstrap tokens.
//! Upstream: `authentication/token/tokenfile`, `plugin/pkg/auth/authenticator/token/bootstrap`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::UserInfo;
use crate::authenticator::{Authenticated, Outcome, TokenAuthenticator};

/// `--token-auth-file`: a CSV of token, user, uid and optionally groups.
#[derive(Debug, Default)]
pub struct TokenFile(HashMap<String, Arc<UserInfo>>);

/// A line of the token file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token file line {line}: {why}")]
pub struct TokenFileError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: &'static str,
}

impl TokenFile {
    /// Parses the file. Lines without a token are skipped.
    ///
    /// # Errors
    /// When a line has fewer than three columns.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut tokens = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let columns = csv_columns(line);
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                let why = "must have at least 3 columns (token, user name, user uid)";
                return Err(TokenFileError { line: index + 1, why });
            };
            if token.is_empty() {
                continue;
            }
            let groups = rest.first().map_or("", String::as_str);
            let groups =
                groups.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect();
            let user = UserInfo { name: name.clone(), uid: uid.clone(), groups, extra: BTreeMap::new() };
            tokens.insert(token.clone(), Arc::new(user));
        }
        Ok(Self(tokens))
    }
}

/// One CSV record: quotes around a field, doubled quotes inside.
fn csv_columns(line: &str) -> Vec<String> {
    let (mut columns, mut current, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                current.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(std::mem::take(&mut current)),
            ' ' if !quoted && current.is_empty() => {}
            other => current.push(other),
        }
    }
    columns.push(current);
    columns
}

#[async_trait]
impl TokenAuthenticator for TokenFile {
    async fn authenticate(&self, token: &str, _: &[String]) -> Outcome {
        Ok(self.0.get(token).map(|user| Authenticated { user: user.clone(), audiences: vec![] }))
    }
}

/// A secret, as far as bootstrap tokens look at it.
#[derive(Debug, Clone, Default)]
pub struct BootstrapSecret {
    /// `type`
    pub kind: String,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Decoded `data`.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// Finds `bootstrap-token-<id>` in `kube-system`.
#[async_trait]
pub trait BootstrapSecrets: Send + Sync + 'static {
    /// The secret of that name, if it exists.
    async fn get(&self, name: &str) -> Option<BootstrapSecret>;
}

/// `--enable-bootstrap-token-auth`.
pub struct BootstrapTokens<S> {
    /// Where the secrets are.
    pub secrets: S,
    /// Now.
    pub clock: fn() -> Timestamp,
}

#[async_trait]
impl<S: BootstrapSecrets> TokenAuthenticator for BootstrapTokens<S> {
    async fn authenticate(&self, token: &str, _: &[String]) -> Outcome {
        let Some((id, secret)) = split_bootstrap(token) else { return Ok(None) };
        let Some(found) = self.secrets.get(&format!("bootstrap-token-{id}")).await else { return Ok(None) };
        let groups = bootstrap_groups(&found, id, secret, (self.clock)());
        Ok(groups.map(|groups| {
            let user = UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() };
            Authenticated { user: Arc::new(user), audiences: vec![] }
        }))
    }
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`
fn split_bootstrap(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

/// The groups of a valid bootstrap token, `None` when the secret does not vouch for it.
fn bootstrap_groups(found: &BootstrapSecret, id: &str, secret: &str, now: Timestamp) -> Option<Vec<String>> {
    let text = |key: &str| found.data.get(key).map(|v| String::from_utf8_lossy(v).into_owned());
    if found.kind != "bootstrap.kubernetes.io/token" || found.deleting {
        return None;
    }
    let stored = found.data.get("token-secret")?;
    if aws_lc_rs::constant_time::verify_slices_are_equal(stored, secret.as_bytes()).is_err() {
        return None;
    }
    if text("token-id")? != id || text("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    if let Some(expiry) = text("expiration").filter(|e| !e.is_empty())
        && expiry.parse::<Timestamp>().map_or(true, |at| at < now)
    {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    for group in text("auth-extra-groups").unwrap_or_default().split(',').filter(|g| !g.is_empty()) {
        if !is_bootstrap_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Some(groups)
}

/// `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`
fn is_bootstrap_group(group: &str) -> bool {
    group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        (1..=256).contains(&rest.len())
            && rest.bytes().all(|b| valid(b) || b == b':' || b == b'-')
            && rest.bytes().last().is_some_and(valid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn token_file() {
        let file = TokenFile::parse("t1,jane,1,\"a,b\"\n\nt2,joe,2\n").unwrap();
        let user = file.authenticate("t1", &[]).await.unwrap().unwrap().user;
        assert_eq!((user.name.as_str(), &user.groups[..]), ("jane", &["a".to_owned(), "b".to_owned()][..]));
        assert_eq!(file.authenticate("zz", &[]).await, Ok(None));
        assert!(TokenFile::parse("t1,jane").is_err());
    }

    #[test]
    fn bootstrap() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let secret = |extra: &[(&str, &str)]| {
            let base = [
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-authentication", "true"),
            ];
            let data =
                base.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
            BootstrapSecret { kind: "bootstrap.kubernetes.io/token".into(), deleting: false, data }
        };
        let check = |extra: &[(&str, &str)], want: Option<&[&str]>| {
            let got = bootstrap_groups(&secret(extra), "abcdef", "0123456789abcdef", now);
            let want = want.map(|w| w.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>());
            assert_eq!(got, want, "{extra:?}");
        };
        check(&[], Some(&["system:bootstrappers"]));
        check(&[("expiration", "2025-01-01T00:00:00Z")], None);
        check(&[("expiration", "2027-01-01T00:00:00Z")], Some(&["system:bootstrappers"]));
        check(&[("usage-bootstrap-authentication", "false")], None);
        check(
            &[("auth-extra-groups", "system:bootstrappers:x")],
            Some(&["system:bootstrappers", "system:bootstrappers:x"]),
        );
        check(&[("auth-extra-groups", "system:masters")], None);
        assert_eq!(split_bootstrap("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        assert_eq!(split_bootstrap("ABCDEF.0123456789abcdef"), None);
    }
}
