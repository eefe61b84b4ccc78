//! One webhook of a configuration, parsed, and which requests it is called for.
//! Upstream: `plugin/webhook/accessors.go`, `generic/webhook.go` (`ShouldCallHook`).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use machinery::Value;

use super::super::Attributes;
use super::super::expressions::{Asker, Expression, Scope, Values, Wanted};
use super::super::matching::{Matched, NamedRule, Selectors, matched};
use super::review;
use super::versioned::View;
use crate::core::Resource;
use crate::errors::ApiError;
use crate::meta;

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An HTTPS URL.
    Url(String),
    /// A service, reached at the address the server resolves it to, known by its name to TLS.
    Service {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// URL path.
        path: String,
        /// Port.
        port: u16,
    },
    /// Neither: what validation does not let pass.
    None,
}

/// How a webhook is reached. Webhooks with equal ones share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    /// Where.
    pub target: Target,
    /// PEM certificates that its certificate must lead to; empty for the system's.
    pub ca_bundle: Vec<u8>,
}

/// A webhook.
#[derive(Debug)]
pub struct Hook {
    /// Unique among the webhooks of a phase.
    pub(super) uid: String,
    /// Its name.
    pub(super) name: String,
    /// The configuration's name.
    pub(super) configuration: String,
    pub(super) client: ClientConfig,
    pub(super) timeout: Duration,
    /// Whether a failed call lets the request pass.
    pub(super) ignores_failures: bool,
    /// Whether it may be called for dry runs; `None` when it does not say.
    pub(super) dry_run: Option<bool>,
    /// Whether it is called again after later changes.
    pub(super) reinvocable: bool,
    pub(super) review_versions: Vec<String>,
    equivalent: bool,
    rules: Vec<NamedRule>,
    selectors: Selectors,
    /// All must hold.
    conditions: Vec<Expression>,
}

/// A webhook that is to be called, and the resource it is told of.
pub struct Invocation<'a> {
    pub hook: &'a Hook,
    pub resource: Matched<'a>,
}

fn client_config(hook: &Value) -> ClientConfig {
    let text = |path: &[&str]| hook.str_at(path).unwrap_or_default().to_owned();
    let service = |field| ["clientConfig", "service", field];
    let is_service = hook.map_at(&["clientConfig", "service"]).is_some();
    let target = match hook.str_at(&["clientConfig", "url"]) {
        _ if is_service => Target::Service {
            namespace: text(&service("namespace")),
            name: text(&service("name")),
            path: text(&service("path")),
            port: hook.i64_at(&service("port")).and_then(|p| u16::try_from(p).ok()).unwrap_or(443),
        },
        Some(url) => Target::Url(url.to_owned()),
        None => Target::None,
    };
    let ca = hook.str_at(&["clientConfig", "caBundle"]).unwrap_or_default();
    let ca_bundle = base64::engine::general_purpose::STANDARD.decode(ca).unwrap_or_default();
    ClientConfig { target, ca_bundle }
}

impl Hook {
    /// The webhooks of a configuration, in its order.
    pub(super) fn all_of(configuration: &Value) -> Vec<Hook> {
        let owner = meta::name(configuration);
        let hooks = configuration.list_at(&["webhooks"]).into_iter().flat_map(|l| l.iter());
        let mut out: Vec<Hook> = Vec::new();
        for hook in hooks {
            let name = hook.str_at(&["name"]).unwrap_or_default();
            let before = out.iter().filter(|h| h.name == name).count();
            out.push(Hook::read(hook, owner, format!("{owner}/{name}/{before}")));
        }
        out
    }

    fn read(hook: &Value, configuration: &str, uid: String) -> Hook {
        let is = |field: &str, value: &str| hook.str_at(&[field]) == Some(value);
        let list = |field: &str| hook.list_at(&[field]).into_iter().flat_map(|l| l.iter());
        let seconds = hook.i64_at(&["timeoutSeconds"]).and_then(|s| u64::try_from(s).ok()).unwrap_or(10);
        Hook {
            uid,
            name: hook.str_at(&["name"]).unwrap_or_default().to_owned(),
            configuration: configuration.to_owned(),
            client: client_config(hook),
            timeout: Duration::from_secs(seconds),
            ignores_failures: is("failurePolicy", "Ignore"),
            dry_run: hook.str_at(&["sideEffects"]).map(|s| matches!(s, "None" | "NoneOnDryRun")),
            reinvocable: is("reinvocationPolicy", "IfNeeded"),
            review_versions: list("admissionReviewVersions")
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect(),
            equivalent: is("matchPolicy", "Equivalent"),
            rules: list("rules").map(NamedRule::read).collect(),
            selectors: Selectors::read(hook),
            conditions: list("matchConditions")
                .map(|c| {
                    let text = c.str_at(&["expression"]).unwrap_or_default();
                    Expression::stored(text, Wanted::Condition, &Scope::new(false))
                })
                .collect(),
        }
    }

    /// Whether the request is one for this webhook, and as which resource it sees it.
    ///
    /// # Errors
    /// When a rule matches but a selector cannot be decided.
    pub(super) async fn invocation<'a>(
        &'a self,
        a: &Attributes<'a>,
    ) -> Result<Option<Invocation<'a>>, ApiError> {
        // Most requests are none of this webhook's business: rules are the cheapest to ask, selectors may read.
        let Some(resource) = matched(a, &self.rules, self.equivalent) else { return Ok(None) };
        let selected = self.selectors.select(a).await?;
        Ok(selected.then_some(Invocation { hook: self, resource }))
    }

    /// Whether the match conditions hold; failures are what the failure policy says.
    ///
    /// # Errors
    /// 403 for a failure that is not ignored.
    pub(super) fn conditions_hold(
        &self,
        a: &Attributes<'_>,
        invocation: &Invocation<'_>,
    ) -> Result<bool, ApiError> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        match values(a, &invocation.resource)?.conditions(&self.conditions) {
            Ok(hold) => Ok(hold),
            Err(_) if self.ignores_failures => Ok(false),
            Err(why) => Err(ApiError::forbidden(a.group(), a.resource(), &a.name, why)),
        }
    }
}

/// What expressions about a request see, which is matched as one of `resource`; without namespace and parameters.
pub(in crate::admission) fn values(a: &Attributes<'_>, resource: &Resource) -> Result<Values, ApiError> {
    let view = View::new(a, resource);
    let tree = |object: &Option<Value>| object.as_ref().map_or(Ok(Value::Null), |o| view.tree(o));
    let row = a.call.resource.row;
    let differs = resource.row.kind != row.kind;
    Ok(Values {
        object: tree(&a.object)?,
        old: tree(&a.old)?,
        request: Value::from(review::request(a, &view, resource)),
        condition_request: differs.then(|| Value::from(review::request(a, &view, a.call.resource))),
        namespace: Value::Null,
        params: Value::Null,
        asker: Arc::new(Asker::new(a.call.core.authorizer()?.clone(), a.call.request)),
        resource: cel::authz::ResourceQuery {
            group: row.kind.group.to_owned(),
            resource: row.resource.to_owned(),
            subresource: a.subresource().to_owned(),
            namespace: a.namespace.clone(),
            name: a.name.clone(),
            ..Default::default()
        },
    })
}
