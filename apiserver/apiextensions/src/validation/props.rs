//! A schema as a part of a definition: what OpenAPI's schema may say here. Upstream:
//! `validateCustomResourceDefinitionValidation`, `ValidateCustomResourceDefinitionOpenAPISchema`.

use api::validation::field::{Bad, Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceValidation, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, JSONSchemaPropsOrStringArray,
};

use super::rules::{Checker, Context};
use super::walk::{Props, TYPES, item};
use super::{Options, defaults, rules, walk};
use crate::rules::Step;
use crate::schema::{Schema, is_meta_field, items, structural, text};

/// Whether an old schema is not structural.
pub(super) fn is_non_structural(schema: &Props) -> bool {
    Schema::new(schema).is_err() || !structural::validate(&Path::ROOT, schema).is_empty()
}

pub(super) fn validation(
    path: &Path<'_>,
    validation: &Option<CustomResourceValidation>,
    status: bool,
    options: &Options,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let Some(schema) = validation.as_ref().and_then(|v| v.open_api_v3_schema.as_ref()) else { return errors };
    let at = path.child("openAPIV3Schema");
    if status {
        errors.extend(root_with_status(path, &at, schema));
    }
    if schema.nullable == Some(true) {
        let why = "nullable cannot be true at the root";
        errors.push(Error::forbidden(&path.child("openAPIV3Schema.nullable"), why));
    }
    let (mut compiled, mut unbuilt) = (None, None);
    if options.structural {
        match Schema::new(schema) {
            Err(why) => unbuilt = Some(Error::invalid(&at, "", why)),
            Ok(new) => {
                let mut found = structural::validate(&at, schema);
                if found.is_empty() {
                    found = defaults::validate_all(&at, &new, options.pruned_defaults)
                        .unwrap_or_else(|why| vec![Error::invalid(&at, "", why)]);
                }
                // Rules are looked at only where the schema is fine otherwise.
                compiled = found.is_empty().then_some(new);
                errors.append(&mut found);
            }
        }
    }
    let mut v = Validator { options, errors: Vec::new(), rules: Checker::default() };
    v.schema(&at, schema, &Standard::root(), true, compiled.as_ref().map(Context::root).as_ref());
    errors.append(&mut v.errors);
    errors.append(&mut v.rules.errors);
    if errors.is_empty() {
        errors.extend(unbuilt);
    }
    errors.extend(v.rules.total(&at));
    errors
}

/// What may stand beside `properties` at the root, by Go's field names.
const AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// The first field that may not stand at the root is told, in the order of upstream's struct; an empty list or map is
/// there all the same.
fn root_with_status(path: &Path<'_>, at: &Path<'_>, schema: &Props) -> Option<Error> {
    let kind = text(&schema.type_);
    let before_type =
        !text(&schema.id).is_empty() || !text(&schema.schema).is_empty() || schema.ref_path.is_some();
    if !before_type && !kind.is_empty() && kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return Some(Error::invalid(&path.child("openAPIV3Schema.type"), kind, why));
    }
    let why = format!(
        "only {AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
    );
    (before_type || after_type(schema)).then(|| Error::invalid(at, Bad::json(schema), why))
}

fn after_type(schema: &Props) -> bool {
    schema.nullable == Some(true)
        || schema.default.as_ref().is_some_and(|d| !d.0.is_null())
        || schema.enum_.is_some()
        || schema.max_properties.is_some()
        || schema.min_properties.is_some()
        || [&schema.all_of, &schema.one_of, &schema.any_of].into_iter().any(|l| l.is_some())
        || schema.not.is_some()
        || schema.additional_properties.is_some()
        || [&schema.pattern_properties, &schema.definitions].into_iter().any(|m| m.is_some())
        || schema.dependencies.is_some()
        || schema.additional_items.is_some()
        || schema.x_kubernetes_embedded_resource == Some(true)
        || schema.x_kubernetes_int_or_string == Some(true)
        || schema.x_kubernetes_list_map_keys.is_some()
        || schema.x_kubernetes_list_type.is_some()
        || schema.x_kubernetes_map_type.is_some()
}

