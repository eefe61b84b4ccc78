//! Webhook configurations. Upstream: `pkg/apis/admissionregistration/validation/validation.go`.
//!
//! Both kinds of webhook have the same fields but for one, so they are validated in one form. Expressions are compiled by
//! the caller, who knows what they may name.

use std::collections::HashSet;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::field::{Bad, Error, Path};
use super::objectmeta::{name_is_subdomain, validate_label_selector, validate_object_meta};
use super::{content, items, supported};

/// Versions of AdmissionReview that webhooks may be sent, preferred first.
pub const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// Ends the names of configurations that come from files of the server, not from the API.
const STATIC_SUFFIX: &str = ".static.k8s.io";
/// Questions about users, which no webhook sees (upstream's `exclusion.Excluded`).
pub const EXCLUDED: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// A configuration of either kind: its metadata and its webhooks, validating ones without a reinvocation policy.
pub struct Webhooks {
    metadata: ObjectMeta,
    webhooks: Vec<MutatingWebhook>,
    /// Which of them say that their side effects are the empty text: typed objects do not tell it from nothing.
    empty_effects: Vec<usize>,
}

impl Webhooks {
    /// The same, with the webhooks named whose side effects are an empty text.
    pub fn with_empty_effects(self, empty_effects: Vec<usize>) -> Self {
        Webhooks { empty_effects, ..self }
    }
}

impl From<MutatingWebhookConfiguration> for Webhooks {
    fn from(c: MutatingWebhookConfiguration) -> Self {
        Webhooks { metadata: c.metadata, webhooks: c.webhooks.unwrap_or_default(), empty_effects: Vec::new() }
    }
}

impl From<ValidatingWebhookConfiguration> for Webhooks {
    fn from(c: ValidatingWebhookConfiguration) -> Self {
        let webhooks = c.webhooks.unwrap_or_default().into_iter().map(common).collect();
        Webhooks { metadata: c.metadata, webhooks, empty_effects: Vec::new() }
    }
}

fn common(w: ValidatingWebhook) -> MutatingWebhook {
    MutatingWebhook {
        admission_review_versions: w.admission_review_versions,
        client_config: w.client_config,
        failure_policy: w.failure_policy,
        match_conditions: w.match_conditions,
        match_policy: w.match_policy,
        name: w.name,
        namespace_selector: w.namespace_selector,
        object_selector: w.object_selector,
        reinvocation_policy: None,
        rules: w.rules,
        side_effects: w.side_effects,
        timeout_seconds: w.timeout_seconds,
    }
}

/// Compiles a condition; the second argument tells whether it was stored before.
pub type Compile<'a> = &'a dyn Fn(&str, bool) -> Result<(), String>;

/// What an update may keep because it was there before.
#[derive(Clone, Copy)]
struct Strictness<'a> {
    match_conditions: bool,
    /// Expressions that were stored before.
    stored: &'a [&'a str],
    no_side_effects: bool,
    known_review_version: bool,
    unique_names: bool,
    label_values: bool,
}

const STRICT: Strictness<'static> = Strictness {
    match_conditions: true,
    stored: &[],
    no_side_effects: true,
    known_review_version: true,
    unique_names: true,
    label_values: true,
};

/// A new configuration.
pub fn validate(new: &Webhooks, compile: Compile<'_>) -> Vec<Error> {
    let mut errors = validate_all(new, STRICT, compile);
    errors.extend(static_name(new.metadata.name.as_deref().unwrap_or_default()));
    errors
}

/// `ValidateStaticSuffix`
pub(super) fn static_name(name: &str) -> Option<Error> {
    let metadata = Path::new("metadata");
    let at = metadata.child("name");
    name.ends_with(STATIC_SUFFIX).then(|| Error::invalid(&at, name, static_text()))
}

fn static_text() -> String {
    format!(
        "names ending with {STATIC_SUFFIX:?} are reserved for static manifest-based configurations and cannot be managed via the API"
    )
}

/// `WarningsForStaticSuffix`
pub(super) fn static_warning(name: &str) -> Option<String> {
    name.ends_with(STATIC_SUFFIX).then(|| format!("metadata.name: {}", static_text()))
}

