//! Where the server is and who we are, from a kubeconfig or from inside a pod.
//! Upstream: client-go/rest/config.go, tools/clientcmd/client_config.go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kubeconfig::{Kubeconfig, Selected, Source};
use crate::tls::ClientCert;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is missing or malformed.
    #[error("reading {what} {path:?}: {reason}")]
    File {
        /// Role of the file.
        what: &'static str,
        /// Its name.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Settings contradict each other or are not supported.
    #[error("{0}")]
    Invalid(String),
    /// Certificates or keys do not fit.
    #[error("TLS configuration: {0}")]
    Tls(String),
}

/// How the `Authorization` header comes about.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// No header; a client certificate may still identify us.
    #[default]
    None,
    /// Fixed bearer token.
    Token(Secret),
    /// Bearer token in a file that somebody renews.
    TokenFile(PathBuf),
    /// User name and password.
    Basic(String, Secret),
    /// Bearer tokens made in this process.
    Provider(Arc<dyn crate::TokenProvider>),
    /// A program prints the credentials.
    Exec(Arc<crate::kubeconfig::ExecConfig>),
}

/// A string that does not show in logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("--- REDACTED ---")
    }
}

/// Who to act as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Impersonate {
    /// User name; empty for no impersonation.
    pub user: String,
    /// Uid.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Extra attributes.
    pub extra: Vec<(String, Vec<String>)>,
}

/// Opens a byte stream to the server; replaces TCP in tests and for unix sockets.
pub type Dialer = Arc<
    dyn Fn() -> futures::future::BoxFuture<'static, std::io::Result<Box<dyn crate::transport::Io>>>
        + Send
        + Sync,
>;

