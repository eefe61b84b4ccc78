//! Environment of containers. Upstream: `ValidateEnv`, `ValidateEnvFrom` and the selectors below them.

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, FileKeySelector, ObjectFieldSelector, PodSpec, ResourceFieldSelector,
};
use machinery::Quantity;

use super::path::no_backsteps;
use crate::validation::field::{Error, Path};
use crate::validation::{content, dns_label, dns_subdomain, refusals, required, text};

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a downward API volume can show.
pub(super) const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Field paths known to core/v1, subscripts apart. Upstream: `ConvertDownwardAPIFieldLabel`.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Variables.
pub(super) fn validate_env(vars: &[EnvVar], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, var) in vars.iter().enumerate() {
        let at = path.index(i);
        if var.name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        } else {
            errors.extend(refusals(&at.child("name"), &var.name, content::relaxed_env_var_name(&var.name)));
        }
        errors.extend(validate_value_from(var, &at.child("valueFrom")));
    }
    errors
}

fn validate_value_from(var: &EnvVar, path: &Path) -> Vec<Error> {
    let Some(from) = &var.value_from else { return Vec::new() };
    let mut errors = Vec::new();
    if let Some(selector) = &from.field_ref {
        errors.extend(validate_field_ref(selector, ENV_FIELDS, &path.child("fieldRef")));
    }
    if let Some(selector) = &from.resource_field_ref {
        errors.extend(validate_resource_ref(selector, false, &path.child("resourceFieldRef")));
    }
    if let Some(selector) = &from.config_map_key_ref {
        errors.extend(validate_key_ref(&selector.name, &selector.key, &path.child("configMapKeyRef")));
    }
    if let Some(selector) = &from.secret_key_ref {
        errors.extend(validate_key_ref(&selector.name, &selector.key, &path.child("secretKeyRef")));
    }
    if let Some(selector) = &from.file_key_ref {
        errors.extend(validate_file_ref(selector, &path.child("fileKeyRef")));
    }
    let set = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    let count = set.iter().filter(|s| **s).count();
    let bad = |text: &str| Error::invalid(path, "", text);
    if count == 0 {
        errors.push(bad("must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"));
    } else if !text(&var.value).is_empty() {
        errors.push(bad("may not be specified when `value` is not empty"));
    } else if count > 1 {
        errors.push(bad("may not have more than one field specified at a time"));
    }
    errors
}

/// A reference to a field of the pod.
pub(super) fn validate_field_ref(selector: &ObjectFieldSelector, fields: &[&str], path: &Path) -> Vec<Error> {
    let version = text(&selector.api_version);
    if version.is_empty() {
        return vec![Error::required(&path.child("apiVersion"), "")];
    }
    let field = selector.field_path.as_str();
    if field.is_empty() {
        return vec![Error::required(&path.child("fieldPath"), "")];
    }
    let at = path.child("fieldPath");
    let cannot = |why: String| vec![Error::invalid(&at, field, format!("error converting fieldPath: {why}"))];
    if version != "v1" {
        return cannot(format!("unsupported pod version: {version}"));
    }
    if let Some((name, subscript)) = subscripted(field) {
        return match name {
            "metadata.annotations" => {
                let key = subscript.to_lowercase();
                refusals(path, &key, content::qualified_name(&key))
            }
            "metadata.labels" => refusals(path, subscript, content::qualified_name(subscript)),
            _ => cannot(format!("field label does not support subscript: {field}")),
        };
    }
    // An old name that converts to the new one.
    let name = if field == "spec.host" { "spec.nodeName" } else { field };
    if !KNOWN_FIELDS.contains(&name) {
        return cannot(format!("field label not supported: {field}"));
    }
    if !fields.contains(&name) {
        return vec![Error::not_supported(&at, name, fields)];
    }
    Vec::new()
}

/// `name['subscript']`. Upstream: `fieldpath.SplitMaybeSubscriptedPath`.
fn subscripted(field: &str) -> Option<(&str, &str)> {
    let inner = field.strip_suffix("']")?;
    let (name, subscript) = inner.split_once("['")?;
    (!name.is_empty()).then_some((name, subscript))
}

