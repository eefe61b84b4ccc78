//! Which representation the client gets, and which encoding its body has.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/handlers/negotiation/negotiate.go`, `munnerlyn goautoneg`.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use machinery::golang;
use registry::api::{MediaType, PatchType};
use registry::errors::ApiError;

use super::query::Query;

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What upstream's serializers offer, in order of preference.
const OFFERED: [(MediaType, &str); 3] =
    [(MediaType::Json, JSON), (MediaType::Yaml, YAML), (MediaType::Protobuf, PROTOBUF)];

/// A transformation the client asked for with `as=`, `g=` and `v=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transform {
    /// `Table`, with its version (`v1` or `v1beta1`).
    Table(String),
    /// `PartialObjectMetadata`.
    Partial(String),
    /// `PartialObjectMetadataList`.
    PartialList(String),
}

/// The agreed representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) media: MediaType,
    pub(crate) transform: Option<Transform>,
    /// Indent JSON.
    pub(crate) pretty: bool,
    /// Discovery profile.
    pub(crate) profile: Option<String>,
    /// Parameters of the chosen clause, for endpoints with their own meaning of `as`.
    pub(crate) params: Vec<(String, String)>,
}

impl Output {
    /// Value of a parameter of the chosen clause.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v)
    }

    /// The `Content-Type` of a single document.
    pub(crate) fn content_type(&self) -> &'static str {
        name_of(self.media)
    }
}

pub(crate) fn name_of(media: MediaType) -> &'static str {
    match media {
        MediaType::Json => JSON,
        MediaType::Yaml => YAML,
        MediaType::Protobuf => PROTOBUF,
    }
}

/// What an endpoint allows a client to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restrictions {
    /// No transformations (errors, discovery without `as`).
    None,
    /// Table and partial metadata (resources). Protobuf can be ruled out for custom resources, tables for what is never
    /// listed.
    Resource { protobuf: bool, table: bool },
    /// `as=APIGroupDiscoveryList`, which the endpoint finds in the parameters.
    Discovery,
}

struct Clause {
    kind: String,
    subtype: String,
    quality: f64,
    params: Vec<(String, String)>,
}

/// Negotiates the output representation.
///
/// # Errors
/// 406 when nothing acceptable is offered; `stream` selects the list of types that the message names.
pub(crate) fn output(
    headers: &HeaderMap,
    query: &Query,
    restrictions: Restrictions,
    stream: bool,
) -> Result<Output, ApiError> {
    let header = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let human = is_pretty(headers, query);
    if header.is_empty() {
        return Ok(Output {
            media: MediaType::Json,
            transform: None,
            pretty: human,
            profile: None,
            params: vec![],
        });
    }
    for clause in parse_accept(header) {
        for (media, name) in OFFERED {
            if media == MediaType::Protobuf
                && matches!(restrictions, Restrictions::Resource { protobuf: false, .. })
            {
                continue;
            }
            if stream && media == MediaType::Yaml {
                continue;
            }
            let (kind, subtype) = name.split_once('/').unwrap_or((name, ""));
            let matches = match (clause.kind.as_str(), clause.subtype.as_str()) {
                ("*", "*") => true,
                (k, "*") => k == kind,
                (k, s) => k == kind && s == subtype,
            };
            if !matches {
                continue;
            }
            if let Some(mut found) = accept(&clause, media, restrictions) {
                found.pretty |= human;
                return Ok(found);
            }
        }
    }
    Err(ApiError::not_acceptable(offered_names(restrictions, stream)))
}

fn offered_names(restrictions: Restrictions, stream: bool) -> &'static [&'static str] {
    match (stream, restrictions) {
        (true, Restrictions::Resource { protobuf: false, .. }) => &["application/json;stream=watch"],
        (true, _) => &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"],
        (false, Restrictions::Resource { protobuf: false, .. }) => &[JSON, YAML],
        (false, _) => &[JSON, YAML, PROTOBUF],
    }
}

fn accept(clause: &Clause, media: MediaType, restrictions: Restrictions) -> Option<Output> {
    let param = |name: &str| clause.params.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    if param("stream").is_some_and(|v| !v.is_empty() && (v != "watch" || media == MediaType::Yaml)) {
        return None;
    }
    if param("sv").is_some_and(|v| !v.is_empty()) {
        return None;
    }
    let target = (param("g"), param("v"), param("as"));
    let transform = match (restrictions, target) {
        (_, (None, None, None)) => None,
        (Restrictions::Discovery, target) => {
            let aggregated = (Some("apidiscovery.k8s.io"), Some("v2"), Some("APIGroupDiscoveryList"));
            if media == MediaType::Yaml || target != aggregated {
                return None;
            }
            None
        }
        (Restrictions::None, _) => return None,
        (Restrictions::Resource { table, .. }, (group, version, kind)) => {
            let version = version.unwrap_or_default();
            if group != Some("meta.k8s.io") || !matches!(version, "v1" | "v1beta1") {
                return None;
            }
            Some(match kind? {
                // Tables exist in JSON and YAML only: protobuf has no message for a row's cells.
                "Table" if table && media != MediaType::Protobuf => Transform::Table(version.to_owned()),
                "PartialObjectMetadata" => Transform::Partial(version.to_owned()),
                "PartialObjectMetadataList" => Transform::PartialList(version.to_owned()),
                _ => return None,
            })
        }
    };
    Some(Output {
        media,
        transform,
        pretty: param("pretty") == Some("1"),
        profile: param("profile").map(str::to_owned),
        params: clause.params.clone(),
    })
}

