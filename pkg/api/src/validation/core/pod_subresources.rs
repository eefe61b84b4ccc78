//! Updates through a pod's subresources: ephemeral containers, and resizes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, ResourceRequirements};

use super::pod::{MIRROR_ANNOTATION, Options, annotations_update, metadata_and_spec};
use super::resources::Amounts;
use crate::validation::field::{Error, Path, quote};
use crate::validation::{items, same_pointer, semantic_eq, typed_eq};

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR_ANNOTATION))
}

/// An update of ephemeral containers: they are only ever added.
pub fn validate_ephemeral_containers_update(new: &Pod, old: &Pod) -> Vec<Error> {
    if is_mirror(old) {
        return vec![Error::forbidden(&Path::new(""), "static pods do not support ephemeral containers")];
    }
    let options = Options::after(old.spec.as_ref(), Some(&old.metadata), true);
    let mut errors = metadata_and_spec(new, &options);
    errors.extend(annotations_update(new, old, &options));
    let path = Path::new("spec");
    let list = path.child("ephemeralContainers");
    let of = |pod: &Pod| -> Vec<EphemeralContainer> {
        pod.spec.as_ref().and_then(|s| s.ephemeral_containers.clone()).unwrap_or_default()
    };
    let now = of(new);
    for past in of(old) {
        let name = quote(&past.name);
        let detail = match now.iter().rfind(|c| c.name == past.name) {
            None => format!("existing ephemeral containers {name} may not be removed\n"),
            Some(c) if !typed_eq("core/v1.EphemeralContainer", c, &past) => {
                format!("existing ephemeral containers {name} may not be changed\n")
            }
            Some(_) => continue,
        };
        errors.push(Error::forbidden(&list, detail));
    }
    errors
}

/// A resize: amounts of cpu and memory of containers and of the pod, where the node can.
///
/// `classes` are the QoS classes before and after. Does not know claims of devices that stand for cpu or memory
/// (`DRANodeAllocatableResources`, alpha).
pub fn validate_pod_resize(new: &Pod, old: &Pod, classes: (&str, &str)) -> Vec<Error> {
    let refuse = |detail: &str| vec![Error::forbidden(&Path::new(""), detail)];
    if is_mirror(old) {
        return refuse("static pods cannot be resized");
    }
    let default = PodSpec::default();
    let (spec, before) = (new.spec.as_ref().unwrap_or(&default), old.spec.as_ref().unwrap_or(&default));
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        return refuse("windows pods cannot be resized");
    }
    let options = Options::after(old.spec.as_ref(), Some(&old.metadata), true);
    let mut errors = metadata_and_spec(new, &options);
    let path = Path::new("spec");
    if classes.0 != classes.1 {
        let class = new.status.as_ref().and_then(|s| s.qos_class.as_deref()).unwrap_or_default();
        errors.push(Error::invalid(&path, class, "Pod QOS Class may not change as a result of resizing"));
    }
    if !node_can(old) {
        errors.push(Error::forbidden(&path, "Pod running on node without support for resize"));
    }
    let mut munged = spec.clone();
    errors.extend(pod_level(&mut munged, before, &path));
    let order = ordering(spec, before, &path);
    if !order.is_empty() {
        errors.extend(order);
        return errors;
    }
    errors.extend(removals(spec, before, &path));
    errors.extend(mutable_amounts(&mut munged, before, &path));
    if !semantic_eq(&spec.volumes, &before.volumes) {
        let detail = "volumes are immutable on resize when InPlacePodVerticalScalingMemoryBackedVolumes feature gate is disabled";
        errors.push(Error::forbidden(&path.child("volumes"), detail));
    }
    if errors.is_empty() && !typed_eq("core/v1.PodSpec", &munged, before) {
        errors.push(Error::forbidden(&path, "only cpu and memory resources are mutable"));
    }
    errors
}

