//! Kernel parameters of pods: which may be set, and what pods get that set none themselves.
//!
//! Pure. A parameter belongs to a namespace of the kernel; a pod that shares it with the node may not set it. Start reading
//! at [`Allowlist::admit`] and [`of_sandbox`]. Upstream: pkg/kubelet/sysctl, applyPodSysctls in
//! pkg/kubelet/kuberuntime/kuberuntime_sandbox.go, node/util/sysctl of k8s.io/component-helpers, v1.37. Differs: whether the
//! kernel is new enough for a safe parameter is not asked, because all are older than 4.16.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use k8s_openapi::api::core::v1::Pod;

use crate::admission::Rejection;
use crate::pod::view::PodView;

/// Parameters that touch nothing but the pod's own namespaces.
const SAFE: [&str; 14] = [
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

/// Longest name of a parameter.
const LONGEST: usize = 253;

/// The namespace that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Shared memory, messages and semaphores.
    Ipc,
    /// The network.
    Net,
    /// Host and domain name.
    Uts,
    /// Users.
    User,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
            Self::Uts => "UTS",
            Self::User => "User",
        })
    }
}

/// The name with dots between its parts. Where a slash comes first, slashes and dots have changed places, as for sysctl(8):
/// names of network devices may hold dots.
pub fn normalize(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.')) {
        return name.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// The namespace of a parameter, or of a beginning of names.
pub fn namespace(name: &str) -> Option<Namespace> {
    Some(match name {
        "kernel.domainname" => Namespace::Uts,
        "kernel.sem" | "kernel.shmall" | "kernel.shmmax" | "kernel.shmmni" | "kernel.shm_rmid_forced" => {
            Namespace::Ipc
        }
        "kernel.shm" | "kernel.msg" | "kernel.msgmax" | "kernel.msgmnb" | "kernel.msgmni" => Namespace::Ipc,
        _ if name.starts_with("net.") => Namespace::Net,
        _ if name.starts_with("fs.mqueue.") => Namespace::Ipc,
        _ if name.starts_with("user.") => Namespace::User,
        _ => return None,
    })
}

fn is_inner(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')
}

fn is_outer(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9')
}

/// Whether a text may be a parameter's name.
pub fn is_name(text: &str) -> bool {
    let part =
        |part: &str| part.starts_with(is_outer) && part.ends_with(is_outer) && part.chars().all(is_inner);
    text.len() <= LONGEST && text.split(['.', '/']).all(part)
}

/// Whether a text may be a name or the beginning of names, with `*` at its end.
fn is_pattern(text: &str) -> bool {
    let Some(rest) = text.strip_suffix('*') else { return is_name(text) };
    let (parts, last) = rest.rfind(['.', '/']).map_or(("", rest), |at| (&rest[..at], &rest[at + 1..]));
    let fine = last.is_empty() || last.starts_with(is_outer) && last.chars().all(is_inner);
    text.len() <= LONGEST && fine && (parts.len() + last.len() == rest.len() || is_name(parts))
}

/// Parameters that pods may set.
#[derive(Debug, Default)]
pub struct Allowlist {
    names: BTreeMap<String, Namespace>,
    beginnings: BTreeMap<String, Namespace>,
}

impl Allowlist {
    /// The safe ones and those that the node's administrator names: names, or beginnings with `*` at the end.
    ///
    /// # Errors
    /// If a pattern is none, or names what belongs to no namespace.
    pub fn new(allowed: &[String]) -> Result<Self, String> {
        let mut out = Self::default();
        for pattern in SAFE.into_iter().chain(allowed.iter().map(String::as_str)) {
            if !is_pattern(pattern) {
                return Err(format!(
                    "sysctl {pattern:?} must have at most {LONGEST} characters and match regex ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]"
                ));
            }
            let name = normalize(pattern);
            let (name, map) = match name.split_once('*') {
                Some((beginning, _)) => (beginning.to_owned(), &mut out.beginnings),
                None => (name, &mut out.names),
            };
            let Some(namespace) = namespace(&name) else {
                return Err(format!("the sysctls {name:?} are not known to be namespaced"));
            };
            map.insert(name, namespace);
        }
        Ok(out)
    }

    /// Whether the pod sets only what it may set.
    ///
    /// # Errors
    /// The first one that it may not.
    pub fn admit(&self, pod: &Pod) -> Result<(), Rejection> {
        for sysctl in asked(pod) {
            let name = normalize(&sysctl.name);
            let forbidden = |why: String| {
                let message = format!("forbidden sysctl: {name:?} {why}");
                Err(Rejection { reason: "SysctlForbidden".to_owned(), message })
            };
            let beginning = || self.beginnings.iter().find(|(start, _)| name.starts_with(start.as_str()));
            let found = self.names.get(&name).or_else(|| beginning().map(|(_, namespace)| namespace));
            match found {
                None => return forbidden("not allowlisted".to_owned()),
                Some(of) if is_shared(pod, *of) => {
                    return forbidden(format!("not allowed with host {of} enabled"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn asked(pod: &Pod) -> impl Iterator<Item = &k8s_openapi::api::core::v1::Sysctl> {
    pod.spec().security_context.iter().flat_map(|context| context.sysctls.iter().flatten())
}

/// True if the pod uses the node's own namespace. Its name belongs to the pod in any case.
fn is_shared(pod: &Pod, namespace: Namespace) -> bool {
    match namespace {
        Namespace::Ipc => pod.spec().host_ipc == Some(true),
        Namespace::Net => pod.is_host_network(),
        Namespace::User => pod.spec().host_users != Some(false),
        Namespace::Uts => false,
    }
}

/// What the pod's sandbox is told: the node's defaults, as far as the pod has the namespace to itself, under what the pod
/// asks for.
pub fn of_sandbox(defaults: &BTreeMap<String, String>, pod: &Pod) -> HashMap<String, String> {
    let fits = |name: &str| match namespace(name) {
        // Only beginnings of names, which are no parameters themselves.
        _ if matches!(name, "kernel.shm" | "kernel.msg") => false,
        // The domain's name goes with the network: a pod on the node's network has the node's name.
        Some(Namespace::Uts) => !pod.is_host_network(),
        Some(namespace) => !is_shared(pod, namespace),
        None => false,
    };
    let defaults = defaults.iter().map(|(name, value)| (normalize(name), value.clone()));
    let own = asked(pod).map(|sysctl| (normalize(&sysctl.name), sysctl.value.clone()));
    defaults.filter(|(name, _)| fits(name)).chain(own).collect()
}

/// What is wrong with the node's defaults. Upstream: ValidateKubeletConfiguration.
pub fn problems(defaults: &BTreeMap<String, String>) -> Vec<String> {
    let (mut out, mut seen) = (Vec::new(), Vec::new());
    for name in defaults.keys() {
        if !is_name(name) {
            out.push(format!("{name:?} is not a valid sysctl name for defaultPodSysctls"));
            continue;
        }
        let normal = normalize(name);
        if namespace(&normal).is_none() {
            out.push(format!("{name:?} is not known to be namespaced for defaultPodSysctls"));
        }
        if seen.contains(&normal) {
            out.push(format!("duplicate sysctl {normal:?} found in defaultPodSysctls"));
        }
        seen.push(normal);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Recorded from upstream's functions, see `e2e/oracle/sysctls`.
    #[test]
    fn as_upstream() {
        let lines: Vec<Value> = include_str!("testdata/sysctls.jsonl")
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert!(lines.len() > 300);
        for line in lines {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            if line["pattern"].is_string() {
                let found = Allowlist::new(&[text("pattern")]).map(drop);
                assert_eq!(found.err().unwrap_or_default(), text("error"), "{line}");
                continue;
            }
            let pod: Pod = serde_json::from_value(line["pod"].clone()).unwrap();
            let defaults = serde_json::from_value(line["defaults"].clone()).unwrap();
            assert_eq!(json!(of_sandbox(&defaults, &pod)), line["sysctls"], "{line}");
            let allowed: Vec<String> = serde_json::from_value(line["allowed"].clone()).unwrap();
            let refused = Allowlist::new(&allowed).unwrap().admit(&pod).err();
            assert_eq!(refused.map(|r| r.message).unwrap_or_default(), text("refused"), "{line}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(normalize("net/ipv4/conf/eno2.100/rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        assert_eq!(normalize("net.ipv4.conf.eno2/100.rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        let long = "a".repeat(LONGEST);
        assert!(is_name(&long) && !is_name(&format!("{long}a")) && !is_name(""));
    }
}
