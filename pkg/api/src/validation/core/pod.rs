//! Pods and pod templates: create and update. Status updates are in [`super::pod_status`], resizes and ephemeral
//! containers in [`super::pod_subresources`].
//!
//! Feature gates are at their defaults. `--allow-privileged` is the API server's to enforce: it is no property of a pod.

use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, NodeSelectorTerm, Pod, PodSpec, PodTemplate, PodTemplateSpec,
    Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::container::{self, Surroundings, validate_image_space, visit};
use super::probe::Setting;
use super::resources::{self, Terms};
use super::scheduling::{self, Lenient};
use super::volume::{self, Owner};
use super::{env, security};
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_annotations, validate_kube_object_meta, validate_labels, validate_nonnegative,
};
use crate::validation::{content, dns_label, dns_subdomain, items, one_of, refusals, text, typed_eq, within};

pub(super) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
const TOLERATIONS_ANNOTATION: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What a pod spec may have because it, or its predecessor, is what it is. Upstream: `PodValidationOptions`.
#[derive(Clone, Copy, Default)]
pub(super) struct Options {
    is_pod: bool,
    lenient: Lenient,
    odd_huge_pages: bool,
    host_sysctls: bool,
    any_token_path: bool,
    empty_image: bool,
    sys_admin: bool,
    restarting_init: bool,
    user_namespace_devices: bool,
    user_namespace_host_network: bool,
    any_deletion_cost: bool,
}

impl Options {
    /// For a change of `old`: what it had stays allowed.
    pub(super) fn after(old: Option<&PodSpec>, metadata: Option<&ObjectMeta>, is_pod: bool) -> Self {
        let Some(old) = old else { return Self { is_pod, ..Self::default() } };
        let own_users = old.host_users == Some(false);
        let mut devices = false;
        visit(old, &Path::ROOT, &mut |c, _| devices |= !items(&c.volume_devices).is_empty());
        let volumes = || items(&old.volumes).iter();
        let tokens = volumes().filter_map(|v| v.projected.as_ref()).flat_map(|p| items(&p.sources));
        let mut tokens = tokens.filter_map(|s| s.service_account_token.as_ref());
        Self {
            is_pod,
            lenient: scheduling::lenient(old),
            odd_huge_pages: resources::has_odd_huge_pages(old),
            host_sysctls: security::has_host_sysctls(old),
            any_token_path: tokens.any(|t| !super::path::local(&t.path, &Path::ROOT).is_empty()),
            empty_image: volumes().any(|v| v.image.as_ref().is_some_and(|i| text(&i.reference).is_empty())),
            sys_admin: security::has_sys_admin_without_escalation(old),
            restarting_init: items(&old.init_containers).iter().any(|c| {
                c.restart_policy.as_deref() != Some("Always")
                    && items(&c.resize_policy).iter().any(|p| p.restart_policy == "RestartContainer")
            }),
            user_namespace_devices: own_users && devices,
            user_namespace_host_network: own_users && old.host_network == Some(true),
            any_deletion_cost: metadata.is_some_and(|m| deletion_cost(m).is_err()),
        }
    }
}

/// The cost in the annotation, 0 without; the text when it is no number of the form that is asked for.
fn deletion_cost(metadata: &ObjectMeta) -> Result<i32, &str> {
    let Some(value) = metadata.annotations.as_ref().and_then(|a| a.get(DELETION_COST)) else { return Ok(0) };
    // A sign or digit is first, and no zero leads.
    let digits = value.strip_prefix('-').unwrap_or(value);
    let leading = value.starts_with('+') || digits.len() > 1 && digits.starts_with('0') || value == "-0";
    value.parse::<i32>().ok().filter(|_| !leading).ok_or(value)
}