/// What holds for a schema and everything below it (`specStandardValidatorV3`).
#[derive(Clone)]
struct Standard {
    no_defaults: Option<String>,
    in_metadata: bool,
    /// The outermost schema within which old and new values cannot be told to be the same.
    uncorrelatable: Option<String>,
}

impl Standard {
    fn root() -> Self {
        Standard { no_defaults: None, in_metadata: false, uncorrelatable: None }
    }

    fn without_old(&self, path: &Path<'_>) -> Self {
        let uncorrelatable = self.uncorrelatable.clone().or_else(|| Some(path.to_string()));
        Standard { uncorrelatable, ..self.clone() }
    }

    fn without_defaults(&self, reason: &str) -> Self {
        Standard { no_defaults: Some(reason.to_owned()), ..self.clone() }
    }
}

struct Validator<'a> {
    options: &'a Options,
    errors: Vec<Error>,
    rules: Checker,
}

impl Validator<'_> {
    fn forbid(&mut self, path: &Path<'_>, field: &str, why: &str) {
        self.errors.push(Error::forbidden(&path.child(field), why));
    }

    /// `context` is what expressions may know; there is none where no rules may stand.
    fn schema(
        &mut self,
        path: &Path<'_>,
        s: &Props,
        standard: &Standard,
        is_root: bool,
        context: Option<&Context<'_>>,
    ) {
        let before = self.errors.len();
        self.standard(path, s, standard);
        if s.unique_items == Some(true) {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(path, "uniqueItems", why);
        }
        self.additional(path, s, standard, context);
        let properties = path.child("properties");
        for (name, property) in s.properties.iter().flatten() {
            let mut below = match s.x_kubernetes_map_type.as_deref() {
                None | Some("granular" | "atomic") => standard.clone(),
                Some(_) => standard.without_old(path),
            };
            if (is_root || s.x_kubernetes_embedded_resource == Some(true)) && is_meta_field(name) {
                below.in_metadata = true;
                if is_root {
                    below = below.without_defaults(&format!("in top-level {name}"));
                }
            }
            let context = context.and_then(|c| c.below(Step::Property(name)));
            self.schema(&properties.key(name), property, &below, false, context.as_ref());
        }
        self.nested(path, s, standard, context);
        self.extensions(path, s);
        self.list_map(path, s);
        if self.options.map_keys {
            self.errors.extend(map_keys(path, s));
        }
        let rules = items(&s.x_kubernetes_validations);
        if rules.is_empty() {
            return;
        }
        self.errors.extend(rules::forms(path, rules, s));
        // Errors at this level or deeper make those of expressions hard to understand.
        if let Some(context) = context.filter(|_| self.errors.len() == before) {
            self.rules.check(path, rules, context, standard.uncorrelatable.as_deref(), self.options);
        }
    }

    fn additional(&mut self, path: &Path<'_>, s: &Props, standard: &Standard, context: Option<&Context<'_>>) {
        let Some(additional) = &s.additional_properties else { return };
        let plain = matches!(additional, JSONSchemaPropsOrBool::Bool(true));
        if s.properties.as_ref().is_some_and(|p| !p.is_empty()) && !plain {
            let why = "additionalProperties and properties are mutual exclusive";
            self.forbid(path, "additionalProperties", why);
        }
        let JSONSchemaPropsOrBool::Schema(schema) = additional else { return };
        let below = match standard.in_metadata {
            true => standard.without_defaults("inside additionalProperties applying to object metadata"),
            false => standard.clone(),
        };
        let context = context.and_then(|c| c.below(Step::Additional));
        self.schema(&path.child("additionalProperties"), schema, &below, false, context.as_ref());
    }

    fn nested(&mut self, path: &Path<'_>, s: &Props, standard: &Standard, context: Option<&Context<'_>>) {
        if let Some(not) = &s.not {
            self.schema(&path.child("not"), not, standard, false, None);
        }
        for (field, list) in
            [("allOf", items(&s.all_of)), ("oneOf", items(&s.one_of)), ("anyOf", items(&s.any_of))]
        {
            let parent = path.child(field);
            for (index, schema) in list.iter().enumerate() {
                self.schema(&parent.index(index), schema, standard, false, None);
            }
        }
        let definitions = path.child("definitions");
        for (name, schema) in s.definitions.iter().flatten() {
            self.schema(&definitions.key(name), schema, standard, false, None);
        }
        let at = path.child("items");
        let standard_below = match s.x_kubernetes_list_type.as_deref() {
            Some("map") => standard.clone(),
            _ => standard.without_old(path),
        };
        match &s.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => {
                let context = context.and_then(|c| c.below(Step::Items));
                self.schema(&at, item, &standard_below, false, context.as_ref());
            }
            Some(JSONSchemaPropsOrArray::Schemas(all)) => {
                for (index, schema) in all.iter().enumerate() {
                    self.schema(&at.index(index), schema, &standard_below, false, None);
                }
            }
            None => {}
        }
        let dependencies = path.child("dependencies");
        for (name, dependency) in s.dependencies.iter().flatten() {
            if let JSONSchemaPropsOrStringArray::Schema(schema) = dependency {
                self.schema(&dependencies.key(name), schema, standard, false, None);
            }
        }
    }

    fn standard(&mut self, path: &Path<'_>, s: &Props, standard: &Standard) {
        let kind = text(&s.type_);
        if self.options.valid_property_type && walk::has_invalid_type(s) {
            self.errors.push(Error::not_supported(&path.child("type"), kind, &TYPES));
        }
        if let Some(reason) = &standard.no_defaults
            && s.default.as_ref().is_some_and(|d| !d.0.is_null())
        {
            self.forbid(path, "default", &format!("must not be set {reason}"));
        }
        let filled =
            |m: bool, field: &str| m.then(|| (field.to_owned(), format!("{field} is not supported")));
        let map =
            |m: &Option<std::collections::BTreeMap<String, Props>>| m.as_ref().is_some_and(|m| !m.is_empty());
        let unsupported = [
            filled(!text(&s.id).is_empty(), "id"),
            filled(s.additional_items.is_some(), "additionalItems"),
            filled(map(&s.pattern_properties), "patternProperties"),
            filled(map(&s.definitions), "definitions"),
            filled(s.dependencies.is_some(), "dependencies"),
            filled(s.ref_path.is_some(), "$ref"),
        ];
        for (field, why) in unsupported.into_iter().flatten() {
            self.forbid(path, &field, &why);
        }
        if kind == "null" {
            self.forbid(path, "type", "type cannot be set to null, use nullable as an alternative");
        }
        if matches!(&s.items, Some(JSONSchemaPropsOrArray::Schemas(all)) if !all.is_empty()) {
            self.forbid(path, "items", "items must be a schema object and not an array");
        }
        if standard.in_metadata && s.x_kubernetes_embedded_resource == Some(true) {
            self.forbid(path, "x-kubernetes-embedded-resource", "must not be used inside of resource meta");
        }
    }

    fn needs_type(&mut self, path: &Path<'_>, kind: &str, why: &str) {
        let at = path.child("type");
        self.errors.push(match kind {
            "" => Error::required(&at, why),
            kind => Error::invalid(&at, kind, why),
        });
    }

    fn extensions(&mut self, path: &Path<'_>, s: &Props) {
        let kind = text(&s.type_);
        if s.x_kubernetes_preserve_unknown_fields == Some(false) {
            let at = path.child("x-kubernetes-preserve-unknown-fields");
            self.errors.push(Error::invalid(&at, false, "must be true or undefined"));
        }
        if let Some(map_type) = &s.x_kubernetes_map_type {
            if kind != "object" {
                self.needs_type(path, kind, "must be object if x-kubernetes-map-type is specified");
            }
            if !matches!(map_type.as_str(), "atomic" | "granular") {
                let at = path.child("x-kubernetes-map-type");
                self.errors.push(Error::not_supported(&at, map_type, &["atomic", "granular"]));
            }
        }
        let Some(list_type) = &s.x_kubernetes_list_type else { return };
        if kind != "array" {
            self.needs_type(path, kind, "must be array if x-kubernetes-list-type is specified");
        } else if self.options.atomic_set && walk::has_non_atomic_set(s) {
            let is_map = item(s).is_some_and(|i| text(&i.type_) == "object");
            let field = if is_map { "x-kubernetes-map-type" } else { "x-kubernetes-list-type" };
            let shown = item(s).and_then(|i| i.x_kubernetes_list_type.clone());
            let items = path.child("items");
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            self.errors.push(Error::invalid(&items.child(field), Bad::json(&shown), why));
        }
        if !matches!(list_type.as_str(), "atomic" | "set" | "map") {
            let at = path.child("x-kubernetes-list-type");
            self.errors.push(Error::not_supported(&at, list_type, &["atomic", "set", "map"]));
        }
    }

    fn list_map(&mut self, path: &Path<'_>, s: &Props) {
        let keys = items(&s.x_kubernetes_list_map_keys);
        let list_type = path.child("x-kubernetes-list-type");
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match s.x_kubernetes_list_type.as_deref() {
            Some("map") => {}
            None if !keys.is_empty() => self.errors.push(Error::required(&list_type, why)),
            Some(other) if !keys.is_empty() => self.errors.push(Error::invalid(&list_type, other, why)),
            _ => {}
        }
        if s.x_kubernetes_list_type.as_deref() != Some("map") {
            return;
        }
        let (at_keys, at_items) = (path.child("x-kubernetes-list-map-keys"), path.child("items"));
        if keys.is_empty() {
            let why = "must not be empty if x-kubernetes-list-type is map";
            self.errors.push(Error::required(&at_keys, why));
        }
        match (&s.items, item(s)) {
            (None, _) => {
                let why = "must have a schema if x-kubernetes-list-type is map";
                self.errors.push(Error::required(&at_items, why));
            }
            (Some(all), None) => {
                let why = "must only have a single schema if x-kubernetes-list-type is map";
                self.errors.push(Error::invalid(&at_items, Bad::json(all), why));
            }
            (Some(_), Some(item)) if text(&item.type_) != "object" => {
                let why = "must be object if parent array's x-kubernetes-list-type is map";
                self.errors.push(Error::invalid(&at_items.child("type"), text(&item.type_), why));
            }
            (Some(_), Some(item)) => self.key_properties(&at_keys, &at_items, keys, item),
        }
    }

    fn key_properties(&mut self, at_keys: &Path<'_>, at_items: &Path<'_>, keys: &[String], item: &Props) {
        let properties = at_items.child("properties");
        for (index, key) in keys.iter().enumerate() {
            match item.properties.as_ref().and_then(|p| p.get(key)) {
                Some(p) if matches!(text(&p.type_), "array" | "object") => {
                    let at = properties.key(key);
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    self.errors.push(Error::invalid(&at.child("type"), text(&item.type_), why));
                }
                Some(_) => {}
                None => {
                    let why = "entries must all be names of item properties";
                    self.errors.push(Error::invalid(at_keys, Bad::json(&keys), why));
                }
            }
            if keys[..index].contains(key) {
                let why = "must not contain duplicate entries";
                self.errors.push(Error::invalid(at_keys, Bad::json(&keys), why));
            }
        }
    }
}

/// `validateMapListKeysMapSet`.
pub(super) fn map_keys(path: &Path<'_>, s: &Props) -> Vec<Error> {
    let mut errors = Vec::new();
    let (Some(item), Some(list_type @ ("set" | "map"))) = (item(s), s.x_kubernetes_list_type.as_deref())
    else {
        return errors;
    };
    let at = path.child("items");
    if item.nullable == Some(true) {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Error::forbidden(&at.child("nullable"), why));
    }
    if list_type != "map" {
        return errors;
    }
    let properties = at.child("properties");
    for key in items(&s.x_kubernetes_list_map_keys) {
        let Some(property) = item.properties.as_ref().and_then(|p| p.get(key)) else { continue };
        let at = properties.key(key);
        let default = property.default.as_ref().is_some_and(|d| !d.0.is_null());
        if !items(&item.required).contains(key) && !default {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(&at.child("default"), why));
        }
        if property.nullable == Some(true) {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&at.child("nullable"), why));
        }
    }
    errors
}
