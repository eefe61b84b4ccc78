//! Questions that are answered and never stored: access reviews and self reviews; tokens through [`Tokens`].
//! Upstream: `pkg/registry/authorization` and `pkg/registry/authentication`.

use std::collections::BTreeMap;
use std::sync::Arc;

use auth::UserInfo;
use auth::authorizer::{Attributes as AuthzAttributes, Decision};
use machinery::{Map, Value};

use ::api::validation::field::{Error as FieldError, Path};

use crate::admission::{Attributes, Operation};
use crate::api::{Body, Written};
use crate::codec;
use crate::errors::ApiError;
use crate::meta;
use crate::object::Owned;
use crate::store::before;
use crate::strategy::Call;

mod selectors;

use selectors::Selectors;

/// POST of a review.
pub async fn create(call: &Call<'_>, body: &Body) -> Result<Written, ApiError> {
    let kind = call.resource.row.kind;
    let mut review = codec::decode_sent(call.request, kind, body)?;
    meta::wipe_system_fields(&mut review);
    if call.resource.row.namespaced {
        before::ensure_namespace(&mut review, &call.request.info.namespace)?;
    }
    let mut attributes = Attributes::new(call, Operation::Create, Some(review), None);
    call.core.admission.admit(&mut attributes).await?;
    call.core.admission.validate(&attributes).await?;
    let review = attributes.object.take().unwrap_or_default();
    let answered = match kind.kind {
        "SubjectAccessReview" | "LocalSubjectAccessReview" => access(call, review, false).await?,
        "SelfSubjectAccessReview" => access(call, review, true).await?,
        "SelfSubjectReview" => who_am_i(call, review),
        "SelfSubjectRulesReview" => rules(call, review)?,
        "TokenReview" => call.core.tokens()?.review(call, review).await?,
        _ => return Err(super::not_implemented(call)),
    };
    Ok(Written { object: Owned::handle(answered, kind), created: true })
}

/// POST to serviceaccounts/token.
pub async fn token(call: &Call<'_>, body: &Body) -> Result<Written, ApiError> {
    let kind = super::body_kind(call)?;
    let tokens = call.core.tokens()?;
    let mut request = codec::decode_sent(call.request, kind, body)?;
    before::ensure_namespace(&mut request, &call.request.info.namespace)?;
    if meta::name(&request).is_empty() {
        meta::set(&mut request, "name", call.request.info.name.clone());
    }
    let mut attributes = Attributes::new(call, Operation::Create, Some(request), None).of_kind(kind);
    call.core.admission.admit(&mut attributes).await?;
    let info = &call.request.info;
    let account = call
        .core
        .find("", "serviceaccounts", &info.namespace, &info.name)
        .await?
        .ok_or_else(|| ApiError::not_found("", "serviceaccounts", &info.name))?;
    call.core.admission.validate(&attributes).await?;
    let request = attributes.object.take().unwrap_or_default();
    let issued = tokens.issue(call, &account, request).await?;
    Ok(Written { object: Owned::handle(issued, kind), created: true })
}

/// Issues and reviews tokens; the server's authenticator knows the keys.
#[async_trait::async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// Completes a TokenRequest for a service account.
    async fn issue(&self, call: &Call<'_>, account: &Value, request: Value) -> Result<Value, ApiError>;
    /// Completes a TokenReview.
    async fn review(&self, call: &Call<'_>, review: Value) -> Result<Value, ApiError>;
}

async fn access(call: &Call<'_>, mut review: Value, own: bool) -> Result<Value, ApiError> {
    let errors = validate(call, &review, own);
    if !errors.is_empty() {
        let kind = call.resource.row.kind;
        return Err(ApiError::invalid_fields(kind.group, kind.kind, "", &errors));
    }
    if call.resource.row.namespaced && call.request.info.namespace.is_empty() {
        return Err(ApiError::bad_request("namespace is required on this type: "));
    }
    let user = if own { call.request.user.clone() } else { Arc::new(subject(&review)) };
    let selectors = Selectors::of(&review);
    let ignored = selectors.ignored();
    let verdict = call.core.authorizer()?.authorize(&question(&review, user, selectors)).await;
    let mut status = Map::new();
    status.insert("allowed", verdict.decision == Decision::Allow);
    if verdict.decision == Decision::Deny {
        status.insert("denied", true);
    }
    if !verdict.reason.is_empty() {
        status.insert("reason", verdict.reason);
    }
    let errors: Vec<String> = verdict.error.into_iter().chain(ignored).collect();
    if !errors.is_empty() {
        status.insert("evaluationError", errors.join("; "));
    }
    review.set_path(&["status"], status).map_err(ApiError::internal)?;
    Ok(review)
}

/// `pkg/apis/authorization/validation/validation.go`, of the selectors only what the two forms of each need.
fn validate(call: &Call<'_>, review: &Value, own: bool) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let has = |field: &str| review.get_path(&["spec", field]).is_some_and(|v| !v.is_null());
    let mut errors = Vec::new();
    match (has("resourceAttributes"), has("nonResourceAttributes")) {
        (true, true) => errors.push(FieldError::invalid(
            &spec.child("nonResourceAttributes"),
            "",
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&spec.child("resourceAttributes"), bad_null(), detail));
        }
        _ => {}
    }
    let text = |field: &str| review.str_at(&["spec", field]).unwrap_or("");
    let no_groups = review.list_at(&["spec", "groups"]).is_none_or(|l| l.is_empty());
    if !own && text("user").is_empty() && no_groups {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&spec.child("user"), text("user"), detail));
    }
    errors.extend(selectors::validate(review));
    if call.resource.row.kind.kind == "LocalSubjectAccessReview" {
        let namespace = review.str_at(&["spec", "resourceAttributes", "namespace"]).unwrap_or("");
        if namespace != meta::namespace(review) {
            let resource = spec.child("resourceAttributes");
            errors.push(FieldError::invalid(
                &resource.child("namespace"),
                namespace,
                "must match metadata.namespace",
            ));
        }
    }
    errors
}

