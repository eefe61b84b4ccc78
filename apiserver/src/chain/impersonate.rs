//! Acting as somebody else: `Impersonate-*` headers.
//!
//! Constrained modes (`impersonate:<mode>` together with `impersonate-on:<mode>:<verb>`) are tried first, the legacy
//! verb `impersonate` last; when all refuse, the client sees the first refusal.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/filters/impersonation/{constrained_impersonation,mode}.go`.

use std::sync::Arc;

use auth::request_header::unescape_key;
use auth::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, Attributes, NODES_GROUP, UserInfo};
use http::HeaderMap;
use registry::audit::Layer;
use registry::errors::ApiError;

use super::authorize;
use crate::server::{Call, Server};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Switches the request's user, if the headers ask for it and the real user may.
pub(crate) async fn apply(server: &Server, call: &mut Call) -> Result<(), ApiError> {
    let Some(wanted) = take_headers(&mut call.parts.headers)? else { return Ok(()) };
    let audit = call.audit.clone();
    audit.timed(Layer::Impersonation, impersonate(server, call, &wanted)).await
}

async fn impersonate(server: &Server, call: &mut Call, wanted: &UserInfo) -> Result<(), ApiError> {
    let mut first = None;
    for mode in [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo] {
        if !mode.fits(wanted, &call.user) {
            continue;
        }
        match constrained(server, call, mode, wanted).await {
            Ok(user) => {
                become_user(call, user, Some(format!("impersonate:{}", mode.name())));
                return Ok(());
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    let legacy = checked_user(server, &call.user, "impersonate", None, wanted).await;
    let user = legacy.map_err(|error| first.unwrap_or(error))?;
    tracing::info!(requestor = %call.user.name, user = %user.name, "impersonating");
    become_user(call, user, None);
    Ok(())
}

/// Goes on as the user; the audit event tells which constrained verb allowed it.
fn become_user(call: &mut Call, user: UserInfo, constraint: Option<String>) {
    if let Some(recorded) = &call.recorded {
        recorded.impersonated(&user, constraint);
    }
    call.user = Arc::new(user);
}

/// Reads and removes the headers.
fn take_headers(headers: &mut HeaderMap) -> Result<Option<UserInfo>, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut wanted = UserInfo { name: text(USER), uid: text(UID), ..UserInfo::default() };
    wanted.groups =
        headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    let mut names = vec![USER.to_owned(), UID.to_owned(), GROUP.to_owned()];
    for (name, value) in headers.iter() {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) {
            wanted.extra.entry(unescape_key(key)).or_default().push(value.to_owned());
            names.push(name.as_str().to_owned());
        }
    }
    if wanted.name.is_empty() {
        if !wanted.uid.is_empty() || !wanted.groups.is_empty() || !wanted.extra.is_empty() {
            let text = format!("requested {wanted:?} without impersonating a user name");
            return Err(ApiError::bad_request(text));
        }
        return Ok(None);
    }
    for name in names {
        headers.remove(name);
    }
    Ok(Some(wanted))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
        }
    }

    /// Whether the mode applies at all; the check that follows is only about permission.
    fn fits(self, wanted: &UserInfo, requestor: &UserInfo) -> bool {
        let name_only = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = wanted.name.strip_prefix("system:node:");
        let account = split_service_account(&wanted.name);
        match self {
            Mode::AssociatedNode => {
                let own = requestor.extra.get(NODE_NAME).map(Vec::as_slice);
                name_only
                    && split_service_account(&requestor.name).is_some()
                    && node.is_some_and(|n| own == Some(&[n.to_owned()]))
            }
            Mode::ArbitraryNode => name_only && node.is_some_and(|n| !n.is_empty()),
            Mode::ServiceAccount => name_only && account.is_some(),
            Mode::UserInfo => node.is_none() && account.is_none(),
        }
    }
}

async fn constrained(
    server: &Server,
    call: &Call,
    mode: Mode,
    wanted: &UserInfo,
) -> Result<UserInfo, ApiError> {
    let mut on = authorize::attributes(call);
    on.verb = format!("impersonate-on:{}:{}", mode.name(), on.verb);
    allowed(server, &on).await?;
    checked_user(server, &call.user, &format!("impersonate:{}", mode.name()), Some(mode), wanted).await
}

/// Checks each wanted property, and completes the user's groups.
async fn checked_user(
    server: &Server,
    requestor: &Arc<UserInfo>,
    verb: &str,
    mode: Option<Mode>,
    wanted: &UserInfo,
) -> Result<UserInfo, ApiError> {
    let mut user = wanted.clone();
    let legacy = mode.is_none();
    let group = if legacy { "" } else { "authentication.k8s.io" };
    let question = |group: &str, resource: &str, name: &str| Attributes {
        user: requestor.clone(),
        verb: verb.to_owned(),
        api_group: group.to_owned(),
        api_version: "v1".to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        resource_request: true,
        ..Attributes::default()
    };
    let mut who = question(group, "users", &wanted.name);
    if !legacy && let Some(node) = wanted.name.strip_prefix("system:node:") {
        who.resource = "nodes".to_owned();
        who.name = if mode == Some(Mode::AssociatedNode) { "*".to_owned() } else { node.to_owned() };
        user.groups = vec![NODES_GROUP.to_owned()];
    }
    if let Some((namespace, name)) = split_service_account(&wanted.name) {
        who.resource = "serviceaccounts".to_owned();
        (who.namespace, who.name) = (namespace.to_owned(), name.to_owned());
        if wanted.groups.is_empty() {
            user.groups = auth::service_account_groups(namespace);
        }
    }
    allowed(server, &who).await?;
    if !wanted.uid.is_empty() {
        allowed(server, &question("authentication.k8s.io", "uids", &wanted.uid)).await?;
    }
    for name in &wanted.groups {
        allowed(server, &question(group, "groups", name)).await?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            let mut extra = question("authentication.k8s.io", "userextras", value);
            extra.subresource.clone_from(key);
            allowed(server, &extra).await?;
        }
    }
    complete_groups(&mut user);
    Ok(user)
}

fn complete_groups(user: &mut UserInfo) {
    if user.name == ANONYMOUS {
        if !user.in_group(ALL_UNAUTHENTICATED) {
            user.groups.push(ALL_UNAUTHENTICATED.to_owned());
        }
    } else if !user.in_group(ALL_UNAUTHENTICATED) && !user.in_group(ALL_AUTHENTICATED) {
        user.groups.push(ALL_AUTHENTICATED.to_owned());
    }
}

async fn allowed(server: &Server, attributes: &Attributes) -> Result<(), ApiError> {
    let verdict = server.authorizer.authorize(attributes).await;
    if verdict.allowed() { Ok(()) } else { Err(authorize::forbidden(attributes, &verdict.reason)) }
}

/// `system:serviceaccount:<namespace>:<name>`
pub(crate) fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
