//! API services. Upstream: `kube-aggregator/pkg/apis/apiregistration/validation/validation.go`.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};

use super::field::{Error, Path};
use super::objectmeta::{name_is_path_segment, validate_object_meta};
use super::{content, items, supported, text};

/// `ValidateAPIService`, of new and changed ones alike.
pub fn validate_api_service(new: &APIService) -> Vec<Error> {
    let metadata = Path::new("metadata");
    let mut errors = validate_object_meta(&new.metadata, false, name_is_path_segment, &metadata);
    let none = APIServiceSpec::default();
    let spec = new.spec.as_ref().unwrap_or(&none);
    let (group, version) = (text(&spec.group), text(&spec.version));
    let (name, required) = (text(&new.metadata.name), format!("{version}.{group}"));
    if !name.is_empty() && name != required && content::path_segment(name, false).is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.push(Error::invalid(&metadata.child("name"), name, detail));
    }
    let path = Path::new("spec");
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(Error::required(&path.child("group"), detail));
    }
    let mut refused = |field: &str, value: &str, texts: Vec<String>| {
        errors.extend(texts.into_iter().map(|m| Error::invalid(&path.child(field), value, m)));
    };
    if !group.is_empty() {
        refused("group", group, content::dns_subdomain(group));
    }
    refused("version", version, content::dns1035_label(version));
    for (value, most, field) in [
        (spec.group_priority_minimum, 20_000, "groupPriorityMinimum"),
        (spec.version_priority, 1_000, "versionPriority"),
    ] {
        if !(1..=most).contains(&value) {
            let detail = format!("must be positive and less than {most}");
            errors.push(Error::invalid(&path.child(field), value, detail));
        }
    }
    errors.extend(validate_service(spec, &path));
    errors
}

fn validate_service(spec: &APIServiceSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let ca_bytes = spec.ca_bundle.as_ref().map_or(0, |ca| ca.0.len());
    let insecure = spec.insecure_skip_tls_verify.unwrap_or(false);
    let Some(service) = &spec.service else {
        if ca_bytes > 0 {
            let detail = "local APIServices may not have a caBundle";
            errors.push(Error::invalid(&path.child("caBundle"), format!("{ca_bytes} bytes"), detail));
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(Error::invalid(&path.child("insecureSkipTLSVerify"), insecure, detail));
        }
        return errors;
    };
    let at = path.child("service");
    for (value, field) in [(&service.namespace, "namespace"), (&service.name, "name")] {
        if text(value).is_empty() {
            errors.push(Error::required(&at.child(field), ""));
        }
    }
    let port = service.port.unwrap_or(443);
    let refusals = content::port_number(i64::from(port));
    if !refusals.is_empty() {
        let detail = format!("port is not valid: {}", refusals.join(", "));
        errors.push(Error::invalid(&at.child("port"), port, detail));
    }
    if insecure && ca_bytes > 0 {
        let detail = "may not be true if caBundle is present";
        errors.push(Error::invalid(&path.child("insecureSkipTLSVerify"), insecure, detail));
    }
    errors
}

/// `ValidateAPIServiceStatus`
pub fn validate_api_service_status(new: &APIService) -> Vec<Error> {
    let Some(status) = &new.status else { return Vec::new() };
    let (path, mut errors) = (Path::new("status"), Vec::new());
    let conditions = path.child("conditions");
    for (i, condition) in items(&status.conditions).iter().enumerate() {
        let at = conditions.index(i);
        errors.extend(supported(&condition.status, &["True", "False", "Unknown"], &at.child("status")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(spec: serde_json::Value) -> Vec<String> {
        let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1.a.b"}, "spec": spec});
        let object: APIService = serde_json::from_value(object).unwrap();
        validate_api_service(&object).iter().map(|e| format!("{}: {}", e.field, e.body())).collect()
    }

    #[test]
    fn api_services() {
        let fine = json!({"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1});
        assert!(texts(fine).is_empty());
        let bad = json!({"group": "a.c", "version": "v1", "groupPriorityMinimum": 0, "versionPriority": 1001,
            "service": {"name": "s"}, "insecureSkipTLSVerify": true, "caBundle": "AAAA"});
        assert_eq!(
            texts(bad),
            [
                "metadata.name: Invalid value: \"v1.a.b\": must be `spec.version+\".\"+spec.group`: \"v1.a.c\"",
                "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000",
                "spec.service.namespace: Required value",
                "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
            ]
        );
    }
}
