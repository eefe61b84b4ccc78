//! Evaluation of planned programs.
//!
//! Follows upstream's interpreter in what is evaluated, in what order, what an error stops and what each step
//! costs. Where upstream's cost tracker keeps a stack of observed values to find a call's arguments, here the call
//! charges for itself; both come to the same sum, except that after an argument failed inside an absorbed error
//! upstream may charge a call with values of an earlier loop iteration.

mod attr;
mod call;
mod fold;
pub(crate) mod node;
pub(crate) mod plan;

use crate::val::bulk::{self, Bulk};
use crate::val::{Made, MapBuilder, Val, made, map::unhashable};
use crate::well_known;
use machinery::Str;
use node::{Call, MapEntry, Node, StructField};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

pub use crate::val::Res;

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// Part of the language: `||`, `&&`, `all` and `exists` may absorb it.
    Error(Arc<str>),
    /// The cost limit was exceeded.
    CostLimit,
    /// The caller asked to stop.
    Interrupted,
}

impl EvalError {
    pub fn new(message: impl Into<Arc<str>>) -> Self {
        EvalError::Error(message.into())
    }

    /// Whether it ends the whole evaluation.
    pub fn is_final(&self) -> bool {
        !matches!(self, EvalError::Error(_))
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EvalError::Error(message) => message,
            EvalError::CostLimit => "operation cancelled: actual cost limit exceeded",
            EvalError::Interrupted => "operation interrupted",
        })
    }
}

impl std::error::Error for EvalError {}

/// Values of an expression's variables.
#[derive(Clone, Debug, Default)]
pub struct Activation<'a> {
    variables: Vec<(&'a str, Res<'a>)>,
}

impl<'a> Activation<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a variable its value, or the error that reading it yields.
    pub fn bind(mut self, name: &'a str, value: impl Into<Res<'a>>) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &'a str, value: impl Into<Res<'a>>) {
        let value = value.into();
        match self.variables.iter_mut().find(|(n, _)| *n == name) {
            Some(known) => known.1 = value,
            None => self.variables.push((name, value)),
        }
    }

    /// Binds a tree without a schema, as it is.
    pub fn bind_tree(self, name: &'a str, value: &'a machinery::Value) -> Self {
        self.bind(name, Ok(crate::val::tree::plain(value)))
    }

    /// Binds a tree whose schema says what its strings and lists mean.
    pub fn bind_typed(self, name: &'a str, value: &'a machinery::Value, schema: &'a crate::Schema) -> Self {
        self.bind(name, crate::val::tree::typed(value, Some(schema)))
    }

    fn get(&self, name: &str) -> Option<&Res<'a>> {
        self.variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

/// What an evaluation may use.
#[derive(Clone, Copy, Default)]
pub struct Budget<'b> {
    /// The highest cost; no limit if `None`.
    pub cost: Option<u64>,
    /// Asked every [`CHECK_EVERY`] loop iterations whether to stop.
    pub stop: Option<&'b (dyn Fn() -> bool + Sync)>,
}

/// Loop iterations between two questions whether to stop.
pub const CHECK_EVERY: u32 = 100;

impl Budget<'_> {
    /// What upstream allows one call of a program in the API server.
    pub const PER_CALL: u64 = 1_000_000;

    pub fn cost(limit: u64) -> Self {
        Budget { cost: Some(limit), stop: None }
    }
}

