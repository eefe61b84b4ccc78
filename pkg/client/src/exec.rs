//! Credentials from a program, cached until they expire or the server refuses them.
//! Upstream: client-go/plugin/pkg/client/auth/exec/exec.go.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::config::{ConfigError, Secret};
use crate::error::{Error, Result};
use crate::kubeconfig::ExecConfig;
use crate::tls::ClientCert;

const V1: &str = "client.authentication.k8s.io/v1";
const V1BETA1: &str = "client.authentication.k8s.io/v1beta1";

/// Refuses settings that upstream refuses too.
pub(crate) fn validate(exec: &ExecConfig) -> Result<(), ConfigError> {
    let fail = |text: String| Err(ConfigError::Invalid(text));
    if exec.command.is_empty() {
        return fail("kubeconfig: exec: command must be specified".into());
    }
    match exec.api_version.as_str() {
        V1 | V1BETA1 => {}
        "" => return fail("kubeconfig: exec: apiVersion must be specified".into()),
        other => return fail(format!("kubeconfig: exec: apiVersion {other:?} is not supported, use {V1:?}")),
    }
    match exec.interactive_mode.as_str() {
        "Never" | "IfAvailable" => Ok(()),
        "" if exec.api_version == V1BETA1 => Ok(()),
        "" => fail("kubeconfig: exec: interactiveMode must be specified".into()),
        "Always" => {
            fail("kubeconfig: exec: interactiveMode Always needs a terminal, which a daemon has not".into())
        }
        other => fail(format!(
            "kubeconfig: exec: interactiveMode {other:?} is not one of Never, IfAvailable, Always"
        )),
    }
}

/// Runs the program when needed.
#[derive(Debug)]
pub(crate) struct ExecAuth {
    config: Arc<ExecConfig>,
    cluster_info: Option<serde_json::Value>,
    cached: Mutex<Option<Cached>>,
    running: tokio::sync::Mutex<()>,
    /// Certificate the program printed.
    pub cert: ClientCert,
}

#[derive(Debug, Clone)]
struct Cached {
    token: Option<Secret>,
    expires: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    api_version: String,
    kind: String,
    status: Option<CredentialStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CredentialStatus {
    expiration_timestamp: Option<Timestamp>,
    token: String,
    client_certificate_data: String,
    client_key_data: String,
}

impl ExecAuth {
    pub fn new(config: Arc<ExecConfig>, cluster_info: Option<serde_json::Value>) -> Self {
        Self {
            config,
            cluster_info,
            cached: Mutex::new(None),
            running: tokio::sync::Mutex::new(()),
            cert: ClientCert::empty(),
        }
    }

    /// The bearer token, if the program gives one; `None` means the certificate identifies us.
    pub async fn token(&self, now: Timestamp) -> Result<Option<Secret>> {
        if let Some(cached) = self.fresh(now) {
            return Ok(cached.token);
        }
        let _one = self.running.lock().await;
        if let Some(cached) = self.fresh(now) {
            return Ok(cached.token);
        }
        let cached = self.run().await.map_err(Error::Auth)?;
        *self.cached.lock() = Some(cached.clone());
        Ok(cached.token)
    }

    /// Forgets what the server refused.
    pub fn refused(&self) {
        *self.cached.lock() = None;
    }

    fn fresh(&self, now: Timestamp) -> Option<Cached> {
        self.cached.lock().clone().filter(|c| c.expires.is_none_or(|e| now < e))
    }

    async fn run(&self) -> Result<Cached, String> {
        let config = &self.config;
        let mut spec = serde_json::json!({"interactive": false});
        if let Some(info) = self.cluster_info.as_ref().filter(|_| config.provide_cluster_info) {
            spec["cluster"] = info.clone();
        }
        let info =
            serde_json::json!({"kind": "ExecCredential", "apiVersion": config.api_version, "spec": spec});
        let mut command = tokio::process::Command::new(&config.command);
        command.args(config.args.iter().flatten());
        command.envs(config.env.iter().flatten().map(|e| (&e.name, &e.value)));
        command.env("KUBERNETES_EXEC_INFO", info.to_string());
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|e| {
            let hint = if config.install_hint.is_empty() { "" } else { "\n\n" };
            format!("exec: running {}: {e}{hint}{}", config.command, config.install_hint)
        })?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let text: String = text.trim().chars().take(500).collect();
            return Err(format!("exec: executable {} failed with {}: {text}", config.command, output.status));
        }
        self.accept(&output.stdout)
    }

    fn accept(&self, stdout: &[u8]) -> Result<Cached, String> {
        let credential: Credential =
            serde_json::from_slice(stdout).map_err(|e| format!("exec: decoding stdout: {e}"))?;
        if credential.kind != "ExecCredential" || credential.api_version != self.config.api_version {
            return Err(format!(
                "exec: plugin is configured to use API version {}, plugin returned {} of version {}",
                self.config.api_version, credential.kind, credential.api_version
            ));
        }
        let status = credential.status.ok_or("exec: the plugin did not return a status")?;
        let (cert, key) = (&status.client_certificate_data, &status.client_key_data);
        if status.token.is_empty() && cert.is_empty() && key.is_empty() {
            return Err("exec: the plugin did not return a token or cert/key pair".into());
        }
        if cert.is_empty() != key.is_empty() {
            return Err("exec: the plugin returned only certificate or key, not both".into());
        }
        if !cert.is_empty() {
            self.cert.set_pem(cert.as_bytes(), key.as_bytes()).map_err(|e| format!("exec: {e}"))?;
        }
        let token = (!status.token.is_empty()).then_some(Secret(status.token));
        Ok(Cached { token, expires: status.expiration_timestamp })
    }
}