/// A reference to a container's resource.
pub(super) fn validate_resource_ref(
    selector: &ResourceFieldSelector,
    volume: bool,
    path: &Path,
) -> Vec<Error> {
    let resource = selector.resource.as_str();
    let huge = ["requests.hugepages-", "limits.hugepages-"].iter().any(|p| resource.starts_with(p));
    let mut errors = Vec::new();
    if volume && text(&selector.container_name).is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, RESOURCES));
    }
    errors.extend(validate_divisor(selector, huge, path));
    errors
}

fn validate_divisor(selector: &ResourceFieldSelector, huge: bool, path: &Path) -> Option<Error> {
    let divisor = Quantity::parse(&selector.divisor.as_ref()?.0).ok()?;
    if divisor.is_zero() {
        return None;
    }
    let name = match selector.resource.as_str() {
        "limits.cpu" | "requests.cpu" => "cpu",
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return None,
    };
    let amount = divisor.canonical();
    let (fits, values) = if name == "cpu" {
        (matches!(amount.as_str(), "1m" | "1"), "1m and 1")
    } else {
        let sizes = ["", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let fits = amount.strip_prefix('1').is_some_and(|unit| sizes.contains(&unit));
        (fits, "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei")
    };
    (!fits).then(|| {
        let detail = format!("only divisor's values {values} are supported with the {name} resource");
        Error::invalid(&path.child("divisor"), selector.resource.as_str(), detail)
    })
}

fn validate_key_ref(name: &str, key: &str, path: &Path) -> Vec<Error> {
    let mut errors = dns_subdomain(name, &path.child("name"));
    if key.is_empty() {
        errors.push(Error::required(&path.child("key"), ""));
    } else {
        errors.extend(refusals(&path.child("key"), key, content::config_map_key(key)));
    }
    errors
}

fn validate_file_ref(selector: &FileKeySelector, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if selector.key.is_empty() {
        errors.push(Error::required(&path.child("key"), ""));
    } else {
        errors.extend(refusals(
            &path.child("key"),
            &selector.key,
            content::relaxed_env_var_name(&selector.key),
        ));
    }
    match required(&selector.volume_name, &path.child("volumeName")) {
        Some(error) => errors.push(error),
        None => errors.extend(dns_label(&selector.volume_name, &path.child("volumeName"))),
    }
    match required(&selector.path, &path.child("path")) {
        Some(error) => errors.push(error),
        None => errors.extend(no_backsteps(&selector.path, &path.child("path"))),
    }
    errors
}

/// Sources of many variables.
pub(super) fn validate_env_from(sources: &[EnvFromSource], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let at = path.index(i);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            errors.extend(refusals(&at.child("prefix"), prefix, content::relaxed_env_var_name(prefix)));
        }
        let names = [
            ("configMapRef", source.config_map_ref.as_ref().map(|r| r.name.as_str())),
            ("secretRef", source.secret_ref.as_ref().map(|r| r.name.as_str())),
        ];
        for (field, name) in names {
            let reference = at.child(field);
            match name {
                Some("") => errors.push(Error::required(&reference.child("name"), "")),
                Some(name) => {
                    let rule = crate::validation::objectmeta::name_is_subdomain;
                    errors.extend(refusals(&reference.child("name"), name, rule(name, true)));
                }
                None => {}
            }
        }
        match names.iter().filter(|(_, n)| n.is_some()).count() {
            0 => errors.push(Error::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => {
                errors.push(Error::invalid(path, "", "may not have more than one field specified at a time"))
            }
        }
    }
    errors
}

/// Files with variables lie in emptyDir volumes. Upstream: `validateFileKeyRefVolumes`.
pub(super) fn validate_file_volumes(spec: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    super::container::visit(spec, path, &mut |container: &Container, at: &Path| {
        for (i, var) in container.env.iter().flatten().enumerate() {
            let Some(file) = var.value_from.as_ref().and_then(|f| f.file_key_ref.as_ref()) else { continue };
            let env = at.child("env");
            let (item, from) = (env.index(i), "valueFrom");
            let from = item.child(from);
            let file_ref = from.child("fileKeyRef");
            let name = file_ref.child("volumeName");
            match spec.volumes.iter().flatten().rfind(|v| v.name == file.volume_name) {
                None => errors.push(Error::not_found(&name, &file.volume_name)),
                Some(volume) if volume.empty_dir.is_none() => errors.push(Error::invalid(
                    &name,
                    &file.volume_name,
                    "referenced volume must be of type emptyDir",
                )),
                Some(_) => {}
            }
        }
    });
    errors
}