/// Parses an `Accept` header, best quality first, order kept among equals.
fn parse_accept(header: &str) -> Vec<Clause> {
    let mut clauses = Vec::new();
    for part in header.split(',') {
        let mut fields = part.split(';').map(str::trim);
        let Some((kind, subtype)) = fields.next().and_then(split_type) else { continue };
        let mut clause = Clause { kind, subtype, quality: 1.0, params: Vec::new() };
        for (key, value) in fields.filter_map(|f| f.split_once('=')) {
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if key == "q" {
                clause.quality = value.parse().unwrap_or(1.0);
            } else {
                clause.params.push((key.to_owned(), value.to_owned()));
            }
        }
        clauses.push(clause);
    }
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

fn split_type(text: &str) -> Option<(String, String)> {
    match text.split_once('/') {
        Some((kind, subtype)) => Some((kind.trim().to_owned(), subtype.trim().to_owned())),
        None if text == "*" => Some(("*".to_owned(), "*".to_owned())),
        None => None,
    }
}

/// Whether a person is reading. Upstream: `isPrettyPrint`.
fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(value) = query.get("pretty").filter(|v| !v.is_empty()) {
        return golang::parse_bool(value) == Some(true);
    }
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
}

/// Whether the client takes gzip. Upstream: `responseContentEncodingSupported`.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let header = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
    header.split(',').any(|part| part.trim().split(';').next().unwrap_or_default().trim() == "gzip")
}

fn content_type(headers: &HeaderMap) -> &str {
    let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim()
}

/// The encoding of a request body; a missing header means JSON.
///
/// # Errors
/// 415 for anything but JSON, YAML and protobuf.
pub(crate) fn input(headers: &HeaderMap, protobuf: bool) -> Result<MediaType, ApiError> {
    let name = content_type(headers).to_ascii_lowercase();
    if name.is_empty() {
        return Ok(MediaType::Json);
    }
    // Go's reader of media types wants `key=value` after every semicolon.
    let well_formed = |v: &str| v.split(';').skip(1).all(|p| p.trim().is_empty() || p.contains('='));
    let sent = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let found = OFFERED
        .iter()
        .filter(|_| well_formed(sent))
        .find(|(media, n)| *n == name && (protobuf || *media != MediaType::Protobuf));
    let names: &[&str] = if protobuf { &[JSON, YAML, PROTOBUF] } else { &[JSON, YAML] };
    found.map(|(media, _)| *media).ok_or_else(|| ApiError::unsupported_media_type(names))
}

/// The patch format of a request.
///
/// # Errors
/// 415 for anything else; custom resources know no strategic merge.
pub(crate) fn patch(headers: &HeaderMap, strategic: bool) -> Result<PatchType, ApiError> {
    const ALL: [(&str, PatchType); 4] = [
        ("application/json-patch+json", PatchType::Json),
        ("application/merge-patch+json", PatchType::Merge),
        ("application/strategic-merge-patch+json", PatchType::Strategic),
        ("application/apply-patch+yaml", PatchType::Apply),
    ];
    let name = content_type(headers);
    let allowed = ALL.iter().filter(|(_, kind)| strategic || *kind != PatchType::Strategic);
    let names: Vec<&str> = allowed.clone().map(|(n, _)| *n).collect();
    let found = allowed.clone().find(|(n, _)| *n == name).map(|(_, kind)| *kind);
    found.ok_or_else(|| ApiError::unsupported_media_type(&names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(accept: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        match output(
            &headers,
            &Query::default(),
            Restrictions::Resource { protobuf: true, table: true },
            false,
        ) {
            Ok(o) => format!("{:?} {:?}", o.media, o.transform),
            Err(e) => format!("{} {}", e.code, e.message),
        }
    }

    #[test]
    fn accepts() {
        for (accept, want) in [
            ("application/json", "Json None"),
            ("*/*", "Json None"),
            ("application/*", "Json None"),
            ("application/vnd.kubernetes.protobuf, */*", "Protobuf None"),
            ("application/json;q=0.1, application/yaml", "Yaml None"),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Json Some(Table(\"v1\"))"),
            ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "Json None"),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                "Protobuf Some(PartialList(\"v1\"))",
            ),
            (
                "text/html",
                "406 only the following media types are accepted: application/json, application/yaml, \
                 application/vnd.kubernetes.protobuf",
            ),
        ] {
            assert_eq!(show(accept), want, "{accept}");
        }
    }
}
