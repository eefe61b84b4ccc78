//! Constraints over the devices of a claim: one attribute has the same value on all of them, or a different one on
//! each. Upstream: matchAttributeConstraint, distinctAttributeConstraint.

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceConstraint};

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
    values: Vec<&'a DeviceAttribute>,
}

/// A single value; lists have none.
fn equal(a: &DeviceAttribute, b: &DeviceAttribute) -> Option<bool> {
    if a.string.is_some() {
        return Some(a.string == b.string);
    }
    if a.int.is_some() {
        return Some(a.int == b.int);
    }
    if a.bool.is_some() {
        return Some(a.bool == b.bool);
    }
    a.version.is_some().then(|| a.version == b.version)
}

/// Upstream: lookupAttribute.
fn attribute<'a>(driver: &str, device: &'a Device, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        attributes.get(id).filter(|_| domain == driver)
    })
}

impl<'a> Constraint<'a> {
    /// `None` for a kind that is not known.
    pub fn new(wire: &'a DeviceConstraint) -> Option<Self> {
        let (rule, attribute) = match (&wire.match_attribute, &wire.distinct_attribute) {
            (Some(name), _) => (Rule::Same, name),
            (None, Some(name)) => (Rule::Distinct, name),
            (None, None) => return None,
        };
        let requests = wire.requests.as_deref().unwrap_or_default();
        Some(Self { rule, attribute, requests, values: Vec::new() })
    }

    /// Whether it is about a request, named with its alternative where there is one.
    fn applies(&self, request: &str, alternative: Option<&str>) -> bool {
        let whole = |r: &String| {
            alternative.is_some_and(|a| r.split_once('/').is_some_and(|(of, own)| of == request && own == a))
        };
        self.requests.is_empty() || self.requests.iter().any(|r| r == request || whole(r))
    }

    /// Lets a device in if it may.
    pub fn add(
        &mut self,
        request: &str,
        alternative: Option<&str>,
        driver: &str,
        device: &'a Device,
    ) -> bool {
        if !self.applies(request, alternative) {
            return true;
        }
        let Some(value) = attribute(driver, device, self.attribute) else { return false };
        let fits = match (self.rule, self.values.as_slice()) {
            (_, []) => true,
            (Rule::Same, [first, ..]) => equal(value, first) == Some(true),
            (Rule::Distinct, others) => others.iter().all(|o| equal(value, o) == Some(false)),
        };
        if fits {
            self.values.push(value);
        }
        fits
    }

    /// Takes out the device that came in last.
    pub fn remove(&mut self, request: &str, alternative: Option<&str>) {
        if self.applies(request, alternative) {
            self.values.pop();
        }
    }
}
