//! Bootstrap tokens: how a cluster vouches for itself to a new node, and the node for itself to the cluster.
//!
//! The objects are kubeadm's: a Secret per token in kube-system, the ConfigMap `cluster-info` in kube-public, which anybody
//! may read and which the controller manager signs with every token. Upstream: cmd/kubeadm/app/phases/bootstraptoken and
//! app/discovery/token.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use client::{Client, Config, Options, Request};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const RULES: &str = include_str!("../manifests/bootstrap.yaml");
/// The group of nodes that are about to join.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// `ID.SECRET`; only the id is public.
pub(crate) struct Token {
    pub id: String,
    secret: String,
}

impl Token {
    /// A token nobody can guess.
    pub(crate) fn random() -> Result<Self> {
        let text = |length| -> Result<String> {
            let mut bytes = vec![0; length];
            aws_lc_rs::rand::fill(&mut bytes).ok().context("the system gives no random bytes")?;
            let digit = |byte: &u8| char::from_digit(u32::from(byte % 36), 36).unwrap_or('0');
            Ok(bytes.iter().map(digit).collect())
        };
        Ok(Self { id: text(6)?, secret: text(16)? })
    }

    /// The Secret that makes the token count until `expiration`.
    fn object(&self, expiration: Timestamp) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": format!("bootstrap-token-{}", self.id), "namespace": "kube-system"},
            "stringData": {
                "token-id": self.id,
                "token-secret": self.secret,
                "expiration": expiration.to_string(),
                "usage-bootstrap-authentication": "true",
                "usage-bootstrap-signing": "true",
                "auth-extra-groups": GROUP,
            },
        })
    }

    /// The signature of `content`: a compact JWS without its payload.
    fn signature(&self, content: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{}\"}}", self.id));
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes()), signed.as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The kubeconfig in the data of `cluster-info`, if this token has signed it.
    fn trusted(&self, data: &Value) -> Result<String> {
        let id = &self.id;
        let content = data["kubeconfig"].as_str().context("cluster-info holds no kubeconfig")?;
        let signature = data[format!("jws-kubeconfig-{id}")].as_str();
        let signature = signature.with_context(|| {
            format!("cluster-info is not signed with the token {id}: it is unknown or has expired")
        })?;
        ensure!(signature == self.signature(content), "the signature of token {id} on cluster-info is wrong");
        Ok(content.to_string())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

/// Lets nodes join: the rules, and what anybody may know about the cluster. Does nothing the second time.
pub(crate) fn publish(cluster: &Cluster) -> Result<()> {
    let authority = std::fs::read(cluster.pki.path("ca.crt")).context("reading the cluster's authority")?;
    let kubeconfig = cluster_kubeconfig(&cluster.spec.server, &STANDARD.encode(authority), None);
    let info = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": kubeconfig},
    });
    let kubectl = cluster.kubectl("admin");
    kubectl.apply(RULES)?;
    kubectl.apply(&info.to_string()).map(drop)
}

/// Makes a token count; `lifetime` below zero makes one that has expired.
pub(crate) fn create(cluster: &Cluster, lifetime: SignedDuration) -> Result<Token> {
    let token = Token::random()?;
    let secret = token.object(Timestamp::now().checked_add(lifetime)?);
    cluster.kubectl("admin").run_with(&["create", "-f", "-"], &secret.to_string())?;
    Ok(token)
}

/// The bootstrap kubeconfig of a node that knows the server's address and a token, and nothing else: what the server
/// says about itself counts only if the token has signed it. Waits up to `patience` for the signature.
pub(crate) fn discover(on: &Cluster, token: &Token, patience: Duration) -> Result<String> {
    let end = std::time::Instant::now() + patience;
    loop {
        match ask(on, token) {
            Ok(kubeconfig) => return Ok(kubeconfig),
            Err(error) if std::time::Instant::now() > end => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn ask(on: &Cluster, token: &Token) -> Result<String> {
    let info = on.processes.inside(|| read_info(&on.spec.server))?;
    let config = token.trusted(&info["data"])?;
    let config: Value = serde_json::from_str(&config).context("reading the kubeconfig in cluster-info")?;
    let cluster = &config["clusters"][0]["cluster"];
    let text = |field: &str| cluster[field].as_str().with_context(|| format!("cluster-info has no {field}"));
    Ok(cluster_kubeconfig(text("server")?, text("certificate-authority-data")?, Some(token)))
}

/// Asks without credentials, whoever answers: the signature tells whether it was the cluster.
fn read_info(server: &str) -> Result<Value> {
    let config = Config { insecure: true, ..Config::new(server) };
    let options = Options { timeout: Duration::from_secs(5), ..Options::default() };
    let request = Request::get("/api/v1/namespaces/kube-public/configmaps/cluster-info");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer =
        runtime.block_on(async { anyhow::Ok(Client::new(config, options)?.call(&request).await?) })?;
    serde_json::from_slice(&answer.body).context("reading cluster-info")
}

/// A kubeconfig (as JSON, which is YAML too) of a cluster, with a token or without a user.
fn cluster_kubeconfig(server: &str, authority: &str, token: Option<&Token>) -> String {
    let mut config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {"server": server, "certificate-authority-data": authority}}],
    });
    if let Some(token) = token {
        config["clusters"][0]["name"] = "kubernetes".into();
        config["users"] = json!([{"name": "tls-bootstrap-token-user", "user": {"token": token.to_string()}}]);
        let context = json!({"cluster": "kubernetes", "user": "tls-bootstrap-token-user"});
        config["contexts"] = json!([{"name": "tls-bootstrap", "context": context}]);
        config["current-context"] = "tls-bootstrap".into();
    }
    config.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token { id: "abcdef".to_string(), secret: "0123456789abcdef".to_string() }
    }

    #[test]
    fn random_tokens_have_upstreams_form() -> Result<()> {
        let text = Token::random()?.to_string();
        let (id, secret) = text.split_once('.').context("no dot")?;
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret), "{text}");
        Ok(())
    }

    #[test]
    fn trusts_only_what_its_token_has_signed() {
        let signed = token().signature("{}");
        let data = |content: &str| json!({"kubeconfig": content, "jws-kubeconfig-abcdef": signed});
        assert_eq!(token().trusted(&data("{}")).ok().as_deref(), Some("{}"));
        assert!(token().trusted(&data("{ }")).is_err());
        assert!(token().trusted(&json!({"kubeconfig": "{}"})).is_err());
    }
}
