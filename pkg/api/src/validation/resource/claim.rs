//! Claims and templates of claims.

use std::collections::BTreeMap;

use machinery::Value;

use super::{
    CONFIG_MAX, Compile, REQUESTS_MAX, configuration, few, given, label, list, selectors, text, texts,
    tolerations,
};
use crate::validation::field::{Bad, Error, Path};
use crate::validation::{content, refusals};

const CONSTRAINTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;

/// Requests by name, with the names of their alternatives.
pub(super) struct Names<'v>(BTreeMap<&'v str, Vec<&'v str>>);

impl<'v> Names<'v> {
    /// Of a claim's specification.
    pub(super) fn of(spec: &'v Value) -> Self {
        let requests = list(spec, &["devices", "requests"]).iter();
        let parts = |r: &'v Value| list(r, &["firstAvailable"]).iter().map(|s| text(s, "name")).collect();
        Names(requests.map(|r| (text(r, "name"), parts(r))).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split('/').collect::<Vec<_>>()[..] {
            [request] => self.0.contains_key(request),
            [request, part] => self.0.get(request).is_some_and(|parts| parts.contains(&part)),
            _ => false,
        }
    }

    /// `validateRequestNameRef`.
    pub(super) fn check(&self, name: &str, path: &Path) -> Vec<Error> {
        let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let unknown = || Error::invalid(path, name, detail);
        let segments: Vec<&str> = name.split('/').collect();
        if segments.len() > 2 {
            return vec![unknown()];
        }
        let mut errors: Vec<Error> = segments.iter().flat_map(|s| label(s, path)).collect();
        if !self.has(name) {
            errors.push(unknown());
        }
        errors
    }

    /// The requests that a constraint or a configuration names.
    pub(super) fn check_all(&self, holder: &Value, path: &Path) -> Vec<Error> {
        let (names, at) = (texts(holder, "requests"), path.child("requests"));
        let each = names.iter().enumerate().filter(|_| names.len() <= REQUESTS_MAX);
        each.flat_map(|(i, name)| self.check(name, &at.index(i))).collect()
    }
}

/// `validateResourceClaimSpec`.
pub fn validate_spec(spec: &Value, compile: Compile<'_>, path: &Path) -> Vec<Error> {
    let names = Names::of(spec);
    let path = path.child("devices");
    let mut errors = Vec::new();
    for (i, request) in few(list(spec, &["devices", "requests"]), REQUESTS_MAX) {
        errors.extend(validate_request(request, compile, &path.child("requests").index(i)));
    }
    for (i, constraint) in few(list(spec, &["devices", "constraints"]), CONSTRAINTS_MAX) {
        errors.extend(validate_constraint(constraint, &names, &path.child("constraints").index(i)));
    }
    for (i, config) in few(list(spec, &["devices", "config"]), CONFIG_MAX) {
        let at = path.child("config");
        let at = at.index(i);
        errors.extend(names.check_all(config, &at));
        errors.extend(configuration(config, false, &at));
    }
    errors
}

fn validate_request(request: &Value, compile: Compile<'_>, path: &Path) -> Vec<Error> {
    let mut errors = label(text(request, "name"), &path.child("name"));
    let alternatives = list(request, &["firstAvailable"]);
    match (given(request, &["exactly"]), alternatives) {
        (None, []) => {
            errors.push(Error::required(path, "exactly one of `exactly` or `firstAvailable` is required"));
        }
        (Some(exactly), []) => {
            let at = path.child("exactly");
            let (class, class_at) = (text(exactly, "deviceClassName"), at.child("deviceClassName"));
            if class.is_empty() {
                errors.push(Error::required(&class_at, ""));
            } else {
                errors.extend(refusals(&class_at, class, content::dns_subdomain(class)));
            }
            errors.extend(validate_wish(exactly, compile, &at));
        }
        (None, alternatives) => {
            let at = path.child("firstAvailable");
            for (i, alternative) in few(alternatives, ALTERNATIVES_MAX) {
                let at = at.index(i);
                errors.extend(label(text(alternative, "name"), &at.child("name")));
                errors.extend(validate_wish(alternative, compile, &at));
            }
        }
        (Some(_), _) => {
            let detail =
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(Error::invalid(path, Bad::Raw("null".into()), detail));
        }
    }
    errors
}

/// What a request and an alternative have in common.
fn validate_wish(wish: &Value, compile: Compile<'_>, path: &Path) -> Vec<Error> {
    let mut errors = selectors(list(wish, &["selectors"]), false, compile, &path.child("selectors"));
    let (count, at) = (wish.i64_at(&["count"]).unwrap_or(0), path.child("count"));
    match text(wish, "allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.push(Error::invalid(&at, count, detail));
        }
        "ExactCount" if count <= 0 => {
            errors.push(Error::invalid(&at, count, "must be greater than zero"));
        }
        _ => {}
    }
    errors.extend(tolerations(list(wish, &["tolerations"]), &path.child("tolerations")));
    errors
}

fn validate_constraint(constraint: &Value, names: &Names<'_>, path: &Path) -> Vec<Error> {
    let mut errors = names.check_all(constraint, path);
    let set = |field| given(constraint, &[field]).is_some();
    if !set("matchAttribute") && !set("distinctAttribute") {
        let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
        errors.push(Error::required(path, detail));
    }
    errors
}
