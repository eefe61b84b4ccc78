//! Registry credentials by server, and which of them may be used for an image.
//!
//! Those of pull secrets are remembered with the secret that they are from. Upstream: pkg/credentialprovider/keyring.go,
//! config.go and secrets/secrets.go, v1.37.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, PAD};
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use serde_json::{Map, Value};

use super::pullmanager::records::{PullSecret, go_json};

/// Where images without a server's name come from.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// What a registry asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Login {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
}

impl Login {
    /// As the runtime takes it. Without the server's name, as upstream: a runtime compares that with the image's.
    pub fn auth(&self) -> AuthConfig {
        AuthConfig {
            username: self.username.clone(),
            password: self.password.clone(),
            ..AuthConfig::default()
        }
    }

    /// Tells whether two are the same, without telling what they are.
    fn hash(&self) -> String {
        let text = go_json(self).unwrap_or_default();
        let hash = digest(&SHA256, text.as_bytes());
        hash.as_ref().iter().fold(String::new(), |out, byte| format!("{out}{byte:02x}"))
    }
}

/// Credentials that may be used for an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What to show the registry.
    pub login: Login,
    /// The secret that they are from; none if the whole node has them.
    pub secret: Option<PullSecret>,
}

/// Credentials by host and path.
#[derive(Clone, Debug, Default)]
pub struct Keyring(BTreeMap<String, Vec<Found>>);

impl Keyring {
    /// Adds credentials by server; what is no server's address is left out.
    pub fn add(&mut self, secret: Option<&PullSecret>, logins: impl IntoIterator<Item = (String, Login)>) {
        for (server, login) in logins {
            let Some(url) = Url::parse(&server) else {
                tracing::error!(server, "Entry in dockercfg invalid, ignoring");
                continue;
            };
            let secret = secret.map(|secret| PullSecret { credential_hash: login.hash(), ..secret.clone() });
            self.0.entry(url.key()).or_default().push(Found { login, secret });
        }
    }

    /// Credentials for a repository such as `docker.io/library/busybox`, more specific ones first.
    pub fn lookup(&self, repository: &str) -> Vec<Found> {
        let places = self.0.iter().rev().filter(|(place, _)| matches(place, repository));
        let found: Vec<Found> = places.flat_map(|(_, found)| found).cloned().collect();
        if found.is_empty() && is_default_registry(repository) {
            return self.0.get(DEFAULT_REGISTRY).cloned().unwrap_or_default();
        }
        found
    }

    /// Credentials of pull secrets.
    ///
    /// # Errors
    /// If one of them is not in Docker's form.
    pub fn of_secrets(secrets: &[Arc<Secret>]) -> Result<Self, String> {
        let mut out = Self::default();
        for secret in secrets {
            let data = |key: &str| {
                let bytes = secret.data.as_ref()?.get(key)?;
                (!bytes.0.is_empty()).then_some(&bytes.0)
            };
            let logins = match secret.type_.as_deref() {
                Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson").map(|b| config_json(b)),
                Some("kubernetes.io/dockercfg") => data(".dockercfg").map(|b| config(&parse(b)?)),
                _ => None,
            };
            let Some(logins) = logins else { continue };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let source = PullSecret {
                uid: text(&secret.metadata.uid),
                namespace: text(&secret.metadata.namespace),
                name: text(&secret.metadata.name),
                credential_hash: String::new(),
            };
            out.add(Some(&source), logins?);
        }
        Ok(out)
    }

    /// Credentials of the node itself, from the files that Docker's tools write. Upstream: ReadDockerConfigFile.
    pub fn of_node(root: &Path) -> Self {
        let home = std::env::var_os("HOME").map_or_else(|| "/".into(), std::path::PathBuf::from);
        let new = [root.to_owned(), home.join(".docker"), "/.docker".into()];
        let old = [root.to_owned(), home, "/".into()];
        let read = |dir: &Path, name: &str| std::fs::read(dir.join(name)).ok();
        let found = new
            .iter()
            .find_map(|dir| config_json(&read(dir, "config.json")?).ok())
            .or_else(|| old.iter().find_map(|dir| config(&parse(&read(dir, ".dockercfg")?).ok()?).ok()));
        let mut out = Self::default();
        out.add(None, found.unwrap_or_default());
        out
    }
}

type Logins = Vec<(String, Login)>;

fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

/// A member of an object, as Go finds it: in upper or lower case, the last one counts.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> &'a Value {
    object.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or(&Value::Null, |(_, v)| v)
}

fn object(value: &Value) -> Result<Option<&Map<String, Value>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Object(object) => Ok(Some(object)),
        _ => Err("json: cannot unmarshal a value that is no object into a Docker configuration".to_owned()),
    }
}

fn config_json(bytes: &[u8]) -> Result<Logins, String> {
    let whole = parse(bytes)?;
    object(&whole)?.map_or_else(|| Ok(Logins::new()), |whole| config(member(whole, "auths")))
}

fn config(auths: &Value) -> Result<Logins, String> {
    let Some(auths) = object(auths)? else { return Ok(Logins::new()) };
    auths.iter().map(|(server, entry)| Ok((server.clone(), login(entry)?))).collect()
}

