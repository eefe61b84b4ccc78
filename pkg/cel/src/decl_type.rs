//! Declared types: what a schema says about a variable's fields and about how large they get (upstream's
//! pkg/cel/types.go and common/schemas.go).

use crate::cost::estimate::Sizes;
use crate::cost::range::Range;
use crate::escape::escape;
use crate::schema::{Kind, Schema};
use crate::types::Type;
use machinery::Str;
use std::collections::HashMap;
use std::sync::Arc;

/// The largest request the API server takes.
const MAX_REQUEST: i64 = 3 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct DeclType {
    t: Type,
    shape: Shape,
    /// The most elements, code points or bytes a value can have.
    pub max_elements: i64,
    /// The least bytes a value takes in JSON.
    min_size: i64,
}

#[derive(Clone, Debug)]
enum Shape {
    Simple,
    List(Arc<DeclType>),
    Map(Arc<DeclType>, Arc<DeclType>),
    Object(Arc<HashMap<Str, DeclType>>),
}

impl DeclType {
    /// A type without parts.
    pub fn simple(t: Type, max_elements: i64) -> Self {
        let min_size = match t {
            Type::Bool => 4,
            Type::Null => 4,
            Type::String | Type::Bytes => 2,
            Type::Duration => 3,
            Type::Timestamp => 21,
            Type::Struct(_) => 8,
            _ => 1,
        };
        DeclType { t, shape: Shape::Simple, max_elements, min_size }
    }

    pub fn list(element: DeclType, max: i64) -> Self {
        let t = Type::list(element.t.clone());
        DeclType { t, shape: Shape::List(Arc::new(element)), max_elements: max, min_size: 2 }
    }

    pub fn map(key: DeclType, value: DeclType, max: i64) -> Self {
        let t = Type::map(key.t.clone(), value.t.clone());
        DeclType { t, shape: Shape::Map(Arc::new(key), Arc::new(value)), max_elements: max, min_size: 2 }
    }

    pub fn object(name: &str, fields: HashMap<Str, DeclType>) -> Self {
        DeclType {
            t: Type::object(name),
            shape: Shape::Object(Arc::new(fields)),
            max_elements: 0,
            min_size: 2,
        }
    }

    /// The type as the checker knows it.
    pub fn cel_type(&self) -> &Type {
        &self.t
    }

    /// The least bytes a value takes in JSON.
    pub fn min_serialized_size(&self) -> i64 {
        self.min_size
    }

    /// A declared field, by its escaped name.
    pub fn field(&self, name: &str) -> Option<&DeclType> {
        match &self.shape {
            Shape::Object(fields) => fields.get(name),
            _ => None,
        }
    }

    /// What a list's items or a map's values are.
    pub fn element(&self) -> Option<&DeclType> {
        match &self.shape {
            Shape::List(t) | Shape::Map(_, t) => Some(t),
            _ => None,
        }
    }

    /// What a map's keys are.
    pub fn key(&self) -> Option<&DeclType> {
        match &self.shape {
            Shape::Map(key, _) => Some(key),
            _ => None,
        }
    }

    /// The type a schema declares; `root` adds a resource's own fields. `None` where the schema declares none.
    pub fn from_schema(schema: &Schema, root: bool) -> Option<DeclType> {
        if schema.int_or_string {
            let max = schema.max_length.map_or(MAX_REQUEST - 2, |n| n.max(0).saturating_mul(4));
            return Some(DeclType { max_elements: max, ..DeclType::simple(Type::Dyn, 0) });
        }
        if root {
            return Self::of_kind(&schema.clone().with_type_and_object_meta());
        }
        Self::of_kind(schema)
    }

    fn of_kind(schema: &Schema) -> Option<DeclType> {
        match schema.kind {
            Kind::Array => {
                let items = schema.items.as_ref()?;
                let element = Self::from_schema(items, items.embedded)?;
                let max = match schema.max_items {
                    Some(n) => n.max(0),
                    None => (MAX_REQUEST - 2) / (element.min_size + 1),
                };
                Some(Self::list(element, max))
            }
            Kind::Object => Self::of_object(schema),
            Kind::String => Some(Self::of_string(schema)),
            Kind::Boolean => Some(Self::simple(Type::Bool, 0)),
            Kind::Number => Some(Self::simple(Type::Double, 0)),
            Kind::Integer => Some(Self::simple(Type::Int, 0)),
            Kind::None => None,
        }
    }

