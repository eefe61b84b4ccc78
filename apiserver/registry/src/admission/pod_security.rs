//! PodSecurity: pods of a namespace keep to the standard its labels name (privileged, baseline, restricted).
//!
//! Checks are those of the latest version of the standards; a version label pins nothing here, which only matters for
//! namespaces pinned to a version older than a rule. Workloads get warnings, pods are refused. No exemptions: they need
//! an admission configuration file, which is refused elsewhere. Upstream: `k8s.io/pod-security-admission`.

use async_trait::async_trait;
use machinery::Value;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

const LABELS: &str = "pod-security.kubernetes.io/";

/// Annotations of audit events: which standard a pod was held to, and what it breaks of the one to be recorded.
const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
const VIOLATIONS: &str = "pod-security.kubernetes.io/audit-violations";

/// The plugin.
pub struct PodSecurity;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
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

    fn text(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(object) = a.object.as_ref() else { return Ok(()) };
        if a.is("", "namespaces") {
            return validate_labels(object);
        }
        let is_pod = a.is_resource("", "pods") && matches!(a.subresource(), "" | "ephemeralcontainers");
        let template: &[&str] = match (a.group(), a.resource(), a.subresource()) {
            ("", "replicationcontrollers", "")
            | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets", "")
            | ("batch", "jobs", "") => &["spec", "template"],
            ("batch", "cronjobs", "") => &["spec", "jobTemplate", "spec", "template"],
            ("", "podtemplates", "") => &["template"],
            _ if is_pod => &[],
            _ => return Ok(()),
        };
        let same_spec = a.old.as_ref().is_some_and(|old| {
            let spec = |v: &Value| v.get("spec").cloned().unwrap_or_default();
            spec(old).semantic_eq(&spec(object))
        });
        if same_spec {
            return Ok(());
        }
        let Some(namespace) = a.call.core.find("", "namespaces", "", &a.namespace).await? else {
            return Ok(());
        };
        let Some(pod) = object.get_path(template) else { return Ok(()) };
        let mode = |mode: &str| {
            let level = meta::label(&namespace, &format!("{LABELS}{mode}")).map(|t| {
                // A label that cannot be read is taken for the strictest level.
                Level::parse(t).unwrap_or(Level::Restricted)
            });
            let version = meta::label(&namespace, &format!("{LABELS}{mode}-version")).unwrap_or("latest");
            (level.unwrap_or(Level::Privileged), version.to_owned())
        };
        let audit = &a.call.request.audit;
        let (enforce, version) = mode("enforce");
        if is_pod {
            audit.annotate(ENFORCED, format!("{}:{version}", enforce.text()));
        }
        let problems = evaluate(pod, enforce);
        if audit.enabled() {
            let (level, version) = mode("audit");
            let problems = evaluate(pod, level);
            if !problems.is_empty() {
                audit.annotate(VIOLATIONS, would_violate(level, &version, &problems));
            }
        }
        if is_pod && !problems.is_empty() {
            return Err(a.forbidden(format!(
                "violates PodSecurity \"{}:{version}\": {}",
                enforce.text(),
                problems.join(", ")
            )));
        }
        let (warn, version) = mode("warn");
        let problems = evaluate(pod, warn);
        if !problems.is_empty() {
            a.call.warn(would_violate(warn, &version, &problems));
        }
        Ok(())
    }
}

fn would_violate(level: Level, version: &str, problems: &[String]) -> String {
    format!("would violate PodSecurity \"{}:{version}\": {}", level.text(), problems.join(", "))
}

fn validate_labels(namespace: &Value) -> Result<(), ApiError> {
    use ::api::validation::field::{Error as FieldError, Path};
    let metadata = Path::new("metadata");
    let path = metadata.child("labels");
    let mut errors = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let key = format!("{LABELS}{mode}");
        if let Some(text) = meta::label(namespace, &key).filter(|t| Level::parse(t).is_none()) {
            let detail = "must be one of privileged, baseline, restricted";
            errors.push(FieldError::invalid(&path.key(&key), text, detail));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_fields("", "Namespace", meta::name(namespace), &errors))
}

