//! Amounts by resource name. Pure. Upstream: k8s.io/apiserver/pkg/quota/v1/resources.go.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::{Format, Quantity};

/// Amounts by resource name.
pub type Resources = BTreeMap<String, Quantity>;

/// What an object of the API says; what is no quantity counts nothing (the server refuses it).
pub fn read(list: Option<&BTreeMap<String, Text>>) -> Resources {
    let parse = |text: &Text| Quantity::parse(&text.0).unwrap_or_default();
    list.into_iter().flatten().map(|(name, text)| (name.clone(), parse(text))).collect()
}

/// For an object of the API.
pub fn write(list: &Resources) -> BTreeMap<String, Text> {
    list.iter().map(|(name, amount)| (name.clone(), Text(amount.to_string()))).collect()
}

/// A count.
pub fn count(number: usize) -> Quantity {
    Quantity::new(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSI)
}

/// Adds each amount.
pub fn add(to: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        match to.get_mut(name) {
            Some(sum) => sum.add(amount),
            None => drop(to.insert(name.clone(), amount.clone())),
        }
    }
}

/// Raises each amount to at least the other one.
pub fn raise(to: &mut Resources, other: &Resources) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|has| compare(has, amount) == Ordering::Less) {
            to.insert(name.clone(), amount.clone());
        }
    }
}

/// As numbers, whatever their form.
pub fn compare(a: &Quantity, b: &Quantity) -> Ordering {
    let mut difference = a.clone();
    difference.sub(b);
    difference.sign().cmp(&0)
}

/// The same names with the same numbers.
pub fn equal(a: &Resources, b: &Resources) -> bool {
    a.len() == b.len()
        && a.iter().all(|(name, amount)| b.get(name).is_some_and(|o| compare(amount, o) == Ordering::Equal))
}