enum Local<'a> {
    Unset,
    /// Not needed yet.
    Lazy(&'a Node),
    Ready(Res<'a>),
}

pub(crate) struct Frame<'a, 'b> {
    variables: SmallVec<[Option<&'b Res<'a>>; 4]>,
    names: &'b [Str],
    locals: SmallVec<[Local<'a>; 2]>,
    cost: u64,
    limit: u64,
    /// Bytes that calls put together.
    made: u64,
    ticks: u32,
    budget: &'b Budget<'b>,
}

impl<'a, 'b> Frame<'a, 'b> {
    pub fn new(
        names: &'b [Str],
        locals: usize,
        activation: &'b Activation<'a>,
        budget: &'b Budget<'b>,
    ) -> Self {
        Frame {
            variables: names.iter().map(|n| activation.get(n)).collect(),
            names,
            locals: (0..locals).map(|_| Local::Unset).collect(),
            cost: 0,
            made: 0,
            limit: budget.cost.unwrap_or(u64::MAX),
            ticks: 0,
            budget,
        }
    }

    pub fn cost(&self) -> u64 {
        self.cost
    }

    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    /// Counts memory that something made takes.
    fn take(&mut self, bytes: u64) -> Result<(), EvalError> {
        self.made = self.made.saturating_add(bytes);
        if self.made > bulk::MAX_MADE { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    fn tick(&mut self) -> Result<(), EvalError> {
        let Some(stop) = self.budget.stop else { return Ok(()) };
        self.ticks += 1;
        if self.ticks.is_multiple_of(CHECK_EVERY) && stop() { Err(EvalError::Interrupted) } else { Ok(()) }
    }

    pub fn eval(&mut self, node: &'a Node) -> Res<'a> {
        match node {
            Node::Const(value) => constant(value),
            Node::Attr(attr) => self.attribute(attr),
            Node::Has(attr) => self.presence(attr),
            Node::And(terms) => self.logic(terms, false),
            Node::Or(terms) => self.logic(terms, true),
            Node::Equal { sides, negated, charge } => self.equality(sides, *negated, charge),
            Node::Call(call) => self.call(call),
            Node::InSet(element, set) => self.in_set(element, set),
            Node::OptionalOr { sides, unwrap } => self.optional_or(sides, *unwrap),
            Node::List { elements, optional } => self.list(elements, optional),
            Node::Map(entries) => self.map(entries),
            Node::Struct { name, fields } => self.structure(name, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::Append { slot, list } => self.append(*slot, list),
            Node::Insert { slot, args } => self.insert(*slot, args),
        }
    }

    /// `&&` and `||`: the value that decides wins over errors before and after it.
    fn logic(&mut self, terms: &'a [Node], decides: bool) -> Res<'a> {
        let mut failed = None;
        for term in terms {
            match self.eval(term) {
                Ok(Val::Bool(b)) if b == decides => return Ok(Val::Bool(decides)),
                Ok(Val::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| Some(crate::val::ops::no_overload())),
                Err(e) if e.is_final() => return Err(e),
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        failed.map_or(Ok(Val::Bool(!decides)), Err)
    }

    fn equality(
        &mut self,
        sides: &'a [Node; 2],
        negated: bool,
        charge: &crate::cost::runtime::Charge,
    ) -> Res<'a> {
        let [left, right] = [self.operand(&sides[0])?, self.operand(&sides[1])?];
        let result = match (&left, &right) {
            (Err(e), _) | (_, Err(e)) => Err(e.clone()),
            (Ok(l), Ok(r)) => match crate::val::equal::equal(l, r) {
                Ok(same) => Ok(Val::Bool(same != negated)),
                Err(e) if e.is_final() => return Err(e),
                // "Not known to be equal" is unequal.
                Err(_) if negated => Ok(Val::Bool(true)),
                Err(e) => Err(e),
            },
        };
        let args = [left.unwrap_or(Val::Null), right.unwrap_or(Val::Null)];
        self.charge(charge.of(&args, &result))?;
        result
    }

    /// An operand that is evaluated whatever becomes of the others.
    fn operand(&mut self, node: &'a Node) -> Result<Res<'a>, EvalError> {
        match self.eval(node) {
            Err(e) if e.is_final() => Err(e),
            other => Ok(other),
        }
    }

    fn in_set(&mut self, element: &'a Node, set: &'a Val<'static>) -> Res<'a> {
        let element = self.eval(element)?;
        let found = matches!(set, Val::Map(m) if m.find(&element).is_some());
        Ok(Val::Bool(found))
    }

    fn optional_or(&mut self, sides: &'a [Node; 2], unwrap: bool) -> Res<'a> {
        match self.eval(&sides[0])? {
            Val::Optional(Some(v)) if unwrap => Ok((*v).clone()),
            Val::Optional(Some(v)) => Ok(Val::Optional(Some(v))),
            Val::Optional(None) => self.eval(&sides[1]),
            _ => Err(crate::val::ops::no_overload()),
        }
    }

    fn elements(&mut self, elements: &'a [Node], optional: &'a [bool]) -> Res<'a> {
        let mut items = Vec::with_capacity(elements.len());
        for (element, optional) in elements.iter().zip(optional) {
            match (self.eval(element)?, optional) {
                (value, false) => items.push(value),
                (Val::Optional(Some(v)), true) => items.push((*v).clone()),
                (Val::Optional(None), true) => {}
                (other, true) => {
                    return Err(EvalError::new(format!(
                        "cannot initialize optional list element from non-optional value {}",
                        other.display()
                    )));
                }
            }
        }
        Ok(Val::list(items))
    }

    fn list(&mut self, elements: &'a [Node], optional: &'a [bool]) -> Res<'a> {
        let result = self.elements(elements, optional);
        self.charge(crate::cost::LIST)?;
        passed(result)
    }

    fn entries(&mut self, entries: &'a [MapEntry]) -> Res<'a> {
        let mut map = MapBuilder::default();
        for MapEntry { key, value, optional } in entries {
            let key = self.eval(key)?;
            let mut value = self.eval(value)?;
            if *optional {
                match value {
                    Val::Optional(Some(v)) => value = (*v).clone(),
                    Val::Optional(None) => {
                        map.remove(&key);
                        continue;
                    }
                    other => return Err(no_optional_entry(&key.display(), &other)),
                }
            }
            if !map.set(key.clone(), value) {
                return Err(unhashable(&key));
            }
        }
        Ok(map.build())
    }

    fn map(&mut self, entries: &'a [MapEntry]) -> Res<'a> {
        let result = self.entries(entries);
        self.charge(crate::cost::MAP)?;
        passed(result)
    }

    fn fields(&mut self, fields: &'a [StructField]) -> Result<Vec<(Str, Val<'a>)>, EvalError> {
        let mut out: Vec<(Str, Val<'a>)> = Vec::with_capacity(fields.len());
        for StructField { name, value, optional } in fields {
            let value = match (self.eval(value)?, optional) {
                (value, false) => Some(value),
                (Val::Optional(inner), true) => inner.map(|v| (*v).clone()),
                (other, true) => return Err(no_optional_entry(name, &other)),
            };
            // A field set twice has the value set last; none takes it away.
            out.retain(|(known, _)| known != name);
            out.extend(value.map(|v| (name.clone(), v)));
        }
        Ok(out)
    }

    fn structure(&mut self, name: &'a Str, fields: &'a [StructField]) -> Res<'a> {
        let fields = self.fields(fields);
        self.charge(crate::cost::STRUCT)?;
        let fields = fields?;
        if made::is_known(name) {
            return passed(Made::make(name.clone(), fields));
        }
        // A message holds copies.
        self.take(Bulk::all(fields.iter().map(|(_, v)| v)).bytes())?;
        let unknown = || Err(EvalError::new(format!("unknown type '{name}'")));
        passed(well_known::make(name, &fields).unwrap_or_else(unknown))
    }

    fn call(&mut self, call: &'a Call) -> Res<'a> {
        let (result, args) = self.dispatch(call);
        if let Err(e) = &result
            && e.is_final()
        {
            return result;
        }
        if let Some(args) = args {
            self.charge(call.charge.of(&args, &result))?;
        }
        if call.makes
            && let Ok(v) = &result
        {
            self.take(v.bytes())?;
        }
        passed(result)
    }
}

/// Lets a value that was just made pass, unless it is too much to walk through.
fn passed(result: Res<'_>) -> Res<'_> {
    match result {
        Ok(v) if v.bulk().is_too_much() => Err(EvalError::CostLimit),
        other => other,
    }
}

fn no_optional_entry(key: &str, value: &Val<'_>) -> EvalError {
    let value = value.display();
    EvalError::new(format!("cannot initialize optional entry '{key}' from non-optional value {value}"))
}

/// A constant, its text borrowed from the program.
fn constant<'a>(value: &'a Res<'static>) -> Res<'a> {
    match value {
        Ok(Val::Str(s)) => Ok(Val::from(&**s)),
        Ok(v) => Ok(v.clone()),
        Err(e) => Err(e.clone()),
    }
}
