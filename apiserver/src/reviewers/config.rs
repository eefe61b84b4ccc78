//! `--authorization-config`: authorizers and their order, webhooks with conditions among them.
//! Upstream: `pkg/kubeapiserver/authorizer/config.go` `LoadAndValidateData`, apiserver's
//! `pkg/apis/apiserver/validation/validation.go` `ValidateAuthorizationConfiguration`.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use api::validation::content::dns_subdomain;
use api::validation::field::{Bad, Error, Path, aggregate};
use cel::Program;
use component::duration::GoDuration;
use serde::Deserialize;

use super::access::Settings;
use super::access::conditions::{Conditions, compile};
use super::access::question::Version;

const KINDS: [(&str, &str); 3] = [
    ("apiserver.config.k8s.io/v1", "AuthorizationConfiguration"),
    ("apiserver.config.k8s.io/v1beta1", "AuthorizationConfiguration"),
    ("apiserver.config.k8s.io/v1alpha1", "AuthorizationConfiguration"),
];
/// Sorted, as upstream lists them.
const TYPES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const MAX_CONDITIONS: usize = 64;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct File {
    authorizers: Option<Vec<Written>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Written {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    webhook: Option<WrittenWebhook>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenWebhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<GoDuration>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<GoDuration>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<GoDuration>,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    match_conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Connection {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    expression: String,
}

/// One authorizer.
#[derive(Debug)]
pub(crate) struct Configured {
    /// `Node`, `RBAC`, `ABAC`, `AlwaysAllow`, `AlwaysDeny` or `Webhook`.
    pub(crate) kind: String,
    pub(crate) name: String,
    /// Of those of type Webhook.
    pub(crate) webhook: Option<Webhook>,
}

/// Where a webhook is, and how it is asked.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) timeout: Duration,
    pub(crate) settings: Settings,
}

impl Configured {
    /// An authorizer without settings, named as upstream names it.
    pub(crate) fn plain(mode: &str) -> Self {
        Self { kind: mode.to_owned(), name: mode.to_ascii_lowercase(), webhook: None }
    }
}

/// Reads and checks a configuration, in which all types of `required` must be.
///
/// # Errors
/// Upstream's texts.
pub(crate) fn parse(data: &[u8], required: &[String]) -> Result<Vec<Configured>, String> {
    let file =
        decode(data).map_err(|why| format!("failed to load AuthorizationConfiguration from file: {why}"))?;
    let mut errors = Vec::new();
    let written = file.authorizers.unwrap_or_default();
    let root = Path::new("authorizers");
    if written.is_empty() {
        errors.push(Error::required(&root, "at least one authorization mode must be defined"));
    }
    let mut out: Vec<Configured> = Vec::new();
    let (mut types, mut names): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (index, one) in written.iter().enumerate() {
        let at = root.index(index);
        if !check_type(&one.kind, &mut types, &at, &mut errors) {
            continue;
        }
        check_name(&one.name, &mut names, &at, &mut errors);
        let webhook = webhook(one, &at, &mut errors);
        out.push(Configured { kind: one.kind.clone(), name: one.name.clone(), webhook });
    }
    if !errors.is_empty() {
        return Err(aggregate(&errors));
    }
    check_modes(&out, required)?;
    Ok(out)
}

fn decode(data: &[u8]) -> Result<File, String> {
    let texts = |problems: &[component::config::Problem]| {
        problems.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(", ")
    };
    let decoded = component::config::decode::<File>("", data, &KINDS).map_err(|e| texts(&e.0))?;
    match decoded.strict_problems.as_slice() {
        [] => Ok(decoded.value),
        problems => Err(format!("strict decoding error: {}", texts(problems))),
    }
}

fn check_type<'a>(kind: &'a str, seen: &mut Vec<&'a str>, path: &Path, errors: &mut Vec<Error>) -> bool {
    let at = path.child("type");
    let wrong = match kind {
        "" => Error::required(&at, ""),
        kind if !TYPES.contains(&kind) => Error::not_supported(&at, kind, &TYPES),
        kind if kind != "Webhook" && seen.contains(&kind) => Error::duplicate(&at, kind),
        kind => {
            seen.push(kind);
            return true;
        }
    };
    errors.push(wrong);
    false
}

fn check_name<'a>(name: &'a str, seen: &mut Vec<&'a str>, path: &Path, errors: &mut Vec<Error>) {
    let at = path.child("name");
    let refusals = dns_subdomain(name);
    if name.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if seen.contains(&name) {
        errors.push(Error::duplicate(&at, name));
    } else if !refusals.is_empty() {
        let text = format!("authorizer name is invalid: {}", refusals.join(", "));
        errors.push(Error::invalid(&at, name, text));
    }
    seen.push(name);
}

