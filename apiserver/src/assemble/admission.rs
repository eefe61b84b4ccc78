//! `--admission-control-config-file`: what plugins are configured with.
//!
//! The file names plugins, each with a configuration in the file itself or in another one. What is decoded here is checked
//! where the plugins are (`registry::admission`). A configuration of a plugin that takes none, or more than this server
//! does, is refused, so that nobody relies on it. Upstream: `k8s.io/apiserver/pkg/admission/config.go`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use component::duration::GoDuration;
use machinery::golang;
use registry::admission::image_policy_webhook::{Backend, ImagePolicyWebhook};
use registry::admission::{Chain, Configuration, enabled, is_known};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::options::Config;
use crate::outbound::endpoint::{Endpoint, TIMEOUT};
use crate::reviewers::{io_text, transient};
use crate::webhooks::accounts::{Accounts, Plugins};

const KINDS: [(&str, &str); 2] = [
    ("apiserver.config.k8s.io/v1", "AdmissionConfiguration"),
    ("apiserver.k8s.io/v1alpha1", "AdmissionConfiguration"),
];
const EVENT_RATE_LIMIT: [(&str, &str); 1] = [("eventratelimit.admission.k8s.io/v1alpha1", "Configuration")];
const POD_SECURITY: [(&str, &str); 3] = [
    ("pod-security.admission.config.k8s.io/v1", "PodSecurityConfiguration"),
    ("pod-security.admission.config.k8s.io/v1beta1", "PodSecurityConfiguration"),
    ("pod-security.admission.config.k8s.io/v1alpha1", "PodSecurityConfiguration"),
];
const TOLERATIONS: [(&str, &str); 1] =
    [("podtolerationrestriction.admission.k8s.io/v1alpha1", "Configuration")];
const QUOTA: [(&str, &str); 4] = [
    ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"),
    ("resourcequota.admission.k8s.io/v1", "Configuration"),
    ("resourcequota.admission.k8s.io/v1beta1", "Configuration"),
    ("resourcequota.admission.k8s.io/v1alpha1", "Configuration"),
];
const WEBHOOKS: [(&str, &str); 2] = [
    ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"),
    ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission"),
];

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct File {
    plugins: Option<Vec<Entry>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    name: String,
    path: String,
    configuration: Option<serde_json::Value>,
}

/// The chain of the plugins that the flags ask for, and whom webhooks see.
///
/// # Errors
/// Upstream's text for a configuration that cannot be, ours for one that is not followed.
pub(crate) fn chain(config: &Config) -> Result<(Chain, Plugins), String> {
    let names = enabled(&config.admission.enable, &config.admission.disable);
    let read = match &config.admission_file {
        Some(file) => read(file, &names).map_err(|why| format!("failed to read plugin config: {why}"))?,
        None => Read::default(),
    };
    let chain = Chain::of(&names, &read.plugins);
    Ok((chain.map_err(|why| format!("failed to initialize admission: {why}"))?, read.accounts))
}

/// What the file says.
#[derive(Default)]
struct Read {
    plugins: Configuration,
    accounts: Plugins,
}

fn read(file: &Path, names: &[&str]) -> Result<Read, String> {
    let name = file.display().to_string();
    let data = std::fs::read(file).map_err(|e| {
        format!("unable to read admission control configuration from {name:?} [open {name}: {}]", io_text(&e))
    })?;
    let entries = match decode::<File>(&data, &KINDS, true) {
        Ok(decoded) => decoded.plugins.unwrap_or_default(),
        Err(why) => legacy(&data, file, names).ok_or(why)?,
    };
    let mut read = Read::default();
    let mut seen: Vec<&str> = Vec::new();
    for entry in &entries {
        if !is_known(&entry.name) {
            return Err(format!("{name}: there is no admission plugin {:?}", entry.name));
        }
        // Of several entries the first counts, and only of plugins that are on.
        if seen.contains(&entry.name.as_str()) || !names.contains(&entry.name.as_str()) {
            continue;
        }
        seen.push(&entry.name);
        if let Some(data) = content(entry, file)? {
            configure(&mut read, &entry.name, &data)
                .map_err(|why| format!("couldn't init admission plugin {:?}: {why}", entry.name))?;
        }
    }
    Ok(read)
}

/// A file from before there were versions is the configuration of the plugins that have none still.
fn legacy(data: &[u8], file: &Path, names: &[&str]) -> Option<Vec<Entry>> {
    let keys: BTreeMap<String, serde_json::Value> = decode(data, &[], false).ok()?;
    let versioned = keys.contains_key("apiVersion") && keys.contains_key("kind");
    if versioned || !["imagePolicy", "podNodeSelectorPluginConfig"].iter().any(|key| keys.contains_key(*key))
    {
        return None;
    }
    let path = std::path::absolute(file).ok()?.display().to_string();
    let entry = |name: &&str| Entry { name: (*name).to_owned(), path: path.clone(), configuration: None };
    let unversioned = |name: &&&str| matches!(**name, "ImagePolicyWebhook" | "PodNodeSelector");
    Some(names.iter().filter(unversioned).map(entry).collect())
}

