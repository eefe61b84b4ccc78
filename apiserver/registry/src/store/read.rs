//! GET and LIST, from the watch cache.
//!
//! The cache decides by the resource version asked for whether it or the store answers; what comes out are handles on
//! shared bytes, nothing is decoded here. A list narrows its range by namespace or name where the selectors allow.
//! Upstream: `k8s.io/apiserver/pkg/storage/cacher/{cacher.go,delegator.go}`, `pkg/registry/generic/registry/store.go`.

use std::sync::Arc;

use machinery::Value;
use storage::cacher::{At, Error as CacheError, ListRequest, Object as Stored, Scope};

use super::cache::Source;
use super::handle::{self, Cached};
use crate::api::{List, ListOptions, ObjectRef};
use crate::core::Resource;
use crate::errors::ApiError;
use crate::filter::Filter;
use crate::spans;
use crate::store_errors;
use crate::strategy::Call;
use ::api::resources::ResourceRow;
use ::api::validation::field::{Error as FieldError, Path};

/// Reads one object.
async fn find(call: &Call<'_>, resource_version: &str) -> Result<Arc<Stored>, ApiError> {
    let row = call.resource.row;
    let info = &call.request.info;
    let key = call.core.key(row, &info.namespace, &info.name)?;
    parse_version(resource_version)?;
    let at = At::for_get(resource_version).map_err(ApiError::bad_request)?;
    let span = match at {
        At::MostRecent => spans::get(call, &key),
        _ => spans::cached(call, &key, resource_version),
    };
    let found = span.run(call.stored(call.resource.source()?.cacher.get(&key, at))).await;
    drop(span);
    let found = found.map_err(|e| cache_error(e, row, |e| store_errors::get(e, row, &info.name)))?;
    found.object.ok_or_else(|| ApiError::not_found(row.kind.group, row.resource, &info.name))
}

/// Reads one object in the hub version.
pub async fn get(call: &Call<'_>, resource_version: &str) -> Result<Value, ApiError> {
    handle::hub(call.resource, &*find(call, resource_version).await?)
}

/// Reads one object as a handle.
pub async fn get_handle(
    call: &Call<'_>,
    resource: &Arc<Resource>,
    resource_version: &str,
) -> Result<ObjectRef, ApiError> {
    Ok(Cached::handle(find(call, resource_version).await?, resource))
}

/// What the watch cache answers instead of data, as a status; `store` turns the store's own errors into one.
pub fn cache_error(
    error: CacheError,
    row: &ResourceRow,
    store: impl FnOnce(storage::Error) -> ApiError,
) -> ApiError {
    match error {
        CacheError::Expired { message, continue_token } => {
            let continue_token = continue_token.map(String::into_boxed_str);
            ApiError { continue_token, ..ApiError::expired(message) }
        }
        CacheError::TooLargeRevision { requested, current } => {
            store_errors::too_large_resource_version(requested, current)
        }
        CacheError::BadRequest(text) => ApiError::bad_request(text),
        CacheError::NotReady { retry_after, .. } => {
            tracing::warn!(resource = row.resource, err = %error, "The watch cache is not ready");
            let seconds = i32::try_from(retry_after).unwrap_or(i32::MAX);
            ApiError::too_many_requests(error.to_string(), seconds)
        }
        CacheError::Undecodable { .. } => ApiError::internal(error),
        CacheError::Store(error) => store(error),
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

/// What a selection by name or namespace leaves of the range, and whether the name alone still has to be compared.
pub fn scope(call: &Call<'_>, filter: &Filter) -> Result<Scope, ApiError> {
    let row = call.resource.row;
    let asked = call.request.info.namespace.as_str();
    let namespace = match filter.requires("metadata.namespace") {
        Some(ns) if asked.is_empty() && row.namespaced && is_label(ns) => ns,
        _ if row.namespaced => asked,
        _ => "",
    };
    let single = match filter.requires("metadata.name") {
        Some(name) if !row.namespaced || !namespace.is_empty() => call.core.key(row, namespace, name).ok(),
        _ => None,
    };
    Ok(match single {
        Some(key) => Scope::Key(key.into()),
        None if namespace.is_empty() => Scope::All,
        None => Scope::Namespace(namespace.into()),
    })
}

fn is_label(text: &str) -> bool {
    ::api::validation::content::dns_label(text).is_empty()
}

/// Lists: the cached objects, and the list without its items.
async fn select(call: &Call<'_>, options: &ListOptions) -> Result<(Vec<Arc<Stored>>, List), ApiError> {
    validate_list_options(options)?;
    let row = call.resource.row;
    let source: &Source = call.resource.source()?;
    let filter = Filter::parse(row, &options.label_selector, &options.field_selector)?;
    parse_version(&options.resource_version)?;
    let continues = !options.continue_token.is_empty();
    if continues && !options.resource_version.is_empty() && options.resource_version != "0" {
        return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
    }
    let limit = usize::try_from(options.limit).unwrap_or(0);
    let version = &options.resource_version;
    let at = At::for_list(version, &options.resource_version_match, limit, &options.continue_token)
        .map_err(ApiError::bad_request)?;
    let scope = scope(call, &filter)?;
    let request = ListRequest { scope, at, limit, filter: filter.on_headers(&source.fields) };
    let span = spans::many("cacher.GetList", call);
    let found = span.run(call.stored(source.cacher.list(request))).await;
    if let Ok(found) = &found {
        spans::count(&span, "Filtered items", found.items.len());
    }
    drop(span);
    let found = found.map_err(|e| cache_error(e, row, |e| store_errors::list(e, row)))?;
    let list = List {
        gvk: source.list_gvk.clone(),
        resource_version: found.revision.to_string(),
        continue_token: found.continue_token.unwrap_or_default(),
        remaining_item_count: found.remaining,
        items: Vec::new(),
        columns: call.resource.custom.as_ref().map(|c| Arc::clone(&c.columns)),
    };
    Ok((found.items, list))
}

/// Lists in the hub version: the trees, and the list without its items.
pub async fn list(call: &Call<'_>, options: &ListOptions) -> Result<(Vec<Value>, List), ApiError> {
    let (items, list) = select(call, options).await?;
    let trees = items.iter().map(|object| handle::hub(call.resource, object)).collect::<Result<_, _>>()?;
    Ok((trees, list))
}

/// The list with handles for the items.
pub async fn list_handles(
    call: &Call<'_>,
    resource: &Arc<Resource>,
    options: &ListOptions,
) -> Result<List, ApiError> {
    let (items, mut list) = select(call, options).await?;
    list.items = items.into_iter().map(|object| Cached::handle(object, resource)).collect();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

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