/// A new pod.
pub fn validate_pod(pod: &Pod) -> Vec<Error> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let path = Path::new("spec");
    let mut errors = metadata_and_spec(pod, &Options { is_pod: true, ..Options::default() });
    if !items(&spec.ephemeral_containers).is_empty() {
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !text(&spec.node_name).is_empty() && !items(&spec.scheduling_gates).is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&path.child("nodeName"), detail));
    }
    errors.extend(security::validate_agreement(&pod.metadata, spec, &path));
    errors
}

pub(super) fn metadata_and_spec(pod: &Pod, options: &Options) -> Vec<Error> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let (metadata, path) = (Path::new("metadata"), Path::new("spec"));
    let mut errors = validate_kube_object_meta(&pod.metadata, true, name_is_subdomain, &metadata);
    errors.extend(pod_annotations(&pod.metadata, spec, options, &metadata.child("annotations")));
    errors.extend(validate_spec(spec, text(&pod.metadata.name), Some(&pod.metadata), options, &path));
    let volumes = items(&spec.volumes);
    errors.extend(volume::validate_token_account(
        volumes,
        &spec.service_account_name,
        &path.child("volumes"),
    ));
    if let Some(seconds) = spec.termination_grace_period_seconds {
        errors.extend(validate_nonnegative(seconds, &path.child("terminationGracePeriodSeconds")));
    }
    for (field, list) in
        [("containers", spec.containers.as_slice()), ("initContainers", items(&spec.init_containers))]
    {
        let at = path.child(field);
        for (i, container) in list.iter().enumerate() {
            errors.extend(validate_image_space(container, &at.index(i)));
        }
    }
    errors
}

/// Annotations with a meaning. Upstream: `ValidatePodSpecificAnnotations`.
fn pod_annotations(metadata: &ObjectMeta, spec: &PodSpec, options: &Options, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let value = |key: &str| metadata.annotations.as_ref().and_then(|a| a.get(key));
    if let Some(mirror) = value(MIRROR_ANNOTATION)
        && text(&spec.node_name).is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR_ANNOTATION), mirror, detail));
    }
    if let Some(list) = value(TOLERATIONS_ANNOTATION).filter(|v| !v.is_empty()) {
        match serde_json::from_str::<Vec<Toleration>>(list) {
            Ok(list) => {
                let at = path.child(TOLERATIONS_ANNOTATION);
                errors.extend(scheduling::validate_tolerations(&list, options.lenient.comparisons, &at));
            }
            Err(error) => errors.push(Error::invalid(path, TOLERATIONS_ANNOTATION, error.to_string())),
        }
    }
    if !options.any_deletion_cost
        && let Err(cost) = deletion_cost(metadata)
    {
        errors.push(Error::invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer"));
    }
    errors.extend(security::validate_annotations(metadata, spec, path));
    errors
}

/// A new PodTemplate object.
pub fn validate_pod_template(object: &PodTemplate) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&object.metadata, true, name_is_subdomain, &Path::new("metadata"));
    errors.extend(pod_template(object, None));
    errors
}

/// A changed PodTemplate object.
pub fn validate_pod_template_update(new: &PodTemplate, old: &PodTemplate) -> Vec<Error> {
    pod_template(new, old.template.as_ref())
}

fn pod_template(object: &PodTemplate, old: Option<&PodTemplateSpec>) -> Vec<Error> {
    let none = PodTemplateSpec::default();
    validate_template(object.template.as_ref().unwrap_or(&none), old, &Path::new("template"))
}

/// A pod template; `old` is the one it replaces.
pub fn validate_template(
    template: &PodTemplateSpec,
    old: Option<&PodTemplateSpec>,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let (default, none) = (PodSpec::default(), ObjectMeta::default());
    let spec = template.spec.as_ref().unwrap_or(&default);
    let metadata = template.metadata.as_ref().unwrap_or(&none);
    let options =
        Options::after(old.and_then(|o| o.spec.as_ref()), old.and_then(|o| o.metadata.as_ref()), false);
    errors.extend(template_metadata(metadata, spec, &options, path));
    let at = path.child("spec");
    errors.extend(validate_spec(spec, "", None, &options, &at));
    errors.extend(security::validate_agreement(metadata, spec, &at));
    if !items(&spec.ephemeral_containers).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&at.child("ephemeralContainers"), detail));
    }
    errors
}

