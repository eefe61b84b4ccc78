//! What makes a schema structural. Upstream: `schema/validation.go`, `schema/complete.go`.

use api::validation::field::{Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::{Pattern, items, text};

type Props = JSONSchemaProps;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Why a schema is not structural, sorted by text. The schema must have passed [`super::Schema::new`].
pub fn validate(path: &Path<'_>, schema: &Props) -> Vec<Error> {
    let mut v = Validator { errors: Vec::new() };
    v.invariants(path, schema, Level::Root);
    v.complete(schema, Some(schema), path, path);
    v.errors.sort_by_key(ToString::to_string);
    v.errors
}

struct Validator {
    errors: Vec<Error>,
}

fn item_schema(schema: &Props) -> Option<&Props> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item),
        _ => None,
    }
}

fn additional_schema(schema: &Props) -> Option<&Props> {
    match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(schema),
        _ => None,
    }
}

fn flag(field: Option<bool>) -> bool {
    field.unwrap_or(false)
}

/// `anyOf: [{type: integer}, {type: string}]` and nothing else.
fn is_int_or_string(any_of: &[Props]) -> bool {
    let only = |name: &str| Props { type_: Some(name.into()), ..Props::default() };
    matches!(any_of, [a, b] if *a == only("integer") && *b == only("string"))
}

impl Validator {
    fn forbid(&mut self, path: &Path<'_>, field: &str, why: &str) {
        self.errors.push(Error::forbidden(&path.child(field), why));
    }

    fn require(&mut self, path: &Path<'_>, field: &str, why: &str) {
        self.errors.push(Error::required(&path.child(field), why));
    }

    fn invariants(&mut self, path: &Path<'_>, s: &Props, level: Level) {
        let kind = text(&s.type_);
        if kind == "array" && item_schema(s).is_none() {
            self.require(path, "items", "must be specified");
        }
        if let Some(item) = item_schema(s) {
            self.invariants(&path.child("items"), item, Level::Item);
        }
        for (name, property) in s.properties.iter().flatten() {
            self.invariants(&path.child("properties").key(name), property, Level::Field);
        }
        if s.additional_properties.is_some() && level == Level::Root {
            self.forbid(path, "additionalProperties", "must not be used at the root");
        }
        if let Some(additional) = additional_schema(s) {
            self.invariants(&path.child("additionalProperties"), additional, Level::Field);
        }
        self.extensions(path, s);
        let first = items(&s.all_of).first();
        let skip_first = first.is_some_and(|f| is_int_or_string(items(&f.any_of)));
        self.values(path, s, is_int_or_string(items(&s.any_of)), skip_first);
        self.types(path, s, level);
        self.resource_fields(path, s, level);
    }

    fn extensions(&mut self, path: &Path<'_>, s: &Props) {
        if !flag(s.x_kubernetes_int_or_string) {
            return;
        }
        let why = "must be false if x-kubernetes-int-or-string is true";
        let set = [
            ("x-kubernetes-preserve-unknown-fields", s.x_kubernetes_preserve_unknown_fields),
            ("x-kubernetes-embedded-resource", s.x_kubernetes_embedded_resource),
        ];
        for (name, _) in set.into_iter().filter(|(_, value)| flag(*value)) {
            self.errors.push(Error::invalid(&path.child(name), true, why));
        }
    }

    fn types(&mut self, path: &Path<'_>, s: &Props, level: Level) {
        let kind = text(&s.type_);
        let embedded = flag(s.x_kubernetes_embedded_resource);
        if embedded && kind != "object" {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            match kind {
                "" => self.require(path, "type", why),
                kind => self.errors.push(Error::invalid(&path.child("type"), kind, why)),
            }
        } else if kind.is_empty()
            && !flag(s.x_kubernetes_int_or_string)
            && !flag(s.x_kubernetes_preserve_unknown_fields)
        {
            let why = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            self.require(path, "type", why);
        }
        if embedded && s.additional_properties.is_some() {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            self.forbid(path, "additionalProperties", why);
        }
        if level == Level::Root && !kind.is_empty() && kind != "object" {
            self.errors.push(Error::invalid(&path.child("type"), kind, "must be object at the root"));
        }
    }

    fn resource_fields(&mut self, path: &Path<'_>, s: &Props, level: Level) {
        let embedded = flag(s.x_kubernetes_embedded_resource);
        let resource = level == Level::Root || embedded;
        let property = |name: &str| s.properties.as_ref().and_then(|p| p.get(name));
        let properties = path.child("properties");
        for name in ["kind", "apiVersion"] {
            if let Some(p) = property(name).filter(|p| resource && text(&p.type_) != "string") {
                let at = properties.key(name);
                self.errors.push(Error::invalid(&at.child("type"), text(&p.type_), "must be string"));
            }
        }
        if let Some(metadata) = property("metadata") {
            self.metadata(&properties.key("metadata"), metadata, resource, level);
        }
        let empty = s.properties.as_ref().is_none_or(|p| p.is_empty());
        if embedded && !flag(s.x_kubernetes_preserve_unknown_fields) && empty {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            self.require(path, "properties", why);
        }
    }

