//! internal.apiserver.k8s.io: versions that servers store resources in.
//! Upstream: `pkg/apis/apiserverinternal/validation/validation.go`.

use serde::Deserialize;

use super::content::{Refusals, dns_subdomain, dns1035_label, qualified_name, regex_error};
use super::field::{Bad, Error, Path};
use super::objectmeta::name_is_subdomain;

/// What is judged of a status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    storage_versions: Vec<Server>,
    common_encoding_version: Option<String>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Server {
    #[serde(rename = "apiServerID")]
    id: String,
    encoding_version: String,
    decodable_versions: Vec<String>,
    served_versions: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

/// `ValidateStorageVersionName`: a group and a resource.
pub fn name_is_storage_version(name: &str, _prefix: bool) -> Refusals {
    let Some((group, resource)) = name.rsplit_once('.') else {
        return vec!["name must be in the form of <group>.<resource>".into()];
    };
    let group = dns_subdomain(group).into_iter().map(|m| format!("the group segment {m}"));
    let resource = dns1035_label(resource).into_iter().map(|m| format!("the resource segment {m}"));
    group.chain(resource).collect()
}

/// `validateStorageVersionStatus`.
pub fn validate_status(status: &Status) -> Vec<Error> {
    let path = Path::new("status");
    let at = path.child("storageVersions");
    let mut errors = Vec::new();
    for (i, server) in status.storage_versions.iter().enumerate() {
        let at = at.index(i);
        if status.storage_versions[..i].iter().any(|other| other.id == server.id) {
            errors.push(Error::duplicate(&at.child("apiServerID"), &server.id));
        }
        of_server(server, &at, &mut errors);
    }
    errors.extend(common(status, &path.child("commonEncodingVersion")));
    for (i, condition) in status.conditions.iter().enumerate() {
        let same = status.conditions[..i].iter().rposition(|other| other.kind == condition.kind);
        of_condition(condition, same, &path.index(i), &mut errors);
    }
    errors
}

fn of_server(server: &Server, path: &Path<'_>, errors: &mut Vec<Error>) {
    for message in name_is_subdomain(&server.id, false) {
        errors.push(Error::invalid(&path.child("apiServerID"), &server.id, message));
    }
    let mut version = |at: &Path<'_>, version: &str| {
        let wrong = version_refusals(version);
        if !wrong.is_empty() {
            errors.push(Error::invalid(at, version, wrong.join(",")));
        }
    };
    version(&path.child("encodingVersion"), &server.encoding_version);
    let at = path.child("decodableVersions");
    for (i, decodable) in server.decodable_versions.iter().enumerate() {
        version(&at.index(i), decodable);
    }
    let known = |version: &String| server.decodable_versions.contains(version);
    if !known(&server.encoding_version) {
        let detail = format!("decodableVersions must include encodingVersion {}", server.encoding_version);
        errors.push(Error::invalid(&at, Bad::json(&server.decodable_versions), detail));
    }
    let at = path.child("servedVersions");
    for (i, served) in server.served_versions.iter().enumerate() {
        let wrong = version_refusals(served);
        if !wrong.is_empty() {
            errors.push(Error::invalid(&at.index(i), served, wrong.join(",")));
        }
        if !known(served) {
            let all = server.decodable_versions.join(" ");
            let detail = format!(
                "individual served version : {served} must be included in decodableVersions : [{all}]"
            );
            errors.push(Error::invalid(&at.index(i), served, detail));
        }
    }
}

/// The version all servers encode in (`validateCommonVersion`).
fn common(status: &Status, path: &Path<'_>) -> Option<Error> {
    let mut versions = status.storage_versions.iter().map(|server| &server.encoding_version);
    let actual = versions.next().filter(|first| versions.all(|other| other == *first));
    let told = status.common_encoding_version.as_ref();
    match (actual, told) {
        (None, Some(told)) => Some(Error::invalid(
            path,
            told,
            "should be nil if servers do not agree on the same encoding version, or if there is no server reporting the supported versions yet",
        )),
        (Some(actual), None) => {
            let detail = format!("the common encoding version is {actual}");
            Some(Error::invalid(path, Bad::Raw("null".into()), detail))
        }
        (Some(actual), Some(told)) if actual != told => {
            let detail = format!("the actual common encoding version is {actual}");
            Some(Error::invalid(path, told, detail))
        }
        _ => None,
    }
}

