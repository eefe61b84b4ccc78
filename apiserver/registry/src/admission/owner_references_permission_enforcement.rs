//! OwnerReferencesPermissionEnforcement: who sets an owner may delete the object (the garbage collector would do it for
//! them), and who lets an object block the deletion of its owner may set the owner's finalizers.
//! Upstream: `plugin/pkg/admission/gc/gc_admission.go`.

use async_trait::async_trait;
use auth::authorizer::Attributes as Question;
use machinery::Value;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;

/// The plugin.
pub struct OwnerReferencesPermissionEnforcement;

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(object) = a.object.as_ref() else { return Ok(()) };
        // Old kubelets spoil owners there; the strategy of the subresource keeps them as they were.
        let exempt = a.is_resource("", "pods") && a.subresource() == "status";
        if exempt || !changes_owners(object, a.old.as_ref()) {
            return Ok(());
        }
        let authorizer = a.call.core.authorizer()?;
        if a.operation != Operation::Create {
            let verdict = authorizer.authorize(&may_delete(a)).await;
            if !verdict.allowed() {
                return Err(
                    a.forbidden(refusal("cannot set an ownerRef on a resource you can't delete", &verdict))
                );
            }
        }
        let blocking = newly_blocking(object, a.old.as_ref());
        if blocking.is_empty() || authorizer.authorize(&may_finalize_anything(a)).await.allowed() {
            return Ok(());
        }
        for owner in blocking {
            for question in may_finalize(a, owner)? {
                let verdict = authorizer.authorize(&question).await;
                if !verdict.allowed() {
                    let what = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set \
                                finalizers on";
                    return Err(a.forbidden(refusal(what, &verdict)));
                }
            }
        }
        Ok(())
    }
}

fn refusal(what: &str, verdict: &auth::Verdict) -> String {
    // As Go prints an error that is nil.
    let error = verdict.error.as_deref().unwrap_or("<nil>");
    format!("{what}: {}, {error}", verdict.reason)
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object.list_at(&["metadata", "ownerReferences"]).into_iter().flat_map(|list| list.iter())
}

fn changes_owners(object: &Value, old: Option<&Value>) -> bool {
    let Some(old) = old else { return owners(object).next().is_some() };
    owners(object).count() != owners(old).count()
        || owners(object).zip(owners(old)).any(|(new, old)| !new.semantic_eq(old))
}

fn blocks(owner: &&Value) -> bool {
    owner.bool_at(&["blockOwnerDeletion"]) == Some(true)
}

/// The owners that the object blocks and did not block before.
fn newly_blocking<'a>(object: &'a Value, old: Option<&Value>) -> Vec<&'a Value> {
    let uid = |owner: &Value| owner.str_at(&["uid"]).unwrap_or_default().to_owned();
    let blocked = |owner: &Value| {
        // Of owners with one uid the last counts.
        let before = old.into_iter().flat_map(owners).filter(|other| uid(other) == uid(owner)).last();
        before.is_some_and(|before| blocks(&before))
    };
    owners(object).filter(blocks).filter(|owner| !blocked(owner)).collect()
}

fn question(a: &Attributes<'_>, verb: &str) -> Question {
    Question {
        user: a.call.request.user.clone(),
        verb: verb.to_owned(),
        resource_request: true,
        ..Question::default()
    }
}

fn may_delete(a: &Attributes<'_>) -> Question {
    Question {
        namespace: a.namespace.clone(),
        api_group: a.group().to_owned(),
        api_version: a.call.resource.row.kind.version.to_owned(),
        resource: a.resource().to_owned(),
        subresource: a.subresource().to_owned(),
        name: a.name.clone(),
        ..question(a, "delete")
    }
}

/// Asked first: the owner's kind may be of a server that cannot be reached now.
fn may_finalize_anything(a: &Attributes<'_>) -> Question {
    let any = || "*".to_owned();
    Question {
        api_group: any(),
        api_version: any(),
        resource: any(),
        subresource: "finalizers".to_owned(),
        name: any(),
        ..question(a, "update")
    }
}

/// One question per resource of the owner's kind. Kinds of aggregated servers are not known here, and refused.
fn may_finalize(a: &Attributes<'_>, owner: &Value) -> Result<Vec<Question>, ApiError> {
    let text = |field: &str| owner.str_at(&[field]).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = a.call.core.of_kind(group, version, kind).ok_or_else(|| {
        a.forbidden(format!(
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} \
             Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
        ))
    })?;
    let row = resource.row;
    Ok(vec![Question {
        // The owner is in the namespace of its dependent.
        namespace: if row.namespaced { a.namespace.clone() } else { String::new() },
        api_group: row.kind.group.to_owned(),
        api_version: row.kind.version.to_owned(),
        resource: row.resource.to_owned(),
        subresource: "finalizers".to_owned(),
        name: text("name").to_owned(),
        ..question(a, "update")
    }])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Owners as `uid` or `uid!` for one that is blocked.
    fn object(owners: &str) -> Value {
        let owners: Vec<_> = owners
            .split_whitespace()
            .map(|o| json!({"uid": o.trim_end_matches('!'), "name": "n", "blockOwnerDeletion": o.ends_with('!')}))
            .collect();
        Value::from(json!({"metadata": {"name": "x", "ownerReferences": owners}}))
    }

    #[test]
    fn changes_are_seen() {
        // New, old, whether owners change, newly blocked.
        let cases: [(&str, Option<&str>, bool, &str); 9] = [
            ("", None, false, ""),
            ("a", None, true, ""),
            ("a! b", None, true, "a"),
            ("a", Some("a"), false, ""),
            ("a!", Some("a"), true, "a"),
            ("a", Some("a!"), true, ""),
            ("a! b!", Some("a!"), true, "b"),
            ("b! a!", Some("a! b!"), true, ""),
            ("", Some("a!"), true, ""),
        ];
        for (new, old, changes, blocking) in cases {
            let (new_object, old_object) = (object(new), old.map(object));
            assert_eq!(changes_owners(&new_object, old_object.as_ref()), changes, "{new} {old:?}");
            let found: Vec<_> = newly_blocking(&new_object, old_object.as_ref())
                .iter()
                .map(|o| o.str_at(&["uid"]).unwrap())
                .collect();
            assert_eq!(found.join(" "), blocking, "{new} {old:?}");
        }
    }
}
