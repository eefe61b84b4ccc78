//! The parameters a binding passes to its policy. Upstream: `plugin/policy/generic/policy_dispatcher.go`
//! (`CollectParams`).

use std::sync::Arc;

use machinery::Value;
use machinery::labels::Selector;

use super::super::Attributes;
use super::common::{Binding, ParamKind, ParamRef};
use crate::codec;
use crate::core::Resource;
use crate::meta;

/// The resource of a kind, if it is served.
pub fn resource_of(a: &Attributes<'_>, kind: &ParamKind) -> Option<Arc<Resource>> {
    let (group, version) = kind.group_version();
    a.call.core.of_kind(group, version, &kind.kind)
}

/// The namespace parameters are looked for in; empty where their kind has none.
fn namespace_of<'s>(
    wanted: &'s ParamRef,
    namespaced: bool,
    of_request: &'s str,
) -> Result<&'s str, &'static str> {
    match (namespaced, wanted.namespace.as_str(), of_request) {
        (false, "", _) => Ok(""),
        (false, ..) => Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`"),
        (true, "", "") => {
            Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
        }
        (true, "", of_request) => Ok(of_request),
        (true, own, _) => Ok(own),
    }
}

/// The values of `params` to evaluate with; null where the policy takes none, none at all where nothing is evaluated.
pub async fn collect(
    a: &Attributes<'_>,
    resource: Option<&Resource>,
    binding: &Binding,
) -> Result<Vec<Value>, String> {
    let (Some(resource), Some(wanted)) = (resource, &binding.params) else { return Ok(vec![Value::Null]) };
    let row = resource.row;
    let namespace = namespace_of(wanted, row.namespaced, &a.namespace)?;
    let core = a.call.core;
    let found: Vec<Value> = if !wanted.name.is_empty() {
        let found = core.find_in(resource, namespace, &wanted.name).await;
        found.map_err(|e| e.message)?.into_iter().collect()
    } else {
        let selector = Selector::from_value(wanted.selector.as_ref()).map_err(|e| e.to_string())?;
        let all = core.find_all_in(resource, namespace).await.map_err(|e| e.message)?;
        all.into_iter().filter(|o| selector.matches(&meta::labels(o))).collect()
    };
    if found.is_empty() && wanted.deny_if_none {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    found.iter().map(|o| codec::served(o, row.kind).map_err(|e| e.message)).collect()
}
