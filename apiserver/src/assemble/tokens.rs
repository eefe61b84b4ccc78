//! Service account tokens between the registry and the authenticator: issuing, reviewing, and looking objects up.
//! Upstream: `pkg/registry/core/serviceaccount/storage/token.go`, `pkg/registry/authentication/tokenreview`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use auth::authenticator::TokenAuthenticator;
use auth::jwt::authenticator::{Found, Lookup};
use auth::jwt::claims::{Bound, Reference};
use auth::jwt::keys::SigningKey;
use auth::tokens::{BootstrapSecret, BootstrapSecrets};
use base64::Engine;
use jiff::Timestamp;
use machinery::{Map, Value};
use registry::errors::{ApiError, Cause};
use registry::strategy::Call;
use registry::subresources::Tokens;

use crate::local::{Gvr, Local};

/// Objects for the authenticators; set once the registry exists.
#[derive(Clone, Default)]
pub(crate) struct Objects(Arc<OnceLock<Local>>);

impl Objects {
    pub(crate) fn set(&self, local: Local) {
        // Set once by the assembly.
        let _ = self.0.set(local);
    }

    async fn get(&self, gvr: Gvr, namespace: &str, name: &str) -> Option<Arc<Value>> {
        match self.0.get()?.get(gvr, namespace, name).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(resource = gvr.2, namespace, name, err = %error, "looking up an object of a token");
                None
            }
        }
    }
}

fn secret_data(secret: &Value, key: &str) -> Vec<u8> {
    let text = secret.str_at(&["data", key]).unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

#[async_trait]
impl Lookup for Objects {
    async fn find(&self, resource: &'static str, namespace: &str, name: &str) -> Option<Found> {
        let object = self.get(Gvr("", "v1", resource), namespace, name).await?;
        let deleted = object.str_at(&["metadata", "deletionTimestamp"]).and_then(|t| t.parse().ok());
        Some(Found {
            uid: object.str_at(&["metadata", "uid"]).unwrap_or_default().to_owned(),
            deleted_at: deleted,
            token: if resource == "secrets" { secret_data(&object, "token") } else { Vec::new() },
        })
    }
}

#[async_trait]
impl BootstrapSecrets for Objects {
    async fn get(&self, name: &str) -> Option<BootstrapSecret> {
        let secret = Objects::get(self, Gvr::SECRETS, "kube-system", name).await?;
        let keys = secret.map_at(&["data"]).map(|m| m.keys().map(|k| k.to_string()).collect::<Vec<_>>());
        Some(BootstrapSecret {
            kind: secret.str_at(&["type"]).unwrap_or_default().to_owned(),
            deleting: secret.str_at(&["metadata", "deletionTimestamp"]).is_some(),
            data: keys
                .unwrap_or_default()
                .into_iter()
                .map(|k| (k.clone(), secret_data(&secret, &k)))
                .collect(),
        })
    }
}

/// Issues and reviews tokens for the registry.
pub(crate) struct TokenService {
    pub(crate) key: Option<SigningKey>,
    pub(crate) issuer: String,
    pub(crate) api_audiences: Vec<String>,
    pub(crate) max_expiration: Duration,
    pub(crate) extend_expiration: bool,
    pub(crate) authenticator: Arc<dyn TokenAuthenticator>,
}

/// An hour and seven seconds: what kubelets ask for, and what marks a token whose life may be extended.
const WARN_ONLY_BOUND: i64 = 3607;
/// A year. Upstream: `serviceaccount.ExpirationExtensionSeconds`.
const EXTENDED: i64 = 24 * 365 * 60 * 60;
/// Shortest and longest lifetimes that are accepted.
const LIFETIMES: std::ops::RangeInclusive<i64> = 600..=(1 << 32);

fn set(value: &mut Value, path: &[&str], new: impl Into<Value>) -> Result<(), ApiError> {
    value.set_path(path, new).map(|_| ()).map_err(ApiError::internal)
}

impl TokenService {
    /// The object a token is to be bound to.
    async fn bind(&self, call: &Call<'_>, request: &Value, bound: &mut Bound) -> Result<(), ApiError> {
        let path = |field: &str| ["spec", "boundObjectRef", field].map(str::to_owned);
        let text =
            |field: &str| request.str_at(&path(field).each_ref().map(String::as_str)).unwrap_or_default();
        let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
        if request.get_path(&["spec", "boundObjectRef"]).is_none_or(Value::is_null) {
            return Ok(());
        }
        let (resource, api_version) = match kind {
            "Pod" => ("pods", "v1"),
            "Secret" => ("secrets", "v1"),
            "Node" => ("nodes", "v1"),
            _ => {
                let text = format!(
                    "cannot bind token for serviceaccount {:?} to resource of kind {kind:?}",
                    bound.account.name
                );
                return Err(ApiError::bad_request(text));
            }
        };
        if !text("apiVersion").is_empty() && text("apiVersion") != api_version {
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {}, Kind={kind}",
                text("apiVersion")
            )));
        }
        let namespace = if kind == "Node" { "" } else { bound.namespace.as_str() };
        let found = call.core.find("", resource, namespace, name).await?;
        let found = found.ok_or_else(|| ApiError::not_found("", resource, name))?;
        let actual = found.str_at(&["metadata", "uid"]).unwrap_or_default();
        if !uid.is_empty() && uid != actual {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(ApiError::conflict("", resource, name, why));
        }
        let reference = Reference { name: name.to_owned(), uid: actual.to_owned() };
        match kind {
            "Secret" => bound.secret = Some(reference),
            "Node" => bound.node = Some(reference),
            _ => {
                let account = found.str_at(&["spec", "serviceAccountName"]).unwrap_or_default();
                if account != bound.account.name {
                    let text = format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        bound.account.name
                    );
                    return Err(ApiError::bad_request(text));
                }
                bound.pod = Some(reference);
                bound.node = self.node_of(call, &found).await?;
            }
        }
        Ok(())
    }

    async fn node_of(&self, call: &Call<'_>, pod: &Value) -> Result<Option<Reference>, ApiError> {
        let Some(name) = pod.str_at(&["spec", "nodeName"]).filter(|n| !n.is_empty()) else { return Ok(None) };
        let node = call.core.find("", "nodes", "", name).await?;
        let uid = node.as_ref().and_then(|n| n.str_at(&["metadata", "uid"])).unwrap_or_default();
        Ok(Some(Reference { name: name.to_owned(), uid: uid.to_owned() }))
    }

    fn check_lifetime(seconds: i64) -> Result<(), ApiError> {
        if LIFETIMES.contains(&seconds) {
            return Ok(());
        }
        let why = if seconds < *LIFETIMES.start() {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {seconds}: {why}"),
            field: "spec.expirationSeconds".into(),
        };
        Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", vec![cause]))
    }
}

