//! What a call costs when it is made (cel-go interpreter/runtimecost.go, ext/costs.go and Kubernetes'
//! pkg/cel/library/cost.go `CallCost`).

use super::{AUTHORIZATION, LIST, PATTERN, TRAVERSAL, is_accessor, is_list_scan};
use crate::library::format::NamedFormat;
use crate::val::{Res, Val};

/// How a call's cost follows from its values. Chosen once per call in the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Charge {
    Fixed(u64),
    /// An argument's size times a factor.
    Size(usize, f64),
    /// The result's size times a factor.
    Result(f64),
    /// The number of elements of the second argument.
    Elements,
    /// The shorter of both.
    Smaller,
    /// The same, but one for objects.
    Equality,
    /// Both texts together.
    Sum,
    Pattern,
    Contains,
    Selector,
    /// Every node of the first argument.
    Traverse,
    ContainsIp {
        text: bool,
    },
    ContainsCidr {
        text: bool,
    },
    Validate,
    /// Lists made: per element.
    Output,
    Flatten,
    /// Each element of an argument with each other.
    SelfCompare(usize),
    /// Each of one with each of the other, so many times.
    Product(f64),
}

impl Charge {
    pub fn for_call(function: &str, overload: Option<&str>) -> Charge {
        let id = overload.unwrap_or_default();
        list_library(id).or_else(|| kubernetes(function, id)).unwrap_or_else(|| standard(id))
    }

