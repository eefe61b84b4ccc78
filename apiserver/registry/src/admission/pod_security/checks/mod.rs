//! The checks of the standards, and which of them a version has.
//!
//! [`CHECKS`] is the whole of them: to add one, add a row. [`containers`] is about what containers and pods ask of the
//! host, [`identity`] about whom they run as. Upstream: `pod-security-admission/policy/registry.go`, `check_*.go`.

mod containers;
mod identity;

use std::fmt;

use machinery::Value;

use super::policy::{Level, Standard, Version};

/// What a pod breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Which rule, shortly.
    pub(super) reason: String,
    /// Where, and by what.
    pub(super) detail: String,
}

impl Finding {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Option<Self> {
        Some(Self { reason: reason.into(), detail: detail.into() })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.detail)
    }
}

type Check = fn(&Value) -> Option<Finding>;

/// One check: upstream's id, the level that has it, the minor versions from which it has a form.
struct Row {
    id: &'static str,
    level: Level,
    versions: &'static [(u64, Check)],
    /// Checks of a lower level that this one is stricter than.
    overrides: &'static [&'static str],
}

use Level::{Baseline, Restricted};

/// Those of baseline, then those of restricted, each in the order of their ids: the order of what is found.
#[rustfmt::skip]
const CHECKS: &[Row] = &[
    Row { id: "appArmorProfile", level: Baseline, versions: &[(0, containers::app_armor)], overrides: &[] },
    Row { id: "capabilities_baseline", level: Baseline, versions: &[(0, containers::baseline_capabilities)], overrides: &[] },
    Row { id: "hostNamespaces", level: Baseline, versions: &[(0, containers::host_namespaces)], overrides: &[] },
    Row { id: "hostPathVolumes", level: Baseline, versions: &[(0, containers::host_paths)], overrides: &[] },
    Row { id: "hostPorts", level: Baseline, versions: &[(0, containers::host_ports)], overrides: &[] },
    Row { id: "hostProbesAndHostLifecycle", level: Baseline, versions: &[(34, containers::host_probes)], overrides: &[] },
    Row { id: "privileged", level: Baseline, versions: &[(0, containers::privileged)], overrides: &[] },
    Row { id: "procMount", level: Baseline, versions: &[(0, containers::proc_mount), (35, |pod| outside(pod, containers::proc_mount))], overrides: &[] },
    Row { id: "seLinuxOptions", level: Baseline, versions: &[(0, |pod| identity::se_linux(pod, 3)), (31, |pod| identity::se_linux(pod, 4))], overrides: &[] },
    Row { id: "seccompProfile_baseline", level: Baseline, versions: &[(0, identity::seccomp_annotations), (19, identity::baseline_seccomp)], overrides: &[] },
    Row { id: "sysctls", level: Baseline, versions: &[(0, |pod| containers::sysctls(pod, 5)), (27, |pod| containers::sysctls(pod, 6)), (29, |pod| containers::sysctls(pod, 10)), (32, |pod| containers::sysctls(pod, 12)), (37, |pod| containers::sysctls(pod, 14))], overrides: &[] },
    Row { id: "windowsHostProcess", level: Baseline, versions: &[(0, containers::host_process)], overrides: &[] },
    Row { id: "allowPrivilegeEscalation", level: Restricted, versions: &[(8, containers::privilege_escalation), (25, |pod| not_windows(pod, containers::privilege_escalation))], overrides: &[] },
    Row { id: "capabilities_restricted", level: Restricted, versions: &[(22, containers::restricted_capabilities), (25, |pod| not_windows(pod, containers::restricted_capabilities))], overrides: &["capabilities_baseline"] },
    Row { id: "procMount_restricted", level: Restricted, versions: &[(35, containers::proc_mount)], overrides: &["procMount"] },
    Row { id: "restrictedVolumes", level: Restricted, versions: &[(0, containers::restricted_volumes)], overrides: &["hostPathVolumes"] },
    Row { id: "runAsNonRoot", level: Restricted, versions: &[(0, identity::run_as_non_root), (35, |pod| outside(pod, identity::run_as_non_root))], overrides: &[] },
    Row { id: "runAsUser", level: Restricted, versions: &[(23, identity::run_as_user), (35, |pod| outside(pod, identity::run_as_user))], overrides: &[] },
    Row { id: "seccompProfile_restricted", level: Restricted, versions: &[(19, identity::restricted_seccomp), (25, |pod| not_windows(pod, identity::restricted_seccomp))], overrides: &["seccompProfile_baseline"] },
];

impl Row {
    /// Its form in a version.
    fn at(&self, version: Version) -> Option<Check> {
        let has = |from: u64| Version::Minor(from) <= version;
        self.versions.iter().rev().find(|(from, _)| has(*from)).map(|(_, check)| *check)
    }
}

