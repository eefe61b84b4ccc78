//! Fills in a schema's defaults. Upstream: `schema/defaulting`.

use machinery::{List, Map, Value};

use super::{Additional, Schema, coerce, prune};

/// Fills in defaults; a null where none is allowed counts as absent.
pub fn default(value: &mut Value, schema: &Schema) {
    match value {
        Value::Map(map) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                let fill = match map.get(name) {
                    None => true,
                    Some(value) => is_bad_null(value, property),
                };
                if fill {
                    map.insert(name.as_str(), default.clone());
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(property) = schema.properties.get(key.as_str()) {
                    default(value, property);
                } else if let Some(additional) = schema.additional_schema() {
                    fill(value, additional);
                }
            }
        }
        Value::List(list) => {
            let Some(items) = schema.items.as_deref() else { return };
            list.iter_mut().for_each(|value| fill(value, items));
        }
        _ => {}
    }
}

fn fill(value: &mut Value, schema: &Schema) {
    if let (true, Some(default)) = (is_bad_null(value, schema), &schema.default) {
        *value = default.clone();
    }
    default(value, schema);
}

fn is_bad_null(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

/// The way from the root of an object to where a default stands.
#[derive(Clone)]
pub enum Step {
    /// A field.
    Key(String),
    /// The first item.
    Index,
}

/// An object in which `focus` stands at the end of `way`, and nothing else. `None` when the root itself is no object.
pub fn surround(way: &[Step], focus: Value) -> Option<Value> {
    let object = way.iter().rev().fold(focus, |inner, step| match step {
        Step::Key(key) => Value::Map(Map::from_iter([(key.as_str(), inner)])),
        Step::Index => Value::List(List::from(vec![inner])),
    });
    matches!(object, Value::Map(_)).then_some(object)
}

/// What stands at the end of `way`.
fn focus<'a>(way: &[Step], object: &'a Value) -> Option<&'a Value> {
    way.iter().try_fold(object, |at, step| match step {
        Step::Key(key) => at.get(key),
        Step::Index => at.as_list()?.first(),
    })
}

/// Prunes the defaults themselves, in place. Upstream: `PruneDefaults`.
///
/// # Errors
/// When a default cannot be part of an object.
pub fn prune_defaults(schema: &mut Schema) -> Result<(), String> {
    let root = schema.clone();
    prune_below(schema, &root, &mut Vec::new())
}

fn prune_below(schema: &mut Schema, root: &Schema, way: &mut Vec<Step>) -> Result<(), String> {
    if let Some(default) = schema.default.take() {
        let fail = |why: &str| format!("failed to prune default value: {why}");
        let mut object =
            surround(way, default).ok_or_else(|| fail("object root default value must be of object type"))?;
        coerce::coerce(&mut object, root, true, true, false).map_err(|e| fail(&e.to_string()))?;
        prune::prune(&mut object, root, true, false);
        schema.default = focus(way, &object).cloned();
    }
    if let Some(Additional::Schema(additional)) = &mut schema.additional {
        way.push(Step::Key("*".into()));
        prune_below(additional, root, way)?;
        way.pop();
    }
    if let Some(items) = &mut schema.items {
        way.push(Step::Index);
        prune_below(items, root, way)?;
        way.pop();
    }
    for (name, property) in &mut schema.properties {
        way.push(Step::Key(name.clone()));
        prune_below(property, root, way)?;
        way.pop();
    }
    Ok(())
}