    /// The cost of a call that was made; failed arguments count as of size one.
    pub fn of(self, args: &[Val<'_>], result: &Res<'_>) -> u64 {
        let arg = |i: usize| args.get(i).map_or(1, size);
        match self {
            Charge::Fixed(cost) => cost,
            Charge::Size(i, factor) => scaled(plain_size(args.get(i)) as f64 * factor),
            Charge::Result(factor) => {
                scaled(result.as_ref().map_or(1, |v| plain_size(Some(v))) as f64 * factor)
            }
            Charge::Elements => arg(1),
            Charge::Equality if matches!(args.first(), Some(Val::Object(_))) => 1,
            Charge::Smaller | Charge::Equality => scaled(arg(0).min(arg(1)) as f64 * TRAVERSAL),
            Charge::Sum => scaled((arg(0) + arg(1)) as f64 * TRAVERSAL),
            Charge::Pattern => {
                let text = scaled((1.0 + arg(0) as f64) * TRAVERSAL);
                text.wrapping_mul(scaled(arg(1) as f64 * PATTERN))
            }
            Charge::Contains => {
                scaled(arg(0) as f64 * TRAVERSAL).wrapping_mul(scaled(arg(1) as f64 * TRAVERSAL))
            }
            Charge::Selector => selector(plain_size(args.get(1))),
            Charge::Traverse => args.first().map_or(0, traversal),
            Charge::ContainsIp { text } => network(args, text, false),
            Charge::ContainsCidr { text } => network(args, text, true),
            Charge::Validate => validate(args),
            Charge::Output => allocating(1.0, result.as_ref().map_or(1, |v| plain_size(Some(v)))),
            Charge::Flatten => {
                let depth = match args.get(1) {
                    Some(Val::Int(depth)) => *depth as f64,
                    _ => 1.0,
                };
                allocating(depth, plain_size(args.first()))
            }
            Charge::SelfCompare(i) => self_compare(args.get(i)),
            Charge::Product(factor) => {
                let product = plain_size(args.first()).wrapping_mul(plain_size(args.get(1)));
                ((product as f64 * factor) as u64).saturating_add(1)
            }
        }
    }
}

/// Go's conversion of a rounded-up float.
fn scaled(x: f64) -> u64 {
    x.ceil() as u64
}

/// A value's size, through an optional.
fn size(v: &Val<'_>) -> u64 {
    match v {
        Val::Optional(Some(inner)) => size(inner),
        other => other.size().unwrap_or(1),
    }
}

/// The same for Kubernetes' and the extension libraries, which do not look into optionals.
fn plain_size(v: Option<&Val<'_>>) -> u64 {
    v.and_then(Val::size).unwrap_or(1)
}

fn list_library(id: &str) -> Option<Charge> {
    Some(match id {
        "list_sets_contains_list" | "list_sets_intersects_list" => Charge::Product(1.0),
        "list_sets_equivalent_list" => Charge::Product(2.0),
        "list_slice" | "lists_range" | "list_reverse" => Charge::Output,
        "list_flatten" | "list_flatten_int" => Charge::Flatten,
        "list_distinct" => Charge::SelfCompare(0),
        _ if id.starts_with("list_") && id.ends_with("_sortByAssociatedKeys") => Charge::SelfCompare(1),
        _ if id.starts_with("list_") && id.ends_with("_sort") => Charge::SelfCompare(0),
        _ => return None,
    })
}

fn kubernetes(function: &str, id: &str) -> Option<Charge> {
    Some(match function {
        "check" => Charge::Fixed(AUTHORIZATION),
        "fieldSelector" | "labelSelector" => Charge::Selector,
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => Charge::Size(0, TRAVERSAL),
        "ip" if id == "cidr_ip" => Charge::Fixed(1),
        "ip" => Charge::Size(0, TRAVERSAL),
        "replace" | "split" | "ip.isCanonical" => Charge::Size(0, 2.0 * TRAVERSAL),
        "join" => Charge::Result(2.0 * TRAVERSAL),
        "find" | "findAll" => Charge::Pattern,
        "containsIP" => Charge::ContainsIp { text: id == "cidr_contains_ip_string" },
        "containsCIDR" => Charge::ContainsCidr { text: id == "cidr_contains_cidr_string" },
        "validate" => Charge::Validate,
        "_==_" => Charge::Equality,
        f if is_accessor(f) => Charge::Fixed(1),
        f if is_list_scan(f) => Charge::Traverse,
        _ => return None,
    })
}

fn standard(id: &str) -> Charge {
    match id {
        "starts_with_string" | "ends_with_string" => Charge::Size(1, TRAVERSAL),
        "string_to_bytes" | "bytes_to_string" | "strings_quote" | "string_format" => {
            Charge::Size(0, TRAVERSAL)
        }
        "in_list" => Charge::Elements,
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => Charge::Smaller,
        "add_string" | "add_bytes" => Charge::Sum,
        "matches" | "matches_string" => Charge::Pattern,
        "contains_string" => Charge::Contains,
        _ => Charge::Fixed(1),
    }
}

/// Parsing a selector and making its requirements.
fn selector(length: u64) -> u64 {
    let parse = scaled(length as f64 * TRAVERSAL);
    let requirements = scaled(length as f64 * 0.5);
    LIST + parse + scaled(requirements as f64 * (LIST + super::STRUCT) as f64)
}

fn traversal(v: &Val<'_>) -> u64 {
    match v {
        Val::Str(s) => (s.len() as f64 * TRAVERSAL) as u64,
        Val::Bytes(b) => (b.len() as f64 * TRAVERSAL) as u64,
        Val::List(l) => l.iter().map(|v| v.map_or(1, |v| traversal(&v))).sum(),
        Val::Map(m) => {
            let keys = m.keys();
            let values = keys.iter().map(|k| match m.find(k) {
                Some(Ok(v)) => traversal(k) + traversal(&v),
                _ => traversal(k) + 1,
            });
            values.sum()
        }
        _ => 1,
    }
}

fn network(args: &[Val<'_>], text: bool, masks: bool) -> u64 {
    let (cidr, other) = (plain_size(args.first()), plain_size(args.get(1)));
    let mut cost = scaled((cidr + cidr) as f64 * TRAVERSAL);
    if masks {
        cost += scaled(cidr as f64 * TRAVERSAL) + 1;
    }
    if text { cost + scaled(other as f64 * TRAVERSAL) } else { cost }
}

fn validate(args: &[Val<'_>]) -> u64 {
    let Some(format) = args.first().and_then(Val::as_object::<NamedFormat>) else { return 1 };
    let text = scaled((1.0 + plain_size(args.get(1)) as f64) * TRAVERSAL);
    text * scaled(format.pattern_size() as f64 * PATTERN)
}

fn allocating(factor: f64, size: u64) -> u64 {
    let factor = if factor < 0.0 { 1.0 } else { factor };
    ((size as f64 * factor) as u64).saturating_add(1 + LIST)
}

fn self_compare(v: Option<&Val<'_>>) -> u64 {
    let size = plain_size(v);
    let Some(Val::List(list)) = v else { return allocating(2.0, size) };
    let text = matches!(list.get(0), Some(Ok(Val::Str(_) | Val::Bytes(_))));
    allocating(if text { 2.0 + TRAVERSAL } else { 2.0 }, size.saturating_mul(size))
}