fn template_metadata(metadata: &ObjectMeta, spec: &PodSpec, options: &Options, path: &Path) -> Vec<Error> {
    let at = path.child("annotations");
    let mut errors = validate_labels(metadata.labels.as_ref(), &path.child("labels"));
    errors.extend(validate_annotations(metadata.annotations.as_ref(), &at));
    errors.extend(pod_annotations(metadata, spec, options, &at));
    errors
}

/// Labels and annotations of a template alone.
pub(crate) fn validate_template_metadata(
    template: &PodTemplateSpec,
    old: Option<&PodTemplateSpec>,
    path: &Path,
) -> Vec<Error> {
    let (default, none) = (PodSpec::default(), ObjectMeta::default());
    let spec = template.spec.as_ref().unwrap_or(&default);
    let options =
        Options::after(old.and_then(|o| o.spec.as_ref()), old.and_then(|o| o.metadata.as_ref()), false);
    template_metadata(template.metadata.as_ref().unwrap_or(&none), spec, &options, path)
}

/// `ValidatePodSpec`, in its order.
fn validate_spec(
    spec: &PodSpec,
    pod: &str,
    metadata: Option<&ObjectMeta>,
    options: &Options,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let owner = Owner { pod, any_token_path: options.any_token_path, empty_image: options.empty_image };
    let (volumes, found) = volume::validate_volumes(items(&spec.volumes), owner, &path.child("volumes"));
    errors.extend(found);
    errors.extend(validate_claims(spec, metadata, &path.child("resourceClaims")));
    let claims: Vec<&str> =
        items(&spec.resource_claims).iter().map(|c| c.name.as_str()).filter(|n| !n.is_empty()).collect();
    let terms = || Terms { claims: &claims, any_huge_page_amount: options.odd_huge_pages };
    let around = Surroundings {
        volumes: &volumes,
        setting: Setting {
            os: spec.os.as_ref().map(|os| os.name.as_str()),
            grace_period: spec.termination_grace_period_seconds,
        },
        terms: terms(),
        restart_policy: text(&spec.restart_policy),
        host_users: spec.host_users != Some(false),
        sys_admin: options.sys_admin,
        restarting_init: options.restarting_init,
    };
    errors.extend(container::validate_containers(spec, &around, &path.child("containers")));
    errors.extend(container::validate_init_containers(spec, &around, &path.child("initContainers")));
    let at = path.child("ephemeralContainers");
    errors.extend(container::validate_ephemeral_containers(spec, &around, &at));
    errors.extend(resources::validate_pod(spec, &terms(), path));
    errors.extend(validate_host_network(spec, options.is_pod, path));
    errors.extend(security::validate_policies(spec, path));
    errors.extend(validate_labels(spec.node_selector.as_ref(), &path.child("nodeSelector")));
    errors.extend(security::validate_pod(spec, options.host_sysctls, &path.child("securityContext")));
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    errors.extend(validate_placement(spec, options, path));
    errors.extend(security::validate_host_process(spec, path));
    errors.extend(validate_host_users(spec, options, path));
    errors.extend(validate_names(spec, options, path));
    if let Some(overhead) = &spec.overhead {
        let limits = k8s_openapi::api::core::v1::ResourceRequirements {
            limits: Some(overhead.clone()),
            ..Default::default()
        };
        let terms = Terms { claims: &[], any_huge_page_amount: options.odd_huge_pages };
        errors.extend(resources::validate_container(&limits, &terms, &path.child("overhead")));
    }
    errors.extend(security::validate_os(spec, path));
    if let Some(group) = &spec.scheduling_group {
        let at = path.child("schedulingGroup");
        match group.pod_group_name.as_deref() {
            None => {
                let detail = "must specify one of: `podGroupName`";
                errors.push(Error::invalid(&at.child("podGroupName"), Bad::Raw("null".into()), detail));
            }
            Some(name) => errors.extend(dns_subdomain(name, &at.child("podGroupName"))),
        }
    }
    errors.extend(env::validate_file_volumes(spec, path));
    errors
}

