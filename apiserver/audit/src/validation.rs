//! What a policy may say. Upstream: `k8s.io/apiserver/pkg/apis/audit/validation/validation.go`.

use api::validation::field::{Bad, Error, Path, aggregate};
use api::validation::objectmeta::name_is_subdomain;

use crate::event::{Level, Stage};
use crate::policy::{GroupResources, PolicyFile, RuleFile};

/// Checks a policy.
///
/// # Errors
/// Every wrong field.
pub(crate) fn check(policy: &PolicyFile) -> Result<(), String> {
    let mut errors = Vec::new();
    stages(policy.omit_stages.as_deref(), &Path::new("omitStages"), &mut errors);
    let rules = Path::new("rules");
    for (index, rule) in policy.rules.iter().flatten().enumerate() {
        check_rule(rule, &rules.index(index), &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(aggregate(&errors)) }
}

fn check_rule(rule: &RuleFile, path: &Path, errors: &mut Vec<Error>) {
    let level = path.child("level");
    match rule.level.as_str() {
        "" => errors.push(Error::required(&level, "")),
        text if Level::ALL.iter().any(|l| l.text() == text) => {}
        text => errors.push(Error::not_supported(&level, text, &Level::ALL.map(Level::text))),
    }
    let urls = rule.non_resource_urls.as_deref().unwrap_or_default();
    let urls_path = path.child("nonResourceURLs");
    for (index, url) in urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        let at = urls_path.index(index);
        if !url.starts_with('/') {
            let text = "non-resource URL rules must begin with a '/' character";
            errors.push(Error::invalid(&at, url, text));
        }
        if url.char_indices().any(|(i, c)| c == '*' && i + 1 < url.len()) {
            let text = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.push(Error::invalid(&at, url, text));
        }
    }
    let resources = rule.resources.as_deref().unwrap_or_default();
    resources.iter().for_each(|r| check_resources(r, &path.child("resources"), errors));
    stages(rule.omit_stages.as_deref(), &path.child("omitStages"), errors);
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    if !urls.is_empty() && (!resources.is_empty() || !namespaces.is_empty()) {
        let text = "rules cannot apply to both regular resources and non-resource URLs";
        errors.push(Error::invalid(&urls_path, Bad::json(&urls), text));
    }
}

fn check_resources(r: &GroupResources, path: &Path, errors: &mut Vec<Error>) {
    if !r.group.is_empty() && r.group != "*" {
        let refusals = name_is_subdomain(&r.group, false);
        if !refusals.is_empty() {
            let text = refusals.join(",");
            errors.push(Error::invalid(&path.child("group"), &r.group, text));
        }
    }
    let names = r.resource_names.as_deref().unwrap_or_default();
    if !names.is_empty() && r.resources.as_deref().unwrap_or_default().is_empty() {
        let text = "using resourceNames requires at least one resource";
        errors.push(Error::invalid(&path.child("resourceNames"), Bad::json(&names), text));
    }
}

fn stages(names: Option<&[String]>, path: &Path, errors: &mut Vec<Error>) {
    for (index, name) in names.unwrap_or_default().iter().enumerate() {
        if !Stage::ALL.iter().any(|s| s.text() == name) {
            let text = format!("allowed stages are {}", Stage::ALL.map(Stage::text).join(","));
            errors.push(Error::invalid(&path.index(index), name, text));
        }
    }
}