/// What a pod breaks at a level, in the order of upstream's check ids.
fn evaluate(pod: &Value, level: Level) -> Vec<String> {
    if level == Level::Privileged {
        return Vec::new();
    }
    let strict = level == Level::Restricted;
    let windows = pod.str_at(&["spec", "os", "name"]) == Some("windows");
    let mut found: Vec<Option<String>> = Vec::new();
    if strict && !windows {
        found.push(privilege_escalation(pod));
    }
    found.push(app_armor(pod));
    if strict && !windows {
        found.push(restricted_capabilities(pod));
    } else if !strict {
        found.push(baseline_capabilities(pod));
    }
    found.push(host_namespaces(pod));
    if !strict {
        found.push(host_paths(pod));
    }
    found.push(host_ports(pod));
    found.push(privileged(pod));
    found.push(proc_mount(pod));
    if strict {
        found.extend([restricted_volumes(pod), run_as_non_root(pod), run_as_user(pod)]);
    }
    found.push(se_linux(pod));
    if strict && !windows {
        found.push(restricted_seccomp(pod));
    } else if !strict {
        found.push(baseline_seccomp(pod));
    }
    found.push(sysctls(pod));
    found.push(host_process(pod));
    found.into_iter().flatten().collect()
}

/// Every container of any kind.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|f| pod.list_at(&["spec", f]))
        .flat_map(|l| l.iter())
}

fn name(value: &Value) -> &str {
    value.str_at(&["name"]).unwrap_or("")
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// `container "a"` or `containers "a", "b"`.
fn named(word: &str, names: &[String]) -> String {
    format!("{} {}", plural(word, names.len()), quoted(names))
}

fn bad_containers(pod: &Value, bad: impl Fn(&Value) -> bool) -> Vec<String> {
    containers(pod).filter(|c| bad(c)).map(|c| name(c).to_owned()).collect()
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

fn privilege_escalation(pod: &Value) -> Option<String> {
    let bad =
        bad_containers(pod, |c| c.bool_at(&["securityContext", "allowPrivilegeEscalation"]) != Some(false));
    (!bad.is_empty()).then(|| {
        format!(
            "allowPrivilegeEscalation != false ({} must set securityContext.allowPrivilegeEscalation=false)",
            named("container", &bad)
        )
    })
}

/// The pod's own setter and the containers', as `pod and container "a"`.
fn setters(pod_sets: bool, bad: &[String]) -> String {
    let mut parts = Vec::new();
    if pod_sets {
        parts.push("pod".to_owned());
    }
    if !bad.is_empty() {
        parts.push(named("container", bad));
    }
    parts.join(" and ")
}

/// A field of security contexts whose values are limited.
fn limited(pod: &Value, path: &[&str], allowed: impl Fn(&str) -> bool) -> Option<(String, Vec<String>)> {
    let mut full = vec!["securityContext"];
    full.extend(path);
    let mut at_pod = vec!["spec"];
    at_pod.extend(&full);
    let refused = |text: Option<&str>| text.filter(|t| !t.is_empty() && !allowed(t)).map(str::to_owned);
    let own = refused(pod.str_at(&at_pod));
    let bad = bad_containers(pod, |c| refused(c.str_at(&full)).is_some());
    let mut values: Vec<String> = containers(pod).filter_map(|c| refused(c.str_at(&full))).collect();
    values.extend(own.clone());
    (!values.is_empty()).then(|| (setters(own.is_some(), &bad), sorted(values)))
}

fn app_armor(pod: &Value) -> Option<String> {
    let fine = |t: &str| matches!(t, "RuntimeDefault" | "Localhost");
    let (who, values) = limited(pod, &["appArmorProfile", "type"], fine)?;
    let reason = plural("forbidden AppArmor profile", values.len());
    Some(format!("{reason} ({who} must not set AppArmor profile type to {})", quoted(&values)))
}

fn baseline_capabilities(pod: &Value) -> Option<String> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let added = |c: &Value| {
        let mut all = strings(c.get_path(&["securityContext", "capabilities", "add"]));
        all.retain(|c| !ALLOWED.contains(&c.as_str()));
        all
    };
    let bad = bad_containers(pod, |c| !added(c).is_empty());
    (!bad.is_empty()).then(|| {
        let values = sorted(containers(pod).flat_map(added).collect());
        format!(
            "non-default capabilities ({} must not include {} in securityContext.capabilities.add)",
            named("container", &bad),
            quoted(&values)
        )
    })
}

fn restricted_capabilities(pod: &Value) -> Option<String> {
    let list = |c: &Value, f: &str| strings(c.get_path(&["securityContext", "capabilities", f]));
    let keeps = bad_containers(pod, |c| !list(c, "drop").iter().any(|d| d == "ALL"));
    let beyond = |c: &Value| {
        let mut all = list(c, "add");
        all.retain(|a| a != "NET_BIND_SERVICE");
        all
    };
    let adds = bad_containers(pod, |c| !beyond(c).is_empty());
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            named("container", &keeps)
        ));
    }
    if !adds.is_empty() {
        let values = sorted(containers(pod).flat_map(beyond).collect());
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named("container", &adds),
            quoted(&values)
        ));
    }
    (!details.is_empty()).then(|| format!("unrestricted capabilities ({})", details.join("; ")))
}