fn validate_claims(spec: &PodSpec, metadata: Option<&ObjectMeta>, path: &Path) -> Vec<Error> {
    let claims = items(&spec.resource_claims);
    let mirror =
        metadata.and_then(|m| m.annotations.as_ref()).is_some_and(|a| a.contains_key(MIRROR_ANNOTATION));
    let mut errors = Vec::new();
    for (i, claim) in claims.iter().enumerate() {
        if mirror {
            errors.push(Error::forbidden(&Path::new(""), "static pods do not support resource claims"));
            continue;
        }
        let at = path.index(i);
        if claim.name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        } else if claims[..i].iter().any(|c| c.name == claim.name) {
            errors.push(Error::duplicate(&at.child("name"), &claim.name));
        } else {
            errors.extend(dns_label(&claim.name, &at.child("name")));
        }
        let (name, template) = (&claim.resource_claim_name, &claim.resource_claim_template_name);
        let detail = match (name, template) {
            (Some(_), Some(_)) => {
                Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
            }
            (None, None) => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => None,
        };
        errors.extend(detail.map(|d| Error::invalid(&at, Bad::json(claim), d)));
        for (field, name) in [("resourceClaimName", name), ("resourceClaimTemplateName", template)] {
            errors.extend(name.iter().flat_map(|n| dns_subdomain(n, &at.child(field))));
        }
    }
    errors
}

fn validate_host_network(spec: &PodSpec, is_pod: bool, path: &Path) -> Vec<Error> {
    if spec.host_network != Some(true) {
        return Vec::new();
    }
    let list = path.child("containers");
    let mut errors = Vec::new();
    for (c, container) in spec.containers.iter().enumerate() {
        let at = list.index(c);
        let ports = at.child("ports");
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (is_pod || host != 0) && host != port.container_port {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&ports.index(p).child("hostPort"), host, detail));
            }
        }
    }
    errors
}

fn validate_placement(spec: &PodSpec, options: &Options, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(affinity) = &spec.affinity {
        errors.extend(scheduling::validate_affinity(affinity, options.lenient, &path.child("affinity")));
    }
    let policy = text(&spec.dns_policy);
    errors.extend(scheduling::validate_dns(spec.dns_config.as_ref(), policy, &path.child("dnsConfig")));
    let at = path.child("readinessGates");
    for (i, gate) in items(&spec.readiness_gates).iter().enumerate() {
        let kind = gate.condition_type.as_str();
        errors.extend(refusals(&at.index(i).child("conditionType"), kind, content::qualified_name(kind)));
    }
    let (at, gates) = (path.child("schedulingGates"), items(&spec.scheduling_gates));
    for (i, gate) in gates.iter().enumerate() {
        errors.extend(refusals(&at.index(i), &gate.name, content::qualified_name(&gate.name)));
        if gates[..i].iter().any(|g| g.name == gate.name) {
            errors.push(Error::duplicate(&at.index(i), &gate.name));
        }
    }
    let constraints = items(&spec.topology_spread_constraints);
    let at = path.child("topologySpreadConstraints");
    errors.extend(scheduling::validate_spread(constraints, options.lenient, &at));
    errors
}

