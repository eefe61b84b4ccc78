//! The kubeconfig file: its format, and how file names in it are resolved.
//!
//! Merging of several files (`KUBECONFIG` lists) is kubectl's business and not done here: daemons name one file.
//! Upstream: client-go/tools/clientcmd (loader.go, client_config.go, api/v1/types.go).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// A kubeconfig file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kubeconfig {
    /// `v1`.
    pub api_version: Option<String>,
    /// `Config`.
    pub kind: Option<String>,
    /// API servers.
    pub clusters: Vec<NamedCluster>,
    /// Identities.
    pub users: Vec<NamedUser>,
    /// Pairs of the above.
    pub contexts: Vec<NamedContext>,
    /// The context in use.
    #[serde(rename = "current-context")]
    pub current_context: String,
}

/// Entry of `clusters`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedCluster {
    /// Name that contexts use.
    pub name: String,
    /// The server.
    pub cluster: Cluster,
}

/// Entry of `users`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedUser {
    /// Name that contexts use.
    pub name: String,
    /// The identity.
    pub user: User,
}

/// Entry of `contexts`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedContext {
    /// The context's name.
    pub name: String,
    /// What it refers to.
    pub context: Context,
}

/// How to reach a server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    /// URL.
    pub server: String,
    /// Name to expect in the server's certificate.
    pub tls_server_name: String,
    /// Accept any certificate.
    pub insecure_skip_tls_verify: bool,
    /// File with CA certificates.
    pub certificate_authority: String,
    /// CA certificates, base64 of PEM.
    pub certificate_authority_data: String,
    /// Not supported, refused.
    pub proxy_url: String,
    /// Do not ask for compressed answers.
    pub disable_compression: bool,
}

/// How to authenticate.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    /// File with the client certificate.
    pub client_certificate: String,
    /// The client certificate, base64 of PEM.
    pub client_certificate_data: String,
    /// File with the private key.
    pub client_key: String,
    /// The private key, base64 of PEM.
    pub client_key_data: String,
    /// Bearer token.
    pub token: String,
    /// File with the bearer token, read again as it changes; wins over `token`.
    #[serde(rename = "tokenFile")]
    pub token_file: String,
    /// User to impersonate.
    #[serde(rename = "as")]
    pub impersonate: String,
    /// Uid to impersonate.
    #[serde(rename = "as-uid")]
    pub impersonate_uid: String,
    /// Groups to impersonate.
    #[serde(rename = "as-groups")]
    pub impersonate_groups: Vec<String>,
    /// Extra attributes to impersonate.
    #[serde(rename = "as-user-extra")]
    pub impersonate_extra: std::collections::BTreeMap<String, Vec<String>>,
    /// Basic authentication.
    pub username: String,
    /// Basic authentication.
    pub password: String,
    /// A program that prints credentials.
    pub exec: Option<ExecConfig>,
    /// Removed kinds of provider; refused.
    pub auth_provider: Option<serde_json::Value>,
}

/// A credential program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecConfig {
    /// Program; with a slash relative to the kubeconfig.
    pub command: String,
    /// Arguments.
    pub args: Option<Vec<String>>,
    /// Additional environment.
    pub env: Option<Vec<ExecEnv>>,
    /// `client.authentication.k8s.io/v1` or `/v1beta1`.
    pub api_version: String,
    /// Text to show if the program is missing.
    pub install_hint: String,
    /// Pass the cluster in `KUBERNETES_EXEC_INFO`.
    pub provide_cluster_info: bool,
    /// `Never`, `IfAvailable` or `Always`.
    pub interactive_mode: String,
}

/// Environment variable of a credential program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecEnv {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Context: which cluster, which user, which namespace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// Name in `clusters`.
    pub cluster: String,
    /// Name in `users`.
    pub user: String,
    /// Default namespace.
    pub namespace: String,
}

/// The parts of a kubeconfig that one context selects.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// The cluster.
    pub cluster: Cluster,
    /// The user.
    pub user: User,
    /// Default namespace, "" if none.
    pub namespace: String,
}

