//! Registry credentials from pull secrets. Upstream: pkg/credentialprovider/keyring.go and config.go, v1.37.

use base64::Engine as _;
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::reference::repository;

/// Credentials that may be used for an image, best match first.
pub fn for_image(image: &str, secrets: &[std::sync::Arc<Secret>]) -> Vec<AuthConfig> {
    pick(image, secrets.iter().flat_map(|secret| entries(secret)))
}

/// Of all servers and credentials those that may be used for an image, best match first.
pub fn pick(image: &str, all: impl IntoIterator<Item = (String, AuthConfig)>) -> Vec<AuthConfig> {
    let wanted = repository(image);
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for (server, auth) in all {
        let location = normalized(&server);
        if covers(&location, &wanted) {
            found.push((location.len(), auth));
        }
    }
    // The longest match is the most specific one.
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// Servers and credentials of a secret; anything unreadable is left out.
fn entries(secret: &Secret) -> Vec<(String, AuthConfig)> {
    let Some(data) = &secret.data else { return Vec::new() };
    let parsed = |key: &str| data.get(key).and_then(|bytes| serde_json::from_slice::<Value>(&bytes.0).ok());
    let auths = match parsed(".dockerconfigjson") {
        Some(config) => config.get("auths").cloned().unwrap_or_default(),
        None => parsed(".dockercfg").unwrap_or_default(),
    };
    servers(auths)
}

/// Credentials of the node itself, from the files that Docker's tools write. Upstream: ReadDockerConfigFile.
pub fn of_node(root: &std::path::Path) -> Vec<(String, AuthConfig)> {
    let read = |path: std::path::PathBuf| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from).unwrap_or_else(|| "/".into());
    let places = [root.to_owned(), home.join(".docker"), "/.docker".into()];
    if let Some(found) = places.iter().find_map(|place| read(place.join("config.json"))) {
        return servers(found.get("auths").cloned().unwrap_or_default());
    }
    let places = [root.to_owned(), home, "/".into()];
    places.iter().find_map(|place| read(place.join(".dockercfg"))).map(servers).unwrap_or_default()
}

fn servers(auths: Value) -> Vec<(String, AuthConfig)> {
    let Value::Object(auths) = auths else { return Vec::new() };
    auths.into_iter().map(|(server, entry)| (server.clone(), auth_config(&server, &entry))).collect()
}

fn auth_config(server: &str, entry: &Value) -> AuthConfig {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")).unwrap_or_default();
    if let Some((user, pass)) = String::from_utf8_lossy(&decoded).split_once(':') {
        username = user.to_owned();
        password = pass.to_owned();
    }
    AuthConfig {
        username,
        password,
        server_address: server.to_owned(),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        ..AuthConfig::default()
    }
}

/// Host and path of a server's address, without scheme and API version.
pub(super) fn normalized(server: &str) -> String {
    let address =
        server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let address = address.trim_end_matches('/');
    let address = address.strip_suffix("/v1").or_else(|| address.strip_suffix("/v2")).unwrap_or(address);
    if address == "index.docker.io" { "docker.io".to_owned() } else { address.to_owned() }
}

/// True if the location covers the repository; `*` stands for part of one label of the host.
pub(super) fn covers(location: &str, repository: &str) -> bool {
    let (pattern_host, pattern_path) = location.split_once('/').unwrap_or((location, ""));
    let (host, path) = repository.split_once('/').unwrap_or((repository, ""));
    let (pattern_labels, labels): (Vec<&str>, Vec<&str>) =
        (pattern_host.split('.').collect(), host.split('.').collect());
    pattern_labels.len() == labels.len()
        && pattern_labels.iter().zip(&labels).all(|(p, l)| glob(p, l))
        && path.starts_with(pattern_path)
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn finds_the_best_match() {
        let config = r#"{"auths": {"https://reg.io/v1/": {"username": "all", "password": "p"},
            "reg.io/team": {"auth": "dGVhbTpzZWNyZXQ="}, "*.other.io": {"username": "glob"}}}"#;
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(config.into()))]);
        let secrets = [Arc::new(Secret { data: Some(data), ..Secret::default() })];
        let users =
            |image: &str| for_image(image, &secrets).into_iter().map(|a| a.username).collect::<Vec<_>>();
        assert_eq!(users("reg.io/team/app:1"), ["team", "all"]);
        assert_eq!(users("reg.io/x"), ["all"]);
        assert_eq!(users("a.other.io/x"), ["glob"]);
        assert!(users("busybox").is_empty());
    }
}
