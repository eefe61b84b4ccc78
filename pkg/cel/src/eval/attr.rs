//! Variables, field selections, indices and presence tests (cel-go interpreter/attributes.go).

use super::node::{Attr, Base, Key, Node, Qualifier, Slot};
use super::{EvalError, Frame, Local, Res};
use crate::val::{Val, ops};
use crate::well_known::Message;

/// What a qualifier found: nothing, where absence is no error.
type Found<'a> = Result<Option<Val<'a>>, EvalError>;

impl<'a> Frame<'a, '_> {
    pub(super) fn attribute(&mut self, attr: &'a Attr) -> Res<'a> {
        let result = self.resolve(attr);
        // A choice costs nothing by itself; everything else does, found or not.
        if !matches!(attr.base, Base::Choice(_)) && !result.as_ref().is_err_and(EvalError::is_final) {
            self.charge(crate::cost::IDENT)?;
        }
        result
    }

    pub(super) fn presence(&mut self, attr: &'a Attr) -> Res<'a> {
        let result = self.resolve(attr);
        // Upstream takes back what reading costs, also of a choice, which has cost nothing by itself.
        if matches!(attr.base, Base::Choice(_)) {
            self.cost = self.cost.saturating_sub(crate::cost::IDENT);
        }
        match result? {
            Val::Optional(v) => Ok(Val::Bool(v.is_some())),
            other => Ok(other),
        }
    }

    pub(super) fn local(&mut self, slot: Slot) -> Res<'a> {
        match &self.locals[slot] {
            Local::Ready(v) => v.clone(),
            Local::Lazy(init) => {
                let init = *init;
                let value = self.eval(init);
                self.locals[slot] = Local::Ready(value.clone());
                value
            }
            Local::Unset => Err(EvalError::new("no such attribute(s): variable out of scope")),
        }
    }

    fn base(&mut self, base: &'a Base) -> Res<'a> {
        match base {
            Base::Variable(i) => match self.variables[*i] {
                Some(value) => value.clone(),
                None => Err(EvalError::new(format!("no such attribute(s): {}", self.names[*i]))),
            },
            Base::Local(slot) => self.local(*slot),
            Base::Value(node) => self.eval(node),
            Base::Choice(nodes) => match self.eval(&nodes[0])? {
                Val::Bool(true) => self.branch(&nodes[1]),
                Val::Bool(false) => self.branch(&nodes[2]),
                _ => Err(ops::no_overload()),
            },
        }
    }

    /// A choice's branch: a variable there is read without being charged as one.
    fn branch(&mut self, node: &'a Node) -> Res<'a> {
        match node {
            Node::Attr(attr) | Node::Has(attr) => self.resolve(attr),
            other => self.eval(other),
        }
    }

    fn resolve(&mut self, attr: &'a Attr) -> Res<'a> {
        let mut value = self.base(&attr.base)?;
        if attr.qualifiers.is_empty() {
            return Ok(value);
        }
        let mut optional = false;
        if let Val::Optional(inner) = &value {
            let Some(inner) = inner else { return Ok(value) };
            value = (**inner).clone();
            optional = true;
        }
        for q in &attr.qualifiers {
            optional |= q.optional;
            if !optional {
                value = self.qualify(q, &value)?;
                continue;
            }
            match self.qualify_present(q, &value)? {
                Some(v) => value = v,
                None => return Ok(Val::Optional(None)),
            }
        }
        Ok(if optional { Val::some(value) } else { value })
    }

    fn key(&mut self, key: &'a Key) -> Res<'a> {
        match key {
            Key::Const(Val::Str(s)) => Ok(Val::from(&**s)),
            Key::Const(v) => Ok(v.clone()),
            Key::Field(name) => Ok(Val::from(name.as_str())),
            Key::Attr(attr) => self.resolve(attr).and_then(computed_key),
            Key::Node(node) => self.eval(node).and_then(computed_key),
        }
    }

    fn qualify(&mut self, q: &'a Qualifier, value: &Val<'a>) -> Res<'a> {
        let result = match self.key(&q.key) {
            Ok(Val::Str(name)) if matches!(q.key, Key::Field(_)) => made_field(value, &name, q.test),
            Err(e) if e.is_final() => return Err(e),
            Err(e) => Err(e),
            Ok(key) if q.test => find(value, &key, true).map(|found| Val::Bool(found.is_some())),
            Ok(key) => find(value, &key, false).and_then(|found| {
                found.ok_or_else(|| match value {
                    Val::List(_) => EvalError::new(format!("index out of bounds: {}", key.display())),
                    _ => EvalError::new(format!("no such key: {}", key.display())),
                })
            }),
        };
        self.charge(crate::cost::IDENT)?;
        result
    }

    fn qualify_present(&mut self, q: &'a Qualifier, value: &Val<'a>) -> Found<'a> {
        let key = self.key(&q.key)?;
        let found = find(value, &key, true)?;
        if found.is_some() {
            self.charge(crate::cost::IDENT)?;
        }
        Ok(found)
    }
}

fn computed_key<'a>(key: Val<'a>) -> Res<'a> {
    match key {
        Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Str(_) => Ok(key),
        other => Err(EvalError::new(format!("invalid qualifier type: {}", other.go_type()))),
    }
}

/// A field of a value whose type makes objects.
fn made_field<'a>(value: &Val<'a>, name: &str, test: bool) -> Res<'a> {
    match value {
        Val::Made(made) if test => Ok(Val::Bool(made.has(name))),
        Val::Made(made) => made.select(name),
        _ if test => Ok(Val::Bool(false)),
        _ => Err(EvalError::new(format!("cannot get field {name:?}"))),
    }
}

/// Looks a key up; `None` if it is not there. `test` if absence is no error, which made patches tell apart.
fn find<'a>(value: &Val<'a>, key: &Val<'_>, test: bool) -> Found<'a> {
    match value {
        Val::Map(map) => map.find(key).transpose(),
        Val::List(list) => {
            let i = index(key)?;
            usize::try_from(i).ok().and_then(|i| list.get(i)).transpose()
        }
        Val::Made(made) => made.index(key, test),
        Val::Object(_) => value.as_object::<Message>().map_or(Ok(None), |message| message.field(key, test)),
        _ => Ok(None),
    }
}

/// A list index, of any numeric type that is whole.
pub(crate) fn index(key: &Val<'_>) -> Result<i64, EvalError> {
    let bad = || EvalError::new(format!("unsupported index value {} in list", key.display()));
    match key {
        Val::Int(i) => Ok(*i),
        Val::Uint(u) => i64::try_from(*u).map_err(|_| bad()),
        Val::Double(d) => crate::val::convert::double_to_int(*d).filter(|i| *i as f64 == *d).ok_or_else(bad),
        other => Err(EvalError::new(format!("unsupported index type '{}' in list", other.type_name()))),
    }
}
