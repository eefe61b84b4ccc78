//! The planned tree: what evaluation walks.

use crate::cost::runtime::Charge;
use crate::decls::{Code, Overload, Passing, Trait};
use crate::regexp::Regexp;
use crate::types::Type;
use crate::val::{MapBuilder, Res, Val};
use machinery::Str;

/// The place of a comprehension's variable.
pub(crate) type Slot = usize;

#[derive(Debug)]
pub(crate) enum Node {
    /// Known when planned; an error too, where a constant map or list cannot be made.
    Const(Res<'static>),
    Attr(Attr),
    /// `has(...)`: the attribute ends in a presence test.
    Has(Attr),
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Equal {
        sides: Box<[Node; 2]>,
        negated: bool,
        charge: Charge,
    },
    Call(Box<Call>),
    /// Membership in a constant list.
    InSet(Box<Node>, Box<Val<'static>>),
    /// `a.or(b)` and `a.orValue(b)`.
    OptionalOr {
        sides: Box<[Node; 2]>,
        unwrap: bool,
    },
    List {
        elements: Box<[Node]>,
        optional: Box<[bool]>,
    },
    Map(Box<[MapEntry]>),
    /// An object; where nothing can make it, its fields are evaluated all the same.
    Struct {
        name: Str,
        fields: Box<[StructField]>,
    },
    Fold(Box<Fold>),
    /// `accumulator + list` where the accumulator is a comprehension's own: appends in place.
    Append {
        slot: Slot,
        list: Box<Node>,
    },
    /// Insertion into a comprehension's own map: in place.
    Insert {
        slot: Slot,
        args: Box<[Node]>,
    },
}

#[derive(Debug)]
pub(crate) struct MapEntry {
    pub key: Node,
    pub value: Node,
    pub optional: bool,
}

#[derive(Debug)]
pub(crate) struct StructField {
    pub name: Str,
    pub value: Node,
    pub optional: bool,
}

/// A variable or value and the selections and indices applied to it.
#[derive(Debug)]
pub(crate) struct Attr {
    pub base: Base,
    pub qualifiers: Vec<Qualifier>,
}

#[derive(Debug)]
pub(crate) enum Base {
    Variable(usize),
    Local(Slot),
    Value(Box<Node>),
    /// `condition ? a : b`.
    Choice(Box<[Node; 3]>),
}

#[derive(Debug)]
pub(crate) struct Qualifier {
    pub key: Key,
    pub optional: bool,
    pub test: bool,
}

#[derive(Debug)]
pub(crate) enum Key {
    Const(Val<'static>),
    /// A field of an object whose type makes objects (`Object`).
    Field(Str),
    Attr(Box<Attr>),
    Node(Box<Node>),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub function: &'static str,
    pub args: Box<[Node]>,
    pub dispatch: Dispatch,
    pub charge: Charge,
    /// Whether its result may take much more memory than its cost says.
    pub makes: bool,
}

#[derive(Debug)]
pub(crate) enum Dispatch {
    /// One code for all overloads; the receiver must be able to do something.
    Singleton(Trait, Passing, Code),
    /// The one overload that fits; its argument types are checked unless it does so itself.
    One { passing: Passing, code: Code, guard: Option<Box<[Type]>> },
    /// The first overload that fits the values.
    Many(Box<[Overload]>, bool),
    /// `@not_strictly_false`.
    NotStrictlyFalse,
    /// A pattern known when planned.
    Pattern(PatternCall, Box<Regexp>),
    /// Declared without code.
    Missing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatternCall {
    Matches,
    Find,
    FindAll,
}

#[derive(Debug)]
pub(crate) struct Fold {
    pub range: Node,
    pub var: Slot,
    pub var2: Option<Slot>,
    pub accu: Slot,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

impl Node {
    pub fn as_const(&self) -> Option<&Val<'static>> {
        match self {
            Node::Const(Ok(v)) => Some(v),
            _ => None,
        }
    }
}

/// The values of a constant list that can be looked up by hash.
pub(crate) fn value_set(items: &[Val<'static>]) -> Option<Val<'static>> {
    let mut set = MapBuilder::default();
    for item in items {
        let plain = matches!(item, Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Str(_));
        if !plain || !set.set(item.clone(), Val::Bool(true)) {
            return None;
        }
        // The same number of the other types is a member too.
        for t in [Type::Int, Type::Uint, Type::Double] {
            if let Ok(same) = item.convert(&t)
                && !matches!(item, Val::Str(_) | Val::Bool(_))
                && crate::val::equal::equal(&same, item) == Ok(true)
            {
                set.set(same, Val::Bool(true));
            }
        }
    }
    Some(set.build())
}