/// What flags could not say either: other names, and authorizers that are missing.
fn check_modes(all: &[Configured], required: &[String]) -> Result<(), String> {
    let plain = || all.iter().filter(|a| a.kind != "Webhook");
    let mut errors: Vec<String> = plain()
        .map(|a| (a, a.kind.to_ascii_lowercase()))
        .filter(|(a, expected)| a.name != *expected)
        .map(|(a, expected)| {
            format!("expected name {expected} for authorizer {} instead of {}", a.kind, a.name)
        })
        .collect();
    let mut missing: Vec<&str> =
        required.iter().map(String::as_str).filter(|r| !plain().any(|a| a.kind == *r)).collect();
    missing.sort_unstable();
    if !missing.is_empty() {
        errors.push(format!("missing required types: [{}]", missing.join(" ")));
    }
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(format!("[{}]", errors.join(", "))),
    }
}

/// The settings of a webhook; `None` where there are none, or problems were added.
fn webhook(one: &Written, path: &Path, errors: &mut Vec<Error>) -> Option<Webhook> {
    let at = path.child("webhook");
    match (&one.webhook, one.kind == "Webhook") {
        (None, true) => errors.push(Error::required(&at, "required when type=Webhook")),
        (Some(_), false) => {
            errors.push(Error::invalid(&at, "non-null", "may only be specified when type=Webhook"));
        }
        (None, false) => {}
        (Some(webhook), true) => return checked(webhook, path, errors),
    }
    None
}

fn checked(webhook: &WrittenWebhook, path: &Path, errors: &mut Vec<Error>) -> Option<Webhook> {
    let before = errors.len();
    let unset = GoDuration::default();
    let timeout = webhook.timeout.unwrap_or(unset);
    let at = path.child("timeout");
    if timeout == unset {
        errors.push(Error::required(&at, ""));
    } else if timeout < unset || timeout > GoDuration::from_secs(30) {
        errors.push(Error::invalid(&at, timeout.to_string(), "must be > 0s and <= 30s"));
    }
    let authorized = ttl(webhook.authorized_ttl, 300, &path.child("authorizedTTL"), errors);
    let unauthorized = ttl(webhook.unauthorized_ttl, 30, &path.child("unauthorizedTTL"), errors);
    let version = version(webhook, path, errors);
    let at = path.child("failurePolicy");
    match webhook.failure_policy.as_str() {
        "" => errors.push(Error::required(&at, "")),
        "NoOpinion" | "Deny" => {}
        other => errors.push(Error::not_supported(&at, other, &["NoOpinion", "Deny"])),
    }
    let kubeconfig = connection(&webhook.connection_info, path, errors);
    let conditions = conditions(webhook.match_conditions.as_deref().unwrap_or_default(), path, errors);
    if errors.len() > before {
        return None;
    }
    let kept = |keep: Option<bool>, ttl: Duration| if keep.unwrap_or(true) { ttl } else { Duration::ZERO };
    Some(Webhook {
        kubeconfig: kubeconfig?,
        timeout: timeout.to_std(),
        settings: Settings {
            version: version?,
            ttl: (
                kept(webhook.cache_authorized_requests, authorized),
                kept(webhook.cache_unauthorized_requests, unauthorized),
            ),
            denies_on_failure: webhook.failure_policy == "Deny",
            conditions: Conditions::new(conditions),
        },
    })
}

fn ttl(written: Option<GoDuration>, default: i64, path: &Path, errors: &mut Vec<Error>) -> Duration {
    let unset = GoDuration::default();
    let ttl = written.filter(|d| *d != unset).unwrap_or(GoDuration::from_secs(default));
    if ttl < unset {
        errors.push(Error::invalid(path, ttl.to_string(), "must be > 0s"));
    }
    ttl.to_std()
}

fn version(webhook: &WrittenWebhook, path: &Path, errors: &mut Vec<Error>) -> Option<Version> {
    let at = path.child("subjectAccessReviewVersion");
    let text = webhook.subject_access_review_version.as_str();
    let version = Version::parse(text);
    match (text, version) {
        ("", _) => errors.push(Error::required(&at, "")),
        (_, Some(_)) => {}
        (other, None) => errors.push(Error::not_supported(&at, other, &["v1", "v1beta1"])),
    }
    let at = path.child("matchConditionSubjectAccessReviewVersion");
    let any = webhook.match_conditions.as_ref().is_some_and(|c| !c.is_empty());
    match webhook.match_condition_subject_access_review_version.as_str() {
        "" if any => errors.push(Error::required(&at, "required if match conditions are specified")),
        "" | "v1" => {}
        other => errors.push(Error::not_supported(&at, other, &["v1"])),
    }
    version
}