fn bad_null() -> ::api::validation::field::Bad {
    ::api::validation::field::Bad::Raw("null".into())
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_list);
    list.into_iter().flat_map(|l| l.iter()).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subject(review: &Value) -> UserInfo {
    let extra: BTreeMap<String, Vec<String>> = review
        .map_at(&["spec", "extra"])
        .into_iter()
        .flat_map(|m| m.iter())
        .map(|(k, v)| (k.to_string(), strings(Some(v))))
        .collect();
    UserInfo {
        name: review.str_at(&["spec", "user"]).unwrap_or("").into(),
        uid: review.str_at(&["spec", "uid"]).unwrap_or("").into(),
        groups: strings(review.get_path(&["spec", "groups"])),
        extra,
    }
}

fn question(review: &Value, user: Arc<UserInfo>, selectors: Selectors) -> AuthzAttributes {
    let resource = review.get_path(&["spec", "resourceAttributes"]).filter(|v| !v.is_null());
    let text =
        |from: Option<&Value>, field: &str| from.and_then(|v| v.str_at(&[field])).unwrap_or("").to_owned();
    if resource.is_some() {
        return AuthzAttributes {
            user,
            resource_request: true,
            verb: text(resource, "verb"),
            namespace: text(resource, "namespace"),
            api_group: text(resource, "group"),
            // No version means every version.
            api_version: Some(text(resource, "version")).filter(|v| !v.is_empty()).unwrap_or("*".into()),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            name: text(resource, "name"),
            field_selector: selectors.field.text,
            label_selector: selectors.label.text,
            ..AuthzAttributes::default()
        };
    }
    let path = review.get_path(&["spec", "nonResourceAttributes"]);
    AuthzAttributes { user, verb: text(path, "verb"), path: text(path, "path"), ..AuthzAttributes::default() }
}

/// What the user may do in a namespace. Upstream: `pkg/registry/authorization/selfsubjectrulesreview/rest.go`.
fn rules(call: &Call<'_>, mut review: Value) -> Result<Value, ApiError> {
    let namespace = review.str_at(&["spec", "namespace"]).unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let found = call.core.authorizer()?.rules_for(&call.request.user, &namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in found.rules {
        let mut out = Map::new();
        out.insert("verbs", rule.verbs);
        if rule.non_resource_urls.is_empty() {
            for (field, list) in [
                ("apiGroups", rule.api_groups),
                ("resources", rule.resources),
                ("resourceNames", rule.resource_names),
            ] {
                if !list.is_empty() {
                    out.insert(field, list);
                }
            }
            resources.push(Value::Map(out));
        } else {
            out.insert("nonResourceURLs", rule.non_resource_urls);
            paths.push(Value::Map(out));
        }
    }
    let mut status = Map::new();
    status.insert("resourceRules", resources);
    status.insert("nonResourceRules", paths);
    status.insert("incomplete", found.incomplete);
    if !found.errors.is_empty() {
        status.insert("evaluationError", found.errors.join(", "));
    }
    review.set_path(&["status"], status).map_err(ApiError::internal)?;
    Ok(review)
}

fn who_am_i(call: &Call<'_>, mut review: Value) -> Value {
    let user = &call.request.user;
    let mut info = Map::new();
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            info.insert(field, text);
        }
    }
    if !user.groups.is_empty() {
        info.insert("groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        let extra: Map = user.extra.iter().map(|(k, v)| (k.as_str(), Value::from(v.clone()))).collect();
        info.insert("extra", extra);
    }
    meta::set(&mut review, "creationTimestamp", meta::rfc3339(call.now));
    // The review was decoded as an object, so the path holds.
    let _ = review.set_path(&["status", "userInfo"], info);
    review
}
