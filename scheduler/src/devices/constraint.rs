//! Constraints over the devices of a claim: one attribute has the same value on all of them, or a different one on
//! each. Of attributes with several values all devices must have one in common, or no two devices any.
//! Upstream: matchAttributeConstraint, distinctAttributeConstraint.

use std::borrow::Cow;

use k8s_openapi::api::resource::v1::{DeviceAttribute, DeviceConstraint};
use smallvec::SmallVec;

use super::Problem;

/// One value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Int(i64),
    Bool(bool),
    Text(Cow<'a, str>),
    Version(Cow<'a, str>),
}

/// The values of an attribute; none where nothing can be compared.
pub type Values<'a> = SmallVec<[Item<'a>; 1]>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Same,
    Distinct,
}

/// A constraint and the values of the devices that are in so far.
pub struct Constraint<'a> {
    rule: Rule,
    attribute: &'a str,
    requests: &'a [String],
    /// Whether attributes with several values count.
    lists: bool,
    /// Of the same value, what all devices up to each have in common.
    values: Vec<Values<'a>>,
}

/// The values of an attribute. Upstream: attributeAsSet.
pub fn values(attribute: &DeviceAttribute, lists: bool) -> Values<'_> {
    let a = attribute;
    if lists {
        let texts = |list: &'_ Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
        if let Some(list) = a.ints.as_ref().filter(|l| !l.is_empty()) {
            return list.iter().map(|i| Item::Int(*i)).collect();
        }
        if let Some(list) = a.bools.as_ref().filter(|l| !l.is_empty()) {
            return list.iter().map(|b| Item::Bool(*b)).collect();
        }
        if texts(&a.strings) {
            return a.strings.iter().flatten().map(|s| Item::Text(Cow::Borrowed(s))).collect();
        }
        if texts(&a.versions) {
            return a.versions.iter().flatten().map(|v| Item::Version(Cow::Borrowed(v))).collect();
        }
    }
    let one = match (a.int, a.bool, &a.string, &a.version) {
        (Some(int), ..) => Some(Item::Int(int)),
        (_, Some(bool), ..) => Some(Item::Bool(bool)),
        (_, _, Some(text), _) => Some(Item::Text(Cow::Borrowed(text))),
        (.., Some(version)) => Some(Item::Version(Cow::Borrowed(version))),
        _ => None,
    };
    one.into_iter().collect()
}

fn common<'a>(a: &Values<'a>, b: &Values<'a>) -> Values<'a> {
    a.iter().filter(|item| b.contains(item)).cloned().collect()
}

impl<'a> Constraint<'a> {
    /// `None` for a kind that is not known.
    pub fn new(wire: &'a DeviceConstraint, lists: bool) -> Option<Self> {
        let (rule, attribute) = match (&wire.match_attribute, &wire.distinct_attribute) {
            (Some(name), _) => (Rule::Same, name),
            (None, Some(name)) => (Rule::Distinct, name),
            (None, None) => return None,
        };
        let requests = wire.requests.as_deref().unwrap_or_default();
        Some(Self { rule, attribute, requests, lists, values: Vec::new() })
    }

    /// Whether it is about a request, named with its alternative where there is one.
    fn applies(&self, request: &str, alternative: Option<&str>) -> bool {
        let whole = |r: &String| {
            alternative.is_some_and(|a| r.split_once('/').is_some_and(|(of, own)| of == request && own == a))
        };
        self.requests.is_empty() || self.requests.iter().any(|r| r == request || whole(r))
    }

    /// Lets a device in if it may. `lookup` tells the values of an attribute of it, if it has that.
    pub fn add(
        &mut self,
        request: &str,
        alternative: Option<&str>,
        lookup: impl FnOnce(&'a str) -> Result<Option<Values<'a>>, Problem>,
    ) -> Result<bool, Problem> {
        if !self.applies(request, alternative) {
            return Ok(true);
        }
        let Some(value) = lookup(self.attribute)? else { return Ok(false) };
        if value.is_empty() {
            // Where lists do not count one of them is alone with its value.
            let alone = !self.lists && self.values.is_empty();
            if alone {
                self.values.push(value);
            }
            return Ok(alone);
        }
        let kept = match (self.rule, self.values.last()) {
            (Rule::Same, Some(last)) => Some(common(last, &value)).filter(|c| !c.is_empty()),
            (Rule::Same, None) => Some(value),
            (Rule::Distinct, _) => {
                let apart = self.values.iter().all(|other| common(other, &value).is_empty());
                apart.then_some(value)
            }
        };
        let fits = kept.is_some();
        self.values.extend(kept);
        Ok(fits)
    }

    /// Takes out the device that came in last.
    pub fn remove(&mut self, request: &str, alternative: Option<&str>) {
        if self.applies(request, alternative) {
            self.values.pop();
        }
    }
}
