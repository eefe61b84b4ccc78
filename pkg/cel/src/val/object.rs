//! Values of types that only functions look into: quantities, addresses, authorizers.

use crate::types::Type;
use std::any::Any;
use std::fmt::Debug;

/// A value of such a type.
pub trait Object: Debug + Send + Sync {
    fn as_any(&self) -> &dyn Any;

    fn type_name(&self) -> &str;

    /// The type as a value; an object type unless overridden.
    fn type_value(&self) -> Type {
        Type::object(self.type_name())
    }

    /// Whether `other` is the same value; `None` where it is of another type, which is an error to compare with.
    fn equals(&self, other: &dyn Object) -> Option<bool>;

    /// What `size` and the cost of traversal are computed from.
    fn size(&self) -> Option<u64> {
        None
    }

    /// The text `string()` converts to, if it does.
    fn text(&self) -> Option<String> {
        None
    }
}
