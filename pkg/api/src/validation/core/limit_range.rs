//! Limit ranges.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use machinery::Quantity;

use super::resources::{Amounts, amount, compare, overcommits, validate_container_name, validate_name};
use crate::validation::content;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_kube_object_meta};

/// The largest value whose thousandfold fits (`resource.MaxMilliValue`).
const MILLI_MAX: i64 = i64::MAX / 1000;

/// `ValidateLimitRange`, of new and changed ones alike.
pub fn validate(range: &LimitRange) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&range.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let spec = Path::new("spec");
    let path = spec.child("limits");
    let limits: &[LimitRangeItem] = range.spec.as_ref().map_or(&[], |s| &s.limits);
    for (i, item) in limits.iter().enumerate() {
        let at = path.index(i);
        errors.extend(validate_type(&item.type_, &at.child("type")));
        if limits.iter().take(i).any(|l| l.type_ == item.type_) {
            errors.push(Error::duplicate(&at.child("type"), Bad::enumerated(&item.type_)));
        }
        errors.extend(validate_item(item, &at));
    }
    errors
}

/// A changed one.
pub fn validate_update(new: &LimitRange, _old: &LimitRange) -> Vec<Error> {
    validate(new)
}

fn validate_type(name: &str, path: &Path) -> Vec<Error> {
    let bad = || Bad::enumerated(name);
    let refusals = content::qualified_name(name);
    let errors: Vec<Error> = refusals.into_iter().map(|m| Error::invalid(path, bad(), m)).collect();
    let standard = matches!(name, "Pod" | "Container" | "PersistentVolumeClaim");
    if errors.is_empty() && !name.contains('/') && !standard {
        return vec![Error::invalid(path, bad(), "must be a standard limit type or fully qualified")];
    }
    errors
}

fn validate_item(item: &LimitRangeItem, path: &Path) -> Vec<Error> {
    let none = Amounts::new();
    let amounts = |a: &'_ Option<Amounts>| a.clone().unwrap_or_else(|| none.clone());
    let pod = item.type_ == "Pod";
    let rule = if matches!(item.type_.as_str(), "Pod" | "Container") {
        validate_container_name
    } else {
        validate_name
    };
    let (max, min) = (amounts(&item.max), amounts(&item.min));
    let (mut default, mut request) = (amounts(&item.default), amounts(&item.default_request));
    let ratio = amounts(&item.max_limit_request_ratio);
    let mut errors = Vec::new();
    let names = |all: &Amounts, field: &str| -> Vec<Error> {
        all.keys().flat_map(|name| rule(name, &path.child(field).key(name))).collect()
    };
    errors.extend(names(&max, "max"));
    errors.extend(names(&min, "min"));
    for (all, field) in [(&mut default, "default"), (&mut request, "defaultRequest")] {
        if pod && !all.is_empty() {
            let detail = "may not be specified when `type` is 'Pod'";
            errors.push(Error::forbidden(&path.child(field), detail));
            all.clear();
        }
        errors.extend(names(all, field));
    }
    let storage = min.contains_key("storage") || max.contains_key("storage");
    if item.type_ == "PersistentVolumeClaim" && !storage {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(&path.child("limits"), detail));
    }
    errors.extend(names(&ratio, "maxLimitRequestRatio"));
    let all = [&max, &min, &default, &request, &ratio];
    let keys: BTreeSet<&String> = all.iter().flat_map(|a| a.keys()).collect();
    for name in keys {
        let of = |all: &Amounts| all.get(name).map(amount);
        let bounds = Bounds {
            name,
            min: of(&min),
            max: of(&max),
            default: of(&default),
            request: of(&request),
            ratio: of(&ratio),
        };
        errors.extend(bounds.validate(path));
    }
    errors
}

/// What an item says of one resource.
struct Bounds<'a> {
    name: &'a str,
    min: Option<Quantity>,
    max: Option<Quantity>,
    default: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl Bounds<'_> {
    fn validate(&self, path: &Path) -> Vec<Error> {
        let mut errors = Vec::new();
        let (min, max) = (("min value", &self.min), ("max value", &self.max));
        let request = ("default request value", &self.request);
        let (default, limit) = (("default value", &self.default), ("default limit value", &self.default));
        // Lower, higher, the field that is named, and which of both is printed.
        for (low, high, field, prints_low) in [
            (min, max, "min", true),
            (min, request, "defaultRequest", false),
            (request, max, "defaultRequest", true),
            (request, limit, "defaultRequest", true),
            (min, default, "default", true),
            (default, max, "default", false),
        ] {
            let (Some(a), Some(b)) = (low.1, high.1) else { continue };
            if compare(a, b) > 0 {
                let (x, y) = (a.canonical(), b.canonical());
                let detail = format!("{} {x} is greater than {} {y}", low.0, high.0);
                let bad = if prints_low { x } else { y };
                errors.push(Error::invalid(&path.child(field).key(self.name), bad, detail));
            }
        }
        errors.extend(self.validate_ratio(&path.child("maxLimitRequestRatio").key(self.name)));
        if let (Some(default), Some(request)) = (&self.default, &self.request)
            && !overcommits(self.name)
            && compare(default, request) != 0
        {
            let detail = format!(
                "default value {} must equal to defaultRequest value {} in {}",
                default.canonical(),
                request.canonical(),
                self.name
            );
            let at = path.child("defaultRequest");
            errors.push(Error::invalid(&at.key(self.name), request.canonical(), detail));
        }
        errors
    }

    fn validate_ratio(&self, path: &Path) -> Vec<Error> {
        let Some(ratio) = &self.ratio else { return Vec::new() };
        let text = ratio.canonical();
        let mut errors = Vec::new();
        if Quantity::parse("1").is_ok_and(|one| compare(ratio, &one) < 0) {
            errors.push(Error::invalid(path, text.clone(), format!("ratio {text} is less than 1")));
        }
        if let (Some(min), Some(max)) = (&self.min, &self.max) {
            let small = [ratio, min, max].iter().all(|q| q.value() < MILLI_MAX);
            let (value, low, high) = if small {
                (ratio.milli_value() as f64 / 1000.0, min.milli_value(), max.milli_value())
            } else {
                (ratio.value() as f64, min.value(), max.value())
            };
            let limit = high as f64 / low as f64;
            if value > limit {
                let limit = go_float(limit);
                let detail = format!("ratio {text} is greater than max/min = {limit}");
                errors.push(Error::invalid(path, Bad::Text(text), detail));
            }
        }
        errors
    }
}

/// Go's `%f`.
fn go_float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    format!("{value:.6}")
}
