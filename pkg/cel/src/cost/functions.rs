//! What calls are estimated to cost, function by function (Kubernetes' pkg/cel/library/cost.go
//! `EstimateCallCost`, cel-go checker/cost.go `functionCost`, ext/lists.go, ext/sets.go).

use super::estimate::{Operand, Sizes, is_equality};
use super::range::Range;
use super::{AUTHORIZATION, LIST, PATTERN, STRUCT, TRAVERSAL, is_accessor, is_list_scan};
use crate::ast::{Kind, Literal};
use crate::types::Type;
use machinery::Str;

/// A call's cost, and the size of what it answers if it has one.
pub(super) struct Estimate {
    pub cost: Range,
    pub size: Option<Range>,
}

impl Estimate {
    pub fn of(cost: Range) -> Self {
        Estimate { cost, size: None }
    }

    fn sized(cost: Range, size: Range) -> Self {
        Estimate { cost, size: Some(size) }
    }
}

fn known(o: &Operand<'_>) -> Range {
    o.size.unwrap_or(Range::UNKNOWN)
}

/// A size from the operand itself, else from whoever knows the variables.
fn asked(sizes: &dyn Sizes, o: &Operand<'_>) -> Range {
    o.size.or_else(|| sizes.size(&o.path, &o.t)).unwrap_or(Range::UNKNOWN)
}

/// Operators and functions of the standard library; `sum` is what the arguments cost.
pub(super) fn standard(id: &str, target: Option<&Operand<'_>>, args: &[Operand<'_>], sum: Range) -> Estimate {
    let cost = match (id, target, args) {
        ("string_format", Some(t), _) => known(t).scaled(TRAVERSAL),
        ("string_to_bytes", _, [a]) => {
            let s = known(a);
            return Estimate::sized(s.scaled(TRAVERSAL).plus(sum), Range::new(s.min, s.max.wrapping_mul(4)));
        }
        ("bytes_to_string", _, [a]) => {
            let s = known(a);
            return Estimate::sized(s.scaled(TRAVERSAL).plus(sum), Range::new(s.min / 4, s.max));
        }
        ("strings_quote", _, [a]) => {
            let s = known(a);
            let size = Range::new(s.min.wrapping_add(2), s.max.wrapping_mul(2).wrapping_add(2));
            return Estimate::sized(s.scaled(TRAVERSAL).plus(sum), size);
        }
        ("starts_with_string" | "ends_with_string", _, [a]) => known(a).scaled(TRAVERSAL),
        ("in_list", _, [_, list]) => known(list).scaled(1.0),
        ("matches_string", Some(text), [pattern]) | ("matches", None, [text, pattern]) => {
            matching(known(text), known(pattern))
        }
        ("contains_string", Some(text), [part]) => {
            known(text).scaled(TRAVERSAL).times(known(part).scaled(TRAVERSAL))
        }
        (
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes"
            | "equals"
            | "not_equals",
            _,
            [left, right],
        ) => {
            let most = known(left).max.min(known(right).max);
            Range::new(u64::from(most > 0), most).scaled(TRAVERSAL)
        }
        _ => Range::fixed(1),
    };
    Estimate::of(cost.plus(sum))
}

fn matching(text: Range, pattern: Range) -> Range {
    text.plus(Range::fixed(1)).scaled(TRAVERSAL).times(pattern.scaled(PATTERN))
}

pub(super) fn addition(list: bool, left: &Operand<'_>, right: &Operand<'_>, sum: Range) -> Estimate {
    let size = known(left).plus(known(right));
    let cost = if list { Range::fixed(1) } else { size.scaled(TRAVERSAL) };
    Estimate::sized(cost.plus(sum), size)
}

