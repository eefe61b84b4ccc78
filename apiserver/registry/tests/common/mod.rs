//! What the tests share: a registry on the embedded store, request contexts, bodies.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::Arc;

use ::api::resources::ResourceRow;
use bytes::Bytes;
use registry::admission::Chain;
use registry::api::{Body, MediaType, Registry, RequestContext, RequestInfo};
use registry::errors::ApiError;
use registry::{ApiRegistry, Config, Settings};
use serde_json::Value;

pub fn registry(dir: &std::path::Path) -> ApiRegistry {
    registry_with(dir, Chain::default())
}

pub fn registry_with(dir: &std::path::Path, admission: Chain) -> ApiRegistry {
    registry_of(dir, admission, |row| row.stage == ::api::resources::Stage::Ga)
}

pub fn registry_of(dir: &std::path::Path, admission: Chain, served: fn(&ResourceRow) -> bool) -> ApiRegistry {
    registry_set(dir, admission, served, Settings::default())
}

pub fn registry_set(
    dir: &std::path::Path,
    admission: Chain,
    served: fn(&ResourceRow) -> bool,
    settings: Settings,
) -> ApiRegistry {
    let options = storage::embedded::Options::new(dir);
    let store = storage::Embedded::open(options).unwrap();
    let registry = ApiRegistry::new(Config {
        store: Arc::new(store),
        prefix: "/registry".into(),
        served: Box::new(served),
        admission,
        settings,
        clock: Arc::new(|| "2030-01-01T00:00:00Z".parse().unwrap()),
    });
    registry.core().set_authorizer(Arc::new(auth::authorizer::AlwaysAllow));
    registry
}

/// A context from a path such as `v1 ns/configmaps/name/sub`.
pub fn at(path: &str) -> RequestContext {
    let (gv, rest) = path.split_once(' ').unwrap();
    let (group, version) = gv.rsplit_once('/').unwrap_or(("", gv));
    let mut parts = rest.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let info = RequestInfo {
        is_resource_request: true,
        api_group: group.into(),
        api_version: version.into(),
        namespace: next(),
        resource: next(),
        name: next(),
        subresource: next(),
        ..Default::default()
    };
    RequestContext {
        user: Arc::new(auth::UserInfo::new("tester", &[])),
        info: Arc::new(info),
        dry_run: false,
        field_manager: "test".into(),
        field_validation: Default::default(),
        user_agent: "test/1".into(),
        audit_id: String::new(),
        warnings: Default::default(),
        audit: Default::default(),
    }
}

pub fn body(value: &Value) -> Body {
    Body { media_type: MediaType::Json, bytes: Bytes::from(value.to_string()) }
}

pub fn tree(object: &registry::api::ObjectRef) -> Value {
    Value::from(&*object.value().unwrap())
}

pub async fn create(r: &ApiRegistry, path: &str, value: &Value) -> Result<Value, ApiError> {
    r.create(&at(path), body(value)).await.map(|w| tree(&w.object))
}
