//! Who requests are made as: the `Authorization` header, whom to act as, and the certificate.
//!
//! [`crate::Client`] has one; servers that are asked by other means (webhooks) take it alone.
//! Upstream: client-go/transport (round_trippers.go), client-go/plugin/pkg/client/auth/exec.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Config, ConfigError, Credentials, Secret};
use crate::error::{Error, Result};
use crate::exec::ExecAuth;
use crate::kubeconfig::{Selected, User};
use crate::tls::ClientCert;
use crate::token::TokenFile;

enum Auth {
    None,
    Fixed(HeaderValue),
    File(TokenFile),
    Provider(Arc<dyn crate::TokenProvider>),
    Exec(Arc<ExecAuth>),
}

/// An identity, with what renews it.
pub struct Identity {
    auth: Auth,
    impersonate: Vec<(HeaderName, HeaderValue)>,
    cert: Option<ClientCert>,
}

impl Identity {
    /// That of a configuration.
    ///
    /// # Errors
    /// The configuration contradicts itself, or has what no header can carry.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let exec = match &config.credentials {
            Credentials::Exec(exec) => Some(Arc::new(ExecAuth::new(exec.clone(), cluster_info(config)))),
            _ => None,
        };
        let cert = config.client_cert.clone().or_else(|| exec.as_ref().map(|e| e.cert.clone()));
        Ok(Self { auth: auth(&config.credentials, exec)?, impersonate: impersonate(config)?, cert })
    }

    /// That of a user of a kubeconfig, whatever server it is shown to.
    ///
    /// # Errors
    /// As [`Identity::new`], or a file is missing.
    pub fn of_user(user: &User) -> Result<Self, ConfigError> {
        let selected = Selected { user: user.clone(), ..Selected::default() };
        Self::new(&Config::from_selected(selected)?)
    }

    /// The certificate to show, if any.
    pub fn client_cert(&self) -> Option<&ClientCert> {
        self.cert.as_ref()
    }

    /// Adds the headers of this identity. Must be called before connecting: a credential program may print the certificate.
    ///
    /// # Errors
    /// There is no token to be had.
    pub async fn apply(&self, headers: &mut HeaderMap) -> Result<()> {
        if let Some(value) = self.authorization().await? {
            headers.insert(http::header::AUTHORIZATION, value);
        }
        for (name, value) in &self.impersonate {
            headers.append(name.clone(), value.clone());
        }
        Ok(())
    }

    /// The server refused what was shown last.
    pub fn refused(&self) {
        match &self.auth {
            Auth::Exec(exec) => exec.refused(),
            Auth::File(file) => file.refused(),
            Auth::Provider(provider) => provider.refused(),
            Auth::None | Auth::Fixed(_) => {}
        }
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>> {
        let token = match &self.auth {
            Auth::None => None,
            Auth::Fixed(value) => return Ok(Some(value.clone())),
            Auth::File(file) => Some(file.token().map_err(Error::Auth)?),
            Auth::Provider(provider) => Some(provider.token().await.map_err(Error::Auth)?),
            Auth::Exec(exec) => exec.token(jiff::Timestamp::now()).await?,
        };
        token.map(|t| bearer(&t).map_err(Error::Config)).transpose()
    }
}

fn auth(credentials: &Credentials, exec: Option<Arc<ExecAuth>>) -> Result<Auth, ConfigError> {
    use base64::Engine;
    Ok(match credentials {
        Credentials::None => Auth::None,
        Credentials::Token(token) => Auth::Fixed(bearer(token)?),
        Credentials::TokenFile(path) => Auth::File(TokenFile::new(path.clone())),
        Credentials::Provider(provider) => Auth::Provider(provider.clone()),
        Credentials::Basic(user, password) => {
            let pair = format!("{user}:{}", password.0);
            let text = base64::engine::general_purpose::STANDARD.encode(pair);
            Auth::Fixed(secret_header(&format!("Basic {text}"))?)
        }
        Credentials::Exec(_) => exec.map_or(Auth::None, Auth::Exec),
    })
}

fn bearer(token: &Secret) -> Result<HeaderValue, ConfigError> {
    secret_header(&format!("Bearer {}", token.0))
}

fn secret_header(text: &str) -> Result<HeaderValue, ConfigError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        ConfigError::Invalid("credentials contain characters that no header can carry".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

pub(crate) fn header(text: &str, what: &str) -> Result<HeaderValue, ConfigError> {
    HeaderValue::from_str(text).map_err(|e| ConfigError::Invalid(format!("{what} {text:?}: {e}")))
}

/// Upstream: client-go/transport/round_trippers.go, impersonatingRoundTripper.
fn impersonate(config: &Config) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let who = &config.impersonate;
    let mut headers = Vec::new();
    if who.user.is_empty() {
        if who.uid.is_empty() && who.groups.is_empty() && who.extra.is_empty() {
            return Ok(headers);
        }
        return Err(ConfigError::Invalid(
            "requesting uid, groups or user-extra for impersonation, without impersonating a user".into(),
        ));
    }
    headers.push((HeaderName::from_static("impersonate-user"), header(&who.user, "impersonated user")?));
    if !who.uid.is_empty() {
        headers.push((HeaderName::from_static("impersonate-uid"), header(&who.uid, "impersonated uid")?));
    }
    for group in &who.groups {
        headers.push((HeaderName::from_static("impersonate-group"), header(group, "impersonated group")?));
    }
    for (key, values) in &who.extra {
        let escaped = crate::params::segment(&key.to_lowercase());
        let name = HeaderName::from_bytes(format!("impersonate-extra-{escaped}").to_lowercase().as_bytes())
            .map_err(|e| ConfigError::Invalid(format!("impersonated extra {key:?}: {e}")))?;
        for value in values {
            headers.push((name.clone(), header(value, "impersonated extra")?));
        }
    }
    Ok(headers)
}

fn cluster_info(config: &Config) -> Option<serde_json::Value> {
    use base64::Engine;
    let mut info = serde_json::json!({"server": config.server});
    if !config.tls_server_name.is_empty() {
        info["tls-server-name"] = config.tls_server_name.clone().into();
    }
    if config.insecure {
        info["insecure-skip-tls-verify"] = true.into();
    }
    if let Some(ca) = config.ca.as_ref().and_then(|ca| ca.read("certificate authority").ok()) {
        info["certificate-authority-data"] = base64::engine::general_purpose::STANDARD.encode(ca).into();
    }
    Some(info)
}
