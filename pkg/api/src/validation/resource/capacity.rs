//! How much of a device's capacity a claim may ask for.

use machinery::{Quantity, Value};

use super::{given, list};
use crate::validation::core::resources::compare;
use crate::validation::field::{Error, Path};

const OPTIONS_MAX: usize = 10;

/// A capacity; only devices that are `shared` may have a policy.
pub(super) fn validate(capacity: &Value, shared: bool, path: &Path) -> Vec<Error> {
    let Some(policy) = given(capacity, &["requestPolicy"]) else { return Vec::new() };
    let path = path.child("requestPolicy");
    if !shared {
        return vec![Error::forbidden(&path, "allowMultipleAllocations must be true")];
    }
    let most = quantity(capacity, "value").unwrap_or_else(Quantity::zero);
    let (values, range) = (list(policy, &["validValues"]), given(policy, &["validRange"]));
    let default = quantity(policy, "default");
    let missing = |what: &str| {
        vec![Error::required(&path.child("default"), format!("required when {what} is defined"))]
    };
    match (values, range, default) {
        ([_, ..], Some(_), _) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            vec![Error::forbidden(&path, detail)]
        }
        ([_, ..], None, None) => missing("validValues"),
        ([_, ..], None, Some(default)) => options(values, &default, &most, &path.child("validValues")),
        ([], Some(_), None) => missing("validRange"),
        ([], Some(range), Some(default)) => bounds(range, &default, &most, &path.child("validRange")),
        ([], None, _) => Vec::new(),
    }
}

fn parsed(value: &Value) -> Option<Quantity> {
    match value {
        Value::Str(text) => Quantity::parse(text).ok(),
        Value::Int(n) => Quantity::parse(&n.to_string()).ok(),
        _ => None,
    }
}

fn quantity(value: &Value, field: &str) -> Option<Quantity> {
    given(value, &[field]).and_then(parsed)
}

/// `validateRequestPolicyValidValues`.
fn options(values: &[Value], default: &Quantity, most: &Quantity, path: &Path) -> Vec<Error> {
    let values: Vec<Quantity> = values.iter().filter_map(parsed).collect();
    let mut errors = Vec::new();
    for (i, pair) in values.windows(2).enumerate() {
        if compare(&pair[0], &pair[1]) > 0 {
            let detail = "values must be sorted in ascending order";
            errors.push(Error::invalid(&path.index(i + 1), pair[1].canonical(), detail));
        }
    }
    let mut found = false;
    if values.len() > OPTIONS_MAX {
        errors.push(Error::too_many(path, values.len(), OPTIONS_MAX));
    } else {
        for (i, option) in values.iter().enumerate() {
            if compare(option, most) > 0 {
                let detail = format!("option is larger than capacity value: {}", most.canonical());
                errors.push(Error::invalid(&path.index(i), option.canonical(), detail));
            }
            found |= compare(option, default) == 0;
        }
        for (i, option) in values.iter().enumerate() {
            if values.iter().take(i).any(|v| compare(v, option) == 0) {
                errors.push(Error::duplicate(&path.index(i), option.canonical()));
            }
        }
    }
    if !found {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(Error::invalid(path, default.canonical(), detail));
    }
    errors
}

fn is_fraction(q: &Quantity) -> bool {
    q.milli_value() % 1000 != 0
}

/// `validateRequestPolicyRange`.
fn bounds(range: &Value, default: &Quantity, most: &Quantity, path: &Path) -> Vec<Error> {
    let Some(min) = quantity(range, "min") else {
        return vec![Error::required(&path.child("min"), "required when validRange is defined")];
    };
    let (max, step) = (quantity(range, "max"), quantity(range, "step"));
    let mut errors = Vec::new();
    let mut less = |a: &Quantity, b: &Quantity, field: &str, bad: &Quantity, text: &str, of: &Quantity| {
        if compare(a, b) < 0 {
            let detail = format!("{text}: {}", of.canonical());
            errors.push(Error::invalid(&path.child(field), bad.canonical(), detail));
        }
    };
    less(most, &min, "min", &min, "min is larger than capacity value", most);
    less(default, &min, "default", default, "default is less than min", &min);
    if let Some(max) = &max {
        less(max, &min, "max", &min, "min is larger than max", max);
        less(most, max, "max", max, "max is larger than capacity value", most);
        less(max, default, "default", default, "default is more than max", max);
    }
    let parts =
        [(Some(default), "default"), (Some(&min), "min"), (max.as_ref(), "max"), (step.as_ref(), "step")];
    let milli = parts.iter().filter_map(|(q, _)| *q).any(is_fraction);
    let Some(step) = &step else { return errors };
    let at = path.child("step");
    if step.sign() <= 0 {
        errors.push(Error::invalid(&at, step.canonical(), "must be greater than zero"));
        return errors;
    }
    let mut added = min.clone();
    added.add(step);
    if compare(&added, most) > 0 {
        let (one, most) = (added.canonical(), most.canonical());
        let detail = format!("one step {one} is larger than capacity value: {most}");
        errors.push(Error::invalid(&at, step.canonical(), detail));
    }
    let negative: Vec<Error> = parts
        .iter()
        .filter_map(|(q, field)| q.filter(|q| !milli && q.sign() < 0).map(|q| (q, field)))
        .map(|(q, field)| {
            Error::invalid(&path.child(field), q.canonical(), "must be greater than or equal to 0")
        })
        .collect();
    if !negative.is_empty() {
        errors.extend(negative);
        return errors;
    }
    let number = |q: &Quantity| i128::from(if milli { q.milli_value() } else { q.value() });
    for value in [Some(default), max.as_ref()].into_iter().flatten() {
        let size = number(step);
        if size != 0 && (number(value) - number(&min)) % size != 0 {
            let detail = format!(
                "value is not a multiple of a given step ({}) from ({})",
                step.canonical(),
                min.canonical()
            );
            errors.push(Error::invalid(&at, value.canonical(), detail));
        }
    }
    errors
}
