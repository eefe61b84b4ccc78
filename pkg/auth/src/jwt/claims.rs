//! What a service account token says. Upstream: `pkg/serviceaccount/{claims,legacy}.go`.

use jiff::Timestamp;
use serde_json::{Value, json};

/// An object a token is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

impl Reference {
    fn to_json(&self) -> Value {
        json!({"name": self.name, "uid": self.uid})
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        value.is_object().then(|| Self { name: text("name"), uid: text("uid") })
    }
}

/// A token to issue.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    /// Namespace of the account.
    pub namespace: String,
    /// The account.
    pub account: Reference,
    /// Pod, when bound to one.
    pub pod: Option<Reference>,
    /// Secret, when bound to one.
    pub secret: Option<Reference>,
    /// Node, when bound to one or to a pod on it.
    pub node: Option<Reference>,
    /// Seconds until it expires.
    pub lifetime: i64,
    /// Seconds after which its use is reported, for tokens whose life was extended.
    pub warn_after: i64,
    /// Audiences.
    pub audiences: Vec<String>,
}

impl Bound {
    /// The claims, keys sorted as Go prints maps.
    pub fn to_json(&self, issuer: &str, id: &str, now: Timestamp) -> Value {
        let now = now.as_second();
        let mut kubernetes = json!({"namespace": self.namespace, "serviceaccount": self.account.to_json()});
        for (name, reference) in [("pod", &self.pod), ("secret", &self.secret), ("node", &self.node)] {
            if let Some(reference) = reference {
                kubernetes[name] = reference.to_json();
            }
        }
        if self.warn_after != 0 {
            kubernetes["warnafter"] = json!(now + self.warn_after);
        }
        json!({
            "aud": self.audiences,
            "exp": now + self.lifetime,
            "iat": now,
            "iss": issuer,
            "jti": id,
            "kubernetes.io": kubernetes,
            "nbf": now,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.account.name),
        })
    }
}

/// What a verified token claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// `iss`
    pub issuer: String,
    /// `sub`
    pub subject: String,
    /// `aud`
    pub audiences: Vec<String>,
    /// `exp`, seconds.
    pub expires: Option<i64>,
    /// `nbf`, seconds.
    pub not_before: Option<i64>,
    /// `jti`
    pub id: String,
    /// Namespace of the account.
    pub namespace: String,
    /// The account.
    pub account: Reference,
    /// Bound pod.
    pub pod: Option<Reference>,
    /// Bound secret; for legacy tokens the secret they are stored in.
    pub secret: Option<Reference>,
    /// Bound node.
    pub node: Option<Reference>,
    /// Whether it is a legacy token, which has no time limit and lives in its secret.
    pub legacy: bool,
}

/// Issuer of legacy tokens.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

impl Claims {
    /// Reads the claims of a token.
    pub fn from_json(claims: &Value) -> Self {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let audiences = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let seconds = |name: &str| {
            let value = claims.get(name)?;
            // A NumericDate may be a fraction; Go truncates.
            value.as_i64().or_else(|| value.as_f64().map(|f| f as i64))
        };
        let mut out = Self {
            issuer: text("iss"),
            subject: text("sub"),
            audiences,
            expires: seconds("exp"),
            not_before: seconds("nbf"),
            id: text("jti"),
            ..Self::default()
        };
        if out.issuer == LEGACY_ISSUER {
            let legacy = |name: &str| text(&format!("kubernetes.io/serviceaccount/{name}"));
            out.legacy = true;
            out.namespace = legacy("namespace");
            out.account =
                Reference { name: legacy("service-account.name"), uid: legacy("service-account.uid") };
            out.secret = Some(Reference { name: legacy("secret.name"), uid: String::new() });
        } else if let Some(kubernetes) = claims.get("kubernetes.io") {
            let reference = |name: &str| kubernetes.get(name).and_then(Reference::from_json);
            out.namespace =
                kubernetes.get("namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
            out.account = reference("serviceaccount").unwrap_or_default();
            (out.pod, out.secret, out.node) = (reference("pod"), reference("secret"), reference("node"));
        }
        out
    }
}
