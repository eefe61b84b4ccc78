//! Discovery: what the server serves, in the legacy documents and in the aggregated one.
//!
//! All documents are rendered from the registry's rows and cached until the rows change.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/discovery` and `.../discovery/aggregated`.
mod aggregated;
mod legacy;

use std::cmp::Reverse;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, StatusCode};
use registry::api::{MediaType, ResourceRow};
use registry::errors::ApiError;

use crate::server::{Call, Server};
use crate::web::negotiate::{self, Restrictions};
use crate::web::{Response, body, respond};

/// One group with its versions, preferred first.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) versions: Vec<Version>,
    /// Groups of a higher one come first.
    priority: i64,
    /// The name of the first APIService that has that priority.
    first: String,
}

/// One version with its resources, sorted by name.
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) resources: Vec<Arc<ResourceRow>>,
    /// What another server says of it, as JSON, where another serves it.
    pub(crate) remote: Option<Arc<str>>,
    priority: i64,
}

/// A version in its group, made if it is not there.
fn entry<'a>(groups: &'a mut Vec<Group>, group: &str, version: &str) -> &'a mut Version {
    let at = groups.iter().position(|g| g.name == group).unwrap_or_else(|| {
        groups.push(Group {
            name: group.to_owned(),
            versions: Vec::new(),
            priority: 0,
            first: String::new(),
        });
        groups.len() - 1
    });
    let versions = &mut groups[at].versions;
    let at = versions.iter().position(|v| v.name == version).unwrap_or_else(|| {
        let name = version.to_owned();
        versions.push(Version { name, resources: Vec::new(), remote: None, priority: 0 });
        versions.len() - 1
    });
    &mut versions[at]
}

/// What is served, here and behind, grouped and ordered by the priorities of the APIServices.
fn groups(server: &Server) -> Vec<Group> {
    let aggregator = &server.aggregator;
    let services = aggregator.services.all();
    let mut groups: Vec<Group> = Vec::new();
    for row in server.registry.resources() {
        entry(&mut groups, &row.gvk.group, &row.gvk.version).resources.push(row.clone());
    }
    for service in services.values().filter(|s| s.remote.is_some()) {
        let document = aggregator.documents.get(&service.group, &service.version);
        entry(&mut groups, &service.group, &service.version).remote = Some(document);
    }
    for group in &mut groups {
        for version in &mut group.versions {
            let name = format!("{}.{}", version.name, group.name);
            let service = services.get(&name);
            let priorities = match service {
                Some(service) => (service.group_priority, service.version_priority),
                None => crate::aggregator::priority(&group.name, &version.name),
            };
            let before = (Reverse(group.priority), group.first.as_str());
            if group.first.is_empty() || (Reverse(priorities.0), name.as_str()) < before {
                (group.priority, group.first) = (priorities.0, name);
            }
            version.priority = priorities.1;
            version.resources.sort_by(|a, b| a.resource.cmp(&b.resource));
        }
        group.versions.sort_by_key(|v| Reverse((v.priority, version_priority(&v.name))));
    }
    groups.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    groups
}

/// Of groups with one priority, the legacy list has that first whose APIService is named first, version and all.
/// Upstream: `kube-aggregator/pkg/apis/apiregistration/v1/helper` `ByGroupPriorityMinimum`.
fn legacy_order(groups: &mut [Group]) {
    groups.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.first.cmp(&b.first)));
}

/// Stable before beta before alpha, higher numbers first. Upstream: `apimachinery/pkg/version.CompareKubeAwareVersionStrings`.
fn version_priority(name: &str) -> (u8, u32, u32) {
    let parse = || -> Option<(u8, u32, u32)> {
        let rest = name.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        if tail.is_empty() {
            return Some((3, major, 0));
        }
        for (stage, rank) in [("beta", 2), ("alpha", 1)] {
            if let Some(minor) = tail.strip_prefix(stage) {
                return Some((rank, major, minor.parse().ok()?));
            }
        }
        None
    };
    parse().unwrap_or((0, 0, 0))
}

/// Answers a discovery path; `None` when the path is none of discovery's.
pub(crate) fn answer(server: &Server, call: &Call) -> Option<Response> {
    let path = call.info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api" | "apis"] if wants_aggregated(call) => Some(aggregated(server, call, parts[0] == "apis")),
        ["api"] => Some(document(call, legacy::api_versions(&server.advertise), true)),
        ["apis"] => {
            let mut groups = groups(server);
            legacy_order(&mut groups);
            Some(document(call, legacy::group_list(&groups), true))
        }
        ["apis", name] => {
            let groups = groups(server);
            let group = groups.iter().find(|g| g.name == *name)?;
            Some(document(call, legacy::group(group, true), false))
        }
        ["api", version] => resources(server, call, "", version),
        ["apis", group, version] => resources(server, call, group, version),
        _ => None,
    }
}