/// Functions of the libraries; nothing where the standard rules apply.
pub(super) fn library(
    sizes: &dyn Sizes,
    function: &str,
    id: &str,
    target: Option<&Operand<'_>>,
    args: &[Operand<'_>],
) -> Option<Estimate> {
    extension(sizes, id, target, args).or_else(|| kubernetes(sizes, function, id, target, args))
}

fn int_literal(o: &Operand<'_>) -> Option<i64> {
    match o.expr.kind {
        Kind::Literal(Literal::Int(i)) => Some(i),
        _ => None,
    }
}

fn as_uint(o: &Operand<'_>, otherwise: u64) -> u64 {
    int_literal(o).map_or(otherwise, |i| u64::try_from(i).unwrap_or(0))
}

fn allocating(factor: f64, size: Range) -> Estimate {
    Estimate::sized(size.scaled(factor).plus(Range::fixed(1 + LIST)), size)
}

fn sorting(sizes: &dyn Sizes, keys: &Operand<'_>, id: &str) -> Estimate {
    let size = asked(sizes, keys);
    let text = id.starts_with("list_string_") || id.starts_with("list_bytes_");
    allocating(if text { 2.0 + TRAVERSAL } else { 2.0 }, size.times(size))
}

fn extension(
    sizes: &dyn Sizes,
    id: &str,
    target: Option<&Operand<'_>>,
    args: &[Operand<'_>],
) -> Option<Estimate> {
    let product = |factor: f64| match args {
        [a, b] => {
            let cost = asked(sizes, a).times(asked(sizes, b)).scaled(factor).plus(Range::fixed(1));
            Some(Estimate::of(cost))
        }
        _ => None,
    };
    match (id, target, args) {
        ("list_sets_contains_list" | "list_sets_intersects_list", ..) => product(1.0),
        ("list_sets_equivalent_list", ..) => product(2.0),
        ("list_slice", Some(list), [start, end]) => {
            let end = as_uint(end, asked(sizes, list).max);
            Some(allocating(1.0, Range::fixed(end.wrapping_sub(as_uint(start, 0)))))
        }
        ("list_flatten", Some(list), []) => Some(allocating(1.0, asked(sizes, list))),
        ("list_flatten_int", Some(list), [depth]) => {
            Some(allocating(as_uint(depth, u64::MAX) as f64, asked(sizes, list)))
        }
        ("lists_range", None, [n]) => Some(allocating(1.0, Range::fixed(as_uint(n, u64::MAX)))),
        ("list_reverse", Some(list), []) => Some(allocating(1.0, asked(sizes, list))),
        ("list_distinct", Some(list), []) => {
            let size = asked(sizes, list);
            Some(allocating(2.0, size.times(size)))
        }
        (id, Some(_), [keys]) if id.ends_with("_sortByAssociatedKeys") => Some(sorting(sizes, keys, id)),
        (id, Some(list), []) if id.starts_with("list_") && id.ends_with("_sort") => {
            Some(sorting(sizes, list, id))
        }
        _ => None,
    }
}

fn selector(length: Range) -> Range {
    let requirements = length.scaled(0.5).scaled((LIST + STRUCT) as f64);
    Range::fixed(LIST).plus(length.scaled(TRAVERSAL)).plus(requirements)
}

/// The type and size of a list's elements.
fn element(sizes: &dyn Sizes, list: &Operand<'_>) -> Option<(Type, Range)> {
    let t = list.t.parameters().first().map(|t| (*t).clone())?;
    let path: Vec<Str> = match list.path.as_slice() {
        [] => Vec::new(),
        path => path.iter().cloned().chain(["@items".into()]).collect(),
    };
    let size = sizes.size(&path, &t).unwrap_or(Range::UNKNOWN);
    Some((t, size))
}

fn list_scan(sizes: &dyn Sizes, function: &str, list: &Operand<'_>) -> Range {
    let count = asked(sizes, list);
    match element(sizes, list) {
        Some((t, size)) => {
            let text = matches!(t.primitive(), Type::String | Type::Bytes);
            let each = if text { Range::fixed(1).plus(size.scaled(TRAVERSAL)) } else { Range::fixed(1) };
            count.times(each)
        }
        None if function == "includes" => count,
        None => count.scaled(TRAVERSAL),
    }
}

fn network(sizes: &dyn Sizes, args: &[Operand<'_>], masks: bool, text: bool) -> Option<Estimate> {
    let other = args.first()?;
    let address = Range::new(4, 16);
    let mut cost = address.plus(address).scaled(TRAVERSAL);
    if masks {
        cost = cost.plus(address.scaled(TRAVERSAL)).plus(Range::fixed(1));
    }
    if text {
        cost = cost.plus(asked(sizes, other).scaled(TRAVERSAL));
    }
    Some(Estimate::of(cost))
}

fn kubernetes(
    sizes: &dyn Sizes,
    function: &str,
    id: &str,
    target: Option<&Operand<'_>>,
    args: &[Operand<'_>],
) -> Option<Estimate> {
    let first = |factor: f64| args.first().map(|a| Estimate::of(asked(sizes, a).scaled(factor)));
    match function {
        "check" => Some(Estimate::of(Range::fixed(AUTHORIZATION))),
        "fieldSelector" | "labelSelector" => match args {
            [text] => Some(Estimate::of(selector(asked(sizes, text)))),
            _ => None,
        },
        f if is_list_scan(f) => target.map(|list| Estimate::of(list_scan(sizes, f, list))),
        "url" | "jsonpatch.escapeKey" => match args {
            [text] => {
                let size = asked(sizes, text);
                Some(Estimate::sized(size.scaled(TRAVERSAL), size))
            }
            _ => None,
        },
        "lowerAscii" | "upperAscii" | "substring" | "trim" => target.map(|text| {
            let size = asked(sizes, text);
            Estimate::sized(size.scaled(TRAVERSAL), size)
        }),
        "replace" => match (target, args) {
            (Some(text), [old, new, ..]) => {
                Some(replacing(asked(sizes, text), asked(sizes, old), asked(sizes, new)))
            }
            _ => None,
        },
        "split" => target.map(|text| {
            let size = asked(sizes, text);
            let most = args.get(1).and_then(int_literal).map_or(size.max, |n| n as u64);
            Estimate::sized(size.scaled(2.0 * TRAVERSAL), Range::new(0, most))
        }),
        "join" => target.map(|list| joining(sizes, list, args)),
        "find" | "findAll" => match (target, args) {
            (Some(text), [pattern, ..]) => {
                let size = asked(sizes, text);
                Some(Estimate::sized(matching(size, asked(sizes, pattern)), Range::new(0, size.max)))
            }
            _ => None,
        },
        "ip" if id == "cidr_ip" => Some(Estimate::of(Range::fixed(1))),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            first(TRAVERSAL)
        }
        "ip.isCanonical" => first(2.0 * TRAVERSAL),
        "containsIP" => network(sizes, args, false, id == "cidr_contains_ip_string"),
        "containsCIDR" => network(sizes, args, true, id == "cidr_contains_cidr_string"),
        "validate" => args
            .first()
            .map(|text| Estimate::of(asked(sizes, text).scaled(TRAVERSAL).scaled(128.0 * PATTERN))),
        f if is_accessor(f) => Some(Estimate::of(Range::fixed(1))),
        f if is_equality(f) => match args {
            [left, right] if left.t.same(&right.t) => object_equality(&left.t, right),
            _ => None,
        },
        _ => None,
    }
}

fn object_equality(t: &Type, right: &Operand<'_>) -> Option<Estimate> {
    let cost = match (t, t.runtime_name()) {
        (Type::Opaque(..), "net.IP" | "net.CIDR") => Range::fixed(1),
        (Type::Struct(_), "kubernetes.NamedFormat") => Range::new(1, 64).scaled(TRAVERSAL),
        (Type::Struct(_), "kubernetes.URL") => {
            Range::new(1, right.size.map_or(1, |s| s.max)).scaled(TRAVERSAL)
        }
        (Type::Struct(_), "kubernetes.Quantity" | "kubernetes.Semver") => Range::fixed(1),
        (Type::Struct(_), name) if name.starts_with("kubernetes.authorization.") => Range::fixed(1),
        _ => return None,
    };
    Some(Estimate::of(cost))
}

fn times_within(whole: u64, part: u64) -> u64 {
    (whole as f64 / part as f64).ceil() as u64
}

/// The sizes replacing can lead to: most with the shortest text replaced by the longest, least the other way.
fn replacing(text: Range, old: Range, new: Range) -> Estimate {
    let (mut count, mut kept) = (Range::default(), Range::default());
    if old.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = times_within(text.max, old.min);
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = times_within(text.min, old.max);
    }
    Estimate::sized(text.scaled(2.0 * TRAVERSAL), count.times(new).plus(kept))
}

fn joining(sizes: &dyn Sizes, list: &Operand<'_>, args: &[Operand<'_>]) -> Estimate {
    let count = asked(sizes, list);
    let mut size = element(sizes, list).map_or(Range::default(), |(_, element)| count.times(element));
    if let Some(separator) = args.first() {
        let between = Range::new(count.min.saturating_sub(1), count.max.saturating_sub(1));
        size = size.plus(asked(sizes, separator).times(between));
    }
    Estimate::sized(size.scaled(TRAVERSAL), size)
}