fn host_namespaces(pod: &Value) -> Option<String> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|f| pod.bool_at(&["spec", f]) == Some(true))
        .map(|f| format!("{f}=true"))
        .collect();
    (!set.is_empty()).then(|| format!("host namespaces ({})", set.join(", ")))
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.list_at(&["spec", "volumes"]).into_iter().flat_map(|l| l.iter())
}

fn host_paths(pod: &Value) -> Option<String> {
    let bad: Vec<String> = volumes(pod)
        .filter(|v| v.get("hostPath").is_some_and(|h| !h.is_null()))
        .map(|v| name(v).to_owned())
        .collect();
    (!bad.is_empty()).then(|| format!("hostPath volumes ({})", named("volume", &bad)))
}

fn host_ports(pod: &Value) -> Option<String> {
    let ports = |c: &Value| -> Vec<i64> {
        let list = c.list_at(&["ports"]).into_iter().flat_map(|l| l.iter());
        list.filter_map(|p| p.i64_at(&["hostPort"])).filter(|p| *p != 0).collect()
    };
    let bad = bad_containers(pod, |c| !ports(c).is_empty());
    (!bad.is_empty()).then(|| {
        let all = sorted(containers(pod).flat_map(ports).map(|p| p.to_string()).collect());
        let verb = if bad.len() == 1 { "uses" } else { "use" };
        let word = plural("hostPort", all.len());
        format!("hostPort ({} {verb} {word} {})", named("container", &bad), all.join(", "))
    })
}

fn privileged(pod: &Value) -> Option<String> {
    let bad = bad_containers(pod, |c| c.bool_at(&["securityContext", "privileged"]) == Some(true));
    (!bad.is_empty()).then(|| {
        format!("privileged ({} must not set securityContext.privileged=true)", named("container", &bad))
    })
}

fn proc_mount(pod: &Value) -> Option<String> {
    let kind = |c: &Value| c.str_at(&["securityContext", "procMount"]).unwrap_or("Default").to_owned();
    let bad = bad_containers(pod, |c| kind(c) != "Default");
    (!bad.is_empty()).then(|| {
        let values = sorted(containers(pod).map(kind).filter(|k| k != "Default").collect());
        format!(
            "procMount ({} must not set securityContext.procMount to {})",
            named("container", &bad),
            quoted(&values)
        )
    })
}

fn restricted_volumes(pod: &Value) -> Option<String> {
    const ALLOWED: [&str; 10] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "name",
    ];
    let kind = |v: &Value| -> Option<String> {
        let map = v.as_map()?;
        let set = map.iter().find(|(k, v)| !ALLOWED.contains(&k.as_str()) && !v.is_null());
        set.map(|(k, _)| k.to_string())
    };
    let bad: Vec<String> = volumes(pod).filter(|v| kind(v).is_some()).map(|v| name(v).to_owned()).collect();
    (!bad.is_empty()).then(|| {
        let kinds = sorted(volumes(pod).filter_map(kind).collect());
        let verb = if bad.len() == 1 { "uses" } else { "use" };
        let word = plural("restricted volume type", kinds.len());
        format!("restricted volume types ({} {verb} {word} {})", named("volume", &bad), quoted(&kinds))
    })
}

fn run_as_non_root(pod: &Value) -> Option<String> {
    let own = pod.bool_at(&["spec", "securityContext", "runAsNonRoot"]);
    let of = |c: &Value| c.bool_at(&["securityContext", "runAsNonRoot"]);
    let explicit = bad_containers(pod, |c| of(c) == Some(false));
    if own == Some(false) || !explicit.is_empty() {
        let who = setters(own == Some(false), &explicit);
        return Some(format!("runAsNonRoot != true ({who} must not set securityContext.runAsNonRoot=false)"));
    }
    let implicit = bad_containers(pod, |c| of(c).is_none() && own != Some(true));
    (!implicit.is_empty()).then(|| {
        format!(
            "runAsNonRoot != true (pod or {} must set securityContext.runAsNonRoot=true)",
            named("container", &implicit)
        )
    })
}