impl Kubeconfig {
    /// Reads a file and makes the file names in it absolute.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::File {
            what: "kubeconfig",
            path: path.into(),
            reason: e.to_string(),
        })?;
        let mut config = Self::parse(&text).map_err(|reason| ConfigError::File {
            what: "kubeconfig",
            path: path.into(),
            reason,
        })?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    /// Parses YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        if config.kind.as_deref().is_some_and(|k| k != "Config") {
            return Err(format!("kind is {:?}, want \"Config\"", config.kind.unwrap_or_default()));
        }
        if config.api_version.as_deref().is_some_and(|v| v != "v1") {
            return Err(format!("apiVersion is {:?}, want \"v1\"", config.api_version.unwrap_or_default()));
        }
        Ok(config)
    }

    /// Makes relative file names relative to `base`.
    pub fn resolve(&mut self, base: &Path) {
        let fix = |name: &mut String| {
            if !name.is_empty() && Path::new(name.as_str()).is_relative() {
                *name = base.join(&name).to_string_lossy().into_owned();
            }
        };
        for c in &mut self.clusters {
            fix(&mut c.cluster.certificate_authority);
        }
        for u in &mut self.users {
            fix(&mut u.user.client_certificate);
            fix(&mut u.user.client_key);
            fix(&mut u.user.token_file);
            if let Some(exec) = &mut u.user.exec
                && exec.command.contains('/')
            {
                fix(&mut exec.command);
            }
        }
    }

    /// The parts of `context`, or of the current context when "" is given.
    pub fn select(&self, context: &str) -> Result<Selected, ConfigError> {
        let name = if context.is_empty() { self.current_context.as_str() } else { context };
        if name.is_empty() {
            return Err(ConfigError::Invalid("invalid configuration: no configuration has been provided, try setting current-context in the kubeconfig".into()));
        }
        let missing = |what: &str, name: &str| {
            ConfigError::Invalid(format!("kubeconfig: {what} {name:?} does not exist"))
        };
        let context =
            &self.contexts.iter().find(|c| c.name == name).ok_or_else(|| missing("context", name))?.context;
        let cluster = self
            .clusters
            .iter()
            .find(|c| c.name == context.cluster)
            .ok_or_else(|| missing("cluster", &context.cluster))?;
        let user = match context.user.as_str() {
            "" => User::default(),
            user => {
                self.users.iter().find(|u| u.name == user).ok_or_else(|| missing("user", user))?.user.clone()
            }
        };
        Ok(Selected { cluster: cluster.cluster.clone(), user, namespace: context.namespace.clone() })
    }
}

/// PEM from inline data (base64) or a file; data wins, as upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The bytes themselves.
    Inline(Vec<u8>),
    /// A file, read when needed and again as it changes.
    File(PathBuf),
}

impl Source {
    /// From a pair of kubeconfig fields; `None` if both are empty.
    pub fn from_fields(what: &'static str, file: &str, data: &str) -> Result<Option<Self>, ConfigError> {
        use base64::Engine;
        if !data.is_empty() {
            let clean: String = data.chars().filter(|c| !c.is_whitespace()).collect();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(clean)
                .map_err(|e| ConfigError::Invalid(format!("kubeconfig: {what}: not base64: {e}")))?;
            return Ok(Some(Self::Inline(bytes)));
        }
        Ok((!file.is_empty()).then(|| Self::File(file.into())))
    }

    /// The bytes.
    pub fn read(&self, what: &'static str) -> Result<Vec<u8>, ConfigError> {
        match self {
            Self::Inline(bytes) => Ok(bytes.clone()),
            Self::File(path) => std::fs::read(path).map_err(|e| ConfigError::File {
                what,
                path: path.clone(),
                reason: e.to_string(),
            }),
        }
    }

    /// What changes when the file changes.
    pub fn stamp(&self) -> Stamp {
        match self {
            Self::Inline(_) => None,
            Self::File(path) => {
                std::fs::metadata(path).ok().and_then(|m| Some((m.modified().ok()?, m.len())))
            }
        }
    }
}

/// Modification time and length of a file; `None` for inline data or a missing file.
pub type Stamp = Option<(std::time::SystemTime, u64)>;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
apiVersion: v1
kind: Config
current-context: c
clusters:
- name: k
  cluster: {server: "https://h:6443", certificate-authority: pki/ca.crt, tls-server-name: api}
users:
- name: u
  user:
    client-certificate-data: YWJj
    tokenFile: /abs/token
    exec: {command: ./bin/cred, apiVersion: client.authentication.k8s.io/v1, args: null, env: null}
contexts:
- name: c
  context: {cluster: k, user: u, namespace: kube-system}
preferences: {}
"#;

    #[test]
    fn reads_and_resolves() {
        let mut config = Kubeconfig::parse(TEXT).unwrap();
        config.resolve(Path::new("/etc/kubernetes"));
        let s = config.select("").unwrap();
        assert_eq!(s.cluster.certificate_authority, "/etc/kubernetes/pki/ca.crt");
        assert_eq!(s.user.token_file, "/abs/token");
        assert_eq!(s.user.exec.unwrap().command, "/etc/kubernetes/./bin/cred");
        assert_eq!(s.namespace, "kube-system");
        assert!(config.select("other").unwrap_err().to_string().contains("\"other\" does not exist"));
    }
}