#[async_trait]
impl Tokens for TokenService {
    async fn issue(&self, call: &Call<'_>, account: &Value, mut request: Value) -> Result<Value, ApiError> {
        let Some(key) = &self.key else { return Err(ApiError::internal("no service account signing key")) };
        let meta = |field: &str| account.str_at(&["metadata", field]).unwrap_or_default().to_owned();
        let audiences: Vec<String> = request
            .list_at(&["spec", "audiences"])
            .map(|l| l.iter().filter_map(|v| v.as_str()).map(str::to_owned).collect())
            .unwrap_or_default();
        let audiences = if audiences.is_empty() { self.api_audiences.clone() } else { audiences };
        let mut lifetime = request.i64_at(&["spec", "expirationSeconds"]).unwrap_or(3600);
        Self::check_lifetime(lifetime)?;
        let limit = i64::try_from(self.max_expiration.as_secs()).unwrap_or(i64::MAX);
        if limit > 0 && lifetime > limit {
            call.warn(format!("requested expiration of {lifetime} seconds shortened to {limit} seconds"));
            lifetime = limit;
        }
        let mut bound = Bound {
            namespace: meta("namespace"),
            account: Reference { name: meta("name"), uid: meta("uid") },
            lifetime,
            audiences: audiences.clone(),
            ..Bound::default()
        };
        self.bind(call, &request, &mut bound).await?;
        let ours = audiences.iter().all(|a| self.api_audiences.contains(a));
        if self.extend_expiration && lifetime == WARN_ONLY_BOUND && bound.pod.is_some() && ours {
            bound.warn_after = lifetime;
            bound.lifetime = if limit > 0 { EXTENDED.min(limit) } else { EXTENDED };
        }
        let id = uuid::Uuid::new_v4().to_string();
        let key_of_credential = "authentication.kubernetes.io/issued-credential-id";
        call.request.audit.annotate(key_of_credential, format!("JTI={id}"));
        let claims = bound.to_json(&self.issuer, &id, call.now);
        let token = auth::jwt::sign(key, &claims).map_err(ApiError::internal)?;
        let expires = Timestamp::from_second(call.now.as_second() + lifetime).map_err(ApiError::internal)?;
        set(&mut request, &["spec", "expirationSeconds"], lifetime)?;
        let list: Vec<Value> = audiences.iter().map(|a| Value::from(a.as_str())).collect();
        set(&mut request, &["spec", "audiences"], Value::List(list.into_iter().collect()))?;
        set(&mut request, &["metadata", "namespace"], bound.namespace.as_str())?;
        set(&mut request, &["metadata", "name"], bound.account.name.as_str())?;
        set(&mut request, &["metadata", "creationTimestamp"], format!("{:.0}", call.now).as_str())?;
        set(&mut request, &["status", "token"], token.as_str())?;
        set(&mut request, &["status", "expirationTimestamp"], format!("{expires:.0}").as_str())?;
        Ok(request)
    }

    async fn review(&self, _: &Call<'_>, mut review: Value) -> Result<Value, ApiError> {
        let token = review.str_at(&["spec", "token"]).unwrap_or_default().to_owned();
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> = review
            .list_at(&["spec", "audiences"])
            .map(|l| l.iter().filter_map(|v| v.as_str()).map(str::to_owned).collect())
            .unwrap_or_default();
        let audiences = if audiences.is_empty() { self.api_audiences.clone() } else { audiences };
        let mut status = Map::new();
        match self.authenticator.authenticate(&token, &audiences).await {
            Ok(Some(found)) => {
                let user = auth::authenticator::with_authenticated_group((*found.user).clone());
                status.insert("authenticated", true);
                status.insert("user", user_value(&user));
                let list: Vec<Value> = found.audiences.iter().map(|a| Value::from(a.as_str())).collect();
                status.insert("audiences", Value::List(list.into_iter().collect()));
            }
            Ok(None) => {}
            Err(error) => {
                status.insert("error", error.0.as_str());
            }
        }
        set(&mut review, &["status"], status)?;
        Ok(review)
    }
}

fn user_value(user: &auth::UserInfo) -> Map {
    let texts = |all: &[String]| Value::List(all.iter().map(|t| Value::from(t.as_str())).collect());
    let mut out = Map::new();
    out.insert("username", user.name.as_str());
    if !user.uid.is_empty() {
        out.insert("uid", user.uid.as_str());
    }
    out.insert("groups", texts(&user.groups));
    if !user.extra.is_empty() {
        let mut extra = Map::new();
        for (key, values) in &user.extra {
            extra.insert(key.as_str(), texts(values));
        }
        out.insert("extra", extra);
    }
    out
}
