//! Paths that are no resources: discovery of all groups, of one and of one version, the server's version, and what
//! validates service account tokens. Each of the first level is a version 3 document of its own.
//! Upstream: `apiserver/pkg/endpoints/discovery`, `apiserver/pkg/server/routes/version.go`,
//! `kubernetes/pkg/routes/openidmetadata.go`.

use serde_json::json;

use super::operation::{Operation, group_version};
use super::paths::MEDIA;
use super::schemas::Schemas;

/// Documents that are there whatever is served.
pub(super) const ALWAYS: [&str; 3] = ["api", "apis", "version"];
/// Those of a server with an issuer of service account tokens.
pub(super) const OPENID: [&str; 2] = [".well-known/openid-configuration", "openid/v1/jwks"];

/// The operation at the path of a document's name: of those above, of a group (`apis/apps`) and of a group-version.
pub(super) fn operation(name: &str, schemas: &mut Schemas) -> Operation {
    let text = json!({"type": "string"});
    let mut words = name.split('/').skip_while(|word| *word == "apis");
    let (group, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let group = if group == "api" { "" } else { group };
    let (who, tag) = group_version(group, version);
    let (id, tag, answer) = match name {
        "api" => ("CoreAPIVersions".to_owned(), "core", schemas.meta("APIVersions")),
        "apis" => ("APIVersions".to_owned(), "apis", schemas.meta("APIGroupList")),
        "version" => ("CodeVersion".to_owned(), "version", schemas.named("version.Info")),
        ".well-known/openid-configuration" => {
            ("ServiceAccountIssuerOpenIDConfiguration".to_owned(), "WellKnown", text)
        }
        "openid/v1/jwks" => ("ServiceAccountIssuerOpenIDKeyset".to_owned(), "openid", text),
        _ if version.is_empty() => (who + "APIGroup", tag.as_str(), schemas.meta("APIGroup")),
        _ => (who + "APIResources", tag.as_str(), schemas.meta("APIResourceList")),
    };
    let (consumes, produces) = media(name);
    Operation {
        method: "get",
        id: format!("get{id}"),
        tag: tag.to_owned(),
        action: None,
        consumes,
        produces,
        parameters: Vec::new(),
        body: None,
        answer,
        codes: &[200],
    }
}

fn media(name: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    match name {
        "version" => (vec![MEDIA[0]], vec![MEDIA[0]]),
        ".well-known/openid-configuration" => (Vec::new(), vec![MEDIA[0]]),
        "openid/v1/jwks" => (Vec::new(), vec!["application/jwk-set+json"]),
        _ => (MEDIA.to_vec(), MEDIA.to_vec()),
    }
}
