//! Types of the table as schemas. Start at [`Schemas::reference`], which also makes what it refers to.
//! Upstream: `k8s.io/kube-openapi/pkg/generators`.

use std::collections::{BTreeMap, HashSet};

use machinery::schema::{Field, ListType, Shape, TypeId, TypeTable};
use registry::api::Gvk;
use serde_json::{Map, Value, json};

use super::operation::capital;
use super::{Dialect, descriptions};

/// Schemas of one document, made as they are referred to.
pub(super) struct Schemas {
    pub(super) dialect: Dialect,
    pub(super) types: &'static TypeTable,
    /// Group-versions under which the document has the options kinds, which belong to all of them.
    options: Vec<(String, String)>,
    made: BTreeMap<String, Value>,
    pending: Vec<TypeId>,
    seen: HashSet<TypeId>,
}

/// Whose options kinds a document names: those of all that is known, of one group-version, or what a client knows,
/// which is so in the documents of custom resources.
pub(super) enum Scope<'a> {
    All,
    Version(&'a str, &'a str),
    Client,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The one type that is declared to be what every type is (`+structType=granular`), which the type table does not hold.
const GRANULAR: &str = "io.k8s.api.lifecycle.v1alpha1.ResponderStatus";

/// Whether upstream's server, or a client of it, knows the kinds of a package.
fn is_known(path: &str, server: bool) -> bool {
    match path.strip_prefix("k8s.io/api/").and_then(|rest| rest.split('/').next()) {
        Some("apidiscovery") => false,
        Some("admission" | "imagepolicy") => server,
        Some(_) => true,
        None => {
            server
                && ["k8s.io/apiextensions-apiserver/", "k8s.io/kube-aggregator/"]
                    .iter()
                    .any(|p| path.starts_with(p))
        }
    }
}

fn options_of(scope: &Scope<'_>, types: &TypeTable) -> Vec<(String, String)> {
    let owned = |group: &str, version: &str| (group.to_owned(), version.to_owned());
    let server = matches!(scope, Scope::All);
    let mut all = match scope {
        Scope::Version(group, version) => vec![owned("", "v1"), owned(group, version)],
        Scope::All | Scope::Client => {
            let known = types.packages().iter().filter(|p| is_known(&p.path, server));
            known.map(|p| owned(&p.group, &p.version)).collect()
        }
    };
    // Not served any more, and not in the type table.
    all.extend(server.then(|| owned("apiregistration.k8s.io", "v1beta1")));
    all.sort();
    all.dedup();
    all
}