/// A pod with users of its own shares no namespace of the host. Upstream: `validateHostUsers`.
fn validate_host_users(spec: &PodSpec, options: &Options, path: &Path) -> Vec<Error> {
    if spec.host_users != Some(false) {
        return Vec::new();
    }
    let detail = "when `hostUsers` is false";
    let set = [
        ("hostNetwork", spec.host_network == Some(true) && !options.user_namespace_host_network),
        ("HostPID", spec.host_pid == Some(true)),
        ("HostIPC", spec.host_ipc == Some(true)),
    ];
    let mut errors: Vec<Error> =
        set.iter().filter(|(_, s)| *s).map(|(f, _)| Error::forbidden(&path.child(f), detail)).collect();
    if !options.user_namespace_devices {
        visit(spec, path, &mut |container, at| {
            if !items(&container.volume_devices).is_empty() {
                errors.push(Error::forbidden(&at.child("volumeDevices"), detail));
            }
        });
    }
    errors
}

/// Names and small values, in upstream's order.
fn validate_names(spec: &PodSpec, options: &Options, path: &Path) -> Vec<Error> {
    let mut errors = validate_hostname_override(spec, path);
    let optional_subdomain = |field: &str, name: &Option<String>| match text(name) {
        "" => Vec::new(),
        name => dns_subdomain(name, &path.child(field)),
    };
    errors.extend(optional_subdomain("serviceAccountName", &spec.service_account_name));
    let (account, old_account) = (text(&spec.service_account_name), text(&spec.service_account));
    if account != old_account {
        let detail =
            format!("must be the same as serviceAccountName: {}", crate::validation::field::quote(account));
        errors.push(Error::invalid(&path.child("deprecatedServiceAccount"), old_account, detail));
    }
    errors.extend(optional_subdomain("nodeName", &spec.node_name));
    if let Some(seconds) = spec.active_deadline_seconds {
        errors.extend(within(seconds, 1, i64::from(i32::MAX), &path.child("activeDeadlineSeconds")));
    }
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if !text(name).is_empty() {
            errors.extend(dns_label(text(name), &path.child(field)));
        }
    }
    let tolerations = items(&spec.tolerations);
    let at = path.child("tolerations");
    errors.extend(scheduling::validate_tolerations(tolerations, options.lenient.comparisons, &at));
    errors.extend(scheduling::validate_host_aliases(items(&spec.host_aliases), &path.child("hostAliases")));
    errors.extend(optional_subdomain("priorityClassName", &spec.priority_class_name));
    if let Some(class) = spec.runtime_class_name.as_deref() {
        errors.extend(dns_subdomain(class, &path.child("runtimeClassName")));
    }
    if let Some(policy) = spec.preemption_policy.as_deref() {
        errors.extend(one_of(policy, &["PreemptLowerPriority", "Never"], &path.child("preemptionPolicy")));
    }
    errors
}

