//! What containers and pods ask of the host: namespaces, paths, ports, capabilities, kernel settings.

use machinery::Value;

use super::{
    Finding, annotations, bad_containers, containers, limited, name, named, plural, quoted, setters, sorted,
    strings, uses,
};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(super) fn app_armor(pod: &Value) -> Option<Finding> {
    let (mut who, mut values) = limited(pod, "appArmorProfile", &["RuntimeDefault", "Localhost"]);
    let fine =
        |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let bad = annotations(pod).filter(|(key, value)| key.starts_with(APP_ARMOR) && !fine(value));
    let bad = sorted(bad.map(|(key, value)| format!("{key}={value:?}")).collect());
    if !bad.is_empty() {
        who.push(plural("annotation", bad.len()));
        values.extend(bad);
    }
    if who.is_empty() {
        return None;
    }
    Finding::new(
        plural("forbidden AppArmor profile", values.len()),
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values)),
    )
}

pub(super) fn baseline_capabilities(pod: &Value) -> Option<Finding> {
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
    let (bad, values) = adding(pod, &ALLOWED);
    if bad.is_empty() {
        return None;
    }
    Finding::new("non-default capabilities", must_not_add(&bad, &values))
}

/// The containers that add other capabilities, and which.
fn adding(pod: &Value, allowed: &[&str]) -> (Vec<String>, Vec<String>) {
    let added = |container: &Value| {
        let mut all = strings(container.get_path(&["securityContext", "capabilities", "add"]));
        all.retain(|capability| !allowed.contains(&capability.as_str()));
        all
    };
    let bad = bad_containers(pod, |c| !added(c).is_empty());
    (bad, sorted(containers(pod).flat_map(added).collect()))
}

fn must_not_add(bad: &[String], values: &[String]) -> String {
    let (who, what) = (named("container", bad), quoted(values));
    format!("{who} must not include {what} in securityContext.capabilities.add")
}

pub(super) fn restricted_capabilities(pod: &Value) -> Option<Finding> {
    let drops_all = |container: &Value| {
        strings(container.get_path(&["securityContext", "capabilities", "drop"])).iter().any(|d| d == "ALL")
    };
    let mut details = Vec::new();
    let keeping = bad_containers(pod, |c| !drops_all(c));
    if !keeping.is_empty() {
        let who = named("container", &keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    let (bad, values) = adding(pod, &["NET_BIND_SERVICE"]);
    if !bad.is_empty() {
        details.push(must_not_add(&bad, &values));
    }
    if details.is_empty() {
        return None;
    }
    Finding::new("unrestricted capabilities", details.join("; "))
}

pub(super) fn host_namespaces(pod: &Value) -> Option<Finding> {
    let set = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let set: Vec<String> =
        set.filter(|f| pod.bool_at(&["spec", f]) == Some(true)).map(|f| format!("{f}=true")).collect();
    if set.is_empty() { None } else { Finding::new("host namespaces", set.join(", ")) }
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.list_at(&["spec", "volumes"]).into_iter().flat_map(|l| l.iter())
}

fn is_set(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|v| !v.is_null())
}

pub(super) fn host_paths(pod: &Value) -> Option<Finding> {
    let bad: Vec<String> =
        volumes(pod).filter(|v| is_set(v, "hostPath")).map(|v| name(v).to_owned()).collect();
    if bad.is_empty() { None } else { Finding::new("hostPath volumes", named("volume", &bad)) }
}

pub(super) fn host_ports(pod: &Value) -> Option<Finding> {
    let ports = |c: &Value| -> Vec<String> {
        let list = c.list_at(&["ports"]).into_iter().flat_map(|l| l.iter());
        let ports = list.filter_map(|p| p.i64_at(&["hostPort"])).filter(|p| *p != 0);
        ports.map(|port| port.to_string()).collect()
    };
    let bad = bad_containers(pod, |c| !ports(c).is_empty());
    if bad.is_empty() {
        return None;
    }
    let all = sorted(containers(pod).flat_map(ports).collect());
    let (who, verb, word) = (named("container", &bad), uses(bad.len()), plural("hostPort", all.len()));
    Finding::new("hostPort", format!("{who} {verb} {word} {}", all.join(", ")))
}

pub(super) fn host_probes(pod: &Value) -> Option<Finding> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let hosts = |container: &Value| -> Vec<String> {
        let handlers = HANDLERS.iter().filter_map(|path| container.get_path(path));
        let hosts = handlers.flat_map(|h| ["httpGet", "tcpSocket"].map(|kind| h.str_at(&[kind, "host"])));
        hosts.flatten().filter(|host| !host.is_empty()).map(str::to_owned).collect()
    };
    let bad = sorted(bad_containers(pod, |c| !hosts(c).is_empty()));
    if bad.is_empty() {
        return None;
    }
    let all = sorted(containers(pod).flat_map(hosts).collect());
    let (who, verb, word) =
        (named("container", &bad), uses(bad.len()), plural("probe or lifecycle host", all.len()));
    Finding::new("probe or lifecycle host", format!("{who} {verb} {word} {}", quoted(&all)))
}

