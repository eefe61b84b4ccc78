//! API services. Upstream: `kube-aggregator/pkg/apis/apiregistration/validation/validation.go`.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};

use super::field::{Error, Path, quote};
use super::objectmeta::{validate_changed_meta_once, validate_new_meta_once};
use super::{content, items, supported, text};

/// `ValidateAPIService`, of new and changed ones alike.
pub fn validate_api_service(new: &APIService) -> Vec<Error> {
    let none = APIServiceSpec::default();
    let spec = new.spec.as_ref().unwrap_or(&none);
    let (group, version) = (text(&spec.group), text(&spec.version));
    let required = format!("{version}.{group}");
    // What a name is generated from is judged as the name is: it never passes.
    let rule = |name: &str, _prefix: bool| match content::path_segment(name, false) {
        refusals if refusals.is_empty() && name != required => {
            vec![format!("must be `spec.version+\".\"+spec.group`: {}", quote(&required))]
        }
        refusals => refusals,
    };
    let mut errors = validate_new_meta_once(&new.metadata, false, rule, &Path::new("metadata"));
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

/// `ValidateAPIServiceUpdate`
pub fn validate_api_service_update(new: &APIService, old: &APIService) -> Vec<Error> {
    let mut errors = validate_changed_meta_once(&new.metadata, &old.metadata, &Path::new("metadata"));
    errors.extend(validate_api_service(new));
    errors
}

/// `ValidateAPIServiceStatusUpdate`
pub fn validate_api_service_status_update(new: &APIService, old: &APIService) -> Vec<Error> {
    let mut errors = validate_changed_meta_once(&new.metadata, &old.metadata, &Path::new("metadata"));
    let Some(status) = &new.status else { return errors };
    let path = Path::new("status");
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
    fn metadata() {
        let object = json!({"metadata": {"name": "v1.a.b", "generateName": "x/", "labels": {"a b": "", "c": "a b"}},
            "spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}});
        let mut new: APIService = serde_json::from_value(object).unwrap();
        let fields = |errors: Vec<Error>| errors.into_iter().map(|e| e.field).collect::<Vec<_>>();
        let created = ["metadata.generateName", "metadata.labels", "metadata.labels"];
        assert_eq!(fields(validate_api_service(&new)), created);
        // Once as a change and once as a new object.
        new.metadata.resource_version = Some("1".into());
        let changed = ["metadata.labels", "metadata.labels"].into_iter().chain(created);
        assert_eq!(fields(validate_api_service_update(&new, &new)), changed.collect::<Vec<_>>());
        new.metadata.generate_name = Some("v1.a.b".into());
        assert_eq!(validate_api_service(&new).len(), 2);
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
