//! Whom containers run as, and under which profiles of the kernel's security modules.

use machinery::Value;

use super::{
    Finding, annotations, bad_containers, containers, limited, name, named, plural, quoted, setters, sorted,
};

pub(super) fn run_as_non_root(pod: &Value) -> Option<Finding> {
    let reason = "runAsNonRoot != true";
    let own = pod.bool_at(&["spec", "securityContext", "runAsNonRoot"]);
    let of = |c: &Value| c.bool_at(&["securityContext", "runAsNonRoot"]);
    let who = setters(own == Some(false), &bad_containers(pod, |c| of(c) == Some(false)));
    if !who.is_empty() {
        let who = who.join(" and ");
        return Finding::new(reason, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = bad_containers(pod, |c| of(c).is_none() && own != Some(true));
    if silent.is_empty() {
        return None;
    }
    let who = named("container", &silent);
    Finding::new(reason, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

pub(super) fn run_as_user(pod: &Value) -> Option<Finding> {
    let own = pod.i64_at(&["spec", "securityContext", "runAsUser"]) == Some(0);
    let who = setters(own, &bad_containers(pod, |c| c.i64_at(&["securityContext", "runAsUser"]) == Some(0)));
    if who.is_empty() {
        return None;
    }
    Finding::new("runAsUser=0", format!("{} must not set runAsUser=0", who.join(" and ")))
}

/// What is wrong with the options of one context.
#[derive(Default)]
struct Options {
    kinds: Vec<String>,
    user: bool,
    role: bool,
}

impl Options {
    fn is_bad(&self) -> bool {
        !self.kinds.is_empty() || self.user || self.role
    }

    fn of(context: Option<&Value>, allowed: &[&str]) -> Self {
        let Some(options) = context.and_then(|c| c.get("seLinuxOptions")) else { return Self::default() };
        let text = |field: &str| options.str_at(&[field]).unwrap_or_default();
        let kind = text("type");
        let fine = kind.is_empty() || allowed.contains(&kind);
        Self {
            kinds: if fine { Vec::new() } else { vec![kind.to_owned()] },
            user: !text("user").is_empty(),
            role: !text("role").is_empty(),
        }
    }
}

/// Only the first of the known types may be set.
pub(super) fn se_linux(pod: &Value, first: usize) -> Option<Finding> {
    const KINDS: [&str; 4] = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let allowed = KINDS.get(..first).unwrap_or(&KINDS);
    let own = Options::of(pod.get_path(&["spec", "securityContext"]), allowed);
    let of = |c: &Value| Options::of(c.get("securityContext"), allowed);
    let who = setters(own.is_bad(), &bad_containers(pod, |c| of(c).is_bad()));
    if who.is_empty() {
        return None;
    }
    let all: Vec<Options> = containers(pod).map(of).chain([own]).collect();
    let kinds = sorted(all.iter().flat_map(|options| options.kinds.clone()).collect());
    let mut data = Vec::new();
    if !kinds.is_empty() {
        data.push(named("type", &kinds));
    }
    if all.iter().any(|options| options.user) {
        data.push("user may not be set".to_owned());
    }
    if all.iter().any(|options| options.role) {
        data.push("role may not be set".to_owned());
    }
    let (who, data) = (who.join(" and "), data.join("; "));
    Finding::new("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {data}"))
}

/// Before there was a field.
pub(super) fn seccomp_annotations(pod: &Value) -> Option<Finding> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let fine = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let concerns = |key: &str| {
        let container = key.strip_prefix(CONTAINER);
        key == POD || container.is_some_and(|known| containers(pod).any(|c| name(c) == known))
    };
    let bad = annotations(pod).filter(|(key, value)| concerns(key) && !fine(value));
    let bad = sorted(bad.map(|(key, value)| format!("{key}={value:?}")).collect());
    if bad.is_empty() {
        return None;
    }
    let word = plural("annotation", bad.len());
    Finding::new("seccompProfile", format!("forbidden {word} {}", bad.join(", ")))
}

const SECCOMP: [&str; 2] = ["RuntimeDefault", "Localhost"];

pub(super) fn baseline_seccomp(pod: &Value) -> Option<Finding> {
    let (who, values) = limited(pod, "seccompProfile", &SECCOMP);
    if who.is_empty() {
        return None;
    }
    let (who, values) = (who.join(" and "), quoted(&values));
    Finding::new(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {values}"),
    )
}

pub(super) fn restricted_seccomp(pod: &Value) -> Option<Finding> {
    if let Some(finding) = baseline_seccomp(pod) {
        return Some(finding);
    }
    let has = |context: Option<&Value>| {
        context.and_then(|c| c.get("seccompProfile")).is_some_and(|profile| !profile.is_null())
    };
    let own = has(pod.get_path(&["spec", "securityContext"]));
    let silent = bad_containers(pod, |c| !own && !has(c.get("securityContext")));
    if silent.is_empty() {
        return None;
    }
    let who = named("container", &silent);
    Finding::new(
        "seccompProfile",
        format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ),
    )
}
