//! What each macro turns into (cel-go parser/macro.go, ext/comprehensions.go, ext/lists.go, cel/library.go).

use super::expand::failure;
pub(crate) use super::expand::{Builder, Call};
use crate::ast::{ACCUMULATOR, Comprehension, Expr, Id, Kind, Literal, OLD_ACCUMULATOR, ops};
use machinery::Str;

/// A macro that matched, but whose arguments are wrong.
pub(crate) struct Failure {
    pub at: Id,
    pub message: String,
}

/// `Ok(None)` leaves the call a call.
type Expanded = Result<Option<Expr>, Failure>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Macro {
    name: &'static str,
    args: usize,
    method: bool,
    pub expand: fn(&mut Builder<'_>, &mut Call) -> Expanded,
}

impl Macro {
    const fn method(
        name: &'static str,
        args: usize,
        expand: fn(&mut Builder<'_>, &mut Call) -> Expanded,
    ) -> Self {
        Macro { name, args, method: true, expand }
    }

    pub fn matches(&self, name: &str, args: usize, method: bool) -> bool {
        self.name == name && self.args == args && self.method == method
    }
}

pub(crate) const STANDARD: &[Macro] = &[
    Macro { name: "has", args: 1, method: false, expand: has },
    Macro::method("all", 2, |b, c| quantifier(b, c, Quantifier::All, 1)),
    Macro::method("exists", 2, |b, c| quantifier(b, c, Quantifier::Exists, 1)),
    Macro::method("exists_one", 2, |b, c| quantifier(b, c, Quantifier::ExistsOne, 1)),
    Macro::method("map", 2, map),
    Macro::method("map", 3, map),
    Macro::method("filter", 2, filter),
];

pub(crate) const OPTIONAL: &[Macro] = &[
    Macro::method("optMap", 2, |b, c| opt_map(b, c, false)),
    Macro::method("optFlatMap", 2, |b, c| opt_map(b, c, true)),
];

pub(crate) const TWO_VARIABLES: &[Macro] = &[
    Macro::method("all", 3, |b, c| quantifier(b, c, Quantifier::All, 2)),
    Macro::method("exists", 3, |b, c| quantifier(b, c, Quantifier::Exists, 2)),
    Macro::method("existsOne", 3, |b, c| quantifier(b, c, Quantifier::ExistsOne, 2)),
    Macro::method("exists_one", 3, |b, c| quantifier(b, c, Quantifier::ExistsOne, 2)),
    Macro::method("transformList", 3, transform_list),
    Macro::method("transformList", 4, transform_list),
    Macro::method("transformMap", 3, |b, c| transform_map(b, c, false)),
    Macro::method("transformMap", 4, |b, c| transform_map(b, c, false)),
    Macro::method("transformMapEntry", 3, |b, c| transform_map(b, c, true)),
    Macro::method("transformMapEntry", 4, |b, c| transform_map(b, c, true)),
];

pub(crate) const SORT_BY: &[Macro] = &[Macro::method("sortBy", 2, sort_by)];
pub(crate) const BIND: &[Macro] = &[Macro::method("bind", 3, bind)];

#[derive(Clone, Copy)]
enum Quantifier {
    All,
    Exists,
    ExistsOne,
}

fn has(b: &mut Builder<'_>, call: &mut Call) -> Expanded {
    let arg = call.take(0);
    match arg.kind {
        Kind::Select { operand, field, .. } => {
            Ok(Some(b.node(Kind::Select { operand, field, test_only: true })))
        }
        _ => failure(&arg, "invalid argument to has() macro"),
    }
}

fn name_of(arg: &Expr, message: &str) -> Result<Str, Failure> {
    match arg.as_ident() {
        Some(name) => Ok(name.clone()),
        None => failure(arg, message),
    }
}

fn check_free(arg: &Expr, name: &str) -> Result<(), Failure> {
    if name == ACCUMULATOR || name == OLD_ACCUMULATOR {
        return failure(arg, "iteration variable overwrites accumulator variable");
    }
    Ok(())
}

/// The loop variables: the first one or two arguments.
fn variables(call: &Call, count: usize, message: &str) -> Result<(Str, Option<Str>), Failure> {
    let first = name_of(&call.args[0], message)?;
    if count == 1 {
        check_free(&call.args[0], &first)?;
        return Ok((first, None));
    }
    let second = name_of(&call.args[1], message)?;
    if first == second {
        return failure(&call.args[1], format!("duplicate variable name: {first}"));
    }
    check_free(&call.args[0], &first)?;
    check_free(&call.args[1], &second)?;
    Ok((first, Some(second)))
}

struct Loop {
    vars: (Str, Option<Str>),
    range: Expr,
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

fn comprehension(b: &mut Builder<'_>, l: Loop) -> Expanded {
    let kind = Kind::Comprehension(Box::new(Comprehension {
        range: l.range,
        var: l.vars.0,
        var2: l.vars.1,
        accu: ACCUMULATOR.into(),
        init: l.init,
        condition: l.condition,
        step: l.step,
        result: l.result,
    }));
    Ok(Some(b.node(kind)))
}

fn quantifier(b: &mut Builder<'_>, call: &mut Call, kind: Quantifier, count: usize) -> Expanded {
    let vars = variables(call, count, "argument must be a simple name")?;
    let predicate = call.take(count);
    let (init, condition, step, result) = match kind {
        Quantifier::All => {
            let (init, accu) = (b.bool(true), b.accumulator());
            let condition = b.call(ops::NOT_STRICTLY_FALSE, vec![accu]);
            let accu = b.accumulator();
            (init, condition, b.call(ops::AND, vec![accu, predicate]), b.accumulator())
        }
        Quantifier::Exists => {
            let (init, accu) = (b.bool(false), b.accumulator());
            let not = b.call(ops::NOT, vec![accu]);
            let condition = b.call(ops::NOT_STRICTLY_FALSE, vec![not]);
            let accu = b.accumulator();
            (init, condition, b.call(ops::OR, vec![accu, predicate]), b.accumulator())
        }
        Quantifier::ExistsOne => {
            let one = Literal::Int(1);
            let (init, condition) = (b.literal(Literal::Int(0)), b.bool(true));
            let (accu, by) = (b.accumulator(), b.literal(one.clone()));
            let more = b.call(ops::ADD, vec![accu, by]);
            let accu = b.accumulator();
            let step = b.call(ops::CONDITIONAL, vec![predicate, more, accu]);
            let (accu, by) = (b.accumulator(), b.literal(one));
            (init, condition, step, b.call(ops::EQUALS, vec![accu, by]))
        }
    };
    comprehension(b, Loop { vars, range: call.take_target(), init, condition, step, result })
}

/// `accumulator + [element]`, only where `filter` holds.
fn append_step(b: &mut Builder<'_>, element: Expr, filter: Option<Expr>) -> Expr {
    let (accu, list) = (b.accumulator(), b.list(vec![element]));
    let step = b.call(ops::ADD, vec![accu, list]);
    only_if(b, step, filter)
}

fn only_if(b: &mut Builder<'_>, step: Expr, filter: Option<Expr>) -> Expr {
    match filter {
        None => step,
        Some(filter) => {
            let accu = b.accumulator();
            b.call(ops::CONDITIONAL, vec![filter, step, accu])
        }
    }
}

fn collect(
    b: &mut Builder<'_>,
    vars: (Str, Option<Str>),
    range: Expr,
    element: Expr,
    filter: Option<Expr>,
) -> Expanded {
    let (init, condition) = (b.list(Vec::new()), b.bool(true));
    let step = append_step(b, element, filter);
    let result = b.accumulator();
    comprehension(b, Loop { vars, range, init, condition, step, result })
}

fn map(b: &mut Builder<'_>, call: &mut Call) -> Expanded {
    let vars = variables(call, 1, "argument is not an identifier")?;
    let last = call.args.len() - 1;
    let element = call.take(last);
    let filter = (last == 2).then(|| call.take(1));
    collect(b, vars, call.take_target(), element, filter)
}

fn filter(b: &mut Builder<'_>, call: &mut Call) -> Expanded {
    let vars = variables(call, 1, "argument is not an identifier")?;
    let (element, predicate) = (call.take(0), call.take(1));
    collect(b, vars, call.take_target(), element, Some(predicate))
}

fn transform_list(b: &mut Builder<'_>, call: &mut Call) -> Expanded {
    let vars = variables(call, 2, "argument must be a simple name")?;
    let last = call.args.len() - 1;
    let element = call.take(last);
    let filter = (last == 3).then(|| call.take(2));
    collect(b, vars, call.take_target(), element, filter)
}

/// The function the map-building macros insert with.
pub(crate) const MAP_INSERT: &str = "cel.@mapInsert";

fn transform_map(b: &mut Builder<'_>, call: &mut Call, entry: bool) -> Expanded {
    let vars = variables(call, 2, "argument must be a simple name")?;
    let last = call.args.len() - 1;
    let transform = call.take(last);
    let filter = (last == 3).then(|| call.take(2));
    let (init, condition, accu) = (b.map(), b.bool(true), b.accumulator());
    let step = if entry {
        b.call(MAP_INSERT, vec![accu, transform])
    } else {
        let key = b.ident(&vars.0);
        b.call(MAP_INSERT, vec![accu, key, transform])
    };
    let step = only_if(b, step, filter);
    let result = b.accumulator();
    comprehension(b, Loop { vars, range: call.take_target(), init, condition, step, result })
}

fn opt_map(b: &mut Builder<'_>, call: &mut Call, flat: bool) -> Expanded {
    let function = if flat { "optFlatMap" } else { "optMap" };
    let name = name_of(&call.args[0], &format!("{function}() variable name must be a simple identifier"))?;
    let (target, body) = (call.take_target(), call.take(1));
    let value = b.copy(&target);
    let value = b.method(value, "value", Vec::new());
    let present = b.method(target, "hasValue", Vec::new());
    let bound = b.bind(name, value, body);
    let bound = if flat { bound } else { b.call("optional.of", vec![bound]) };
    let none = b.call("optional.none", Vec::new());
    Ok(Some(b.call(ops::CONDITIONAL, vec![present, bound, none])))
}

const SORT_INPUT: &str = "@__sortBy_input__";

fn sort_by(b: &mut Builder<'_>, call: &mut Call) -> Expanded {
    let target = call.take_target();
    if matches!(target.kind, Kind::Unspecified | Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
        let message =
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return failure(&target, message);
    }
    let input = b.ident(SORT_INPUT);
    call.target = Some(input);
    let Some(keys) = map(b, call)? else { return Ok(None) };
    let input = b.ident(SORT_INPUT);
    let sorted = b.method(input, "@sortByAssociatedKeys", vec![keys]);
    Ok(Some(b.bind(SORT_INPUT.into(), target, sorted)))
}

fn bind(b: &mut Builder<'_>, call: &mut Call) -> Expanded {
    if call.target.as_ref().and_then(Expr::as_ident).is_none_or(|name| name != "cel") {
        return Ok(None);
    }
    let name = name_of(&call.args[0], "cel.bind() variable names must be simple identifiers")?;
    let (init, result) = (call.take(1), call.take(2));
    Ok(Some(b.bind(name, init, result)))
}