    fn metadata(&mut self, path: &Path<'_>, s: &Props, resource: bool, level: Level) {
        if resource && text(&s.type_) != "object" {
            self.errors.push(Error::invalid(&path.child("type"), text(&s.type_), "must be object"));
        }
        if level != Level::Root {
            return;
        }
        let names = |name: &String| name == "name" || name == "generateName";
        let only_names =
            s.properties.as_ref().is_some_and(|p| !p.is_empty() && p.len() <= 2 && p.keys().all(names));
        let mut rest = Props { type_: None, default: None, ..s.clone() };
        if only_names || rest.properties.as_ref().is_some_and(|p| p.is_empty()) {
            rest.properties = None;
        }
        if rest != Props::default() {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.errors.push(Error::forbidden(path, why));
        }
    }

    fn values(&mut self, path: &Path<'_>, s: &Props, skip_any: bool, skip_first_all: bool) {
        let mut each = |field: &str, list: &[Props], skip: bool| {
            for (index, nested) in list.iter().enumerate() {
                let parent = path.child(field);
                self.nested(&parent.index(index), nested, skip && index == 0);
            }
        };
        if !skip_any {
            each("anyOf", items(&s.any_of), false);
        }
        each("allOf", items(&s.all_of), skip_first_all);
        each("oneOf", items(&s.one_of), false);
        if let Some(not) = &s.not {
            self.nested(&path.child("not"), not, false);
        }
        let pattern = text(&s.pattern);
        if let (false, compiled) = (pattern.is_empty(), Pattern::new(pattern))
            && let Some(error) = compiled.error()
        {
            let why = format!("must be a valid regular expression, but isn't: {error}");
            self.errors.push(Error::invalid(&path.child("pattern"), pattern, why));
        }
    }

    /// Below `allOf` and its kin only values may be validated, nothing may be declared.
    fn nested(&mut self, path: &Path<'_>, s: &Props, skip_any: bool) {
        self.values(path, s, skip_any, false);
        if let Some(item) = item_schema(s) {
            self.nested(&path.child("items"), item, false);
        }
        for (name, property) in s.properties.iter().flatten() {
            self.nested(&path.child("properties").key(name), property, false);
        }
        let some = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        let allows = !matches!(s.additional_properties, None | Some(JSONSchemaPropsOrBool::Bool(false)));
        let default = s.default.as_ref().is_some_and(|d| !d.0.is_null());
        let empty = "must be empty to be structural";
        let undefined = "must be undefined to be structural";
        let off = "must be false to be structural";
        for (name, set, why) in [
            ("type", some(&s.type_), empty),
            ("additionalProperties", allows, undefined),
            ("default", default, undefined),
            ("title", some(&s.title), empty),
            ("description", some(&s.description), empty),
            ("nullable", flag(s.nullable), off),
            ("x-kubernetes-preserve-unknown-fields", flag(s.x_kubernetes_preserve_unknown_fields), off),
            ("x-kubernetes-embedded-resource", flag(s.x_kubernetes_embedded_resource), off),
            ("x-kubernetes-int-or-string", flag(s.x_kubernetes_int_or_string), off),
            ("x-kubernetes-list-map-keys", !items(&s.x_kubernetes_list_map_keys).is_empty(), empty),
            ("x-kubernetes-list-type", s.x_kubernetes_list_type.is_some(), undefined),
            ("x-kubernetes-map-type", s.x_kubernetes_map_type.is_some(), undefined),
            ("x-kubernetes-validations", !items(&s.x_kubernetes_validations).is_empty(), empty),
        ] {
            if set {
                self.forbid(path, name, why);
            }
        }
        if s.properties.as_ref().is_some_and(|p| p.contains_key("metadata")) {
            let properties = path.child("properties");
            let why = "must not be specified in a nested context";
            self.errors.push(Error::forbidden(&properties.key("metadata"), why));
        }
    }

    /// Whatever is validated must be declared.
    fn complete(&mut self, v: &Props, s: Option<&Props>, s_path: &Path<'_>, v_path: &Path<'_>) {
        if let Some(not) = &v.not {
            self.nested_complete(not, s, s_path, &v_path.child("not"));
        }
        for (field, list) in
            [("allOf", items(&v.all_of)), ("anyOf", items(&v.any_of)), ("oneOf", items(&v.one_of))]
        {
            let parent = v_path.child(field);
            for (index, nested) in list.iter().enumerate() {
                self.nested_complete(nested, s, s_path, &parent.index(index));
            }
        }
    }

    fn nested_complete(&mut self, v: &Props, s: Option<&Props>, s_path: &Path<'_>, v_path: &Path<'_>) {
        let Some(s) = s else {
            self.errors.push(Error::required(s_path, format!("because it is defined in {v_path}")));
            return;
        };
        self.complete(v, Some(s), s_path, v_path);
        if let Some(item) = item_schema(v) {
            self.nested_complete(item, item_schema(s), &s_path.child("items"), &v_path.child("items"));
        }
        let (s_props, v_props) = (s_path.child("properties"), v_path.child("properties"));
        for (name, property) in v.properties.iter().flatten() {
            let declared = s.properties.as_ref().and_then(|p| p.get(name));
            self.nested_complete(property, declared, &s_props.key(name), &v_props.key(name));
        }
    }
}
