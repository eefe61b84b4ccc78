//! The least and the most an expression can cost, from its text, its types and the sizes its variables can have
//! (cel-go checker/cost.go).

use super::functions::{self, Estimate};
use super::range::Range;
use super::{IDENT, LIST, MAP, STRUCT};
use crate::ast::{Comprehension, Expr, Id, Kind, Literal, OLD_ACCUMULATOR, ops};
use crate::check::Checked;
use crate::types::Type;
use machinery::Str;
use std::collections::HashMap;

/// Knows how large the variables' values can get.
pub trait Sizes {
    /// The size of what a path leads to: a variable's name, then field names, `@items`, `@keys`, `@values` or
    /// `@indices`. An empty path is a value computed in the expression.
    fn size(&self, path: &[Str], t: &Type) -> Option<Range>;
}

/// No size is known.
impl Sizes for () {
    fn size(&self, _path: &[Str], _t: &Type) -> Option<Range> {
        None
    }
}

/// Sizes of a list's or map's keys and values.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(a: Option<Entries>, b: Option<Entries>) -> Option<Entries> {
        let (a, b) = (a?, b?);
        Some(Entries { list: a.list, key: a.key.union(b.key), value: a.value.union(b.value) })
    }
}

struct Variable {
    name: Str,
    path: Vec<Str>,
    size: Option<Range>,
    entries: Option<Entries>,
}

pub(crate) struct Coster<'c> {
    checked: &'c Checked,
    pub(super) sizes: &'c dyn Sizes,
    paths: HashMap<Id, Vec<Str>>,
    scope: Vec<Variable>,
    computed: HashMap<Id, Range>,
    entries: HashMap<Id, Entries>,
}

/// A call's operand, as cost functions see it.
pub(super) struct Operand<'e> {
    pub expr: &'e Expr,
    pub path: Vec<Str>,
    pub t: Type,
    pub size: Option<Range>,
}

pub(crate) fn estimate(root: &Expr, checked: &Checked, sizes: &dyn Sizes) -> Range {
    let mut coster = Coster {
        checked,
        sizes,
        paths: HashMap::new(),
        scope: Vec::new(),
        computed: HashMap::new(),
        entries: HashMap::new(),
    };
    coster.cost(root)
}

fn join(path: &[Str], name: &str) -> Vec<Str> {
    path.iter().cloned().chain([name.into()]).collect()
}

