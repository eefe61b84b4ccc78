//! Equality of trees as of the Go structs that they stand for.
//!
//! Upstream: `apimachinery/pkg/api/equality` `Semantic.DeepEqual`. Quantities and times compare as text, which is right
//! for trees in canonical form.

use super::{Field, Shape, TypeId, TypeTable};
use crate::Value;

fn given(value: Option<&Value>) -> Option<&Value> {
    value.filter(|v| !v.is_null())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

impl TypeTable {
    /// Whether two structs are the same: empty lists and maps are as good as none, and so is zero where Go has no
    /// pointer. Entries that are no fields do not count.
    pub fn semantic_eq(&self, id: TypeId, a: &Value, b: &Value) -> bool {
        if let (Value::Map(x), Value::Map(y)) = (a, b)
            && x.ptr_eq(y)
        {
            return true;
        }
        if self.get(id).choice.is_some() {
            return a == b;
        }
        self.fields(id).all(|field| self.field_eq(field, a.get(&field.name), b.get(&field.name)))
    }

    /// [`TypeTable::semantic_eq`] of two values of a field.
    pub fn field_eq(&self, field: &Field, a: Option<&Value>, b: Option<&Value>) -> bool {
        match (given(a), given(b)) {
            (None, None) => true,
            (Some(a), Some(b)) => self.shape_eq(field.shape, a, b),
            (Some(value), None) | (None, Some(value)) => self.is_zero(field, value),
        }
    }

    fn is_zero(&self, field: &Field, value: &Value) -> bool {
        match (field.shape, value) {
            (Shape::List(_) | Shape::Wrapped(_) | Shape::Map(_), value) => is_empty(value),
            _ if field.flags.pointer => false,
            (Shape::Struct(id), value) => self.semantic_eq(id, value, &Value::Null),
            (Shape::Quantity, Value::Str(text)) => text.as_str() == "0",
            (_, Value::Str(text)) => text.is_empty(),
            (_, Value::Bool(on)) => !on,
            (_, Value::Int(n)) => *n == 0,
            (_, Value::Float(n)) => *n == 0.0,
            (_, value) => is_empty(value),
        }
    }

    fn shape_eq(&self, shape: Shape, a: &Value, b: &Value) -> bool {
        match (shape, a, b) {
            (Shape::Struct(id), a, b) => self.semantic_eq(id, a, b),
            (Shape::List(e) | Shape::Wrapped(e), Value::List(a), Value::List(b)) => {
                let same = |(x, y)| self.shape_eq(self.elem(e), x, y);
                a.ptr_eq(b) || (a.len() == b.len() && a.iter().zip(b.iter()).all(same))
            }
            (Shape::Map(e), Value::Map(a), Value::Map(b)) => {
                let same = |key: &str, x| b.get(key).is_some_and(|y| self.shape_eq(self.elem(e), x, y));
                a.ptr_eq(b) || (a.len() == b.len() && a.iter().all(|(key, x)| same(key, x)))
            }
            (_, a, b) => a == b,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
package core/v1 k8s.io/api/core/v1 /v1
type Part
  name 1 string omitempty
type Thing
  text 1 string omitempty
  pointed 2 *string omitempty
  part 3 Part omitempty
  partly 4 *Part omitempty
  list 5 []Part omitempty
  map 6 {}string omitempty
";

    #[test]
    fn pointers_tell_nothing_from_zero() {
        let table = TypeTable::parse(TABLE).expect("a table");
        let thing = table.by_name("core/v1.Thing").expect("a type");
        let same = |a: serde_json::Value, b: serde_json::Value| {
            let (a, b) = (Value::from(a), Value::from(b));
            let answer = table.semantic_eq(thing, &a, &b);
            assert_eq!(answer, table.semantic_eq(thing, &b, &a));
            answer
        };
        use serde_json::json;
        for zero in [json!({"text": ""}), json!({"part": {}}), json!({"list": []}), json!({"map": null})] {
            assert!(same(zero.clone(), json!({})), "{zero}");
        }
        for set in
            [json!({"pointed": ""}), json!({"partly": {}}), json!({"list": [{}]}), json!({"text": "a"})]
        {
            assert!(!same(set.clone(), json!({})), "{set}");
        }
        assert!(same(json!({"part": {"name": ""}, "list": [{}]}), json!({"list": [{"name": ""}]})));
        assert!(!same(json!({"map": {"a": "b"}}), json!({"map": {"a": "c"}})));
    }
}
