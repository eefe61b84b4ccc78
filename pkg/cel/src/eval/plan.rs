//! From the checked tree to the planned one (cel-go interpreter/planner.go and its optimizing decorators).
//!
//! Resolves variables to places and calls to code, folds constant lists, maps and conversions, compiles constant
//! patterns and turns constant lists that `in` looks into into sets.

use super::node::{
    Attr, Base, Call, Dispatch, Fold, Key, MapEntry, Node, PatternCall, Qualifier, Slot, StructField,
    value_set,
};
use super::{Activation, Budget, Frame};
use crate::ast::{self, Expr, Id, Kind, Literal, ops};
use crate::check::{Checked, Reference};
use crate::cost::runtime::Charge;
use crate::env::Env;
use crate::parser::macros::MAP_INSERT;
use crate::regexp::Regexp;
use crate::types::Type;
use crate::val::{Val, made};
use machinery::Str;
use std::sync::Arc;

pub(crate) struct Plan {
    pub root: Node,
    /// Names of the variables the expression reads.
    pub variables: Vec<Str>,
    /// How many places its comprehensions' variables need.
    pub locals: usize,
}

struct Planner<'e> {
    env: &'e Env,
    checked: &'e Checked,
    patterns: &'e [(Arc<str>, Regexp)],
    variables: Vec<Str>,
    scope: Vec<(Str, Slot)>,
    locals: usize,
}

/// A failure that upstream reports when the program is built, not when it is checked.
type Planned<T> = Result<T, String>;

pub(crate) fn plan(
    root: &Expr,
    checked: &Checked,
    env: &Env,
    patterns: &[(Arc<str>, Regexp)],
) -> Planned<Plan> {
    let mut planner = Planner { env, checked, patterns, variables: Vec::new(), scope: Vec::new(), locals: 0 };
    let root = planner.node(root)?;
    Ok(Plan { root, variables: planner.variables, locals: planner.locals })
}

fn literal(value: &Literal) -> Val<'static> {
    match value {
        Literal::Null => Val::Null,
        Literal::Bool(b) => Val::Bool(*b),
        Literal::Int(i) => Val::Int(*i),
        Literal::Uint(u) => Val::Uint(*u),
        Literal::Double(d) => Val::Double(*d),
        Literal::Str(s) => Val::str(s.clone()),
        Literal::Bytes(b) => Val::Bytes(b.clone()),
    }
}