/// The configuration of an entry; a path is relative to the file.
fn content(entry: &Entry, file: &Path) -> Result<Option<Vec<u8>>, String> {
    if let Some(value) = &entry.configuration {
        return serde_json::to_vec(value).map(Some).map_err(|e| e.to_string());
    }
    if entry.path.is_empty() {
        return Ok(None);
    }
    let path: PathBuf = file.parent().unwrap_or(Path::new("")).join(&entry.path);
    let read = std::fs::read(&path).map_err(|e| {
        let path = path.display();
        format!("Couldn't open admission plugin configuration {path}: open {path}: {}", io_text(&e))
    });
    read.map(Some)
}

fn configure(read: &mut Read, plugin: &str, data: &[u8]) -> Result<(), String> {
    let into = &mut read.plugins;
    match plugin {
        "EventRateLimit" => into.event_rate_limit = decode(data, &EVENT_RATE_LIMIT, false)?,
        "ImagePolicyWebhook" => into.image_policy = Some(Arc::new(image_policy(data)?)),
        "PodNodeSelector" => into.pod_node_selector = node_selectors(data)?,
        "PodSecurity" => into.pod_security = decode(data, &POD_SECURITY, false)?,
        "PodTolerationRestriction" => into.pod_toleration_restriction = decode(data, &TOLERATIONS, false)?,
        "ResourceQuota" => into.resource_quota = decode(data, &QUOTA, false)?,
        "MutatingAdmissionWebhook" => read.accounts.mutating = webhooks(data)?,
        "ValidatingAdmissionWebhook" => read.accounts.validating = webhooks(data)?,
        "MutatingAdmissionPolicy" | "ValidatingAdmissionPolicy" => {
            return Err("policies in files are not implemented by this server".to_owned());
        }
        _ => return Err("the plugin takes no configuration".to_owned()),
    }
    Ok(())
}