/// A server and an identity.
#[derive(Clone)]
pub struct Config {
    /// `https://host:port[/prefix]`.
    pub server: String,
    /// CA certificates; `None` uses the system's.
    pub ca: Option<Source>,
    /// Accept any server certificate.
    pub insecure: bool,
    /// Name expected in the server's certificate, "" for the host of the URL.
    pub tls_server_name: String,
    /// Client certificate, changeable while in use.
    pub client_cert: Option<ClientCert>,
    /// `Authorization`.
    pub credentials: Credentials,
    /// `Impersonate-*`.
    pub impersonate: Impersonate,
    /// Namespace of the context, "" if none.
    pub namespace: String,
    /// Never ask for compressed answers.
    pub disable_compression: bool,
    /// Replaces the TCP connection.
    pub dialer: Option<Dialer>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("server", &self.server)
            .field("credentials", &self.credentials)
            .field("impersonate", &self.impersonate)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Files of a service account inside a pod.
const POD_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Config {
    /// An anonymous configuration for a URL.
    pub fn new(server: &str) -> Self {
        Self {
            server: server.trim_end_matches('/').to_string(),
            ca: None,
            insecure: false,
            tls_server_name: String::new(),
            client_cert: None,
            credentials: Credentials::None,
            impersonate: Impersonate::default(),
            namespace: String::new(),
            disable_compression: false,
            dialer: None,
        }
    }

    /// Reads a kubeconfig and takes its current context.
    pub fn from_kubeconfig(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::from_selected(Kubeconfig::read(path.as_ref())?.select("")?)
    }

    /// The usual rule of daemons: a kubeconfig if named, else the pod's service account; `master` overrides the URL.
    /// Upstream: client-go/tools/clientcmd BuildConfigFromFlags.
    pub fn from_flags(master: &str, kubeconfig: &str) -> Result<Self, ConfigError> {
        if kubeconfig.is_empty() && master.is_empty() {
            return Self::in_cluster();
        }
        let mut config = match kubeconfig {
            "" => Self::new(master),
            path => Self::from_kubeconfig(path)?,
        };
        if !master.is_empty() {
            config.server = with_scheme(master);
        }
        Ok(config)
    }

    /// Reads the certificates it names, without connecting.
    ///
    /// # Errors
    /// A file is missing, is no PEM, or certificate and key do not belong together.
    pub fn check(&self) -> Result<(), ConfigError> {
        crate::tls::TlsSource::new(self, self.client_cert.clone()).map(drop)
    }

    /// From the parts of a context.
    pub fn from_selected(s: Selected) -> Result<Self, ConfigError> {
        let (cluster, user) = (s.cluster, s.user);
        if !cluster.proxy_url.is_empty() {
            return Err(ConfigError::Invalid(
                "kubeconfig: proxy-url is not supported, remove it and reach the server directly".into(),
            ));
        }
        if user.auth_provider.is_some() {
            return Err(ConfigError::Invalid(
                "kubeconfig: auth-provider is no longer supported, use exec credentials".into(),
            ));
        }
        let ca = Source::from_fields(
            "certificate-authority-data",
            &cluster.certificate_authority,
            &cluster.certificate_authority_data,
        )?;
        if cluster.insecure_skip_tls_verify && ca.is_some() {
            return Err(ConfigError::Invalid(
                "kubeconfig: certificate-authority and insecure-skip-tls-verify cannot be set together"
                    .into(),
            ));
        }
        let cert = Source::from_fields(
            "client-certificate-data",
            &user.client_certificate,
            &user.client_certificate_data,
        )?;
        let key = Source::from_fields("client-key-data", &user.client_key, &user.client_key_data)?;
        let client_cert = match (cert, key) {
            (Some(cert), Some(key)) => Some(ClientCert::from_sources(cert, key)?),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::Invalid("kubeconfig: client-certificate needs client-key".into()));
            }
            (None, Some(_)) => {
                return Err(ConfigError::Invalid("kubeconfig: client-key needs client-certificate".into()));
            }
        };
        let mut config = Self::new(&with_scheme(&cluster.server));
        config.ca = ca;
        config.insecure = cluster.insecure_skip_tls_verify;
        config.tls_server_name = cluster.tls_server_name;
        config.disable_compression = cluster.disable_compression;
        config.namespace = s.namespace;
        config.client_cert = client_cert;
        config.impersonate = Impersonate {
            user: user.impersonate.clone(),
            uid: user.impersonate_uid.clone(),
            groups: user.impersonate_groups.clone(),
            extra: user.impersonate_extra.clone().into_iter().collect(),
        };
        config.credentials = credentials(user)?;
        Ok(config)
    }

    /// From the environment and files every pod has.
    pub fn in_cluster() -> Result<Self, ConfigError> {
        let host = std::env::var("KUBERNETES_SERVICE_HOST").unwrap_or_default();
        let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_default();
        Self::in_cluster_from(&host, &port, Path::new(POD_DIR))
    }

    /// As [`Config::in_cluster`], with the environment as arguments.
    pub fn in_cluster_from(host: &str, port: &str, dir: &Path) -> Result<Self, ConfigError> {
        if host.is_empty() || port.is_empty() {
            return Err(ConfigError::Invalid("unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined".into()));
        }
        let token = dir.join("token");
        if !token.exists() {
            return Err(ConfigError::File {
                what: "service account token",
                path: token,
                reason: "no such file".into(),
            });
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let mut config = Self::new(&format!("https://{host}:{port}"));
        config.credentials = Credentials::TokenFile(token);
        let ca = dir.join("ca.crt");
        if ca.exists() {
            config.ca = Some(Source::File(ca));
        }
        config.namespace =
            std::fs::read_to_string(dir.join("namespace")).unwrap_or_default().trim().to_string();
        Ok(config)
    }
}

fn credentials(user: crate::kubeconfig::User) -> Result<Credentials, ConfigError> {
    if let Some(exec) = user.exec {
        crate::exec::validate(&exec)?;
        return Ok(Credentials::Exec(Arc::new(exec)));
    }
    Ok(match (user.token_file.is_empty(), user.token.is_empty(), user.username.is_empty()) {
        (false, _, _) => Credentials::TokenFile(user.token_file.into()),
        (_, false, _) => Credentials::Token(Secret(user.token)),
        (_, _, false) => Credentials::Basic(user.username, Secret(user.password)),
        _ => Credentials::None,
    })
}

/// Upstream's default for a server without scheme: plain HTTP.
fn with_scheme(server: &str) -> String {
    let server = if server.is_empty() { "http://localhost:8080" } else { server };
    if server.contains("://") { server.to_string() } else { format!("http://{server}") }
}