fn connection(info: &Connection, path: &Path, errors: &mut Vec<Error>) -> Option<PathBuf> {
    let at = path.child("connectionInfo");
    let (kind, file_at) = (at.child("type"), at.child("kubeConfigFile"));
    let file = info.kube_config_file.as_deref();
    match (info.kind.as_str(), file) {
        ("", _) => errors.push(Error::required(&kind, "")),
        ("InClusterConfig", Some(file)) => {
            errors.push(Error::invalid(&file_at, file, "can only be set when type=KubeConfigFile"));
        }
        // Upstream's server ends with a panic.
        ("InClusterConfig", None) => {
            let text = "InClusterConfig is for servers that run in a cluster; use KubeConfigFile";
            errors.push(Error::forbidden(&kind, text));
        }
        ("KubeConfigFile", None | Some("")) => errors.push(Error::required(&file_at, "")),
        ("KubeConfigFile", Some(file)) => {
            let path = FilePath::new(file);
            match (path.is_absolute(), std::fs::metadata(path)) {
                (false, _) => errors.push(Error::invalid(&file_at, file, "must be an absolute path")),
                (true, Err(e)) => {
                    let why = super::io_text(&e);
                    let text = format!("error loading file: stat {file}: {why}");
                    errors.push(Error::invalid(&file_at, file, text));
                }
                (true, Ok(found)) if !found.is_file() => {
                    errors.push(Error::invalid(&file_at, file, "must be a regular file"));
                }
                (true, Ok(_)) => return Some(path.to_owned()),
            }
        }
        (other, _) => {
            // Upstream prints the structure.
            let shown = format!(
                "apiserver.WebhookConnectionInfo{{Type:{}, KubeConfigFile:(*string)(nil)}}",
                machinery::golang::quote(other)
            );
            let known = ["InClusterConfig", "KubeConfigFile"];
            errors.push(Error::not_supported(&kind, Bad::Raw(shown), &known));
        }
    }
    None
}

fn conditions(written: &[Condition], path: &Path, errors: &mut Vec<Error>) -> Vec<(String, Program)> {
    let root = path.child("matchConditions");
    if written.len() > MAX_CONDITIONS {
        errors.push(Error::too_many(&root, written.len(), MAX_CONDITIONS));
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in written.iter().enumerate() {
        let item = root.index(index);
        let at = item.child("expression");
        let text = condition.expression.as_str();
        if text.trim().is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        if seen.contains(&text) {
            errors.push(Error::duplicate(&at, text));
            continue;
        }
        seen.push(text);
        match compile(text) {
            Ok(program) => out.push((text.to_owned(), program)),
            Err(why) => errors.push(Error::invalid(&at, text, why)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(authorizers: &str) -> Result<Vec<Configured>, String> {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: {authorizers}"
        );
        parse(text.as_bytes(), &["RBAC".to_owned()])
    }

    #[test]
    fn accepted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let webhook = format!(
            "{{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, cacheUnauthorizedRequests: false, \
             matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{{expression: \"request.user != 'a'\"}}], \
             connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}}}",
            file.path().display()
        );
        let all =
            parsed(&format!("[{{type: Webhook, name: w, webhook: {webhook}}}, {{type: RBAC, name: rbac}}]"))
                .unwrap();
        assert_eq!((all[0].name.as_str(), all[1].kind.as_str()), ("w", "RBAC"));
        let webhook = all[0].webhook.as_ref().unwrap();
        assert_eq!(webhook.timeout, Duration::from_secs(3));
        assert_eq!(webhook.settings.ttl, (Duration::from_secs(300), Duration::ZERO));
        assert!(webhook.settings.denies_on_failure && !webhook.settings.conditions.is_empty());
    }

    #[test]
    fn refusals() {
        let check = |text: &str, want: &str| assert_eq!(parsed(text).unwrap_err(), want, "{text}");
        check("[]", "authorizers: Required value: at least one authorization mode must be defined");
        check(
            "[{type: X, name: x}, {name: y}]",
            "[authorizers[0].type: Unsupported value: \"X\": supported values: \"ABAC\", \"AlwaysAllow\", \
             \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\", authorizers[1].type: Required value]",
        );
        check(
            "[{type: Node, name: x}]",
            "[expected name node for authorizer Node instead of x, missing required types: [RBAC]]",
        );
        check(
            "[{type: RBAC, name: rbac}, {type: RBAC, name: rbac}, {type: Webhook, name: rbac}]",
            "[authorizers[1].type: Duplicate value: \"RBAC\", authorizers[2].name: Duplicate value: \"rbac\", \
             authorizers[2].webhook: Required value: required when type=Webhook]",
        );
        check(
            "[{type: Webhook, name: w, webhook: {timeout: 31s, matchConditions: [{expression: '1'}]}}]",
            "[authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s, \
             authorizers[0].subjectAccessReviewVersion: Required value, \
             authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are \
             specified, authorizers[0].failurePolicy: Required value, authorizers[0].connectionInfo.type: Required \
             value, authorizers[0].matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got \
             int]",
        );
        check(
            "[{type: RBAC, name: rbac, webhooks: 1}]",
            "failed to load AuthorizationConfiguration from file: strict decoding error: unknown field \
             \"authorizers[0].webhooks\"",
        );
    }
}
