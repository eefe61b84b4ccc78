//! One webhook of a configuration, parsed, and which requests it is called for.
//! Upstream: `plugin/webhook/accessors.go`, `generic/webhook.go` (`ShouldCallHook`).

use std::time::Duration;

use base64::Engine as _;
use machinery::Value;
use machinery::labels::Selector;

use super::super::{Attributes, Operation};
use super::rules::{Rule, Subject};
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
    rules: Vec<Rule>,
    namespaces: Result<Selector, String>,
    objects: Result<Selector, String>,
}

/// A webhook that is to be called, and the resource it is told of.
pub struct Invocation<'a> {
    pub hook: &'a Hook,
    pub resource: &'a Resource,
}

fn selector(hook: &Value, field: &str) -> Result<Selector, String> {
    Selector::from_value(hook.get(field)).map_err(|e| e.to_string())
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
            rules: list("rules").map(Rule::read).collect(),
            namespaces: selector(hook, "namespaceSelector"),
            objects: selector(hook, "objectSelector"),
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
        let Some(resource) = self.resource(a) else { return Ok(None) };
        let namespaces = self.selects_namespace(a).await;
        if matches!(namespaces, Ok(false)) {
            return Ok(None);
        }
        if !self.selects_object(a).or_else(|e| namespaces.clone().and(Err(e)))? {
            return Ok(None);
        }
        namespaces?;
        Ok(Some(Invocation { hook: self, resource }))
    }

    fn resource<'a>(&self, a: &Attributes<'a>) -> Option<&'a Resource> {
        let own = a.call.resource;
        let matches = |resource: &Resource, rule: &Rule| {
            let row = resource.row;
            rule.matches(Subject {
                operation: a.operation,
                group: row.kind.group,
                version: row.kind.version,
                resource: row.resource,
                subresource: a.subresource(),
                namespace: &a.namespace,
            })
        };
        if self.rules.iter().any(|rule| matches(own, rule)) {
            return Some(own);
        }
        if !self.equivalent {
            return None;
        }
        // Resources that are stored in one place are one; earlier rules count first.
        let key = own.row.stored.as_ref()?.key;
        let equivalents = || {
            a.call.core.resources().iter().filter(move |r| {
                r.row.stored.as_ref().is_some_and(|s| s.key == key)
                    && (a.subresource().is_empty() || r.row.subresource(a.subresource()).is_some())
            })
        };
        self.rules.iter().find_map(|rule| equivalents().find(|r| matches(r, rule))).map(|r| &**r)
    }

    /// Upstream: `predicates/namespace/matcher.go`.
    async fn selects_namespace(&self, a: &Attributes<'_>) -> Result<bool, ApiError> {
        let is_namespaces = a.resource() == "namespaces";
        if a.namespace.is_empty() && !is_namespaces {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let matches = |object: &Value| selector.matches(&meta::labels(object));
        // A namespace that is being written is not in the store yet.
        if is_namespaces
            && a.subresource().is_empty()
            && matches!(a.operation, Operation::Create | Operation::Update)
            && let Some(object) = &a.object
        {
            return Ok(matches(object));
        }
        match a.call.core.find("", "namespaces", "", &a.namespace).await? {
            Some(namespace) => Ok(matches(&namespace)),
            None => Err(ApiError::not_found("", "namespaces", &a.namespace)),
        }
    }

    /// Upstream: `predicates/object/matcher.go`.
    fn selects_object(&self, a: &Attributes<'_>) -> Result<bool, ApiError> {
        let selector = self.objects.as_ref().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        // The options of a connect request have no labels, not even none.
        if a.operation == Operation::Connect {
            return Ok(false);
        }
        let matches =
            |object: &Option<Value>| object.as_ref().is_some_and(|o| selector.matches(&meta::labels(o)));
        Ok(matches(&a.object) || matches(&a.old))
    }
}