/// A changed configuration.
pub fn validate_update(new: &Webhooks, old: &Webhooks, compile: Compile<'_>) -> Vec<Error> {
    let all = |check: &dyn Fn(&MutatingWebhook) -> bool| old.webhooks.iter().all(check);
    let mut names = HashSet::new();
    let conditions = |w: &Webhooks| -> Vec<Option<Vec<MatchCondition>>> {
        w.webhooks.iter().map(|h| h.match_conditions.clone()).collect()
    };
    let all_conditions = old.webhooks.iter().flat_map(|h| items(&h.match_conditions));
    let stored: Vec<&str> = all_conditions.map(|c| c.expression.as_str()).collect();
    let strictness = Strictness {
        match_conditions: conditions(new) != conditions(old),
        stored: &stored,
        no_side_effects: all(&|h| NO_SIDE_EFFECTS.contains(&h.side_effects.as_str())),
        known_review_version: all(&|h| {
            let versions = &h.admission_review_versions;
            versions.is_empty() || versions.iter().any(|v| REVIEW_VERSIONS.contains(&v.as_str()))
        }),
        unique_names: old.webhooks.iter().all(|h| names.insert(h.name.as_str())),
        label_values: all(&|h| {
            let fine =
                |s: &Option<LabelSelector>| validate_label_selector(s.as_ref(), &Path::ROOT).is_empty();
            fine(&h.namespace_selector) && fine(&h.object_selector)
        }),
    };
    validate_all(new, strictness, compile)
}

/// What upstream warns about: reserved names (on update), rules for resources that no webhook sees.
pub fn warnings(new: &Webhooks, update: bool) -> Vec<String> {
    let name = new.metadata.name.as_deref().unwrap_or_default();
    let mut out: Vec<String> = static_warning(name).filter(|_| update).into_iter().collect();
    for (i, hook) in new.webhooks.iter().enumerate() {
        for (j, rule) in items(&hook.rules).iter().enumerate() {
            for named in excluded_by(rule) {
                out.push(format!(
                    "webhooks[{i}].rules[{j}]: {named} is excluded from admission webhooks; this rule will have no effect"
                ));
            }
        }
    }
    out
}

/// The excluded resources a rule names without wildcard, each once.
fn excluded_by(rule: &RuleWithOperations) -> Vec<String> {
    let (groups, resources) = (items(&rule.api_groups), items(&rule.resources));
    let mut out = Vec::new();
    if groups.iter().chain(resources).any(|text| text == "*") {
        return out;
    }
    for group in groups {
        for resource in resources {
            let named = format!("{resource}.{group}");
            if EXCLUDED.contains(&(group, resource)) && !out.contains(&named) {
                out.push(named);
            }
        }
    }
    out
}

fn validate_all(new: &Webhooks, strictness: Strictness<'_>, compile: Compile<'_>) -> Vec<Error> {
    let mut errors = validate_object_meta(&new.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let mut names = HashSet::new();
    let webhooks = Path::new("webhooks");
    for (i, hook) in new.webhooks.iter().enumerate() {
        let path = webhooks.index(i);
        let told = !hook.side_effects.is_empty() || new.empty_effects.contains(&i);
        errors.extend(validate_webhook(hook, told, strictness, &path));
        if strictness.match_conditions {
            let at = path.child("matchConditions");
            let conditions = items(&hook.match_conditions);
            errors.extend(validate_match_conditions(conditions, strictness.stored, compile, &at));
        }
        errors.extend(review_versions(
            &hook.admission_review_versions,
            strictness.known_review_version,
            &path.child("admissionReviewVersions"),
        ));
        if strictness.unique_names && !hook.name.is_empty() && !names.insert(hook.name.as_str()) {
            errors.push(Error::duplicate(&path.child("name"), &hook.name));
        }
    }
    errors
}

const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];

