//! Asks the authorizer, and words the refusal.
//! Upstream: `endpoints/filters/authorization.go`, `handlers/responsewriters/errors.go`.

use auth::{Attributes, Decision};
use registry::errors::ApiError;

use crate::server::{Call, Server};

/// Why a request may not proceed.
pub(crate) enum Refusal {
    /// 403.
    Forbidden(ApiError),
    /// No authorizer allowed it, and one of them failed: 500.
    Failed(String),
}

/// The question for the authorizer.
pub(crate) fn attributes(call: &Call) -> Attributes {
    let info = &call.info;
    Attributes {
        user: call.user.clone(),
        verb: info.verb.clone(),
        namespace: info.namespace.clone(),
        api_group: info.api_group.clone(),
        api_version: info.api_version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        name: info.name.clone(),
        resource_request: info.is_resource_request,
        path: info.path.clone(),
        field_selector: info.field_selector.clone(),
        label_selector: info.label_selector.clone(),
    }
}

/// Checks one request.
pub(crate) async fn check(server: &Server, call: &Call) -> Result<(), Refusal> {
    let attributes = attributes(call);
    let verdict = server.authorizer.authorize(&attributes).await;
    const DECISION: &str = "authorization.k8s.io/decision";
    const REASON: &str = "authorization.k8s.io/reason";
    if verdict.decision == Decision::Allow {
        if call.audit.enabled() {
            call.audit.annotate(DECISION, "allow");
            call.audit.annotate(REASON, verdict.reason);
        }
        return Ok(());
    }
    if let Some(error) = verdict.error {
        call.audit.annotate(REASON, "internal error");
        return Err(Refusal::Failed(error));
    }
    if call.audit.enabled() {
        call.audit.annotate(DECISION, "forbid");
        call.audit.annotate(REASON, verdict.reason.as_str());
    }
    tracing::debug!(path = %call.info.path, user = %call.user.name, reason = %verdict.reason, "Forbidden");
    Err(Refusal::Forbidden(forbidden(&attributes, &verdict.reason)))
}

/// The 403 for attributes that were refused.
pub(crate) fn forbidden(attributes: &Attributes, reason: &str) -> ApiError {
    let mut why = sanitize(&describe(attributes));
    if !reason.is_empty() {
        why += &format!(": {reason}");
    }
    ApiError::forbidden(&attributes.api_group, &attributes.resource, &attributes.name, why)
}

fn describe(attributes: &Attributes) -> String {
    let Attributes { user, verb, namespace, api_group: group, .. } = attributes;
    let name = &user.name;
    if !attributes.resource_request {
        return format!("User {name:?} cannot {verb} path {:?}", attributes.path);
    }
    let mut resource = attributes.resource.clone();
    if !attributes.subresource.is_empty() {
        resource += &format!("/{}", attributes.subresource);
    }
    let what = format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?}");
    if namespace.is_empty() {
        format!("{what} at the cluster scope")
    } else {
        format!("{what} in the namespace {namespace:?}")
    }
}

/// Nothing that looks like HTML leaves in a text from a request.
pub(crate) fn sanitize(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use auth::UserInfo;

    use super::*;

    #[test]
    fn texts() {
        let base = Attributes {
            user: Arc::new(UserInfo::new("x", &[])),
            verb: "list".into(),
            resource: "pods".into(),
            resource_request: true,
            ..Attributes::default()
        };
        let check = |a: &Attributes, reason: &str, want: &str| assert_eq!(forbidden(a, reason).message, want);
        let namespaced = Attributes { namespace: "y".into(), ..base.clone() };
        check(
            &namespaced,
            "",
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y""#,
        );
        let sub = Attributes {
            api_group: "apps".into(),
            resource: "deployments".into(),
            subresource: "scale".into(),
            name: "d".into(),
            ..base.clone()
        };
        check(
            &sub,
            "r",
            r#"deployments.apps "d" is forbidden: User "x" cannot list resource "deployments/scale" in API group "apps" at the cluster scope: r"#,
        );
        let path = Attributes {
            resource_request: false,
            resource: String::new(),
            verb: "get".into(),
            path: "/<x>".into(),
            ..base
        };
        check(&path, "", r#"forbidden: User "x" cannot get path "/&lt;x&gt;""#);
    }
}