/// The node reports amounts of running containers when it can change them. Upstream: `isPodResizeRequestSupported`.
fn node_can(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().map(|s| items(&s.container_statuses)).unwrap_or_default();
    let running = statuses.iter().find(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.is_none_or(|s| s.resources.is_some())
}

/// Amounts of the pod as a whole; cpu and memory of `munged` are put back.
fn pod_level(munged: &mut PodSpec, before: &PodSpec, path: &Path) -> Vec<Error> {
    let set = |r: Option<&ResourceRequirements>| {
        r.is_some_and(|r| [&r.requests, &r.limits].iter().any(|l| l.as_ref().is_some_and(|l| !l.is_empty())))
    };
    let was = before.resources.as_ref();
    if !set(was) && !set(munged.resources.as_ref()) {
        return Vec::new();
    }
    let at = path.child("resources");
    let mut errors = Vec::new();
    let Some(now) = munged.resources.as_mut() else {
        return vec![Error::forbidden(&at, "pod-level resources cannot be removed")];
    };
    if let Some(was) = was {
        if removed(now.requests.as_ref(), was.requests.as_ref()) {
            errors.push(Error::forbidden(
                &at.child("requests"),
                "pod-level resource requests cannot be removed",
            ));
        }
        if removed(now.limits.as_ref(), was.limits.as_ref()) {
            errors.push(Error::forbidden(&at.child("limits"), "pod-level resource limits cannot be removed"));
        }
    }
    put_back(now, was);
    if was.is_none() && !set(Some(now)) && items(&now.claims).is_empty() {
        munged.resources = None;
    }
    if !same_pointer(&munged.resources, &before.resources) {
        errors.push(Error::forbidden(path, "only cpu and memory resources are mutable at pod-level"));
    }
    errors
}

fn removed(now: Option<&Amounts>, was: Option<&Amounts>) -> bool {
    let none = BTreeMap::new();
    let (now, was) = (now.unwrap_or(&none), was.unwrap_or(&none));
    was.len() > now.len() || was.keys().any(|name| !now.contains_key(name))
}

/// Replaces cpu and memory by what they were.
fn put_back(resources: &mut ResourceRequirements, was: Option<&ResourceRequirements>) {
    let list = |now: &mut Option<Amounts>, was: Option<&Amounts>| {
        let mut amounts = now.take().unwrap_or_default();
        for name in ["cpu", "memory"] {
            amounts.remove(name);
            if let Some(value) = was.and_then(|w| w.get(name)) {
                amounts.insert(name.to_owned(), value.clone());
            }
        }
        *now = (!amounts.is_empty()).then_some(amounts);
    };
    list(&mut resources.limits, was.and_then(|w| w.limits.as_ref()));
    list(&mut resources.requests, was.and_then(|w| w.requests.as_ref()));
}

type Lists<'a> = [(&'static str, &'a [Container], &'a [Container]); 2];

fn lists<'a>(new: &'a PodSpec, old: &'a PodSpec) -> Lists<'a> {
    [
        ("containers", &new.containers, &old.containers),
        ("initContainers", items(&new.init_containers), items(&old.init_containers)),
    ]
}

/// Containers stay where they are.
fn ordering(new: &PodSpec, old: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, now, then) in lists(new, old) {
        let at = path.child(field);
        if now.len() != then.len() {
            errors.push(Error::forbidden(&at, format!("{field} may not be added or removed on resize")));
            continue;
        }
        for (i, _) in now.iter().zip(then).enumerate().filter(|(_, (n, t))| n.name != t.name) {
            let detail = format!("{field} may not be renamed or reordered on resize");
            errors.push(Error::forbidden(&at.index(i).child("name"), detail));
        }
    }
    errors
}

fn removals(new: &PodSpec, old: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let none = ResourceRequirements::default();
    for (field, now, then) in lists(new, old).into_iter().rev() {
        let list = path.child(field);
        for (i, (now, then)) in now.iter().zip(then).enumerate() {
            let (now, then) =
                (now.resources.as_ref().unwrap_or(&none), then.resources.as_ref().unwrap_or(&none));
            let item = list.index(i);
            let at = item.child("resources");
            if removed(now.requests.as_ref(), then.requests.as_ref()) {
                errors.push(Error::forbidden(&at.child("requests"), "resource requests cannot be removed"));
            }
            if removed(now.limits.as_ref(), then.limits.as_ref()) {
                errors.push(Error::forbidden(&at.child("limits"), "resource limits cannot be removed"));
            }
        }
    }
    errors
}

/// Only cpu and memory of containers change; they are put back in `munged`.
fn mutable_amounts(munged: &mut PodSpec, before: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let reset = |container: &mut Container, was: &Container| {
        let mut resources = container.resources.take().unwrap_or_default();
        put_back(&mut resources, was.resources.as_ref());
        container.resources = (resources != ResourceRequirements::default()).then_some(resources);
    };
    for (container, was) in munged.containers.iter_mut().zip(&before.containers) {
        reset(container, was);
        if !typed_eq("core/v1.Container", container, was) {
            errors.push(Error::forbidden(path, "only cpu and memory resources are mutable"));
        }
    }
    let list = path.child("initContainers");
    let init = munged.init_containers.iter_mut().flatten().zip(items(&before.init_containers));
    for (i, (container, was)) in init.enumerate() {
        let changed = !typed_eq("core/v1.Container", container, was);
        reset(container, was);
        if !typed_eq("core/v1.Container", container, was) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(Error::forbidden(&list.index(i), detail));
        }
        let restarts =
            items(&container.resize_policy).iter().filter(|p| p.restart_policy == "RestartContainer");
        if changed && container.restart_policy.as_deref() != Some("Always") {
            let detail =
                "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.extend(restarts.map(|_| Error::forbidden(&list.index(i), detail)));
        }
    }
    errors
}