fn login(entry: &Value) -> Result<Login, String> {
    let Some(entry) = object(entry)? else { return Ok(Login::default()) };
    let text = |name: &str| match member(entry, name) {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => {
            Err(format!("json: cannot unmarshal the field {name} of a Docker configuration: it is no string"))
        }
    };
    let (mut out, auth) = (
        Login { username: text("username")?, password: text("password")?, email: text("email")? },
        text("auth")?,
    );
    if !auth.is_empty() {
        (out.username, out.password) = decode_auth(&auth)?;
    }
    Ok(out)
}

fn decode_auth(field: &str) -> Result<(String, String), String> {
    let padding = if field.trim().ends_with('=') { PAD } else { NO_PAD };
    let engine = GeneralPurpose::new(&STANDARD, padding.with_decode_allow_trailing_bits(true));
    let text: String = field.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let decoded = engine.decode(text).map_err(|e| format!("illegal base64 data: {e}"))?;
    let decoded = String::from_utf8_lossy(&decoded);
    let (username, password) = decoded
        .split_once(':')
        .ok_or("unable to parse auth field, must be formatted as base64(username:password)")?;
    Ok((username.to_owned(), password.to_owned()))
}

/// An address without its scheme.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    host: String,
    path: String,
}

impl Url {
    /// `None` if it is no address.
    fn parse(address: &str) -> Option<Self> {
        let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
        let rest = rest.unwrap_or(address);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let host = authority.rsplit('@').next().unwrap_or_default();
        let allowed =
            |b: u8| b.is_ascii_alphanumeric() || !b.is_ascii() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&b);
        let port = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.1,
            None => host.rfind(':').map_or("", |at| &host[at..]),
        };
        let digits = port.strip_prefix(':').unwrap_or(port);
        let is_port =
            port.is_empty() || (port.starts_with(':') && digits.bytes().all(|b| b.is_ascii_digit()));
        let inside = host.get(1..).unwrap_or_default().contains('[');
        if !host.bytes().all(allowed) || !is_port || inside {
            return None;
        }
        Some(Self { host: host.to_owned(), path: unescape(path)? })
    }

    /// Under which its credentials are found: host and path, without an API version.
    fn key(&self) -> String {
        let path = self.path.as_str();
        let versioned = path.starts_with("/v1/") || path.starts_with("/v2/");
        let path = if versioned { &path[3..] } else { path };
        if path == "/" { self.host.clone() } else { format!("{}{path}", self.host) }
    }

    /// Host and port.
    fn split(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((host, port)) if host.starts_with('[') && host.ends_with(']') => {
                (host.trim_start_matches('[').trim_end_matches(']'), port)
            }
            Some((host, port)) if !host.contains(':') => (host, port),
            _ => (&self.host, ""),
        }
    }
}

/// Undoes percent encoding; `None` if it is broken.
fn unescape(path: &str) -> Option<String> {
    let broken = path.split('%').skip(1).any(|part| {
        let digits = part.as_bytes().get(..2);
        !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
    });
    (!broken).then(|| percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned())
}

/// True if a place covers a repository: every part of its host, in which `*` stands for anything, and the beginning of its
/// path. Upstream: URLsMatch.
pub(super) fn matches(place: &str, repository: &str) -> bool {
    let (Some(place), Some(wanted)) = (Url::parse(&format!("https://{place}")), Url::parse(repository))
    else {
        return false;
    };
    let ((host, port), (wanted_host, wanted_port)) = (place.split(), wanted.split());
    let (labels, wanted_labels): (Vec<&str>, Vec<&str>) =
        (host.split('.').collect(), wanted_host.split('.').collect());
    port == wanted_port
        && labels.len() == wanted_labels.len()
        && wanted.path.starts_with(&place.path)
        && labels.iter().zip(&wanted_labels).all(|(pattern, label)| glob(pattern, label))
}

fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| glob(rest, &text[at..]))
}

/// Upstream: isDefaultRegistryMatch.
fn is_default_registry(repository: &str) -> bool {
    let Some((first, _)) = repository.split_once('/') else { return !repository.is_empty() };
    !first.is_empty() && (matches!(first, "docker.io" | DEFAULT_REGISTRY) || !first.contains(['.', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let key = |address: &str| Url::parse(address).map(|url| url.key());
        for (address, expected) in [
            ("https://reg.io/v1/", Some("reg.io")),
            ("reg.io/v2/team", Some("reg.io/team")),
            ("https://reg.io/v1", Some("reg.io/v1")),
            ("a?b", Some("a")),
            ("reg.io:x", None),
            ("[ab]b", None),
            ("a b", None),
            ("%zz", None),
            ("a/%zz", None),
        ] {
            assert_eq!(key(address).as_deref(), expected, "{address}");
        }
        assert!(matches("*.io/team", "reg.io/team/app") && !matches("*.io", "a.reg.io/x"));
        assert!(matches("[::1]:80", "[::1]:80/x") && !matches("reg.io", "reg.io:80/x"));
        assert!(glob("a*b*c", "axxbyc") && !glob("a*b", "axc"));
    }

    #[test]
    fn of_the_node() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"Auths": {"reg.io": {"Username": "u", "auth": ""}, "https://index.docker.io/v1/": {"auth": "YTpi"}}}"#,
        )
        .unwrap();
        let ring = Keyring::of_node(dir.path());
        let user = |repository: &str| {
            ring.lookup(repository).into_iter().map(|f| f.login.username).collect::<Vec<_>>()
        };
        assert_eq!(
            (user("reg.io/x"), user("docker.io/library/a"), user("quay.io/a")),
            (vec!["u".into()], vec!["a".into()], vec![])
        );
    }
}