fn run_as_user(pod: &Value) -> Option<String> {
    let own = pod.i64_at(&["spec", "securityContext", "runAsUser"]) == Some(0);
    let bad = bad_containers(pod, |c| c.i64_at(&["securityContext", "runAsUser"]) == Some(0));
    (own || !bad.is_empty()).then(|| format!("runAsUser=0 ({} must not set runAsUser=0)", setters(own, &bad)))
}

fn se_linux(pod: &Value) -> Option<String> {
    let kinds = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let problems = |context: Option<&Value>| -> Vec<String> {
        let Some(options) = context.and_then(|c| c.get("seLinuxOptions")) else { return Vec::new() };
        let text = |f: &str| options.str_at(&[f]).unwrap_or("");
        let mut all = Vec::new();
        if !text("type").is_empty() && !kinds.contains(&text("type")) {
            all.push(format!("type {:?}", text("type")));
        }
        if !text("user").is_empty() {
            all.push("user may not be set".to_owned());
        }
        if !text("role").is_empty() {
            all.push("role may not be set".to_owned());
        }
        all
    };
    let own = problems(pod.get_path(&["spec", "securityContext"]));
    let bad = bad_containers(pod, |c| !problems(c.get("securityContext")).is_empty());
    let mut data = own.clone();
    data.extend(containers(pod).flat_map(|c| problems(c.get("securityContext"))));
    data.dedup();
    (!data.is_empty()).then(|| {
        let who = setters(!own.is_empty(), &bad);
        format!("seLinuxOptions ({who} set forbidden securityContext.seLinuxOptions: {})", data.join("; "))
    })
}

fn baseline_seccomp(pod: &Value) -> Option<String> {
    let (who, values) = limited(pod, &["seccompProfile", "type"], |t| t != "Unconfined")?;
    Some(format!(
        "seccompProfile ({who} must not set securityContext.seccompProfile.type to {})",
        quoted(&values)
    ))
}

fn restricted_seccomp(pod: &Value) -> Option<String> {
    if let Some(text) = baseline_seccomp(pod) {
        return Some(text);
    }
    let has = |v: Option<&str>| matches!(v, Some("RuntimeDefault" | "Localhost"));
    let own = has(pod.str_at(&["spec", "securityContext", "seccompProfile", "type"]));
    let bad = bad_containers(pod, |c| !own && !has(c.str_at(&["securityContext", "seccompProfile", "type"])));
    (!bad.is_empty()).then(|| {
        format!(
            "seccompProfile (pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            named("container", &bad)
        )
    })
}

fn sysctls(pod: &Value) -> Option<String> {
    const ALLOWED: [&str; 14] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_notsent_lowat",
    ];
    let list = pod.list_at(&["spec", "securityContext", "sysctls"]).into_iter().flat_map(|l| l.iter());
    let bad: Vec<String> =
        list.map(|s| name(s).to_owned()).filter(|n| !ALLOWED.contains(&n.as_str())).collect();
    (!bad.is_empty()).then(|| format!("forbidden sysctls ({})", bad.join(", ")))
}

fn host_process(pod: &Value) -> Option<String> {
    let path = ["securityContext", "windowsOptions", "hostProcess"];
    let own = pod.bool_at(&["spec", "securityContext", "windowsOptions", "hostProcess"]) == Some(true);
    let bad = bad_containers(pod, |c| c.bool_at(&path) == Some(true));
    (own || !bad.is_empty()).then(|| {
        format!(
            "hostProcess ({} must not set securityContext.windowsOptions.hostProcess=true)",
            setters(own, &bad)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plain_pod_breaks_the_restricted_standard_only() {
        let pod = Value::from(json!({"spec": {"containers": [{"name": "test"}]}}));
        assert!(evaluate(&pod, Level::Baseline).is_empty());
        assert_eq!(
            evaluate(&pod, Level::Restricted).join(", "),
            "allowPrivilegeEscalation != false (container \"test\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"test\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"test\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"test\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn baseline_refuses_host_access() {
        let pod = Value::from(json!({"spec": {"hostNetwork": true,
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
            "containers": [{"name": "a", "securityContext": {"privileged": true}, "ports": [{"hostPort": 80}]}]}}));
        assert_eq!(
            evaluate(&pod, Level::Baseline).join(", "),
            "host namespaces (hostNetwork=true), hostPath volumes (volume \"v\"), hostPort (container \"a\" uses hostPort 80), \
             privileged (container \"a\" must not set securityContext.privileged=true)"
        );
    }
}