/// `validateMatchConditions`
pub fn validate_match_conditions(
    conditions: &[MatchCondition],
    stored: &[&str],
    compile: Compile<'_>,
    path: &Path,
) -> Vec<Error> {
    const MOST: usize = 64;
    let mut errors = Vec::new();
    if conditions.len() > MOST {
        errors.push(Error::too_many(path, conditions.len(), MOST));
    }
    let mut names = HashSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        let expression = condition.expression.trim();
        let field = at.child("expression");
        if expression.is_empty() {
            errors.push(Error::required(&field, ""));
        } else if let Err(why) = compile(expression, stored.contains(&expression)) {
            errors.push(Error::invalid(&field, expression, why));
        }
        let field = at.child("name");
        if condition.name.is_empty() {
            errors.push(Error::required(&field, ""));
            continue;
        }
        let refusals = content::qualified_name(&condition.name);
        errors.extend(refusals.into_iter().map(|m| Error::invalid(&field, &condition.name, m)));
        if !names.insert(condition.name.as_str()) {
            errors.push(Error::duplicate(&field, &condition.name));
        }
    }
    errors
}

/// `effects_told` says whether side effects are told, if only as an empty text.
fn validate_webhook(
    hook: &MutatingWebhook,
    effects_told: bool,
    strictness: Strictness<'_>,
    path: &Path,
) -> Vec<Error> {
    let mut errors = fully_qualified(&hook.name, &path.child("name"));
    let rules = path.child("rules");
    for (i, rule) in items(&hook.rules).iter().enumerate() {
        errors.extend(validate_rule(rule, &rules.index(i)));
    }
    let mut one_of = |value: &Option<String>, field: &str, known: &[&str]| {
        if let Some(value) = value {
            errors.extend(supported(value, known, &path.child(field)));
        }
    };
    one_of(&hook.failure_policy, "failurePolicy", &["Fail", "Ignore"]);
    one_of(&hook.match_policy, "matchPolicy", &["Equivalent", "Exact"]);
    let effects = if strictness.no_side_effects { &NO_SIDE_EFFECTS[..] } else { &SIDE_EFFECTS[..] };
    let at = path.child("sideEffects");
    match effects_told {
        true => errors.extend(supported(&hook.side_effects, effects, &at)),
        false => errors.push(Error::required(&at, format!("must specify one of {}", effects.join(", ")))),
    }
    if let Some(seconds) = hook.timeout_seconds.filter(|s| !(1..=30).contains(s)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(Error::invalid(&path.child("timeoutSeconds"), seconds, detail));
    }
    for (selector, field) in
        [(&hook.namespace_selector, "namespaceSelector"), (&hook.object_selector, "objectSelector")]
    {
        let found = validate_label_selector(selector.as_ref(), &path.child(field));
        // Values of expressions may stay as bad as they were.
        let kept = |e: &Error| strictness.label_values || !e.field.contains(".values[");
        errors.extend(found.into_iter().filter(kept));
    }
    if let Some(policy) = &hook.reinvocation_policy {
        errors.extend(supported(policy, &["IfNeeded", "Never"], &path.child("reinvocationPolicy")));
    }
    errors.extend(client_config(&hook.client_config, &path.child("clientConfig")));
    errors
}

/// `IsFullyQualifiedName`
fn fully_qualified(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let refusals = content::dns_subdomain(name);
    if !refusals.is_empty() {
        return vec![Error::invalid(path, name, refusals.join(","))];
    }
    if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        return vec![Error::invalid(path, name, detail)];
    }
    Vec::new()
}

fn has_wildcard(texts: &[String]) -> bool {
    texts.len() > 1 && texts.iter().any(|t| t == "*")
}

pub(super) fn validate_rule(rule: &RuleWithOperations, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let operations = items(&rule.operations);
    let at = path.child("operations");
    if operations.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    if has_wildcard(operations) {
        let detail = "if '*' is present, must not specify other operations";
        errors.push(Error::invalid(&at, Bad::json(&operations), detail));
    }
    for (i, operation) in operations.iter().enumerate() {
        errors.extend(supported(operation, &OPERATIONS, &at.index(i)));
    }
    for (texts, field, what) in [
        (items(&rule.api_groups), "apiGroups", "API groups"),
        (items(&rule.api_versions), "apiVersions", "API versions"),
    ] {
        let at = path.child(field);
        if texts.is_empty() {
            errors.push(Error::required(&at, ""));
        }
        if has_wildcard(texts) {
            let detail = format!("if '*' is present, must not specify other {what}");
            errors.push(Error::invalid(&at, Bad::json(&texts), detail));
        }
    }
    let at = path.child("apiVersions");
    for (i, _) in items(&rule.api_versions).iter().enumerate().filter(|(_, v)| v.is_empty()) {
        errors.push(Error::required(&at.index(i), ""));
    }
    errors.extend(resources(items(&rule.resources), &path.child("resources")));
    if let Some(scope) = &rule.scope {
        errors.extend(supported(scope, &SCOPES, &path.child("scope")));
    }
    errors
}

