//! What expressions of admission policies may name: the declared types of `request`, `namespaceObject` and variables, and
//! a [`TypeChecker`] for those whose objects have known types.
//! Upstream: `k8s.io/apiserver/pkg/admission/plugin/cel/{compile,composition}.go` (`BuildRequestType`,
//! `BuildNamespaceType`).

mod type_checker;

use std::collections::HashMap;

use machinery::value::Str;

use crate::{DeclType, Type};
pub use type_checker::TypeChecker;

fn list(of: DeclType) -> DeclType {
    DeclType::list(of, -1)
}

/// An object with these fields.
pub fn object<N: AsRef<str>>(name: &str, fields: &[(N, DeclType)]) -> DeclType {
    let fields: HashMap<Str, DeclType> =
        fields.iter().map(|(name, t)| (Str::from(name.as_ref()), t.clone())).collect();
    DeclType::object(name, fields)
}

/// The type of `request` (`BuildRequestType`).
pub fn request_type() -> DeclType {
    let text = DeclType::simple(Type::String, -1);
    let kind = object(
        "kubernetes.GroupVersionKind",
        &[("group", text.clone()), ("version", text.clone()), ("kind", text.clone())],
    );
    let resource = object(
        "kubernetes.GroupVersionResource",
        &[("group", text.clone()), ("version", text.clone()), ("resource", text.clone())],
    );
    let user = object(
        "kubernetes.UserInfo",
        &[
            ("username", text.clone()),
            ("uid", text.clone()),
            ("groups", list(text.clone())),
            ("extra", DeclType::map(text.clone(), list(text.clone()), -1)),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text.clone()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text.clone()),
            ("name", text.clone()),
            ("namespace", text.clone()),
            ("operation", text),
            ("userInfo", user),
            ("dryRun", DeclType::simple(Type::Bool, 1)),
            ("options", DeclType::simple(Type::Dyn, 1)),
        ],
    )
}

/// The type of `namespaceObject` (`BuildNamespaceType`).
pub fn namespace_type() -> DeclType {
    let text = DeclType::simple(Type::String, -1);
    let time = DeclType::simple(Type::Timestamp, -1);
    let number = DeclType::simple(Type::Int, 1);
    let texts = DeclType::map(text.clone(), text.clone(), -1);
    let condition = object(
        "kubernetes.NamespaceCondition",
        &[
            ("status", text.clone()),
            ("type", text.clone()),
            ("lastTransitionTime", time.clone()),
            ("message", text.clone()),
            ("reason", text.clone()),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", list(text.clone()))]);
    let status =
        object("kubernetes.NamespaceStatus", &[("conditions", list(condition)), ("phase", text.clone())]);
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", text.clone()),
            ("generateName", text.clone()),
            ("namespace", text.clone()),
            ("labels", texts.clone()),
            ("annotations", texts),
            ("UID", text.clone()),
            ("creationTimestamp", time.clone()),
            ("deletionGracePeriodSeconds", number.clone()),
            ("deletionTimestamp", time),
            ("generation", number),
            ("resourceVersion", text.clone()),
            ("finalizers", list(text)),
        ],
    );
    object("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
}

/// The type of a variable that is what an expression comes to: values that only functions look into, and objects, are
/// dynamic (`convertCelTypeToDeclType`).
pub fn variable_type(output: &Type) -> DeclType {
    match output {
        Type::Any
        | Type::Bool
        | Type::Bytes
        | Type::Double
        | Type::Duration
        | Type::Int
        | Type::Null
        | Type::String
        | Type::Timestamp
        | Type::Uint => DeclType::simple(output.clone(), -1),
        Type::List(element) => list(variable_type(element)),
        Type::Map(entry) => DeclType::map(variable_type(&entry.0), variable_type(&entry.1), -1),
        _ => DeclType::simple(Type::Dyn, -1),
    }
}