/// Upstream's paths lack the name of the list.
fn of_condition(condition: &Condition, same: Option<usize>, path: &Path<'_>, errors: &mut Vec<Error>) {
    if let Some(other) = same {
        let detail =
            format!("the type of the condition is not unique, it also appears in conditions[{other}]");
        errors.push(Error::invalid(&path.child("type"), &condition.kind, detail));
    }
    for (field, value) in [("type", &condition.kind), ("status", &condition.status)] {
        for message in qualified_name(value) {
            errors.push(Error::invalid(&path.child(field), value, message));
        }
    }
    for (field, value) in [("reason", &condition.reason), ("message", &condition.message)] {
        if value.is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
}

/// `isValidAPIVersion`: a version with or without a group.
fn version_refusals(api_version: &str) -> Vec<String> {
    let mut refusals = Vec::new();
    let mut part = |name: &str, value: &str, check: fn(&str) -> Refusals| {
        if value.is_empty() {
            refusals.push(format!("{name} part: must be non-empty"));
        } else {
            refusals.extend(check(value).into_iter().map(|m| format!("{name} part: {m}")));
        }
    };
    match api_version.split('/').collect::<Vec<_>>().as_slice() {
        [version] => part("version", version, dns1035_label),
        [group, version] => {
            part("group", group, dns_subdomain);
            part("version", version, dns1035_label);
        }
        _ => {
            let label = regex_error(
                "a DNS-1035 label, which must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
                "[a-z]([-a-z0-9]*[a-z0-9])?",
                &["my-name", "abc-123"],
            );
            refusals.push(format!(
                "an apiVersion is {label} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyVersion')"
            ));
        }
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_a_group_and_a_resource() {
        assert!(name_is_storage_version("apps.deployments", false).is_empty());
        for wrong in ["deployments", "Apps.deployments", "apps.Deployments", ".x"] {
            assert!(!name_is_storage_version(wrong, false).is_empty(), "{wrong}");
        }
    }

    #[test]
    fn servers_agree_or_not() {
        let refused = |text: &str| -> Vec<String> {
            validate_status(&serde_json::from_str(text).unwrap()).into_iter().map(|e| e.field).collect()
        };
        let server = |id: &str, version: &str| {
            format!(
                r#"{{"apiServerID":"{id}","encodingVersion":"{version}","decodableVersions":["{version}"]}}"#
            )
        };
        let status = |servers: &[String], common: &str| {
            format!(r#"{{"storageVersions":[{}]{common}}}"#, servers.join(","))
        };
        let (a, b, other) = (server("a", "v1"), server("b", "v1"), server("c", "v2"));
        let common = r#","commonEncodingVersion":"v1""#;
        assert_eq!(refused(&status(&[a.clone(), b.clone()], common)), [""; 0]);
        assert_eq!(refused(&status(&[a.clone(), b], "")), ["status.commonEncodingVersion"]);
        assert_eq!(refused(&status(&[a.clone(), other], common)), ["status.commonEncodingVersion"]);
        assert_eq!(refused(&status(&[a.clone(), a], common)), ["status.storageVersions[1].apiServerID"]);
        let wrong = r#"{"storageVersions":[{"apiServerID":"a","encodingVersion":"x/y/z"}],"commonEncodingVersion":"x/y/z"}"#;
        let at = "status.storageVersions[0]";
        assert_eq!(refused(wrong), [format!("{at}.encodingVersion"), format!("{at}.decodableVersions")]);
    }
}