/// Decodes a value of one of these kinds. Where upstream's decoder of a plugin passes over unknown fields, so does this.
fn decode<T: DeserializeOwned>(data: &[u8], kinds: &[(&str, &str)], strict: bool) -> Result<T, String> {
    let texts = |problems: &[component::config::Problem]| {
        problems.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(", ")
    };
    let decoded = component::config::decode::<T>("", data, kinds).map_err(|e| texts(&e.0))?;
    match (strict, decoded.strict_problems.as_slice()) {
        (true, problems) if !problems.is_empty() => {
            Err(format!("strict decoding error: {}", texts(problems)))
        }
        _ => Ok(decoded.value),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeSelectors {
    pod_node_selector_plugin_config: BTreeMap<String, String>,
}

fn node_selectors(data: &[u8]) -> Result<BTreeMap<String, String>, String> {
    decode::<NodeSelectors>(data, &[], false).map(|all| all.pod_node_selector_plugin_config)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Webhooks {
    kube_config_file: String,
    static_manifests_dir: String,
}

/// Upstream: `k8s.io/apiserver/pkg/admission/plugin/webhook/config/kubeconfig.go`.
fn webhooks(data: &[u8]) -> Result<Accounts, String> {
    let asked: Webhooks = decode(data, &WEBHOOKS, false)?;
    if !asked.static_manifests_dir.is_empty() {
        return Err("staticManifestsDir is not implemented by this server".into());
    }
    let file = Path::new(&asked.kube_config_file);
    if asked.kube_config_file.is_empty() {
        return Ok(Accounts::default());
    }
    if file.is_relative() {
        let given = golang::quote(&asked.kube_config_file);
        return Err(format!("kubeConfigFile: Invalid value: {given}: must be an absolute file path"));
    }
    Accounts::load(file)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ImagePolicyFile {
    image_policy: ImagePolicy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ImagePolicy {
    kube_config_file: PathBuf,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    retry_backoff: i64,
    default_allow: bool,
}

/// The way to the server that reviews images.
struct Images {
    endpoint: Endpoint,
    backoff: Duration,
}

#[async_trait]
impl Backend for Images {
    async fn ask(&self, review: Bytes) -> Result<Bytes, String> {
        self.endpoint.post(review, self.backoff, transient).await
    }
}

fn image_policy(data: &[u8]) -> Result<ImagePolicyWebhook, String> {
    let asked = decode::<ImagePolicyFile>(data, &[], false)?.image_policy;
    const MILLI: GoDuration = GoDuration(1_000_000);
    const SECOND: GoDuration = GoDuration::from_secs(1);
    let half_hour = GoDuration::from_secs(1800);
    let backoff = span(
        MILLI,
        asked.retry_backoff,
        (GoDuration(1), GoDuration::from_secs(300)),
        GoDuration(500_000_000),
    )?;
    let allow = span(SECOND, asked.allow_ttl, (SECOND, half_hour), GoDuration::from_secs(300))?;
    let deny = span(SECOND, asked.deny_ttl, (SECOND, half_hour), GoDuration::from_secs(30))?;
    let endpoint = Endpoint::load(&asked.kube_config_file, TIMEOUT)?;
    let backend = Box::new(Images { endpoint, backoff });
    Ok(ImagePolicyWebhook::new(backend, (allow, deny), asked.default_allow))
}

/// A time in units; 0 for the default, -1 for none. Upstream: `normalizeConfigDuration`.
fn span(
    unit: GoDuration,
    units: i64,
    (least, most): (GoDuration, GoDuration),
    default: GoDuration,
) -> Result<Duration, String> {
    let value = match units {
        -1 => return Ok(Duration::ZERO),
        0 => return Ok(default.to_std()),
        units => GoDuration(units.wrapping_mul(unit.0)),
    };
    if value < least || value > most {
        return Err(format!("valid value is between {least} and {most}, got {value}"));
    }
    Ok(value.to_std())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome of a file under a name, among others.
    fn load(text: &str, others: &[(&str, &str)]) -> Result<Configuration, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in others.iter().chain(&[("config.yaml", text)]) {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let names = [
            "PodNodeSelector",
            "PodSecurity",
            "EventRateLimit",
            "ResourceQuota",
            "ValidatingAdmissionWebhook",
            "Priority",
        ];
        read(&dir.path().join("config.yaml"), &names).map(|read| read.plugins)
    }

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";

    #[test]
    fn inline_and_by_path() {
        let text = format!(
            "{HEAD}- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    \
             kind: PodSecurityConfiguration\n    defaults: {{enforce: baseline, enforce-version: v1.30}}\n    \
             exemptions: {{namespaces: [kube-system], runtimeClasses: [r]}}\n- name: EventRateLimit\n  path: events.yaml\n\
             - name: PodNodeSelector\n  path: nodes.yaml\n- name: EventRateLimit\n  path: none.yaml\n\
             - name: AlwaysPullImages\n  path: none.yaml\n- name: ResourceQuota\n  configuration:\n    \
             apiVersion: apiserver.config.k8s.io/v1\n    kind: ResourceQuotaConfiguration\n    limitedResources:\n    \
             - {{resource: pods, matchScopes: [{{scopeName: PriorityClass, operator: In, values: [a]}}]}}\n"
        );
        let events = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits:\n- {type: Server, qps: 1, burst: 2}\n";
        let nodes = "podNodeSelectorPluginConfig:\n  clusterDefaultNodeSelector: a=b\n";
        let all = load(&text, &[("events.yaml", events), ("nodes.yaml", nodes)]).unwrap();
        assert_eq!(all.pod_security.defaults.enforce_version, "v1.30");
        assert_eq!(all.pod_security.exemptions.runtime_classes, ["r"]);
        assert_eq!(all.event_rate_limit.limits[0].burst, 2);
        assert_eq!(all.pod_node_selector["clusterDefaultNodeSelector"], "a=b");
        assert_eq!(all.resource_quota.limited_resources[0].match_scopes[0].scope_name, "PriorityClass");
    }

    #[test]
    fn refused() {
        let of = |plugins: &str| load(&format!("{HEAD}{plugins}"), &[]).map(drop).unwrap_err();
        assert!(of("- name: Foo\n").ends_with("there is no admission plugin \"Foo\""));
        assert_eq!(
            of("- name: Priority\n  configuration: {}\n"),
            "couldn't init admission plugin \"Priority\": the plugin takes no configuration"
        );
        let webhook = "- name: ValidatingAdmissionWebhook\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    \
                       kind: WebhookAdmissionConfiguration\n    kubeConfigFile: ";
        assert!(of(&format!("{webhook}/none\n")).contains("No such file"));
        assert!(
            of(&format!("{webhook}x\n"))
                .ends_with("kubeConfigFile: Invalid value: \"x\": must be an absolute file path")
        );
        assert!(of("- name: PodSecurity\n  path: none.yaml\n").contains("no such file or directory"));
        assert!(of("- name: PodSecurity\n  odd: 1\n").starts_with("strict decoding error: unknown field"));
        assert!(load("kind: Foo", &[]).is_err());
        assert!(
            of("- name: PodSecurity\n  configuration: {apiVersion: v1, kind: Pod}\n").contains("PodSecurity")
        );
    }

    #[test]
    fn files_without_a_version() {
        let all = load("podNodeSelectorPluginConfig:\n  n: a=b\n", &[]).unwrap();
        assert_eq!(all.pod_node_selector["n"], "a=b");
    }

    #[test]
    fn times() {
        let second = GoDuration::from_secs(1);
        let span =
            |units| span(second, units, (second, GoDuration::from_secs(1800)), GoDuration::from_secs(30));
        assert_eq!(span(0), Ok(Duration::from_secs(30)));
        assert_eq!(span(-1), Ok(Duration::ZERO));
        assert_eq!(span(5), Ok(Duration::from_secs(5)));
        assert_eq!(span(1801).unwrap_err(), "valid value is between 1s and 30m0s, got 30m1s");
    }
}
