//! Looking for something anywhere in a schema. Upstream: `SchemaHas` and the predicates passed to it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, JSONSchemaPropsOrStringArray,
};

use crate::schema::{items, text};

pub(crate) type Props = JSONSchemaProps;

/// The types a schema may name, sorted.
pub(super) const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Whether the predicate holds for the schema or one within it.
pub fn has(schema: &Props, pred: &dyn Fn(&Props) -> bool) -> bool {
    let or_bool = |s: &Option<JSONSchemaPropsOrBool>| match s {
        Some(JSONSchemaPropsOrBool::Schema(s)) => has(s, pred),
        _ => false,
    };
    let within =
        |m: &Option<std::collections::BTreeMap<String, Props>>| m.iter().flatten().any(|(_, s)| has(s, pred));
    pred(schema)
        || match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(s)) => has(s, pred),
            Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter().any(|s| has(s, pred)),
            None => false,
        }
        || [&schema.all_of, &schema.any_of, &schema.one_of]
            .into_iter()
            .any(|l| items(l).iter().any(|s| has(s, pred)))
        || schema.not.as_deref().is_some_and(|s| has(s, pred))
        || within(&schema.properties)
        || or_bool(&schema.additional_properties)
        || within(&schema.pattern_properties)
        || or_bool(&schema.additional_items)
        || within(&schema.definitions)
        || schema.dependencies.iter().flatten().any(|(_, d)| match d {
            JSONSchemaPropsOrStringArray::Schema(s) => has(s, pred),
            JSONSchemaPropsOrStringArray::Strings(_) => false,
        })
}

/// Uses one of Kubernetes' extensions that only structural schemas may use.
pub(super) fn has_extension(s: &Props) -> bool {
    s.x_kubernetes_embedded_resource == Some(true)
        || s.x_kubernetes_preserve_unknown_fields.is_some()
        || s.x_kubernetes_int_or_string == Some(true)
        || !items(&s.x_kubernetes_list_map_keys).is_empty()
        || s.x_kubernetes_list_type.is_some()
        || !items(&s.x_kubernetes_validations).is_empty()
}

pub(super) fn has_invalid_type(s: &Props) -> bool {
    let kind = text(&s.type_);
    !kind.is_empty() && !TYPES.contains(&kind)
}

/// The single item schema.
pub(super) fn item(s: &Props) -> Option<&Props> {
    match &s.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item),
        _ => None,
    }
}

/// A set whose items are not atomic.
pub(super) fn has_non_atomic_set(s: &Props) -> bool {
    let Some(item) = item(s).filter(|_| s.x_kubernetes_list_type.as_deref() == Some("set")) else {
        return false;
    };
    match text(&item.type_) {
        "array" => item.x_kubernetes_list_type.as_deref().is_some_and(|t| t != "atomic"),
        "object" => item.x_kubernetes_map_type.as_deref() != Some("atomic"),
        _ => false,
    }
}
