//! Types of the table as schemas. Start at [`Schemas::reference`], which also makes what it refers to.
//! Upstream: `k8s.io/kube-openapi/pkg/generators`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use machinery::schema::{Field, ListType, Shape, TypeId, TypeTable};
use registry::api::{Gvk, ResourceRow};
use serde_json::{Map, Value, json};

use super::{Dialect, descriptions};

/// Schemas of one document, made as they are referred to.
pub(super) struct Schemas {
    pub(super) dialect: Dialect,
    types: &'static TypeTable,
    /// Kinds by schema name, for `x-kubernetes-group-version-kind`.
    kinds: BTreeMap<String, Vec<Gvk>>,
    made: BTreeMap<String, Value>,
    pending: Vec<TypeId>,
    seen: HashSet<TypeId>,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

impl Schemas {
    pub(super) fn new(dialect: Dialect, rows: &[Arc<ResourceRow>]) -> Self {
        let mut all = Self {
            dialect,
            types: ::api::types(),
            kinds: BTreeMap::new(),
            made: BTreeMap::new(),
            pending: Vec::new(),
            seen: HashSet::new(),
        };
        let mut versions: Vec<(String, String)> = Vec::new();
        for row in rows {
            let gvk = &row.gvk;
            let version = (gvk.group.clone(), gvk.version.clone());
            if !versions.contains(&version) {
                versions.push(version);
            }
            for kind in row.subresources.iter().map(|s| &s.kind).chain([gvk]) {
                let listed = Gvk { kind: format!("{}List", kind.kind), ..kind.clone() };
                for gvk in [kind.clone(), listed] {
                    all.note_kind(gvk);
                }
            }
        }
        // Options kinds belong to every group-version that is served.
        for (group, version) in versions {
            for kind in ["DeleteOptions", "WatchEvent"] {
                let gvk = Gvk { group: group.clone(), version: version.clone(), kind: kind.to_owned() };
                all.kinds.entry(format!("{META}.{kind}")).or_default().push(gvk);
            }
        }
        let status = Gvk { group: String::new(), version: "v1".to_owned(), kind: "Status".to_owned() };
        all.kinds.entry(format!("{META}.Status")).or_default().push(status);
        all
    }

    fn note_kind(&mut self, gvk: Gvk) {
        let Some(id) = self.types.kind(&gvk.api_version(), &gvk.kind) else { return };
        let kinds = self.kinds.entry(self.name(id)).or_default();
        if !kinds.contains(&gvk) {
            kinds.push(gvk);
        }
    }

    /// `io.k8s.api.core.v1.Pod`
    fn name(&self, id: TypeId) -> String {
        let path = self.types.package(id).path.to_string();
        let (host, rest) = path.split_once('/').unwrap_or((path.as_str(), ""));
        let host: Vec<&str> = host.split('.').rev().collect();
        format!("{}.{}.{}", host.join("."), rest.replace('/', "."), self.types.get(id).name)
    }

    fn pointer(&self, name: &str) -> Value {
        let base = match self.dialect {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        json!({"$ref": format!("{base}{name}")})
    }

    /// A reference to a kind's schema; `None` when the table does not know it.
    pub(super) fn reference(&mut self, gvk: &Gvk) -> Option<Value> {
        let id = self.types.kind(&gvk.api_version(), &gvk.kind)?;
        Some(self.of_type(id))
    }

    /// A reference to a type of meta/v1.
    pub(super) fn meta(&mut self, name: &str) -> Value {
        match self.types.by_name(&format!("meta/v1.{name}")) {
            Some(id) => self.of_type(id),
            None => self.plain(&format!("{META}.{name}"), json!({"type": "object"})),
        }
    }

    fn of_type(&mut self, id: TypeId) -> Value {
        if self.seen.insert(id) {
            self.pending.push(id);
        }
        self.pointer(&self.name(id))
    }

    /// A reference to a schema that is not a struct of the table.
    pub(super) fn plain(&mut self, name: &str, schema: Value) -> Value {
        self.made.entry(name.to_owned()).or_insert(schema);
        self.pointer(name)
    }

    /// All schemas referred to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(id) = self.pending.pop() {
            let (name, schema) = (self.name(id), self.schema(id));
            self.made.insert(name, schema);
        }
        self.made.into_iter().collect()
    }