fn validate_hostname_override(spec: &PodSpec, path: &Path) -> Vec<Error> {
    let Some(name) = spec.hostname_override.as_deref() else { return Vec::new() };
    let at = path.child("hostnameOverride");
    let mut errors = Vec::new();
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.push(Error::forbidden(&at, "may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.host_network == Some(true) {
        errors.push(Error::forbidden(&at, "may not be specified when hostNetwork is true"));
    }
    if name.len() > 64 {
        errors.push(Error::too_long(&at, 64));
    }
    errors.extend(dns_subdomain(name, &at));
    errors
}

/// Annotations with a meaning that stay as they are. Upstream: `ValidatePodSpecificAnnotationUpdates`.
pub(super) fn annotations_update(new: &Pod, old: &Pod, options: &Options) -> Vec<Error> {
    let metadata = Path::new("metadata");
    let path = metadata.child("annotations");
    let none = std::collections::BTreeMap::new();
    let (now, then) = (
        new.metadata.annotations.as_ref().unwrap_or(&none),
        old.metadata.annotations.as_ref().unwrap_or(&none),
    );
    let mut errors = Vec::new();
    let mut refuse = |key: &str, what: &str| {
        let subject = if key.starts_with(security::APP_ARMOR) {
            "AppArmor annotations"
        } else if key == MIRROR_ANNOTATION {
            "mirror pod annotation"
        } else {
            return;
        };
        errors.push(Error::forbidden(&path.key(key), format!("may not {what} {subject}")));
    };
    then.iter().filter(|(k, v)| now.get(*k) != Some(v)).for_each(|(k, _)| refuse(k, "remove or update"));
    now.keys().filter(|k| !then.contains_key(*k)).for_each(|k| refuse(k, "add"));
    let default = PodSpec::default();
    errors.extend(pod_annotations(&new.metadata, new.spec.as_ref().unwrap_or(&default), options, &path));
    errors
}

/// A changed pod: images, deadline, added tolerations and removed gates only; placement too while it is gated.
pub fn validate_pod_update(new: &Pod, old: &Pod) -> Vec<Error> {
    let options = Options::after(old.spec.as_ref(), Some(&old.metadata), true);
    let mut errors = metadata_and_spec(new, &options);
    errors.extend(annotations_update(new, old, &options));
    let path = Path::new("spec");
    let default = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&default), old.spec.as_ref().unwrap_or(&default));
    for (field, now, then) in [
        ("containers", new.containers.as_slice(), old.containers.as_slice()),
        ("initContainers", items(&new.init_containers), items(&old.init_containers)),
    ] {
        match containers_update(now, then, &path.child(field)) {
            Ok(found) => errors.extend(found),
            Err(error) => {
                errors.push(error);
                return errors;
            }
        }
    }
    match deadline_update(new, old, &path.child("activeDeadlineSeconds")) {
        Ok(found) => errors.extend(found),
        Err(error) => {
            errors.push(error);
            return errors;
        }
    }
    errors.extend(only_added_tolerations(new, old, &options, &path.child("tolerations")));
    errors.extend(only_removed_gates(new, old, &path.child("schedulingGates")));
    let mut munged = munged(new, old);
    if !items(&old.scheduling_gates).is_empty() {
        errors.extend(gated_update(&mut munged, old, &path));
    }
    if !typed_eq("core/v1.PodSpec", &munged, old) {
        errors.push(Error::forbidden(
            &path,
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n",
        ));
    }
    errors
}

/// Images may change; an error that ends the validation when their number does.
fn containers_update(new: &[Container], old: &[Container], path: &Path) -> Result<Vec<Error>, Error> {
    if new.len() != old.len() {
        return Err(Error::forbidden(path, "pod updates may not add or remove containers"));
    }
    let mut errors = Vec::new();
    for (i, container) in new.iter().enumerate() {
        if text(&container.image).is_empty() {
            errors.push(Error::required(&path.index(i).child("image"), ""));
        }
        errors.extend(validate_image_space(container, &path.index(i)));
    }
    Ok(errors)
}

/// A deadline may come closer; one that moves away ends the validation.
fn deadline_update(new: &PodSpec, old: &PodSpec, path: &Path) -> Result<Option<Error>, Error> {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            Err(Error::invalid(path, now, content::range(0, i64::from(i32::MAX))))
        }
        (Some(now), Some(then)) if then < now => {
            Err(Error::invalid(path, now, "must be less than or equal to previous value"))
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            Ok(Some(Error::invalid(path, Bad::Raw("null".into()), detail)))
        }
        _ => Ok(None),
    }
}