/// What a pod, or a template of pods, breaks of a standard.
pub(super) fn evaluate(standard: Standard, pod: &Value) -> Vec<Finding> {
    let Standard { level, version } = standard;
    let active = CHECKS.iter().filter(|row| row.level <= level && row.level != Level::Privileged);
    let active: Vec<(&Row, Check)> = active.filter_map(|row| Some((row, row.at(version)?))).collect();
    let overridden = |id: &str| active.iter().any(|(row, _)| row.overrides.contains(&id));
    active.iter().filter(|(row, _)| !overridden(row.id)).filter_map(|(_, check)| check(pod)).collect()
}

/// A check that pods in a user namespace of their own need not pass.
fn outside(pod: &Value, check: Check) -> Option<Finding> {
    if pod.bool_at(&["spec", "hostUsers"]) == Some(false) { None } else { check(pod) }
}

/// A check of what Windows does not have.
fn not_windows(pod: &Value, check: Check) -> Option<Finding> {
    if pod.str_at(&["spec", "os", "name"]) == Some("windows") { None } else { check(pod) }
}

/// Every container of any kind, in the order in which they are named.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .filter_map(|list| pod.list_at(&["spec", list]))
        .flat_map(|list| list.iter())
}

fn name(value: &Value) -> &str {
    value.str_at(&["name"]).unwrap_or_default()
}

/// The names of the containers that are bad.
fn bad_containers(pod: &Value, bad: impl Fn(&Value) -> bool) -> Vec<String> {
    containers(pod).filter(|c| bad(c)).map(|c| name(c).to_owned()).collect()
}

/// In quotes, without escapes.
fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// `container "a"` or `containers "a", "b"`.
fn named(word: &str, names: &[String]) -> String {
    format!("{} {}", plural(word, names.len()), quoted(names))
}

fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

/// The pod's own setter and the containers', as `pod and container "a"`.
fn setters(pod_sets: bool, bad: &[String]) -> Vec<String> {
    let mut parts = Vec::new();
    if pod_sets {
        parts.push("pod".to_owned());
    }
    if !bad.is_empty() {
        parts.push(named("container", bad));
    }
    parts
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_list).into_iter().flat_map(|l| l.iter());
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list.dedup();
    list
}

/// A type of a profile in security contexts that may be one of few: who sets another, and which.
fn limited(pod: &Value, profile: &str, allowed: &[&str]) -> (Vec<String>, Vec<String>) {
    let other = |context: Option<&Value>| -> Option<String> {
        let profile = context?.get(profile).filter(|p| !p.is_null())?;
        let kind = profile.str_at(&["type"]).unwrap_or_default();
        (!allowed.contains(&kind)).then(|| kind.to_owned())
    };
    let own = other(pod.get_path(&["spec", "securityContext"]));
    let of = |container: &Value| other(container.get("securityContext"));
    let bad = bad_containers(pod, |c| of(c).is_some());
    let values = containers(pod).filter_map(of).chain(own.clone()).collect();
    (setters(own.is_some(), &bad), sorted(values))
}

/// An annotation of the pod.
fn annotations(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    let map = pod.map_at(&["metadata", "annotations"]).into_iter().flat_map(|map| map.iter());
    map.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// The minor version from which an answer holds, with the reasons and details of it.
    type Since = (u64, Vec<(String, String)>);

    #[derive(Deserialize)]
    struct Recorded {
        pod: serde_json::Value,
        /// By level, the minor versions from which the answer is another.
        answers: std::collections::BTreeMap<String, Vec<Since>>,
    }

    /// What upstream's checks said of generated pods: `e2e/oracle/podsecurity`.
    #[test]
    fn as_upstream_checks() {
        let recorded = include_str!("../../../../testdata/pod_security.jsonl");
        let mut seen = 0;
        for line in recorded.lines() {
            let case: Recorded = serde_json::from_str(line).unwrap();
            let pod = Value::from(case.pod);
            for (level, answers) in &case.answers {
                let level = if level == "baseline" { Baseline } else { Restricted };
                for minor in 0..=40 {
                    let (_, want) = answers.iter().rfind(|(from, _)| *from <= minor).unwrap();
                    let found = |version| -> Vec<(String, String)> {
                        let found = evaluate(Standard { level, version }, &pod);
                        found.into_iter().map(|f| (f.reason, f.detail)).collect()
                    };
                    assert_eq!(found(Version::Minor(minor)), *want, "{level:?} v1.{minor} of {line}");
                    if minor == 40 {
                        assert_eq!(found(Version::Latest), *want, "{level:?} of {line}");
                    }
                    seen += want.len();
                }
            }
        }
        assert!(seen > 10_000, "{seen}");
    }
}
