//! GET and LIST, straight from the store.
//!
//! A list narrows its range by namespace or name where the selectors allow, and pages with upstream's continue tokens.
//! The watch cache takes over reads that may be answered from it; this path stays for those that may not.

use base64::Engine as _;
use machinery::Value;

use crate::api::{Gvk, List, ListOptions};
use crate::errors::ApiError;
use crate::filter::Filter;
use crate::object::Owned;
use crate::store_errors;
use crate::strategy::Call;
use ::api::validation::field::{Error as FieldError, Path};

/// Keys read from the store at a time by a selective list with a limit.
const SCAN: usize = 500;

/// Reads one object in the hub version.
pub async fn get(call: &Call<'_>, resource_version: &str) -> Result<Value, ApiError> {
    let row = call.resource.row;
    let info = &call.request.info;
    let key = call.core.key(row, &info.namespace, &info.name)?;
    let minimum = parse_version(resource_version)?;
    let got = call.core.store.get(&key, 0).await.map_err(|e| store_errors::get(e, row, &info.name))?;
    if minimum > got.revision {
        return Err(store_errors::too_large_resource_version(minimum, got.revision));
    }
    match got.kv {
        Some(kv) => call.core.decode(call.resource, &kv),
        None => Err(ApiError::not_found(row.kind.group, row.resource, &info.name)),
    }
}

