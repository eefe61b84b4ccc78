//! Defaults must be what the schema itself accepts. Upstream: `schema/defaulting/validation.go`.

use api::validation::field::{Error, Path};
use machinery::Value;

use super::walk;
use crate::rules;
use crate::schema::coerce::{bad, coerce};
use crate::schema::{Schema, default, is_meta_field, prune, resource_meta, structural, validate};

/// Errors of the defaults of a root schema.
///
/// # Errors
/// When a default in metadata cannot be part of an object.
pub(super) fn validate_all(path: &Path<'_>, schema: &Schema, pruned: bool) -> Result<Vec<Error>, String> {
    let root = schema.as_resource();
    let mut v = Validator { pruned, remaining: rules::BUDGET, errors: Vec::new() };
    v.walk(path, &root, &root, &mut Vec::new(), false)?;
    Ok(v.errors)
}

struct Validator {
    pruned: bool,
    /// What rules may still cost.
    remaining: i64,
    errors: Vec<Error>,
}

impl Validator {
    fn walk(
        &mut self,
        path: &Path<'_>,
        schema: &Schema,
        root: &Schema,
        way: &mut Vec<default::Step>,
        inside_meta: bool,
    ) -> Result<(), String> {
        if self.remaining < 0 {
            return Ok(());
        }
        let (mut fresh, root, inside_meta) = match schema.embedded {
            true => (Some(Vec::new()), schema, false),
            false => (None, root, inside_meta),
        };
        let way = fresh.as_mut().unwrap_or(way);
        if let Some(value) = &schema.default {
            let at = path.child("default");
            match inside_meta {
                true => self.in_metadata(&at, value, schema, root, way)?,
                false => self.plain(&at, value, schema),
            }
        }
        if let Some(items) = &schema.items {
            way.push(default::Step::Index);
            self.walk(&path.child("items"), items, root, way, inside_meta)?;
            way.pop();
        }
        let properties = path.child("properties");
        for (name, property) in &schema.properties {
            let meta = inside_meta || (schema.embedded && is_meta_field(name));
            way.push(default::Step::Key(name.clone()));
            self.walk(&properties.key(name), property, root, way, meta)?;
            way.pop();
        }
        Ok(())
    }

    fn plain(&mut self, at: &Path<'_>, value: &Value, schema: &Schema) {
        if self.pruned {
            let mut copy = value.clone();
            prune::prune(&mut copy, schema, schema.embedded, false);
            if copy != *value {
                self.errors.push(Error::invalid(at, bad(value), "must not have unknown fields"));
            }
        }
        let mut copy = value.clone();
        if let Err(error) = coerce(&mut copy, schema, schema.embedded, false, false) {
            let field = format!("{at}.{}", error.field);
            self.errors.push(Error { field, ..error });
            return;
        }
        let mut errors = resource_meta::validate(at, &copy, schema, schema.embedded);
        if errors.is_empty() {
            errors = self.by_schema(at, &copy, schema);
        }
        self.errors.append(&mut errors);
    }

    /// By the schema, then by its rules: as a value that stays, and as one that is new.
    fn by_schema(&mut self, at: &Path<'_>, value: &Value, schema: &Schema) -> Vec<Error> {
        let mut errors = validate::validate(at, value, schema);
        if !errors.is_empty() {
            return errors;
        }
        let Some(rules) = rules::Validator::new(schema, schema.embedded) else { return errors };
        let kept = rules.validate(at, value, Some(value), None, self.remaining);
        let mut remaining = kept.remaining;
        errors = kept.errors;
        if errors.is_empty() {
            let new = rules.validate(at, value, None, None, self.remaining);
            remaining = remaining.min(new.remaining);
            errors = new.errors;
        }
        self.remaining = remaining;
        errors
    }

    fn in_metadata(
        &mut self,
        at: &Path<'_>,
        value: &Value,
        schema: &Schema,
        root: &Schema,
        way: &[default::Step],
    ) -> Result<(), String> {
        let object = default::surround(way, value.clone());
        let mut object = object.ok_or(
            "failed to validate default value inside metadata: object root default value must be of object type",
        )?;
        for (field, text) in [("kind", "Validation"), ("apiVersion", "validation/v1")] {
            if let Value::Map(map) = &mut object
                && !map.contains_key(field)
            {
                map.insert(field, text);
            }
        }
        let must =
            |why: String| Error::invalid(at, bad(value), format!("must result in valid metadata: {why}"));
        if let Err(error) = coerce(&mut object, root, true, false, false) {
            self.errors.push(must(error.to_string()));
            return Ok(());
        }
        let errors = resource_meta::validate(&Path::ROOT, &object, root, true);
        if errors.is_empty() {
            let errors = self.by_schema(at, value, schema);
            self.errors.extend(errors);
        } else {
            self.errors.push(must(api::validation::field::aggregate(&errors)));
        }
        Ok(())
    }
}

/// Whether a schema of an old definition has defaults that pruning would change.
pub(super) fn has_unpruned(schema: &walk::Props) -> bool {
    let has_default = |s: &walk::Props| s.default.as_ref().is_some_and(|d| !d.0.is_null());
    if !walk::has(schema, &has_default) || !structural::validate(&Path::ROOT, schema).is_empty() {
        return false;
    }
    let Ok(compiled) = Schema::new(schema) else { return false };
    let mut pruned = compiled.clone();
    default::prune_defaults(&mut pruned).is_ok() && !same_defaults(&compiled, &pruned)
}

fn same_defaults(a: &Schema, b: &Schema) -> bool {
    let items = match (&a.items, &b.items) {
        (Some(a), Some(b)) => same_defaults(a, b),
        _ => true,
    };
    let additional = match (a.additional_schema(), b.additional_schema()) {
        (Some(a), Some(b)) => same_defaults(a, b),
        _ => true,
    };
    let property =
        |(name, p): (&String, &Schema)| b.properties.get(name).is_some_and(|q| same_defaults(p, q));
    a.default == b.default && items && additional && a.properties.iter().all(property)
}