    fn of_object(schema: &Schema) -> Option<DeclType> {
        if let Some(values) = &schema.additional {
            let value = Self::from_schema(values, values.embedded)?;
            let max = match schema.max_properties {
                Some(n) => n.max(0),
                None => (MAX_REQUEST - 2) / (value.min_size + 6),
            };
            return Some(Self::map(Self::simple(Type::String, 0), value, max));
        }
        let mut fields = HashMap::new();
        let mut min_size = 2;
        for (name, property) in schema.properties.iter().flatten() {
            let Some(t) = Self::from_schema(property, property.embedded) else { continue };
            if schema.required.contains(name) && !property.has_default {
                min_size += name.len() as i64 + t.min_size + 4;
            }
            if let Some(name) = escape(name) {
                fields.insert(name.into(), t);
            }
        }
        Some(DeclType { min_size, ..Self::object("object", fields) })
    }

    fn of_string(schema: &Schema) -> DeclType {
        let whole = MAX_REQUEST - 2;
        match schema.format.as_deref() {
            Some("byte") => Self::simple(Type::Bytes, schema.max_length.map_or(whole, |n| n.max(0))),
            Some("duration") => Self::simple(Type::Duration, 32),
            Some("date") => DeclType { min_size: 12, ..Self::simple(Type::Timestamp, 12) },
            Some("date-time") => Self::simple(Type::Timestamp, 32),
            _ => {
                let longest = |values: &Vec<machinery::Value>| {
                    values.iter().filter_map(|v| v.as_str()).map(|s| s.len() as i64).max().unwrap_or(0)
                };
                let max = match (schema.max_length, &schema.enumeration) {
                    (Some(n), _) => n.max(0).saturating_mul(4),
                    (None, Some(values)) if !values.is_empty() => longest(values),
                    _ => whole,
                };
                Self::simple(Type::String, max)
            }
        }
    }

    /// Names the objects that have no name yet, after the path to them.
    pub fn named(self, name: &str) -> DeclType {
        match &self.shape {
            Shape::Object(fields) => {
                let name = match &self.t {
                    Type::Struct(own) if &**own != "object" => own.to_string(),
                    _ => name.to_owned(),
                };
                let fields = fields
                    .iter()
                    .map(|(field, t)| (field.clone(), t.clone().named(&format!("{name}.{field}"))))
                    .collect();
                DeclType { t: Type::object(&name), shape: Shape::Object(Arc::new(fields)), ..self }
            }
            Shape::Map(key, value) => {
                let value = (**value).clone().named(&format!("{name}.@elem"));
                DeclType { min_size: self.min_size, ..Self::map((**key).clone(), value, self.max_elements) }
            }
            Shape::List(element) => {
                let element = (**element).clone().named(&format!("{name}.@idx"));
                DeclType { min_size: self.min_size, ..Self::list(element, self.max_elements) }
            }
            Shape::Simple => self,
        }
    }

    /// All objects within, by name.
    pub(crate) fn objects(&self, into: &mut HashMap<Str, HashMap<Str, Type>>) {
        match &self.shape {
            Shape::Simple => {}
            Shape::List(element) => element.objects(into),
            Shape::Map(_, value) => value.objects(into),
            Shape::Object(fields) => {
                let types = fields.iter().map(|(name, f)| (name.clone(), f.t.clone())).collect();
                into.insert(self.t.runtime_name().into(), types);
                fields.values().for_each(|f| f.objects(into));
            }
        }
    }

    fn step(&self, name: &str) -> Option<&DeclType> {
        match (name, &self.shape) {
            ("@items" | "@values", Shape::List(t) | Shape::Map(_, t)) | ("@keys", Shape::Map(t, _)) => {
                Some(t)
            }
            ("@items" | "@values" | "@keys", _) => None,
            (name, Shape::Object(fields)) => fields.get(name),
            (_, Shape::Map(_, value)) => Some(value),
            _ => None,
        }
    }
}

/// Sizes of variables with declared types, for cost estimates.
#[derive(Clone, Debug, Default)]
pub struct DeclSizes(HashMap<Str, DeclType>);

impl DeclSizes {
    pub fn new<N: Into<Str>>(variables: impl IntoIterator<Item = (N, DeclType)>) -> Self {
        DeclSizes(variables.into_iter().map(|(n, t)| (n.into(), t)).collect())
    }
}

impl Sizes for DeclSizes {
    /// As upstream's estimator for resource rules: the declared maximum; nothing for what is not declared.
    fn size(&self, path: &[Str], _t: &Type) -> Option<Range> {
        let (first, rest) = path.split_first()?;
        let mut t = self.0.get(first)?;
        for name in rest {
            t = t.step(name)?;
        }
        Some(Range::new(0, t.max_elements as u64))
    }
}