/// Resources and subresources, without ones that another already covers.
fn resources(all: &[String], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if all.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let (mut any_sub_of, mut any_with_sub) = (HashSet::new(), HashSet::new());
    let (mut double, mut single, mut plain) = (false, false, false);
    for (i, text) in all.iter().enumerate() {
        if text.is_empty() {
            errors.push(Error::required(&path.index(i), ""));
            continue;
        }
        double |= text == "*/*";
        single |= text == "*";
        let Some((resource, sub)) = text.split_once('/') else {
            // Upstream looks at the last one only.
            plain = text != "*";
            continue;
        };
        if any_sub_of.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(Error::invalid(&path.index(i), text, detail));
        }
        if any_with_sub.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            errors.push(Error::invalid(&path.index(i), text, detail));
        }
        if sub == "*" {
            any_sub_of.insert(resource);
        }
        if resource == "*" {
            any_with_sub.insert(sub);
        }
    }
    if all.len() > 1 && double {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(Error::invalid(path, Bad::json(&all), detail));
    }
    if single && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(Error::invalid(path, Bad::json(&all), detail));
    }
    errors
}

fn review_versions(versions: &[String], known_required: bool, path: &Path) -> Vec<Error> {
    if versions.is_empty() {
        return vec![Error::required(path, format!("must specify one of {}", REVIEW_VERSIONS.join(", ")))];
    }
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, version) in versions.iter().enumerate() {
        if !seen.insert(version.as_str()) {
            errors.push(Error::invalid(&path.index(i), version, "duplicate version"));
            continue;
        }
        let refusals = content::dns1035_label(version);
        errors.extend(refusals.into_iter().map(|m| Error::invalid(&path.index(i), version, m)));
    }
    if known_required && !REVIEW_VERSIONS.iter().any(|v| seen.contains(v)) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(Error::invalid(path, Bad::json(&versions), detail));
    }
    errors
}

fn client_config(config: &WebhookClientConfig, path: &Path) -> Vec<Error> {
    match (&config.url, &config.service) {
        (None, None) | (Some(_), Some(_)) => {
            vec![Error::required(path, "exactly one of url or service is required")]
        }
        (Some(url), None) => webhook_url(url, &path.child("url")),
        (None, Some(service)) => {
            // Upstream's caller passes name and namespace the other way round, so each is named as the other.
            let port = i64::from(service.port.unwrap_or(443));
            let at = path.child("service");
            webhook_service(&service.name, &service.namespace, service.path.as_deref(), port, &at)
        }
    }
}

const FORM: &str = "; desired format: https://host[/path]";

