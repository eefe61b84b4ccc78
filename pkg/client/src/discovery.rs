//! What the server offers: aggregated discovery, or the old documents group by group.
//! Upstream: client-go/discovery (aggregated_discovery.go, discovery_client.go).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList, APIVersions};
use serde::Deserialize;

use crate::api::Gvr;
use crate::client::{Client, Request};
use crate::codec::decode_json;
use crate::error::{Error, Result};

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A resource the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiResource {
    /// How to address it.
    pub gvr: Gvr,
    /// Kind of its objects.
    pub kind: String,
    /// Singular name.
    pub singular: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Subresources, each with its verbs.
    pub subresources: Vec<(String, Vec<String>)>,
}

impl ApiResource {
    /// Whether all these verbs are offered.
    pub fn supports(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|v| self.verbs.iter().any(|have| have == v))
    }
}

/// Everything the server offers, and what could not be found out.
#[derive(Debug, Clone, Default)]
pub struct Discovered {
    /// Resources; groups in the server's order, versions of a group by preference.
    pub resources: Vec<ApiResource>,
    /// Group versions whose server does not answer: (`group/version`, reason).
    pub failed: Vec<(String, String)>,
}

impl Discovered {
    /// The resources of the preferred version of each group in which they occur.
    /// Upstream: client-go/discovery ServerPreferredResources.
    pub fn preferred(&self) -> Vec<&ApiResource> {
        let mut seen = std::collections::HashSet::new();
        self.resources.iter().filter(|r| seen.insert((&r.gvr.group, &r.gvr.resource))).collect()
    }

    /// The resource that serves a kind.
    pub fn for_kind(&self, group: &str, version: &str, kind: &str) -> Option<&ApiResource> {
        self.resources.iter().find(|r| r.gvr.group == group && r.gvr.version == version && r.kind == kind)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct GroupList {
    items: Vec<Group>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Group {
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    versions: Vec<GroupVersion>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct GroupVersion {
    version: String,
    resources: Vec<Resource>,
    freshness: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    resource: String,
    response_kind: Kind,
    scope: String,
    singular_resource: String,
    verbs: Vec<String>,
    short_names: Vec<String>,
    categories: Vec<String>,
    subresources: Vec<Subresource>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Kind {
    kind: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subresource {
    subresource: String,
    verbs: Vec<String>,
}

impl Client {
    /// Finds out what the server offers.
    pub async fn discover(&self) -> Result<Discovered> {
        let mut found = Discovered::default();
        for root in ["/api", "/apis"] {
            let mut request = Request::get(root);
            request.accept = AGGREGATED.into();
            let answer = match self.call(&request).await {
                Err(e) if e.is_not_found() => continue,
                other => other?,
            };
            let aggregated = answer
                .headers
                .get(http::header::CONTENT_TYPE)
                .and_then(|v| v.to_str().ok())
                .is_some_and(|v| v.contains("as=APIGroupDiscoveryList"));
            if aggregated {
                collect(decode_json(root, &answer.body)?, &mut found);
            } else if root == "/api" {
                let versions: APIVersions = decode_json(root, &answer.body)?;
                for version in versions.versions {
                    self.legacy("", &version, &mut found).await?;
                }
            } else {
                let groups: APIGroupList = decode_json(root, &answer.body)?;
                for group in groups.groups {
                    for version in by_preference(&group) {
                        self.legacy(&group.name, &version, &mut found).await?;
                    }
                }
            }
        }
        Ok(found)
    }

    async fn legacy(&self, group: &str, version: &str, found: &mut Discovered) -> Result<()> {
        let root = Gvr::new(group, version, "");
        let url = root.root();
        let list: APIResourceList = match self.call(&Request::get(url.as_str())).await {
            Ok(answer) => decode_json(&url, &answer.body)?,
            Err(e @ Error::Api(_)) => {
                found.failed.push((root.group_version(), e.to_string()));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let start = found.resources.len();
        for r in list.resources {
            if let Some((parent, sub)) = r.name.split_once('/') {
                let parent = found.resources[start..].iter_mut().find(|p| p.gvr.resource == parent);
                if let Some(parent) = parent {
                    parent.subresources.push((sub.to_string(), r.verbs));
                }
                continue;
            }
            found.resources.push(ApiResource {
                gvr: Gvr::new(group, version, &r.name),
                kind: r.kind,
                singular: r.singular_name,
                namespaced: r.namespaced,
                verbs: r.verbs,
                short_names: r.short_names.unwrap_or_default(),
                categories: r.categories.unwrap_or_default(),
                subresources: Vec::new(),
            });
        }
        Ok(())
    }
}

fn by_preference(group: &k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup) -> Vec<String> {
    let preferred = group.preferred_version.as_ref().map_or("", |v| v.version.as_str());
    let mut versions: Vec<String> = group.versions.iter().map(|v| v.version.clone()).collect();
    versions.sort_by_key(|v| v != preferred);
    versions
}

fn collect(list: GroupList, found: &mut Discovered) {
    for group in list.items {
        let name = group.metadata.name.unwrap_or_default();
        for version in group.versions {
            if version.freshness == "Stale" {
                let gv = Gvr::new(&name, &version.version, "").group_version();
                found.failed.push((gv, "stale GroupVersion discovery".to_string()));
            }
            for r in version.resources {
                found.resources.push(ApiResource {
                    gvr: Gvr::new(&name, &version.version, &r.resource),
                    kind: r.response_kind.kind,
                    singular: r.singular_resource,
                    namespaced: r.scope == "Namespaced",
                    verbs: r.verbs,
                    short_names: r.short_names,
                    categories: r.categories,
                    subresources: r.subresources.into_iter().map(|s| (s.subresource, s.verbs)).collect(),
                });
            }
        }
    }
}
