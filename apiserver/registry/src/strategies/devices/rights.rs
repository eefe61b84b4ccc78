//! Who may ask for administrators' access, and who may write which part of a claim's status.
//! Upstream: `pkg/registry/resource/utils.go`.

use std::collections::BTreeSet;

use ::api::validation::content::dns_subdomain;
use ::api::validation::field::{Error as FieldError, Path};
use auth::authorizer::Attributes as AuthzAttributes;
use machinery::{List, Value};

use crate::errors::ApiError;
use crate::meta;
use crate::store::before::invalid;
use crate::strategy::Call;

const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

fn list(object: &Value, path: &[&str]) -> List {
    object.list_at(path).cloned().unwrap_or_default()
}

/// `AuthorizedForAdmin`, for the requests of the specification at a path.
pub(super) async fn admin_in_spec(call: &Call<'_>, claim: &Value, path: &[&str]) -> Result<(), ApiError> {
    let at: Vec<&str> = path.iter().chain(&["devices", "requests"]).copied().collect();
    let requests = list(claim, &at);
    let asked = requests.iter().position(|r| r.bool_at(&["exactly", "adminAccess"]) == Some(true));
    // Upstream's path, whatever the request's form and place.
    let Some(i) = asked else { return Ok(()) };
    namespace_allows(call, claim, &format!("spec.devices.requests[{i}].adminAccess")).await
}

async fn namespace_allows(call: &Call<'_>, claim: &Value, path: &str) -> Result<(), ApiError> {
    let namespace = call.core.find("", "namespaces", "", &call.request.info.namespace).await?;
    let labelled = namespace.as_ref().and_then(meta::labels).and_then(|l| l.get(ADMIN_LABEL));
    if labelled.and_then(Value::as_str) == Some("true") {
        return Ok(());
    }
    let detail = format!(
        "admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
    );
    Err(invalid(call, meta::name(claim), &[FieldError::forbidden(&Path::new(path), detail)]))
}

/// `AuthorizedForAdminStatus`, `AuthorizedForBinding` and `AuthorizedForDeviceStatus`.
pub(super) async fn status(call: &Call<'_>, claim: &Value, old: &Value) -> Result<(), ApiError> {
    let results = ["status", "allocation", "devices", "results"];
    let admin = |v: &Value| list(v, &results).iter().position(|r| r.bool_at(&["adminAccess"]) == Some(true));
    if let (Some(i), None) = (admin(claim), admin(old)) {
        let path = format!("status.allocation.devices.results[{i}].adminAccess");
        namespace_allows(call, claim, &path).await?;
    }
    let of = |v: &Value, field: &str| v.get_path(&["status", field]).cloned().unwrap_or_default();
    let mut errors = Vec::new();
    let changed = ["allocation", "reservedFor"].iter().any(|f| !of(claim, f).semantic_eq(&of(old, f)));
    let verb = call.request.info.verb.as_str();
    let path = Path::new("status");
    if changed && let Some(why) = refusal(call, verb, "binding", "", "").await? {
        let detail = format!(
            "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{verb}\" permission: {why}"
        );
        errors.push(FieldError::forbidden(&path.child("allocation"), detail));
    }
    if !of(claim, "allocation").is_null() {
        errors.extend(drivers(call, verb, claim, old, &path.child("devices")).await?);
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid(call, meta::name(claim), &errors)) }
}

/// Every driver whose devices' status is changed must be the writer's to change, on the claim's node or on any.
async fn drivers(
    call: &Call<'_>,
    verb: &str,
    claim: &Value,
    old: &Value,
    path: &Path<'_>,
) -> Result<Vec<FieldError>, ApiError> {
    let mut verbs = vec![format!("arbitrary-node:{verb}")];
    if on_node_of(call, claim) {
        verbs.insert(0, format!("associated-node:{verb}"));
    }
    let namespace = call.request.info.namespace.as_str();
    let mut errors = Vec::new();
    for driver in changed_drivers(claim, old) {
        let mut first = None;
        let mut allowed = false;
        for verb in &verbs {
            match refusal(call, verb, "driver", namespace, &driver).await? {
                None => allowed = true,
                Some(why) => first = first.or(Some(why)),
            }
            if allowed {
                break;
            }
        }
        if let (false, Some(why)) = (allowed, first) {
            let detail = format!(
                "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {why}",
                verbs.join(" ")
            );
            errors.push(FieldError::forbidden(path, detail));
        }
    }
    Ok(errors)
}

fn changed_drivers(claim: &Value, old: &Value) -> BTreeSet<String> {
    let text = |d: &Value, f: &str| d.str_at(&[f]).unwrap_or("").to_owned();
    let key = |d: &Value| ["driver", "pool", "device", "shareID"].map(|f| text(d, f));
    let (now, before) = (list(claim, &["status", "devices"]), list(old, &["status", "devices"]));
    let missing = |from: &List, d: &Value| !from.iter().any(|o| key(o) == key(d) && o.semantic_eq(d));
    let gone = |from: &List, d: &Value| !from.iter().any(|o| key(o) == key(d));
    let new = now.iter().filter(|d| missing(&before, d));
    new.chain(before.iter().filter(|d| gone(&now, d))).map(|d| text(d, "driver")).collect()
}

/// Whether the writer is a service account of a pod on the node for which the claim is allocated.
fn on_node_of(call: &Call<'_>, claim: &Value) -> bool {
    let terms = list(claim, &["status", "allocation", "nodeSelector", "nodeSelectorTerms"]);
    let mut terms = terms.iter();
    let (Some(term), None) = (terms.next(), terms.next()) else { return false };
    let fields = list(term, &["matchFields"]);
    let mut fields = fields.iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    let values = list(field, &["values"]);
    let plain = list(term, &["matchExpressions"]).is_empty()
        && field.str_at(&["key"]) == Some("metadata.name")
        && field.str_at(&["operator"]) == Some("In")
        && values.len() == 1;
    let user = &call.request.user;
    let names = user.extra.iter().find(|(key, _)| key.as_str() == NODE_NAME).map(|(_, names)| names);
    let Some([name]) = names.map(|n| n.as_slice()) else { return false };
    plain
        && user.name.starts_with("system:serviceaccount:")
        && dns_subdomain(name).is_empty()
        && values.iter().next().and_then(Value::as_str) == Some(name.as_str())
}

/// Why the writer may not, or nothing.
async fn refusal(
    call: &Call<'_>,
    verb: &str,
    subresource: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, ApiError> {
    let kind = call.resource.row.kind;
    let question = AuthzAttributes {
        user: call.request.user.clone(),
        verb: verb.into(),
        namespace: namespace.into(),
        api_group: kind.group.into(),
        api_version: kind.version.into(),
        resource: call.resource.row.resource.into(),
        subresource: subresource.into(),
        name: name.into(),
        resource_request: true,
        ..AuthzAttributes::default()
    };
    let decision = call.core.authorizer()?.authorize(&question).await;
    Ok((!decision.allowed()).then(|| "permission denied".to_owned()))
}