/// `ValidateWebhookURL`, with HTTPS demanded.
pub fn webhook_url(url: &str, path: &Path) -> Vec<Error> {
    if let Some(why) = unparsable(url) {
        let detail = format!("url must be a valid URL: parse {url:?}: {why}{FORM}");
        return vec![Error::required(path, detail)];
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').filter(|(s, _)| is_scheme(s)).unwrap_or(("", rest));
    let authority = rest.strip_prefix("//").map_or("", |r| r.split('/').next().unwrap_or_default());
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let mut errors = Vec::new();
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" {
        errors.push(Error::invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    if host.is_empty() {
        errors.push(Error::invalid(path, host, format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        errors.push(Error::invalid(path, user, "user information is not permitted in the URL"));
    }
    if !fragment.is_empty() {
        errors.push(Error::invalid(path, fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        errors.push(Error::invalid(path, query, "query parameters are not permitted in the URL"));
    }
    errors
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Why Go's `url.Parse` takes no such text, as far as it can happen in a field a person writes.
fn unparsable(url: &str) -> Option<String> {
    if url.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Some("net/url: invalid control character in URL".into());
    }
    if url.starts_with(':') {
        return Some("missing protocol scheme".into());
    }
    let first = url.split(['/', '?', '#']).next().unwrap_or_default();
    let scheme = first.split_once(':').map(|(s, _)| s);
    if scheme.is_some_and(|s| !is_scheme(s)) {
        return Some("first path segment in URL cannot contain colon".into());
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let path = rest.split('?').next().unwrap_or_default();
    [path, fragment].into_iter().find_map(bad_escape)
}

/// What stands where two hexadecimal digits should follow a percent sign.
fn bad_escape(text: &str) -> Option<String> {
    let hex = |c: char| c.is_ascii_hexdigit();
    let after = |at: usize| text.get(at..).unwrap_or_default();
    let signs = text.match_indices('%').map(|(at, _)| after(at));
    let bad = signs.into_iter().find(|s| s.chars().skip(1).take(2).filter(|c| hex(*c)).count() < 2)?;
    let shown: String = bad.chars().take(3).collect();
    Some(format!("invalid URL escape {shown:?}"))
}

/// `ValidateWebhookService`
pub fn webhook_service(
    namespace: &str,
    name: &str,
    url_path: Option<&str>,
    port: i64,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    if namespace.is_empty() {
        errors.push(Error::required(&path.child("namespace"), ""));
    }
    let refusals = content::port_number(port);
    if !refusals.is_empty() {
        let detail = format!("port is not valid: {}", refusals.join(", "));
        errors.push(Error::invalid(&path.child("port"), port, detail));
    }
    let at = path.child("path");
    match url_path {
        None | Some("" | "/") => {}
        Some(text @ "//") => errors.push(Error::invalid(&at, text, "segment[0] may not be empty")),
        Some(text) => errors.extend(segments(text, &at)),
    }
    errors
}

fn segments(text: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if !text.starts_with('/') {
        errors.push(Error::invalid(path, text, "must start with a '/'"));
    }
    // Whatever the first character is, it is skipped.
    let mut rest = text.chars();
    rest.next();
    let rest = rest.as_str();
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.push(Error::invalid(path, text, format!("segment[{i}] may not be empty")));
            continue;
        }
        let refusals = content::dns_subdomain(step);
        errors.extend(refusals.into_iter().map(|m| Error::invalid(path, text, format!("segment[{i}]: {m}"))));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: Vec<Error>) -> Vec<String> {
        errors.iter().map(|e| format!("{}: {}", e.field, e.body())).collect()
    }

    #[test]
    fn urls() {
        let check = |url: &str| texts(webhook_url(url, &Path::new("url")));
        assert!(check("https://host:8443/a/b%20").is_empty());
        assert_eq!(
            check("100%"),
            [
                "url: Required value: url must be a valid URL: parse \"100%\": invalid URL escape \"%\"; desired format: https://host[/path]"
            ]
        );
        assert_eq!(
            check("http://u:p@/x?a=b#c"),
            [
                "url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "url: Invalid value: \"\": host must be specified; desired format: https://host[/path]",
                "url: Invalid value: \"u:p\": user information is not permitted in the URL",
                "url: Invalid value: \"c\": fragments are not permitted in the URL",
                "url: Invalid value: \"a=b\": query parameters are not permitted in the URL",
            ]
        );
    }

    #[test]
    fn resource_lists() {
        let check = |all: &[&str]| {
            let all: Vec<String> = all.iter().map(|s| (*s).to_owned()).collect();
            texts(resources(&all, &Path::new("r")))
        };
        assert!(check(&["*", "pods/exec"]).is_empty());
        assert_eq!(check(&["pods/*", "pods/log"]).len(), 1);
        assert_eq!(
            check(&["*", "pods"]),
            [
                r#"r: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources without subresources"#
            ]
        );
        assert_eq!(check(&["*/*", "a"]).len(), 1);
    }

    #[test]
    fn paths() {
        let check = |p: &str| texts(webhook_service("ns", "n", Some(p), 443, &Path::new("s")));
        assert!(check("/a/b/").is_empty());
        assert_eq!(check("a//b")[0], "s.path: Invalid value: \"a//b\": must start with a '/'");
    }
}