/// The new spec with everything that may change put back.
fn munged(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    let init = spec.init_containers.iter_mut().flatten().zip(items(&old.init_containers));
    for (container, before) in spec.containers.iter_mut().zip(&old.containers).chain(init) {
        container.image.clone_from(&before.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    spec.tolerations.clone_from(&old.tolerations);
    let was_negative = old.termination_grace_period_seconds.is_some_and(|s| s < 0);
    if was_negative && spec.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    spec
}

/// A gated pod may have its placement narrowed; what may change is put back.
fn gated_update(munged: &mut PodSpec, old: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let none = std::collections::BTreeMap::new();
    let (now, then) =
        (munged.node_selector.as_ref().unwrap_or(&none), old.node_selector.as_ref().unwrap_or(&none));
    if then.iter().any(|(k, v)| now.get(k) != Some(v)) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(Error::invalid(&path.child("nodeSelector"), Bad::json(now), detail));
    }
    munged.node_selector.clone_from(&old.node_selector);
    let node = |a: &Option<Affinity>| a.as_ref().and_then(|a| a.node_affinity.clone());
    let (now, then) = (node(&munged.affinity), node(&old.affinity));
    let same = match (&now, &then) {
        (Some(now), Some(then)) => typed_eq("core/v1.NodeAffinity", now, then),
        (now, then) => now.is_none() && then.is_none(),
    };
    if same {
        return errors;
    }
    let affinity = path.child("affinity");
    let at = affinity.child("nodeAffinity");
    let required = at.child("requiredDuringSchedulingIgnoredDuringExecution");
    errors.extend(narrowed(now.as_ref(), then.as_ref(), &required.child("nodeSelectorTerms")));
    let pods =
        munged.affinity.as_ref().is_some_and(|a| a.pod_affinity.is_some() || a.pod_anti_affinity.is_some());
    match &mut munged.affinity {
        Some(_) if old.affinity.is_none() && !pods => munged.affinity = None,
        Some(affinity) => affinity.node_affinity = then,
        None => munged.affinity = Some(Affinity { node_affinity: then, ..Affinity::default() }),
    }
    errors
}

/// Terms stay, with requirements added at their ends only.
fn narrowed(new: Option<&NodeAffinity>, old: Option<&NodeAffinity>, path: &Path) -> Vec<Error> {
    let terms = |a: Option<&NodeAffinity>| -> Vec<NodeSelectorTerm> {
        let selector = a.and_then(|a| a.required_during_scheduling_ignored_during_execution.clone());
        selector.map(|s| s.node_selector_terms).unwrap_or_default()
    };
    let (now, then) = (terms(new), terms(old));
    if !then.is_empty() && now.len() != then.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return vec![Error::invalid(path, Bad::json(&now), detail)];
    }
    let mut errors = Vec::new();
    for (i, (now, then)) in now.iter().zip(&then).enumerate() {
        let lists = [
            (items(&now.match_expressions), items(&then.match_expressions)),
            (items(&now.match_fields), items(&then.match_fields)),
        ];
        let filled =
            lists.iter().all(|(_, then)| then.is_empty()) && lists.iter().any(|(now, _)| !now.is_empty());
        if filled || lists.iter().any(|(now, then)| !now.starts_with(then)) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(Error::invalid(&path.index(i), Bad::json(now), detail));
        }
    }
    errors
}

fn only_added_tolerations(new: &PodSpec, old: &PodSpec, options: &Options, path: &Path) -> Vec<Error> {
    let now = items(&new.tolerations);
    let kept = |t: &Toleration| {
        now.iter().any(|n| Toleration { toleration_seconds: n.toleration_seconds, ..t.clone() } == *n)
    };
    if !items(&old.tolerations).iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return vec![Error::forbidden(path, detail)];
    }
    scheduling::validate_tolerations(now, options.lenient.comparisons, path)
}

fn only_removed_gates(new: &PodSpec, old: &PodSpec, path: &Path) -> Vec<Error> {
    let (now, then) = (items(&new.scheduling_gates), items(&old.scheduling_gates));
    let mut errors = Vec::new();
    for (i, gate) in now.iter().enumerate() {
        let repeated = now[i + 1..].iter().any(|g| g.name == gate.name);
        if !repeated && !then.iter().any(|g| g.name == gate.name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.push(Error::forbidden(&path.index(i).child("name"), detail));
        }
    }
    errors
}