impl Planner<'_> {
    fn node(&mut self, e: &Expr) -> Planned<Node> {
        match &e.kind {
            Kind::Unspecified => Err("unsupported expr".into()),
            Kind::Literal(value) => Ok(Node::Const(Ok(literal(value)))),
            Kind::Ident(_) => self.ident(e.id),
            Kind::Select { operand, field, test_only } => self.select(operand, field, *test_only),
            Kind::Call { target, function, args } => self.call(e.id, target.as_deref(), function, args),
            Kind::List { elements, optional } => self.list(elements, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, .. } if !self.env.has_struct(name) => Err(format!("unknown type: {name}")),
            Kind::Struct { name, fields } => {
                let field = |f: &ast::Field| {
                    Ok(StructField {
                        name: f.name.clone(),
                        value: self.node(&f.value)?,
                        optional: f.optional,
                    })
                };
                let fields = fields.iter().map(field).collect::<Planned<_>>()?;
                Ok(Node::Struct { name: name.clone(), fields })
            }
            Kind::Comprehension(c) => self.comprehension(c),
        }
    }

    fn slot_of(&self, name: &str) -> Option<Slot> {
        self.scope.iter().rev().find(|(n, _)| n == name).map(|(_, slot)| *slot)
    }

    fn ident(&mut self, id: Id) -> Planned<Node> {
        let base = match self.checked.reference(id) {
            Some(Reference::Type(name, _)) if !self.env.is_value_type(name) => {
                return Err(format!("reference to undefined type: {name}"));
            }
            Some(Reference::Type(_, t)) => return Ok(Node::Const(Ok(Val::Type(Arc::new(t.clone()))))),
            Some(Reference::Enum(n)) => return Ok(Node::Const(Ok(Val::Int(*n)))),
            Some(Reference::Local(name)) => match self.slot_of(name) {
                Some(slot) => Base::Local(slot),
                None => return Err(format!("unbound variable: {name}")),
            },
            Some(Reference::Variable(name)) => Base::Variable(self.variable(name)),
            _ => return Err("unresolved identifier".into()),
        };
        Ok(Node::Attr(Attr { base, qualifiers: Vec::new() }))
    }

    fn variable(&mut self, name: &Str) -> usize {
        if let Some(i) = self.variables.iter().position(|n| n == name) {
            return i;
        }
        self.variables.push(name.clone());
        self.variables.len() - 1
    }

    fn attr(&mut self, operand: &Expr) -> Planned<Attr> {
        Ok(match self.node(operand)? {
            Node::Attr(attr) => attr,
            other => Attr { base: Base::Value(Box::new(other)), qualifiers: Vec::new() },
        })
    }

    fn select(&mut self, operand: &Expr, field: &Str, test: bool) -> Planned<Node> {
        let mut attr = self.attr(operand)?;
        let key = match self.checked.type_of(operand.id) {
            Type::Struct(name) if made::is_object(name) => Key::Field(field.clone()),
            _ => Key::Const(Val::str(field.as_str())),
        };
        attr.qualifiers.push(Qualifier { key, optional: false, test });
        Ok(if test { Node::Has(attr) } else { Node::Attr(attr) })
    }

    fn index(&mut self, args: &[Expr], optional: bool) -> Planned<Node> {
        let [operand, index] = args else { return Err("unsupported index".into()) };
        let mut attr = self.attr(operand)?;
        let key = match self.node(index)? {
            Node::Const(Ok(
                v @ (Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Str(_)),
            )) => Key::Const(v),
            Node::Const(Ok(v)) => return Err(format!("invalid qualifier type: {}", v.go_type())),
            Node::Attr(index) => Key::Attr(Box::new(index)),
            other => Key::Node(Box::new(other)),
        };
        attr.qualifiers.push(Qualifier { key, optional, test: false });
        Ok(Node::Attr(attr))
    }

    fn pair(&mut self, args: &[Expr]) -> Planned<Box<[Node; 2]>> {
        match args {
            [a, b] => Ok(Box::new([self.node(a)?, self.node(b)?])),
            _ => Err("unsupported call".into()),
        }
    }

    fn nodes<'x>(&mut self, args: impl IntoIterator<Item = &'x Expr>) -> Planned<Box<[Node]>> {
        args.into_iter().map(|a| self.node(a)).collect()
    }

    fn call(&mut self, id: Id, target: Option<&Expr>, function: &str, args: &[Expr]) -> Planned<Node> {
        let overloads = self.checked.overloads(id);
        let overload = match overloads {
            [one] => Some(*one),
            _ => None,
        };
        match function {
            ops::AND => return Ok(Node::And(self.nodes(args)?)),
            ops::OR => return Ok(Node::Or(self.nodes(args)?)),
            ops::CONDITIONAL => {
                let [c, a, b] = args else { return Err("unsupported call".into()) };
                let base = Base::Choice(Box::new([self.node(c)?, self.node(a)?, self.node(b)?]));
                return Ok(Node::Attr(Attr { base, qualifiers: Vec::new() }));
            }
            ops::EQUALS | ops::NOT_EQUALS => {
                let negated = function == ops::NOT_EQUALS;
                let charge = Charge::for_call(function, Some(if negated { "not_equals" } else { "equals" }));
                return Ok(Node::Equal { sides: self.pair(args)?, negated, charge });
            }
            ops::INDEX => return self.index(args, false),
            ops::OPT_INDEX | ops::OPT_SELECT => return self.index(args, true),
            _ => {}
        }
        if let (Some(target), [arg]) = (target, args)
            && matches!(overload, Some("optional_or_optional" | "optional_orValue_value"))
        {
            let sides = Box::new([self.node(target)?, self.node(arg)?]);
            return Ok(Node::OptionalOr { sides, unwrap: function == "orValue" });
        }
        let nodes = self.nodes(target.into_iter().chain(args))?;
        self.function(function, overload, nodes)
    }

    fn function(&mut self, name: &str, overload: Option<&'static str>, args: Box<[Node]>) -> Planned<Node> {
        if name == ops::IN
            && overload == Some("in_list")
            && let Some(Val::List(list)) = args[1].as_const()
        {
            if list.is_empty() {
                return Ok(Node::Const(Ok(Val::Bool(false))));
            }
            if let Some(set) = list.to_vec().ok().and_then(|items| value_set(&items)) {
                let mut args = args.into_vec();
                args.truncate(1);
                let element = args.pop().ok_or("unsupported call")?;
                return Ok(Node::InSet(Box::new(element), Box::new(set)));
            }
        }
        if matches!(name, MAP_INSERT | ops::ADD)
            && let Some(Node::Attr(Attr { base: Base::Local(slot), qualifiers })) = args.first()
            && qualifiers.is_empty()
            && self.scope.iter().any(|(n, s)| s == slot && n == ast::ACCUMULATOR)
        {
            let slot = *slot;
            let mut rest = args.into_vec();
            let first = rest.remove(0);
            if name == MAP_INSERT {
                return Ok(Node::Insert { slot, args: rest.into() });
            }
            if overload == Some("add_list")
                && let Some(list) = rest.pop()
            {
                return Ok(Node::Append { slot, list: Box::new(list) });
            }
            rest.insert(0, first);
            return self.plain_call(name, overload, rest.into());
        }
        self.plain_call(name, overload, args)
    }

    fn plain_call(&mut self, name: &str, overload: Option<&'static str>, args: Box<[Node]>) -> Planned<Node> {
        let Some(function) = self.env.function(name) else { return Err(format!("no such overload: {name}")) };
        let charge = Charge::for_call(function.name, overload);
        let dispatch = match self.pattern(function.name, &args)? {
            Some(pattern) => pattern,
            None => self.dispatch(function, overload),
        };
        let call = Node::Call(Box::new(Call {
            function: function.name,
            args,
            dispatch,
            charge,
            makes: makes(function.name),
        }));
        if is_conversion(name)
            && let Node::Call(inner) = &call
            && inner.args.len() == 1
            && inner.args[0].as_const().is_some()
        {
            return evaluate(&call).map_err(|e| e.to_string()).map(|v| Node::Const(Ok(v)));
        }
        Ok(call)
    }

    fn dispatch(&self, function: &crate::decls::Function, overload: Option<&str>) -> Dispatch {
        if function.name == ops::NOT_STRICTLY_FALSE {
            return Dispatch::NotStrictlyFalse;
        }
        if let Some((needs, passing, code)) = function.singleton {
            return Dispatch::Singleton(needs, passing, code);
        }
        let coded: Vec<_> = function.overloads.iter().filter(|o| o.code.is_some()).collect();
        let chosen = match (overload, coded.as_slice()) {
            (Some(id), all) if all.iter().any(|o| o.id == id) => all.iter().find(|o| o.id == id),
            (_, [one]) => Some(one),
            (_, []) => return Dispatch::Missing,
            _ => None,
        };
        let Some(overload) = chosen else {
            return Dispatch::Many(coded.into_iter().cloned().collect(), function.unguarded);
        };
        match overload.code {
            Some((passing, code)) => {
                let guard = (!function.unguarded).then(|| overload.args.clone().into());
                Dispatch::One { passing, code, guard }
            }
            None => Dispatch::Missing,
        }
    }

    /// How a call matches whose pattern is constant.
    fn pattern(&self, name: &str, args: &[Node]) -> Planned<Option<Dispatch>> {
        let kind = match name {
            "matches" => PatternCall::Matches,
            "find" => PatternCall::Find,
            "findAll" => PatternCall::FindAll,
            _ => return Ok(None),
        };
        let Some(Val::Str(text)) = args.get(1).and_then(Node::as_const) else { return Ok(None) };
        let known = self.patterns.iter().find(|(pattern, _)| **pattern == **text);
        let compiled = known.map_or_else(|| Regexp::new(text), |(_, pattern)| Ok(pattern.clone()))?;
        Ok(Some(Dispatch::Pattern(kind, Box::new(compiled))))
    }

    fn list(&mut self, elements: &[Expr], optional: &[u32]) -> Planned<Node> {
        let nodes = self.nodes(elements)?;
        let constant = nodes.iter().all(|n| matches!(n, Node::Const(_)));
        let optional = (0..nodes.len() as u32).map(|i| optional.contains(&i)).collect();
        let list = Node::List { elements: nodes, optional };
        Ok(if constant { Node::Const(evaluate(&list)) } else { list })
    }

    fn map(&mut self, entries: &[ast::Entry]) -> Planned<Node> {
        let entries: Box<[MapEntry]> = entries
            .iter()
            .map(|e| {
                let (key, value) = (self.node(&e.key)?, self.node(&e.value)?);
                Ok(MapEntry { key, value, optional: e.optional })
            })
            .collect::<Planned<_>>()?;
        let constant = entries.iter().all(|e| matches!((&e.key, &e.value), (Node::Const(_), Node::Const(_))));
        let map = Node::Map(entries);
        Ok(if constant { Node::Const(evaluate(&map)) } else { map })
    }

    fn new_slot(&mut self, name: &Str) -> Slot {
        self.scope.push((name.clone(), self.locals));
        self.locals += 1;
        self.locals - 1
    }

    fn comprehension(&mut self, c: &ast::Comprehension) -> Planned<Node> {
        let init = self.node(&c.init)?;
        let range = self.node(&c.range)?;
        let outside = self.scope.len();
        let accu = self.new_slot(&c.accu);
        let around = self.scope.len();
        let var = self.new_slot(&c.var);
        let var2 = c.var2.as_ref().map(|name| self.new_slot(name));
        // A loop variable may shadow the accumulator of a macro that only binds, never one of a loop.
        let condition = self.node(&c.condition)?;
        let step = self.node(&c.step)?;
        self.scope.truncate(around);
        let result = self.node(&c.result)?;
        self.scope.truncate(outside);
        Ok(Node::Fold(Box::new(Fold { range, var, var2, accu, init, condition, step, result })))
    }
}

