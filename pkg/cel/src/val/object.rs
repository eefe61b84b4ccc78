//! Values of types that only functions look into: quantities, addresses, authorizers.

use super::Val;
use crate::types::Type;
use std::any::Any;
use std::fmt::Debug;

/// What makes a value the same key of a map again, as Go's maps see upstream's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Its text, among values of a kind.
    Text(&'static str),
    /// Where it stands.
    Place,
    /// It can be no key.
    None,
}

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

    /// What makes it a key.
    fn identity(&self) -> Identity {
        match self.type_name() {
            "net.IP" => Identity::Text("ip"),
            "net.CIDR" => Identity::Text("cidr"),
            "kubernetes.Semver" | "kubernetes.NamedFormat" => Identity::None,
            _ => Identity::Place,
        }
    }

    /// Whether it is a message of protocol buffers.
    fn is_message(&self) -> bool {
        false
    }

    /// A message's fields that are set.
    fn fields(&self) -> Vec<(&'static str, Val<'static>)> {
        Vec::new()
    }

    /// The text that Go's value of it converts to, if it does.
    fn native_text(&self) -> Option<String> {
        self.text()
    }

    /// The text `string()` converts to, if it does.
    fn text(&self) -> Option<String> {
        None
    }
}
