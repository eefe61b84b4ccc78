//! Containers of pods: profiles in annotations, fractional bytes, repeated variables and ports.
//! Upstream: `pkg/api/pod/warnings.go` `warningsForPodSpecAndMeta`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, ContainerPort, EnvVar, PodSpec};

use super::fractional;
use crate::validation::core::container::visit;
use crate::validation::field::{Path, quote};
use crate::validation::{items, text};

const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// About all containers of a pod, or of a template at `path`.
pub(super) fn warnings(
    spec: &PodSpec,
    annotations: &BTreeMap<String, String>,
    path: &Path,
    template: bool,
) -> Vec<String> {
    let (at, metadata) = (path.child("spec"), path.child("metadata"));
    let noted = metadata.child("annotations");
    let mut warnings = Vec::new();
    let own = spec.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref());
    visit(spec, &at, &mut |container, at| {
        warnings.extend(seccomp(container, annotations, &noted));
        if template {
            warnings.extend(app_armor(container, own, annotations, &noted));
        }
        warnings.extend(fractions(container, &at.child("resources")));
        warnings.extend(variables(items(&container.env), &at.child("env")));
    });
    let mut ports = Ports::default();
    visit(spec, &at, &mut |container, at| {
        let at = at.child("ports");
        for (i, port) in items(&container.ports).iter().enumerate() {
            warnings.extend(ports.number(port, &at.index(i)));
        }
    });
    visit(spec, &at, &mut |container, at| {
        let at = at.child("ports");
        for (i, port) in items(&container.ports).iter().enumerate() {
            warnings.extend(ports.name(text(&port.name), &at.index(i)));
        }
    });
    warnings
}

fn seccomp(container: &Container, annotations: &BTreeMap<String, String>, path: &Path) -> Option<String> {
    let key = format!("{SECCOMP}{}", container.name);
    let told = container.security_context.as_ref().is_some_and(|c| c.seccomp_profile.is_some());
    (!told && annotations.contains_key(&key)).then(|| {
        format!(r#"{}: non-functional in v1.27+; use the "seccompProfile" field instead"#, path.key(&key))
    })
}

fn app_armor(
    container: &Container,
    own: Option<&AppArmorProfile>,
    annotations: &BTreeMap<String, String>,
    path: &Path,
) -> Option<String> {
    let key = format!("{APP_ARMOR}{}", container.name);
    let said = annotations.get(&key)?;
    let told = container.security_context.as_ref().is_some_and(|c| c.app_armor_profile.is_some());
    let same = own.is_some_and(|own| match said.as_str() {
        "unconfined" => own.type_ == "Unconfined" && own.localhost_profile.is_none(),
        "runtime/default" => own.type_ == "RuntimeDefault" && own.localhost_profile.is_none(),
        _ => said
            .strip_prefix("localhost/")
            .filter(|l| !l.is_empty())
            .is_some_and(|local| own.type_ == "Localhost" && own.localhost_profile.as_deref() == Some(local)),
    });
    (!told && !same).then(|| {
        format!(r#"{}: deprecated since v1.30; use the "appArmorProfile" field instead"#, path.key(&key))
    })
}

fn fractions(container: &Container, path: &Path) -> Vec<String> {
    let Some(resources) = &container.resources else { return Vec::new() };
    let sides = [("limits", &resources.limits), ("requests", &resources.requests)];
    let mut warnings = Vec::new();
    for name in ["memory", "ephemeral-storage"] {
        for (side, amounts) in sides {
            warnings.extend(fractional(amounts, name, &path.child(side)));
        }
    }
    warnings
}

/// Variables that hide one of the same name, unless they are made of it.
fn variables(env: &[EnvVar], path: &Path) -> Vec<String> {
    let (mut warnings, mut seen) = (Vec::new(), BTreeSet::new());
    for (i, variable) in env.iter().enumerate() {
        if seen.insert(&variable.name) {
            continue;
        }
        let (reference, value) = (format!("$({})", variable.name), text(&variable.value));
        if variable.value_from.is_some() || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(i),
                quote(&variable.name)
            ));
        }
    }
    warnings
}

/// The ports seen so far, with their paths.
#[derive(Default)]
struct Ports {
    numbers: BTreeMap<(i32, String), Vec<(String, ContainerPort)>>,
    names: BTreeMap<String, String>,
}

impl Ports {
    fn number(&mut self, port: &ContainerPort, path: &Path) -> Vec<String> {
        let mut warnings = Vec::new();
        let (ip, number) = (text(&port.host_ip), port.host_port.unwrap_or(0));
        if !ip.is_empty() && number == 0 {
            warnings.push(format!("{path}: hostIP set without hostPort: {}", as_go_prints(port)));
        }
        let key = (port.container_port, text(&port.protocol).to_owned());
        let others = self.numbers.entry(key).or_default();
        for (at, other) in others.iter() {
            let (other_ip, other_number) = (text(&other.host_ip), other.host_port.unwrap_or(0));
            let how = if (ip, number) == (other_ip, other_number) {
                "duplicate port definition"
            } else if number == 0 || other_number == 0 {
                "overlapping port definition"
            } else if number == other_number && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous port definition"
            } else {
                continue;
            };
            warnings.push(format!("{path}: {how} with {at}"));
        }
        others.push((path.to_string(), port.clone()));
        warnings
    }

    fn name(&mut self, name: &str, path: &Path) -> Option<String> {
        if name.is_empty() {
            return None;
        }
        let Some(other) = self.names.get(name) else {
            self.names.insert(name.to_owned(), path.to_string());
            return None;
        };
        let name = quote(name);
        Some(format!(
            "{path}: duplicate port name {name} with {other}, services and probes that select ports by name will use {other}"
        ))
    }
}

fn as_go_prints(port: &ContainerPort) -> String {
    let (name, protocol, ip) = (text(&port.name), text(&port.protocol), text(&port.host_ip));
    let (host, number) = (port.host_port.unwrap_or(0), port.container_port);
    format!("{{Name:{name} HostPort:{host} ContainerPort:{number} Protocol:{protocol} HostIP:{ip}}}")
}
