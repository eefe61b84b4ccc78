//! Levels, versions and what a namespace asks for. Upstream: `pod-security-admission/api/helpers.go`, `admission/api`.

use std::fmt;

use ::api::validation::content;
use ::api::validation::field::{Error, Path, aggregate};
use machinery::{Map, Value};
use serde::Deserialize;

use super::PREFIX;

/// How strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }
}

const LEVELS: &str = "must be one of privileged, baseline, restricted";
const VERSIONS: &str = "must be \"latest\" or \"v1.x\"";

/// The minor version of Kubernetes whose checks are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Minor(u64),
    #[default]
    Latest,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        let minor: i64 = if plain { digits.parse().ok()? } else { return None };
        u64::try_from(minor).ok().map(Version::Minor)
    }
}

/// A level in a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl Standard {
    pub(super) const PRIVILEGED: Self = Self { level: Level::Privileged, version: Version::Latest };

    /// Whether both ask for the same.
    fn same(self, other: Self) -> bool {
        self == other || (self.level == Level::Privileged && other.level == Level::Privileged)
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// What a namespace asks for: what pods are refused for, what is recorded, what is warned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) audit: Standard,
    pub(super) warn: Standard,
}

impl Policy {
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|s| s.level == Level::Privileged)
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.enforce.same(other.enforce) && self.audit.same(other.audit) && self.warn.same(other.warn)
    }

    /// These defaults overridden by the labels of a namespace. Labels that cannot be read are errors; what is enforced is
    /// then the strictest, and nothing is recorded or warned of.
    pub(super) fn of_labels(&self, labels: Option<&Map>) -> (Self, Vec<Error>) {
        let mut policy = *self;
        let mut errors = Vec::new();
        let label = |key: &str| labels.and_then(|l| l.get(&format!("{PREFIX}{key}"))).and_then(Value::as_str);
        let mut level = |key: &str, unreadable: Level| {
            let text = label(key)?;
            let parsed = Level::parse(text);
            if parsed.is_none() {
                errors.push((format!("{PREFIX}{key}"), text.to_owned(), LEVELS));
            }
            Some((parsed.unwrap_or(unreadable), parsed.is_some()))
        };
        let enforce = level("enforce", Level::Restricted);
        let audit = level("audit", Level::Privileged);
        let warn = level("warn", Level::Privileged);
        let mut version = |key: &str| {
            let text = label(key)?;
            let parsed = Version::parse(text);
            if parsed.is_none() {
                errors.push((format!("{PREFIX}{key}"), text.to_owned(), VERSIONS));
            }
            Some(parsed.unwrap_or(Version::Latest))
        };
        let versions = (version("enforce-version"), version("audit-version"), version("warn-version"));
        let readable = enforce.is_some_and(|(_, readable)| readable);
        for (standard, level, version) in [
            (&mut policy.enforce, enforce, versions.0),
            (&mut policy.audit, audit, versions.1),
            (&mut policy.warn, warn, versions.2),
        ] {
            standard.level = level.map_or(standard.level, |(level, _)| level);
            standard.version = version.unwrap_or(standard.version);
        }
        // Who enforces more than is warned of by default is warned of it, too.
        if warn.is_none() && readable && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if versions.2.is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        // In the order of modes: the level, then the version.
        errors.sort_by_key(|(key, _, _)| {
            let mode = ["enforce", "audit", "warn"].iter().position(|m| key[PREFIX.len()..].starts_with(m));
            (mode, key.len())
        });
        let metadata = Path::new("metadata");
        let path = metadata.child("labels");
        let errors =
            errors.iter().map(|(key, text, why)| Error::invalid(&path.key(key), text.as_str(), *why));
        let errors = errors.collect();
        (policy, errors)
    }
}

/// The plugin's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// For namespaces without labels.
    pub defaults: Defaults,
    /// What is not checked.
    pub exemptions: Exemptions,
}

/// Levels and versions; empty for `privileged` and `latest`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Defaults {
    /// What pods are refused for.
    pub enforce: String,
    /// Its version.
    pub enforce_version: String,
    /// What is recorded.
    pub audit: String,
    /// Its version.
    pub audit_version: String,
    /// What is warned of.
    pub warn: String,
    /// Its version.
    pub warn_version: String,
}

/// What is not checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Exemptions {
    /// Users.
    pub usernames: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// Runtime classes of pods.
    pub runtime_classes: Vec<String>,
}