    fn schema(&mut self, id: TypeId) -> Value {
        let types = self.types;
        let (mut properties, mut required) = (Map::new(), Vec::new());
        let is_object_meta = types.by_name("meta/v1.ObjectMeta") == Some(id);
        let type_name = self.name(id);
        for field in types.fields(id).filter(|f| f.name != *"-") {
            let name = field.name.to_string();
            if field.is_required() {
                required.push(name.clone());
            }
            let mut schema = self.field(field);
            let told = if is_object_meta {
                descriptions::object_meta(&name).map(ToOwned::to_owned)
            } else {
                listed(&type_name, &name).map(descriptions::items)
            };
            if let Some(text) = told {
                schema =
                    merge(schema, Map::from_iter([("description".to_owned(), json!(text))]), self.dialect);
            }
            properties.insert(name, schema);
        }
        let mut out = json!({"type": "object"});
        if types.get(id).choice.is_some() {
            // JSONSchemaPropsOrBool and its kin accept several forms.
            return json!({});
        }
        if !properties.is_empty() {
            out["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            out["required"] = json!(required);
        }
        if types.get(id).atomic {
            out["x-kubernetes-map-type"] = json!("atomic");
        }
        if let Some(kinds) = self.kinds.get(&self.name(id)) {
            let all = kinds.iter().map(|k| json!({"group": k.group, "version": k.version, "kind": k.kind}));
            out["x-kubernetes-group-version-kind"] = all.collect();
        }
        out
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut schema = self.shape(field.shape, field);
        if !field.extra().enum_values.is_empty() && schema.get("type") == Some(&json!("string")) {
            let mut values: Vec<String> = field.extra().enum_values.iter().map(ToString::to_string).collect();
            values.sort();
            schema["enum"] = json!(values);
        }
        let mut more = Map::new();
        let mut put = |key: &str, value: Value| more.insert(format!("x-kubernetes-{key}"), value);
        match field.list_type {
            Some(ListType::Atomic) => drop(put("list-type", json!("atomic"))),
            Some(ListType::Set) => drop(put("list-type", json!("set"))),
            Some(ListType::Map) => {
                put("list-type", json!("map"));
                let keys: Vec<String> = field.list_keys().iter().map(ToString::to_string).collect();
                put("list-map-keys", json!(keys));
            }
            None => {}
        }
        if let Some(key) = field.patch_key() {
            put("patch-merge-key", json!(key));
        }
        let flags = field.flags;
        let strategies = [
            (flags.patch_merge, "merge"),
            (flags.patch_retain_keys, "retainKeys"),
            (flags.patch_replace, "replace"),
        ];
        let named: Vec<&str> = strategies.iter().filter(|(on, _)| *on).map(|(_, n)| *n).collect();
        if !named.is_empty() {
            put("patch-strategy", json!(named.join(",")));
        }
        if flags.atomic {
            put("map-type", json!("atomic"));
        }
        let default = field.default().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let (Some(default), Dialect::V3) = (default, self.dialect) {
            more.insert("default".to_owned(), default);
        }
        merge(schema, more, self.dialect)
    }

    fn shape(&mut self, shape: Shape, field: &Field) -> Value {
        let v3 = self.dialect == Dialect::V3;
        match shape {
            Shape::String | Shape::Duration => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Time => {
                self.plain(&format!("{META}.Time"), json!({"type": "string", "format": "date-time"}))
            }
            Shape::MicroTime => {
                self.plain(&format!("{META}.MicroTime"), json!({"type": "string", "format": "date-time"}))
            }
            Shape::Quantity => {
                let schema = if v3 {
                    json!({"oneOf": [{"type": "string"}, {"type": "number"}]})
                } else {
                    json!({"type": "string"})
                };
                self.plain("io.k8s.apimachinery.pkg.api.resource.Quantity", schema)
            }
            Shape::IntOrString => {
                let schema = if v3 {
                    json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
                } else {
                    json!({"type": "string", "format": "int-or-string"})
                };
                self.plain("io.k8s.apimachinery.pkg.util.intstr.IntOrString", schema)
            }
            Shape::Raw => self.raw(field),
            Shape::Any => json!({}),
            Shape::Struct(id) => self.of_type(id),
            Shape::List(element) | Shape::Wrapped(element) => {
                let items = self.shape(self.types.elem(element), field);
                json!({"type": "array", "items": items})
            }
            Shape::Map(element) => {
                let values = self.shape(self.types.elem(element), field);
                json!({"type": "object", "additionalProperties": values})
            }
        }
    }

    /// JSON of any form: which kind of it, the field's Go type says.
    fn raw(&mut self, field: &Field) -> Value {
        let go = field.extra().go_type.as_ref().map(ToString::to_string).unwrap_or_default();
        if go.contains("FieldsV1") || field.name == *"fieldsV1" {
            return self.plain(&format!("{META}.FieldsV1"), json!({"type": "object"}));
        }
        if go.contains("apiextensions") || go.contains("JSON") {
            return json!({});
        }
        self.plain("io.k8s.apimachinery.pkg.runtime.RawExtension", json!({"type": "object"}))
    }
}

/// Adds siblings. Version 3 wants a reference with siblings wrapped; version 2 readers ignore the siblings.
fn merge(mut schema: Value, more: Map<String, Value>, dialect: Dialect) -> Value {
    if more.is_empty() {
        return schema;
    }
    if schema.get("$ref").is_some() && dialect == Dialect::V3 {
        schema = json!({"allOf": [schema]});
    }
    if let Some(object) = schema.as_object_mut() {
        object.extend(more);
    }
    schema
}

/// The kind of whose list a field holds the items.
fn listed<'t>(type_name: &'t str, field: &str) -> Option<&'t str> {
    type_name.rsplit('.').next()?.strip_suffix("List").filter(|kind| field == "items" && !kind.is_empty())
}