impl Schemas {
    pub(super) fn new(dialect: Dialect, scope: &Scope<'_>) -> Self {
        let types = ::api::types();
        Self {
            dialect,
            types,
            options: options_of(scope, types),
            made: BTreeMap::new(),
            pending: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// The kinds that a type is, for `x-kubernetes-group-version-kind`.
    fn kinds(&self, id: TypeId) -> Vec<Value> {
        let (own, package) = (self.types.get(id), self.types.package(id));
        let kind = |group: &str, version: &str| json!({"group": group, "version": version, "kind": own.name.as_str()});
        match (package.name.as_str(), own.name.as_str()) {
            _ if !own.kind => Vec::new(),
            // Its Go type could stand at the top of a document, but no scheme has it.
            ("core/v1", "ObjectReference") => Vec::new(),
            ("meta/v1", "DeleteOptions" | "WatchEvent") => {
                self.options.iter().map(|(group, version)| kind(group, version)).collect()
            }
            ("meta/v1", _) => vec![kind("", "v1")],
            _ => vec![kind(&package.group, &package.version)],
        }
    }

    /// `io.k8s.api.core.v1.Pod`
    fn name(&self, id: TypeId) -> String {
        self.name_in(id, &self.types.get(id).name)
    }

    /// The name that a type has if it is of the same package as another.
    fn name_in(&self, other: TypeId, name: &str) -> String {
        let path = self.types.package(other).path.as_str();
        let (host, rest) = path.split_once('/').unwrap_or((path, ""));
        let host: Vec<&str> = host.split('.').rev().collect();
        format!("{}.{}.{name}", host.join("."), rest.replace('/', "."))
    }

    fn pointer(&self, name: &str) -> Value {
        let base = match self.dialect {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        json!({"$ref": format!("{base}{name}")})
    }

    /// A reference to a kind's schema.
    pub(super) fn reference(&mut self, gvk: &Gvk) -> Value {
        match self.types.kind(&gvk.api_version(), &gvk.kind) {
            Some(id) => self.of_type(id),
            None => json!({"type": "object"}),
        }
    }

    /// A reference to a type by its name in the table.
    pub(super) fn named(&mut self, name: &str) -> Value {
        self.types.by_name(name).map_or_else(|| json!({"type": "object"}), |id| self.of_type(id))
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
        let own = types.get(id);
        if own.choice.is_some() {
            // JSONSchemaPropsOrBool and its kin accept several forms.
            return json!({});
        }
        let (mut properties, mut required) = (Map::new(), Vec::new());
        let type_name = self.name(id);
        for field in types.fields(id).filter(|f| f.name != *"-") {
            let name = field.name.to_string();
            if field.is_required() {
                required.push(name.clone());
            }
            let told = match type_name.strip_prefix(META) {
                Some(".ObjectMeta") => descriptions::object_meta(&name).map(ToOwned::to_owned),
                _ => listed(&type_name, &name).map(descriptions::items),
            };
            let mut schema = self.field(id, field);
            if let Some(text) = told {
                schema["description"] = json!(text);
            }
            properties.insert(name, schema);
        }
        let mut out = json!({"type": "object"});
        if !properties.is_empty() {
            out["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            out["required"] = json!(required);
        }
        if own.atomic {
            out["x-kubernetes-map-type"] = json!("atomic");
        } else if self.name(id) == GRANULAR {
            out["x-kubernetes-map-type"] = json!("granular");
        }
        if own.union {
            out["x-kubernetes-unions"] = json!([self.union(id)]);
        }
        let kinds = self.kinds(id);
        if !kinds.is_empty() {
            out["x-kubernetes-group-version-kind"] = Value::Array(kinds);
        }
        out
    }

    /// Which value of the discriminator, if there is one, goes with which field: upstream says the Go names of the
    /// fields, which are the JSON names with a capital (`kube-openapi/pkg/generators/union.go`).
    fn union(&self, id: TypeId) -> Value {
        let mut out = json!({"fields-to-discriminateBy": {}});
        for field in self.types.fields(id) {
            if field.flags.union_discriminator {
                out["discriminator"] = json!(field.name.as_str());
            } else {
                out["fields-to-discriminateBy"][field.name.as_str()] = json!(capital(&field.name));
            }
        }
        out
    }

    fn field(&mut self, owner: TypeId, field: &Field) -> Value {
        let schema = self.shape(field.shape, owner, field);
        let mut more = extensions(field);
        let default = (self.dialect == Dialect::V3).then(|| default(field)).flatten();
        more.extend(default.map(|value| ("default".to_owned(), value)));
        let bare = more.is_empty() && field.flags.undocumented;
        // Version 3 wants a reference with siblings wrapped, and upstream's description is one; readers of version 2
        // ignore the siblings.
        let wrap = self.dialect == Dialect::V3 && !bare && schema.get("$ref").is_some();
        let mut schema = if wrap { json!({"allOf": [schema]}) } else { schema };
        if let Some(object) = schema.as_object_mut() {
            object.extend(more);
        }
        schema
    }

    fn shape(&mut self, shape: Shape, owner: TypeId, field: &Field) -> Value {
        let v3 = self.dialect == Dialect::V3;
        match shape {
            Shape::String => text(field),
            Shape::Duration => json!({"type": "string"}),
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
            Shape::Raw => self.raw(owner, field),
            Shape::Any => json!({}),
            Shape::Struct(id) => match self.own_name(id, owner, field) {
                Some(name) => {
                    let schema = self.schema(id);
                    self.plain(&name, schema)
                }
                None => self.of_type(id),
            },
            Shape::List(element) | Shape::Wrapped(element) => {
                let items = self.shape(self.types.elem(element), owner, field);
                json!({"type": "array", "items": items})
            }
            Shape::Map(element) => {
                let values = self.shape(self.types.elem(element), owner, field);
                json!({"type": "object", "additionalProperties": values})
            }
        }
    }

    /// The name of a struct in the owner's package that Go declares to be the same as one of another package.
    fn own_name(&self, id: TypeId, owner: TypeId, field: &Field) -> Option<String> {
        let (package, own) = (self.types.package(id), self.types.package(owner));
        let go = field.extra().go_type.as_ref().filter(|_| package.path != own.path)?;
        let (version, name) = go.trim_start_matches(['[', ']', '*']).split_once('.')?;
        (own.path.rsplit('/').next() == Some(version)).then(|| self.name_in(owner, name))
    }

    /// JSON of any form: which kind of it, the field's Go type says.
    fn raw(&mut self, owner: TypeId, field: &Field) -> Value {
        if field.extra().go_type.as_ref().is_some_and(|go| go.ends_with(".JSON")) {
            return self.plain(&self.name_in(owner, "JSON"), json!({}));
        }
        let name = match field.name.as_str() {
            "fieldsV1" => format!("{META}.FieldsV1"),
            _ => "io.k8s.apimachinery.pkg.runtime.RawExtension".to_owned(),
        };
        self.plain(&name, json!({"type": "object"}))
    }
}

/// A string, or one of an enumeration's.
fn text(field: &Field) -> Value {
    let mut values: Vec<&str> = field.extra().enum_values.iter().map(|v| v.as_str()).collect();
    values.sort_unstable();
    if values.is_empty() { json!({"type": "string"}) } else { json!({"type": "string", "enum": values}) }
}

/// What Kubernetes says of lists, maps and patches.
fn extensions(field: &Field) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(format!("x-kubernetes-{key}"), value);
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
    for (on, kind) in [(flags.atomic, "atomic"), (flags.granular, "granular")] {
        if on {
            put("map-type", json!(kind));
        }
    }
    out
}

/// The declared default, or what Go has where nothing was given and the field is written all the same.
/// Upstream: `kube-openapi/pkg/generators/openapi.go` `mustEnforceDefault`.
fn default(field: &Field) -> Option<Value> {
    if let Some(declared) = field.default().and_then(|text| serde_json::from_str(text).ok()) {
        return Some(declared);
    }
    match field.shape {
        _ if field.flags.pointer => None,
        Shape::Struct(_) => Some(json!({})),
        _ if field.flags.omit_empty => None,
        Shape::String => Some(json!("")),
        Shape::Bool => Some(json!(false)),
        Shape::Int32 | Shape::Int64 | Shape::Double => Some(json!(0)),
        _ => None,
    }
}

/// The kind of whose list a field holds the items.
fn listed<'t>(type_name: &'t str, field: &str) -> Option<&'t str> {
    type_name.rsplit('.').next()?.strip_suffix("List").filter(|kind| field == "items" && !kind.is_empty())
}
