//! Visits the structs of an object that have defaults.

use super::fields::is_nil;
use super::{Context, Function, PACKAGES, functions};
use machinery::schema::{Field, Shape, TypeId, TypeTable};
use machinery::{Map, Quantity, Str, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// What to do with a struct of some type.
#[derive(Default)]
struct Plan {
    functions: Vec<Function>,
    steps: Vec<Step>,
}

enum Step {
    /// A declared default.
    Literal {
        name: Str,
        value: Value,
        pointer: bool,
    },
    /// A member that has defaults itself.
    Struct {
        name: Str,
        pointer: bool,
        to: TypeId,
    },
    Embedded {
        to: TypeId,
    },
    List {
        name: Str,
        to: TypeId,
    },
    Map {
        name: Str,
        to: TypeId,
    },
    /// A map of quantities, which are rounded up to thousandths.
    Resources {
        name: Str,
    },
}

static PLANS: LazyLock<HashMap<TypeId, Plan>> = LazyLock::new(|| build(crate::types()));

/// The kinds at the top of a walk: those of packages with registered defaults.
fn is_registered(id: TypeId) -> bool {
    PACKAGES.contains(&crate::types().package(id).name.as_str())
}

pub(super) fn has_defaults(id: TypeId) -> bool {
    is_registered(id) && PLANS.contains_key(&id)
}

pub(super) fn apply(id: TypeId, m: &mut Map, context: &Context) {
    if is_registered(id) {
        visit(id, m, context);
    }
}

/// As [`apply`], without what `m` shares with `known`, which has its defaults.
pub(super) fn apply_changed(id: TypeId, m: &mut Map, known: &Map, context: &Context) {
    if is_registered(id) {
        visit_changed(id, m, known, context);
    }
}

fn visit_changed(id: TypeId, m: &mut Map, known: &Map, context: &Context) {
    let Some(plan) = PLANS.get(&id) else { return };
    for f in &plan.functions {
        f(m, context);
    }
    for step in &plan.steps {
        run_changed(step, m, known, context);
    }
}

fn run_changed(step: &Step, m: &mut Map, known: &Map, context: &Context) {
    let (name, to) = match step {
        Step::Embedded { to } => return visit_changed(*to, m, known, context),
        Step::Struct { name, to, .. } | Step::List { name, to } | Step::Map { name, to } => (name, *to),
        Step::Literal { .. } | Step::Resources { .. } => return run(step, m, context),
    };
    let Some(known) = known.get(name) else { return run(step, m, context) };
    if m.get(name).is_some_and(|v| v.is_shared_with(known) && !v.is_null()) {
        return;
    }
    match (step, m.get_mut(name), known) {
        (Step::Struct { .. }, Some(Value::Map(inner)), Value::Map(known)) => {
            visit_changed(to, inner, known, context);
        }
        (Step::List { .. }, Some(Value::List(l)), Value::List(known)) => {
            for (i, v) in l.iter_mut().enumerate() {
                if known.get(i).is_none_or(|known| v.is_null() || !v.is_shared_with(known)) {
                    element(v, to, context);
                }
            }
        }
        _ => run(step, m, context),
    }
}

fn visit(id: TypeId, m: &mut Map, context: &Context) {
    let Some(plan) = PLANS.get(&id) else { return };
    for f in &plan.functions {
        f(m, context);
    }
    for step in &plan.steps {
        run(step, m, context);
    }
}

fn run(step: &Step, m: &mut Map, context: &Context) {
    match step {
        Step::Literal { name, value, pointer } => {
            let unset = match m.get(name) {
                None | Some(Value::Null) => true,
                Some(Value::Str(s)) => s.is_empty() && !pointer,
                Some(Value::Int(i)) => *i == 0 && !pointer,
                _ => false,
            };
            if unset {
                m.insert(name.clone(), value.clone());
            }
        }
        Step::Embedded { to } => visit(*to, m, context),
        Step::Struct { name, pointer, to } => {
            if !is_nil(m, name) {
                if let Some(Value::Map(inner)) = m.get_mut(name) {
                    visit(*to, inner, context);
                }
            } else if !pointer {
                let mut inner = Map::new();
                visit(*to, &mut inner, context);
                if !inner.is_empty() {
                    m.insert(name.clone(), inner);
                }
            }
        }
        Step::List { name, to } => {
            if m.get(name).and_then(Value::as_list).is_some_and(|l| !l.is_empty())
                && let Some(Value::List(l)) = m.get_mut(name)
            {
                l.iter_mut().for_each(|v| element(v, *to, context));
            }
        }
        Step::Map { name, to } => {
            if let Some(Value::Map(entries)) = m.get_mut(name) {
                entries.values_mut().for_each(|v| element(v, *to, context));
            }
        }
        Step::Resources { name } => round_up(m, name),
    }
}

/// A null element is a zero struct.
fn element(v: &mut Value, to: TypeId, context: &Context) {
    if v.is_null() {
        *v = Value::Map(Map::new());
    }
    if let Value::Map(inner) = v {
        visit(to, inner, context);
    }
}

/// Upstream: `SetDefaults_ResourceList`.
fn round_up(m: &mut Map, name: &str) {
    const MILLI: i32 = -3;
    let rounded = |v: &Value| -> Option<String> {
        let text = v.as_str()?;
        // Whole and thousandth numbers need no look.
        if !text.contains(['n', 'u', '.', 'e', 'E']) {
            return None;
        }
        let mut q = Quantity::parse(text).ok()?;
        q.round_up(MILLI);
        Some(q.to_string()).filter(|t| t != text)
    };
    let Some(Value::Map(list)) = m.get(name) else { return };
    let changes: Vec<_> = list.iter().filter_map(|(k, v)| Some((k.clone(), rounded(v)?))).collect();
    if changes.is_empty() {
        return;
    }
    if let Some(Value::Map(list)) = m.get_mut(name) {
        list.extend(changes);
    }
}

fn build(table: &TypeTable) -> HashMap<TypeId, Plan> {
    let mut by_type: HashMap<TypeId, Vec<Function>> = HashMap::new();
    for (name, f) in functions() {
        if let Some(id) = table.by_name(name) {
            by_type.entry(id).or_default().push(*f);
        }
    }
    // Types refer to each other in circles, so "has defaults" spreads until nothing changes.
    let mut having: HashMap<TypeId, bool> = HashMap::new();
    loop {
        let before = having.len();
        for id in table.types() {
            let has = |s: &Field| {
                own_default(s).is_some() || inner(table, s.shape).is_some_and(|t| having.contains_key(&t))
            };
            if by_type.contains_key(&id) || table.own_fields(id).iter().any(|f| has(f) || is_resources(f)) {
                having.insert(id, true);
            }
        }
        if having.len() == before {
            break;
        }
    }
    let plan = |id: TypeId| Plan {
        functions: by_type.get(&id).cloned().unwrap_or_default(),
        steps: table.own_fields(id).iter().filter_map(|f| step(table, f, &having)).collect(),
    };
    having.keys().map(|id| (*id, plan(*id))).collect()
}

fn is_resources(f: &Field) -> bool {
    f.extra().go_type.as_deref().is_some_and(|t| t == "v1.ResourceList")
}

/// The struct a shape is made of.
fn inner(table: &TypeTable, shape: Shape) -> Option<TypeId> {
    match shape {
        Shape::Struct(id) => Some(id),
        Shape::List(e) | Shape::Map(e) | Shape::Wrapped(e) => match table.elem(e) {
            Shape::Struct(id) => Some(id),
            _ => None,
        },
        _ => None,
    }
}

/// The declared default, unless it is Go's zero value anyway.
fn own_default(f: &Field) -> Option<Value> {
    let value: Value = serde_json::from_str(f.default()?).ok()?;
    let zero = match &value {
        Value::Str(s) => s.is_empty(),
        Value::Int(i) => *i == 0,
        _ => false,
    };
    (f.flags.pointer || !zero).then_some(value)
}

fn step(table: &TypeTable, f: &Field, having: &HashMap<TypeId, bool>) -> Option<Step> {
    let name = f.name.clone();
    if let Some(value) = own_default(f) {
        return Some(Step::Literal { name, value, pointer: f.flags.pointer });
    }
    if is_resources(f) {
        return Some(Step::Resources { name });
    }
    let to = inner(table, f.shape).filter(|t| having.contains_key(t))?;
    Some(match f.shape {
        Shape::Struct(_) if f.flags.inline => Step::Embedded { to },
        Shape::Struct(_) => Step::Struct { name, pointer: f.flags.pointer, to },
        Shape::Map(_) => Step::Map { name, to },
        _ => Step::List { name, to },
    })
}