pub(super) fn privileged(pod: &Value) -> Option<Finding> {
    let bad = bad_containers(pod, |c| c.bool_at(&["securityContext", "privileged"]) == Some(true));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", &bad);
    Finding::new("privileged", format!("{who} must not set securityContext.privileged=true"))
}

pub(super) fn privilege_escalation(pod: &Value) -> Option<Finding> {
    let path = ["securityContext", "allowPrivilegeEscalation"];
    let bad = bad_containers(pod, |c| c.bool_at(&path) != Some(false));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", &bad);
    Finding::new(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

pub(super) fn proc_mount(pod: &Value) -> Option<Finding> {
    let other = |c: &Value| {
        c.str_at(&["securityContext", "procMount"]).filter(|kind| *kind != "Default").map(str::to_owned)
    };
    let bad = bad_containers(pod, |c| other(c).is_some());
    if bad.is_empty() {
        return None;
    }
    let (who, values) = (named("container", &bad), sorted(containers(pod).filter_map(other).collect()));
    Finding::new("procMount", format!("{who} must not set securityContext.procMount to {}", quoted(&values)))
}

/// In the order in which a volume of several kinds is named.
const RESTRICTED_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn restricted_volumes(pod: &Value) -> Option<Finding> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let kind = |volume: &Value| -> Option<String> {
        if ALLOWED.iter().any(|kind| is_set(volume, kind)) {
            return None;
        }
        let known = RESTRICTED_VOLUMES.into_iter().find(|kind| is_set(volume, kind));
        Some(known.unwrap_or("unknown").to_owned())
    };
    let bad: Vec<String> = volumes(pod).filter(|v| kind(v).is_some()).map(|v| name(v).to_owned()).collect();
    if bad.is_empty() {
        return None;
    }
    let kinds = sorted(volumes(pod).filter_map(kind).collect());
    let (who, verb, word) =
        (named("volume", &bad), uses(bad.len()), plural("restricted volume type", kinds.len()));
    Finding::new("restricted volume types", format!("{who} {verb} {word} {}", quoted(&kinds)))
}

/// Safe ones, in the order in which they were allowed.
const SYSCTLS: [&str; 14] = [
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

/// Only the first of [`SYSCTLS`] may be set.
pub(super) fn sysctls(pod: &Value, first: usize) -> Option<Finding> {
    let allowed = SYSCTLS.get(..first).unwrap_or(&SYSCTLS);
    let set = pod.list_at(&["spec", "securityContext", "sysctls"]).into_iter().flat_map(|l| l.iter());
    let bad: Vec<&str> = set.map(name).filter(|n| !allowed.contains(n)).collect();
    if bad.is_empty() { None } else { Finding::new("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn host_process(pod: &Value) -> Option<Finding> {
    let path = ["securityContext", "windowsOptions", "hostProcess"];
    let own = pod.bool_at(&["spec", path[0], path[1], path[2]]) == Some(true);
    let who = setters(own, &bad_containers(pod, |c| c.bool_at(&path) == Some(true)));
    if who.is_empty() {
        return None;
    }
    let who = who.join(" and ");
    Finding::new("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}