/// A resourceVersion parameter; empty and 0 mean "any".
pub fn parse_version(text: &str) -> Result<i64, ApiError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse::<u64>().ok().and_then(|v| i64::try_from(v).ok()).ok_or_else(|| {
        let why =
            if text.bytes().all(|b| b.is_ascii_digit()) { "value out of range" } else { "invalid syntax" };
        ApiError::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}

/// `ValidateListOptions` for lists.
pub fn validate_list_options(options: &ListOptions) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let path = Path::new("resourceVersionMatch");
    let forbid = |text: &str| FieldError::forbidden(&path, text);
    let matching = options.resource_version_match.as_str();
    if !matching.is_empty() {
        if options.resource_version.is_empty() {
            errors.push(forbid("resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if !options.continue_token.is_empty() {
            errors.push(forbid("resourceVersionMatch is forbidden when continue is provided"));
        }
        if matching != "Exact" && matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && options.resource_version == "0" {
            errors.push(forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
        }
    }
    if options.send_initial_events.is_some() {
        let path = Path::new("sendInitialEvents");
        errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    refuse(&errors)
}

/// 422 about list options, if there is anything to refuse.
pub fn refuse(errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_fields("meta.k8s.io", "ListOptions", "", errors))
}

/// Where a list reads, and at which revision.
struct Range {
    prefix: String,
    start: Option<String>,
    revision: i64,
    /// Only this key.
    single: Option<String>,
}

/// Lists in the hub version: the trees, and the list without its items.
pub async fn list(call: &Call<'_>, options: &ListOptions) -> Result<(Vec<Value>, List), ApiError> {
    validate_list_options(options)?;
    let row = call.resource.row;
    let filter = Filter::parse(row, &options.label_selector, &options.field_selector)?;
    let range = range(call, options, &filter)?;
    let limit = usize::try_from(options.limit).unwrap_or(0);
    let (items, page) = scan(call, &filter, range, limit).await?;
    let minimum = parse_version(&options.resource_version)?;
    if options.resource_version_match != "Exact" && minimum > page.revision {
        return Err(store_errors::too_large_resource_version(minimum, page.revision));
    }
    let list = List {
        gvk: Gvk {
            group: row.kind.group.into(),
            version: row.kind.version.into(),
            kind: format!("{}List", row.kind.kind),
        },
        resource_version: page.revision.to_string(),
        continue_token: page.next.map(|start| encode_continue(page.revision, &start)).unwrap_or_default(),
        remaining_item_count: page.remaining.filter(|_| filter.is_everything()),
        items: Vec::new(),
    };
    Ok((items, list))
}

/// The list with handles for the items.
pub async fn list_handles(call: &Call<'_>, options: &ListOptions) -> Result<List, ApiError> {
    let (items, mut list) = list(call, options).await?;
    let kind = call.resource.row.kind;
    list.items = items.into_iter().map(|value| Owned::handle(value, kind)).collect();
    Ok(list)
}

fn range(call: &Call<'_>, options: &ListOptions, filter: &Filter) -> Result<Range, ApiError> {
    let row = call.resource.row;
    let asked = call.request.info.namespace.as_str();
    let namespace = match filter.requires("metadata.namespace") {
        Some(ns) if asked.is_empty() && row.namespaced && is_label(ns) => ns,
        _ if row.namespaced => asked,
        _ => "",
    };
    let prefix = call.core.key_root(row, namespace)?;
    let single = match filter.requires("metadata.name") {
        Some(name) if !row.namespaced || !namespace.is_empty() => call.core.key(row, namespace, name).ok(),
        _ => None,
    };
    let version = parse_version(&options.resource_version)?;
    if options.continue_token.is_empty() {
        let exact = options.resource_version_match == "Exact"
            || (options.resource_version_match.is_empty() && options.limit > 0 && version > 0);
        return Ok(Range { prefix, start: None, revision: if exact { version } else { 0 }, single });
    }
    if !options.resource_version.is_empty() && options.resource_version != "0" {
        return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
    }
    let (revision, start) = decode_continue(&options.continue_token, &prefix)?;
    // A negative revision marks an inconsistent continuation: go on from the same key, now.
    Ok(Range { prefix, start: Some(start), revision: revision.max(0), single })
}

fn is_label(text: &str) -> bool {
    ::api::validation::content::dns_label(text).is_empty()
}

struct Scanned {
    revision: i64,
    /// Where the next page starts, relative to the prefix.
    next: Option<String>,
    remaining: Option<i64>,
}

async fn scan(
    call: &Call<'_>,
    filter: &Filter,
    range: Range,
    limit: usize,
) -> Result<(Vec<Value>, Scanned), ApiError> {
    let row = call.resource.row;
    if let Some(key) = &range.single {
        let got = call.core.store.get(key, range.revision).await.map_err(|e| store_errors::list(e, row))?;
        let object = got.kv.map(|kv| call.core.decode(call.resource, &kv)).transpose()?;
        let items = object.into_iter().filter(|o| filter.matches(row, o)).collect();
        let revision = if range.revision > 0 { range.revision } else { got.revision };
        return Ok((items, Scanned { revision, next: None, remaining: None }));
    }
    let (mut items, mut start, mut revision) = (Vec::new(), range.start, range.revision);
    loop {
        let want = match limit {
            0 => 0,
            n if filter.is_everything() => n - items.len(),
            n => (n - items.len()).max(SCAN),
        };
        let options = storage::ListOptions {
            prefix: range.prefix.clone(),
            start: start.clone(),
            limit: want,
            revision,
            ..Default::default()
        };
        let page = call.core.store.list(options).await.map_err(|e| expired(call, e))?;
        if revision == 0 {
            revision = page.revision;
        }
        for (i, kv) in page.kvs.iter().enumerate() {
            let object = call.core.decode(call.resource, kv)?;
            if filter.matches(row, &object) {
                items.push(object);
            }
            let more = page.more() || i + 1 < page.kvs.len();
            if limit > 0 && items.len() == limit && more {
                let next = format!("{}\0", kv.key_str());
                let left = page.count - i64::try_from(i + 1).unwrap_or(0);
                let scanned =
                    Scanned { revision, next: Some(strip(&next, &range.prefix)), remaining: Some(left) };
                return Ok((items, scanned));
            }
        }
        match page.next_start() {
            Some(next) => start = Some(String::from_utf8_lossy(&next).into_owned()),
            None => return Ok((items, Scanned { revision, next: None, remaining: None })),
        }
    }
}

fn strip(key: &str, prefix: &str) -> String {
    key.strip_prefix(prefix).unwrap_or(key).to_owned()
}

fn expired(call: &Call<'_>, error: storage::Error) -> ApiError {
    if error.is_compacted() {
        return ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
        );
    }
    store_errors::list(error, call.resource.row)
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Upstream's `storage.EncodeContinue`.
fn encode_continue(revision: i64, start: &str) -> String {
    let json = serde_json::json!({ "v": TOKEN_VERSION, "rv": revision, "start": start });
    // Go prints v, rv, start in this order.
    let text = format!("{{\"v\":{},\"rv\":{},\"start\":{}}}", json["v"], json["rv"], json["start"]);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

/// Upstream's `storage.DecodeContinue`: the revision and the absolute start key.
fn decode_continue(token: &str, prefix: &str) -> Result<(i64, String), ApiError> {
    let bad = |why: &str| {
        ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let engine = &base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let bytes = engine.decode(token).map_err(|e| bad(&e.to_string()))?;
    let parsed: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
    if parsed["v"] != TOKEN_VERSION {
        let version = parsed["v"].as_str().unwrap_or("");
        return Err(bad(&format!("server does not recognize this encoded version {version:?}")));
    }
    let revision = parsed["rv"].as_i64().unwrap_or(0);
    if revision == 0 {
        return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
    }
    let start = parsed["start"].as_str().unwrap_or("");
    if start.is_empty() {
        return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
    }
    // A start that climbs out of its prefix is an attack; nothing relative may remain in it.
    if start.split('/').any(|part| part == "." || part == ".." || part.is_empty()) {
        return Err(bad(start));
    }
    Ok((revision, format!("{prefix}{start}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens_round_trip() {
        let token = encode_continue(7, "default/a\0");
        assert_eq!(
            decode_continue(&token, "/registry/pods/").unwrap(),
            (7, "/registry/pods/default/a\0".into())
        );
        for bad in ["%", "e30", &encode_continue(1, "../secrets/")] {
            assert_eq!(decode_continue(bad, "/p/").unwrap_err().code, 400, "{bad}");
        }
    }

    #[test]
    fn list_options_are_checked() {
        let check = |options: ListOptions, want: Option<&str>| {
            let got = validate_list_options(&options).err().map(|e| e.message);
            assert_eq!(got.as_deref(), want);
        };
        check(ListOptions::default(), None);
        check(
            ListOptions { resource_version_match: "Exact".into(), ..Default::default() },
            Some(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
        );
    }
}