/// Whether the group-version is one of this server's own, of which there is a route; custom resources have none.
pub(crate) fn serves(server: &Server, group: &str, version: &str) -> bool {
    let own = |row: &Arc<ResourceRow>| row.custom.is_none() && row.gvk.group == group;
    server.registry.resources().iter().any(|row| own(row) && row.gvk.version == version)
}

/// Whether the group is one of this server's own.
pub(crate) fn serves_group(server: &Server, group: &str) -> bool {
    server.registry.resources().iter().any(|r| r.gvk.group == group && r.custom.is_none())
}

fn resources(server: &Server, call: &Call, group: &str, version: &str) -> Option<Response> {
    let groups = groups(server);
    let group = groups.iter().find(|g| g.name == group)?;
    let Some(found) = group.versions.iter().find(|v| v.name == version) else {
        return Some(respond::error(&ApiError::page_not_found(), &call.parts.headers, &call.query));
    };
    Some(document(call, legacy::resource_list(group, found), false))
}

/// Whether the first acceptable clause asks for the aggregated document.
fn wants_aggregated(call: &Call) -> bool {
    let output = negotiate::output(&call.parts.headers, &call.query, Restrictions::Discovery, false);
    output.is_ok_and(|o| !o.param("as").is_empty())
}

fn document(call: &Call, json: String, vary: bool) -> Response {
    let headers = &call.parts.headers;
    if call.audit.wants_response() {
        call.audit.response_document(json.clone().into());
    }
    let sent = negotiate::output(headers, &call.query, Restrictions::Discovery, false).and_then(|output| {
        let bytes = match output.media {
            MediaType::Json => json.into_bytes(),
            MediaType::Yaml => crate::web::yaml::from_json(json.as_bytes())?,
            MediaType::Protobuf => {
                let types = ::api::types();
                let (version, kind) =
                    machinery::json::type_meta(json.as_bytes()).map_err(ApiError::internal)?;
                let id = types
                    .kind(&version, &kind)
                    .or_else(|| types.by_name(&format!("meta/v1.{kind}")))
                    .ok_or_else(|| ApiError::internal(format!("{kind} is not in the type table")))?;
                let decoded =
                    machinery::json::decode(types, id, json.as_bytes(), false).map_err(ApiError::internal)?;
                machinery::proto::encode(types, id, &decoded.value)
            }
        };
        Ok(respond::document(StatusCode::OK, &output, headers, vec![bytes.into()]))
    });
    let mut response = sent.unwrap_or_else(|error| respond::error(&error, headers, &call.query));
    if vary {
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    }
    response
}

fn aggregated(server: &Server, call: &Call, named_groups: bool) -> Response {
    let mut groups = groups(server);
    groups.retain(|g| g.name.is_empty() != named_groups);
    let json = aggregated::document(&groups);
    let etag = format!("\"{}\"", aggregated::hash(json.as_bytes()));
    let matches = call.header(IF_NONE_MATCH) == etag;
    let mut response = if matches {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = document(call, json, false);
        let media = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = format!("{media};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
        if let Ok(kind) = HeaderValue::from_str(&kind) {
            // `extend` would add a second value beside the plain one.
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        response
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_one_priority_are_listed_by_the_names_of_their_services() {
        let group = |name: &str, first: &str, priority| Group {
            name: name.to_owned(),
            versions: Vec::new(),
            priority,
            first: first.to_owned(),
        };
        let mut groups =
            [group("a.b", "v2.a.b", 1000), group("c.d", "v1.c.d", 1000), group("apps", "v1.apps", 17800)];
        legacy_order(&mut groups);
        assert_eq!(groups.map(|g| g.name), ["apps", "c.d", "a.b"]);
    }

    #[test]
    fn version_order() {
        let mut versions = ["v1alpha1", "v1", "v2beta1", "v2", "v1beta1", "x"];
        versions.sort_by_key(|v| std::cmp::Reverse(version_priority(v)));
        assert_eq!(versions, ["v2", "v1", "v2beta1", "v1beta1", "v1alpha1", "x"]);
    }
}