impl Coster<'_> {
    fn cost(&mut self, e: &Expr) -> Range {
        match &e.kind {
            Kind::Unspecified | Kind::Literal(_) => Range::default(),
            Kind::Ident(name) => {
                let path = match self.local(name) {
                    Some(v) => v.path.clone(),
                    None => vec![name.clone()],
                };
                self.paths.insert(e.id, path);
                Range::fixed(IDENT)
            }
            Kind::Select { operand, field, test_only } => self.select(e, operand, field, *test_only),
            Kind::Call { target, function, args } => self.call(e, target.as_deref(), function, args),
            Kind::List { elements, .. } => self.list(e, elements),
            Kind::Map(entries) => self.map(e, entries),
            Kind::Struct { fields, .. } => {
                let sum = fields.iter().fold(Range::default(), |sum, f| sum.plus(self.cost(&f.value)));
                sum.plus(Range::fixed(STRUCT))
            }
            Kind::Comprehension(c) if is_bind(c) => self.bind(e, c),
            Kind::Comprehension(c) => self.comprehension(e, c),
        }
    }

    fn local(&self, name: &str) -> Option<&Variable> {
        self.scope.iter().rev().find(|v| v.name == name)
    }

    fn path(&self, e: &Expr) -> Vec<Str> {
        if let Kind::Ident(name) = &e.kind
            && let Some(v) = self.local(name)
        {
            return v.path.clone();
        }
        self.paths.get(&e.id).cloned().unwrap_or_default()
    }

    fn type_of(&self, e: &Expr) -> &Type {
        self.checked.type_of(e.id)
    }

    fn select(&mut self, e: &Expr, operand: &Expr, field: &str, test: bool) -> Range {
        let cost = self.cost(operand);
        if test {
            return cost;
        }
        self.paths.insert(e.id, join(&self.path(operand), field));
        match self.type_of(operand) {
            Type::Map(_) | Type::Struct(_) | Type::Param(_) => cost.plus(Range::fixed(IDENT)),
            _ => cost,
        }
    }

    fn list(&mut self, e: &Expr, elements: &[Expr]) -> Range {
        let mut sum = Range::fixed(LIST);
        let mut item = Range::new(if elements.is_empty() { 0 } else { u64::MAX }, 0);
        for element in elements {
            sum = sum.plus(self.cost(element));
            item = item.union(self.size_or_unknown(element));
        }
        self.entries.insert(e.id, Entries { list: true, key: Range::fixed(1), value: item });
        sum
    }

    fn map(&mut self, e: &Expr, entries: &[crate::ast::Entry]) -> Range {
        let mut sum = Range::fixed(MAP);
        let mut key = Range::new(if entries.is_empty() { 0 } else { u64::MAX }, 0);
        let mut value = key;
        for entry in entries {
            sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
            key = key.union(self.size_or_unknown(&entry.key));
            value = value.union(self.size_or_unknown(&entry.value));
        }
        self.entries.insert(e.id, Entries { list: false, key, value });
        sum
    }

    fn operand<'e>(&mut self, e: &'e Expr) -> Operand<'e> {
        let mut path = self.path(e);
        if path.first().is_some_and(|p| p == OLD_ACCUMULATOR || p == crate::ast::ACCUMULATOR) {
            path.clear();
        }
        Operand { expr: e, path, t: self.type_of(e).clone(), size: self.size(e) }
    }

    fn call(&mut self, e: &Expr, target: Option<&Expr>, function: &str, args: &[Expr]) -> Range {
        if function == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(arg);
            self.copy_sizes(e, arg);
            return cost.plus(Range::fixed(1));
        }
        let mut costs = Vec::with_capacity(args.len());
        let mut operands = Vec::with_capacity(args.len());
        for arg in args {
            costs.push(self.cost(arg));
            operands.push(self.operand(arg));
        }
        let overloads = self.checked.overloads(e.id).to_vec();
        if overloads.is_empty() {
            return Range::default();
        }
        let receiver = target.map(|t| (self.cost(t), self.operand(t)));
        let (before, receiver) = receiver.map_or((Range::default(), None), |(c, o)| (c, Some(o)));
        let mut cost = Range::new(u64::MAX, 0);
        let mut size: Option<Range> = None;
        for overload in overloads {
            let one = self.overload_cost(e, function, overload, receiver.as_ref(), &operands, &costs);
            cost = cost.union(one.cost);
            if let Some(result) = one.size {
                size = Some(size.map_or(result, |s| s.union(result)));
            }
            if let (true, [list, ..]) = (matches!(overload, "index_list" | "index_map"), args) {
                size = self.entries_of(list).map(|entries| entries.value);
                let step = if overload == "index_list" { "@items" } else { "@values" };
                self.paths.insert(e.id, join(&self.path(list), step));
            }
            if size.is_none() {
                size = self.size(e);
            }
        }
        if let Some(size) = size {
            self.computed.insert(e.id, size);
        }
        before.plus(cost)
    }

    fn overload_cost(
        &mut self,
        e: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Operand<'_>>,
        args: &[Operand<'_>],
        costs: &[Range],
    ) -> Estimate {
        let sum = costs.iter().fold(Range::default(), |sum, c| sum.plus(*c));
        if let Some(known) = functions::library(self.sizes, function, overload, target, args) {
            return Estimate { cost: known.cost.plus(sum), size: known.size };
        }
        match (overload, args) {
            ("logical_or" | "logical_and", _) => {
                let [left, right] = [costs[0], costs[1]];
                Estimate::of(Range::new(left.min, left.plus(right).max))
            }
            ("conditional", [_, yes, no]) => {
                let size = self.size_or_unknown(yes.expr).union(self.size_or_unknown(no.expr));
                let entries = Entries::union(self.entries_of(yes.expr), self.entries_of(no.expr));
                self.set_entries(e, entries);
                Estimate { cost: costs[0].plus(costs[1].union(costs[2])), size: Some(size) }
            }
            ("add_string" | "add_bytes" | "add_list", [left, right]) => {
                let entries = Entries::union(self.entries_of(left.expr), self.entries_of(right.expr));
                self.set_entries(e, entries);
                functions::addition(overload == "add_list", left, right, sum)
            }
            _ => functions::standard(overload, target, args, sum),
        }
    }

    fn push(&mut self, name: &Str, path: Vec<Str>, size: Option<Range>, entries: Option<Entries>) {
        self.scope.push(Variable { name: name.clone(), path, size, entries });
    }

    fn push_value(&mut self, name: &Str, e: &Expr) {
        let (path, size, entries) = (self.path(e), self.size(e), self.entries_of(e));
        self.push(name, path, size, entries);
    }

    fn push_loop_variables(&mut self, c: &Comprehension) {
        let entries = self.entries_of(&c.range);
        let list = match entries {
            Some(entries) => entries.list,
            None => matches!(self.type_of(&c.range), Type::List(_)),
        };
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        let path = self.path(&c.range);
        match &c.var2 {
            Some(second) => {
                self.push(&c.var, join(&path, if list { "@indices" } else { "@keys" }), key, None);
                self.push(second, join(&path, if list { "@items" } else { "@values" }), value, None);
            }
            None if list => self.push(&c.var, join(&path, "@items"), value, None),
            None => self.push(&c.var, join(&path, "@keys"), key, None),
        }
    }

    fn comprehension(&mut self, e: &Expr, c: &Comprehension) -> Range {
        let sum = self.cost(&c.range).plus(self.cost(&c.init));
        let outside = self.scope.len();
        self.push_value(&c.accu, &c.init);
        self.push_loop_variables(c);
        let once = self.cost(&c.condition).plus(self.cost(&c.step));
        self.scope.truncate(outside + 1);
        let sum = sum.plus(self.cost(&c.result));
        self.scope.truncate(outside);
        let count = self.size_or_unknown(&c.range);
        match c.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&c.init) {
                    self.computed.insert(e.id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.computed.insert(e.id, count);
                let entries = self.entries_of(&c.step);
                self.set_entries(e, entries);
            }
            _ => {}
        }
        sum.plus(count.times(once))
    }

    fn bind(&mut self, e: &Expr, c: &Comprehension) -> Range {
        let sum = self.cost(&c.range).plus(self.cost(&c.init));
        self.push_value(&c.accu, &c.init);
        let sum = sum.plus(self.cost(&c.result));
        self.scope.pop();
        self.copy_sizes(e, &c.result);
        sum
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.computed.insert(to.id, size);
        }
        let entries = self.entries_of(from);
        self.set_entries(to, entries);
    }

    fn set_entries(&mut self, e: &Expr, entries: Option<Entries>) {
        if let Some(entries) = entries {
            self.entries.insert(e.id, entries);
        }
    }

    fn entries_of(&self, e: &Expr) -> Option<Entries> {
        if let Some(known) = self.entries.get(&e.id) {
            return Some(*known);
        }
        match &e.kind {
            Kind::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, e: &Expr) -> Range {
        self.size(e).unwrap_or(Range::UNKNOWN)
    }

    fn size(&mut self, e: &Expr) -> Option<Range> {
        if let Some(known) = self.computed.get(&e.id) {
            return Some(*known);
        }
        if let Some(n) = literal_size(e) {
            return Some(Range::fixed(n));
        }
        if let Some(size) = self.sizes.size(&self.path(e), self.type_of(e)) {
            self.computed.insert(e.id, size);
            return Some(size);
        }
        if is_scalar(self.type_of(e)) {
            return Some(Range::fixed(1));
        }
        match &e.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }
}

fn is_bind(c: &Comprehension) -> bool {
    matches!(&c.range.kind, Kind::List { elements, .. } if elements.is_empty())
        && matches!(c.condition.kind, Kind::Literal(Literal::Bool(false)))
        && c.accu != OLD_ACCUMULATOR
}

fn literal_size(e: &Expr) -> Option<u64> {
    Some(match &e.kind {
        Kind::Literal(Literal::Str(s)) => s.chars().count() as u64,
        Kind::Literal(Literal::Bytes(b)) => b.len() as u64,
        Kind::Literal(_) => 1,
        Kind::List { elements, .. } => elements.len() as u64,
        Kind::Map(entries) => entries.len() as u64,
        _ => return None,
    })
}

fn is_scalar(t: &Type) -> bool {
    match t.primitive() {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        other => matches!(other.unwrap_optional(), (inner, true) if is_scalar(inner)),
    }
}

/// Whether a call's function is an operator with a cost of its own.
pub(super) fn is_equality(function: &str) -> bool {
    function == ops::EQUALS
}