fn is_conversion(name: &str) -> bool {
    matches!(
        name,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    )
}

/// Functions that put text or lists together.
fn makes(name: &str) -> bool {
    matches!(
        name,
        ops::ADD
            | "replace"
            | "join"
            | "format"
            | "split"
            | "flatten"
            | "findAll"
            | "strings.quote"
            | "lists.range"
            | "sort"
            | "reverse"
            | "slice"
            | "distinct"
    )
}

/// The value of a node without variables.
fn evaluate(node: &Node) -> super::Res<'static> {
    let (activation, budget) = (Activation::new(), Budget::default());
    let mut frame = Frame::new(&[], 0, &activation, &budget);
    frame.eval(node).map(own)
}

/// The same value, borrowing nothing. Constants hold only what literals can spell.
fn own(v: Val<'_>) -> Val<'static> {
    match v {
        Val::Null | Val::Unknown(_) => Val::Null,
        Val::Bool(b) => Val::Bool(b),
        Val::Int(i) => Val::Int(i),
        Val::Uint(u) => Val::Uint(u),
        Val::Double(d) => Val::Double(d),
        Val::Str(s) => Val::str(&*s),
        Val::Bytes(b) => Val::Bytes(b),
        Val::Duration(d) => Val::Duration(d),
        Val::Timestamp(t) => Val::Timestamp(t),
        Val::List(l) => Val::list(l.iter().filter_map(Result::ok).map(own).collect()),
        Val::Map(m) => {
            let mut out = crate::val::MapBuilder::default();
            for k in m.keys() {
                if let Some(Ok(v)) = m.find(&k) {
                    out.set(own(k), own(v));
                }
            }
            out.build()
        }
        Val::Optional(v) => Val::Optional(v.map(|v| Arc::new(own((*v).clone())))),
        Val::Type(t) => Val::Type(t),
        Val::Object(o) => Val::Object(o),
        // No literal spells one: made objects are not folded.
        Val::Made(_) => Val::Null,
    }
}