impl Configuration {
    /// The defaults, when everything is right. Upstream: `ToPolicy`, `ValidatePodSecurityConfiguration`.
    pub(super) fn check(&self) -> Result<Policy, String> {
        let mut wrong = Vec::new();
        let d = &self.defaults;
        let mut standard = |level: &str, version: &str, mode: &str| {
            let level = if level.is_empty() { Some(Level::Privileged) } else { Level::parse(level) };
            let version = if version.is_empty() { Some(Version::Latest) } else { Version::parse(version) };
            if level.is_none() {
                wrong.push(format!("{mode}: {LEVELS}"));
            }
            if version.is_none() {
                wrong.push(format!("{mode}-version: {VERSIONS}"));
            }
            Standard { level: level.unwrap_or_default(), version: version.unwrap_or_default() }
        };
        let policy = Policy {
            enforce: standard(&d.enforce, &d.enforce_version, "enforce"),
            audit: standard(&d.audit, &d.audit_version, "audit"),
            warn: standard(&d.warn, &d.warn_version, "warn"),
        };
        match wrong.as_slice() {
            [] => {}
            [one] => return Err(format!("PodSecurity configuration error: {one}")),
            all => return Err(format!("PodSecurity configuration error: [{}]", all.join(", "))),
        }
        let errors = self.exemptions.check();
        if errors.is_empty() {
            Ok(policy)
        } else {
            Err(format!("PodSecurity invalid: {}", aggregate(&errors)))
        }
    }
}

impl Exemptions {
    fn check(&self) -> Vec<Error> {
        let root = Path::new("exemptions");
        let user = |name: &str| -> Vec<String> {
            if name.is_empty() { vec!["username must not be empty".to_owned()] } else { Vec::new() }
        };
        let mut errors = Vec::new();
        let mut each = |field: &str, names: &[String], refusals: &dyn Fn(&str) -> Vec<String>| {
            let mut seen: Vec<&str> = Vec::new();
            for (index, name) in names.iter().enumerate() {
                let list = root.child(field);
                let at = list.index(index);
                let why = refusals(name);
                if !why.is_empty() {
                    errors.push(Error::invalid(&at, name.as_str(), why.join(", ")));
                } else if seen.contains(&name.as_str()) {
                    errors.push(Error::duplicate(&at, name.as_str()));
                }
                seen.push(name);
            }
        };
        each("namespaces", &self.namespaces, &content::dns_label);
        each("runtimeClasses", &self.runtime_classes, &content::dns_subdomain);
        each("usernames", &self.usernames, &user);
        errors
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `key=value` pairs without the prefix.
    fn labels(pairs: &str) -> Map {
        let value = Value::from(json!({}));
        let mut map = value.as_map().cloned().unwrap();
        for (key, value) in pairs.split_whitespace().filter_map(|pair| pair.split_once('=')) {
            map.insert(format!("{PREFIX}{key}"), value);
        }
        map
    }

    #[test]
    fn labels_over_defaults() {
        let text = |p: &Policy| format!("{} {} {}", p.enforce, p.audit, p.warn);
        let none = "privileged:latest privileged:latest privileged:latest";
        let cases = [
            ("", none, 0),
            ("enforce=baseline", "baseline:latest privileged:latest baseline:latest", 0),
            ("enforce=baseline enforce-version=v1.9", "baseline:v1.9 privileged:latest baseline:v1.9", 0),
            ("enforce=restricted warn=baseline", "restricted:latest privileged:latest baseline:latest", 0),
            ("enforce=baseline warn-version=v1.2", "baseline:latest privileged:latest baseline:v1.2", 0),
            ("enforce=x audit=y warn=z", "restricted:latest privileged:latest privileged:latest", 3),
            ("enforce-version=v1.01 audit-version=v2.1 warn-version=v1.x", none, 3),
            (
                "audit=restricted audit-version=v1.99999999999999999999",
                "privileged:latest restricted:latest privileged:latest",
                1,
            ),
        ];
        for (pairs, want, errors) in cases {
            let (policy, found) = Policy::default().of_labels(Some(&labels(pairs)));
            assert_eq!((text(&policy).as_str(), found.len()), (want, errors), "{pairs}");
        }
        let (_, found) = Policy::default().of_labels(Some(&labels("warn=z enforce-version=v1 enforce=x")));
        let fields: Vec<_> =
            found.iter().map(|e| e.field.trim_start_matches("metadata.labels").to_owned()).collect();
        assert_eq!(fields, ["enforce", "enforce-version", "warn"].map(|key| format!("[{PREFIX}{key}]")));
    }

    #[test]
    fn configurations() {
        let strict = Policy {
            enforce: Standard { level: Level::Baseline, version: Version::Minor(30) },
            ..Policy::default()
        };
        let mut configuration = Configuration::default();
        configuration.defaults.enforce = "baseline".into();
        configuration.defaults.enforce_version = "v1.30".into();
        assert_eq!(configuration.check(), Ok(strict));
        configuration.exemptions.namespaces = vec!["a".into(), "a".into(), "B".into()];
        configuration.exemptions.usernames = vec![String::new()];
        let text = configuration.check().unwrap_err();
        assert!(
            text.starts_with("PodSecurity invalid: [exemptions.namespaces[1]: Duplicate value: \"a\", "),
            "{text}"
        );
        configuration.defaults.warn = "none".into();
        assert_eq!(
            configuration.check().unwrap_err(),
            format!("PodSecurity configuration error: warn: {LEVELS}")
        );
    }
}
